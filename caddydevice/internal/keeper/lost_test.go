// This file holds the tests of what a refresh must not lose: answers that do not
// arrive, crashes, stores that fail; and of how often a token is sent.

package keeper

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

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

// TestHangingProvider: one that accepts requests and answers nobody does not use
// up the retry, however long it does that.
func TestHangingProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		hangs.Store(true)
		forEver := idptest.Reply{Status: 200, Delay: 24 * time.Hour}
		r, s, _ := renewing(t, func(p *idptest.Provider, _ int) idptest.Reply {
			if hangs.Load() {
				return forEver
			}
			return p.Tokens(lasting)
		})
		r.idp.Answer("/jwks", func() (idptest.Reply, bool) { return forEver, hangs.Load() })
		time.Sleep(time.Hour)
		r.want(s, session.Active, "")
		if n := s.Now().Presented; n != 1 {
			t.Errorf("presented %d times", n)
		}
		hangs.Store(false)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		r.want(s, session.Active, "")
		if s.Now().Stale() {
			t.Error("not refreshed once it answered")
		}
	})
}

// TestUncertainWrites: a token that was not sent is not counted, also where
// nobody knows whether the store has taken the count.
func TestUncertainWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, nil)
		r.st.answerWith(func(error) error { return errDown }) // written, and said not to be
		time.Sleep(5 * time.Minute)
		if n := len(r.refreshes()); n != 0 {
			t.Fatalf("%d refreshes", n)
		}
		r.st.answerWith(nil)
		time.Sleep(79 * time.Second)
		synctest.Wait()
		r.want(s, session.Active, "")
		if s = r.current(s); s.Now().Stale() || len(r.refreshes()) != 1 {
			t.Errorf("after %d refreshes, stale %t", len(r.refreshes()), s.Now().Stale())
		}
	})
}

// TestTwoNodesCountTogether: where the lease does not keep them apart.
func TestTwoNodesCountTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		a, s, key := renewing(t, nil)
		token := s.Now().Identity.RefreshToken
		there := newNode(t, a.idp, a.st).lookup(key)
		if err := s.Presenting(ctx, token, 0, 1); err != nil {
			t.Fatal(err)
		}
		if err := there.Presenting(ctx, token, 0, 1); !errors.Is(err, session.ErrNotRenewed) {
			t.Errorf("the other node's first: %v", err)
		}
	})
}

// TestCloseWritesWhatIsInHand: as the last thing.
func TestCloseWritesWhatIsInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, key := renewing(t, func(p *idptest.Provider, _ int) idptest.Reply {
			return delayed(p.Tokens(lasting), 10*time.Second)
		})
		time.Sleep(90 * time.Second) // it is under way
		r.st.refuse(func(store.Record) error { return errDown })
		time.Sleep(20 * time.Second)
		r.st.refuse(nil)
		r.stop()
		n := newNode(t, r.idp, r.st)
		s := n.lookup(key)
		if used := n.refreshes()[0].Form.Get("refresh_token"); s.Now().Identity.RefreshToken.Reveal() == used || s.Now().Presented != 0 {
			t.Errorf("presented %d times, with the used token: %t", s.Now().Presented, s.Now().Identity.RefreshToken.Reveal() == used)
		}
	})
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
					if err := s.Presenting(ctx, s.Now().Identity.RefreshToken, 0, c.presented); err != nil {
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

// TestAnotherNodesTryCounts: a node that was refused nothing yet goes on where
// another one has sent the token and ended.
func TestAnotherNodesTryCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, key := renewing(t, func(_ *idptest.Provider, n int) idptest.Reply {
			if n == 1 {
				return idptest.Error(500, "server_error")
			}
			return idptest.Error(400, "invalid_grant")
		})
		for len(r.refreshes()) == 0 {
			time.Sleep(time.Second)
		}
		synctest.Wait()
		other := session.NewTable(r.st, issuer+" gate") // a node that ends as it does so
		defer other.Close()
		there, err := other.Lookup(context.Background(), key, site)
		if err != nil {
			t.Fatal(err)
		}
		if err := there.Presenting(context.Background(), s.Now().Identity.RefreshToken, 0, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(tokenLife)
		synctest.Wait()
		r.want(r.current(s), session.Ended, session.RefreshLost)
	})
}

// TestRefusedWithoutAStore: the end is kept, and the token not sent again.
func TestRefusedWithoutAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := renewing(t, func(*idptest.Provider, int) idptest.Reply {
			return delayed(idptest.Error(400, "invalid_grant"), 10*time.Second)
		})
		time.Sleep(90 * time.Second) // it is under way
		r.st.refuse(func(store.Record) error { return errDown })
		time.Sleep(10 * time.Minute)
		r.want(s, session.Active, "")
		r.st.refuse(nil)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		r.want(s, session.Ended, session.Refused)
		if n := len(r.refreshes()); n != 1 {
			t.Errorf("%d refreshes", n)
		}
	})
}
