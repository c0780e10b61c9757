// Package keeper makes the timed token requests for sessions: it polls while a
// sign-in is pending, never sooner than the identity provider allows (RFC 8628
// §3.5), refreshes the tokens of those that are active, revokes what nobody
// needs any more, and writes down what came of it. Heaps decide what is due;
// bounded sets of workers do it, without a goroutine for each session.
package keeper

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

const (
	// pollWorkers, tokenWorkers and revokeWorkers bound the requests to the
	// identity provider under way: polls, refreshes and revocations. They are
	// apart, so that refreshes that hang keep nobody from signing in, and
	// revocations that hang nobody from being refreshed.
	pollWorkers, tokenWorkers, revokeWorkers = 32, 32, 8
	// sweepEvery is how often sessions that ran out are written down.
	sweepEvery = 30 * time.Second
)

// Config says what a keeper works on.
type Config struct {
	Table *session.Table
	Store store.Store
	// Polled is called after each poll with its outcome and how long the
	// identity provider took. It must be quick.
	Polled func(s *session.Session, outcome idp.Outcome, took time.Duration)
	// Settled is called once for each sign-in that was added, when the keeper
	// is done with it. It must be quick.
	Settled func(s *session.Session, r Result)
	// Refreshed is called after each try to refresh a session. It must be quick.
	Refreshed func(s *session.Session, r Refresh)
	// Ended is called when an active session, as it was, has ended by this
	// node's doing. It must be quick.
	Ended func(s *session.Session, was, now *session.Snapshot)
	// Revoked is called for each token that was revoked, or could not be: err
	// says why. It must be quick.
	Revoked func(err error)
}

// Result is what became of a sign-in, for the log. Err holds no secrets.
type Result struct {
	Outcome idp.Outcome
	Polls   int
	Err     error
}

// Keeper polls for sign-ins until each has come to an end, and refreshes active
// sessions.
type Keeper struct {
	cfg    Config
	client atomic.Pointer[idp.Client]
	holder string // this keeper's name in leases

	mu       sync.Mutex
	flows    map[session.ID]*flow
	renewals map[session.ID]*renewal
	polls    *schedule
	tokens   *schedule // renewals
	revokes  *schedule // revocations
	pending  atomic.Int64
	revoking int // revocations under way or due

	done sync.WaitGroup
	// closing ends the loop; calls is the context of requests under way, which
	// are given time to end: an answer given up on may be a token lost.
	closing chan struct{}
	calls   context.Context
	abort   context.CancelFunc
}

// New starts a keeper for client. Close it.
func New(client *idp.Client, cfg Config) *Keeper {
	calls, abort := context.WithCancel(context.Background())
	k := &Keeper{
		cfg: cfg, holder: rand.Text(), flows: map[session.ID]*flow{}, renewals: map[session.ID]*renewal{},
		closing: make(chan struct{}), calls: calls, abort: abort,
	}
	k.client.Store(client)
	k.polls, k.tokens, k.revokes = newSchedule(&k.mu, k.closing), newSchedule(&k.mu, k.closing), newSchedule(&k.mu, k.closing)
	cfg.Table.Notify(session.Hooks{Opened: k.keep, Ended: k.ended})
	k.polls.start(&k.done, pollWorkers)
	k.tokens.start(&k.done, tokenWorkers)
	k.revokes.start(&k.done, revokeWorkers)
	k.done.Go(k.sweep)
	return k
}

// Use replaces the client: what can change about an identity provider without
// a new session table, like a secret or a timeout.
func (k *Keeper) Use(client *idp.Client) { k.client.Store(client) }

// Client returns the client in use.
func (k *Keeper) Client() *idp.Client { return k.client.Load() }

// Close begins no more work, lets a request under way come to its end, and
// returns when all has ended. Sign-ins that are not decided stay pending in the store:
// whoever hears from their client next goes on. Close is for calling once.
func (k *Keeper) Close() {
	close(k.closing)
	late := time.AfterFunc(max(2*k.client.Load().Timeout(), idp.RefreshTimeout)+time.Second, k.abort)
	k.done.Wait()
	k.finish()
	late.Stop()
	k.abort()
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, f := range k.flows {
		_ = k.cfg.Store.Release(ctx, f.lease(), k.holder) // else it lapses by itself
	}
}

