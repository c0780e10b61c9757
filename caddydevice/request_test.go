// This file tests what is told from a request's shape.

package caddydevice

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
)

func TestShapes(t *testing.T) {
	const html = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, row := range []struct {
		name                       string
		method                     string
		header                     map[string]string
		browser, navigation, start bool
		login                      bool // may start on the login path
	}{
		{name: "curl", header: map[string]string{"Accept": "*/*"}, start: true, login: true},
		{name: "no Accept", start: true, login: true},
		{name: "program with Sec-Fetch-Mode alone", header: map[string]string{"Sec-Fetch-Mode": "cors"}, start: true, login: true},
		{name: "JSON program", header: map[string]string{"Accept": "application/json"}, start: true, login: true},
		{name: "navigation", header: map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": html}, browser: true, navigation: true, start: true, login: true},
		{name: "navigation by a link elsewhere", header: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, browser: true, navigation: true, start: true, login: true},
		{name: "frame", header: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Accept": html}, browser: true},
		{name: "fetch of the own origin", header: map[string]string{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, browser: true, login: true},
		{name: "fetch of another origin", header: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, browser: true},
		{name: "image", header: map[string]string{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, browser: true},
		{name: "old browser", header: map[string]string{"Accept": html}, browser: true, navigation: true, start: true, login: true},
		{name: "old browser's XHR", header: map[string]string{"Accept": html, "X-Requested-With": "XMLHttpRequest"}, browser: true},
		{name: "old browser's CORS", header: map[string]string{"Accept": html, "Origin": "https://evil.test"}, browser: true},
		{name: "old browser's own XHR", header: map[string]string{"Accept": "*/*", "Referer": "https://api.example.com/x"}, browser: true, login: true},
		{name: "old browser's foreign script", header: map[string]string{"Accept": "*/*", "Referer": "https://evil.test/x"}, browser: true},
		{name: "html refused", header: map[string]string{"Accept": "text/html;q=0, */*"}, start: true, login: true},
		{name: "prefetch", header: map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Purpose": "prefetch;prerender"}, browser: true},
		{name: "old prefetch", header: map[string]string{"Accept": html, "Purpose": "prefetch"}, browser: true},
		{name: "POST of a navigation", method: "POST", header: map[string]string{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Origin": "https://api.example.com"}, browser: true, login: true},
		{name: "foreign form", method: "POST", header: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Origin": "https://evil.test"}, browser: true},
		{name: "PUT by curl", method: "PUT", start: true, login: true},
		{name: "HEAD", method: "HEAD"},
		{name: "OPTIONS", method: "OPTIONS"},
		{name: "TRACE", method: "TRACE"},
		{name: "CONNECT", method: "CONNECT"},
		{name: "upgrade", header: map[string]string{"Upgrade": "websocket"}},
		{name: "gRPC", method: "POST", header: map[string]string{"Content-Type": "application/grpc+proto"}},
		{name: "program's XHR", header: map[string]string{"X-Requested-With": "xmlhttprequest"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			method := row.method
			if method == "" {
				method = http.MethodGet
			}
			r := httptest.NewRequestWithContext(t.Context(), method, "https://api.example.com/x", nil)
			for k, v := range row.header {
				r.Header.Set(k, v)
			}
			for what, pair := range map[string][2]bool{
				"browser": {isBrowser(r), row.browser}, "navigation": {isNavigation(r), row.navigation},
				"may start": {new(Handler).mayStart(r, false), row.start}, "may start by login": {new(Handler).mayStart(r, true), row.login},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s: %t, want %t", what, pair[0], pair[1])
				}
			}
		})
	}
}

func TestNeverStartPaths(t *testing.T) {
	for path, want := range map[string]bool{"/favicon.ico": false, "/robots.txt": false, "/x": true} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example.com"+path, nil)
		if got := new(Handler).mayStart(r, false); got != want {
			t.Errorf("%s may start: %t, want %t", path, got, want)
		}
	}
}

// TestReadings: what servers may make of a path, and what is refused outright.
func TestReadings(t *testing.T) {
	for raw, want := range map[string]string{
		"/a/b": "", "/a/b/": "", "/a%20b": "", "/": "", // plain: nothing to think about
		"//admin": "/admin", "//x/admin/y": "/admin/y", "/x;/admin": "/x/admin", "/admin;a=b/x": "/admin/x", "/a%2fb": "/a/b", "/a%252fb": "/a/b",
		"/a%5cb": "/a/b", "/%5cx/admin": "/admin", "/a%25252fb": "/a/b", "/@scope%2fname": "/@scope/name", "/a;b%2fc": "/a",
		"/admin%23/pub/": "/admin", "/admin%3f/pub/": "/admin", "/wiki/C%23": "/wiki/C", "/%2561pi/x%25zz": "/api/x%zz",
		"/pub/../admin": "refused", "/pub/%2e%2e/admin": "refused", "/pub/%252e%252e/admin": "refused", "/pub;/../admin": "refused",
		"/pub/..;/admin": "refused", "/pub/..;a=b/admin": "refused", "/pub%5c..%5cadmin": "refused", "/pub/..%23/admin": "refused",
		"/admin%00/pub/": "refused", "/%3f/../api;a/secret": "refused", "/a/./b": "refused",
		"/api;a/x%252f..%252f..%252f../../secret": "refused", "/api%5csecret%5c..;": "refused",
	} {
		u, err := url.Parse("https://h" + raw)
		if err != nil {
			u = &url.URL{Path: raw, RawPath: raw} // as a server may still get it
		}
		paths, ok := readings(u)
		switch {
		case want == "":
			if !plainPath(u) {
				t.Errorf("%s is plain", raw)
			}
		case want == "refused":
			if ok || plainPath(u) {
				t.Errorf("%s passes: %v", raw, paths)
			}
		case !ok || plainPath(u) || !slices.Contains(paths, want):
			t.Errorf("%s: %q is not among %q (ok: %t)", raw, want, paths, ok)
		}
	}
}

func TestForeignUpgradeIsDropped(t *testing.T) {
	for _, row := range []struct {
		name, upgrade, connection string
		wantUpgrade, wantConn     string
	}{
		{"websocket", "websocket", "Upgrade", "websocket", "Upgrade"},
		{"websocket in capitals", "WebSocket", "keep-alive, Upgrade", "WebSocket", "keep-alive, Upgrade"},
		{"h2c", "h2c", "Upgrade, HTTP2-Settings", "", ""},
		{"two in one", "websocket, h2c", "Upgrade", "", ""},
		{"h2c and keep-alive", "h2c", "keep-alive, upgrade", "", "keep-alive"},
		{"TLS", "TLS/1.2", "Upgrade", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRequest(t, "/", map[string]string{"Upgrade": row.upgrade, "Connection": row.connection, "HTTP2-Settings": "AAMAAABk"})
			dropForeignUpgrade(r)
			if got := r.Header.Get("Upgrade"); got != row.wantUpgrade {
				t.Errorf("Upgrade: %q, want %q", got, row.wantUpgrade)
			}
			if got := r.Header.Get("Connection"); got != row.wantConn {
				t.Errorf("Connection: %q, want %q", got, row.wantConn)
			}
		})
	}
}

func TestPathPrefix(t *testing.T) {
	for prefix, want := range map[string]bool{
		"/.device": true, "/a/b": true, "": false, "/": false, "a": false, "/a/": false, "/a//b": false, "/a/../b": false, "/a b": false, "/a%20b": false, "/ä": false,
	} {
		if got := validPrefix(prefix); got != want {
			t.Errorf("%q: %t, want %t", prefix, got, want)
		}
	}
}
