// This file tests what each kind of request to a protected path is answered,
// row by row of the design's table.

package caddydevice

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// answerRow is one row: who asks, and what comes of it.
type answerRow struct {
	name    string
	request func(g *gate) request
	status  int
	body    string // is part of the answer
	passes  bool   // reaches the upstream
	starts  int    // new device authorizations
	cookie  bool   // the answer sets our cookie
	header  map[string]string
}

var answerRows = []answerRow{
	{
		name: "no credential, curl", request: plain(curlHeaders), status: 401, body: "enter the code\n\nWDJB-0001\n", starts: 1, cookie: true,
		header: map[string]string{"WWW-Authenticate": `Bearer realm="device_auth"`, "Retry-After": "5", "Cache-Control": "no-store"},
	},
	{name: "no credential, JSON", request: plain(jsonHeaders), status: 401, body: `"session":"dvc_`, starts: 1, cookie: true},
	{
		name: "no credential, browser", request: plain(browserHeaders), status: 401, body: "<svg", starts: 1, cookie: true,
		header: map[string]string{"Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"},
	},
	{name: "no credential, old browser", request: plain(map[string]string{"Accept": "text/html"}), status: 401, body: "<svg", starts: 1, cookie: true},
	{name: "no credential, fetch", request: plain(fetchHeaders), status: 401, body: "https://api.example.com/.device/login"},
	{name: "no credential, HEAD", request: method("HEAD", curlHeaders), status: 401},
	{name: "no credential, OPTIONS", request: method("OPTIONS", curlHeaders), status: 401},
	{name: "no credential, POST by a program", request: method("POST", curlHeaders), status: 401, body: "WDJB-0001", starts: 1, cookie: true},
	{name: "no credential, POST by a browser", request: method("POST", with(browserHeaders, "Origin", "https://api.example.com", "Sec-Fetch-Site", "same-origin")), status: 401},
	{name: "no credential, prefetch", request: plain(with(browserHeaders, "Sec-Purpose", "prefetch")), status: 401},
	{name: "no credential, XHR", request: plain(with(curlHeaders, "X-Requested-With", "XMLHttpRequest")), status: 401},
	{name: "no credential, WebSocket", request: plain(with(curlHeaders, "Connection", "Upgrade", "Upgrade", "websocket")), status: 401},
	{
		name: "no credential, gRPC", request: method("POST", with(curlHeaders, "Content-Type", "application/grpc")), status: 401,
		header: map[string]string{"Grpc-Status": "16"},
	},
	{
		name: "no credential, preflight", request: method("OPTIONS", with(curlHeaders, "Origin", "https://evil.test", "Access-Control-Request-Method", "POST")), status: 401,
		header: map[string]string{"Access-Control-Allow-Origin": ""},
	},

	{name: "active terminal key as bearer", request: keyed((*gate).terminal, bearer), status: 200, passes: true},
	{name: "active terminal key in a jar", request: inCookie((*gate).terminal, curlHeaders), status: 200, passes: true},
	{name: "active terminal key in a browser's cookie", request: inCookie((*gate).terminal, browserHeaders), status: 401, body: "<svg", starts: 1, cookie: true},
	{name: "active terminal key as bearer of a fetch", request: keyed((*gate).terminal, func(k string) map[string]string {
		return with(fetchHeaders, "Authorization", "Bearer "+k, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.test")
	}), status: 200, passes: true},
	{name: "claimed browser key", request: inCookie((*gate).kiosk, browserHeaders), status: 200, passes: true},
	{name: "claimed browser key of a fetch", request: inCookie((*gate).kiosk, fetchHeaders), status: 200, passes: true},
	{name: "browser key as bearer", request: keyed((*gate).kiosk, bearer), status: 401, body: "not known", header: invalidToken},

	{
		name: "unknown bearer", request: func(*gate) request { return request{target: "/", header: bearer(session.NewKey().Reveal())} }, status: 401,
		body: "/.device/login", header: invalidToken,
	},
	{name: "malformed bearer", request: func(*gate) request { return request{target: "/", header: bearer("dvc_short")} }, status: 401, header: invalidToken},
	{name: "unknown cookie, curl", request: func(g *gate) request {
		return request{target: "/", header: g.cookieOf(curlHeaders, session.NewKey().Reveal())}
	}, status: 401, body: "WDJB-0001", starts: 1, cookie: true},
	{name: "signed-out bearer", request: keyed(over(session.Ended, session.SignedOut), bearer), status: 401, body: "You have signed out.", header: invalidToken},
	{name: "signed-out cookie", request: inCookie(over(session.Ended, session.SignedOut), curlHeaders), status: 401, body: "You have signed out.", starts: 1, cookie: true},
	{name: "denied cookie", request: inCookie(func(g *gate) string {
		key := g.begun(curlHeaders)
		g.end(key, session.Denied, session.Declined)
		return key
	}, curlHeaders), status: 401, body: "was declined", starts: 1, cookie: true},

	{
		name: "pending bearer", request: keyed(func(g *gate) string { return g.begun(curlHeaders) }, bearer), status: 401, body: "WDJB-0001",
		header: map[string]string{"Retry-After": "5"},
	},
	{name: "pending cookie of a browser", request: inCookie(func(g *gate) string { return g.begun(browserHeaders) }, browserHeaders), status: 401, body: "WDJB-0001"},
	{name: "approved, not claimed, fetch", request: inCookie(approvedKiosk, fetchHeaders), status: 401, body: "Load this page"},
	{
		name: "approved, not claimed, navigation", request: inCookie(approvedKiosk, browserHeaders), status: 303, cookie: true,
		header: map[string]string{"Location": "/hello?a=b"},
	},
	{name: "approved, not claimed, prefetch", request: inCookie(approvedKiosk, with(browserHeaders, "Purpose", "prefetch")), status: 401},

	{name: "bad bearer and good cookie", request: func(g *gate) request {
		return request{target: "/", header: with(g.cookieOf(curlHeaders, g.terminal()), "Authorization", "Bearer "+session.NewKey().Reveal())}
	}, status: 401, header: invalidToken},
	{name: "Authorization of the upstream's and good cookie", request: func(g *gate) request {
		return request{target: "/", header: with(g.cookieOf(curlHeaders, g.terminal()), "Authorization", "Basic YWxpY2U6c2VjcmV0")}
	}, status: 200, passes: true},
	{name: "unsafe method, cookie, other origin", request: func(g *gate) request {
		return request{method: "POST", target: "/", header: with(g.cookieOf(fetchHeaders, g.kiosk()), "Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site")}
	}, status: 403},
	{name: "unsafe method, cookie, same site but other origin", request: func(g *gate) request {
		return request{method: "DELETE", target: "/", header: with(g.cookieOf(fetchHeaders, g.kiosk()), "Sec-Fetch-Site", "same-site")}
	}, status: 403},
	{name: "unsafe method, cookie, own origin", request: func(g *gate) request {
		return request{method: "POST", target: "/", header: with(g.cookieOf(fetchHeaders, g.kiosk()), "Origin", "https://api.example.com")}
	}, status: 200, passes: true},
	{name: "WebSocket, cookie, other origin", request: func(g *gate) request {
		return request{target: "/", header: with(g.cookieOf(curlHeaders, g.kiosk()), "Connection", "Upgrade", "Upgrade", "websocket", "Origin", "https://evil.test")}
	}, status: 403},
	{name: "WebSocket, cookie, null origin", request: func(g *gate) request {
		return request{target: "/", header: with(g.cookieOf(curlHeaders, g.kiosk()), "Connection", "Upgrade", "Upgrade", "websocket", "Origin", "null")}
	}, status: 403},
	{name: "WebSocket, cookie, own origin", request: func(g *gate) request {
		return request{target: "/", header: with(g.cookieOf(curlHeaders, g.kiosk()), "Connection", "Upgrade", "Upgrade", "websocket", "Origin", "https://api.example.com")}
	}, status: 200, passes: true},
	{name: "token in the query", request: func(g *gate) request {
		return request{target: "/?access_token=" + g.terminal(), header: fetchHeaders}
	}, status: 401},
}

var invalidToken = map[string]string{"WWW-Authenticate": `Bearer realm="device_auth", error="invalid_token"`}

func plain(header map[string]string) func(*gate) request { return method("GET", header) }

func method(m string, header map[string]string) func(*gate) request {
	return func(*gate) request { return request{method: m, target: "/hello?a=b", header: header} }
}

func keyed(key func(*gate) string, header func(string) map[string]string) func(*gate) request {
	return func(g *gate) request { return request{target: "/hello?a=b", header: header(key(g))} }
}

func inCookie(key func(*gate) string, header map[string]string) func(*gate) request {
	return func(g *gate) request { return request{target: "/hello?a=b", header: g.cookieOf(header, key(g))} }
}

func over(state session.State, reason session.Reason) func(*gate) string {
	return func(g *gate) string {
		key := g.terminal()
		g.end(key, state, reason)
		return key
	}
}

func approvedKiosk(g *gate) string {
	key := g.begun(browserHeaders)
	g.approve(key, nil)
	return key
}

func TestAnswers(t *testing.T) {
	for _, row := range answerRows {
		t.Run(row.name, func(t *testing.T) {
			g := newGate(t, nil)
			req := row.request(g)
			before := g.starts()
			resp := g.do(req)
			// a code that an earlier request of the row has used up
			body := strings.ReplaceAll(row.body, "WDJB-0001", codeOf(g, row.starts))
			if resp.StatusCode != row.status {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, row.status, g.body)
			}
			if !strings.Contains(g.body, body) {
				t.Errorf("%q is not in the answer: %s", body, g.body)
			}
			if passed := g.upstream != nil; passed != row.passes {
				t.Errorf("reached the upstream: %t, want %t", passed, row.passes)
			}
			if n := g.starts() - before; n != row.starts {
				t.Errorf("%d sign-ins were started, want %d", n, row.starts)
			}
			if set := g.setCookie(resp) != ""; set != row.cookie {
				t.Errorf("sets the cookie: %t, want %t", set, row.cookie)
			}
			for name, want := range row.header {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if !row.passes && resp.Header.Get("Cache-Control") != "no-store" {
				t.Error("an answer of ours can be cached")
			}
		})
	}
}

// codeOf is the newest user code, or the first where none was started.
func codeOf(g *gate, started int) string {
	if started == 0 {
		return "WDJB-0001"
	}
	return "WDJB-000" + string(rune('0'+g.starts()))
}

func TestTwoAuthorizationFields(t *testing.T) {
	g := newGate(t, nil)
	key := g.terminal()
	r := newRequest(t, "/", bearer(key))
	r.Header.Add("Authorization", "Bearer "+key)
	if resp := g.send(r); resp.StatusCode != http.StatusBadRequest || g.upstream != nil {
		t.Errorf("status %d, upstream reached: %t", resp.StatusCode, g.upstream != nil)
	}
}

// TestClaim follows a browser from its first page to the upstream.
func TestClaim(t *testing.T) {
	g := newGate(t, nil)
	old := approvedKiosk(g)
	first := g.do(request{target: "/hello?a=b", header: g.cookieOf(browserHeaders, old)})
	again := g.do(request{target: "/other", header: g.cookieOf(browserHeaders, old)})
	key := g.setCookie(first)
	if key == "" || key == old || g.setCookie(again) != key {
		t.Fatalf("first answer: new key %t, second the same: %t", key != old, g.setCookie(again) == key)
	}
	if resp := g.do(request{target: "/hello", header: g.cookieOf(browserHeaders, key)}); resp.StatusCode != http.StatusOK || g.upstream == nil {
		t.Fatalf("with the new key: %d", resp.StatusCode)
	}
	before := g.starts()
	resp := g.do(request{target: "/hello", header: g.cookieOf(browserHeaders, old)})
	if resp.StatusCode != http.StatusUnauthorized || g.upstream != nil || g.setCookie(resp) != "" || g.starts() != before {
		t.Errorf("with the old key: %d, upstream %t, cookie %q, starts %d", resp.StatusCode, g.upstream != nil, g.setCookie(resp), g.starts()-before)
	}
	if !strings.Contains(g.body, "again=1") {
		t.Errorf("the page does not load itself again: %s", g.body)
	}
	// another window, whose code was renewed as often as that goes: a sign-in here
	// would take the new key out of the jar
	resp = g.do(request{target: "/.device/login?to=/hello&again=4", header: g.cookieOf(browserHeaders, old)})
	if resp.StatusCode != http.StatusUnauthorized || g.starts() != before || g.setCookie(resp) != "" || !strings.Contains(g.body, `content="1;url=/.device/login?again=1`) {
		t.Errorf("another window: %d, %d starts, cookie %q, %s", resp.StatusCode, g.starts()-before, g.setCookie(resp), g.body)
	}
	resp = g.do(request{target: "/.device/login?to=/hello&again=1&late=3", header: g.cookieOf(browserHeaders, old)})
	if resp.StatusCode != http.StatusUnauthorized || g.starts() != before || !strings.Contains(g.body, `content="60;url=/.device/login?again=1&amp;to=%2Fhello&amp;late=4`) {
		t.Errorf("a page that was loaded three times: %d, %d starts, %s", resp.StatusCode, g.starts()-before, g.body)
	}
	resp = g.do(request{target: "/.device/login?to=/hello&again=1&late=4", header: g.cookieOf(browserHeaders, old)})
	if resp.StatusCode != http.StatusOK || g.starts() != before+1 || g.setCookie(resp) == "" {
		t.Errorf("and a while later: %d, %d starts, %s", resp.StatusCode, g.starts()-before, g.body)
	}
}

// TestSite: a session counts for the host that it was made on.
func TestSite(t *testing.T) {
	g := newGate(t, nil)
	key := g.terminal()
	for host, status := range map[string]int{
		"https://api.example.com/": 200, "https://API.example.COM/": 200, "https://api.example.com:8443/": 200,
		"https://other.example.com/": 401, "https://api.example.com.evil.test/": 401,
	} {
		if resp := g.do(request{target: host, header: bearer(key)}); resp.StatusCode != status {
			t.Errorf("%s: %d, want %d", host, resp.StatusCode, status)
		}
	}
}

// TestHostOnPages: no answer carries a host that is not a host's name.
func TestHostOnPages(t *testing.T) {
	g := newGate(t, nil)
	for _, host := range []string{"evil.test\"><script>", "a b", "evil.test/x", "[::1", "x:y", "ex\u202eample", ""} {
		r := newRequest(t, "/", curlHeaders)
		r.Host = host
		resp := g.send(r)
		if resp.StatusCode != http.StatusBadRequest || (host != "" && strings.Contains(g.body, host)) || g.starts() != 0 {
			t.Errorf("Host %q: %d %s", host, resp.StatusCode, g.body)
		}
	}
}

// TestMatcher: only what is matched is protected, but everything is cleaned,
// and our secrets are nobody's.
func TestMatcher(t *testing.T) {
	g := newGate(t, map[string]any{"match": []any{map[string]any{"path": []string{"/api/*"}}}})
	key := g.terminalAt("/api/x")
	open := with(bearer(key), "Remote-User", "root", "Remote_groups", "wheel", "Cookie", "a=b; "+g.cookie.name+"="+key+"; c=d")
	if resp := g.do(request{target: "/", header: open}); resp.StatusCode != 200 || g.upstream == nil {
		t.Fatalf("the open path: %d", resp.StatusCode)
	}
	for name, values := range g.upstream.Header {
		if strings.HasPrefix(strings.ToLower(name), "remote") || strings.Contains(strings.Join(values, " "), "dvc_") {
			t.Errorf("the upstream sees %s: %s", name, values)
		}
	}
	if got := g.upstream.Header.Get("Cookie"); got != "a=b; c=d" {
		t.Errorf("other cookies became %q", got)
	}
	for _, target := range []string{
		"/api/x", "/api/", "/x/../api/x", "//api/x", "/x/..%2fapi/x", `/x%5c..%5capi/x`, "/x/..;/api/x", "/x/%252e%252e/api/x", "/api;a/x", "/API/x", "/api%2fx", "/%3f/../api;a/secret",
		"/api;a/x%252f..%252f..%252f../../secret", "/api%5csecret%5c..;", "/api/../public", "/api/%2e%2e/public", "//x/api/x", "/%5cx/api/x",
	} {
		if resp := g.do(request{target: target, header: fetchHeaders}); resp.StatusCode != http.StatusUnauthorized || g.upstream != nil {
			t.Errorf("%s: %d, upstream reached: %t", target, resp.StatusCode, g.upstream != nil)
		}
	}
	for _, target := range []string{"/", "/apis", "/x/y", "/x%20y", "/x?q=/api/", "/@scope%2fname", "/x;v=1/y", "/.well-known/x", "//x"} {
		if resp := g.do(request{target: target, header: fetchHeaders}); resp.StatusCode != http.StatusOK || g.upstream == nil {
			t.Errorf("%s: %d, upstream reached: %t", target, resp.StatusCode, g.upstream != nil)
		}
	}
	if resp := g.do(request{target: "/.device/login", header: browserHeaders}); resp.StatusCode != http.StatusOK || !strings.Contains(g.body, "<svg") {
		t.Errorf("the login path: %d", resp.StatusCode)
	}
}

// TestTargetsWithoutAPath: Go reads no path out of these, but the upstream
// would get them whole.
func TestTargetsWithoutAPath(t *testing.T) {
	g := newGate(t, map[string]any{"match": []any{map[string]any{"path": []string{"/api/*"}}}})
	key := g.terminalAt("/api/x")
	for _, target := range []string{"x:http://localhost/api/secret", "http:api/secret", "x:api"} {
		r := newRequest(t, "/", curlHeaders)
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		r.URL, r.RequestURI = u, target
		if resp := g.send(r); g.upstream != nil || (resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusUnauthorized) {
			t.Errorf("%s: %d, upstream reached: %t", target, resp.StatusCode, g.upstream != nil)
		}
		r.Header.Set("Authorization", "Bearer "+key) // nor does it go on for who is signed in
		if resp := g.send(r); g.upstream != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s, signed in: %d, upstream reached: %t", target, resp.StatusCode, g.upstream != nil)
		}
	}
	for _, path := range []string{"", "*", "api/x"} {
		r := newRequest(t, "/", fetchHeaders)
		r.URL = &url.URL{Path: path}
		if resp := g.send(r); g.upstream != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("path %q: %d, upstream reached: %t", path, resp.StatusCode, g.upstream != nil)
		}
	}
}

