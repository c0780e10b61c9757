// This file holds the tests of sessions that need no refresh: those that are
// over, nobody's yet, or unused; and of what becomes of their tokens.

package keeper

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// TestSignOutDuringARefresh: the tokens that come too late are taken back.
func TestSignOutDuringARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, func(p *idptest.Provider, _ int) idptest.Reply {
			return delayed(p.Tokens(func(a map[string]any) { a["refresh_token"] = "refresh-too-late" }), 20*time.Second)
		})
		time.Sleep(91 * time.Second) // under way
		if err := r.tab.SignOut(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		r.want(s, session.Ended, session.SignedOut)
		if !slices.Contains(r.revokedTokens(), "refresh-too-late") {
			t.Error("the tokens that came too late were not revoked")
		}
	})
}

// TestUnclaimedIsNotRefreshed: the claim makes another session with the tokens,
// which must not change meanwhile; that one is refreshed.
func TestUnclaimedIsNotRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := idptest.New(issuer)
		p.Poll = func(int, string) idptest.Reply { return p.Tokens(lasting) }
		r := newNode(t, p, &flaky{Store: store.NewMemory()})
		s, _ := r.signInAs(session.Browser, 5*time.Second, 10*time.Minute)
		<-s.Now().Next()
		time.Sleep(10 * tokenLife)
		synctest.Wait()
		if n := len(r.refreshes()); n != 0 {
			t.Fatalf("%d refreshes before the claim", n)
		}
		key, err := r.tab.Claim(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		heir := r.lookup(key)
		time.Sleep(time.Second)
		synctest.Wait()
		r.want(heir, session.Active, "")
		if heir.Now().Stale() || len(r.refreshes()) != 1 {
			t.Errorf("after %d refreshes", len(r.refreshes()))
		}
	})
}

// TestIdleIsNotRefreshed: nobody uses it any more.
func TestIdleIsNotRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, nil)
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		r.want(s, session.Ended, session.IdleTooLong)
		n := len(r.refreshes())
		time.Sleep(time.Hour)
		if got := len(r.refreshes()); got != n {
			t.Errorf("%d refreshes after its end", got-n)
		}
		if len(r.revokedTokens()) != 2 {
			t.Errorf("%d tokens were revoked at its end, want both", len(r.revokedTokens()))
		}
	})
}

// TestLogoutOvertakesTheSignIn: it comes between the tokens and the record.
func TestLogoutOvertakesTheSignIn(t *testing.T) {
	for name, index := range map[string]func(*rig) store.Index{
		"by sid":    func(*rig) store.Index { return session.ProviderSessionIndex(issuer, "sid-1") },
		"by sub":    func(*rig) store.Index { return session.SubjectIndex(issuer, "sub-alice") },
		"of anyone": func(r *rig) store.Index { return r.tab.Everybody() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := idptest.New(issuer)
				p.Claims = map[string]any{"sid": "sid-1"}
				p.Poll = func(int, string) idptest.Reply { return delayed(p.Tokens(lasting), 4*time.Second) }
				r := newNode(t, p, &flaky{Store: store.NewMemory()})
				s, _ := r.watched(5*time.Second, 10*time.Minute)
				time.Sleep(8 * time.Second) // the tokens are on their way
				if _, err := r.tab.EndAll(context.Background(), index(r), session.LoggedOut); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if got := s.Now(); got.State != session.Ended {
					t.Errorf("session is %s %s", got.State, got.Reason)
				}
				// a sign-in from now on is another one, unless by the same sid
				p.Claims = map[string]any{"sid": "sid-2"}
				s, _ = r.watched(5*time.Second, 10*time.Minute)
				time.Sleep(time.Minute)
				r.want(s, session.Active, "")
			})
		})
	}
}

// TestRefreshIsNoUse: a session whose client is gone runs idle, however many
// nodes still hold its key and take turns in refreshing it.
func TestRefreshIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, key := renewing(t, nil)
		other := newNode(t, r.idp, r.st)
		other.lookup(key).Use()
		time.Sleep(12*time.Hour + 12*time.Hour/10 + 2*time.Minute)
		synctest.Wait()
		r.want(r.lookup(key), session.Ended, session.IdleTooLong)
	})
}

