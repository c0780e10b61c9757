// This file holds the tests of changes that meet: two nodes, and writes of
// which nobody knows whether they happened.

package session

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

// deafNodes are two nodes of which neither hears of the other's changes.
func deafNodes(t *testing.T) (a, b *Table, st *hooked) {
	st = &hooked{Store: store.NewMemory()}
	var tell []func(string, uint64)
	return NewTable(deaf{st, &tell}, provider), NewTable(deaf{st, &tell}, provider), st
}

func find(t *testing.T, tab *Table, key Key) *Session {
	t.Helper()
	s, err := tab.Lookup(context.Background(), key, site)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConflicts(t *testing.T) {
	ctx := context.Background()
	slower := func(s *Session) error { return s.Slower(ctx, deviceCode, time.Minute) }
	approve := func(s *Session) error { return s.Activate(ctx, lasting(time.Hour)) }
	end := func(state State, reason Reason) func(*Session) error {
		return func(s *Session) error { return s.End(ctx, state, reason) }
	}
	for name, c := range map[string]struct {
		first, second func(*Session) error
		err           error
		state         State
		reason        Reason
	}{
		"both end it":                       {end(Denied, Declined), end(Expired, CodeExpired), nil, Denied, Declined},
		"approved, then denied here":        {approve, end(Denied, Declined), store.ErrConflict, Active, ""},
		"given up, then approved here":      {end(Ended, Replaced), approve, store.ErrConflict, Ended, Replaced},
		"approved on both":                  {approve, approve, nil, Active, ""},
		"slower there, then approved here":  {slower, approve, nil, Active, ""},
		"slower there, then given up here":  {slower, end(Ended, Replaced), nil, Ended, Replaced},
		"slower on both":                    {slower, slower, nil, Pending, ""},
		"given up there, then slower here":  {end(Ended, Replaced), slower, store.ErrConflict, Ended, Replaced},
		"ended there, then again with this": {end(Ended, SignedOut), end(Ended, Replaced), nil, Ended, SignedOut},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, _ := deafNodes(t)
				one, key, err := a.Create(ctx, newLogin(Terminal))
				if err != nil {
					t.Fatal(err)
				}
				two := find(t, b, key)
				if err := c.first(one); err != nil {
					t.Fatal(err)
				}
				waiting := two.Now().Next()
				if err := c.second(two); !errors.Is(err, c.err) {
					t.Errorf("the second change: %v, want %v", err, c.err)
				}
				select {
				case <-waiting:
				default:
					t.Error("who waits was not woken")
				}
				if got := two.Now(); got.State != c.state || got.Reason != c.reason {
					t.Errorf("is %s %q, want %s %q", got.State, got.Reason, c.state, c.reason)
				}
			})
		})
	}
}

// TestTheLongestIntervalWins: two nodes were told of different ones.
func TestTheLongestIntervalWins(t *testing.T) {
	for _, first := range []time.Duration{10 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			a, b, _ := deafNodes(t)
			one, key, err := a.Create(ctx, newLogin(Terminal))
			if err != nil {
				t.Fatal(err)
			}
			two := find(t, b, key)
			if err := one.Slower(ctx, deviceCode, first); err != nil {
				t.Fatal(err)
			}
			if err := two.Slower(ctx, deviceCode, 30*time.Second); err != nil {
				t.Fatal(err)
			}
			var tell []func(string, uint64)
			stored := find(t, NewTable(deaf{a.store, &tell}, provider), key)
			if got, want := stored.Now().Login.Interval, max(first, 30*time.Second); got != want {
				t.Errorf("stored interval %v, want %v", got, want)
			}
		})
	}
}

func TestRemovedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, st := deafNodes(t)
		s, key, err := a.Create(context.Background(), newLogin(Terminal))
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Delete(context.Background(), key.ID().String()); err != nil {
			t.Fatal(err)
		}
		if err := s.Activate(context.Background(), lasting(time.Hour)); !errors.Is(err, store.ErrConflict) {
			t.Errorf("approved what was removed: %v", err)
		}
		if got := s.Now(); got.State != Ended {
			t.Errorf("is %s, want ended", got.State)
		}
		if _, err := a.Lookup(context.Background(), key, site); err != ErrUnknown {
			t.Errorf("look-up: %v", err)
		}
	})
}

