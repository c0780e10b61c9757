// This file holds one session as this process knows it: what readers see, and
// what can be done with it.

package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

const (
	// tombstoneLife is how long it is remembered why a session is over;
	// attemptLife the same for a sign-in that nobody finished: anybody can
	// start those, so they must not pile up.
	tombstoneLife = 24 * time.Hour
	attemptLife   = time.Hour
	// storeTimeout bounds every store call: a person waits behind it.
	storeTimeout = 5 * time.Second
	// sweepSlack is how late a sweep may be in writing down that a session is
	// in use.
	sweepSlack = time.Minute
	// confirmLife is how long an approval waits to be confirmed on the device.
	confirmLife = 5 * time.Minute
	// changeTries bounds how often a change is made anew on top of somebody
	// else's.
	changeTries = 5
)

// Login is a device authorization under way (RFC 8628 §3.2).
type Login struct {
	DeviceCode secret.String
	// CodeVerifier is PKCE's (RFC 7636), "" where that is not used.
	CodeVerifier            secret.String
	UserCode                string
	VerificationURI         string
	VerificationURIComplete string
	// Interval is the least time between two polls, with every slow_down
	// added.
	Interval time.Duration
	// Issued is when the code came, Expires when it runs out.
	Issued, Expires time.Time
}

// Param is a parameter of the device authorization request.
type Param struct{ Name, Value string }

// Identity is who signed in, and the tokens that say so.
type Identity struct {
	Issuer, Subject string
	// SessionID is the identity provider's sid, "" where it has none.
	SessionID string
	Claims    map[string]any
	// AccessToken, RefreshToken and IDToken as the token endpoint gave them;
	// "" where it did not.
	AccessToken, RefreshToken, IDToken secret.String
	// Since is when the person approved.
	Since time.Time
	// Asked is when the sign-in's tokens were asked for: a logout from then on
	// is one of this sign-in too.
	Asked time.Time
	// TokensSince is when the tokens came, TokensUntil when they run out: the
	// zero time where they have no life of their own.
	TokensSince, TokensUntil time.Time
}

func (id *Identity) indexes() []store.Index {
	ix := []store.Index{SubjectIndex(id.Issuer, id.Subject)}
	if id.SessionID == "" {
		return append(ix, UnnamedIndex(id.Issuer, id.Subject))
	}
	return append(ix, ProviderSessionIndex(id.Issuer, id.SessionID))
}

// Snapshot is a session at one version. It never changes; a changed session
// has a new one.
type Snapshot struct {
	State  State
	Reason Reason
	// Version is the record's.
	Version uint64
	// Changed is when State or Reason last changed.
	Changed time.Time
	// Expires is when the last code (Pending), the time to confirm (Approved)
	// or the session (Active) runs out.
	Expires time.Time
	// Login is the code that is shown while Pending. Earlier are those that
	// were shown before and still work, the latest first.
	Login   *Login
	Earlier []Login
	// Params go with each device authorization request of the sign-in.
	Params []Param
	// Renewals counts the codes since a person's last sign of life, but for the
	// first.
	Renewals int
	// Identity is there while Approved or Active, and until the claim is
	// through.
	Identity *Identity
	// Presented is how often the refresh token was sent without it being known
	// what became of it.
	Presented int

	confirm        bool // an approval is to be confirmed
	idle, lifetime time.Duration
	used           time.Time     // when its client last made a request, as of this version
	attempt        bool          // it was never active
	successor      Key           // while Superseded, until the new key is in use
	from           string        // id of the record this one was claimed from
	next           chan struct{} // closed when a newer snapshot is there
}

// Next is closed when the session has changed.
func (snap *Snapshot) Next() <-chan struct{} { return snap.next }

// Claimed reports whether the session was made by the claim.
func (snap *Snapshot) Claimed() bool { return snap.from != "" }

// Stale reports whether the session waits for a refresh: its tokens have run
// out, and it opens nothing until there are new ones.
func (snap *Snapshot) Stale() bool {
	id := snap.Identity
	return snap.State == Active && id.RefreshToken != "" && !id.TokensUntil.IsZero() && !time.Now().Before(id.TokensUntil)
}

// retainUntil is the end of the record's life: it leaves time to read what
// became of the session, also where nobody could write that down.
func (snap *Snapshot) retainUntil() time.Time {
	from, life := snap.Expires, tombstoneLife
	switch {
	case snap.State.Over():
		from = snap.Changed
	case snap.State == Active && snap.idle > 0:
		// its use is written down in time, or it is over
		if idle := snap.used.Add(snap.idle + usedEvery(snap.idle) + sweepSlack); idle.Before(from) {
			from = idle
		}
	}
	if snap.attempt {
		life = attemptLife
	}
	return from.Add(life)
}

// RunsOut is when a session that is not over runs out at the latest, as far as
// its record says without its key.
func RunsOut(rec store.Record) time.Time {
	if isAttempt(rec) {
		return rec.Until.Add(-attemptLife)
	}
	return rec.Until.Add(-tombstoneLife)
}

