// This file shows a site where only a part is protected: the rest is open, and
// nobody can use that to be somebody.
package e2e

import (
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/upstream"
)

// forged are the spellings of Remote-User that some upstream takes for it.
var forged = []string{"Remote-User: mallory", "Remote_User: mallory", "Remote.User: mallory", "rEmOtE-uSeR: mallory", "remote_user: mallory"}

func forgedArgs() []string {
	var args []string
	for _, line := range append(forged, "Remote-Groups: wheel", "Remote_Groups: wheel") {
		args = append(args, "-H", line)
	}
	return args
}

// lenient has a second server, on which Caddy itself does not drop the fields
// whose names have an underscore or a dot, as it does by default.
func lenient(directive string) string {
	options := "{\nservers :{$GATE_PORT_2} {\nexpected_underscore_headers remote_*\nexpected_dot_headers remote.*\n}\n}\n"
	return options + strings.Replace(oneSite(directive), " {\n", ", http://localhost:{$GATE_PORT_2} {\n", 1)
}

// bothServers are the addresses of a lenient site.
func (s *stage) bothServers() []string {
	return []string{s.gate.URL(), "http://localhost:" + s.gate.Port2()}
}

func TestPartlyOpen(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{caddyfile: lenient(deviceAuth("/api/*", manyStarts))})

	for _, server := range s.bothServers() {
		got := s.curl(t, append(forgedArgs(), server+"/")...)
		wantStatus(t, got, 200)
		wantNobody(t, echo(t, got.Body))
	}
	for _, path := range []string{"/api/", "/api/x", "/API/x"} {
		wantStatus(t, s.get(t, path), 401)
	}
	if len(s.rec.Starts()) != 3 {
		t.Errorf("%d sign-ins were started", len(s.rec.Starts()))
	}
	s.hiddenPaths(t, 401)
	s.noPath(t)

	key := s.signInAt(t, "/api/start")
	got := s.get(t, "/api/x", "-H", bearer(key))
	wantStatus(t, got, 200)
	wantAlice(t, echo(t, got.Body))
	s.hiddenPaths(t, 200, "-H", bearer(key))
	s.noPath(t, "-H", bearer(key))
	s.openKeepsSecrets(t, key)
}

func (s *stage) signInAt(t *testing.T, path string) string {
	t.Helper()
	a := s.startJSON(t, path)
	s.approve(t, a.Complete)
	s.wantActive(t, a.Session)
	return a.Session
}

// hiddenPaths are protected ones, spelled so that a matcher misses them and an
// upstream may not.
func (s *stage) hiddenPaths(t *testing.T, status int, args ...string) {
	t.Helper()
	for _, path := range []string{
		"/x/..%2fapi/secret", "//api/x", `/x\..\api/x`, "/x/..;/api/x", "/x/../api/x", "/./api/x", "/%61pi/x", "/x/%2e%2e/api/x",
		"/x%5c..%5capi/x", "/x/..%252fapi/x", "/;a/api/x", "/api;a=1/x", `/\api/x`, "/api%2fx", "//x/api/x",
	} {
		before := len(s.up.Requests())
		got := s.get(t, path, append(args, "--path-as-is")...)
		if got.Status != status {
			t.Errorf("%s: status %d, want %d", path, got.Status, status)
		}
		reached := len(s.up.Requests()) - before
		if status == 200 && reached != 1 || status != 200 && reached != 0 {
			t.Errorf("%s: %d requests reached the upstream", path, reached)
		}
	}
}

// openKeepsSecrets sends what a browser and a tool send everywhere to the open
// part.
func (s *stage) openKeepsSecrets(t *testing.T, key string) {
	for name, args := range map[string][]string{
		"cookie":      {"-b", "a=1; " + cookie(key) + "; b=2"},
		"bearer":      {"-H", bearer(key)},
		"basic":       {"-u", "anyone:" + key},
		"both":        {"-H", bearer(key), "-b", cookie(key)},
		"two bearers": {"-H", bearer(key), "-H", bearer(key)},
		"hop by hop":  {"-b", cookie(key), "-H", "Connection: Cookie, Authorization"},
	} {
		got := s.get(t, "/open", append(args, forgedArgs()...)...)
		wantStatus(t, got, 200)
		seen := echo(t, got.Body)
		wantNobody(t, seen)
		all := strings.Join(seen.RawHeader, "\n")
		if strings.Contains(all, "dvc_") || strings.Contains(all, ourCookie) || seen.Header.Get("Authorization") != "" {
			t.Errorf("%s: the upstream saw our credential", name)
		}
		if name == "cookie" && seen.Header.Get("Cookie") != "a=1; b=2" {
			t.Errorf("the other cookies became %q", seen.Header.Get("Cookie"))
		}
	}
}

// wantNobody fails where the upstream was told of a user.
func wantNobody(t *testing.T, r upstream.Request) {
	t.Helper()
	for _, name := range []string{"Remote-User", "Remote-Groups"} {
		if lines := spellings(r, name); len(lines) != 0 {
			t.Errorf("the upstream saw %q", lines)
		}
	}
}

// noPath asks for targets that hold no path for Go, but a whole one for an
// upstream (RFC 9112 §3.2.2): whoever is signed in gets no further either.
func (s *stage) noPath(t *testing.T, args ...string) {
	t.Helper()
	for _, target := range []string{"x:http://localhost/api/secret", "http:api/secret", "x:api"} {
		before := len(s.up.Requests())
		got := s.get(t, "/", append(args, "--request-target", target)...)
		if got.Status != 400 && got.Status != 401 || len(s.up.Requests()) != before {
			t.Errorf("%s: status %d, %d requests reached the upstream", target, got.Status, len(s.up.Requests())-before)
		}
	}
}
