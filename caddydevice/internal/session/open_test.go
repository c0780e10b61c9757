// This file holds the tests of open requests: they hear of every change of
// their session, whoever made it, and of its end.

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

// ear hears for one open request.
type ear struct {
	OpenRequest
	mu    sync.Mutex
	heard []State
}

func (e *ear) Hear(snap *Snapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, snap.State)
}

func (e *ear) last() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.heard) == 0 {
		return ""
	}
	return e.heard[len(e.heard)-1]
}

func (r rig) opened(s *Session) *ear {
	r.Helper()
	e := new(ear)
	if s.Open(&e.OpenRequest, e) == nil {
		r.Fatal("cannot be opened")
	}
	return e
}

// TestOpenRequestsHearOfTheEnd, however it comes.
func TestOpenRequestsHearOfTheEnd(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(r rig, s *Session, key Key){
		"signed out here":      func(r rig, s *Session, _ Key) { r.end(s, Ended, SignedOut) },
		"signed out elsewhere": func(r rig, _ *Session, key Key) { n := r.node(); n.end(n.lookup(key), Ended, SignedOut) },
		"ended by its id": func(r rig, s *Session, _ Key) {
			if ok, err := r.EndRecord(ctx, s.ID().String(), Revoked); !ok || err != nil {
				r.Errorf("%t, %v", ok, err)
			}
		},
		"ended by its id elsewhere": func(r rig, s *Session, _ Key) {
			if ok, err := r.node().EndRecord(ctx, s.ID().String(), Revoked); !ok || err != nil {
				r.Errorf("%t, %v", ok, err)
			}
		},
		"logged out by sub": func(r rig, _ *Session, _ Key) {
			if n, err := r.node().EndAll(ctx, SubjectIndex("https://idp.example", "sub-alice"), LoggedOut); n != 1 || err != nil {
				r.Errorf("%d, %v", n, err)
			}
		},
		"record removed": func(r rig, s *Session, _ Key) { _ = r.st.Delete(ctx, s.ID().String()) },
		"table closed":   func(r rig, _ *Session, _ Key) { r.Close() },
		"lifetime over":  func(rig, *Session, Key) { time.Sleep(30 * 24 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s, key := r.renewable(Terminal)
				e, closed := r.opened(s), r.opened(s)
				closed.Close()
				end(r, s, key)
				synctest.Wait()
				if e.last() != Ended {
					t.Errorf("heard %v", e.heard)
				}
				if len(closed.heard) != 0 {
					t.Errorf("heard %v once it was closed", closed.heard)
				}
				if late := new(ear); s.Open(&late.OpenRequest, late) != nil {
					t.Error("a request was opened after the end")
				}
				e.Close()
			})
		})
	}
}

// renewable is an active session whose tokens can be refreshed.
func (r rig) renewable(kind Kind) (*Session, Key) {
	r.Helper()
	s, key := r.pending(kind)
	if err := s.Activate(context.Background(), newIdentity()); err != nil {
		r.Fatal(err)
	}
	return s, key
}

// TestOpenRequestsChangeHands: another node's refresh ends nothing, and its
// sign-out after that is heard of.
func TestOpenRequestsChangeHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, key := r.renewable(Terminal)
		e := r.opened(s)
		n := r.node()
		there := n.lookup(key)
		for range 3 {
			id := *there.Now().Identity
			id.AccessToken += "x"
			if err := there.Renew(context.Background(), id.RefreshToken, id); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if e.last() != Active {
				t.Fatalf("heard %v", e.heard)
			}
		}
		if s.open.count.Load() != 0 || r.lookup(key).open.count.Load() != 1 {
			t.Error("it is not with the session's new object")
		}
		n.end(there, Ended, SignedOut)
		synctest.Wait()
		if e.last() != Ended {
			t.Errorf("heard %v", e.heard)
		}
		e.Close()
	})
}