// TestWriteAppliedButNotAcknowledged: the next try finds its own write and
// takes it for done.
func TestWriteAppliedButNotAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, key := r.pending(Terminal)
		approve := func() error {
			return s.Activate(context.Background(), lasting(time.Hour))
		}
		r.st.set(func(h *hooked) { h.answer = func(error) error { return context.DeadlineExceeded } })
		if err := approve(); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
		// whoever looks meanwhile sees what the store has
		r.want(r.lookup(key), Active, "")
		r.st.set(func(h *hooked) { h.answer = nil })
		if err := approve(); err != nil {
			t.Errorf("the second try: %v", err)
		}
		r.want(s, Active, "")
		if rec := r.record(key); rec.Version != 2 {
			t.Errorf("written %d times, want 2", rec.Version)
		}
	})
}

// TestSignOutElsewhereAfterALostWrite: a write that never happened must not
// hide another node's write of the same version.
func TestSignOutElsewhereAfterALostWrite(t *testing.T) {
	ctx := context.Background()
	refresh := func(s *Session) error {
		return s.Renew(ctx, s.Now().Identity.RefreshToken, lasting(2*time.Hour))
	}
	t.Run("told afterwards", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newRig(t)
			s, key := a.active(Terminal)
			b := a.node()
			there := b.lookup(key)
			a.st.set(func(h *hooked) { h.onPut = func(store.Record) error { return errDown } })
			if err := refresh(s); !errors.Is(err, errDown) {
				t.Fatal(err)
			}
			a.want(a.lookup(key), Active, "")
			a.st.set(func(h *hooked) { h.onPut = nil })
			b.end(there, Ended, SignedOut)
			a.want(a.lookup(key), Ended, SignedOut)
		})
	})
	t.Run("told while the write is under way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := newRig(t)
			s, key := a.active(Terminal)
			b := a.node()
			there := b.lookup(key)
			a.st.set(func(h *hooked) {
				h.onPut = func(store.Record) error {
					h.set(func(h *hooked) { h.onPut = nil })
					b.end(there, Ended, SignedOut)
					return errDown
				}
			})
			if err := refresh(s); !errors.Is(err, errDown) {
				t.Fatal(err)
			}
			a.want(a.lookup(key), Ended, SignedOut)
		})
	})
}

// TestSignOutBesideRefreshes: whatever else is written, the sign-out wins.
func TestSignOutBesideRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		a, b, _ := deafNodes(t)
		one, key, err := a.Create(ctx, newLogin(Terminal))
		if err != nil {
			t.Fatal(err)
		}
		if err := one.Activate(ctx, lasting(time.Hour)); err != nil {
			t.Fatal(err)
		}
		two := find(t, b, key)
		for range 3 { // refreshed over there
			if err := two.Renew(ctx, "", lasting(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		if err := one.End(ctx, Ended, SignedOut); err != nil {
			t.Errorf("sign-out: %v", err)
		}
		if got := one.Now(); got.State != Ended || got.Reason != SignedOut {
			t.Errorf("is %s %q", got.State, got.Reason)
		}
	})
}

func TestParallelChangesOfOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		r := newRig(t)
		s, key := r.active(Terminal)
		n := r.node()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { _ = s.Activate(ctx, lasting(time.Hour)) })
			wg.Go(func() {
				if there, err := n.Lookup(ctx, key, site); err == nil {
					_ = there.End(ctx, Ended, SignedOut)
				}
			})
			wg.Go(func() { r.Sweep(ctx); r.changed("", 0) })
			wg.Go(func() { s.Use(); s.Now(); s.Watched(time.Second) })
		}
		wg.Wait()
		synctest.Wait()
		r.want(r.lookup(key), Ended, SignedOut)
		r.want(n.lookup(key), Ended, SignedOut)
	})
}

// TestClientThatHangsUp: a change goes through all the same.
func TestClientThatHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, key := r.pending(Terminal)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.End(ctx, Ended, Replaced); err != nil {
			t.Error(err)
		}
		if rec := r.record(key); rec.State != string(Ended) {
			t.Errorf("stored: %s", rec.State)
		}
	})
}
