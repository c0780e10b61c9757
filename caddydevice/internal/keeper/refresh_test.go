// This file holds the tests of refreshes: when they are made, and what each
// answer comes to.

package keeper

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// tokenLife is that of the tokens in these tests.
const tokenLife = 100 * time.Second

// lasting changes a token answer to that life.
func lasting(answer map[string]any) { answer["expires_in"] = int(tokenLife / time.Second) }

// renewing is a node with a session that was signed in this moment.
func renewing(t *testing.T, refresh func(p *idptest.Provider, n int) idptest.Reply) (*rig, *session.Session, session.Key) {
	t.Helper()
	p := idptest.New(issuer)
	p.Poll = func(int, string) idptest.Reply { return p.Tokens(lasting) }
	p.Refresh = func(n int, _ string) idptest.Reply {
		if refresh == nil {
			return p.Tokens(lasting)
		}
		return refresh(p, n)
	}
	r := newNode(t, p, &flaky{Store: store.NewMemory()})
	s, key := r.watched(5*time.Second, 10*time.Minute)
	<-s.Now().Next()
	synctest.Wait()
	r.want(s, session.Active, "")
	return r, s, key
}

func (r *rig) refreshes() []idptest.Call {
	return slices.DeleteFunc(r.idp.Calls("/token"), func(c idptest.Call) bool { return c.Form.Get("grant_type") != "refresh_token" })
}

// revokedTokens are those that were revoked.
func (r *rig) revokedTokens() []string {
	var tokens []string
	for _, c := range r.idp.Calls("/revoke") {
		tokens = append(tokens, c.Form.Get("token"))
	}
	return tokens
}

func TestRefreshInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, key := renewing(t, nil)
		last, sent := s.Now().Identity.TokensSince, map[string]bool{}
		time.Sleep(20 * tokenLife)
		synctest.Wait()
		calls := r.refreshes()
		if len(calls) < 20 {
			t.Fatalf("%d refreshes", len(calls))
		}
		for _, c := range calls {
			if gap := c.Start.Sub(last); gap < 80*time.Second || gap > 90*time.Second {
				t.Errorf("a refresh %v after the last tokens, which live %v", gap, tokenLife)
			}
			token := c.Form.Get("refresh_token")
			if sent[token] || c.Form.Has("scope") {
				t.Errorf("sent %v", c.Form)
			}
			last, sent[token] = c.End, true
		}
		id := s.Now().Identity
		if !id.TokensSince.Equal(last) || id.TokensUntil.Sub(last) != tokenLife || sent[id.RefreshToken.Reveal()] || s.Now().Presented != 0 {
			t.Errorf("tokens from %v to %v, presented %d times", id.TokensSince, id.TokensUntil, s.Now().Presented)
		}
		r.want(s, session.Active, "")
		n := newNode(t, r.idp, r.st)
		n.want(n.lookup(key), session.Active, "")
	})
}

// TestRefreshesSpread: sessions that began in one moment do not come in one.
func TestRefreshesSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := renewing(t, nil)
		for range 99 {
			r.watched(5*time.Second, 10*time.Minute)
		}
		time.Sleep(tokenLife)
		synctest.Wait()
		inSecond := map[int64]int{}
		for _, c := range r.refreshes() {
			inSecond[c.Start.Unix()]++
		}
		for at, n := range inSecond {
			if n > 40 {
				t.Errorf("%d of 100 in the second %d", n, at)
			}
		}
	})
}

func errorAnd(status int, word string) func(*idptest.Provider, int) idptest.Reply {
	return func(*idptest.Provider, int) idptest.Reply { return idptest.Error(status, word) }
}