// TestOpenRequestsWithoutAStore: one that nobody can vouch for ends after a
// while, and not at once.
func TestOpenRequestsWithoutAStore(t *testing.T) {
	for name, c := range map[string]struct {
		outage time.Duration
		want   State
	}{"short": {5 * time.Second, Active}, "long": {time.Minute, Ended}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s, _ := r.renewable(Terminal)
				e := r.opened(s)
				r.st.set(func(h *hooked) {
					h.onGet = func(store.Record, error) (store.Record, error) { return store.Record{}, errDown }
				})
				r.changed("", 0) // changes may have been missed
				time.Sleep(c.outage)
				r.st.set(func(h *hooked) { h.onGet = nil })
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if e.last() != c.want {
					t.Errorf("heard %v, want %s", e.heard, c.want)
				}
				e.Close()
			})
		})
	}
}

// TestOpenRequestIsUse: a session is not idle while one is open, and its idle
// time begins when that is closed.
func TestOpenRequestIsUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, _ := r.renewable(Terminal)
		e := r.opened(s)
		time.Sleep(20 * time.Hour)
		r.want(s, Active, "")
		e.Close()
		time.Sleep(12*time.Hour - time.Nanosecond)
		r.want(s, Active, "")
		time.Sleep(time.Nanosecond)
		r.want(s, Ended, IdleTooLong)
	})
}

// TestOpenBesideChanges looks for a request that nobody tells of the end.
func TestOpenBesideChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		for range 50 {
			r := newRig(t)
			_, key := r.renewable(Terminal)
			n := r.node()
			var ears [8]*ear
			var wg sync.WaitGroup
			for i := range ears {
				wg.Go(func() {
					s, err := r.Lookup(ctx, key, site)
					if e := new(ear); err == nil && s.Open(&e.OpenRequest, e) != nil {
						ears[i] = e
					}
				})
			}
			wg.Go(func() { r.changed("", 0) })
			wg.Go(func() { n.end(n.lookup(key), Ended, SignedOut) })
			wg.Wait()
			synctest.Wait()
			for _, e := range ears {
				if e != nil && e.last() != Ended {
					t.Fatalf("heard %v", e.heard)
				}
			}
		}
	})
}

// TestOvertakenSignIn: a logout before the sign-in's last write makes nobody
// active, and one beside it ends what it has found none of.
func TestOvertakenSignIn(t *testing.T) {
	ctx := context.Background()
	index := SubjectIndex("https://idp.example", "sub-alice")
	for name, c := range map[string]struct {
		beside bool
		active int // records that were active in between
	}{"before": {false, 0}, "beside": {true, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s, _ := r.pending(Terminal)
				logOut := func() {
					if n, err := r.EndAll(ctx, index, LoggedOut); n != 0 || err != nil {
						t.Errorf("%d, %v", n, err)
					}
				}
				active := 0
				r.st.set(func(h *hooked) {
					h.onPut = func(rec store.Record) error {
						if rec.State == string(Active) {
							active++
							logOut() // its record is not there yet
						}
						return nil
					}
				})
				if !c.beside {
					logOut()
				}
				if err := s.Activate(ctx, newIdentity()); !errors.Is(err, ErrOvertaken) {
					t.Error(err)
				}
				r.want(s, Ended, LoggedOut)
				if active != c.active {
					t.Errorf("%d active records", active)
				}
			})
		})
	}
}

