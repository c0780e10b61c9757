// This file tests which origins may use the cookie, and what becomes of their
// preflights.

package caddydevice

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestParseOrigin(t *testing.T) {
	for raw, want := range map[string]string{
		"https://app.example.com": "https://app.example.com", "https://App.Example.com/": "https://app.example.com", "https://app.example.com:443": "https://app.example.com",
		"http://localhost:3000": "http://localhost:3000", "http://localhost:80": "http://localhost", "http://localhost:443": "http://localhost:443", "https://[2001:DB8::1]:8443": "https://[2001:db8::1]:8443",
		"https://xn--bcher-kva.example": "https://xn--bcher-kva.example",
		"":                              "", "*": "", "null": "", "app.example.com": "", "https://": "", "https://bücher.example": "", "https://*.example.com": "", "https://a@app.example.com": "",
		"https://app.example.com/x": "", "https://app.example.com?": "", "https://app.example.com#x": "", "ftp://app.example.com": "", "https://app.example.com:0": "", "https://app.example.com:99999": "",
		"https://app.example.com.": "", "chrome-extension://abc": "",
	} {
		got, err := parseOrigin(raw)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", raw, got, err)
		}
	}
}

// TestTrustedOrigins: their pages may use the cookie, and the gateway's own
// paths belong to this site's pages all the same.
func TestTrustedOrigins(t *testing.T) {
	const app, evil = "https://app.example.com", "https://app.example.com.evil.test"
	g := newGate(t, map[string]any{"trusted_origins": []string{app, "http://localhost:3000"}})
	key := g.kiosk()
	post := func(origin string) request {
		return request{method: "POST", target: "/x", header: with(g.cookieOf(fetchHeaders, key), "Origin", origin, "Sec-Fetch-Site", "cross-site")}
	}
	socket := func(origin string) request {
		return request{target: "/x", header: with(g.cookieOf(curlHeaders, key), "Connection", "Upgrade", "Upgrade", "websocket", "Origin", origin)}
	}
	for _, row := range []struct {
		name    string
		request request
		status  int
	}{
		{"POST", post(app), 200},
		{"POST, another trusted one", post("http://localhost:3000"), 200},
		{"POST, its port is another", post("http://localhost:3001"), 403},
		{"POST, its scheme is another", post("http://app.example.com"), 403},
		{"POST, not trusted", post(evil), 403},
		{"POST, null", post("null"), 403},
		{"WebSocket", socket(app), 200},
		{"WebSocket, not trusted", socket(evil), 403},
		{"WebSocket, null", socket("null"), 403},
		{"sign out", request{method: "POST", target: "/.device/logout", header: with(g.cookieOf(fetchHeaders, key), "Origin", app, "Sec-Fetch-Site", "same-site")}, 403},
		{"a new code", request{method: "POST", target: "/.device/login", header: with(g.cookieOf(fetchHeaders, key), "Origin", app, "Sec-Fetch-Site", "same-site")}, 403},
	} {
		t.Run(row.name, func(t *testing.T) {
			resp := g.do(row.request)
			if resp.StatusCode != row.status || (g.upstream != nil) != (row.status == 200) {
				t.Errorf("%d, want %d; upstream %t", resp.StatusCode, row.status, g.upstream != nil)
			}
		})
	}
}

