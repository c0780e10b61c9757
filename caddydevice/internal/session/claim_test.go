// This file holds the tests of the claim.

package session

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

func (r rig) wantNoClaim(s *Session) {
	r.Helper()
	if s.Claimable(s.Now()) {
		r.Error("is claimable")
	}
	if key, err := r.Claim(context.Background(), s); err != ErrNotClaimable || key != (Key{}) {
		r.Errorf("claim: %v, want ErrNotClaimable", err)
	}
}

func TestClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, old := r.active(Browser)
		if !s.Claimable(s.Now()) {
			t.Fatal("an approved browser cannot claim")
		}
		waiting := s.Now().Next()
		key := r.claim(s)
		if _, ok := ParseKey(key.Reveal()); !ok || key == old {
			t.Fatal("the claim gives no new key")
		}
		<-waiting
		r.want(s, Superseded, Claimed)
		r.want(r.lookup(old), Superseded, Claimed)
		if s.Now().State == Active {
			t.Error("the old key still opens the session")
		}

		heir := r.lookup(key)
		r.want(heir, Active, "")
		id := heir.Now().Identity
		if id.Subject != "sub-alice" || id.AccessToken.Reveal() != canary+"access" || id.Claims["name"] != canary+"claim" {
			t.Errorf("the new session is somebody else: %+v", id)
		}
		if heir.Kind() != Browser || !heir.Created().Equal(s.Created()) || !heir.Now().Expires.Equal(s.Deadline()) || !heir.Now().Claimed() {
			t.Error("the new session is not as the old one was")
		}
		r.wantNoClaim(heir)
		r.want(r.lookup(old), Superseded, Claimed)
		r.wantNoClaim(r.lookup(old))
	})
}

func TestOnlyApprovedBrowsersClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, _ := r.active(Terminal)
		r.wantNoClaim(s)
		r.want(s, Active, "")
		s, _ = r.pending(Browser)
		r.wantNoClaim(s)
		for _, end := range []State{Denied, Expired, Failed, Ended} {
			s, _ = r.pending(Browser)
			r.end(s, end, Declined)
			r.wantNoClaim(s)
		}
		s, _ = r.active(Browser)
		r.end(s, Ended, SignedOut)
		r.wantNoClaim(s)
		s, _ = r.active(Browser)
		time.Sleep(time.Hour)
		r.wantNoClaim(s) // its tokens have run out
	})
}

// TestClaimIsRepeated: an answer may be lost, so within a minute the old key
// gets the same new key again, here and elsewhere.
func TestClaimIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, old := r.active(Browser)
		key := r.claim(s)
		for range 3 {
			time.Sleep(15 * time.Second)
			if r.claim(r.lookup(old)) != key {
				t.Error("a second claim gives another key")
			}
			n := r.node()
			if n.claim(n.lookup(old)) != key {
				t.Error("a claim on another node gives another key")
			}
		}
		time.Sleep(15*time.Second - time.Nanosecond)
		if r.claim(r.lookup(old)) != key {
			t.Error("a claim within the minute gives another key")
		}
		time.Sleep(time.Nanosecond)
		r.wantNoClaim(r.lookup(old))
		n := r.node()
		n.wantNoClaim(n.lookup(old))
		r.Sweep(context.Background())
		r.wantNoClaim(r.lookup(old))
		r.want(r.lookup(old), Superseded, Claimed)
		r.want(r.lookup(key), Active, "")
	})
}

func TestClaimIsNotRepeatedOnceTheKeyIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, old := r.active(Browser)
		n := r.node()
		n.lookup(old)
		key := r.claim(s)
		n.lookup(key) // used on the other node
		r.wantNoClaim(r.lookup(old))
		n.wantNoClaim(n.lookup(old))
		r.end(r.lookup(key), Ended, SignedOut)
		r.wantNoClaim(r.lookup(old))
		r.want(r.lookup(key), Ended, SignedOut)
	})
}

func TestParallelClaimsGiveOneKey(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s, old := r.active(Browser)
			n := r.node()
			there := n.lookup(old)
			// a sleep would not do: who waits for a mutex keeps a bubble's time from passing
			r.st.set(func(h *hooked) {
				h.onPut = func(store.Record) error {
					for range 100 {
						runtime.Gosched() // so that all claims are under way at once
					}
					return nil
				}
			})
			keys := make([]Key, 16)
			var wg sync.WaitGroup
			for i := range keys {
				wg.Go(func() {
					tab, session := r.Table, s
					if i%2 == 1 {
						tab, session = n.Table, there
					}
					var err error
					if keys[i], err = tab.Claim(context.Background(), session); err != nil {
						t.Errorf("claim %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			for _, key := range keys {
				if key != keys[0] {
					t.Fatal("two claims gave two keys")
				}
			}
			r.want(r.lookup(keys[0]), Active, "")
			if ids, err := r.st.Find(context.Background(), store.NewIndex("sub", "https://idp.example", "sub-alice")); err != nil || len(ids) != 1 {
				t.Errorf("%d sessions of this person, want 1", len(ids))
			}
		})
	}
}

// TestCrashWithinTheClaim: the old record is superseded, the new one was never
// written. Whoever comes next makes it.
func TestCrashWithinTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, old := r.active(Browser)
		r.st.set(func(h *hooked) {
			h.onPut = func(rec store.Record) error {
				if rec.Version == 1 {
					return errDown
				}
				return nil
			}
		})
		if _, err := r.Claim(context.Background(), s); !errors.Is(err, errDown) {
			t.Fatalf("claim: %v", err)
		}
		r.want(r.node().lookup(old), Superseded, Claimed)
		r.st.set(func(h *hooked) { h.onPut = nil })
		n := r.node() // the process that comes after
		key := n.claim(n.lookup(old))
		n.want(n.lookup(key), Active, "")
		n.want(n.lookup(old), Superseded, Claimed)
	})
}

