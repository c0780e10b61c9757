// This file shows the sign-ins that nobody gets in by: declined, run out, and
// refused because the gateway itself is set up wrongly.
package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

func (s *stage) deny(t *testing.T, complete string, signInFirst bool) {
	t.Helper()
	person, device := idpserver.NewPerson(t), idpserver.Device{Complete: complete}
	say := person.Deny
	if signInFirst {
		say = person.DenyAfterSignIn
	}
	if err := say(s.ctx, device, idpserver.Bob, idpserver.BobPassword); err != nil {
		t.Fatal(err)
	}
}

func TestDeny(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	t.Run("sides", func(t *testing.T) {
		t.Run("terminal", func(t *testing.T) { t.Parallel(); s.denyTerminal(t) })
		t.Run("browser", func(t *testing.T) { t.Parallel(); s.denyBrowser(t) })
		t.Run("stream", func(t *testing.T) { t.Parallel(); s.denyStream(t) })
	})
	s.passTime(t, 3) // lastLook finds what was polled after the end
}

// wantDenied fails unless the no was heard by the last poll.
func (s *stage) wantDenied(t *testing.T, userCode string) {
	t.Helper()
	if polls := s.polls(t, userCode); len(polls) == 0 || polls[len(polls)-1].Error != "access_denied" {
		t.Errorf("the last poll is not the one that was denied: %+v", polls)
	}
}

func (s *stage) denyTerminal(t *testing.T) {
	a := s.startJSON(t, "/")
	s.deny(t, a.Complete, false)
	end := readJSON(t, s.wait(t, a.Session), 403)
	if end.Status != "denied" || end.Error != "access_denied" || end.Reason != "declined" {
		t.Errorf("wait says %+v", end)
	}
	s.wantDenied(t, a.UserCode)
	text := s.get(t, "/.device/wait", "-H", bearer(a.Session))
	wantStatus(t, text, 403)
	if !strings.Contains(text.Body, "declined") {
		t.Errorf("wait says %q", text.Body)
	}
	wantInvalidToken(t, s.get(t, "/", "-H", bearer(a.Session), "-H", asJSON), "declined")

	// A jar that still holds the key gets a new sign-in, and is told why.
	next := s.get(t, "/", "-b", cookie(a.Session))
	wantStatus(t, next, 401)
	if shown := readText(t, next.Body); shown.code == a.UserCode || !strings.Contains(next.Body, "declined") {
		t.Errorf("after a no the jar gets\n%s", next.Body)
	}
}

func (s *stage) denyBrowser(t *testing.T) {
	w := s.newWindow(t)
	w.open(t, "/page", browser.Typed)
	first := w.code(t)
	s.deny(t, s.code(t, first).complete, true)
	if got, a := w.awaitEnd(t, browser.Script); got.Status != 403 || a.Status != "denied" {
		t.Fatalf("%d %+v", got.Status, a)
	}
	s.wantDenied(t, first)
	_, to, reload := w.script(t)
	w.goTo(t, reload, browser.Reload)
	w.want(t, 401)
	if !strings.Contains(w.page.HTML.Text, "was declined") || len(w.page.HTML.Forms) != 1 {
		t.Errorf("the page says %q", w.page.HTML.Text)
	}
	w.goTo(t, to, browser.Typed)
	w.want(t, 401)
	if w.code(t) == first || !strings.Contains(w.page.HTML.Text, "was declined") {
		t.Errorf("the next page says %q", w.page.HTML.Text)
	}
}

func (s *stage) denyStream(t *testing.T) {
	stream := curl.Open(s.ctx, t, s.gate.URL()+"/.device/login")
	lines, err := stream.Until(s.ctx, "curl ")
	if err != nil {
		t.Fatal(err)
	}
	s.deny(t, s.code(t, readText(t, strings.Join(lines, "\n")).code).complete, false)
	if _, err := stream.Until(s.ctx, "was declined"); err != nil {
		t.Fatal(err)
	}
	if line, err := stream.Line(s.ctx); err == nil {
		t.Errorf("the stream goes on with %q", line)
	}
}

