// This file holds the tests of how a sign-in comes to its end.

package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// wantNoMorePolls lets time pass, but not so much that it is forgotten how the
// attempt ended.
func (r *rig) wantNoMorePolls() {
	r.Helper()
	n := r.polls()
	time.Sleep(25 * time.Minute)
	if got := r.polls(); got != n {
		r.Errorf("%d polls after the end", got-n)
	}
}

func TestTerminalAnswers(t *testing.T) {
	number := idptest.JSON(400, map[string]any{"error": 42})
	for _, c := range []struct {
		name    string
		reply   idptest.Reply
		outcome idp.Outcome
		state   session.State
		reason  session.Reason
	}{
		{"access_denied", idptest.Error(400, "access_denied"), idp.Denied, session.Denied, session.Declined},
		{"access_denied as 403", idptest.Error(403, "access_denied"), idp.Denied, session.Denied, session.Declined},
		{"authorization_declined", idptest.Error(400, "authorization_declined"), idp.Denied, session.Denied, session.Declined},
		{"expired_token", idptest.Error(400, "expired_token"), idp.Expired, session.Expired, session.CodeExpired},
		{"invalid_grant in time", idptest.Error(400, "invalid_grant"), idp.Invalid, session.Failed, session.Forgotten},
		{"bad_verification_code", idptest.Error(400, "bad_verification_code"), idp.Invalid, session.Failed, session.Forgotten},
		{"invalid_client", idptest.Error(401, "invalid_client"), idp.Failed, session.Failed, session.ProviderError},
		{"unauthorized_client", idptest.Error(400, "unauthorized_client"), idp.Failed, session.Failed, session.ProviderError},
		{"unsupported_grant_type", idptest.Error(400, "unsupported_grant_type"), idp.Failed, session.Failed, session.ProviderError},
		{"an unknown word", idptest.Error(400, "teapot"), idp.Failed, session.Failed, session.ProviderError},
		{"a number", number, idp.Failed, session.Failed, session.ProviderError},
		{"401 without a word", idptest.Reply{Status: 401}, idp.Failed, session.Failed, session.ProviderError},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, script(idptest.Pending(), c.reply))
				s, key := r.watched(5*time.Second, 10*time.Minute)
				waiting := s.Now().Next()
				<-waiting
				synctest.Wait()
				r.want(s, c.state, c.reason)
				r.wantResult(c.outcome, 2)
				r.wantNoMorePolls()
				n := newNode(t, r.idp, r.st)
				n.want(n.lookup(key), c.state, c.reason)
				n.Seen(n.lookup(key), nil)
				n.wantNoMorePolls()
			})
		})
	}
}

// TestPolled: each poll is told of, with what it came to and how long that took.
func TestPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, script(delayed(idptest.Pending(), 2*time.Second), idptest.Reply{Status: 500}, idptest.Error(400, "access_denied")))
		s, _ := r.watched(5*time.Second, 10*time.Minute)
		for !s.Now().State.Over() {
			<-s.Now().Next()
		}
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		want := []told{{s, idp.Pending, 2 * time.Second}, {s, idp.Transient, 0}, {s, idp.Denied, 0}}
		if !slices.Equal(r.told, want) {
			t.Errorf("%v, want %v", r.told, want)
		}
	})
}

func TestApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.idp.Claims = map[string]any{"sid": "sid-1"}
		s, key := r.watched(5*time.Second, 10*time.Minute)
		time.Sleep(20 * time.Second)
		r.idp.Approve("")
		<-s.Now().Next()
		synctest.Wait()
		r.want(s, session.Active, "")
		id := s.Now().Identity
		if id.Subject != "sub-alice" || id.Issuer != issuer || id.SessionID != "sid-1" || id.Claims["preferred_username"] != "alice" || !id.Since.Equal(time.Now()) {
			t.Errorf("signed in: %+v", id)
		}
		if id.AccessToken == "" || id.RefreshToken == "" || id.IDToken == "" {
			t.Error("a token is missing")
		}
		if want := time.Now().Add(time.Hour); !id.TokensUntil.Equal(want) {
			t.Errorf("the tokens run out %v, want %v", id.TokensUntil, want)
		}
		r.wantResult(idp.Approved, 4)
		r.wantNoMorePolls()
		n := newNode(t, r.idp, r.st)
		n.want(n.lookup(key), session.Active, "")
	})
}

