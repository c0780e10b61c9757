// This file shows that loading another configuration disturbs nobody: sign-ins
// under way keep their code and their pace, sessions go on.
package e2e

import (
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
	"github.com/caddydevice/device-auth/e2e/internal/curl"
)

func TestReload(t *testing.T) {
	t.Parallel()
	before := oneSite(deviceAuth("", manyStarts))
	s := newStage(t, plan{caddyfile: before})
	active := s.signIn(t)
	pending := s.startJSON(t, "/pending")
	w := s.newWindow(t)
	w.open(t, "/window", browser.Typed)
	code := w.code(t)
	stream, shown, _ := s.openLogin(t)
	patient := s.startJSON(t, "/held")
	held := curl.Open(s.ctx, t, "-i", "-H", bearer(patient.Session), "-H", "Prefer: wait=300", s.gate.URL()+"/held")
	waiting := curl.Open(s.ctx, t, "-i", "-H", bearer(pending.Session), s.gate.URL()+"/.device/wait?timeout=120")

	for i, change := range []string{"one", "two"} {
		s.awaitPolls(t, pending.UserCode, 2*i+1)
		s.gate.Reload(t, strings.Replace(before, "log\n", "log\nheader X-Change "+change+"\n", 1))
		got := s.get(t, "/active", "-H", bearer(active))
		wantStatus(t, got, 200)
		if got.Header.Get("X-Change") != change {
			t.Fatalf("the change is not there: %v", got.Header)
		}
		wantAlice(t, echo(t, got.Body))
		if a := s.json(t, 401, "/pending", "-H", bearer(pending.Session)); a.UserCode != pending.UserCode {
			t.Errorf("after change %s the code is another: %+v", change, a)
		}
		w.open(t, "/window", browser.Typed)
		if w.code(t) != code {
			t.Errorf("after change %s the page has another code", change)
		}
	}
	if _, err := waiting.Until(s.ctx, "HTTP/1.1 202"); err != nil {
		t.Errorf("the wait ended without an answer: %v", err)
	}
	if _, err := stream.Until(s.ctx, "Run the same command again"); err != nil {
		t.Errorf("the stream ended without a hint: %v", err)
	}

	s.approve(t, patient.Complete)
	if _, err := held.Until(s.ctx, "HTTP/1.1 200"); err != nil {
		t.Errorf("the request that waited did not go on: %v", err)
	}
	if n := len(s.upstreamSaw("/held")); n != 1 {
		t.Errorf("it reached the upstream %d times", n)
	}

	s.awaitPolls(t, pending.UserCode, 5)
	s.approve(t, pending.Complete)
	s.wantActive(t, pending.Session)
	wantAlice(t, echo(t, s.get(t, "/pending", "-H", bearer(pending.Session)).Body))
	s.approve(t, s.code(t, code).complete)
	w.awaitEnd(t, browser.Script)
	w.goTo(t, "/window", browser.Reload)
	w.want(t, 303)
	w.follow(t)
	w.want(t, 200)
	s.approve(t, s.code(t, shown.code).complete)
	s.await(t, "the stream's sign-in", func() bool {
		polls := s.polls(t, shown.code)
		return polls[len(polls)-1].Status == 200
	})
	if n := len(s.rec.Starts()); n != 5 {
		t.Errorf("%d device authorizations for 5 sign-ins", n)
	}
}