// TestExpiry shows that a code ends when the provider said it would, whether
// the provider keeps to that or answers authorization_pending for ever.
func TestExpiry(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]plan{
		"the provider forgets the code": {codeLife: 4 * time.Second},
		"the provider never says so":    {expiresIn: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, p)
			a := s.startJSON(t, "/")
			w := s.newWindow(t)
			w.open(t, "/page", browser.Typed)
			first := w.code(t)

			end := readJSON(t, s.wait(t, a.Session), 410)
			if end.Status != "expired" || end.Error != "expired_token" {
				t.Errorf("wait says %+v", end)
			}
			wantInvalidToken(t, s.get(t, "/", "-H", bearer(a.Session), "-H", asJSON), "code_expired")
			if text := s.get(t, "/.device/wait", "-H", bearer(a.Session)); text.Status != 410 || !strings.Contains(text.Body, "expired") {
				t.Errorf("%d %s", text.Status, text.Body)
			}
			s.expiredPage(t, w, first)

			s.passTime(t, 2)
			for _, userCode := range []string{a.UserCode, first} {
				deadline := s.code(t, userCode).answered.Add(4 * time.Second)
				polls := s.polls(t, userCode)
				if len(polls) == 0 {
					t.Error("no polls at all")
				}
				for _, poll := range polls {
					if poll.Start.After(deadline) {
						t.Errorf("a poll came %v after the deadline", poll.Start.Sub(deadline))
					}
				}
			}
			// A late yes changes nothing.
			if p.expiresIn > 0 {
				s.approve(t, a.Complete)
				s.passTime(t, 2)
				wantInvalidToken(t, s.get(t, "/", "-H", bearer(a.Session), "-H", asJSON), "code_expired")
			}
		})
	}
}

// expiredPage goes on as the script does, and presses the button.
func (s *stage) expiredPage(t *testing.T, w *window, first string) {
	if got, a := w.awaitEnd(t, browser.Script); got.Status != 410 {
		t.Fatalf("%d %+v", got.Status, a)
	}
	_, _, reload := w.script(t)
	w.goTo(t, reload, browser.Reload)
	w.want(t, 401)
	if !strings.Contains(w.page.HTML.Text, "expired") || len(w.page.HTML.Forms) != 1 {
		t.Fatalf("the page says %q", w.page.HTML.Text)
	}
	form := w.page.HTML.Forms[0]
	w.page = w.Submit(s.ctx, t, w.page, form, &form.Buttons[0], nil)
	w.want(t, 303)
	w.follow(t)
	if w.code(t) == first {
		t.Error("the button brought the old code")
	}
	if _, to, _ := w.script(t); to != "/page" {
		t.Errorf("the new page leads to %q", to)
	}
}

func TestWrongClientSecret(t *testing.T) {
	t.Parallel()
	const wrong = "a-secret-that-is-not-right"
	s := newStage(t, plan{
		secret:    wrong,
		caddyfile: "http://localhost:{$GATE_PORT} {\nlog\ndevice_auth {\nissuer {$ISSUER}\nclient_id " + idpserver.BasicClient + "\nclient_secret {env.SECRET}\n}\nreverse_proxy {$UPSTREAM}\n}\n",
	})
	s.canaries.Add(t, "client secret", wrong)
	w := s.newWindow(t)
	w.open(t, "/page", browser.Typed)
	text, page := s.get(t, "/"), w.page
	a := s.json(t, 502, "/")
	if a.Status != "failed" || a.Error != "server_error" || a.Reason != "setup" || a.UserCode != "" {
		t.Errorf("%+v", a)
	}
	if text.Status != 502 || page.Status != 502 {
		t.Errorf("text: status %d, page: %d", text.Status, page.Status)
	}
	for _, body := range []string{text.Body, page.Body, a.Description} {
		if strings.Contains(body, "invalid_client") || strings.Contains(body, "client authentication") {
			t.Errorf("the provider's words reached the client: %s", body)
		}
		if !strings.Contains(body, "operator") {
			t.Errorf("it is not said who can help: %s", body)
		}
	}
	if text.Header.Get("Set-Cookie") != "" || page.Header.Get("Set-Cookie") != "" {
		t.Error("a cookie was set")
	}
	s.wantLogged(t, "invalid_client")
	if n := len(s.rec.Polls()); n != 0 {
		t.Errorf("%d polls without a code", n)
	}
}

// wantLogged waits for an error in the gateway's log that has the text; the log
// comes a moment after the answer.
func (s *stage) wantLogged(t *testing.T, text string) {
	t.Helper()
	s.await(t, "an error in the log: "+text, func() bool {
		for _, line := range s.gate.Lines() {
			if strings.Contains(line, `"level":"error"`) && strings.Contains(line, text) {
				return true
			}
		}
		return false
	})
}
