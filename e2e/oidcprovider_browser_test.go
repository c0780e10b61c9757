// This file shows the same from a browser: a page with a code, an approval
// elsewhere, the claim, and the page that was asked for.
package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
)

// way is how one kind of browser asks.
type way struct {
	name                  string
	typed, script, onward browser.Fetch
	scriptless            bool
}

var ways = []way{
	{name: "with Sec-Fetch headers", typed: browser.Typed, script: browser.Script, onward: browser.Reload},
	{name: "without them", typed: browser.Old, script: browser.Old, onward: browser.Old},
	{name: "without a script", typed: browser.Typed, onward: browser.Reload, scriptless: true},
	{name: "without both", typed: browser.Old, onward: browser.Old, scriptless: true},
}

func TestBrowser(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	t.Run("ways", func(t *testing.T) {
		for i, b := range ways {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel()
				s.browserToUpstream(t, b, "/reports/"+string(rune('a'+i)))
			})
		}
	})
	if n := len(s.rec.Starts()); n != len(ways) {
		t.Errorf("%d device authorizations for %d sign-ins", n, len(ways))
	}
}

func (s *stage) browserToUpstream(t *testing.T, b way, path string) {
	asked := path + "?day=1&to=%2F%2Fother"
	w := s.newWindow(t)
	w.open(t, asked, b.typed)
	w.want(t, 401)
	code := w.code(t)
	if complete := s.code(t, code).complete; scanSVG(t, w.page.Body) != complete {
		t.Errorf("the QR code holds %q, want %q", scanSVG(t, w.page.Body), complete)
	}
	old := w.key(t)
	if b.scriptless {
		s.waitByRefresh(t, w, b, code)
	} else {
		s.waitByScript(t, w, b, code)
	}
	w.want(t, 303)
	to := w.page.Header.Get("Location")
	if welcomes := strings.HasPrefix(to, "/.device/login?") && strings.Contains(to, "welcome=1"); welcomes != b.scriptless || !b.scriptless && to != asked {
		t.Fatalf("the claim leads to %q, want %q", to, asked)
	}
	fresh := setCookies(w.page.Header)[ourCookie]
	if fresh == nil || fresh.Value == old {
		t.Fatal("the claim gave no new key")
	}
	s.loseClaim(t, w, b, old)
	if len(s.upstreamSaw(path)) != 0 {
		t.Error("the upstream was reached before the claim was through")
	}

	w.follow(t)
	if b.scriptless {
		w.welcomed(t, asked)
	}
	w.want(t, 200)
	seen := echo(t, w.page.Body)
	if seen.URI != asked {
		t.Errorf("the upstream saw %q, want %q", seen.URI, asked)
	}
	wantAlice(t, seen)
	if w.page.Header.Get("Set-Cookie") != "" {
		t.Error("the gateway set a cookie on the upstream's answer")
	}
	s.oldKeyOpensNothing(t, old, asked, b)
	if n := len(s.upstreamSaw(path)); n != 1 {
		t.Errorf("%d requests reached the upstream, want 1", n)
	}
}

// welcomed reads who has signed in, and goes on as the page does by itself.
func (w *window) welcomed(t *testing.T, asked string) {
	t.Helper()
	w.want(t, 200)
	if w.page.HTML.Refresh == nil || !strings.Contains(w.page.Body, "Signed in as alice") {
		t.Fatalf("nobody is welcomed:\n%s", w.page.Body)
	}
	w.goTo(t, asked, browser.Reload)
}

// waitByScript asks wait until the approval, then loads the page anew.
func (s *stage) waitByScript(t *testing.T, w *window, b way, code string) {
	if got, a := w.askWait(t, "1", b.script); got.Status != 202 || a.Status != "pending" || a.UserCode != code {
		t.Fatalf("%d %+v", got.Status, a)
	}
	s.approve(t, s.code(t, code).complete)
	if got, a := w.awaitEnd(t, b.script); got.Status != 200 || a.Status != "active" || a.User != "" {
		t.Fatalf("%d %+v", got.Status, a)
	}
	_, to, _ := w.script(t)
	if b.script != browser.Old { // without these headers a navigation cannot be told from a fetch that asks for HTML
		w.goTo(t, to, browser.Script)
		w.want(t, 401)
		if w.page.Header.Get("Set-Cookie") != "" {
			t.Error("a fetch got the new key")
		}
	}
	w.goTo(t, to, b.onward)
}

