// Package keeper makes the timed token requests for sessions: it polls while a
// sign-in is pending, never sooner than the identity provider allows (RFC 8628
// §3.5), and writes down what came of it. One loop with one heap decides what
// is due; a bounded set of workers does it.
package keeper

import (
	"container/heap"
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

const (
	// workers bounds the requests to the identity provider under way.
	workers = 32
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
}

// Result is what became of a sign-in, for the log. Err holds no secrets.
type Result struct {
	Outcome idp.Outcome
	Polls   int
	Err     error
}

// Keeper polls for sign-ins until each has come to an end.
type Keeper struct {
	cfg    Config
	client atomic.Pointer[idp.Client]
	holder string // this keeper's name in leases

	mu      sync.Mutex
	flows   map[session.ID]*flow
	queue   queue
	pending atomic.Int64

	wake chan struct{}
	work chan *flow
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
		cfg: cfg, holder: rand.Text(), flows: map[session.ID]*flow{},
		wake: make(chan struct{}, 1), work: make(chan *flow),
		closing: make(chan struct{}), calls: calls, abort: abort,
	}
	k.client.Store(client)
	k.done.Go(k.loop)
	k.done.Go(k.sweep)
	for range workers {
		k.done.Go(func() {
			for f := range k.work {
				k.run(f)
			}
		})
	}
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
	late := time.AfterFunc(2*k.client.Load().Timeout()+time.Second, k.abort)
	k.done.Wait()
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
	if s.Now().State != session.Pending || k.closed() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.flows[s.ID()]; ok {
		return
	}
	f := &flow{session: s, accept: accept, last: time.Now(), index: -1}
	k.flows[s.ID()] = f
	k.pending.Add(1)
	k.schedule(f, f.next(time.Now()))
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
	if ok && f.unwatched > 0 && f.index >= 0 {
		f.unwatched = 0
		if at := f.next(time.Now()); at.Before(f.due) {
			k.schedule(f, at)
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
	for _, f := range k.queue {
		if f.inHand() || f.session.Watched(quiet) {
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
	if ok = ok && f.index >= 0 && !f.inHand(); ok {
		heap.Remove(&k.queue, f.index) // as a worker takes it
	}
	k.mu.Unlock()
	if !ok {
		return false
	}
	err := s.End(ctx, session.Ended, session.CrowdedOut)
	k.mu.Lock()
	if err != nil {
		f.lastErr = err
		k.schedule(f, f.next(time.Now()))
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

// schedule puts a flow into the queue, or moves it there. k.mu is held.
func (k *Keeper) schedule(f *flow, at time.Time) {
	f.due = at
	if f.index >= 0 {
		heap.Fix(&k.queue, f.index)
	} else {
		heap.Push(&k.queue, f)
	}
	if f.index == 0 {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
}

// loop hands out what is due.
func (k *Keeper) loop() {
	defer close(k.work)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		f, wait := k.takeDue()
		if f != nil {
			select {
			case k.work <- f:
				continue
			case <-k.closing:
				return
			}
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-k.wake:
		case <-k.closing:
			return
		}
	}
}

// takeDue takes a flow that is due out of the queue, or says how long to wait.
func (k *Keeper) takeDue() (*flow, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.queue) == 0 {
		return nil, time.Hour
	}
	if wait := time.Until(k.queue[0].due); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&k.queue).(*flow), 0
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

// queue is a heap of flows by due time.
type queue []*flow

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	f := x.(*flow)
	f.index = len(*q)
	*q = append(*q, f)
}

func (q *queue) Pop() any {
	old := *q
	f := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	f.index = -1
	return f
}
