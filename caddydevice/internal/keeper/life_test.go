// This file holds the tests of the keeper's own life: its end, another client,
// and very many sign-ins.

package keeper

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// TestCloseLetsAPollEnd: an approval whose answer is on its way is written
// down, and nothing begins after that.
func TestCloseLetsAPollEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.idp.Poll = script(delayed(r.idp.Tokens(nil), 3*time.Second))
		_, key := r.watched(5*time.Second, time.Hour)
		time.Sleep(7 * time.Second) // the poll is under way
		begin := time.Now()
		r.stop()
		if d := time.Since(begin); d != 1500*ms {
			t.Errorf("close took %v, want the rest of the poll", d)
		}
		n := newNode(t, r.idp, r.st)
		n.want(n.lookup(key), session.Active, "")
	})
}

func TestCloseGivesUpOnWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, script(delayed(idptest.Pending(), time.Hour)))
		_, key := r.watched(5*time.Second, time.Hour)
		time.Sleep(6 * time.Second)
		begin := time.Now()
		r.stop()
		if d := time.Since(begin); d != 9500*ms {
			t.Errorf("close took %v, want the rest of the request's 10 s", d)
		}
		n := newNode(t, r.idp, r.st)
		n.want(n.lookup(key), session.Pending, "")
		time.Sleep(time.Hour)
		synctest.Wait()
	})
}

func TestCloseWithNothingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.watched(5*time.Second, time.Hour)
		begin := time.Now()
		r.stop()
		if d := time.Since(begin); d != 0 {
			t.Errorf("close took %v", d)
		}
	})
}

func TestUseAnotherClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		s, _ := r.watched(5*time.Second, time.Hour)
		time.Sleep(10 * time.Second)
		other := idptest.New(issuer)
		other.Approve("")
		next := newClient(t, other)
		r.Use(next)
		if r.Client() != next {
			t.Error("the client in use is the old one")
		}
		n := r.polls()
		time.Sleep(10 * time.Second)
		r.want(s, session.Active, "")
		if r.polls() != n || len(other.Calls("/token")) != 1 {
			t.Errorf("%d polls by the old client, %d by the new", r.polls()-n, len(other.Calls("/token")))
		}
	})
}

// TestManySignIns: no goroutine for each, and all come to their end.
func TestManySignIns(t *testing.T) {
	const many = 10_000
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		var mu sync.Mutex
		most := 0
		r.idp.Poll = func(int, string) idptest.Reply {
			mu.Lock()
			defer mu.Unlock()
			most = max(most, runtime.NumGoroutine())
			return idptest.Pending()
		}
		before := runtime.NumGoroutine()
		for i := range many {
			s, _, err := r.tab.Create(context.Background(), session.New{
				Kind: session.Terminal, Site: site,
				Login: session.Login{DeviceCode: secret.String(fmt.Sprint("device-canary-", i)), Interval: 15 * time.Second, Expires: time.Now().Add(20 * time.Second)},
			})
			if err != nil {
				t.Fatal(err)
			}
			r.Add(s, nil)
		}
		if n := r.Pending(); n != many {
			t.Errorf("%d pending", n)
		}
		if n := runtime.NumGoroutine() - before; n > 0 {
			t.Errorf("%d goroutines more for %d sign-ins", n, many)
		}
		time.Sleep(time.Minute)
		if n := r.polls(); n != many {
			t.Errorf("%d polls, want %d", n, many)
		}
		if most > before+4*pollWorkers {
			t.Errorf("%d goroutines at the most", most)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.Pending() != 0 || r.tab.Len() != 0 || len(r.results) != many {
			t.Errorf("%d pending, %d open, %d settled", r.Pending(), r.tab.Len(), len(r.results))
		}
	})
}

// TestGiveUp: room is made by the oldest sign-in that nobody asks about, and
// never by one that is watched, decided, or being polled.
func TestGiveUp(t *testing.T) {
	const quiet = time.Minute
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		if s := r.Oldest(quiet); s != nil {
			t.Error("there is one in an empty keeper")
		}
		watched, _ := r.watched(5*time.Second, time.Hour)
		time.Sleep(time.Second)
		first, firstKey := r.signIn(5*time.Second, time.Hour)
		time.Sleep(time.Second)
		second, _ := r.signIn(5*time.Second, time.Hour)
		if s := r.Oldest(quiet); s != nil {
			t.Error("one that was asked about a moment ago is given up")
		}
		time.Sleep(quiet)
		synctest.Wait()
		if s := r.Oldest(quiet); s != first {
			t.Fatalf("the oldest is %v, not the first that nobody watches", s)
		}
		polls := r.polls()
		if !r.GiveUp(context.Background(), first) || r.GiveUp(context.Background(), first) {
			t.Error("not given up once")
		}
		r.want(first, session.Ended, session.CrowdedOut)
		r.want(r.lookup(firstKey), session.Ended, session.CrowdedOut)
		if n := r.Pending(); n != 2 {
			t.Errorf("%d pending, want 2", n)
		}
		r.idp.Approve("")
		r.Seen(second, nil)
		if s := r.Oldest(quiet); s != nil {
			t.Error("one that was just asked about is given up")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		r.want(watched, session.Active, "")
		r.want(second, session.Active, "")
		r.want(first, session.Ended, session.CrowdedOut)
		if n := r.polls() - polls; n != 2 {
			t.Errorf("%d polls after that, want one for each that is left", n)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.results) != 3 {
			t.Errorf("%d settled, want 3", len(r.results))
		}
	})
}

// TestGiveUpThatCannotBeWritten: the sign-in goes on at its pace.
func TestGiveUpThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, script(idptest.Error(400, "slow_down"), idptest.Pending()))
		s, _ := r.signIn(5*time.Second, time.Hour)
		time.Sleep(90 * time.Second)
		synctest.Wait()
		r.st.refuse(func(store.Record) error { return errDown })
		if r.GiveUp(context.Background(), s) {
			t.Error("given up without a word in the store")
		}
		if n := r.Pending(); n != 1 {
			t.Errorf("%d pending, want 1", n)
		}
		r.st.refuse(nil)
		n := r.polls()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if again := r.polls() - n; again < 1 || again > 2 {
			t.Errorf("%d polls in two minutes, of one that nobody watches", again)
		}
		if !r.GiveUp(context.Background(), s) {
			t.Error("not given up once it can be written")
		}
	})
}

// TestGiveUpNothingDecided: what a person has decided, but could not be written
// down yet, is not thrown away to make room.
func TestGiveUpNothingDecided(t *testing.T) {
	for name, c := range map[string]struct {
		decide func(*rig)
		state  session.State
		reason session.Reason
	}{
		"approved": {func(r *rig) { r.idp.Approve("") }, session.Active, ""},
		"declined": {func(r *rig) { r.idp.Deny("") }, session.Denied, session.Declined},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				s, _ := r.signIn(5*time.Second, time.Hour)
				r.st.refuse(func(store.Record) error { return errDown })
				c.decide(r)
				time.Sleep(90 * time.Second)
				synctest.Wait()
				r.st.refuse(nil)
				if got := r.Oldest(time.Minute); got != nil || r.GiveUp(context.Background(), s) {
					t.Error("a decided sign-in is given up")
				}
				time.Sleep(time.Minute)
				r.want(s, c.state, c.reason)
			})
		})
	}
}
