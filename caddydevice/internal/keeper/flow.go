// This file holds one sign-in under way: when its next poll is due, what a
// poll's answer means, and how the end is written down.

package keeper

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

const (
	// margin keeps a poll from arriving on the interval's edge: several
	// servers compare strictly, or count from when they answered.
	margin = 500 * time.Millisecond
	// slowDownStep is RFC 8628 §3.5's.
	slowDownStep = 5 * time.Second
	// widest is where back-off and the widening for lack of watchers end.
	widest = time.Minute
	// watchedFor is for how long a request of its client keeps a sign-in
	// watched.
	watchedFor = 30 * time.Second
	// settleFor is how long the keeper tries, past the code's end, to verify
	// and write down an approval that it already has in hand.
	settleFor = 2 * time.Minute
	// settleGap is the widest gap between those tries: the identity provider's
	// patience is not at stake, and the last one must fall into settleFor.
	settleGap = 20 * time.Second
	// jitter spreads retries, as a part of the gap.
	jitter = 0.1
)

// flow is one sign-in. A worker that has taken it out of the queue owns
// everything but the job, unwatched and accept, which Keeper.mu guards.
type flow struct {
	job
	keeper  *Keeper
	session *session.Session
	// unwatched counts the polls in a row that nobody watched.
	unwatched int
	accept    Accept

	last     time.Time     // end of the last answer
	atLeast  time.Duration // the interval with every slow_down, also if it could not be stored
	failures int           // answers in a row that told nothing
	retry    time.Duration // the last answer's Retry-After
	polls    int
	lastErr  error

	// tokens and write are an end that is in hand, but not written down yet.
	tokens *idp.Tokens
	write  func(context.Context) error
	result idp.Outcome
}

func (f *flow) lease() string { return "poll/" + f.session.ID().String() }

// interval is the least time between two polls.
func (f *flow) interval() time.Duration {
	if login := f.session.Now().Login; login != nil {
		return max(f.atLeast, login.Interval)
	}
	return f.atLeast
}

// inHand reports whether the sign-in is decided, but not written down yet.
func (f *flow) inHand() bool { return f.tokens != nil || f.write != nil }

// next is when to poll next: the interval and a margin after the last answer,
// doubled for each failure in a row and for each poll that nobody watched, no
// further than widest unless the identity provider asked for more.
func (f *flow) next(now time.Time) time.Time {
	snap, interval := f.session.Now(), f.interval()
	gap := interval + margin
	for range min(f.failures+f.unwatched, 10) {
		gap *= 2
	}
	gap = max(min(gap, widest), interval+margin, f.retry)
	if f.inHand() {
		gap = min(gap, settleGap)
	}
	if f.failures > 0 {
		gap += time.Duration(rand.Float64() * jitter * float64(gap))
	}
	at := f.last.Add(gap)
	if !f.inHand() && at.After(snap.Expires) {
		at = snap.Expires // to say that it is over, not to poll
	}
	if at.Before(now) {
		return now
	}
	return at
}

func (f *flow) turn() { f.keeper.run(f) }

