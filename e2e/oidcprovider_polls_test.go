// This file shows what the provider sees of the polls: never too soon, never
// after the end.
package e2e

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/record"
)

// hurry asks again and again, as an impatient person would: no request of the
// client brings a poll forward.
func (s *stage) hurry(t *testing.T, key string, until func() bool) {
	t.Helper()
	s.await(t, "polls", func() bool {
		s.get(t, "/", "-H", bearer(key))
		return until()
	})
}

func TestDefaultInterval(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{asItIs: true})
	a := s.startJSON(t, "/")
	if a.Interval != 5 {
		t.Errorf("the interval is said to be %d", a.Interval)
	}
	s.hurry(t, a.Session, func() bool { return len(s.polls(t, a.UserCode)) >= 2 })
	s.approve(t, a.Complete)
	s.wantActive(t, a.Session)
	gap, n := s.rec.MinGap(s.code(t, a.UserCode).hash)
	if n != 3 || gap < 5*time.Second || gap > 8*time.Second {
		t.Errorf("%d gaps, the shortest %v", n, gap)
	}
}

func TestSlowDown(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	var said atomic.Bool
	s.rec.Rewrite(func(r *http.Request) (int, []byte, bool) {
		if r.PostForm.Get("device_code") == "" || said.Swap(true) {
			return 0, nil, false
		}
		return http.StatusBadRequest, []byte(`{"error":"slow_down"}`), true
	})
	a := s.startJSON(t, "/")
	s.hurry(t, a.Session, func() bool { return len(s.polls(t, a.UserCode)) >= 3 })
	if again := s.json(t, 401, "/", "-H", bearer(a.Session)); again.Interval != 6 {
		t.Errorf("after slow_down the interval is said to be %d", again.Interval)
	}
	polls := s.polls(t, a.UserCode)
	if polls[0].Error != "slow_down" {
		t.Fatalf("the first answer was %+v", polls[0])
	}
	wantGaps(t, polls, 6*time.Second)
	s.approve(t, a.Complete)
	s.wantActive(t, a.Session)
	wantGaps(t, s.polls(t, a.UserCode), 6*time.Second)
}

func wantGaps(t *testing.T, polls []record.Entry, least time.Duration) {
	t.Helper()
	for i := 1; i < len(polls); i++ {
		if gap := polls[i].Start.Sub(polls[i-1].End); gap < least {
			t.Errorf("poll %d came %v after the answer before it, want at least %v", i, gap, least)
		}
	}
}

// TestNoPollAfterTheEnd approves, and lets time pass with the key in use.
func TestNoPollAfterTheEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	a := s.startJSON(t, "/")
	s.approve(t, a.Complete)
	s.wantActive(t, a.Session)
	n := len(s.polls(t, a.UserCode))
	clock := s.startJSON(t, "/clock")
	s.hurry(t, a.Session, func() bool { return len(s.polls(t, clock.UserCode)) >= 3 })
	if now := len(s.polls(t, a.UserCode)); now != n {
		t.Errorf("%d polls after the approval was heard", now-n)
	}
}

// TestHungUp: a client that goes away while it waits loses nothing.
func TestHungUp(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	a := s.startJSON(t, "/")
	stream := curl.Open(s.ctx, t, "-H", bearer(a.Session), s.gate.URL()+"/.device/login")
	if _, err := stream.Until(s.ctx, a.UserCode); err != nil {
		t.Fatal(err)
	}
	stream.Close()
	s.approve(t, a.Complete)
	polls := s.awaitPolls(t, a.UserCode, 1)
	s.await(t, "the approval", func() bool {
		polls = s.polls(t, a.UserCode)
		return polls[len(polls)-1].Status == http.StatusOK
	})
	s.wantActive(t, a.Session)
	wantAlice(t, echo(t, s.get(t, "/", "-H", bearer(a.Session)).Body))
}
