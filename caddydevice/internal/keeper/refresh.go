// This file holds one try to refresh a session: under a lease, written down
// before the refresh token is sent, and again with what came of it.

package keeper

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

const (
	// leaseLife is that of the lease, which is renewed every leaseEvery while a
	// request is under way.
	leaseLife, leaseEvery = 30 * time.Second, 10 * time.Second
	// mostRetryAfter bounds what an answer can ask for.
	mostRetryAfter = 10 * time.Minute
)

// endOf says how a session ends by a refusal, by its outcome.
var endOf = map[idp.Outcome]session.Reason{
	idp.Invalid: session.Refused,
	idp.Denied:  session.Refused,
	idp.Failed:  session.Refused,
}

// renew is one turn: finish what is in hand, else see whether a refresh is due
// and make it. It reports whether the session needs no more.
func (k *Keeper) renew(r *renewal) (over bool) {
	r.busy, r.retry, r.resume = false, 0, time.Time{}
	if r.finish != nil {
		return r.finish()
	}
	was := r.session
	current, err := k.cfg.Table.Current(k.calls, r.session)
	switch {
	case errors.Is(err, session.ErrUnknown):
		return true // its record was removed
	case err != nil:
		return r.again()
	}
	r.session = current
	snap := current.Now()
	switch {
	case snap.State == session.Ended && current != was:
		k.endedElsewhere(was, snap)
		return true
	case !renewable(current, snap):
		return true
	case time.Now().Before(refreshAt(snap.Identity)):
		r.failures = 0 // somebody else has done it
		return false
	case r.tally.of(snap) >= presentations:
		return k.spent(r, snap)
	}
	return k.withLease(r, func() bool { return k.present(r, snap) })
}

// endedElsewhere revokes the tokens of a session that was ended without its
// key, by an operator or a logout at another node: nobody else can.
func (k *Keeper) endedElsewhere(was *session.Session, now *session.Snapshot) {
	if id := was.LastIdentity(); id != nil && (now.Reason == session.Revoked || now.Reason == session.LoggedOut) {
		k.revokeTokens(id.RefreshToken, id.AccessToken)
	}
}

// spent is for a session whose refresh token was sent as often as it may be:
// it lives on until its access token runs out.
func (k *Keeper) spent(r *renewal, snap *session.Snapshot) bool {
	if !snap.Stale() {
		r.resume = snap.Identity.TokensUntil
		return false
	}
	return k.endRefresh(r, session.RefreshLost, Refresh{Outcome: RefreshLost, Err: errSpent})
}

// errRunOut is of tokens that are taken, but open nothing.
var errRunOut = errors.New("the new access token has run out already: is one of the two clocks wrong?")

var errSpent = errors.New("no answer to the refresh arrived, nor to the one that repeated it")

// withLease makes sure that no other node refreshes the session meanwhile.
func (k *Keeper) withLease(r *renewal, do func() bool) bool {
	name := r.lease()
	ctx, cancel := context.WithTimeout(k.calls, 5*time.Second)
	ok, err := k.cfg.Store.Lease(ctx, name, k.holder, leaseLife)
	cancel()
	switch {
	case err != nil:
		return r.again()
	case !ok:
		r.busy = true
		k.refreshed(r, Refresh{Outcome: RefreshBusy})
		return false
	}
	stop := make(chan struct{})
	k.done.Go(func() { k.renewLease(name, stop) })
	defer func() {
		close(stop)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(k.calls), 5*time.Second)
		defer cancel()
		_ = k.cfg.Store.Release(ctx, name, k.holder) // else it lapses
	}()
	return do()
}

// renewLease keeps the lease until stop is closed. Where that fails the
// compare-and-swap of the record is left to keep two nodes apart.
func (k *Keeper) renewLease(name string, stop <-chan struct{}) {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			_, _ = k.cfg.Store.Lease(k.calls, name, k.holder, leaseLife)
		}
	}
}

// present sends the refresh token, once that is written down. Before it does so
// a second time it asks for what costs nothing: an identity provider that
// answers nobody would only use up the retry.
func (k *Keeper) present(r *renewal, snap *session.Snapshot) bool {
	token, before := snap.Identity.RefreshToken, r.tally.of(snap)
	if before > 0 {
		if err := k.client.Load().Answers(k.calls); err != nil {
			k.refreshed(r, Refresh{Outcome: RefreshFailed, Err: err})
			return r.again()
		}
	}
	err := r.session.Presenting(k.calls, token, snap.Presented, before+1)
	if errors.Is(err, session.ErrNotRenewed) {
		r.failures = 0
		return false // somebody else was at it: the next turn looks anew
	}
	r.tally.recorded = max(r.tally.recorded, before+1)
	if err != nil {
		k.refreshed(r, Refresh{Outcome: RefreshNotRecorded, Err: err})
		return r.again()
	}
	begun := time.Now()
	ans := k.client.Load().Refresh(k.calls, token, before > 0)
	took := time.Since(begun)
	r.retry, r.tally.sent = ans.RetryAfter, before+1
	switch {
	case ans.Outcome == idp.Approved:
		r.tokens, r.token, r.identity = ans.Tokens, token, nil
		r.finish = func() bool { return k.take(r) }
		return r.finish()
	case ans.Outcome == idp.Transient:
		if !ans.Sent {
			// nobody took it; where this cannot be written, a node that goes on
			// has one try less
			r.tally.sent = before
			if r.session.Presenting(k.calls, token, before+1, before) == nil {
				r.tally.recorded = before
			}
		}
		k.refreshed(r, Refresh{Outcome: RefreshFailed, Took: took, Err: ans.Err})
		return r.again()
	case ans.Outcome == idp.Invalid && before > 0:
		return k.endRefresh(r, session.RefreshLost, Refresh{Outcome: RefreshLost, Took: took, Err: ans.Err})
	}
	return k.endRefresh(r, endOf[ans.Outcome], Refresh{Outcome: RefreshRefused, Took: took, Err: ans.Err})
}

