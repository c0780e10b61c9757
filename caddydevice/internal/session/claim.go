// This file holds the claim: after approval a browser gets a key that was
// never in anybody's hands before, and the key that the sign-in was made with
// opens nothing.

package session

import (
	"context"
	"errors"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

// claimLife is for how long an answer that carried the new key can be repeated,
// if the browser has not used that key yet.
const claimLife = time.Minute

// ErrNotClaimable is the error of a session that has nothing to claim: it is
// no browser's, not approved, claimed itself, or its new key is in use.
var ErrNotClaimable = errors.New("session cannot be claimed")

// Claimable reports whether the session waits to be claimed: its key opens
// nothing until then.
func (s *Session) Claimable(snap *Snapshot) bool {
	return s.kind == Browser && (snap.State == Active && !snap.Claimed() ||
		snap.State == Superseded && snap.successor != (Key{}) && time.Since(snap.Changed) < claimLife)
}

// Claim returns the key that takes the place of a browser's. It can be called
// again, here or on another node, and gives the same key until that is used or
// a minute has passed: an answer may be lost.
//
// First the old record is superseded, with the new key sealed under the old
// one, by compare-and-swap: from here on there is one successor. Then the
// successor's record is made from it, which may happen more than once.
func (t *Table) Claim(ctx context.Context, s *Session) (Key, error) {
	if !s.Claimable(s.Now()) {
		return Key{}, ErrNotClaimable
	}
	if s.now.Load().State == Active {
		key := NewKey()
		err := s.become(ctx, Superseded, func(snap *Snapshot) error {
			snap.successor, snap.Reason = key, Claimed
			return nil
		})
		// who was slower finds the other's successor in place of its own
		if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, ErrTransition) {
			return Key{}, err
		}
	}
	old := s.now.Load()
	if !s.Claimable(s.Now()) || old.successor == (Key{}) {
		return Key{}, ErrNotClaimable
	}
	return old.successor, t.succeed(ctx, s, old)
}

// succeed makes the successor's record, if it is not there yet.
func (t *Table) succeed(ctx context.Context, s *Session, old *Snapshot) error {
	heir := t.newSession(old.successor, Browser, s.site, s.created)
	snap := &Snapshot{
		State: Active, Version: 1, Changed: old.Changed, Expires: old.Expires, Identity: old.Identity,
		idle: old.idle, lifetime: old.lifetime, used: time.Now().UTC(), from: s.id.String(), next: make(chan struct{}),
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := heir.write(ctx, snap); err != nil && !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}

// SignOut ends the session as its client's wish. Where the claim has replaced
// the key, but the new one is not in use yet, the old one still speaks for
// both.
func (t *Table) SignOut(ctx context.Context, s *Session) error {
	_, err := t.endWithHeir(ctx, s, SignedOut)
	return err
}

// endWithHeir ends a session, or the one that the claim has made of it. ended
// is false where that was over.
func (t *Table) endWithHeir(ctx context.Context, s *Session, reason Reason) (ended bool, err error) {
	err = s.End(ctx, Ended, reason)
	if errors.Is(err, store.ErrConflict) {
		err = s.End(ctx, Ended, reason) // of what another node made of it
	}
	if err != nil {
		return false, err
	}
	old := s.now.Load()
	if old.State != Superseded || old.successor == (Key{}) {
		return old.Reason == reason, nil
	}
	// made first where it is missing, so that no claim under way makes it later
	if err := t.succeed(ctx, s, old); err != nil {
		return false, err
	}
	heir, err := t.Lookup(ctx, old.successor, s.site)
	if errors.Is(err, ErrUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if heir.now.Load().State.Over() {
		return false, nil
	}
	err = heir.End(ctx, Ended, reason)
	return err == nil && heir.now.Load().Reason == reason, err
}

// retire takes the new key, the tokens and the claims off a superseded record,
// once that key is in use or the time for repeating the answer is over. It
// needs no key: a tombstone is not sealed. Whoever holds the session open hears
// of the write and drops it.
func (t *Table) retire(ctx context.Context, from string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rec, err := t.store.Get(ctx, from)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case len(rec.Body) == 0 || rec.State != string(Superseded) || rec.ID != from:
		return nil
	}
	rec.Version++
	rec.Body, rec.Subject, rec.Indexes = nil, "", nil
	err = t.store.Put(ctx, rec)
	if errors.Is(err, store.ErrConflict) {
		return t.retire(ctx, from) // another request was first
	}
	return err
}