// isAttempt reports whether a record is of a sign-in that was never active, and
// is not over.
func isAttempt(rec store.Record) bool {
	return State(rec.State) == Pending || State(rec.State) == Approved
}

// Session is one client's sign-in. Reading it takes no lock.
type Session struct {
	table   *Table
	id      ID
	key     Key
	kind    Kind
	site    string
	created time.Time

	now      atomic.Pointer[Snapshot]
	used     atomic.Int64 // when its client last made a request, Unix nanoseconds
	assumed  int64        // what used was taken to be as the record was read
	watching atomic.Int32 // open waits and streams
	held     atomic.Int64 // a code is not over before, Unix nanoseconds
	away     atomic.Int64 // the identity provider does not answer the polls: when it is asked next, Unix nanoseconds
	tried    atomic.Int64 // when a renewal of the code was tried last, Unix nanoseconds
	missed   atomic.Bool  // a renewal of the code has failed
	admitted atomic.Bool  // an approval was written down by this object
	open     openRequests

	change sync.Mutex    // one change at a time; held across the store call
	ahead  atomic.Uint64 // the version that a write under way will have
	told   atomic.Uint64 // the version that the store last told of
}

// ID returns the session id.
func (s *Session) ID() ID { return s.id }

// Kind returns the kind of its key.
func (s *Session) Kind() Kind { return s.kind }

// Site returns the host that it is for.
func (s *Session) Site() string { return s.site }

// Created returns when its key was made.
func (s *Session) Created() time.Time { return s.created }

// Now returns the session as it is. A code or session that has run out is so
// from that moment, whether or not anybody could write it down yet.
func (s *Session) Now() *Snapshot {
	snap := s.now.Load()
	now := time.Now()
	switch {
	case snap.State == Pending && !now.Before(snap.Expires) && now.UnixNano() >= s.held.Load():
		return snap.over(Expired, s.expiry())
	case snap.State == Approved && !now.Before(snap.Expires):
		return snap.over(Ended, Unconfirmed)
	case snap.State == Active && !now.Before(snap.Expires):
		return snap.over(Ended, s.endReason(snap))
	case snap.State == Active && snap.idle > 0 && now.Sub(s.lastUsed()) >= snap.idle && now.Sub(snap.used) >= snap.idle:
		return snap.over(Ended, IdleTooLong)
	}
	return snap
}

// over is how a snapshot looks once it has run out. It shares the channel, so
// that who waits hears when it is written.
func (snap *Snapshot) over(state State, reason Reason) *Snapshot {
	return &Snapshot{State: state, Reason: reason, Version: snap.Version, Changed: snap.Expires, Expires: snap.Expires, next: snap.next}
}

func (s *Session) endReason(snap *Snapshot) Reason {
	if snap.lifetime > 0 && !snap.Expires.Before(s.created.Add(snap.lifetime)) {
		return LifetimeOver
	}
	return TokenExpired
}

// lastUsed is when the client last made a request; one that is still open is
// made all the time.
func (s *Session) lastUsed() time.Time {
	if s.open.count.Load() > 0 {
		return time.Now()
	}
	return time.Unix(0, max(s.used.Load(), s.open.until.Load()))
}

// usedEvery is how often it is written down that an active session is in use,
// as a part of its idle time: after a restart, or on another node, it may then
// be idle for that much longer than it should, and never for less.
func usedEvery(idle time.Duration) time.Duration { return idle / 10 }

// knownUse is when the session was used for all that is known: what is only
// assumed is not written down, or two nodes that take turns in refreshing a
// session would keep it from ever being idle.
func (s *Session) knownUse(snap *Snapshot) time.Time {
	used := s.lastUsed()
	if used.UnixNano() == s.assumed || used.Before(snap.used) {
		return snap.used
	}
	return used
}

// useIsStale reports whether the record says too little of when the session was
// used.
func (s *Session) useIsStale(snap *Snapshot) bool {
	return snap.State == Active && snap.idle > 0 && s.knownUse(snap).Sub(snap.used) >= usedEvery(snap.idle)
}

// resume takes over from the record when the session was used last: it may have
// been used since, as far as nobody had to write that down yet.
func (s *Session) resume(snap *Snapshot) {
	if snap.State != Active || snap.idle == 0 {
		return
	}
	defer func() { s.assumed = s.used.Load() }()
	if latest := snap.used.Add(usedEvery(snap.idle) + sweepSlack); latest.Before(time.Now()) {
		s.used.Store(latest.UnixNano())
	}
}

// Use notes that the session's client made a request. The order of Now and Use
// matters: a session that was idle too long is over before it is used again.
func (s *Session) Use() { s.used.Store(time.Now().UnixNano()) }

