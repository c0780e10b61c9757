// This file shows the gateway's own paths: who is signed in, signing out, the
// QR code alone, waiting, and the login link.
package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
	"github.com/caddydevice/device-auth/e2e/internal/curl"
)

func TestPaths(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	t.Run("session", s.sessionPath)
	t.Run("logout", s.logoutPath)
	t.Run("logout in a browser", s.logoutPage)
	t.Run("qr.svg", s.qrPath)
	t.Run("wait", s.waitPath)
	t.Run("login to", s.loginTo)
	t.Run("others", s.otherPaths)
	for _, r := range s.up.Requests() {
		if strings.HasPrefix(r.URI, "/.device") {
			t.Errorf("%s reached the upstream", r.URI)
		}
	}
}

func (s *stage) sessionPath(t *testing.T) {
	for _, args := range [][]string{nil, {"-H", "Accept: text/html"}} {
		got := s.get(t, "/.device/session", args...)
		wantStatus(t, got, 401)
		wantOurs(t, got.Header)
	}
	if a := s.json(t, 401, "/.device/session"); a.Error != "login_required" || a.UserCode != "" {
		t.Errorf("%+v", a)
	}
	key := s.signIn(t)
	text := s.get(t, "/.device/session", "-H", bearer(key))
	wantStatus(t, text, 200)
	wantOurs(t, text.Header)
	if !strings.HasPrefix(text.Body, "Signed in to localhost as alice. Since ") {
		t.Errorf("%s", text.Body)
	}
	if a := s.json(t, 200, "/.device/session", "-H", bearer(key)); a.Status != "active" || a.User != "alice" || a.Subject != "id-of-alice" {
		t.Errorf("%+v", a)
	}
	if head := s.get(t, "/.device/session", "-I", "-H", bearer(key)); head.Status != 200 || head.Header.Get("Content-Length") == "" {
		t.Errorf("HEAD: %d %v", head.Status, head.Header)
	}
	wantStatus(t, s.get(t, "/.device/session", "-b", cookie(key)), 200)
}

func (s *stage) logoutPath(t *testing.T) {
	key := s.signIn(t)
	foreign := s.get(t, "/.device/logout", "-X", "POST", "-b", cookie(key), "-H", "Origin: https://evil.example")
	wantStatus(t, foreign, 403)
	wantOurs(t, foreign.Header)
	wantStatus(t, s.get(t, "/.device/logout", "-X", "POST", "-b", cookie(key), "-H", "Sec-Fetch-Site: cross-site"), 403)
	wantStatus(t, s.get(t, "/", "-H", bearer(key)), 200)

	got := s.get(t, "/.device/logout", "-X", "POST", "-b", cookie(key))
	wantStatus(t, got, 204)
	if c := setCookies(got.Header)[ourCookie]; c == nil || c.Value != "" || c.MaxAge >= 0 || c.Path != "/" {
		t.Errorf("the cookie is not taken away: %v", c)
	}
	wantInvalidToken(t, s.get(t, "/", "-H", bearer(key), "-H", asJSON), "signed_out")
	if text := s.get(t, "/", "-H", bearer(key)); text.Status != 401 || !strings.Contains(text.Body, "signed out") {
		t.Errorf("%d %s", text.Status, text.Body)
	}
	// A jar that still has it gets a new sign-in, and is told why.
	if next := s.json(t, 401, "/", "-b", cookie(key)); next.Reason != "signed_out" || next.UserCode == "" {
		t.Errorf("%+v", next)
	}

	// By bearer no cookie is touched; nobody signed in is no mistake.
	other := s.signIn(t)
	if got := s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(other)); got.Status != 204 || got.Header.Get("Set-Cookie") != "" {
		t.Errorf("%d %v", got.Status, got.Header)
	}
	wantStatus(t, s.get(t, "/.device/logout", "-X", "POST"), 204)
}

func (s *stage) logoutPage(t *testing.T) {
	w := s.signedInWindow(t, "/window")
	key := w.key(t)
	w.open(t, "/.device/session", browser.Linked)
	w.want(t, 200)
	wantOurs(t, w.page.Header)
	if len(w.page.HTML.Forms) != 1 || !strings.Contains(w.page.HTML.Text, "alice") {
		t.Fatalf("the page says %q", w.page.HTML.Text)
	}
	form := w.page.HTML.Forms[0]
	w.page = w.Submit(s.ctx, t, w.page, form, &form.Buttons[0], nil)
	w.want(t, 303)
	if w.key(t) != "" {
		t.Error("the browser still has the key")
	}
	w.follow(t)
	w.want(t, 401)
	old := s.newWindow(t)
	old.SetCookies(t, s.gate.URL(), &http.Cookie{Name: ourCookie, Value: key})
	old.open(t, "/window", browser.Typed)
	old.want(t, 401)
	if old.code(t); !strings.Contains(old.page.HTML.Text, "signed out") {
		t.Errorf("the old key's page says %q", old.page.HTML.Text)
	}
}

func (s *stage) qrPath(t *testing.T) {
	wantStatus(t, s.get(t, "/.device/qr.svg"), 404)
	a := s.startJSON(t, "/")
	got := s.get(t, "/.device/qr.svg", "-H", bearer(a.Session))
	wantStatus(t, got, 200)
	wantOurs(t, got.Header)
	if got.Header.Get("Content-Type") != "image/svg+xml" || scanSVG(t, got.Body) != a.Complete {
		t.Errorf("%s: the code holds %q", got.Header.Get("Content-Type"), scanSVG(t, got.Body))
	}
	if a.QRURI != s.gate.URL()+"/.device/qr.svg" || a.WaitURI != s.gate.URL()+"/.device/wait" {
		t.Errorf("qr_uri %s, wait_uri %s", a.QRURI, a.WaitURI)
	}
	s.approve(t, a.Complete)
	s.wantActive(t, a.Session)
	wantStatus(t, s.get(t, "/.device/qr.svg", "-H", bearer(a.Session)), 404)
}