// run does what is due for a flow and puts it back, unless it is done.
func (k *Keeper) run(f *flow) {
	if k.step(f) {
		k.mu.Lock()
		delete(k.flows, f.session.ID())
		k.mu.Unlock()
		k.pending.Add(-1)
		k.cfg.Settled(f.session, Result{Outcome: f.result, Polls: f.polls, Err: f.lastErr})
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if f.session.Watched(watchedFor) {
		f.unwatched = 0
	} else {
		f.unwatched++
	}
	k.polls.put(&f.job, f.next(time.Now()))
}

// step is one turn: finish what is in hand, else poll. It reports whether the
// sign-in has come to its end.
func (k *Keeper) step(f *flow) bool {
	switch {
	case f.write != nil:
		return k.settle(f)
	case f.tokens != nil:
		return k.verify(f)
	}
	if f.session.Now().State == session.Pending {
		// another node may have written it since: then the table has it anew
		current, err := k.cfg.Table.Current(k.calls, f.session)
		switch {
		case errors.Is(err, session.ErrUnknown):
			return true // its record was removed
		case err != nil:
			return f.again(err)
		}
		f.session = current
	}
	snap := f.session.Now()
	switch {
	case snap.State == session.Expired:
		return k.end(f, idp.Expired, session.Expired, session.CodeExpired)
	case snap.State != session.Pending:
		return true // its client gave it up, or another node was faster
	}
	if !k.lead(f) || f.session.Now().State != session.Pending {
		return false
	}
	client := k.client.Load()
	// the answer counts even if the code runs out while it is on its way
	f.session.Hold(time.Now().Add(2*client.Timeout() + time.Second))
	f.polls++
	begun := time.Now()
	ans := client.Poll(k.calls, snap.Login.DeviceCode, snap.Login.CodeVerifier)
	f.last, f.retry, f.lastErr = time.Now(), ans.RetryAfter, ans.Err
	k.cfg.Polled(f.session, ans.Outcome, f.last.Sub(begun))
	done := k.heed(f, snap, ans)
	if !done && f.tokens == nil && f.write == nil {
		f.session.Hold(time.Time{})
	}
	return done
}

// lead makes sure that no other node polls for this sign-in until well after
// this poll. Without that certainty there is no poll.
func (k *Keeper) lead(f *flow) bool {
	ctx, cancel := context.WithTimeout(k.calls, 5*time.Second)
	defer cancel()
	ok, err := k.cfg.Store.Lease(ctx, f.lease(), k.holder, max(widest, f.interval()+margin)+k.client.Load().Timeout())
	if err != nil || !ok {
		f.last, f.lastErr = time.Now(), err
		f.failures++
		return false
	}
	return true
}

// heed acts on a poll's answer.
func (k *Keeper) heed(f *flow, snap *session.Snapshot, ans idp.Answer) bool {
	f.session.Away(ans.Outcome == idp.Transient)
	if ans.Outcome == idp.Transient {
		f.failures++
		return false
	}
	f.failures = 0
	switch ans.Outcome {
	case idp.Pending:
		return false
	case idp.SlowDown:
		return k.slowDown(f, snap, ans.Interval)
	case idp.Approved:
		f.session.Hold(snap.Expires.Add(settleFor))
		f.tokens = &ans.Tokens
		return k.verify(f)
	case idp.Denied:
		return k.end(f, ans.Outcome, session.Denied, session.Declined)
	case idp.Expired:
		return k.end(f, ans.Outcome, session.Expired, session.CodeExpired)
	case idp.Invalid:
		// many servers forget a code as soon as it runs out, and then know
		// nothing of it (Keycloak, authentik, Auth0)
		if !time.Now().Before(snap.Expires) {
			return k.end(f, idp.Expired, session.Expired, session.CodeExpired)
		}
		// it was restarted; or we were, between its tokens and our write
		return k.end(f, ans.Outcome, session.Failed, session.Forgotten)
	default: // Failed; Transient is dealt with above
	}
	return k.end(f, ans.Outcome, session.Failed, session.ProviderError)
}

// slowDown widens the interval for good, in the record too: whoever takes the
// sign-in over keeps to it (RFC 8628 §3.5). Where it cannot be written it
// holds here all the same.
func (k *Keeper) slowDown(f *flow, snap *session.Snapshot, asked time.Duration) bool {
	interval := max(max(snap.Login.Interval, f.atLeast)+slowDownStep, asked)
	f.atLeast = interval
	if err := f.session.Slower(k.calls, interval); err != nil {
		f.lastErr = err
	}
	return false
}

// verify turns tokens into an identity. Keys that cannot be had now may be had
// later, and the tokens will not come again.
func (k *Keeper) verify(f *flow) bool {
	client := k.client.Load()
	who, err := client.Verify(k.calls, *f.tokens)
	if errors.Is(err, idp.ErrTemporary) && !f.tooLate() {
		return f.again(err)
	}
	tokens := *f.tokens
	f.tokens = nil
	if err != nil {
		f.lastErr = err
		k.revoke(tokens)
		return k.end(f, idp.Failed, session.Failed, session.BadTokens)
	}
	if err := k.accepted(f, who); err != nil {
		f.lastErr = err
		k.revoke(tokens)
		return k.end(f, idp.Denied, session.Denied, session.WrongAccount)
	}
	f.result = idp.Approved
	f.write = func(ctx context.Context) error {
		err := f.session.Activate(ctx, identityOf(who, tokens))
		if decided(err) && !keeps(f.session.Now().State) {
			k.revoke(tokens) // a logout, or the client, was faster
		}
		return err
	}
	return k.settle(f)
}

// keeps reports whether a session in that state has the tokens of its sign-in,
// or has handed them on: a browser may claim it the moment it is active.
func keeps(s session.State) bool {
	return s == session.Active || s == session.Superseded
}

// identityOf is who signed in, with the tokens that say so.
func identityOf(who *idp.Identity, tokens idp.Tokens) session.Identity {
	return session.Identity{
		Issuer: who.Issuer, Subject: who.Subject, SessionID: who.SessionID, Claims: who.Claims,
		AccessToken: tokens.Access, RefreshToken: tokens.Refresh, IDToken: tokens.ID, Since: time.Now(),
		Asked: tokens.Asked, TokensSince: tokens.Received, TokensUntil: tokens.Until(who),
	}
}

// accepted asks whether the approval is that of somebody who is meant.
func (k *Keeper) accepted(f *flow, who *idp.Identity) error {
	k.mu.Lock()
	accept := f.accept
	k.mu.Unlock()
	if accept == nil {
		return nil
	}
	return accept(who)
}

// end settles a sign-in that nobody will be signed in by.
func (k *Keeper) end(f *flow, outcome idp.Outcome, state session.State, reason session.Reason) bool {
	f.result = outcome
	f.write = func(ctx context.Context) error { return f.session.End(ctx, state, reason) }
	return k.settle(f)
}

// settle writes the end down. A store that fails is asked again; what another
// node or the client has decided meanwhile stands.
func (k *Keeper) settle(f *flow) bool {
	err := f.write(k.calls)
	switch {
	case decided(err):
	case !f.tooLate():
		return f.again(err)
	default:
		f.lastErr = err
	}
	k.release(k.calls, f)
	return true
}

// decided reports whether it stands in the store what became of a session, by
// this write or by somebody's that was faster.
func decided(err error) bool {
	return err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, session.ErrTransition) || errors.Is(err, session.ErrOvertaken)
}

// release lets others poll for the sign-in; where that fails, the lease lapses.
func (k *Keeper) release(ctx context.Context, f *flow) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = k.cfg.Store.Release(ctx, f.lease(), k.holder)
}

// again keeps what is in hand for another try.
func (f *flow) again(err error) bool {
	f.last, f.lastErr, f.retry = time.Now(), err, 0
	f.failures++
	return false
}

// tooLate reports whether what is in hand has been tried for long enough after
// the code's end that the client was told "expired" long ago.
func (f *flow) tooLate() bool {
	return time.Since(f.session.Deadline()) > settleFor
}
