// This file holds one sign-in under way: which of its codes is polled next, what
// an answer means, and how the end is written down.

package keeper

import (
	"context"
	"errors"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

const (
	// watchedFor is for how long a request of its client keeps a sign-in
	// watched.
	watchedFor = 30 * time.Second
	// settleFor is how long the keeper tries, past the code's end, to verify
	// and write down an approval that it already has in hand.
	settleFor = 2 * time.Minute
	// settleGap is the widest gap between those tries: the identity provider's
	// patience is not at stake, and the last one must fall into settleFor.
	settleGap = 20 * time.Second
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

	codes []*code // those that are polled
	over  map[secret.String]bool
	// trouble is that of this side: the store, or another node's lease.
	trouble pace
	polls   int
	lastErr error

	// tokens and write are an end that is in hand, but not written down yet.
	tokens *idp.Tokens
	write  func(context.Context) error
	result idp.Outcome
}

func (f *flow) lease() string { return "poll/" + f.session.ID().String() }

// inHand reports whether the sign-in is decided, but not written down yet.
func (f *flow) inHand() bool { return f.tokens != nil || f.write != nil }

// next is when there is something to do next: the first poll that is due or,
// where all codes run out before that, to say so.
func (f *flow) next(now time.Time) time.Time {
	if f.inHand() {
		return maxTime(now, f.trouble.after(min(f.trouble.gap(f.interval(), 0), settleGap)))
	}
	end := f.session.Deadline()
	at := end
	for _, c := range f.codes {
		c.at = c.after(c.gap(c.interval(), f.unwatched))
		if c.at.Before(at) && c.at.Before(c.login.Expires) {
			at = c.at
		}
	}
	if f.trouble.failures > 0 {
		at = maxTime(at, f.trouble.after(f.trouble.gap(f.interval(), 0)))
	}
	return maxTime(minTime(at, end), now)
}

// interval is the longest of the codes' intervals.
func (f *flow) interval() (longest time.Duration) {
	for _, c := range f.codes {
		longest = max(longest, c.interval())
	}
	return longest
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
	f.follow(f.session.Now()) // it may have another code by now
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
	f.follow(snap)
	c := f.dueCode(time.Now())
	if c == nil || !k.lead(f) || f.session.Now().State != session.Pending {
		return false
	}
	return k.poll(f, c)
}

// poll makes one device access token request (RFC 8628 §3.4).
func (k *Keeper) poll(f *flow, c *code) bool {
	client := k.client.Load()
	// the answer counts even if the code runs out while it is on its way
	f.session.Hold(time.Now().Add(2*client.Timeout() + time.Second))
	f.polls++
	begun := time.Now()
	ans := client.Poll(k.calls, c.login.DeviceCode, c.login.CodeVerifier)
	c.last, c.retry, f.lastErr = time.Now(), ans.RetryAfter, ans.Err
	k.cfg.Polled(f.session, ans.Outcome, c.last.Sub(begun))
	done := k.heed(f, c, ans)
	if !done && !f.inHand() {
		f.session.Hold(time.Time{})
	}
	return done
}

// lead makes sure that no other node polls for this sign-in until well after
// this poll. Without that certainty there is no poll; nor at once when there is
// again: the other node may have polled a moment before it gave the lease back.
func (k *Keeper) lead(f *flow) bool {
	ctx, cancel := context.WithTimeout(k.calls, 5*time.Second)
	defer cancel()
	ok, err := k.cfg.Store.Lease(ctx, f.lease(), k.holder, max(widest, f.interval()+margin)+k.client.Load().Timeout())
	if err != nil || !ok {
		return f.again(err)
	}
	if f.trouble.failures == 0 {
		return true
	}
	f.trouble.failures = 0
	f.begin(time.Now())
	return false
}

// heed acts on a poll's answer.
func (k *Keeper) heed(f *flow, c *code, ans idp.Answer) bool {
	if ans.Outcome == idp.Transient {
		c.failures++
		f.session.Away(f.next(time.Now()))
		return false
	}
	f.session.Away(time.Time{})
	c.failures = 0
	switch ans.Outcome {
	case idp.Pending:
		return false
	case idp.SlowDown:
		return k.slowDown(f, c, ans.Interval)
	case idp.Approved:
		f.session.Hold(f.session.Deadline().Add(settleFor))
		f.tokens = &ans.Tokens
		return k.verify(f)
	case idp.Denied:
		return k.end(f, ans.Outcome, session.Denied, session.Declined)
	case idp.Expired, idp.Invalid:
		return k.gone(f, c, ans.Outcome)
	default: // Failed; Transient is dealt with above
	}
	if !time.Now().Before(c.login.Expires) {
		return k.gone(f, c, idp.Expired) // Dex and WSO2 answer invalid_request then
	}
	return k.end(f, ans.Outcome, session.Failed, session.ProviderError)
}

// gone is for a code that the identity provider knows nothing of any more. Of
// an earlier one that is no news: the next is on the screen.
func (k *Keeper) gone(f *flow, c *code, outcome idp.Outcome) bool {
	f.over[c.login.DeviceCode] = true
	if !f.shows(c) {
		if err := f.session.DropCode(k.calls, c.login.DeviceCode); err != nil {
			f.lastErr = err // it is not polled any more all the same
		}
		return false
	}
	// many servers forget a code as soon as it runs out, and then know nothing
	// of it (Keycloak, authentik, Auth0)
	if outcome == idp.Expired || !time.Now().Before(c.login.Expires) {
		return k.end(f, idp.Expired, session.Expired, session.CodeExpired)
	}
	// it was restarted; or we were, between its tokens and our write
	return k.end(f, outcome, session.Failed, session.Forgotten)
}

// slowDown widens a code's interval for good, in the record too: whoever takes
// the sign-in over keeps to it (RFC 8628 §3.5). Where it cannot be written it
// holds here all the same.
func (k *Keeper) slowDown(f *flow, c *code, asked time.Duration) bool {
	c.atLeast = max(c.interval()+slowDownStep, asked)
	if err := f.session.Slower(k.calls, c.login.DeviceCode, c.atLeast); err != nil {
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
		if decided(err) && !f.session.Admitted() && !keeps(f.session.Now().State) {
			k.revoke(tokens) // a logout, or the client, was faster
		}
		return err
	}
	return k.settle(f)
}

// keeps reports whether a session in that state has the tokens of its sign-in,
// or has handed them on: a browser may claim it the moment it is active.
func keeps(s session.State) bool {
	return s == session.Approved || s == session.Active || s == session.Superseded
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
	f.trouble.last, f.lastErr = time.Now(), err
	f.trouble.failures++
	return false
}

// tooLate reports whether what is in hand has been tried for long enough after
// the code's end that the client was told "expired" long ago.
func (f *flow) tooLate() bool {
	return time.Since(f.session.Deadline()) > settleFor
}
