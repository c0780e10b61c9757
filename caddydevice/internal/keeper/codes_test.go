// This file holds the tests of sign-ins whose code is renewed: each code is
// polled at its own pace, to its own end.

package keeper

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

const firstCode, nextCode = "device-canary-1", "device-canary-2"

// renew gives a sign-in its next code, as the page's handler does.
func (r *rig) renew(s *session.Session, code string, interval, life time.Duration) {
	r.Helper()
	err := s.NextCode(context.Background(), session.Login{
		DeviceCode: secret.String(code), UserCode: code, VerificationURI: issuer + "/activate", Interval: interval,
		Issued: time.Now(), Expires: time.Now().Add(life),
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Renewed(s)
}

// pollsOf are those of one code.
func (r *rig) pollsOf(code string) []idptest.Call {
	var calls []idptest.Call
	for _, c := range r.idp.Calls("/token") {
		if c.Form.Get("device_code") == code {
			calls = append(calls, c)
		}
	}
	return calls
}

// answers are one code's answers after a time.
type answers map[string]idptest.Reply

func TestRenewedCode(t *testing.T) {
	approved := idptest.Reply{Status: -1} // filled in by the test
	for _, c := range []struct {
		name    string
		then    answers // of each code, a minute after the renewal
		life    time.Duration
		state   session.State
		reason  session.Reason
		outcome idp.Outcome
	}{
		{"the first is approved", answers{firstCode: approved}, 10 * time.Minute, session.Active, "", idp.Approved},
		{"the next is approved", answers{nextCode: approved}, 10 * time.Minute, session.Active, "", idp.Approved},
		{"the first is denied", answers{firstCode: idptest.Error(400, "access_denied")}, 10 * time.Minute, session.Denied, session.Declined, idp.Denied},
		{"the first expires early, the next is approved", answers{firstCode: idptest.Error(400, "expired_token"), nextCode: approved}, 10 * time.Minute, session.Active, "", idp.Approved},
		{"the first is unknown, the next is approved", answers{firstCode: idptest.Error(400, "invalid_grant"), nextCode: approved}, 10 * time.Minute, session.Active, "", idp.Approved},
		{"both are forgotten", answers{firstCode: idptest.Error(400, "invalid_grant"), nextCode: idptest.Error(400, "invalid_grant")}, 10 * time.Minute, session.Failed, session.Forgotten, idp.Invalid},
		{"the next is forgotten", answers{nextCode: idptest.Error(400, "invalid_grant")}, 10 * time.Minute, session.Failed, session.Forgotten, idp.Invalid},
		{"the client is not known any more", answers{firstCode: idptest.Error(401, "invalid_client")}, 10 * time.Minute, session.Failed, session.ProviderError, idp.Failed},
		{"nobody approves", answers{}, 10 * time.Minute, session.Expired, session.CodeExpired, idp.Expired},
		{"the next has a shorter life, the first is approved", answers{firstCode: approved}, 30 * time.Second, session.Active, "", idp.Approved},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				s, _ := r.watched(5*time.Second, 10*time.Minute)
				time.Sleep(7 * time.Minute)
				r.renew(s, nextCode, 5*time.Second, c.life)
				renewed := time.Now()
				time.Sleep(time.Minute)
				decided := time.Now()
				for code, reply := range c.then {
					if reply.Status == -1 {
						r.idp.Approve(code)
					} else {
						r.idp.Decide(code, reply) // each of these ends it
					}
				}
				time.Sleep(30 * time.Minute)
				synctest.Wait()
				r.want(s, c.state, c.reason)
				r.wantResult(c.outcome, r.polls())
				for code := range c.then {
					if n := len(slices.DeleteFunc(r.pollsOf(code), func(c idptest.Call) bool { return c.Start.Before(decided) })); n > 1 {
						t.Errorf("%s was polled %d times after its end", code, n)
					}
				}
				r.wantOwnPace(renewed.Add(-7*time.Minute).Add(10*time.Minute), firstCode)
				r.wantOwnPace(renewed.Add(c.life), nextCode)
				if first := r.pollsOf(nextCode)[0].Start.Sub(renewed); first != 5500*ms {
					t.Errorf("the next code was first polled after %v", first)
				}
			})
		})
	}
}

// wantOwnPace fails where a code was polled below its interval, or after its end.

func (r *rig) wantOwnPace(end time.Time, code string) {
	r.Helper()
	calls := r.pollsOf(code)
	if len(calls) == 0 {
		r.Errorf("%s was never polled", code)
	}
	for i, c := range calls {
		if !c.Start.Before(end) {
			r.Errorf("%s was polled at %v, after its end", code, c.Start)
		}
		if i > 0 && c.Start.Sub(calls[i-1].End) < 5*time.Second {
			r.Errorf("%s was polled %v after the last answer", code, c.Start.Sub(calls[i-1].End))
		}
	}
}