// TestNegatedMatcher: what is open stays open in every harmless spelling.
func TestNegatedMatcher(t *testing.T) {
	open := []string{"/.well-known/security.txt", "*.css", "/wiki/*", "/pub/*"}
	g := newGate(t, map[string]any{"match": []any{map[string]any{"not": []any{map[string]any{"path": open}}}}})
	for _, target := range []string{"/.well-known/security.txt", "/a/%40scope/x.css", "/assets//x.css", "/wiki/x%20y", "/pub/a%20b", "/pub/a%2fb", "/pub/a;v=1"} {
		if resp := g.do(request{target: target, header: fetchHeaders}); resp.StatusCode != http.StatusOK || g.upstream == nil {
			t.Errorf("%s: %d, upstream reached: %t", target, resp.StatusCode, g.upstream != nil)
		}
	}
	for _, target := range []string{"/", "/admin", "/pub/../admin", "/pub/..;/admin", "/pub%5c..%5cadmin", "/admin/x.css%2f..", "/admin%00.css", "/wiki", "/admin%23/x.css", "/admin%3fx.css"} {
		if resp := g.do(request{target: target, header: fetchHeaders}); resp.StatusCode != http.StatusUnauthorized || g.upstream != nil {
			t.Errorf("%s: %d, upstream reached: %t", target, resp.StatusCode, g.upstream != nil)
		}
	}
}