// finish makes a last try to write down what is in hand: it does not come again.
// No worker is left.
func (k *Keeper) finish() {
	for _, f := range k.flows {
		if f.inHand() {
			k.step(f)
		}
	}
	for _, r := range k.renewals {
		if r.finish != nil {
			r.finish()
		}
	}
	for range k.revokes.queue {
		k.revoked(ErrNotRevoked)
	}
}

func (k *Keeper) closed() bool {
	select {
	case <-k.closing:
		return true
	default:
		return false
	}
}

// Pending returns the number of sign-ins under way here.
func (k *Keeper) Pending() int { return int(k.pending.Load()) }

// Accept says why an approval is somebody's who is not meant; nil takes
// everybody's. Its error is for the log.
type Accept func(who *idp.Identity) error

// Add polls for a session from now on, if it is pending and nobody does yet:
// the first poll comes one interval from now.
func (k *Keeper) Add(s *session.Session, accept Accept) {
	snap, now := s.Now(), time.Now()
	if snap.State != session.Pending || k.closed() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.flows[s.ID()]; ok {
		return
	}
	f := &flow{session: s, accept: accept, over: map[secret.String]bool{}}
	f.keeper, f.job = k, job{index: -1, task: f}
	f.follow(snap)
	f.begin(now)
	k.flows[s.ID()] = f
	k.pending.Add(1)
	k.polls.put(&f.job, f.next(now))
}

// Renewed tells that the sign-in has another code.
func (k *Keeper) Renewed(s *session.Session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f, ok := k.flows[s.ID()]; ok && f.queued() && !f.inHand() {
		f.follow(s.Now())
		k.polls.put(&f.job, f.next(time.Now()))
	}
}

// Seen tells that the session's client made a request: a sign-in that nobody
// keeps is taken up, and one whose polls were widened goes back to its
// interval, never below it. The last accept that was given counts.
func (k *Keeper) Seen(s *session.Session, accept Accept) {
	s.Use()
	k.mu.Lock()
	f, ok := k.flows[s.ID()]
	if ok {
		f.accept = accept
	}
	if ok && f.unwatched > 0 && f.queued() {
		f.unwatched = 0
		if at := f.next(time.Now()); at.Before(f.due) {
			k.polls.put(&f.job, at)
		}
	}
	k.mu.Unlock()
	if !ok {
		k.Add(s, accept)
	}
}

// Oldest returns the oldest sign-in that nobody has asked about within quiet,
// nil where there is none. One that is being polled right now, or is decided
// already, is none of them.
func (k *Keeper) Oldest(quiet time.Duration) *session.Session {
	k.mu.Lock()
	defer k.mu.Unlock()
	var oldest *session.Session
	for _, f := range k.flows {
		if !f.queued() || f.inHand() || f.session.Watched(quiet) {
			continue
		}
		if oldest == nil || f.session.Created().Before(oldest.Created()) {
			oldest = f.session
		}
	}
	return oldest
}

// GiveUp ends a sign-in that Oldest returned, to make room. It reports whether
// it was still there to be given up.
func (k *Keeper) GiveUp(ctx context.Context, s *session.Session) bool {
	k.mu.Lock()
	f, ok := k.flows[s.ID()]
	if ok = ok && f.queued() && !f.inHand(); ok {
		k.polls.take(&f.job)
	}
	k.mu.Unlock()
	if !ok {
		return false
	}
	err := s.End(ctx, session.Ended, session.CrowdedOut)
	k.mu.Lock()
	if err != nil {
		f.lastErr = err
		k.polls.put(&f.job, f.next(time.Now()))
		k.mu.Unlock()
		return false
	}
	delete(k.flows, s.ID())
	k.mu.Unlock()
	k.pending.Add(-1)
	k.release(ctx, f)
	k.cfg.Settled(s, Result{Outcome: idp.Expired, Polls: f.polls})
	return true
}

// sweep keeps the table from holding what is over.
func (k *Keeper) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			k.cfg.Table.Sweep(k.calls)
		case <-k.closing:
			return
		}
	}
}
