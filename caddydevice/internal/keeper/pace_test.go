// This file holds the tests of when polls are made (RFC 8628 §3.5).

package keeper

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

const ms = time.Millisecond

func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, script(delayed(idptest.Pending(), 3*time.Second)))
		begin := time.Now()
		s, _ := r.watched(5*time.Second, 5*time.Minute)
		r.Add(s, nil) // once is enough
		time.Sleep(time.Minute)
		if first := r.idp.Calls("/token")[0].Start.Sub(begin); first != 5500*ms {
			t.Errorf("the first poll came after %v", first)
		}
		for _, gap := range r.gaps() {
			if gap != 5500*ms {
				t.Errorf("gaps %v, want 5.5s from the end of an answer", r.gaps())
				break
			}
		}
		if n := r.polls(); n != 7 {
			t.Errorf("%d polls in a minute, want 7", n)
		}
	})
}

func TestSlowDown(t *testing.T) {
	slow := idptest.Error(http.StatusBadRequest, "slow_down")
	asks := func(seconds int) idptest.Reply {
		return idptest.JSON(http.StatusBadRequest, map[string]any{"error": "slow_down", "interval": seconds})
	}
	pending := idptest.Pending()
	for _, c := range []struct {
		name    string
		replies []idptest.Reply
		gaps    []time.Duration
		stored  time.Duration
	}{
		{
			"adds five seconds each time, for good",
			[]idptest.Reply{pending, slow, pending, slow, pending},
			[]time.Duration{1500 * ms, 6500 * ms, 6500 * ms, 11500 * ms, 11500 * ms, 11500 * ms},
			11 * time.Second,
		},
		{"asks for more", []idptest.Reply{asks(30), pending}, []time.Duration{30500 * ms, 30500 * ms}, 30 * time.Second},
		{"asks for less than five more", []idptest.Reply{asks(2), pending}, []time.Duration{6500 * ms, 6500 * ms}, 6 * time.Second},
		{"asks for nonsense", []idptest.Reply{asks(-5), pending}, []time.Duration{6500 * ms, 6500 * ms}, 6 * time.Second},
		{"as 429", []idptest.Reply{idptest.Error(429, "slow_down"), pending}, []time.Duration{6500 * ms, 6500 * ms}, 6 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, script(c.replies...))
				_, key := r.watched(time.Second, 10*time.Minute)
				time.Sleep(4 * time.Minute)
				r.wantGaps(c.gaps...)
				if got := newNode(t, r.idp, r.st).lookup(key).Now().Login.Interval; got != c.stored {
					t.Errorf("the stored interval is %v, want %v", got, c.stored)
				}
			})
		})
	}
}

func TestSlowDownHoldsWithoutTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, script(idptest.Error(400, "slow_down"), idptest.Error(400, "slow_down"), idptest.Pending()))
		r.watched(time.Second, 10*time.Minute)
		r.st.refuse(func(store.Record) error { return errDown })
		time.Sleep(time.Minute)
		r.wantGaps(6500*ms, 11500*ms, 11500*ms)
	})
}

func TestTroubleBacksOff(t *testing.T) {
	after := func(status int, seconds string) idptest.Reply {
		return idptest.Reply{Status: status, Header: http.Header{"Retry-After": {seconds}}}
	}
	doubling := []time.Duration{11 * time.Second, 22 * time.Second, 44 * time.Second, time.Minute, time.Minute}
	for _, c := range []struct {
		name  string
		reply idptest.Reply
		gaps  []time.Duration
	}{
		{"500", idptest.Reply{Status: 500}, doubling},
		{"502 with HTML", idptest.Reply{Status: 502, Body: "<html>"}, doubling},
		{"server_error", idptest.Error(500, "server_error"), doubling},
		{"a broken connection", idptest.Reply{Err: errors.New("reset")}, doubling},
		{"200 with nothing", idptest.Reply{Status: 200}, doubling},
		{"200 with text", idptest.Reply{Status: 200, Body: "OK"}, doubling},
		{"204", idptest.Reply{Status: 204}, doubling},
		{"an array", idptest.Reply{Status: 200, Body: "[]"}, doubling},
		{"null", idptest.Reply{Status: 200, Body: "null"}, doubling},
		{"a redirect", idptest.Reply{Status: 302, Header: http.Header{"Location": {"/token"}}}, doubling},
		{"429 with Retry-After", after(429, "40"), []time.Duration{40 * time.Second, 40 * time.Second, 44 * time.Second}},
		{"503 with a long Retry-After", after(503, "120"), []time.Duration{120 * time.Second, 120 * time.Second}},
		{"503 with a short Retry-After", after(503, "1"), doubling},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, script(c.reply))
				s, _ := r.watched(5*time.Second, time.Hour)
				time.Sleep(6 * time.Minute)
				r.wantGaps(c.gaps...)
				r.want(s, "pending", "")
			})
		})
	}
}

func TestTimeoutBacksOffAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begins := make([]time.Time, 100)
		var mu sync.Mutex
		r := newRig(t, func(n int, _ string) idptest.Reply {
			mu.Lock()
			defer mu.Unlock()
			begins[n-1] = time.Now()
			if n <= 3 {
				return delayed(idptest.Pending(), time.Hour)
			}
			return idptest.Pending()
		})
		r.watched(5*time.Second, 10*time.Minute)
		time.Sleep(5 * time.Minute)
		want := []time.Duration{
			10*time.Second + 11*time.Second, 10*time.Second + 22*time.Second, 10*time.Second + 44*time.Second,
			5500 * ms, 5500 * ms,
		} // the first answer takes the back-off away
		mu.Lock()
		defer mu.Unlock()
		for i, w := range want {
			if got := begins[i+1].Sub(begins[i]); got < w || got > w+w/10 {
				t.Errorf("from poll %d to the next: %v, want %v", i+1, got, w)
			}
		}
	})
}

func TestNobodyWatching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		s, _ := r.signIn(5*time.Second, time.Hour)
		time.Sleep(10 * time.Minute)
		gaps := r.gaps()
		if gaps[0] != 5500*ms {
			t.Errorf("widens at once: %v", gaps)
		}
		for i := 1; i < len(gaps); i++ {
			if gaps[i] < gaps[i-1] || gaps[i] > time.Minute {
				t.Errorf("gaps %v do not grow to a minute", gaps)
				break
			}
		}
		if last := gaps[len(gaps)-1]; last != time.Minute {
			t.Errorf("the last gap is %v, want a minute", last)
		}

		// a request of its client takes the widening back
		calls := r.idp.Calls("/token")
		time.Sleep(time.Until(calls[len(calls)-1].End.Add(time.Minute)) + 20*time.Second)
		n := r.polls()
		r.Seen(s, nil)
		synctest.Wait()
		if r.polls() != n+1 {
			t.Error("no poll at once, though the interval was over long ago")
		}
		time.Sleep(5499 * ms)
		r.Seen(s, nil)
		synctest.Wait()
		if r.polls() != n+1 {
			t.Error("a request beat the interval")
		}
		time.Sleep(ms)
		synctest.Wait()
		if r.polls() != n+2 {
			t.Error("no poll one interval after the last")
		}
	})
}

// TestHammering: whatever clients do, on however many nodes, polls keep their
// interval.
func TestHammering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newRig(t, script(idptest.Pending(), idptest.Error(400, "slow_down"), delayed(idptest.Pending(), time.Second)))
		s, key := a.signIn(5*time.Second, 10*time.Minute)
		b := newNode(t, a.idp, a.st)
		for range 5 * 60 * 10 {
			a.Seen(a.lookup(key), nil)
			b.Seen(b.lookup(key), nil)
			time.Sleep(100 * ms)
		}
		a.want(s, "pending", "")
		gaps := a.gaps()
		if len(gaps) < 20 {
			t.Errorf("%d polls in five minutes", len(gaps)+1)
		}
		for i, gap := range gaps {
			if least := 5500 * ms; gap < least || i >= 1 && gap < least+5*time.Second {
				t.Errorf("gap %d is %v", i, gap)
			}
		}
	})
}

func TestLeaseOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		s, _ := r.watched(5*time.Second, time.Hour)
		name := "poll/" + s.ID().String()
		if ok, err := r.st.Lease(context.Background(), name, "other", 3*time.Minute); !ok || err != nil {
			t.Fatal(ok, err)
		}
		time.Sleep(3*time.Minute - ms)
		if n := r.polls(); n != 0 {
			t.Errorf("%d polls under another's lease", n)
		}
		time.Sleep(2 * time.Minute)
		if r.polls() == 0 {
			t.Error("no poll after the lease lapsed")
		}
		// the lease outlives the gap, however long that is
		if ok, _ := r.st.Lease(context.Background(), name, "other", time.Second); ok {
			t.Error("the lease was not kept between two polls")
		}
	})
}

func TestLeaseOutlivesALongInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newRig(t, nil)
		_, key := a.watched(100*time.Second, time.Hour)
		time.Sleep(80 * time.Second)
		b := newNode(t, a.idp, a.st)
		if _, ok := b.lookup(key).Watch(1); !ok {
			t.Fatal("cannot watch")
		}
		b.Seen(b.lookup(key), nil)
		time.Sleep(20 * time.Minute)
		for _, gap := range a.gaps() {
			if gap < 100*time.Second {
				t.Errorf("gaps %v of two nodes", a.gaps())
				break
			}
		}
	})
}

func TestAdoption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newRig(t, script(idptest.Error(400, "slow_down"), idptest.Error(400, "slow_down"), idptest.Pending()))
		_, key := a.watched(5*time.Second, time.Hour)
		time.Sleep(time.Minute)
		a.stop()
		synctest.Wait()
		n := a.polls()
		b := newNode(t, a.idp, a.st)
		s := b.lookup(key)
		if _, ok := s.Watch(1); !ok {
			t.Fatal("cannot watch")
		}
		begin := time.Now()
		b.Seen(s, nil)
		time.Sleep(time.Minute)
		calls := a.idp.Calls("/token")[n:]
		if len(calls) < 2 || calls[0].Start.Sub(begin) != 15500*ms || calls[1].Start.Sub(calls[0].End) != 15500*ms {
			t.Errorf("%d polls by the second node, not at the widened interval", len(calls))
		}
		b.stop()
		c := newNode(t, a.idp, a.st)
		c.Add(c.lookup(key), nil) // the lease was given back: no wait for it
		time.Sleep(15500 * ms)
		synctest.Wait()
		if got := a.polls(); got != n+len(calls)+1 {
			t.Errorf("%d polls after a hand-over, want %d", got, n+len(calls)+1)
		}
		for i, call := range a.idp.Calls("/token") {
			if got := call.Form.Get("code_verifier"); got != "verifier-canary-1" { // RFC 7636 §4.5
				t.Errorf("poll %d sends the code verifier %q", i+1, got)
			}
		}
	})
}

// TestHandOver: whenever a node ends that two have heard of a sign-in from, the
// other goes on no sooner than the interval allows.
func TestHandOver(t *testing.T) {
	for at := 5600 * ms; at < 40*time.Second; at += 300 * ms {
		synctest.Test(t, func(t *testing.T) {
			a := newRig(t, nil)
			_, key := a.watched(5*time.Second, time.Hour)
			b := newNode(t, a.idp, a.st)
			if _, ok := b.lookup(key).Watch(1); !ok {
				t.Fatal("cannot watch")
			}
			b.Seen(b.lookup(key), nil)
			time.Sleep(at)
			before := a.polls()
			a.stop()
			time.Sleep(2 * time.Minute)
			for _, gap := range a.gaps() {
				if gap < 5*time.Second {
					t.Errorf("a node ended after %v: gaps %v", at, a.gaps())
					break
				}
			}
			if a.polls() == before {
				t.Errorf("a node ended after %v: nobody went on", at)
			}
		})
	}
}