// TestRefreshRefused: what ends a session, and that the token is not sent again.
func TestRefreshRefused(t *testing.T) {
	otherSub := func(p *idptest.Provider, _ int) idptest.Reply {
		return p.Tokens(func(a map[string]any) {
			a["id_token"] = p.IDToken(func(c map[string]any) { c["sub"] = "sub-bob" })
			a["refresh_token"], a["access_token"] = "refresh-of-bob", "access-of-bob"
		})
	}
	forged := func(p *idptest.Provider, _ int) idptest.Reply {
		return p.Tokens(func(a map[string]any) { a["id_token"] = a["id_token"].(string) + "x" })
	}
	for name, c := range map[string]struct {
		answer  func(*idptest.Provider, int) idptest.Reply
		reason  session.Reason
		outcome string
		revoked int
	}{
		"invalid_grant":       {errorAnd(400, "invalid_grant"), session.Refused, RefreshRefused, 0},
		"invalid_client":      {errorAnd(401, "invalid_client"), session.Refused, RefreshRefused, 0},
		"unauthorized_client": {errorAnd(400, "unauthorized_client"), session.Refused, RefreshRefused, 0},
		"access_denied":       {errorAnd(403, "access_denied"), session.Refused, RefreshRefused, 0},
		"somebody else":       {otherSub, session.OtherIdentity, RefreshOther, 4},
		"forged ID token":     {forged, session.BadTokens, RefreshUntrusted, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s, key := renewing(t, c.answer)
				was := s.Now().Identity
				time.Sleep(tokenLife - time.Nanosecond)
				synctest.Wait()
				r.want(s, session.Ended, c.reason)
				r.wantRefreshed(c.outcome)
				if n := len(r.revokedTokens()); n != c.revoked {
					t.Errorf("%d tokens were revoked, want %d", n, c.revoked)
				}
				if c.revoked > 0 && !slices.Contains(r.revokedTokens(), was.RefreshToken.Reveal()) {
					t.Error("the old refresh token was not revoked")
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if n := len(r.refreshes()); n != 1 {
					t.Errorf("%d refreshes", n)
				}
				n := newNode(t, r.idp, r.st)
				n.want(n.lookup(key), session.Ended, c.reason)
			})
		})
	}
}

// wantRefreshed expects that the last try came to this.
func (r *rig) wantRefreshed(outcome string) {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.tries); n == 0 || r.tries[n-1].Outcome != outcome {
		r.Errorf("tries to refresh: %+v, want the last to be %s", r.tries, outcome)
	}
}

// TestRefreshThroughAnOutage: whatever says nothing about the session leaves it
// as it is, past the tokens' life too, and it goes on when that is over.
func TestRefreshThroughAnOutage(t *testing.T) {
	reply := func(r idptest.Reply) func(*idptest.Provider, int) idptest.Reply {
		return func(*idptest.Provider, int) idptest.Reply { return r }
	}
	for name, answer := range map[string]func(*idptest.Provider, int) idptest.Reply{
		"500":              errorAnd(500, "server_error"),
		"bad gateway":      reply(idptest.Reply{Status: 502, Body: "<html>"}),
		"too many":         reply(idptest.Reply{Status: 429, Body: "slow down"}),
		"forbidden":        reply(idptest.Reply{Status: 403, Body: "WAF"}),
		"a word of no use": errorAnd(400, "invalid_scope"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var over atomic.Bool
				r, s, _ := renewing(t, func(p *idptest.Provider, n int) idptest.Reply {
					if over.Load() {
						return p.Tokens(lasting)
					}
					return answer(p, n)
				})
				token := s.Now().Identity.RefreshToken
				time.Sleep(tokenLife - time.Nanosecond)
				r.want(s, session.Active, "")
				if s.Now().Stale() {
					t.Error("stale before its tokens have run out")
				}
				time.Sleep(10 * time.Minute)
				r.want(s, session.Active, "")
				if !s.Now().Stale() {
					t.Error("not stale once its tokens have run out")
				}
				for i, gap := range r.refreshGaps() {
					if want := min(2*time.Second<<i, time.Minute); gap < want || gap > want+want/2 {
						t.Errorf("gap %d is %v, want %v and a little", i, gap, want)
					}
				}
				if done, after := r.Renew(s); (done == nil) != (after > 0) || after > 80*time.Second {
					t.Errorf("come back after %v", after)
				}
				over.Store(true)
				time.Sleep(90 * time.Second)
				synctest.Wait()
				r.want(s, session.Active, "")
				if s.Now().Stale() || s.Now().Identity.RefreshToken == token {
					t.Error("not refreshed once the outage was over")
				}
			})
		})
	}
}

