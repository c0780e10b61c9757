// This file holds the tests of refreshes that requests ask for.

package keeper

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// TestStaleByAnotherClock: a node whose clock is ahead has written when the
// tokens came, the identity provider's clock says when they run out.
func TestStaleByAnotherClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, nil)
		id := *s.Now().Identity
		id.TokensSince, id.TokensUntil = time.Now().Add(10*time.Minute), time.Now().Add(-time.Second)
		if err := s.Renew(context.Background(), id.RefreshToken, id); err != nil {
			t.Fatal(err)
		}
		tries := 0
		for until := time.Now().Add(time.Minute); s.Now().Stale() && time.Now().Before(until) && tries < 100; tries++ {
			done, after := r.Renew(s)
			if done == nil {
				time.Sleep(after)
				continue
			}
			<-done
		}
		r.want(s, session.Active, "")
		if s.Now().Stale() || tries > 2 || len(r.refreshes()) != 1 {
			t.Errorf("stale: %t, %d tries, %d refreshes", s.Now().Stale(), tries, len(r.refreshes()))
		}
	})
}

// TestRefreshGap: tokens that live for a moment are refreshed once a second.
func TestRefreshGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, func(p *idptest.Provider, _ int) idptest.Reply {
			return p.Tokens(func(answer map[string]any) { answer["expires_in"] = 0.2 })
		})
		time.Sleep(tokenLife + time.Minute)
		synctest.Wait()
		r.want(s, session.Active, "")
		for _, gap := range r.refreshGaps() {
			if gap < leastGap {
				t.Fatalf("a refresh %v after the last", gap)
			}
		}
	})
}

// TestRevocationsThatHang keep nobody from being refreshed.
func TestRevocationsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, nil)
		r.idp.Always("/revoke", idptest.Reply{Status: 200, Delay: time.Hour})
		time.Sleep(refreshAt(s.Now().Identity).Sub(time.Now()) - time.Second)
		for range mostRevoking {
			r.revokeTokens("refresh-of-another", "access-of-another")
		}
		time.Sleep(tokenLife / 5)
		synctest.Wait()
		r.want(s, session.Active, "")
		if s.Now().Stale() || len(r.refreshes()) != 1 {
			t.Errorf("stale: %t, %d refreshes", s.Now().Stale(), len(r.refreshes()))
		}
	})
}