func (s *stage) waitPath(t *testing.T) {
	wantStatus(t, s.get(t, "/.device/wait"), 401)
	wantStatus(t, s.get(t, "/.device/wait?timeout=soon"), 400)
	a := s.startJSON(t, "/")
	for seconds, timeout := range []string{"0", "1"} {
		begin := time.Now()
		if got := s.json(t, 202, "/.device/wait?timeout="+timeout, "-H", bearer(a.Session)); got.Status != "pending" || got.UserCode != a.UserCode {
			t.Errorf("%+v", got)
		}
		if took := time.Since(begin); took < time.Duration(seconds)*time.Second || took > 20*time.Second {
			t.Errorf("timeout=%s took %v", timeout, took)
		}
	}
	// Four at a time: the streams show that they are open by what they write.
	for range 4 {
		stream := curl.Open(s.ctx, t, "-H", bearer(a.Session), s.gate.URL()+"/.device/login")
		if _, err := stream.Until(s.ctx, a.UserCode); err != nil {
			t.Fatal(err)
		}
	}
	got := s.get(t, "/.device/wait", "-H", bearer(a.Session))
	wantStatus(t, got, 429)
	if got.Header.Get("Retry-After") == "" || len(got.Body) > 1000 {
		t.Errorf("%v %s", got.Header, got.Body)
	}
}

// loginTo gives the login link destinations that would lead elsewhere.
func (s *stage) loginTo(t *testing.T) {
	for _, to := range []string{
		"//evil.example", "https://evil.example", "http:evil.example", `/\evil.example`, `\\evil.example`, `\/evil.example`,
		"///evil.example", "/\t/evil.example", "\t//evil.example", "/\n/evil.example", " //evil.example", "javascript:alert(1)",
		"data:text/html,x", "evil.example", "/%5cevil.example", "/.//evil.example", "/..//evil.example", "/%2f/evil.example", "/%09/evil.example",
		"/x\r\nSet-Cookie: a=b", "/@evil.example", "/\x00/evil.example", "/é", "?x", "#x", "", `/"><script>alert(1)</script>`, "/" + strings.Repeat("a", 5000),
	} {
		w := s.newWindow(t)
		w.open(t, "/.device/login?to="+url.QueryEscape(to), browser.Linked)
		if w.page.Status == http.StatusBadRequest {
			continue
		}
		w.want(t, 200)
		w.code(t)
		_, onward, reload := w.script(t)
		for _, address := range []string{onward, reload, w.page.HTML.Refresh.URL.String(), w.page.HTML.Forms[0].Values(nil).Get("to")} {
			s.wantHere(t, to, w.page.URL, address)
		}
		if strings.Contains(w.page.Body, "<script>alert") {
			t.Errorf("%q is a script in the page", to)
		}
	}
	// What passed is where a signed-in browser is sent.
	w := s.signedInWindow(t, "/window")
	for _, to := range []string{"/%5cevil.example", "/.//evil.example", "/..//evil.example", "/@evil.example"} {
		w.open(t, "/.device/login?to="+url.QueryEscape(to), browser.Linked)
		if w.page.Status != http.StatusBadRequest {
			w.want(t, 303)
			s.wantHere(t, to, w.page.URL, w.page.Header.Get("Location"))
		}
	}
}

// wantHere resolves an address as browsers do (WHATWG URL §4.4): tabs and line
// ends are dropped, a backslash is a slash, dot segments are resolved first.
func (s *stage) wantHere(t *testing.T, to string, base *url.URL, address string) {
	t.Helper()
	plain := strings.NewReplacer("\t", "", "\r", "", "\n", "", `\`, "/").Replace(strings.TrimSpace(address))
	u, err := base.Parse(plain)
	if err != nil || u.Scheme != base.Scheme || u.Host != base.Host {
		t.Errorf("to=%q leads to %q: %v", to, address, err)
	}
}

func (s *stage) otherPaths(t *testing.T) {
	key := s.signIn(t)
	for _, path := range []string{"/.device", "/.device/", "/.device/nothing", "/.device/login/x", "/.device/qr.exe"} {
		got := s.get(t, path, "-H", bearer(key))
		wantStatus(t, got, 404)
		wantOurs(t, got.Header)
	}
	for _, tt := range []struct{ method, path, allow string }{
		{"GET", "/.device/logout", "POST"}, {"DELETE", "/.device/session", "GET, HEAD"}, {"PUT", "/.device/login", "GET, POST"},
		{"POST", "/.device/wait", "GET"}, {"OPTIONS", "/.device/login", "GET, POST"},
	} {
		got := s.get(t, tt.path, "-X", tt.method, "-H", bearer(key))
		wantStatus(t, got, 405)
		if got.Header.Get("Allow") != tt.allow {
			t.Errorf("%s %s: Allow: %s, want %s", tt.method, tt.path, got.Header.Get("Allow"), tt.allow)
		}
	}
	// However the path is spelled, it is the gateway's.
	for _, path := range []string{"/%2edevice/session", "/.device%2fsession", "/.%64evice/session"} {
		if got := s.get(t, path, "--path-as-is", "-H", bearer(key)); got.Status != 200 || !strings.HasPrefix(got.Body, "Signed in") {
			t.Errorf("%s: %d %s", path, got.Status, got.Body)
		}
	}
}