// TestSlowDownIsOfOneCode: the other keeps its interval.
func TestSlowDownIsOfOneCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(n int, code string) idptest.Reply {
			if code == firstCode && n <= 2 {
				return idptest.Error(400, "slow_down")
			}
			return idptest.Pending()
		})
		s, key := r.watched(5*time.Second, 10*time.Minute)
		time.Sleep(20 * time.Second) // the first one's slow_downs
		r.renew(s, nextCode, 5*time.Second, 10*time.Minute)
		time.Sleep(2 * time.Minute)
		gap := func(code string) time.Duration {
			calls := r.pollsOf(code)
			return calls[len(calls)-1].Start.Sub(calls[len(calls)-2].End)
		}
		if gap(firstCode) != 15500*ms || gap(nextCode) != 5500*ms {
			t.Errorf("gaps %v and %v", gap(firstCode), gap(nextCode))
		}
		snap := newNode(t, r.idp, r.st).lookup(key).Now()
		if snap.Login.Interval != 5*time.Second || len(snap.Earlier) != 1 || snap.Earlier[0].Interval != 15*time.Second {
			t.Errorf("stored are %v, and of %d earlier codes the first's", snap.Login.Interval, len(snap.Earlier))
		}
	})
}

// TestCodesChangeHands: the node that goes on polls both codes, each no sooner
// than it may; and a code that another node has fetched is polled as well.
func TestCodesChangeHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &flaky{Store: store.NewMemory()}
		r := newNode(t, idptest.New(issuer), st)
		s, key := r.watched(5*time.Second, 10*time.Minute)
		other := newNode(t, r.idp, st)
		time.Sleep(time.Minute + 4*time.Second)
		theirs, issued := other.lookup(key), time.Now()
		if err := theirs.NextCode(context.Background(), session.Login{
			DeviceCode: nextCode, UserCode: "B", VerificationURI: issuer + "/activate", Interval: 5 * time.Second,
			Issued: time.Now(), Expires: time.Now().Add(10 * time.Minute),
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := len(r.pollsOf(nextCode)); n < 5 {
			t.Errorf("another node's code was polled %d times", n)
		}
		if first := r.pollsOf(nextCode)[0].Start.Sub(issued); first < 5500*ms {
			t.Errorf("another node's code was first polled after %v", first)
		}
		r.stop()
		other.Seen(other.lookup(key), nil)
		time.Sleep(time.Minute)
		r.wantOwnPace(s.Deadline(), firstCode)
		r.wantOwnPace(s.Deadline(), nextCode)
		r.idp.Approve(firstCode)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		other.want(other.lookup(key), session.Active, "")
	})
}

// TestNextTry: while the identity provider is away it is known when it is asked
// next.
func TestNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, script(idptest.Reply{Status: 502}, idptest.Pending()))
		s, _ := r.watched(5*time.Second, 10*time.Minute)
		time.Sleep(6 * time.Second)
		next := s.NextTry()
		if left := time.Until(next); left < 10*time.Second || left > 13*time.Second {
			t.Errorf("the next try is in %v", left)
		}
		time.Sleep(time.Until(next) + time.Second)
		if n := r.polls(); n != 2 || !s.NextTry().IsZero() {
			t.Errorf("%d polls, the next try at %v", n, s.NextTry())
		}
	})
}

// TestConfirmation: an approval that is to be confirmed is neither refreshed nor
// polled for, and its tokens are revoked where nobody does.
func TestConfirmation(t *testing.T) {
	for _, c := range []struct {
		name    string
		act     func(*rig, *session.Session) error
		state   session.State
		reason  session.Reason
		revoked bool
	}{
		{"confirmed", func(_ *rig, s *session.Session) error { return s.Confirm(context.Background()) }, session.Active, "", false},
		{"not confirmed", func(*rig, *session.Session) error { return nil }, session.Ended, session.Unconfirmed, true},
		{"that is not me", func(r *rig, s *session.Session) error { return r.tab.SignOut(context.Background(), s) }, session.Ended, session.SignedOut, true},
		{"logged out at the provider", func(r *rig, s *session.Session) error {
			_, err := r.tab.EndAll(context.Background(), session.SubjectIndex(issuer, "sub-alice"), session.LoggedOut)
			return err
		}, session.Ended, session.LoggedOut, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := idptest.New(issuer)
				p.Poll = func(int, string) idptest.Reply { return p.Tokens(lasting) }
				r := newNode(t, p, &flaky{Store: store.NewMemory()})
				s, key := r.signInFor(session.New{Kind: session.Terminal, Confirm: true}, 5*time.Second, 10*time.Minute)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				r.want(s, session.Approved, "")
				r.wantResult(idp.Approved, 1)
				newNode(t, r.idp, r.st).lookup(key) // another node reads it
				time.Sleep(4 * time.Minute)         // its tokens have run out twice
				if n := len(r.refreshes()); n != 0 {
					t.Errorf("%d refreshes before it was confirmed", n)
				}
				if err := c.act(r, s); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				r.want(s, c.state, c.reason)
				if got := r.revokedTokens(); (got != nil) != c.revoked {
					t.Errorf("revoked: %v", got)
				}
				if refreshed := len(r.refreshes()) > 0; refreshed != (c.state == session.Active) {
					t.Errorf("refreshed: %t", refreshed)
				}
				if n := len(r.pollsOf(firstCode)); n != 1 {
					t.Errorf("%d polls", n)
				}
			})
		})
	}
}
