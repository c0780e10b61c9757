// This file holds the tests of the table: who finds a session, and how a
// change on one node reaches another.

package session

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

func TestLookupFindsOnlyItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx := context.Background()
		s, key := r.pending(Terminal)
		stranger := NewTable(r.st, "https://idp.example other-client")
		defer stranger.Close()
		for name, try := range map[string]func() (*Session, error){
			"unknown key":      func() (*Session, error) { return r.Lookup(ctx, NewKey(), site) },
			"no key":           func() (*Session, error) { return r.Lookup(ctx, Key{}, site) },
			"other site":       func() (*Session, error) { return r.Lookup(ctx, key, "b.example") },
			"no site":          func() (*Session, error) { return r.Lookup(ctx, key, "") },
			"other site, anew": func() (*Session, error) { return r.node().Lookup(ctx, key, "b.example") },
			"other provider":   func() (*Session, error) { return stranger.Lookup(ctx, key, site) },
		} {
			if got, err := try(); err != ErrUnknown || got != nil {
				t.Errorf("%s: %v %v, want ErrUnknown", name, got, err)
			}
		}
		if got := r.lookup(key); got != s {
			t.Error("the look-up gives another session than was made")
		}
	})
}

func TestHotPathAsksNoStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, key := r.active(Terminal)
		n := r.node()
		n.lookup(key) // reads it
		gets, puts := r.st.gets.Load(), r.st.puts.Load()
		for range 100 {
			r.lookup(key).Use()
			n.lookup(key).Use()
			_, _ = n.Lookup(context.Background(), key, "b.example")
		}
		if r.st.gets.Load() != gets || r.st.puts.Load() != puts {
			t.Errorf("%d reads and %d writes on the hot path", r.st.gets.Load()-gets, r.st.puts.Load()-puts)
		}
	})
}

func TestStoreThatFailsIsNoUnknownKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, key := r.active(Browser)
		down := func(h *hooked) {
			h.onGet = func(store.Record, error) (store.Record, error) { return store.Record{}, errDown }
			h.onPut = func(store.Record) error { return errDown }
		}
		r.st.set(down)
		n := r.node()
		if _, err := n.Lookup(context.Background(), key, site); !errors.Is(err, errDown) || errors.Is(err, ErrUnknown) {
			t.Errorf("look-up: %v", err)
		}
		if n.Damaged() != 0 || n.Len() != 0 {
			t.Error("an outage counts as damage, or leaves something behind")
		}
		if _, _, err := r.Create(context.Background(), newLogin(Browser)); !errors.Is(err, errDown) {
			t.Errorf("create: %v", err)
		}
		if err := s.End(context.Background(), Ended, SignedOut); !errors.Is(err, errDown) {
			t.Errorf("end: %v", err)
		}
		if _, err := r.Claim(context.Background(), s); !errors.Is(err, errDown) {
			t.Errorf("claim: %v", err)
		}
		r.want(r.lookup(key), Active, "") // known here: it needs no store
		r.st.set(func(h *hooked) { h.onGet, h.onPut = nil, nil })
		n.want(n.lookup(key), Active, "")
	})
}

// TestReady: what the store could not keep is not begun, also where it can be
// read all the same.
func TestReady(t *testing.T) {
	ctx := context.Background()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		want := func(step string, err error) {
			t.Helper()
			if got := r.Ready(ctx); !errors.Is(got, err) {
				t.Errorf("%s: %v, want %v", step, got, err)
			}
		}
		want("at first", nil)
		r.st.set(func(h *hooked) { h.onPut = func(store.Record) error { return errDown } })
		want("before a write has failed", nil)
		if _, _, err := r.Create(ctx, newLogin(Terminal)); !errors.Is(err, errDown) {
			t.Fatal(err)
		}
		want("after it", errDown)
		time.Sleep(keepAgain)
		want("when it may be tried again", nil)
		if _, _, err := r.Create(ctx, newLogin(Terminal)); !errors.Is(err, errDown) {
			t.Fatal(err)
		}
		r.st.set(func(h *hooked) { h.onPut = nil })
		want("for a while", errDown)
		r.pending(Terminal)
		want("after a write that went well", nil)
		hungUp, cancel := context.WithCancel(ctx)
		cancel()
		if _, _, err := r.Create(hungUp, newLogin(Terminal)); err == nil {
			t.Error("created for nobody")
		}
		want("after a client that hung up", nil)
		r.st.set(func(h *hooked) {
			h.onGet = func(store.Record, error) (store.Record, error) { return store.Record{}, errDown }
		})
		want("while it cannot be read", errDown)
	})
}

func TestSlowStoreIsGivenUpOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := NewTable(stuck{store.NewMemory()}, provider)
		defer tab.Close()
		begin := time.Now()
		if _, err := tab.Lookup(context.Background(), NewKey(), site); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("look-up: %v", err)
		}
		if _, _, err := tab.Create(context.Background(), newLogin(Terminal)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("create: %v", err)
		}
		if d := time.Since(begin); d != 2*storeTimeout {
			t.Errorf("took %v", d)
		}
	})
}

// stuck is a store that answers when the caller has gone.
type stuck struct{ store.Store }

func (stuck) Get(ctx context.Context, _ string) (store.Record, error) {
	<-ctx.Done()
	return store.Record{}, ctx.Err()
}

func (stuck) Put(ctx context.Context, _ store.Record) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestSignOutDuringSlowLoad: a read that started before a sign-out must not
// bring the session back.
func TestSignOutDuringSlowLoad(t *testing.T) {
	for name, end := range map[string]func(rig, *Session, Key){
		"ended":   func(r rig, s *Session, _ Key) { r.end(s, Ended, SignedOut) },
		"removed": func(r rig, _ *Session, key Key) { _ = r.st.Delete(context.Background(), key.ID().String()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s, key := r.active(Terminal)
				n := r.node()
				read, goOn := make(chan struct{}), make(chan struct{})
				first := true
				r.st.set(func(h *hooked) {
					h.onGet = func(rec store.Record, err error) (store.Record, error) {
						if first {
							first = false
							close(read)
							<-goOn // the answer is on its way
						}
						return rec, err
					}
				})
				done := make(chan struct{})
				go func() {
					defer close(done)
					if got, err := n.Lookup(context.Background(), key, site); err == nil && got.Now().State == Active {
						t.Error("the look-up gives a session that was signed out meanwhile")
					}
				}()
				<-read
				end(r, s, key)
				close(goOn)
				<-done
				got, err := n.Lookup(context.Background(), key, site)
				if err == nil && got.Now().State == Active {
					t.Error("the sign-out was undone")
				}
				if n.Len() != 0 {
					t.Error("what is over is kept")
				}
			})
		})
	}
}

// TestLoadUnderConstantChange: what cannot be read in peace is used, not kept,
// and holds no request open, since it would hear of no end.
func TestLoadUnderConstantChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, key := r.active(Terminal)
		n := r.node()
		r.st.set(func(h *hooked) {
			h.onGet = func(rec store.Record, err error) (store.Record, error) {
				n.changed(rec.ID, rec.Version)
				return rec, err
			}
		})
		s := n.lookup(key)
		n.want(s, Active, "")
		if e := new(ear); s.Open(&e.OpenRequest, e) != nil {
			t.Error("a request is open, and nobody will tell it of the end")
		}
		if reads := r.st.gets.Load(); reads != loadTries || n.Len() != 0 {
			t.Errorf("%d reads, %d kept", reads, n.Len())
		}
	})
}

// TestOtherNodeChanges: every change on one node shows on the other, and wakes
// who waits there.
func TestOtherNodeChanges(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		change func(r rig, s *Session, key Key)
		state  State
		reason Reason
	}{
		"approved": {func(_ rig, s *Session, _ Key) { _ = s.Activate(ctx, lasting(time.Hour)) }, Active, ""},
		"denied":   {func(r rig, s *Session, _ Key) { r.end(s, Denied, Declined) }, Denied, Declined},
		"slower":   {func(_ rig, s *Session, _ Key) { _ = s.Slower(ctx, deviceCode, time.Minute) }, Pending, ""},
		"removed":  {func(r rig, _ *Session, key Key) { _ = r.st.Delete(ctx, key.ID().String()) }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newRig(t)
				s, key := a.pending(Terminal)
				b := a.node()
				there := b.lookup(key)
				waiting := there.Now().Next()
				c.change(a, s, key)
				select {
				case <-waiting:
				default:
					t.Fatal("who waits was not woken")
				}
				if c.state == "" {
					b.wantUnknown(key)
					a.wantUnknown(key)
					return
				}
				b.want(b.lookup(key), c.state, c.reason)
				if name == "slower" && b.lookup(key).Now().Login.Interval != time.Minute {
					t.Error("the interval did not come along")
				}
			})
		})
	}
}