// waitByRefresh does nothing but what the page's meta element asks for.
func (s *stage) waitByRefresh(t *testing.T, w *window, b way, code string) {
	s.approve(t, s.code(t, code).complete)
	if w.page.HTML.Refresh == nil {
		t.Fatal("the page does not go on without a script")
	}
	if b.onward == browser.Reload {
		w.page = w.FollowRefresh(s.ctx, t, w.page)
	} else {
		// FollowRefresh sends Sec-Fetch headers; the address is what counts here.
		address := w.page.HTML.Refresh.URL.String()
		if got, a := w.awaitEnd(t, browser.Old); got.Status != 200 {
			t.Fatalf("%d %+v", got.Status, a)
		}
		w.open(t, address, b.onward)
	}
	w.note(t)
}

// loseClaim asks as a browser would whose answer with the new key was lost:
// the same key comes again.
func (s *stage) loseClaim(t *testing.T, w *window, b way, old string) {
	again := s.newWindow(t)
	again.SetCookies(t, s.gate.URL(), &http.Cookie{Name: ourCookie, Value: old})
	again.open(t, w.page.URL.String(), b.onward)
	again.want(t, 303)
	if again.key(t) != w.key(t) {
		t.Error("the repeated claim gave another key")
	}
}

// oldKeyOpensNothing asks with the key that was superseded.
func (s *stage) oldKeyOpensNothing(t *testing.T, old, asked string, b way) {
	late := s.newWindow(t)
	late.SetCookies(t, s.gate.URL(), &http.Cookie{Name: ourCookie, Value: old})
	late.open(t, asked, b.typed)
	for again := 0; ; again++ {
		late.want(t, 401)
		if late.page.Header.Get("Set-Cookie") != "" || pageCode.MatchString(late.page.Body) {
			t.Error("the old key got a cookie or a new sign-in")
		}
		if late.page.HTML.Refresh == nil {
			t.Fatalf("the page loaded itself %d times, want 3", again)
		}
		if again == 3 { // and a minute later it begins anew
			if late.page.HTML.Refresh.After != time.Minute {
				t.Errorf("the fourth time is after %v", late.page.HTML.Refresh.After)
			}
			break
		}
		late.page = late.FollowRefresh(s.ctx, t, late.page)
	}
	a := s.json(t, 401, asked, "-b", cookie(old))
	if a.Error != "session_superseded" || a.Status != "superseded" || a.UserCode != "" {
		t.Errorf("%+v", a)
	}
	wantInvalidToken(t, s.get(t, asked, "-H", bearer(old), "-H", asJSON), "unknown")
}

func TestBrowserLogin(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	w := s.newWindow(t)

	// A link to the login path leads to `to` in the end.
	w.open(t, "/.device/login?to=%2Fafter%3Fx%3D1", browser.Linked)
	w.want(t, 200)
	first := w.code(t)

	// The button makes a new code and gives the old one up.
	if len(w.page.HTML.Forms) != 1 {
		t.Fatalf("%d forms on the page", len(w.page.HTML.Forms))
	}
	form := w.page.HTML.Forms[0]
	w.page = w.Submit(s.ctx, t, w.page, form, &form.Buttons[0], nil)
	w.want(t, 303)
	w.follow(t)
	w.want(t, 200)
	second := w.code(t)
	if second == first {
		t.Fatal("the button brought no new code")
	}

	s.approve(t, s.code(t, second).complete)
	if got, a := w.awaitEnd(t, browser.Script); got.Status != 200 {
		t.Fatalf("%d %+v", got.Status, a)
	}
	_, to, _ := w.script(t)
	w.goTo(t, to, browser.Reload)
	w.want(t, 303)
	w.follow(t)
	w.want(t, 200)
	if seen := echo(t, w.page.Body); seen.URI != "/after?x=1" {
		t.Errorf("the upstream saw %s", seen.URI)
	}
	before := len(s.polls(t, first))
	s.passTime(t, 2)
	if n := len(s.polls(t, first)); n != before {
		t.Errorf("%d polls for a code that was given up", n-before)
	}

	// Who is signed in already goes straight on; a page without the cookie
	// says so and starts nothing.
	w.open(t, "/.device/login?to=/next", browser.Linked)
	w.want(t, 303)
	starts := len(s.rec.Starts())
	lost := s.newWindow(t)
	lost.open(t, "/.device/login?again=1", browser.Reload)
	lost.want(t, 401)
	if !strings.Contains(lost.page.HTML.Text, "did not keep") || len(s.rec.Starts()) != starts || len(lost.page.HTML.Forms) != 1 {
		t.Errorf("without the cookie: %s", lost.page.HTML.Text)
	}
}
