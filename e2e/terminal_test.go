// This file is the terminal's side: real curl, and reading what it was given.
package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/curl"
)

const asJSON = "Accept: application/json"

// answer is the JSON form.
type answer struct {
	Status      string `json:"status"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Reason      string `json:"reason"`
	UserCode    string `json:"user_code"`
	URI         string `json:"verification_uri"`
	Complete    string `json:"verification_uri_complete"`
	ExpiresIn   int    `json:"expires_in"`
	Interval    int    `json:"interval"`
	Session     string `json:"session"`
	WaitURI     string `json:"wait_uri"`
	QRURI       string `json:"qr_uri"`
	LoginURI    string `json:"login_uri"`
	User        string `json:"user"`
	Subject     string `json:"sub"`
}

// needProgram fails the test where a Debian package is missing.
func needProgram(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed: run make deps", name)
	}
}

// curl runs curl; session keys in the answer are noted as secrets.
func (s *stage) curl(t *testing.T, args ...string) curl.Result {
	t.Helper()
	needProgram(t, "curl")
	got := curl.Run(s.ctx, t, args...)
	if got.ExitCode != 0 {
		t.Fatalf("curl ended with %d: %s", got.ExitCode, got.Stderr)
	}
	s.canaries.AddText(t, got.Body, got.Header.Get("Set-Cookie"))
	return got
}

// get asks for a path of the first site.
func (s *stage) get(t *testing.T, path string, args ...string) curl.Result {
	t.Helper()
	return s.curl(t, append(args, s.url+path)...)
}

// json asks for a path and reads the answer, which must have that status.
func (s *stage) json(t *testing.T, status int, path string, args ...string) answer {
	t.Helper()
	return readJSON(t, s.get(t, path, append(args, "-H", asJSON)...), status)
}

func readJSON(t *testing.T, got curl.Result, status int) answer {
	t.Helper()
	wantStatus(t, got, status)
	var a answer
	if err := json.Unmarshal([]byte(got.Body), &a); err != nil {
		t.Fatalf("%v: %s", err, got.Body)
	}
	return a
}

func wantStatus(t *testing.T, got curl.Result, status int) {
	t.Helper()
	if got.Status != status {
		t.Fatalf("status %d, want %d\n%v\n%s", got.Status, status, got.Header, got.Body)
	}
}

// startJSON starts a sign-in as a program.
func (s *stage) startJSON(t *testing.T, path string) answer {
	t.Helper()
	a := s.json(t, 401, path)
	if a.Status != "pending" || a.Error != "authorization_pending" || a.Session == "" {
		t.Fatalf("no sign-in was started: %s %s", a.Status, a.Error)
	}
	return a
}

// signIn starts a sign-in, has it approved, and returns the key.
func (s *stage) signIn(t *testing.T) string {
	t.Helper()
	a := s.startJSON(t, "/")
	s.approve(t, a.Complete)
	s.wantActive(t, a.Session)
	return a.Session
}

// wait asks how a sign-in came out, until it has.
func (s *stage) wait(t *testing.T, key string) curl.Result {
	t.Helper()
	for {
		got := s.get(t, "/.device/wait?timeout=60", "-H", bearer(key), "-H", asJSON)
		if got.Status != 202 {
			return got
		}
	}
}

func (s *stage) wantActive(t *testing.T, key string) {
	t.Helper()
	if a := readJSON(t, s.wait(t, key), 200); a.Status != "active" || a.User != "alice" || a.Subject != "id-of-alice" {
		t.Fatalf("%+v", a)
	}
}

var sessionKey = regexp.MustCompile(`dvc_[A-Za-z0-9_-]{43}`)

// keyIn is the key in the line that goes on.
func keyIn(t *testing.T, command string) string {
	t.Helper()
	key := sessionKey.FindString(command)
	if key == "" {
		t.Fatal("the line that goes on has no key")
	}
	return key
}

func bearer(key string) string { return "Authorization: Bearer " + key }

// instructions are what a person takes from the text form.
type instructions struct{ uri, code, command string }

var (
	uriLine     = regexp.MustCompile(`(?m)^https?://\S+$`)
	codeLine    = regexp.MustCompile(`(?m)^[A-Z]{4}-[A-Z]{4}$`)
	commandLine = regexp.MustCompile(`(?m)^curl .*$`)
)

func readText(t *testing.T, body string) instructions {
	t.Helper()
	got := instructions{uriLine.FindString(body), codeLine.FindString(body), commandLine.FindString(body)}
	if got.uri == "" || got.code == "" {
		t.Fatalf("address or code is not alone on a line:\n%s", body)
	}
	return got
}

// wantOurs fails unless the answer has what all of the gateway's own have.
func wantOurs(t *testing.T, h http.Header) {
	t.Helper()
	referrer := "no-referrer"
	if strings.HasPrefix(h.Get("Content-Type"), "text/html") {
		referrer = "same-origin"
	}
	for name, value := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": referrer,
	} {
		if h.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, h.Get(name), value)
		}
	}
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("%s is there", name)
		}
	}
}

// wantInvalidToken fails unless a bearer was refused as RFC 6750 §3.1 says.
func wantInvalidToken(t *testing.T, got curl.Result, reason string) {
	t.Helper()
	a := readJSON(t, got, 401)
	if challenge := got.Header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Bearer ") || !strings.Contains(challenge, `error="invalid_token"`) {
		t.Errorf("WWW-Authenticate: %s", challenge)
	}
	if a.Reason != reason || a.UserCode != "" || !strings.HasSuffix(a.LoginURI, "/.device/login") {
		t.Errorf("reason %q, want %q; user code %q, login %q", a.Reason, reason, a.UserCode, a.LoginURI)
	}
	wantOurs(t, got.Header)
}

// setCookies are the cookies that an answer sets, by name.
func setCookies(h http.Header) map[string]*http.Cookie {
	all := map[string]*http.Cookie{}
	for _, c := range (&http.Response{Header: h}).Cookies() {
		all[c.Name] = c
	}
	return all
}

// ourCookie is the cookie that the gateway sets without TLS.
const ourCookie = "device_auth"

func cookie(key string) string { return fmt.Sprintf("%s=%s", ourCookie, key) }