// Hold keeps a code from being over before until: an answer about it is on its
// way, or an approval in hand. The zero time takes that back.
func (s *Session) Hold(until time.Time) {
	if until.IsZero() {
		s.held.Store(0)
		return
	}
	s.held.Store(until.UnixNano())
}

// Watch notes an open wait or stream, if there are fewer than most. done ends
// it.
func (s *Session) Watch(most int32) (done func(), ok bool) {
	if s.watching.Add(1) > most {
		s.watching.Add(-1)
		return nil, false
	}
	return func() {
		if !s.Now().State.Over() {
			s.Use()
		}
		s.watching.Add(-1)
	}, true
}

// Watched reports whether anybody has looked at the session within d.
func (s *Session) Watched(d time.Duration) bool {
	return s.watching.Load() > 0 || time.Since(s.lastUsed()) < d
}

// Away notes that the identity provider does not answer the polls of the
// sign-in, and when it is asked next; the zero time that it does answer. Who
// waits hears of a change.
func (s *Session) Away(until time.Time) {
	var at int64
	if !until.IsZero() {
		at = until.UnixNano()
	}
	if was := s.away.Swap(at); (was == 0) != (at == 0) {
		s.wake()
	}
}

// IsAway reports whether the sign-in waits for an identity provider that does
// not answer.
func (s *Session) IsAway() bool { return s.away.Load() != 0 }

// NextTry is when an identity provider that does not answer is asked next; the
// zero time where it answers.
func (s *Session) NextTry() time.Time {
	at := s.away.Load()
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(0, at)
}

// Activate ends the sign-in well, but for the confirmation where there is to
// be one. Where a logout has overtaken it, nobody is signed in: it ends instead,
// and fails with [ErrOvertaken].
func (s *Session) Activate(ctx context.Context, id Identity) error {
	if cur := s.now.Load(); cur.State == Pending {
		next := Active
		if cur.confirm {
			next = Approved
		}
		if err := s.admit(ctx, next, &id); err != nil {
			return err
		}
	}
	// a logout marks first and looks for records then: one that came in between
	// has found none, but is found here
	return s.endIfOvertaken(ctx, &id)
}

// Confirm makes an approved session active: the person has said on the device
// that it was they who approved. It fails with [ErrTransition] where there is
// nothing to confirm, and like [Session.Activate].
func (s *Session) Confirm(ctx context.Context) error {
	snap := s.Now()
	if snap.State != Approved {
		return fmt.Errorf("%w: %q to %q", ErrTransition, snap.State, Active)
	}
	if err := s.admit(ctx, Active, snap.Identity); err != nil {
		return err
	}
	return s.endIfOvertaken(ctx, snap.Identity)
}

// admit makes a session Approved or Active, unless a logout has overtaken it.
func (s *Session) admit(ctx context.Context, state State, id *Identity) error {
	s.Use() // the person's doing: idle time begins here
	if err := s.endIfOvertaken(ctx, id); err != nil {
		return err
	}
	err := s.become(ctx, state, func(snap *Snapshot) error {
		snap.Login, snap.Earlier, snap.Params, snap.Renewals, snap.confirm = nil, nil, nil, 0, false
		snap.Identity = id
		if state == Approved {
			snap.Expires = time.Now().Add(confirmLife)
			return nil
		}
		snap.attempt = false
		snap.Expires = s.endOf(id, snap.lifetime)
		return nil
	})
	if err == nil {
		s.admitted.Store(true)
	}
	return err
}

// Admitted reports whether an approval was written down by this object: its
// tokens are the session's from then on, and [Hooks] hear of their end.
func (s *Session) Admitted() bool { return s.admitted.Load() }

// endOf is when an active session is over: with its lifetime, and where nobody
// can refresh its tokens, with those.
func (s *Session) endOf(id *Identity, lifetime time.Duration) time.Time {
	end := s.created.Add(lifetime)
	bound := lifetime > 0 && (id.RefreshToken != "" || id.TokensUntil.IsZero() || end.Before(id.TokensUntil))
	if bound {
		return end
	}
	return id.TokensUntil
}

// End ends the session in a state that is over. Ending one that is over
// already is no error: the first end counts.
func (s *Session) End(ctx context.Context, state State, reason Reason) error {
	if reason == CodeExpired {
		reason = s.expiry()
	}
	err := s.become(ctx, state, func(snap *Snapshot) error {
		snap.Reason = reason
		snap.Login, snap.Earlier, snap.Params, snap.Renewals, snap.confirm = nil, nil, nil, 0, false
		snap.Identity, snap.Presented = nil, 0
		snap.idle, snap.lifetime = 0, 0
		return nil
	})
	if (errors.Is(err, ErrTransition) || errors.Is(err, store.ErrConflict)) && s.now.Load().State.Over() {
		return nil
	}
	return err
}

// Deadline returns when the code or the session runs out, also once that has
// happened.
func (s *Session) Deadline() time.Time { return s.now.Load().Expires }