// TestEndsWithoutTheKey: what is left of a record, and of a claimed one's heir.
func TestEndsWithoutTheKey(t *testing.T) {
	ctx := context.Background()
	index := SubjectIndex("https://idp.example", "sub-alice")
	t.Run("claimed, the new key not used yet", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s, old := r.renewable(Browser)
			heir := r.claim(s)
			if _, err := r.node().EndAll(ctx, index, LoggedOut); err != nil {
				t.Fatal(err)
			}
			r.want(r.lookup(heir), Ended, LoggedOut)
			if rec := r.record(old); len(rec.Body) != 0 {
				t.Error("the old record still holds the new key")
			}
		})
	})
	t.Run("claimed a moment ago, by a client that hangs up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s, _ := r.renewable(Browser)
			heir := r.claim(s)
			gone, hangUp := context.WithCancel(ctx)
			hangUp()
			if err := r.SignOut(gone, s); err != nil {
				t.Error(err)
			}
			r.want(r.lookup(heir), Ended, SignedOut)
		})
	})
	t.Run("claimed a moment ago, by the old id", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s, _ := r.renewable(Browser)
			heir := r.claim(s)
			for _, want := range []bool{true, false} {
				if ok, err := r.EndRecord(ctx, s.ID().String(), Revoked); ok != want || err != nil {
					t.Errorf("%t, %v", ok, err)
				}
				r.want(r.lookup(heir), Ended, Revoked)
			}
		})
	})
	betweenWrites := func(t *testing.T, claimedAfter time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s, _ := r.renewable(Browser)
			time.Sleep(claimedAfter)
			r.st.set(func(h *hooked) {
				h.onPut = func(rec store.Record) error {
					if rec.ID == s.ID().String() {
						return nil
					}
					h.set(func(h *hooked) { h.onPut = nil })
					_, err := r.EndAll(ctx, index, LoggedOut)
					return err
				}
			})
			r.want(r.lookup(r.claim(s)), Ended, LoggedOut)
		})
	}
	t.Run("claimed, and the new session over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s, _ := r.renewable(Browser)
			heir := r.claim(s)
			if ok, err := r.EndRecord(ctx, heir.ID().String(), Revoked); !ok || err != nil {
				t.Fatalf("%t, %v", ok, err)
			}
			if ok, err := r.EndRecord(ctx, s.ID().String(), Revoked); ok || err != nil {
				t.Errorf("the old one's id: %t, %v", ok, err)
			}
		})
	})
	t.Run("between the claim's two writes", func(t *testing.T) { betweenWrites(t, 0) })
	t.Run("between the writes of a late claim", func(t *testing.T) { betweenWrites(t, 2*markLife) })
	t.Run("another client's", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s, key := r.renewable(Terminal)
			other := NewTable(r.st, "https://idp.example another")
			defer other.Close()
			if n, err := other.EndAll(ctx, index, LoggedOut); n != 0 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			if ok, err := other.EndRecord(ctx, s.ID().String(), Revoked); ok || err != nil {
				t.Errorf("%t, %v", ok, err)
			}
			r.want(s, Active, "")
			r.want(r.node().lookup(key), Active, "") // loaded anew, after a restart
			sid := ProviderSessionIndex("https://idp.example", canary+"sid")
			if _, err := other.EndAll(ctx, sid, LoggedOut); err != nil {
				t.Error(err)
			}
			_, key = r.renewable(Terminal) // one person's session there is at several clients
			r.want(r.lookup(key), Active, "")
		})
	})
	t.Run("everybody", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			const n = listPage + 10
			for range n {
				r.pending(Terminal)
			}
			s, _ := r.renewable(Terminal)
			if ended, err := r.EndAll(ctx, r.Everybody(), Revoked); ended != n+1 || err != nil {
				t.Errorf("%d, %v", ended, err)
			}
			r.want(s, Ended, Revoked)
			if ended, err := r.EndAll(ctx, r.Everybody(), Revoked); ended != 0 || err != nil {
				t.Errorf("again: %d, %v", ended, err)
			}
		})
	})
	t.Run("loaded after a crash", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			_, key := r.renewable(Terminal)
			if err := r.st.Mark(ctx, r.markOf(ProviderSessionIndex("https://idp.example", canary+"sid"), LoggedOut), markLife); err != nil {
				t.Fatal(err)
			}
			r.want(r.node().lookup(key), Ended, LoggedOut)
		})
	})
	t.Run("not there", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			for _, id := range []string{"", "zz", NewKey().ID().String()} {
				if ok, err := r.EndRecord(ctx, id, Revoked); ok || err != nil {
					t.Errorf("%q: %t, %v", id, ok, err)
				}
			}
		})
	})
}