// TestPreflights: those of trusted origins go to the upstream with nobody's
// identity, and nothing else does that says it is one.
func TestPreflights(t *testing.T) {
	const app = "https://app.example.com"
	g := newGate(t, map[string]any{"trusted_origins": []string{app}})
	key := g.kiosk()
	starts := g.starts()
	for _, row := range []struct {
		name   string
		method string
		target string
		body   string
		header []string
		passes bool
	}{
		{name: "trusted", method: "OPTIONS", header: []string{"Origin", app, "Access-Control-Request-Method", "PUT"}, passes: true},
		{name: "trusted, to a path of ours", method: "OPTIONS", target: "/.device/session", header: []string{"Origin", app, "Access-Control-Request-Method", "GET"}},
		{name: "not trusted", method: "OPTIONS", header: []string{"Origin", "https://evil.test", "Access-Control-Request-Method", "PUT"}},
		{name: "null", method: "OPTIONS", header: []string{"Origin", "null", "Access-Control-Request-Method", "PUT"}},
		{name: "no method asked for", method: "OPTIONS", header: []string{"Origin", app}},
		{name: "no origin", method: "OPTIONS", header: []string{"Access-Control-Request-Method", "PUT"}},
		{name: "with a body", method: "OPTIONS", body: "x", header: []string{"Origin", app, "Access-Control-Request-Method", "PUT"}, passes: true},
		{name: "an upgrade", method: "OPTIONS", header: []string{"Origin", app, "Access-Control-Request-Method", "PUT", "Connection", "Upgrade", "Upgrade", "websocket"}, passes: true},
		{name: "another method", method: "GET", header: []string{"Origin", app, "Access-Control-Request-Method", "PUT"}},
		{name: "another method, said to be OPTIONS", method: "DELETE", header: []string{"Origin", app, "Access-Control-Request-Method", "PUT", "X-HTTP-Method-Override", "OPTIONS"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			target := "/x"
			if row.target != "" {
				target = row.target
			}
			header := with(map[string]string{"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "empty"}, row.header...)
			resp := g.do(request{method: row.method, target: target, body: row.body, header: header})
			if (g.upstream != nil) != row.passes || g.starts() != starts {
				t.Fatalf("%d, upstream %t, starts %d", resp.StatusCode, g.upstream != nil, g.starts()-starts)
			}
			if row.passes {
				if isUpgrade(g.upstream) {
					t.Error("the upstream gets the upgrade")
				}
				if body, err := io.ReadAll(g.upstream.Body); err != nil || len(body) > 0 || g.upstream.ContentLength != 0 {
					t.Errorf("the upstream gets the body %q, %v", body, err)
				}
			}
			if !row.passes && (resp.StatusCode/100 != 4 || resp.Header.Get("Access-Control-Allow-Origin") != "") {
				t.Errorf("%d, %v", resp.StatusCode, resp.Header)
			}
		})
	}
	// a client that says all at once gets no more for it
	header := with(g.cookieOf(curlHeaders, key), "Origin", app, "Access-Control-Request-Method", "PUT", "Remote-User", "root", "Authorization", "Basic YTpi", "X-HTTP-Method-Override", "DELETE")
	if g.do(request{method: "OPTIONS", target: "/x", header: header}); g.upstream == nil {
		t.Fatal(g.body)
	}
	for _, field := range []string{"Remote-User", "Remote-Groups", "Cookie", "Authorization", "X-Http-Method-Override"} {
		if g.upstream.Header[field] != nil {
			t.Errorf("the upstream sees %s: %v", field, g.upstream.Header[field])
		}
	}
}

// TestAnswersStayHere: what a site allows other origins is not for our own
// answers.
func TestAnswersStayHere(t *testing.T) {
	g := newGate(t, nil)
	g.answerHeader = http.Header{"Access-Control-Allow-Origin": {"*"}, "Access-Control-Allow-Credentials": {"true"}}
	for name, req := range map[string]request{
		"instructions": {target: "/", header: curlHeaders}, "page": {target: "/", header: browserHeaders}, "session": {target: "/.device/session", header: bearer(g.terminal())},
		"claim": {target: "/", header: g.cookieOf(browserHeaders, approvedKiosk(g))}, "QR code": {target: "/.device/qr.svg", header: bearer(g.begun(curlHeaders))},
		"key": {target: "/.device/session?format=header", header: bearer(g.terminal())}, "sign-out": {method: "POST", target: "/.device/logout", header: curlHeaders},
	} {
		t.Run(name, func(t *testing.T) {
			resp := g.do(req)
			for field := range resp.Header {
				if strings.HasPrefix(field, "Access-Control-") {
					t.Errorf("%d has %s", resp.StatusCode, field)
				}
			}
		})
	}
	g.answerHeader.Set("WWW-Authenticate", `Basic realm="restricted"`) // of a basic_auth that failed
	if resp := g.do(request{target: "/", header: curlHeaders}); resp.Header.Get("WWW-Authenticate") != challengePrefix {
		t.Errorf("WWW-Authenticate: %q", resp.Header["Www-Authenticate"])
	}
	if resp := g.do(request{target: "/", header: bearer(g.terminal())}); resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Error("the upstream's answer lost what the site allows")
	}
}
