// This file shows the same over https, where the cookie is bound to the host,
// and that a cookie in the clear has to be asked for.
package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/gate"
)

const tlsCookie = "__Host-device_auth"

func TestTLS(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{
		caddyfile: "localhost:{$GATE_PORT} {\nlog\ntls internal\n" + deviceAuth("", manyStarts) + "reverse_proxy {$UPSTREAM}\n}\n",
	})
	site := "https://localhost:" + s.gate.Port()
	t.Run("browser", func(t *testing.T) { s.tlsBrowser(t, site) })
	t.Run("curl", func(t *testing.T) { s.tlsCurl(t, site) })
}

func (s *stage) tlsBrowser(t *testing.T, site string) {
	w := s.newWindow(t, s.gate.RootCA())
	w.open(t, site+"/page", browser.Typed)
	w.want(t, 401)
	first := wantTLSCookie(t, w.page.Header)
	s.approve(t, s.code(t, w.code(t)).complete)
	if got, a := w.awaitEnd(t, browser.Script); got.Status != 200 {
		t.Fatalf("%d %+v", got.Status, a)
	}
	w.goTo(t, "/page", browser.Reload)
	w.want(t, 303)
	if fresh := wantTLSCookie(t, w.page.Header); fresh.Value == first.Value {
		t.Error("the claim gave the old key")
	}
	w.follow(t)
	w.want(t, 200)
	seen := echo(t, w.page.Body)
	wantAlice(t, seen)
	if seen.Header.Get("Cookie") != "" || seen.Header.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("the upstream saw %v", seen.Header)
	}
	// A cookie by the name without the prefix is not ours here.
	planted := s.newWindow(t, s.gate.RootCA())
	planted.SetCookies(t, site, &http.Cookie{Name: ourCookie, Value: w.Cookie(t, site, tlsCookie)})
	planted.open(t, site+"/page", browser.Typed)
	planted.want(t, 401)

	w.open(t, site+"/.device/session", browser.Linked)
	form := w.page.HTML.Forms[0]
	w.page = w.Submit(s.ctx, t, w.page, form, &form.Buttons[0], nil)
	w.want(t, 303)
	if c := setCookies(w.page.Header)[tlsCookie]; c == nil || c.MaxAge >= 0 || !c.Secure || c.Path != "/" {
		t.Errorf("the cookie is not taken away: %v", c)
	}
}

// wantTLSCookie fails unless the one cookie that is set is as the prefix wants
// it (RFC 6265bis §4.1.3.2).
func wantTLSCookie(t *testing.T, h http.Header) *http.Cookie {
	t.Helper()
	c := setCookies(h)[tlsCookie]
	if c == nil || len(h["Set-Cookie"]) != 1 {
		t.Fatal("the cookie is not set")
	}
	if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 30*24*60*60 {
		t.Errorf("Secure %v, HttpOnly %v, SameSite %v, Path %s, Domain %q, Max-Age %d", c.Secure, c.HttpOnly, c.SameSite, c.Path, c.Domain, c.MaxAge)
	}
	return c
}

func (s *stage) tlsCurl(t *testing.T, site string) {
	jar := filepath.Join(t.TempDir(), "jar")
	trust := []string{"--cacert", s.gate.RootCA(), "-c", jar, "-b", jar}
	got := s.curl(t, append(trust, site+"/tls")...)
	wantStatus(t, got, 401)
	if got.Proto != "HTTP/2" {
		t.Errorf("%s", got.Proto)
	}
	shown := readText(t, got.Body)
	if !strings.Contains(shown.command, "'"+site+"/tls'") {
		t.Error("the line that goes on leads elsewhere")
	}
	s.approve(t, scanText(t, got.Body))
	wantStatus(t, s.curl(t, append(trust, site+"/.device/wait?timeout=60")...), 200)
	got = s.curl(t, append(trust, site+"/tls")...)
	wantStatus(t, got, 200)
	wantAlice(t, echo(t, got.Body))
	line := strings.Replace(shown.command, "curl ", "curl --cacert '"+s.gate.RootCA()+"' ", 1)
	wantAlice(t, echo(t, curl.Shell(s.ctx, t, line).Out))
}

// TestCookieInTheClear asks `caddy validate`, as an operator would.
func TestCookieInTheClear(t *testing.T) {
	t.Parallel()
	env := map[string]string{"ISSUER": "https://idp.example.com", "UPSTREAM": "127.0.0.1:1"}
	site := func(address string, lines ...string) gate.Options {
		return gate.Options{Caddyfile: address + " {\n" + deviceAuth("", lines...) + "reverse_proxy {$UPSTREAM}\n}\n", Env: env}
	}
	for _, address := range []string{"http://app.example.com:{$GATE_PORT}", "http://:{$GATE_PORT}", "http://localhost:{$GATE_PORT}, http://app.example.com:{$GATE_PORT}"} {
		out, err := gate.Validate(t, site(address))
		if err == nil {
			t.Errorf("%s is allowed", address)
		}
		for _, remedy := range []string{"https", "public_url", "bind", "insecure_cookie"} {
			if !strings.Contains(out, remedy) {
				t.Errorf("%s: the remedy %s is not named in\n%s", address, remedy, out)
			}
		}
	}
	for _, o := range []gate.Options{
		site("http://app.example.com:{$GATE_PORT}", "insecure_cookie"),
		site("http://app.example.com:{$GATE_PORT}", "public_url https://app.example.com"),
		site("http://localhost:{$GATE_PORT}, http://127.0.0.1:{$GATE_PORT}"),
		site("app.example.com:{$GATE_PORT}"),
	} {
		out, err := gate.Validate(t, o)
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		warned := strings.Contains(out, "the session cookie is not Secure")
		if insecure := strings.Contains(o.Caddyfile, "http://") && !strings.Contains(o.Caddyfile, "public_url"); warned != insecure {
			t.Errorf("a warning: %v, want %v\n%s\n%s", warned, insecure, o.Caddyfile, out)
		}
	}
}