// TestRefreshedTokensThatHaveRunOut: where a clock is wrong, the identity
// provider is not asked every second.
func TestRefreshedTokensThatHaveRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, func(p *idptest.Provider, _ int) idptest.Reply {
			return p.Tokens(func(a map[string]any) {
				payload := fmt.Sprintf(`{"exp":%d}`, time.Now().Add(-time.Minute).Unix())
				a["access_token"] = "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".x"
			})
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		r.want(s, session.Active, "")
		r.wantRefreshed(RefreshFailed)
		if n := len(r.refreshes()); n > 70 {
			t.Errorf("%d refreshes in an hour", n)
		}
	})
}

// refreshGaps are the times between the refreshes.
func (r *rig) refreshGaps() []time.Duration {
	calls := r.refreshes()
	var gaps []time.Duration
	for i := 1; i < len(calls); i++ {
		gaps = append(gaps, calls[i].Start.Sub(calls[i-1].End))
	}
	return gaps
}

// TestRefreshUnreachable: a request that never left counts for nothing, however
// often it is made.
func TestRefreshUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, key := renewing(t, nil)
		r.idp.Unreachable("/token", errors.New("connection refused"))
		time.Sleep(time.Hour)
		r.want(s, session.Active, "")
		if rec := s.Now(); rec.Presented != 0 {
			t.Errorf("presented %d times", rec.Presented)
		}
		r.stop() // and a restart meanwhile
		n := newNode(t, r.idp, r.st)
		s = n.lookup(key)
		time.Sleep(time.Hour)
		n.idp.Unreachable("/token", nil)
		time.Sleep(79 * time.Second) // the widest gap, but no second refresh
		synctest.Wait()
		n.want(n.lookup(key), session.Active, "")
		if n.lookup(key).Now().Stale() || len(n.refreshes()) != 1 {
			t.Errorf("after %d refreshes: %+v", len(n.refreshes()), s.Now())
		}
	})
}

// TestKeptRefreshToken: an answer without one leaves the old one in place, and
// one without an ID token who is signed in.
func TestKeptRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, func(p *idptest.Provider, _ int) idptest.Reply {
			return p.Tokens(func(a map[string]any) {
				lasting(a)
				delete(a, "refresh_token")
				delete(a, "id_token")
			})
		})
		was := s.Now().Identity
		time.Sleep(5 * tokenLife)
		synctest.Wait()
		now := s.Now().Identity
		if now.RefreshToken != was.RefreshToken || now.IDToken != was.IDToken || now.AccessToken == was.AccessToken || now.Claims["preferred_username"] != "alice" {
			t.Errorf("%+v", now)
		}
		if n := len(r.refreshes()); n < 5 {
			t.Errorf("%d refreshes", n)
		}
	})
}

// TestRoleTakenAway: the claims are those of the newest ID token.
func TestRoleTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, _ := renewing(t, func(p *idptest.Provider, _ int) idptest.Reply {
			return p.Tokens(func(a map[string]any) {
				a["id_token"] = p.IDToken(func(c map[string]any) { c["groups"] = []string{"staff"} })
			})
		})
		since := s.Now().Identity.Since
		time.Sleep(tokenLife)
		synctest.Wait()
		id := s.Now().Identity
		if groups, _ := id.Claims["groups"].([]any); len(groups) != 1 || !id.Since.Equal(since) {
			t.Errorf("groups %v, since %v", id.Claims["groups"], id.Since)
		}
	})
}
