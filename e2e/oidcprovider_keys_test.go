// This file shows in which places a session key counts, and in which it does
// not.
package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	key := s.signIn(t)
	t.Run("header", func(t *testing.T) { s.keyInHeader(t, key) })
	t.Run("netrc", func(t *testing.T) { s.keyInNetrc(t, key) })
	t.Run("jar", s.keyInJar)
	t.Run("browser's key as bearer", s.browserKeyAsBearer)
	t.Run("terminal's key in a browser", func(t *testing.T) { s.terminalKeyInBrowser(t, key) })
	t.Run("bad bearer", func(t *testing.T) { s.badBearer(t, key) })
	t.Run("another Authorization", func(t *testing.T) { s.otherAuthorization(t, key) })
	t.Run("another site", func(t *testing.T) { s.otherSite(t, key) })
}

func (s *stage) keyInHeader(t *testing.T, key string) {
	// Whatever else comes with it: a page of another origin cannot set it unseen.
	for _, extra := range []string{"X-None: 1", "Accept: text/html", "Origin: https://other.example", "Sec-Fetch-Site: cross-site"} {
		got := s.get(t, "/header", "-H", bearer(key), "-H", extra)
		wantStatus(t, got, 200)
		seen := echo(t, got.Body)
		wantAlice(t, seen)
		if seen.Header.Get("Authorization") != "" || got.Header.Get("Set-Cookie") != "" {
			t.Errorf("with %s the key went on, or a cookie came back", extra)
		}
	}
}

func (s *stage) keyInNetrc(t *testing.T, key string) {
	s.canaries.Add(t, "basic credential", base64.StdEncoding.EncodeToString([]byte("anyone:"+key)))
	file := filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(file, fmt.Appendf(nil, "machine localhost login anyone password %s\n", key), 0o600); err != nil {
		t.Fatal(err)
	}
	got := s.get(t, "/netrc", "--netrc-file", file)
	wantStatus(t, got, 200)
	seen := echo(t, got.Body)
	wantAlice(t, seen)
	if seen.Header.Get("Authorization") != "" {
		t.Error("the key went on to the upstream")
	}
}

func (s *stage) keyInJar(t *testing.T) {
	jar := filepath.Join(t.TempDir(), "jar")
	got := s.get(t, "/jar", "-c", jar, "-b", jar)
	wantStatus(t, got, 401)
	code := readText(t, got.Body).code
	set := setCookies(got.Header)[ourCookie]
	if set == nil || !set.HttpOnly || set.Secure || set.SameSite != http.SameSiteLaxMode || set.Path != "/" || set.Domain != "" || set.MaxAge != 30*24*60*60 {
		t.Errorf("the cookie's attributes are not right")
	}
	if again := s.get(t, "/jar", "-c", jar, "-b", jar); readText(t, again.Body).code != code {
		t.Error("the jar's second request got another code")
	}
	s.approve(t, s.code(t, code).complete)
	wantStatus(t, s.get(t, "/.device/wait?timeout=60", "-b", jar), 200)
	got = s.get(t, "/jar", "-c", jar, "-b", jar)
	wantStatus(t, got, 200)
	seen := echo(t, got.Body)
	wantAlice(t, seen)
	if seen.Header.Get("Cookie") != "" {
		t.Error("the cookie went on to the upstream")
	}
}

func (s *stage) browserKeyAsBearer(t *testing.T) {
	w := s.newWindow(t)
	w.open(t, "/bearer", browser.Typed)
	pending := w.key(t)
	wantInvalidToken(t, s.get(t, "/", "-H", bearer(pending), "-H", asJSON), "unknown")
	s.approve(t, s.code(t, w.code(t)).complete)
	w.awaitEnd(t, browser.Script)
	wantInvalidToken(t, s.get(t, "/", "-H", bearer(pending), "-H", asJSON), "unknown")
	w.goTo(t, "/bearer", browser.Reload)
	w.want(t, 303)
	w.follow(t)
	w.want(t, 200)
	wantInvalidToken(t, s.get(t, "/", "-H", bearer(w.key(t)), "-H", asJSON), "unknown")
}

func (s *stage) terminalKeyInBrowser(t *testing.T, key string) {
	w := s.newWindow(t)
	w.SetCookies(t, s.gate.URL(), &http.Cookie{Name: ourCookie, Value: key})
	w.open(t, "/planted", browser.Typed)
	w.want(t, 401)
	w.code(t)
	if w.key(t) == key {
		t.Error("the planted key stays in the browser")
	}
	if len(s.upstreamSaw("/planted")) != 0 {
		t.Error("the planted key let the browser in")
	}
	// Its owner still gets in.
	wantStatus(t, s.get(t, "/header", "-H", bearer(key)), 200)
}

func (s *stage) badBearer(t *testing.T, key string) {
	unknown := "dvc_" + strings.Repeat("A", 43)
	starts := len(s.rec.Starts())
	for _, bad := range []string{unknown, "dvc_short", unknown + "A"} {
		for _, args := range [][]string{{"-H", bearer(bad)}, {"-u", "anyone:" + bad}} {
			wantInvalidToken(t, s.get(t, "/bad", append(args, "-b", cookie(key), "-H", asJSON)...), "unknown")
		}
	}
	if n := len(s.rec.Starts()); n != starts {
		t.Errorf("%d sign-ins were started for bad bearers", n-starts)
	}
	for _, second := range []string{bearer(key), "Authorization: Basic YTpi"} {
		got := s.get(t, "/bad", "-H", bearer(key), "-H", second)
		wantStatus(t, got, 400)
		wantOurs(t, got.Header)
	}
	if len(s.upstreamSaw("/bad")) != 0 {
		t.Error("a bad bearer let a request through")
	}
}

// otherAuthorization is the upstream's own sign-in, beside ours in the cookie.
func (s *stage) otherAuthorization(t *testing.T, key string) {
	for _, own := range []string{"Basic YTpi", "Bearer some-token-of-the-upstream", `Digest username="a"`} {
		got := s.get(t, "/own", "-H", "Authorization: "+own, "-b", cookie(key))
		wantStatus(t, got, 200)
		seen := echo(t, got.Body)
		if len(seen.Header["Authorization"]) != 1 || seen.Header.Get("Authorization") != own {
			t.Errorf("the upstream saw %q, want %q", seen.Header["Authorization"], own)
		}
		wantAlice(t, seen)
	}
	// Who brings one gets the line with the cookie.
	got := s.get(t, "/own", "-u", "a:b")
	wantStatus(t, got, 401)
	line := readText(t, got.Body).command
	if !strings.Contains(line, "-b 'device_auth=dvc_") || strings.Contains(line, "-H") {
		t.Errorf("the line that goes on is %s", strings.Split(line, "dvc_")[0])
	}
}

// otherSite: the site listens for one name only, so another name has no site.
func (s *stage) otherSite(t *testing.T, key string) {
	got := s.curl(t, "-H", bearer(key), "http://other.localhost:"+s.gate.Port()+"/elsewhere")
	if got.Status == 200 && got.Body != "" || len(s.upstreamSaw("/elsewhere")) != 0 {
		t.Errorf("status %d: %s", got.Status, got.Body)
	}
}
