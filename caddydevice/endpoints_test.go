// This file tests the gateway's own paths.

package caddydevice

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

func TestReservedPaths(t *testing.T) {
	for _, row := range []struct {
		name    string
		request func(g *gate) request
		status  int
		body    string
		header  map[string]string
	}{
		{"login, curl", ask("GET", "/.device/login", curlHeaders), 200, "enter the code", nil},
		{"login, JSON", ask("GET", "/.device/login", jsonHeaders), 200, `"wait_uri":"https://api.example.com/.device/wait"`, nil},
		{"login, browser", ask("GET", "/.device/login?to=/x%3Fy=1", browserHeaders), 200, `name="to" value="/x?y=1"`, nil},
		{"login, HEAD", ask("HEAD", "/.device/login", curlHeaders), 405, "", map[string]string{"Allow": "GET, POST"}},
		{"login by a foreign fetch", ask("GET", "/.device/login", with(fetchHeaders, "Sec-Fetch-Site", "cross-site")), 401, "", nil},
		{"login, reloaded without the cookie", ask("GET", "/.device/login?again=1&to=/x", browserHeaders), 401, "did not keep", nil},
		{"login by a form", ask("POST", "/.device/login", with(browserHeaders, "Sec-Fetch-Site", "same-origin", "Origin", "https://api.example.com")), 303, "", map[string]string{"Location": "/.device/login?again=1"}},
		{"login by a foreign form", ask("POST", "/.device/login", with(browserHeaders, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.test")), 403, "", nil},
		{"login, pending", withKey("/.device/login", kioskPending, browserHeaders), 200, "WDJB-0001", nil},
		{"login, approved", withKey("/.device/login?to=/x", approvedKiosk, browserHeaders), 303, "", map[string]string{"Location": "/.device/login?to=%2Fx&welcome=1"}},
		{"login, claimed", withKey("/.device/login?to=/x&welcome=1", (*gate).kiosk, browserHeaders), 200, "alice", nil},
		{"login, welcomed without a session", ask("GET", "/.device/login?to=/x&welcome=1", browserHeaders), 200, "WDJB-0001", nil},
		{"login, signed in", withKey("/.device/login?to=/x", (*gate).kiosk, browserHeaders), 303, "", map[string]string{"Location": "/x"}},
		{"login, denied, reloaded", withKey("/.device/login?again=1", deniedKiosk, browserHeaders), 401, "was declined", nil},
		{"login, denied", withKey("/.device/login", deniedKiosk, browserHeaders), 200, "WDJB-0002", nil},
		{"wait, nobody", ask("GET", "/.device/wait", curlHeaders), 401, "", nil},
		{"wait, pending", withKey("/.device/wait?timeout=0", terminalPending, jsonHeaders), 202, `"status":"pending"`, nil},
		{"wait, approved: no name before the claim", withKey("/.device/wait", approvedKiosk, with(fetchHeaders, "Accept", "application/json")), 200, `{"status":"active"}`, nil},
		{"wait, signed in", withKey("/.device/wait", (*gate).terminal, jsonHeaders), 200, `"user":"alice"`, nil},
		{"wait, denied", withKey("/.device/wait", deniedKiosk, with(fetchHeaders, "Accept", "application/json")), 403, `"reason":"declined"`, nil},
		{"wait, signed out", withKey("/.device/wait", over(session.Ended, session.SignedOut), jsonHeaders), 410, `"error":"session_ended"`, nil},
		{"wait, bad timeout", ask("GET", "/.device/wait?timeout=x", curlHeaders), 400, "", nil},
		{"wait, negative timeout", ask("GET", "/.device/wait?timeout=-1", curlHeaders), 400, "", nil},
		{"wait, event stream, nobody", ask("GET", "/.device/wait", map[string]string{"Accept": "text/event-stream"}), 401, "not known here", nil},
		{"QR code", withKey("/.device/qr.svg", kioskPending, fetchHeaders), 200, "<svg", map[string]string{"Content-Type": "image/svg+xml"}},
		{"QR code, PNG", withKey("/.device/qr.png", kioskPending, fetchHeaders), 200, "\x89PNG", map[string]string{"Content-Type": "image/png"}},
		{"QR code, text", withBearer("/.device/qr.txt", terminalPending), 200, "▀", map[string]string{"Content-Type": "text/plain; charset=utf-8"}},
		{"QR code, nobody", ask("GET", "/.device/qr.svg", curlHeaders), 404, "", nil},
		{"QR code, approved", withKey("/.device/qr.svg", approvedKiosk, fetchHeaders), 404, "", nil},
		{"confirm, nobody", ask("POST", "/.device/confirm", curlHeaders), 401, "not known here", nil},
		{"confirm, not approved", post("/.device/confirm", kioskPending, browserHeaders, ""), 409, "Nobody has approved", nil},
		{"confirm, no need to", post("/.device/confirm", (*gate).kiosk, jsonHeaders, ""), 200, `"user":"alice"`, nil},
		{"confirm, bad destination", post("/.device/confirm", kioskPending, browserHeaders, "to=//evil.test"), 400, "must be a path", nil},
		{"confirm by a foreign form", func(g *gate) request {
			req := post("/.device/confirm", kioskPending, browserHeaders, "")(g)
			req.header = with(req.header, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.test")
			return req
		}, 403, "", nil},
		{"alive", post("/.device/login", kioskPending, with(fetchHeaders, "Origin", "https://api.example.com"), "alive=1"), 204, "", nil},
		{"alive, nobody", func(*gate) request {
			return request{method: "POST", target: "/.device/login", header: with(fetchHeaders, "Content-Type", formType), body: "alive=1"}
		}, 404, "No sign-in", nil},
		{"session, nobody", ask("GET", "/.device/session", jsonHeaders), 401, `"error":"login_required"`, nil},
		{"session, terminal", withBearer("/.device/session", (*gate).terminal), 200, "Signed in to api.example.com as alice", nil},
		{"session, JSON", withKey("/.device/session", (*gate).terminal, jsonHeaders), 200, `"user":"alice","sub":"sub-alice"`, nil},
		{"session, browser", withKey("/.device/session", (*gate).kiosk, browserHeaders), 200, "Sign out", nil},
		{"session, unknown format", ask("GET", "/.device/session?format=xml", curlHeaders), 400, "no such format", nil},
		{"session, unknown bearer", withBearer("/.device/session", func(*gate) string { return session.NewKey().Reveal() }), 401, "", invalidToken},
		{"logout by GET", ask("GET", "/.device/logout", browserHeaders), 405, "", map[string]string{"Allow": "POST"}},
		{"logout, nobody", ask("POST", "/.device/logout", curlHeaders), 204, "", nil},
		{"logout by a foreign form", func(g *gate) request {
			return request{method: "POST", target: "/.device/logout", header: with(g.cookieOf(browserHeaders, g.kiosk()), "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.test")}
		}, 403, "", nil},
		{"nothing there", ask("GET", "/.device/nothing", curlHeaders), 404, "", nil},
		{"the prefix itself", ask("GET", "/.device", curlHeaders), 404, "", nil},
		{"out of the prefix by dots", ask("GET", "/.device/../secret", curlHeaders), 404, "", nil},
		{"TRACE", ask("TRACE", "/.device/session", curlHeaders), 405, "", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGate(t, nil)
			req := row.request(g)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel() // a stream ends when its reader goes
			resp := g.doIn(ctx, req)
			if resp.StatusCode != row.status || !strings.Contains(g.body, row.body) {
				t.Errorf("%d, want %d with %q: %s", resp.StatusCode, row.status, row.body, g.body)
			}
			for name, want := range row.header {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if g.upstream != nil {
				t.Error("reached the upstream")
			}
			if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("headers: %v", resp.Header)
			}
		})
	}
}

func ask(method, target string, header map[string]string) func(*gate) request {
	return func(*gate) request { return request{method: method, target: target, header: header} }
}

func withKey(target string, key func(*gate) string, header map[string]string) func(*gate) request {
	return func(g *gate) request { return request{target: target, header: g.cookieOf(header, key(g))} }
}

const formType = "application/x-www-form-urlencoded"

// post sends a form with the key in a cookie, from a page of this origin.
func post(target string, key func(*gate) string, header map[string]string, form string) func(*gate) request {
	return func(g *gate) request {
		return request{
			method: "POST", target: target, body: form,
			header: with(g.cookieOf(header, key(g)), "Sec-Fetch-Site", "same-origin", "Content-Type", formType),
		}
	}
}

func withBearer(target string, key func(*gate) string) func(*gate) request {
	return func(g *gate) request { return request{target: target, header: bearer(key(g))} }
}

func kioskPending(g *gate) string    { return g.begun(browserHeaders) }
func terminalPending(g *gate) string { return g.begun(curlHeaders) }

func deniedKiosk(g *gate) string {
	key := g.begun(browserHeaders)
	g.end(key, session.Denied, session.Declined)
	return key
}

func TestLogout(t *testing.T) {
	g := newGate(t, nil)
	key := g.kiosk()
	resp := g.do(request{method: "POST", target: "/.device/logout", header: with(g.cookieOf(browserHeaders, key), "Sec-Fetch-Site", "same-origin")})
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/.device/session?signed_out" || !strings.Contains(resp.Header.Get("Set-Cookie"), "Max-Age=0") {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	resp = g.do(request{target: "/", header: g.cookieOf(fetchHeaders, key)})
	if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(g.body, "You have signed out.") || g.upstream != nil {
		t.Errorf("with the old key: %d %s", resp.StatusCode, g.body)
	}
	terminal := g.terminal()
	if resp := g.do(request{method: "POST", target: "/.device/logout", header: bearer(terminal)}); resp.StatusCode != http.StatusNoContent {
		t.Errorf("by bearer: %d", resp.StatusCode)
	}
	if resp := g.do(request{target: "/", header: bearer(terminal)}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("with the old bearer: %d", resp.StatusCode)
	}
}

// TestNewCode: the button's new code ends the old one.
func TestNewCode(t *testing.T) {
	g := newGate(t, nil)
	old := kioskPending(g)
	form := url.Values{"to": {"/x"}}.Encode()
	header := with(g.cookieOf(browserHeaders, old), "Sec-Fetch-Site", "same-origin", "Origin", "https://api.example.com", "Content-Type", "application/x-www-form-urlencoded")
	resp := g.do(request{method: "POST", target: "/.device/login", header: header, body: form})
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/.device/login?again=1&to=%2Fx" || g.setCookie(resp) == old {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	if state := g.session(old).Now().State; state != session.Ended {
		t.Errorf("the old sign-in is %s", state)
	}
}

// TestWaitHears: an open wait answers as soon as somebody decides.
func TestWaitHears(t *testing.T) {
	g := newGate(t, nil)
	key := terminalPending(g)
	s := g.session(key)
	var approval sync.WaitGroup
	defer approval.Wait()
	approval.Go(func() {
		for !s.Watched(0) {
			time.Sleep(time.Millisecond)
		}
		g.approve(key, nil)
	})
	start := time.Now()
	resp := g.do(request{target: "/.device/wait?timeout=60", header: with(bearer(key), "Accept", "application/json")})
	if resp.StatusCode != http.StatusOK || time.Since(start) > 10*time.Second {
		t.Errorf("%d after %s: %s", resp.StatusCode, time.Since(start), g.body)
	}
}

// TestWaitsAreBounded: four of a session, and the limit for all.
func TestWaitsAreBounded(t *testing.T) {
	g := newGate(t, nil)
	key := terminalPending(g)
	s := g.session(key)
	for range mostWaits {
		if _, ok := s.Watch(mostWaits); !ok {
			t.Fatal("within the bound")
		}
	}
	resp := g.do(request{target: "/.device/wait?timeout=60", header: bearer(key)})
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the fifth: %d", resp.StatusCode)
	}
	g.app.Limits.Waits = 0
	if _, ok := g.app.beginWait(); ok {
		t.Error("over the limit for all")
	}
}

// TestStreamEndsWithTheOutcome: a terminal's login stays open and says what to
// do next.
func TestStreamEndsWithTheOutcome(t *testing.T) {
	g := newGate(t, nil)
	key := terminalPending(g)
	s := g.session(key)
	var approval sync.WaitGroup
	defer approval.Wait()
	approval.Go(func() {
		for !s.Watched(0) {
			time.Sleep(time.Millisecond)
		}
		g.approve(key, nil)
	})
	g.do(request{target: "/.device/login?to=/report", header: bearer(key)})
	for _, words := range []string{"enter the code", "Signed in as alice.", "curl -H 'Authorization: Bearer " + key + "' 'https://api.example.com/report'"} {
		if !strings.Contains(g.body, words) {
			t.Errorf("%q is not in %s", words, g.body)
		}
	}
}

// TestJSONShape: the names and types that programs rely on.
func TestJSONShape(t *testing.T) {
	g := newGate(t, nil)
	g.do(request{target: "/x", header: jsonHeaders})
	var got map[string]any
	if err := json.Unmarshal([]byte(g.body), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"status": "pending", "error": "authorization_pending", "user_code": "WDJB-0001", "interval": 5.0,
		"verification_uri": g.Issuer + "/activate", "verification_uri_complete": g.Issuer + "/activate?user_code=WDJB-0001",
		"wait_uri": "https://api.example.com/.device/wait", "qr_uri": "https://api.example.com/.device/qr.svg",
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
	if left, ok := got["expires_in"].(float64); !ok || left < 590 || left > 600 {
		t.Errorf("expires_in: %v", got["expires_in"])
	}
	key, _ := got["session"].(string)
	g.do(request{target: "/x", header: with(jsonHeaders, "Authorization", "Bearer "+key)})
	if strings.Contains(g.body, key) {
		t.Error("the key is printed again")
	}
}

// TestDestinations: no destination leads off this origin.
func TestDestinations(t *testing.T) {
	g := newGate(t, nil)
	key := g.kiosk()
	base, err := url.Parse("https://api.example.com/.device/login")
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range hostileDestinations() {
		q := url.Values{"to": {to}}.Encode()
		resp := g.do(request{target: "/.device/login?" + q, header: g.cookieOf(browserHeaders, key)})
		if resp.StatusCode == http.StatusBadRequest {
			continue
		}
		where := resp.Header.Get("Location")
		u, err := base.Parse(where)
		if resp.StatusCode != http.StatusSeeOther || err != nil || u.Host != "api.example.com" || u.Scheme != "https" || strings.ContainsAny(where, "\\\t\r\n") ||
			strings.HasPrefix(where, "//") {
			t.Errorf("to %q: %d, Location %q", to, resp.StatusCode, where)
		}
	}
	for _, to := range []string{"/", "/x", "/x?y=z&a=%2F", "/x/#frag", "/a//b", "/@evil.test", "/%5cevil.test"} {
		if !validDestination(to) {
			t.Errorf("%q is a path of this origin", to)
		}
	}
}

// hostileDestinations combines what makes browsers leave an origin.
func hostileDestinations() []string {
	starts := []string{"", "/", "//", "///", `\`, `/\`, `\\`, `/\/`, "/\t/", "/\n/", "\t//", " //", "/ /", "http:", "https:", "https:/", "https://", "javascript:", "data:", "//%09/", "/%2f/", "/.//", "/..//", "/%5c", "/;@", "?//", "#//", "\u2215\u2215", "/\u3000/", "\x00//"}
	hosts := []string{"evil.test", "evil.test/", "evil.test%2f..", "user@evil.test", "api.example.com@evil.test", "evil.test:443", "[::1]", "evil。test", "evil.test#.api.example.com", "api.example.com.evil.test", "alert(1)", `evil.test\@api.example.com`, "evil.test?x=/", "0x7f.1", "evil%E3%80%82test", "%65vil.test", "evil.test\r\nSet-Cookie: a=b"}
	all := make([]string, 0, len(starts)*len(hosts))
	for _, s := range starts {
		for _, h := range hosts {
			all = append(all, s+h)
		}
	}
	return all
}

// TestArrivedURI: the way back to a protected path never leaves the origin
// either, whatever its spelling.
func TestArrivedURI(t *testing.T) {
	for raw, want := range map[string]string{
		"/x?y=1": "/x?y=1", "//evil.test/x": "/evil.test/x", "///evil.test": "/evil.test", "/": "/", "/a%2fb": "/a%2fb", "/%5cevil.test": "/%5cevil.test", `/\evil.test`: "/%5Cevil.test",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example.com/", nil)
		if u, err := url.Parse("https://api.example.com" + raw); err == nil {
			r.URL = u
		} else {
			r.URL = &url.URL{Path: raw}
		}
		if got := arrivedURI(r); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	if got := shellQuote(`it's $(x) "y"`); got != `'it'\''s $(x) "y"'` {
		t.Error(got)
	}
}

// TestStatusesAreComplete: every state of a session has words and a status.
func TestStatusesAreComplete(t *testing.T) {
	for _, state := range []session.State{session.Pending, session.Active, session.Denied, session.Expired, session.Failed, session.Ended, session.Superseded} {
		if statuses[state] == page.Status("") || waitStatus[state] == 0 {
			t.Errorf("%s has no status", state)
		}
	}
}

// TestSignOutDuringTheClaim: signing out with the old key ends the session
// that the new key, not used yet, would open.
func TestSignOutDuringTheClaim(t *testing.T) {
	g := newGate(t, nil)
	old := approvedKiosk(g)
	claimed := g.do(request{target: "/hello", header: g.cookieOf(browserHeaders, old)})
	key := g.setCookie(claimed)
	resp := g.do(request{method: "POST", target: "/.device/logout", header: with(g.cookieOf(browserHeaders, old), "Sec-Fetch-Site", "same-origin")})
	if key == "" || resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("key %q, %d", key, resp.StatusCode)
	}
	for name, k := range map[string]string{"new": key, "old": old} {
		resp := g.do(request{target: "/hello", header: g.cookieOf(browserHeaders, k)})
		if g.upstream != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("the %s key: %d, upstream %t", name, resp.StatusCode, g.upstream != nil)
		}
	}
}