// deaf is a store that tells nobody of changes until it says that it missed
// some.
type deaf struct {
	store.Store
	tell *[]func(string, uint64)
}

func (d deaf) Watch(changed func(string, uint64)) func() {
	*d.tell = append(*d.tell, changed)
	return func() {}
}

func TestMissedChangesPutAllInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tell []func(string, uint64)
		st := deaf{store.NewMemory(), &tell}
		a, b := NewTable(st, provider), NewTable(st, provider)
		s, key, err := a.Create(context.Background(), newLogin(Terminal))
		if err != nil {
			t.Fatal(err)
		}
		there, err := b.Lookup(context.Background(), key, site)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.End(context.Background(), Denied, Declined); err != nil {
			t.Fatal(err)
		}
		waiting := there.Now().Next()
		tell[1]("", 0)
		<-waiting
		if again, err := b.Lookup(context.Background(), key, site); err != nil || again.Now().State != Denied {
			t.Errorf("after a gap: %v", err)
		}
		for _, id := range []string{"x", "zz", key.ID().String() + "00"} {
			tell[1](id, 1) // nothing that is ours
		}
	})
}

func TestCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newRig(t)
		s, key := a.pending(Terminal)
		b := a.node()
		there := b.lookup(key)
		if got, err := b.Current(context.Background(), there); err != nil || got != there {
			t.Errorf("unchanged: %v", err)
		}
		a.end(s, Ended, Replaced)
		got, err := b.Current(context.Background(), there)
		if err != nil {
			t.Fatal(err)
		}
		b.want(got, Ended, Replaced)
		if err := a.st.Delete(context.Background(), key.ID().String()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Current(context.Background(), there); err != ErrUnknown {
			t.Errorf("removed: %v", err)
		}
	})
}

func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, pending := r.pending(Terminal)
		_, active := r.active(Terminal)
		s, claimed := r.active(Browser)
		heir := r.claim(s)
		r.lookup(heir) // is left: it is good for an hour
		if n := r.Len(); n != 3 {
			t.Errorf("%d sessions open, want 3", n)
		}
		r.Sweep(context.Background())
		if n := r.Len(); n != 3 {
			t.Errorf("%d sessions open after a sweep too early, want 3", n)
		}
		time.Sleep(10 * time.Minute)
		r.lookup(active).Use()
		r.st.set(func(h *hooked) { h.onPut = func(store.Record) error { return errDown } })
		r.Sweep(context.Background())
		r.want(r.lookup(pending), Expired, CodeExpired) // said, if not written
		r.st.set(func(h *hooked) { h.onPut = nil })
		r.Sweep(context.Background())
		if n := r.Len(); n != 2 {
			t.Errorf("%d sessions open, want 2", n)
		}
		if rec := r.record(pending); rec.State != string(Expired) || rec.Reason != string(CodeExpired) || len(rec.Body) != 0 {
			t.Errorf("not written down: %+v", rec)
		}
		if rec := r.record(claimed); len(rec.Body) != 0 {
			t.Error("the claimed record still has its body")
		}
		time.Sleep(time.Hour)
		r.Sweep(context.Background())
		if n := r.Len(); n != 0 {
			t.Errorf("%d sessions open, want none", n)
		}
		r.want(r.lookup(active), Ended, TokenExpired)
		time.Sleep(tombstoneLife)
		r.wantUnknown(active)
	})
}

func TestSweepStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.pending(Terminal)
		time.Sleep(time.Hour)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		puts := r.st.puts.Load()
		if r.Sweep(ctx); r.st.puts.Load() != puts {
			t.Error("swept on after its end")
		}
	})
}
