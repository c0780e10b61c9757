// This file shows how many sign-ins one client may start, and which requests
// start none.
package e2e

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
)

// startless are requests that start no sign-in, as arguments of curl.
var startless = map[string][]string{
	"HEAD":                    {"-I"},
	"OPTIONS":                 {"-X", "OPTIONS"},
	"TRACE":                   {"-X", "TRACE"},
	"XHR":                     {"-H", "X-Requested-With: XMLHttpRequest"},
	"CORS preflight":          {"-X", "OPTIONS", "-H", "Origin: https://other.example", "-H", "Access-Control-Request-Method: PUT", "-H", "Access-Control-Request-Headers: authorization"},
	"CORS request":            {"-H", "Origin: https://other.example"},
	"prefetch":                {"-H", "Sec-Purpose: prefetch", "-H", "Accept: text/html"},
	"prefetch, old":           {"-H", "Purpose: prefetch", "-H", "Accept: text/html"},
	"prefetch of a page":      {"-H", "Sec-Fetch-Site: same-origin", "-H", "Sec-Fetch-Mode: no-cors", "-H", "Sec-Fetch-Dest: empty", "-H", "Sec-Purpose: prefetch"},
	"prefetch of a program":   {"-H", "Sec-Purpose: prefetch;prerender"},
	"image":                   {"-H", "Sec-Fetch-Site: same-origin", "-H", "Sec-Fetch-Mode: no-cors", "-H", "Sec-Fetch-Dest: image"},
	"frame":                   {"-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Dest: iframe", "-H", "Accept: text/html"},
	"fetch of a page":         {"-H", "Sec-Fetch-Site: same-origin", "-H", "Sec-Fetch-Mode: cors", "-H", "Sec-Fetch-Dest: empty"},
	"form of a page":          {"-X", "POST", "-H", "Sec-Fetch-Site: same-origin", "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Dest: document", "-H", "Accept: text/html"},
	"image of an old browser": {"-H", "Accept: image/*", "-H", "Referer: http://localhost/"},
	"WebSocket":               {"-H", "Connection: Upgrade", "-H", "Upgrade: websocket"},
	"gRPC":                    {"-X", "POST", "-H", "Content-Type: application/grpc"},
}

// mayLogin are those that a page of this site may send to the login path.
var mayLogin = map[string]bool{"fetch of a page": true, "form of a page": true}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{caddyfile: oneSite(deviceAuth(""))}) // the default: 10 a minute
	for name, args := range startless {
		s.wantNoStart(t, name, "/", args)
		if !mayLogin[name] {
			s.wantNoStart(t, name+" of login", "/.device/login", args)
		}
	}
	s.wantNoStart(t, "favicon", "/favicon.ico", nil)
	s.wantNoStart(t, "robots", "/robots.txt", nil)
	if n := len(s.rec.Starts()); n != 0 {
		t.Fatalf("%d sign-ins were started", n)
	}

	first := s.startJSON(t, "/")
	for range 9 {
		wantStatus(t, s.get(t, "/"), 401)
	}
	got := s.get(t, "/", "-H", asJSON)
	if a := readJSON(t, got, 429); a.Status != "limited" || a.Error != "slow_down" {
		t.Errorf("%+v", a)
	}
	if n, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || n < 1 || n > 60 {
		t.Errorf("Retry-After: %q", got.Header.Get("Retry-After"))
	}
	wantOurs(t, got.Header)
	w := s.newWindow(t)
	w.open(t, "/page", browser.Typed)
	w.want(t, 429)
	for form, size := range map[string]int{"JSON": len(got.Body), "text": len(s.get(t, "/").Body)} {
		if size > 600 {
			t.Errorf("the %s answer has %d bytes", form, size)
		}
	}
	if got.Header.Get("Set-Cookie") != "" || w.page.Header.Get("Set-Cookie") != "" {
		t.Error("a cookie was set")
	}
	if n := len(s.rec.Starts()); n != 10 {
		t.Errorf("the provider saw %d starts", n)
	}
	// Who has a code already is not held up.
	if a := s.json(t, 401, "/", "-H", bearer(first.Session)); a.UserCode != first.UserCode {
		t.Errorf("%+v", a)
	}
}

func (s *stage) wantNoStart(t *testing.T, name, path string, args []string) {
	t.Helper()
	before := len(s.rec.Starts())
	got := s.get(t, path, append(args, "-H", "X-Test: "+name, "--max-time", "10")...)
	if got.Status != 401 && !(path == "/.device/login" && (got.Status == 405 || got.Status == 403)) {
		t.Errorf("%s: status %d\n%s", name, got.Status, got.Body)
	}
	if got.Header.Get("Set-Cookie") != "" || len(s.rec.Starts()) != before {
		t.Errorf("%s started a sign-in", name)
	}
	if name == "gRPC" && got.Header.Get("Grpc-Status") != "16" {
		t.Errorf("gRPC status %q", got.Header.Get("Grpc-Status"))
	}
	wantOurs(t, got.Header)
}

// TestLimitForAll: a client that hides its address counts with all others.
func TestLimitForAll(t *testing.T) {
	t.Parallel()
	global := "{\ndevice_auth {\nlimits {\nstarts 3 1h\n}\n}\n}\n"
	s := newStage(t, plan{caddyfile: global + oneSite(deviceAuth("", manyStarts))})
	for i := range 3 {
		wantStatus(t, s.get(t, "/", "-H", "X-Forwarded-For: 192.0.2."+strconv.Itoa(i)), 401)
	}
	wantStatus(t, s.get(t, "/", "-H", "X-Forwarded-For: 192.0.2.77"), 429)
	if n := len(s.rec.Starts()); n != 3 {
		t.Errorf("the provider saw %d starts", n)
	}
}

// TestFullPendingTable: the oldest sign-in that nobody has asked about for a
// minute makes room; where all are asked about, there is none.
func TestFullPendingTable(t *testing.T) {
	t.Parallel()
	global := "{\ndevice_auth {\nlimits {\npending 2\n}\n}\n}\n"
	s := newStage(t, plan{caddyfile: global + oneSite(deviceAuth("", manyStarts))})
	forgotten, watched := s.startJSON(t, "/"), s.startJSON(t, "/")
	begun := time.Now()
	if a := s.json(t, 429, "/"); a.Status != "limited" || a.UserCode != "" {
		t.Errorf("the third: %+v", a)
	}
	s.hurry(t, watched.Session, func() bool { return time.Since(begun) > time.Minute })
	third := s.startJSON(t, "/")
	wantInvalidToken(t, s.get(t, "/", "-H", bearer(forgotten.Session), "-H", asJSON), "crowded")
	if a := s.json(t, 401, "/", "-H", bearer(watched.Session)); a.UserCode != watched.UserCode {
		t.Errorf("the one that was asked about: %+v", a)
	}
	if got := s.get(t, "/", "-b", cookie(forgotten.Session)); got.Status != 429 {
		t.Errorf("with all places watched: status %d", got.Status)
	}
	s.approve(t, third.Complete)
	s.wantActive(t, third.Session)
	next := s.get(t, "/", "-b", cookie(forgotten.Session))
	wantStatus(t, next, 401)
	if readText(t, next.Body); !strings.Contains(next.Body, "given up") {
		t.Errorf("it is not said why the first is over:\n%s", next.Body)
	}
}
