// This file holds how a session changes: by one compare-and-swap in the store,
// shown once it is written.

package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

// become makes one transition. Where another node was first and changed no
// more than a detail (a longer interval, fresh tokens), it is made on top of
// that: a sign-out must not be lost to a refresh.
//
// mutate changes the copy that is to be written; its error ends the attempt.
func (s *Session) become(ctx context.Context, state State, mutate func(*Snapshot) error) error {
	s.change.Lock()
	defer s.change.Unlock()
	// a client that hangs up must not tear a change in two
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	for try := 1; ; try++ {
		cur := s.now.Load()
		err := s.attempt(ctx, cur, state, mutate)
		if !errors.Is(err, store.ErrConflict) || s.now.Load().State != cur.State || try == changeTries {
			return err
		}
	}
}

// attempt writes the record, then shows it. Where another node was first, it
// shows that node's version and fails with [store.ErrConflict], unless that one
// is in the wanted state as well: then an earlier write of ours was
// acknowledged late, or somebody did the same.
func (s *Session) attempt(ctx context.Context, cur *Snapshot, state State, mutate func(*Snapshot) error) error {
	if err := cur.State.to(state); err != nil {
		return err
	}
	next := *cur
	next.Version++
	next.used = s.knownUse(cur).UTC()
	next.next = make(chan struct{})
	if state != cur.State {
		next.State, next.Changed = state, time.Now()
	}
	if err := mutate(&next); err != nil {
		return err
	}
	err := s.write(ctx, &next)
	if errors.Is(err, store.ErrConflict) {
		return s.adopt(ctx, state)
	}
	if err != nil {
		s.table.unsure(s, cur.Version)
		return fmt.Errorf("writing session: %w", err)
	}
	s.show(&next)
	s.table.tell(s, cur, &next)
	return nil
}

func (s *Session) write(ctx context.Context, next *Snapshot) error {
	rec, err := s.record(next)
	if err != nil {
		return err
	}
	s.ahead.Store(next.Version)
	return s.table.store.Put(ctx, rec)
}

// show publishes a snapshot and wakes who waits for it.
func (s *Session) show(next *Snapshot) {
	old := s.now.Swap(next)
	if old != nil {
		close(old.next)
	}
	if next.settled() {
		s.table.forget(s)
	}
	s.open.tell(next)
}

// wake makes who waits look the session up anew.
func (s *Session) wake() {
	for {
		old := s.now.Load()
		again := *old
		again.next = make(chan struct{})
		if s.now.CompareAndSwap(old, &again) {
			close(old.next)
			return
		}
	}
}

// adopt shows what the store has after a lost race.
func (s *Session) adopt(ctx context.Context, wanted State) error {
	rec, err := s.table.store.Get(ctx, s.id.String())
	if errors.Is(err, store.ErrNotFound) {
		s.show(&Snapshot{State: Ended, Reason: SignedOut, Version: s.now.Load().Version, Changed: time.Now(), next: make(chan struct{})})
		return store.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("reading session: %w", err)
	}
	snap, err := openRecord(s.key, rec)
	if err != nil {
		return err
	}
	before := s.now.Load().State
	s.show(snap)
	if snap.State == wanted && wanted != before {
		return nil
	}
	return store.ErrConflict
}
