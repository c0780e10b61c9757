// This file holds how a session is read from the store, by its key.

package session

import (
	"context"
	"errors"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

// loadTries bounds how often a look-up reads anew because the shard changed
// under it. After that the session is used without being kept.
const loadTries = 3

// load reads a session from the store and keeps it, unless it is over. It
// keeps none that was read while the shard changed: a sign-out must not be
// undone by a read that started before it.
func (t *Table) load(ctx context.Context, key Key, id ID) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	sh := t.shard(id)
	kept := false
	for try := 1; ; try++ {
		sh.mu.RLock()
		before := sh.changes
		sh.mu.RUnlock()
		s, err := t.read(ctx, key, id)
		if err != nil {
			return nil, err
		}
		sh.mu.Lock()
		other, exists := sh.sessions[id]
		switch {
		case exists:
			s = other
		case sh.changes != before && try < loadTries:
			sh.mu.Unlock()
			continue
		case sh.changes == before && !s.now.Load().settled():
			sh.sessions[id] = s
			kept = true
		}
		sh.mu.Unlock()
		if !exists && !kept && !s.now.Load().settled() {
			s.open.leave() // nobody would tell its open requests of the end
		}
		if kept && s.now.Load().State == Active && t.hooks.Opened != nil {
			t.hooks.Opened(s)
		}
		return s, nil
	}
}

// settled reports whether the session can never change again.
func (snap *Snapshot) settled() bool { return snap.State.Over() && snap.successor == (Key{}) }

func (t *Table) read(ctx context.Context, key Key, id ID) (*Session, error) {
	rec, err := t.store.Get(ctx, id.String())
	if errors.Is(err, store.ErrDamaged) {
		t.damaged.Add(1)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	if rec.Provider != t.provider {
		return nil, ErrUnknown
	}
	snap, err := openRecord(key, rec)
	// a tombstone is not sealed: only its id says whose it is
	if err != nil || rec.ID != id.String() {
		t.damaged.Add(1)
		return nil, ErrUnknown
	}
	s := t.newSession(key, Kind(rec.Kind), rec.Site, rec.Created)
	s.now.Store(snap)
	s.ahead.Store(rec.Version)
	s.resume(snap)
	if snap.Identity != nil && !snap.State.Over() && time.Since(snap.Changed) < markLife {
		// where this process ended before it could look, or the claim made it,
		// which may be long after the approval
		if err := s.endIfOvertaken(ctx, snap.Identity); err != nil && !errors.Is(err, ErrOvertaken) {
			return nil, err
		}
		snap = s.now.Load()
	}
	if snap.Claimed() && !snap.State.Over() {
		// the new key is in use from here on: the old one is worth nothing
		if err := t.retire(ctx, snap.from); err != nil {
			return nil, err
		}
	}
	return s, nil
}
