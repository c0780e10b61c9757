// This file holds the tests of refreshes that requests ask for.

package keeper

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
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

// TestRefreshedClaims: what tells who signed in tells of each refresh as well,
// also where no ID token comes with it. A role that was taken away there is gone
// here, be it an empty list or no claim at all.
func TestRefreshedClaims(t *testing.T) {
	says := func(claims map[string]any) idptest.Reply { return idptest.JSON(200, claims) }
	member := map[string]any{"sub": "sub-alice", "groups": []string{"admin"}}
	for _, c := range []struct {
		name, identity string
		now            map[string]any
	}{
		{"access token, an empty list", "access_token", map[string]any{"sub": "sub-alice", "groups": []string{}}},
		{"access token, no claim", "access_token", map[string]any{"sub": "sub-alice"}},
		{"userinfo, an empty list", "userinfo", map[string]any{"sub": "sub-alice", "groups": []string{}}},
		{"userinfo, no claim", "userinfo", map[string]any{"sub": "sub-alice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := idptest.New(issuer)
				p.Claims = map[string]any{"level": 7}
				p.Metadata = func(md map[string]any) { md["userinfo_endpoint"] = issuer + "/userinfo" }
				tokens := func(claims map[string]any, idToken bool) idptest.Reply {
					p.Always("/userinfo", says(claims))
					return p.Tokens(func(answer map[string]any) {
						lasting(answer)
						access := map[string]any{"iss": issuer, "azp": "gate", "exp": time.Now().Add(tokenLife).Unix()}
						maps.Copy(access, claims)
						payload, _ := json.Marshal(access)
						answer["access_token"] = p.Sign(payload, nil)
						answer["id_token"] = p.IDToken(func(claims map[string]any) { delete(claims, "groups") })
						if !idToken {
							delete(answer, "id_token")
						}
					})
				}
				p.Poll = func(int, string) idptest.Reply { return tokens(member, c.identity == "userinfo") }
				p.Refresh = func(int, string) idptest.Reply { return tokens(c.now, false) }
				r := newNode(t, p, &flaky{Store: store.NewMemory()})
				client, err := idp.New(idp.Config{Issuer: issuer, ClientID: "gate", Identity: c.identity, Transport: p})
				if err != nil {
					t.Fatal(err)
				}
				r.Use(client)
				s, _ := r.watched(5*time.Second, 10*time.Minute)
				<-s.Now().Next()
				synctest.Wait()
				r.want(s, session.Active, "")
				if groups := fmt.Sprint(s.Now().Identity.Claims["groups"]); groups != "[admin]" {
					t.Fatalf("signed in with groups %s", groups)
				}
				time.Sleep(tokenLife)
				synctest.Wait()
				r.want(s, session.Active, "")
				id := s.Now().Identity
				if groups, _ := id.Claims["groups"].([]any); len(r.refreshes()) == 0 || len(groups) != 0 {
					t.Errorf("%d refreshes, and groups are %v", len(r.refreshes()), groups)
				}
				// what only the ID token says stays
				if kept := id.Claims["level"] == json.Number("7"); id.Claims["iss"] != issuer || kept != (c.identity == "userinfo") {
					t.Errorf("claims %v", id.Claims)
				}
			})
		})
	}
}
