// This file shows what happens while the provider is out of reach: nothing is
// lost, and what needs no provider goes on.
package e2e

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
	"github.com/caddydevice/device-auth/e2e/internal/curl"
)

func TestProviderStopsWhilePending(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	a := s.startJSON(t, "/")
	before := len(s.awaitPolls(t, a.UserCode, 1))
	s.idp.Stop(t)
	polls := s.awaitPolls(t, a.UserCode, before+2)
	if last := polls[len(polls)-1]; last.Status != 0 {
		t.Fatalf("a stopped provider answered with %d", last.Status)
	}
	if again := s.json(t, 401, "/", "-H", bearer(a.Session)); again.UserCode != a.UserCode || again.Reason != "away" {
		t.Errorf("while the provider is away the code, or what is said of it, is %+v", again)
	}
	s.idp.StartAgain(t)
	s.approve(t, a.Complete)
	s.wantActive(t, a.Session)
	wantAlice(t, echo(t, s.get(t, "/", "-H", bearer(a.Session)).Body))
	if n := len(s.rec.Starts()); n != 1 {
		t.Errorf("%d device authorizations for 1 sign-in", n)
	}
	s.passTime(t, 1)
}

// twoSites are a protected one and an open one in the same Caddy.
func twoSites() string {
	return oneSite(deviceAuth("", manyStarts)) + "http://localhost:{$GATE_PORT_2} {\nrespond open\n}\n"
}

func TestProviderAway(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{caddyfile: twoSites(), lineDown: true})
	t.Run("when Caddy starts", func(t *testing.T) { s.comesUpLate(t) })
	t.Run("later", func(t *testing.T) { s.goesAway(t) })
}

// comesUpLate begins with a provider that nobody has reached yet.
func (s *stage) comesUpLate(t *testing.T) {
	w := s.newWindow(t)
	w.open(t, "/page?x=1", browser.Typed)
	s.wantUnavailable(t)
	w.want(t, 503)
	refresh := w.page.HTML.Refresh
	if refresh == nil || refresh.URL.RequestURI() != "/page?x=1" || refresh.After > 20*time.Second {
		t.Fatalf("the page loads itself %+v", refresh)
	}
	if w.page.Header.Get("Set-Cookie") != "" {
		t.Error("a cookie was set")
	}

	// One retry, when the answer said, is enough; nothing is reloaded.
	got := s.get(t, "/")
	seconds, err := strconv.Atoi(got.Header.Get("Retry-After"))
	if got.Status != 503 || err != nil {
		t.Fatalf("%d, Retry-After: %q", got.Status, got.Header.Get("Retry-After"))
	}
	s.rec.Down(false)
	ctx, cancel := context.WithTimeout(s.ctx, time.Duration(seconds)*time.Second)
	defer cancel()
	<-ctx.Done()
	s.startJSON(t, "/")
	w.page = w.FollowRefresh(s.ctx, t, w.page)
	w.want(t, 401)
	w.code(t)
}

// goesAway breaks the line under an active and an over session.
func (s *stage) goesAway(t *testing.T) {
	active, over := s.signIn(t), s.signIn(t)
	wantStatus(t, s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(over)), 204)
	s.rec.Down(true)
	s.wantUnavailable(t)
	for _, credential := range [][]string{{"-H", bearer(active)}, {"-b", cookie(active)}} {
		got := s.get(t, "/still", credential...)
		wantStatus(t, got, 200)
		wantAlice(t, echo(t, got.Body))
	}
	got := s.get(t, "/", "-b", cookie(over))
	wantStatus(t, got, 503)
	if got.Header.Get("Set-Cookie") != "" {
		t.Error("the cookie was touched")
	}
	s.rec.Down(false)
	s.startJSON(t, "/")
}

// wantUnavailable fails unless a start is answered 503 and the other site
// serves.
func (s *stage) wantUnavailable(t *testing.T) {
	t.Helper()
	got := s.get(t, "/", "-H", asJSON)
	a := readJSON(t, got, 503)
	if a.Status != "unavailable" || a.Error != "temporarily_unavailable" || a.UserCode != "" {
		t.Errorf("%+v", a)
	}
	if n, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || n < 1 || n > 60 {
		t.Errorf("Retry-After: %q", got.Header.Get("Retry-After"))
	}
	if got.Header.Get("Set-Cookie") != "" {
		t.Error("a cookie was set")
	}
	wantOurs(t, got.Header)
	if other := curl.Run(s.ctx, t, "http://localhost:"+s.gate.Port2()); other.Body != "open" {
		t.Errorf("the other site: %+v", other)
	}
}
