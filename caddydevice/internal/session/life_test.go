// This file holds the tests of how a session runs out, and why.

package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunsOut(t *testing.T) {
	const never = 1000 * time.Hour
	for name, c := range map[string]struct {
		idle, lifetime time.Duration
		tokens         time.Duration
		after          time.Duration // from the approval, which comes after a minute
		reason         Reason
	}{
		"token":                      {0, 0, time.Hour, time.Hour, TokenExpired},
		"token before lifetime":      {0, 2 * time.Hour, time.Hour, time.Hour, TokenExpired},
		"lifetime before token":      {0, 2 * time.Hour, never, 2*time.Hour - time.Minute, LifetimeOver},
		"lifetime in place of idle":  {never, time.Hour, never, time.Hour - time.Minute, LifetimeOver},
		"idle":                       {30 * time.Minute, never, never, 30 * time.Minute, IdleTooLong},
		"idle longer than the token": {never, never, time.Hour, time.Hour, TokenExpired},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				n := newLogin(Terminal)
				n.Idle, n.Lifetime = c.idle, c.lifetime
				s, key, err := r.Create(context.Background(), n)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if err := s.Activate(context.Background(), lasting(c.tokens)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.after - time.Nanosecond)
				r.want(s, Active, "")
				time.Sleep(time.Nanosecond)
				r.want(s, Ended, c.reason)
				if s.Now().Identity != nil {
					t.Error("what has run out still says who signed in")
				}
				r.want(r.lookup(key), Ended, c.reason)
				r.Sweep(context.Background())
				r.want(r.node().lookup(key), Ended, c.reason)
			})
		})
	}
}

func TestCodeRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, key := r.pending(Terminal)
		waiting := s.Now().Next()
		time.Sleep(10*time.Minute - time.Nanosecond)
		r.want(s, Pending, "")
		time.Sleep(time.Nanosecond)
		r.want(s, Expired, CodeExpired)
		if s.Now().Login != nil || s.Now().Next() != waiting {
			t.Error("a code that has run out still shows, or its waiters hear of another session")
		}
		r.want(r.node().lookup(key), Expired, CodeExpired) // without a word in the store
		r.Sweep(context.Background())
		<-waiting
		if deadline := s.Deadline(); !deadline.Equal(s.Created().Add(10 * time.Minute)) {
			t.Errorf("deadline %v", deadline)
		}
		time.Sleep(tombstoneLife)
		r.wantUnknown(key)
	})
}

func TestUseKeepsFromIdling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		n := newLogin(Terminal)
		n.Idle = time.Hour
		s, _, err := r.Create(context.Background(), n)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Activate(context.Background(), lasting(100*time.Hour)); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			time.Sleep(time.Hour - time.Second)
			r.want(s, Active, "")
			s.Use()
		}
		time.Sleep(time.Hour)
		r.want(s, Ended, IdleTooLong)
	})
}

// TestIdleBeginsWithTheApproval: who was away for longer than idle while
// somebody else approved is in all the same, and a stream that ends later
// revives nothing.
func TestIdleBeginsWithTheApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		n := newLogin(Terminal)
		n.Idle = 2 * time.Minute
		s, key, err := r.Create(context.Background(), n)
		if err != nil {
			t.Fatal(err)
		}
		end, _ := s.Watch(1)
		time.Sleep(3 * time.Minute)
		if err := s.Activate(context.Background(), lasting(100*time.Hour)); err != nil {
			t.Fatal(err)
		}
		r.want(s, Active, "")
		r.want(r.node().lookup(key), Active, "")
		time.Sleep(2*time.Minute - time.Nanosecond)
		r.want(s, Active, "")
		time.Sleep(time.Nanosecond)
		end()
		r.want(s, Ended, IdleTooLong)
	})
}