// TestClaimNotAcknowledged: the first write happened, but nobody said so.
func TestClaimNotAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, old := r.active(Browser)
		r.st.set(func(h *hooked) { h.answer = func(error) error { return errDown } })
		if _, err := r.Claim(context.Background(), s); !errors.Is(err, errDown) {
			t.Fatalf("claim: %v", err)
		}
		r.st.set(func(h *hooked) { h.answer = nil })
		key := r.claim(s)
		if again := r.claim(r.lookup(old)); again != key {
			t.Error("two keys")
		}
		r.want(r.lookup(key), Active, "")
	})
}

// TestUseWaitsForTheOldRecordsEnd: while the old record cannot be retired, the
// new key does not open either: nobody may hold two.
func TestUseWaitsForTheOldRecordsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, old := r.active(Browser)
		key := r.claim(s)
		r.st.set(func(h *hooked) { h.onPut = func(store.Record) error { return errDown } })
		if _, err := r.Lookup(context.Background(), key, site); !errors.Is(err, errDown) {
			t.Errorf("look-up: %v", err)
		}
		r.st.set(func(h *hooked) { h.onPut = nil })
		r.want(r.lookup(key), Active, "")
		if err := r.st.Delete(context.Background(), old.ID().String()); err != nil {
			t.Fatal(err)
		}
		n := r.node() // the old record is long gone
		n.want(n.lookup(key), Active, "")
	})
}

// TestRetireTouchesNothingElse: a store that answers with another record must
// not make us end that.
func TestRetireTouchesNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, old := r.active(Browser)
		key := r.claim(s)
		_, bystander := r.active(Terminal)
		wrong := r.record(bystander)
		r.st.set(func(h *hooked) {
			h.onGet = func(rec store.Record, err error) (store.Record, error) {
				if rec.ID == old.ID().String() {
					return wrong, nil
				}
				return rec, err
			}
		})
		_, _ = r.Lookup(context.Background(), key, site)
		if rec := r.record(bystander); len(rec.Body) == 0 || rec.Version != wrong.Version {
			t.Error("another session's record was changed")
		}
	})
}

func TestSupersededRecordHoldsNoKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, old := r.active(Browser)
		key := r.claim(s)
		for _, rec := range []store.Record{r.record(old), r.record(key)} {
			for _, k := range []Key{old, key} {
				if strings.Contains(string(rec.Body), k.Reveal()[4:20]) {
					t.Error("a record holds a key in the clear")
				}
			}
		}
	})
}

// TestSignOut: whoever signs out with the old key while the answer with the
// new one may be lost signs out of both.
func TestSignOut(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		prepare func(r rig, s *Session) Key
		heir    bool
	}{
		"active":            {func(rig, *Session) Key { return Key{} }, false},
		"claimed":           {func(r rig, s *Session) Key { return r.claim(s) }, true},
		"claimed, used":     {func(r rig, s *Session) Key { k := r.claim(s); r.lookup(k); return k }, false},
		"claimed elsewhere": {func(r rig, s *Session) Key { n := r.node(); return n.claim(n.lookup(s.key)) }, true},
		"claimed, the new record was not written": {func(r rig, s *Session) Key {
			r.st.set(func(h *hooked) {
				h.onPut = func(rec store.Record) error {
					if rec.Version == 1 {
						return errDown
					}
					return nil
				}
			})
			_, _ = r.Claim(ctx, s)
			r.st.set(func(h *hooked) { h.onPut = nil })
			return s.now.Load().successor
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s, old := r.active(Browser)
				key := c.prepare(r, s)
				if err := r.SignOut(ctx, r.lookup(old)); err != nil {
					t.Fatal(err)
				}
				if r.lookup(old).Now().State == Active {
					t.Error("the old key is still signed in")
				}
				if key != (Key{}) && c.heir {
					r.want(r.lookup(key), Ended, SignedOut)
					n := r.node()
					n.want(n.lookup(key), Ended, SignedOut)
				}
				if key != (Key{}) && !c.heir {
					r.want(r.lookup(key), Active, "") // a key in use speaks for itself
				}
				if s, err := r.Lookup(ctx, old, site); err == nil {
					if again, err := r.Claim(ctx, s); err == nil {
						if h, err := r.Lookup(ctx, again, site); err == nil && h.Now().State == Active {
							t.Error("a later claim undoes the sign-out")
						}
					}
				}
			})
		})
	}
}