// TestRevocationIsTriedAgain, a few times.
func TestRevocationIsTriedAgain(t *testing.T) {
	for name, c := range map[string]struct{ failing, calls int }{"twice": {2, 4}, "for ever": {1000, 7}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s, _ := renewing(t, nil)
				var n atomic.Int32
				r.idp.Answer("/revoke", func() (idptest.Reply, bool) {
					return idptest.Reply{Status: 503}, int(n.Add(1)) <= c.failing
				})
				if err := r.tab.SignOut(context.Background(), s); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				if got := len(r.revokedTokens()); got != c.calls {
					t.Errorf("%d requests, want %d", got, c.calls)
				}
			})
		})
	}
}

// TestClaimedAtOnceIsNotRevoked: a browser may claim its session the moment that
// it is active, before the keeper has put the sign-in away: its tokens are in
// use then.
func TestClaimedAtOnceIsNotRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := idptest.New(issuer)
		p.Poll = func(int, string) idptest.Reply { return p.Tokens(lasting) }
		st := &flaky{Store: store.NewMemory()}
		r := newNode(t, p, st)
		s, _ := r.signInAs(session.Browser, 5*time.Second, 10*time.Minute)
		claimed := make(chan session.Key, 1)
		st.onLookingForLogouts(func() {
			if s.Now().State != session.Active {
				return
			}
			key, err := r.tab.Claim(context.Background(), s)
			if err != nil {
				t.Error(err)
			}
			claimed <- key
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		st.onLookingForLogouts(nil)
		heir := r.lookup(<-claimed)
		r.want(heir, session.Active, "")
		if got := r.revokedTokens(); got != nil {
			t.Errorf("revoked: %v", got)
		}
	})
}

// TestSignedOutAtOnceIsRevokedOnce: a session that is over before the keeper has
// put its sign-in away is one like any other.
func TestSignedOutAtOnceIsRevokedOnce(t *testing.T) {
	for name, end := range map[string]func(*rig, *session.Session) error{
		"signed out": func(r *rig, s *session.Session) error { return r.tab.SignOut(context.Background(), s) },
		"logged out": func(r *rig, _ *session.Session) error {
			return r.st.Mark(context.Background(), store.NewIndex("end", issuer+" gate", string(session.SubjectIndex(issuer, "sub-alice")), string(session.LoggedOut)), time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := idptest.New(issuer)
				p.Poll = func(int, string) idptest.Reply { return p.Tokens(lasting) }
				st := &flaky{Store: store.NewMemory()}
				r := newNode(t, p, st)
				s, _ := r.signIn(5*time.Second, 10*time.Minute)
				st.onLookingForLogouts(func() {
					if s.Now().State != session.Active {
						return
					}
					if err := end(r, s); err != nil {
						t.Error(err)
					}
				})
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := s.Now().State; got != session.Ended {
					t.Errorf("session is %s", got)
				}
				if got := r.revokedTokens(); len(got) != 2 || got[0] == got[1] {
					t.Errorf("revoked: %v", got)
				}
			})
		})
	}
}

// TestTokensOfNobodyAreRevoked: those of a wrong account, and those that cannot
// be trusted.
func TestTokensOfNobodyAreRevoked(t *testing.T) {
	wrong := func(*idp.Identity) error { return errors.New("another account") }
	for name, c := range map[string]struct {
		accept Accept
		change func(map[string]any)
		state  session.State
	}{
		"wrong account": {wrong, func(map[string]any) {}, session.Denied},
		"forged":        {nil, func(a map[string]any) { a["id_token"] = a["id_token"].(string) + "x" }, session.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := idptest.New(issuer)
				p.Poll = script(p.Tokens(func(a map[string]any) {
					a["refresh_token"], a["access_token"] = "refresh-of-nobody", "access-of-nobody"
					c.change(a)
				}))
				r := newNode(t, p, &flaky{Store: store.NewMemory()})
				s, _ := r.signIn(5*time.Second, 10*time.Minute)
				r.Seen(s, c.accept)
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := s.Now().State; got != c.state {
					t.Errorf("session is %s", got)
				}
				if got := r.revokedTokens(); !slices.Equal(got, []string{"refresh-of-nobody", "access-of-nobody"}) {
					t.Errorf("revoked: %v", got)
				}
			})
		})
	}
}

// TestAway: a sign-in knows whether its provider answers.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, script(idptest.Pending(), idptest.Reply{Status: 502}, idptest.Pending()))
		s, _ := r.watched(5*time.Second, 10*time.Minute)
		for _, want := range []bool{false, true, false} {
			n := r.polls()
			for r.polls() == n {
				time.Sleep(time.Second)
			}
			synctest.Wait()
			if s.IsAway() != want {
				t.Errorf("after poll %d it is away: %t", n+1, s.IsAway())
			}
		}
	})
}
