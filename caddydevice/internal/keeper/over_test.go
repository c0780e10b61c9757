// This file holds the tests of sessions that need no refresh: those that are
// over, nobody's yet, or unused.

package keeper

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

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