// TestBodiesAreNotRead: a body on a path of ours is bounded, whatever it says
// it is, and leaves nothing behind.
func TestBodiesAreNotRead(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	g := newGate(t, nil)
	part := "--x\r\nContent-Disposition: form-data; name=\"to\"; filename=\"f\"\r\n\r\n" + strings.Repeat("a", 33<<20) + "\r\n--x--\r\n"
	for _, method := range []string{"GET", "POST"} {
		header := with(curlHeaders, "Content-Type", "multipart/form-data; boundary=x", "Accept", "application/json")
		if resp := g.do(request{method: method, target: "/.device/login", header: header, body: part}); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", method, resp.StatusCode, g.body)
		}
	}
	form := "to=%2Fx&a=" + strings.Repeat("a", maxForm)
	header := with(curlHeaders, "Content-Type", "application/x-www-form-urlencoded")
	if resp := g.do(request{method: "POST", target: "/.device/login", header: header, body: form}); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a form over the limit: %d", resp.StatusCode)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestCodeThatIsOverAtOnce: a code's end between two lines of code is an
// answer, not a panic.
func TestCodeThatIsOverAtOnce(t *testing.T) {
	g := newGate(t, nil)
	g.idp.Device = func(n int) idptest.Reply {
		answer := idptest.Device(g.idp.Issuer, n)
		answer["expires_in"] = 0.000001
		return idptest.JSON(http.StatusOK, answer)
	}
	for name, header := range map[string]map[string]string{"curl": curlHeaders, "JSON": jsonHeaders, "browser": browserHeaders} {
		for _, target := range []string{"/", "/.device/login"} {
			if g.do(request{target: target, header: header}); !strings.Contains(g.body, "expired") {
				t.Errorf("%s, %s: %s", name, target, g.body)
			}
		}
	}
}