// TestNoRefreshToken: the session ends with its tokens.
func TestNoRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := idptest.New(issuer)
		p.Poll = script(p.Tokens(func(answer map[string]any) { delete(answer, "refresh_token") }))
		r := newNode(t, p, &flaky{Store: store.NewMemory()})
		s, key := r.watched(5*time.Second, 10*time.Minute)
		<-s.Now().Next()
		synctest.Wait()
		time.Sleep(time.Hour - time.Nanosecond)
		r.want(s, session.Active, "")
		time.Sleep(time.Nanosecond)
		r.want(s, session.Ended, session.TokenExpired)
		r.stop()
		n := newNode(t, p, r.st)
		n.want(n.lookup(key), session.Ended, session.TokenExpired)
	})
}

// TestAccept: an approval by somebody who is not meant is refused, by what was
// asked last.
func TestAccept(t *testing.T) {
	notAlice := func(who *idp.Identity) error {
		if who.Subject == "sub-alice" {
			return errors.New("not her")
		}
		return nil
	}
	for name, c := range map[string]struct {
		asked  []Accept
		state  session.State
		reason session.Reason
		result idp.Outcome
	}{
		"anybody":                {nil, session.Active, "", idp.Approved},
		"somebody else":          {[]Accept{notAlice}, session.Denied, session.WrongAccount, idp.Denied},
		"somebody else, at last": {[]Accept{nil, notAlice}, session.Denied, session.WrongAccount, idp.Denied},
		"anybody, at last":       {[]Accept{notAlice, nil}, session.Active, "", idp.Approved},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				s, _ := r.watched(5*time.Second, 10*time.Minute)
				for _, accept := range c.asked {
					r.Seen(s, accept)
				}
				r.idp.Approve("")
				<-s.Now().Next()
				synctest.Wait()
				r.want(s, c.state, c.reason)
				r.wantResult(c.result, 1)
				r.wantNoMorePolls()
				if c.state == session.Denied && s.Now().Identity != nil {
					t.Error("its tokens are kept")
				}
			})
		})
	}
}

func TestTokensThatSignNobodyIn(t *testing.T) {
	p := idptest.New(issuer)
	for name, change := range map[string]func(map[string]any){
		"no ID token":              func(m map[string]any) { delete(m, "id_token") },
		"ID token of nobody known": func(m map[string]any) { m["id_token"] = idptest.New(issuer).IDToken(nil) },
		"ID token for another":     func(m map[string]any) { m["id_token"] = p.IDToken(func(c map[string]any) { c["aud"] = "other" }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p.Poll = func(int, string) idptest.Reply { return p.Tokens(change) }
				r := newNode(t, p, &flaky{Store: store.NewMemory()})
				s, _ := r.watched(5*time.Second, 10*time.Minute)
				time.Sleep(2 * time.Minute) // a key that is not known is asked for once more
				r.want(s, session.Failed, session.BadTokens)
				r.wantResult(idp.Failed, 1)
			})
		})
	}
}

func TestExpiryIsLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil) // pending for ever
		s, key := r.watched(5*time.Second, time.Minute)
		time.Sleep(time.Minute - 1)
		r.want(s, session.Pending, "")
		time.Sleep(1)
		synctest.Wait()
		r.want(s, session.Expired, session.CodeExpired)
		r.wantResult(idp.Expired, 10)
		if rec, err := r.st.Get(context.Background(), key.ID().String()); err != nil || rec.State != string(session.Expired) || len(rec.Body) != 0 {
			t.Errorf("stored: %+v, %v", rec, err)
		}
		for _, call := range r.idp.Calls("/token") {
			if call.Start.After(s.Created().Add(time.Minute)) {
				t.Error("a poll past the deadline")
			}
		}
		r.idp.Approve("") // too late
		r.wantNoMorePolls()
		r.want(r.lookup(key), session.Expired, session.CodeExpired)
	})
}

// TestExpiryWithStoreDown: the end is said at once and written when that can be.
func TestExpiryWithStoreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		s, _ := r.watched(5*time.Second, time.Minute)
		r.st.refuse(func(store.Record) error { return errDown })
		time.Sleep(time.Minute + 30*time.Second)
		r.want(s, session.Expired, session.CodeExpired)
		r.st.refuse(nil)
		time.Sleep(2 * time.Minute)
		r.wantResult(idp.Expired, 10)
		if r.tab.Len() != 0 {
			t.Error("kept after its end")
		}
	})
}

func TestAnswerPastTheDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		reply  func(p *idptest.Provider) idptest.Reply
		state  session.State
		reason session.Reason
	}{
		"invalid_grant": {func(*idptest.Provider) idptest.Reply { return idptest.Error(400, "invalid_grant") }, session.Expired, session.CodeExpired},
		"pending":       {func(*idptest.Provider) idptest.Reply { return idptest.Pending() }, session.Expired, session.CodeExpired},
		"approved":      {func(p *idptest.Provider) idptest.Reply { return p.Tokens(nil) }, session.Active, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				r.idp.Poll = script(delayed(c.reply(r.idp), 6*time.Second))
				s, _ := r.watched(5*time.Second, 8*time.Second)
				time.Sleep(10 * time.Second)
				r.want(s, session.Pending, "") // the answer is on its way
				time.Sleep(2 * time.Second)
				r.want(s, c.state, c.reason)
				if r.polls() != 1 {
					t.Errorf("%d polls", r.polls())
				}
			})
		})
	}
}

// TestKeysDownAtApproval: the tokens will not come again, so they are kept
// until the keys can be had, also past the code's end.
func TestKeysDownAtApproval(t *testing.T) {
	for _, c := range []struct {
		name       string
		life, down time.Duration
		state      session.State
		reason     session.Reason
	}{
		{"for a while", 10 * time.Minute, 90 * time.Second, session.Active, ""},
		{"past the code's end", 30 * time.Second, 90 * time.Second, session.Active, ""},
		{"for good", 30 * time.Second, time.Hour, session.Expired, session.CodeExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				up := time.Now().Add(c.down)
				r.idp.Answer("/jwks", func() (idptest.Reply, bool) {
					return idptest.Reply{Status: http.StatusInternalServerError}, time.Now().Before(up)
				})
				r.idp.Approve("")
				s, _ := r.watched(5*time.Second, c.life)
				time.Sleep(80 * time.Second)
				r.want(s, session.Pending, "")
				time.Sleep(4 * time.Minute)
				r.want(s, c.state, c.reason)
				if r.polls() != 1 {
					t.Errorf("%d polls, want 1", r.polls())
				}
				if n := len(r.idp.Calls("/jwks")); n > 6 {
					t.Errorf("keys were asked for %d times", n)
				}
			})
		})
	}
}

func TestStoreDownAtApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.idp.Approve("")
		s, key := r.watched(5*time.Second, 20*time.Second)
		r.st.refuse(func(store.Record) error { return errDown })
		time.Sleep(30 * time.Second)
		r.want(s, session.Pending, "")
		r.st.refuse(nil)
		time.Sleep(time.Minute)
		r.want(r.lookup(key), session.Active, "")
		r.wantResult(idp.Approved, 1)
		if r.polls() != 1 {
			t.Errorf("%d polls", r.polls())
		}
	})
}

func TestGivenUpByItsClient(t *testing.T) {
	for name, gives := range map[string]func(r *rig, s *session.Session, key session.Key){
		"here": func(_ *rig, s *session.Session, _ session.Key) {
			_ = s.End(context.Background(), session.Ended, session.Replaced)
		},
		"on another node": func(r *rig, _ *session.Session, key session.Key) {
			n := newNode(r.T, r.idp, r.st)
			_ = n.lookup(key).End(context.Background(), session.Ended, session.Replaced)
		},
		"removed from the store": func(r *rig, _ *session.Session, key session.Key) {
			_ = r.st.Delete(context.Background(), key.ID().String())
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				s, key := r.watched(5*time.Second, time.Hour)
				time.Sleep(20 * time.Second)
				gives(r, s, key)
				n := r.polls()
				r.idp.Approve("")
				time.Sleep(20 * time.Minute)
				if r.polls() != n {
					t.Errorf("%d polls for a sign-in that was given up", r.polls()-n)
				}
				if r.Pending() != 0 {
					t.Error("still pending")
				}
			})
		})
	}
}

// TestAddOnlyPending: what is over is not taken up, nor anything after Close.
func TestAddOnlyPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		s, _ := r.signIn(5*time.Second, time.Hour)
		if err := s.End(context.Background(), session.Denied, session.Declined); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.Add(s, nil)
		r.Seen(s, nil)
		r.stop()
		r.signIn(5*time.Second, time.Hour)
		if r.Pending() != 0 || r.polls() != 0 {
			t.Errorf("%d pending, %d polls", r.Pending(), r.polls())
		}
	})
}

func TestOutcomesHaveNames(t *testing.T) {
	for o := idp.Transient; o <= idp.Failed; o++ {
		if fmt.Sprint(o) == "unknown" {
			t.Errorf("outcome %d has no name", int(o))
		}
	}
}