// TestIdleTimeOutlivesARestart: a process that starts anew knows when a session
// was used, but for a tenth of its idle time and the sweep, and never ends one
// too soon.
func TestIdleTimeOutlivesARestart(t *testing.T) {
	const idle = 10 * time.Hour
	for name, c := range map[string]struct {
		away  time.Duration // from the last use to the first look after a restart
		state State
	}{
		"a moment":         {time.Second, Active},
		"just under idle":  {idle - time.Second, Active},
		"idle, and margin": {idle + usedEvery(idle) + sweepSlack, Ended},
		"long":             {3 * idle, Ended},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				n := newLogin(Terminal)
				n.Idle = idle
				s, key, err := r.Create(context.Background(), n)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Activate(context.Background(), lasting(1000*time.Hour)); err != nil {
					t.Fatal(err)
				}
				puts := r.st.puts.Load()
				const inUse = 25*time.Hour + 30*time.Minute // the record knows of an earlier use than the last
				for range int(inUse / (30 * time.Second)) {
					time.Sleep(30 * time.Second)
					s.Use()
					r.Sweep(context.Background())
				}
				if n := r.st.puts.Load() - puts; n < 24 || n > 26 {
					t.Errorf("%d writes in %v of use", n, inUse)
				}
				next := r.node()
				time.Sleep(c.away)
				again := next.lookup(key)
				if got := again.Now(); got.State != c.state {
					t.Fatalf("session is %s %q, want %s", got.State, got.Reason, c.state)
				}
				if c.state == Ended {
					r.want(again, Ended, IdleTooLong)
					return
				}
				again.Use()
				time.Sleep(idle - time.Second)
				r.want(again, Active, "")
			})
		})
	}
}

// TestRefreshNeverExtendsTheLifetime: it counts from the first sign-in, also
// over the claim.
func TestRefreshNeverExtendsTheLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		n := newLogin(Browser)
		n.Lifetime, n.Idle = 24*time.Hour, 0
		s, _, err := r.Create(context.Background(), n)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := s.Activate(context.Background(), newIdentity()); err != nil {
			t.Fatal(err)
		}
		heir := r.lookup(r.claim(s))
		time.Sleep(23 * time.Hour)
		id := newIdentity()
		id.TokensUntil = time.Now().Add(1000 * time.Hour)
		if err := heir.Renew(context.Background(), id.RefreshToken, id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Minute - time.Nanosecond)
		r.want(heir, Active, "")
		time.Sleep(time.Nanosecond)
		r.want(heir, Ended, LifetimeOver)
	})
}

func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, _ := r.pending(Terminal)
		s.Hold(s.Deadline().Add(time.Minute))
		time.Sleep(10 * time.Minute)
		r.want(s, Pending, "")
		r.Sweep(context.Background())
		r.want(s, Pending, "")
		s.Hold(time.Time{})
		r.want(s, Expired, CodeExpired)
		s.Hold(s.Deadline().Add(time.Minute))
		time.Sleep(time.Minute)
		r.want(s, Expired, CodeExpired)

		// a hold never shortens, nor keeps what is active
		s, _ = r.active(Terminal)
		s.Hold(time.Now())
		r.want(s, Active, "")
		s.Hold(time.Now().Add(5 * time.Hour))
		time.Sleep(time.Hour)
		r.want(s, Ended, TokenExpired)
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, _ := r.pending(Terminal)
		time.Sleep(time.Minute)
		if s.Watched(time.Minute) || !s.Watched(time.Minute+1) {
			t.Error("watched counts from the wrong moment")
		}
		var ends []func()
		for range 4 {
			done, ok := s.Watch(4)
			if !ok {
				t.Fatal("refused below the limit")
			}
			ends = append(ends, done)
		}
		if _, ok := s.Watch(4); ok {
			t.Error("let in beyond the limit")
		}
		time.Sleep(5 * time.Minute)
		if !s.Watched(0) {
			t.Error("an open stream watches nothing")
		}
		for _, done := range ends {
			done()
		}
		if s.Watched(0) || !s.Watched(time.Second) {
			t.Error("the end of a stream is a use, and no more")
		}
		if done, ok := s.Watch(1); !ok {
			t.Error("the places were not given back")
		} else {
			done()
		}
	})
}

// TestHowLongItIsRemembered: anybody can start a sign-in, so attempts are
// forgotten sooner than sessions.
func TestHowLongItIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		keys := map[Key]time.Duration{}
		for _, state := range []State{Denied, Expired, Failed} {
			s, key := r.pending(Terminal)
			r.end(s, state, Declined)
			keys[key] = attemptLife
		}
		s, key := r.pending(Terminal)
		r.end(s, Ended, Replaced)
		keys[key] = attemptLife
		s, key = r.active(Terminal)
		r.end(s, Ended, SignedOut)
		keys[key] = tombstoneLife
		_, key = r.pending(Terminal)
		keys[key] = 10*time.Minute + attemptLife // left alone
		begin := time.Now()
		for key, life := range keys {
			if until := r.record(key).Until.Sub(begin); until != life {
				t.Errorf("%s: kept for %v, want %v", r.record(key).State, until, life)
			}
		}
	})
}
