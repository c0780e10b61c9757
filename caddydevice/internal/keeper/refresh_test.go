// This file holds the tests of refreshes: when they are made, what each answer
// comes to, and that no token is lost or sent too often.

package keeper

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
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

// revoked are the tokens that were revoked.
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

// TestLostAnswer: the token is sent once more, and no third time.
func TestLostAnswer(t *testing.T) {
	broken := idptest.Reply{Err: errors.New("connection reset by peer")}
	slow := idptest.Reply{Status: 200, Delay: 2 * time.Minute}
	html := idptest.Reply{Status: 200, Body: "<html>"}
	for name, c := range map[string]struct {
		lost   idptest.Reply
		second func(*idptest.Provider) idptest.Reply
		calls  int
		state  session.State
		reason session.Reason
	}{
		"reset, then tokens": {broken, func(p *idptest.Provider) idptest.Reply { return p.Tokens(lasting) }, 2, session.Active, ""},
		// the one that was given up on is not in the record
		"timeout, then tokens": {slow, func(p *idptest.Provider) idptest.Reply { return p.Tokens(lasting) }, 1, session.Active, ""},
		"200 that says nothing": {
			html, func(p *idptest.Provider) idptest.Reply { return p.Tokens(lasting) }, 2, session.Active, "",
		},
		"then refused": {
			broken, func(*idptest.Provider) idptest.Reply { return idptest.Error(400, "invalid_grant") }, 2, session.Ended, session.RefreshLost,
		},
		"then lost too": {broken, func(*idptest.Provider) idptest.Reply { return broken }, 2, session.Ended, session.RefreshLost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s, _ := renewing(t, func(p *idptest.Provider, n int) idptest.Reply {
					switch n {
					case 1:
						return c.lost
					case 2:
						return c.second(p)
					}
					return idptest.Error(500, "server_error")
				})
				time.Sleep(tokenLife + time.Minute) // no second refresh by then
				synctest.Wait()
				r.want(s, c.state, c.reason)
				if n := len(r.refreshes()); n != c.calls {
					t.Errorf("%d refreshes, want %d", n, c.calls)
				}
				for _, call := range r.refreshes()[1:] {
					if call.Form.Get("refresh_token") != r.refreshes()[0].Form.Get("refresh_token") {
						t.Error("the retry was with another token")
					}
				}
				if c.reason != "" {
					r.wantRefreshed(RefreshLost)
				}
			})
		})
	}
}

// TestSpentTokenLivesOn: where both answers were lost, the session goes on for
// as long as its access token does.
func TestSpentTokenLivesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, func(*idptest.Provider, int) idptest.Reply {
			return idptest.Reply{Err: errors.New("connection reset by peer")}
		})
		time.Sleep(tokenLife - time.Nanosecond)
		synctest.Wait()
		r.want(s, session.Active, "")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.want(s, session.Ended, session.RefreshLost)
		if n := len(r.refreshes()); n != 2 {
			t.Errorf("%d refreshes", n)
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

// TestCrashAroundARefresh: what was written before the token was sent tells the
// next node how often it may send it.
func TestCrashAroundARefresh(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		presented int
		answer    func(*idptest.Provider, int) idptest.Reply
		calls     int
		state     session.State
		reason    session.Reason
	}{
		"never sent, refused":     {0, errorAnd(400, "invalid_grant"), 1, session.Ended, session.Refused},
		"sent once, taken":        {1, errorAnd(400, "invalid_grant"), 1, session.Ended, session.RefreshLost},
		"sent once, not taken":    {1, nil, 1, session.Active, ""},
		"sent twice: not a third": {2, nil, 0, session.Ended, session.RefreshLost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s, key := renewing(t, c.answer)
				r.stop()
				if c.presented > 0 {
					if err := s.Presenting(ctx, s.Now().Identity.RefreshToken, c.presented); err != nil {
						t.Fatal(err)
					}
				}
				n := newNode(t, r.idp, r.st)
				s = n.lookup(key)
				time.Sleep(tokenLife + 5*time.Second)
				synctest.Wait()
				n.want(s, c.state, c.reason)
				if got := len(n.refreshes()); got != c.calls {
					t.Errorf("%d refreshes, want %d", got, c.calls)
				}
			})
		})
	}
}

// TestTwoNodesRefreshOnce: over all nodes, in every round.
func TestTwoNodesRefreshOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s, key := renewing(t, func(p *idptest.Provider, _ int) idptest.Reply {
			return delayed(p.Tokens(lasting), 3*time.Second)
		})
		b := newNode(t, a.idp, a.st)
		b.lookup(key)
		time.Sleep(30 * tokenLife)
		a.want(a.lookup(key), session.Active, "")
		b.want(b.lookup(key), session.Active, "")
		sent := map[string]bool{}
		for _, c := range a.refreshes() {
			if token := c.Form.Get("refresh_token"); sent[token] {
				t.Error("a token was sent twice")
			} else {
				sent[token] = true
			}
		}
		if len(sent) < 30 {
			t.Errorf("%d refreshes", len(sent))
		}
		_ = s
	})
}

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

// TestRefreshWithoutAStore: nothing is sent that could not be written down, and
// what was answered is kept until it can be.
func TestRefreshWithoutAStore(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, s, _ := renewing(t, nil)
			r.st.refuse(func(store.Record) error { return errDown })
			time.Sleep(10 * time.Minute)
			if n := len(r.refreshes()); n != 0 {
				t.Errorf("%d refreshes without a store", n)
			}
			r.want(s, session.Active, "")
			r.st.refuse(nil)
			time.Sleep(90 * time.Second)
			synctest.Wait()
			r.want(s, session.Active, "")
			if s.Now().Stale() {
				t.Error("not refreshed once the store was back")
			}
		})
	})
	t.Run("after", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, s, _ := renewing(t, func(p *idptest.Provider, _ int) idptest.Reply {
				return delayed(p.Tokens(lasting), 10*time.Second)
			})
			time.Sleep(90 * time.Second) // it is under way
			r.st.refuse(func(store.Record) error { return errDown })
			time.Sleep(10 * time.Minute)
			r.want(s, session.Active, "")
			if n := len(r.refreshes()); n != 1 {
				t.Fatalf("%d refreshes, want the one whose tokens are in hand", n)
			}
			r.st.refuse(nil)
			time.Sleep(30 * time.Second)
			synctest.Wait()
			r.want(s, session.Active, "")
			if s.Now().Identity.RefreshToken.Reveal() == r.refreshes()[0].Form.Get("refresh_token") {
				t.Error("the tokens in hand were not written down")
			}
		})
	})
}

// TestRefreshedTokensWaitForKeys: they do not come again.
func TestRefreshedTokensWaitForKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, func(p *idptest.Provider, n int) idptest.Reply {
			if n == 1 {
				p.Rotate("key-2")
				p.Always("/jwks", idptest.Reply{Status: http.StatusBadGateway})
			}
			return p.Tokens(lasting)
		})
		time.Sleep(tokenLife + time.Minute)
		r.want(s, session.Active, "")
		if !s.Now().Stale() || len(r.refreshes()) != 1 {
			t.Fatalf("stale %t after %d refreshes", s.Now().Stale(), len(r.refreshes()))
		}
		r.idp.Answer("/jwks", nil)
		time.Sleep(2 * time.Minute) // those tokens run out meanwhile
		synctest.Wait()
		r.want(s, session.Active, "")
		if s.Now().Stale() {
			t.Error("not refreshed once there were keys")
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