// take verifies the tokens in hand and writes them down. They do not come
// again, so that neither missing keys nor a store that fails ends the try.
func (k *Keeper) take(r *renewal) bool {
	snap := r.session.Now()
	if snap.State != session.Active {
		return k.tooLate(r)
	}
	if r.identity == nil {
		who, err := k.client.Load().VerifyRefreshed(k.calls, r.tokens, identityBefore(snap.Identity))
		switch {
		case errors.Is(err, idp.ErrTemporary):
			k.refreshed(r, Refresh{Outcome: RefreshFailed, Err: err})
			return r.again()
		case errors.Is(err, idp.ErrOtherIdentity):
			return k.distrust(r, session.OtherIdentity, Refresh{Outcome: RefreshOther, Err: err})
		case err != nil:
			return k.distrust(r, session.BadTokens, Refresh{Outcome: RefreshUntrusted, Err: err})
		}
		r.identity = renewed(snap.Identity, who, r.tokens)
	}
	err := r.session.Renew(k.calls, r.token, *r.identity)
	switch {
	case errors.Is(err, session.ErrNotRenewed):
		return k.tooLate(r)
	case err != nil:
		k.refreshed(r, Refresh{Outcome: RefreshNotRecorded, Err: err})
		return r.again()
	}
	r.finish, r.tally = nil, tally{} // also where the refresh token stays the same
	if r.session.Now().Stale() {
		r.runOut++
		r.failures = r.runOut // of this kind alone: they may have waited here for keys
		k.refreshed(r, Refresh{Outcome: RefreshFailed, Err: errRunOut})
		return false
	}
	r.failures, r.runOut = 0, 0
	k.refreshed(r, Refresh{Outcome: Refreshed, Took: r.tokens.Received.Sub(r.tokens.Asked)})
	return false
}

// identityBefore is whom refreshed tokens have to be of.
func identityBefore(id *session.Identity) idp.Identity {
	return idp.Identity{Issuer: id.Issuer, Subject: id.Subject, SessionID: id.SessionID, Claims: id.Claims, IDToken: id.IDToken}
}

// renewed is the identity with new tokens. What an answer leaves out stays as
// it was: a refresh token that is not replaced goes on (RFC 6749 §6), and so does
// an ID token (OpenID Connect Core §12.2). The claims are those of who, also
// without one: they may come from elsewhere.
func renewed(was *session.Identity, who *idp.Identity, tokens idp.Tokens) *session.Identity {
	id := *was
	id.AccessToken, id.TokensSince, id.TokensUntil = tokens.Access, tokens.Received, tokens.Until(who)
	if tokens.Refresh != "" {
		id.RefreshToken = tokens.Refresh
	}
	if tokens.ID != "" {
		id.IDToken = tokens.ID
	}
	id.Claims, id.SessionID = who.Claims, cmp.Or(who.SessionID, id.SessionID)
	return &id
}

// tooLate is for tokens whose session was ended, or renewed by another node,
// while they were on their way.
func (k *Keeper) tooLate(r *renewal) bool {
	r.finish, r.failures = nil, 0
	if r.session.Now().State == session.Active {
		return false
	}
	k.revoke(r.tokens)
	return true
}

// distrust ends the session, and takes back what nobody is to use.
func (k *Keeper) distrust(r *renewal, reason session.Reason, result Refresh) bool {
	k.revoke(r.tokens)
	return k.endRefresh(r, reason, result)
}

// endRefresh ends the session for a reason that its refresh gave.
func (k *Keeper) endRefresh(r *renewal, reason session.Reason, result Refresh) bool {
	r.finish = func() bool { return k.endRefresh(r, reason, result) }
	if err := r.session.End(k.calls, session.Ended, reason); err != nil {
		k.refreshed(r, Refresh{Outcome: RefreshNotRecorded, Err: err})
		return r.again()
	}
	k.refreshed(r, result)
	return true
}

func (k *Keeper) refreshed(r *renewal, result Refresh) {
	if k.cfg.Refreshed != nil {
		k.cfg.Refreshed(r.session, result)
	}
}
