// This file tests which hosts a server answers for.

package caddydevice

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// named is a server with a route for each set of hosts; nil is for any.
func named(routes ...[]string) *caddyhttp.Server {
	server := new(caddyhttp.Server)
	for _, hosts := range routes {
		var route caddyhttp.Route
		if hosts != nil {
			m := caddyhttp.MatchHost(hosts)
			route.MatcherSets = caddyhttp.MatcherSets{{&m}}
		}
		server.Routes = append(server.Routes, route)
	}
	return server
}

func TestSiteOf(t *testing.T) {
	t.Setenv("DEVICE_AUTH_TEST_HOST", "env.example.com")
	for _, row := range []struct {
		name      string
		server    *caddyhttp.Server
		publicURL string
		host      string
		want      string
	}{
		{"any host", named(nil), "", "api.example.com", "api.example.com"},
		{"capitals and port", named(nil), "", "API.example.com:8443", "api.example.com"},
		{"IPv4", named(nil), "", "127.0.0.1:9080", "127.0.0.1"},
		{"IPv6", named(nil), "", "[2001:DB8::1]:443", "2001:db8::1"},
		{"IPv6 without port", named(nil), "", "[::1]", "::1"},
		{"IPv6 without brackets", named(nil), "", "::1", ""},
		{"half a bracket", named(nil), "", "[::1", ""},
		{"zone", named(nil), "", "[fe80::1%25eth0]:80", ""},
		{"port that is none", named(nil), "", "api.example.com:x", ""},
		{"empty port", named(nil), "", "api.example.com:", ""},
		{"empty", named(nil), "", "", ""},
		{"dot at the end", named(nil), "", "api.example.com.", ""},
		{"user", named(nil), "", "a@b", ""},
		{"markup", named(nil), "", "<b>", ""},
		{"named", named([]string{"api.example.com"}), "", "api.example.com", "api.example.com"},
		{"named in capitals", named([]string{"API.Example.com"}), "", "api.example.com", "api.example.com"},
		{"not named", named([]string{"api.example.com"}), "", "evil.test", ""},
		{"wildcard", named([]string{"*.example.com"}), "", "x.example.com", "x.example.com"},
		{"wildcard is one label", named([]string{"*.example.com"}), "", "x.y.example.com", ""},
		{"named elsewhere, and a route for any", named([]string{"other.example.com"}, nil), "", "api.example.com", "api.example.com"},
		{"placeholder", named([]string{"{env.DEVICE_AUTH_TEST_HOST}"}), "", "env.example.com", "env.example.com"},
		{"placeholder of the request", named([]string{"{http.request.header.X}"}), "", "api.example.com", "api.example.com"},
		{"public_url", named([]string{"inside"}), "https://Public.example.com:444", "inside", "public.example.com"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p, err := newHostPolicy(row.server, row.publicURL)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Host = row.host
			if got := p.siteOf(r); got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
}

// TestPublicURL: what is compared with a browser's Origin is written like one.
func TestPublicURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://api.example.com": "https://api.example.com", "https://api.example.com/": "https://api.example.com", "https://API.Example.com": "https://api.example.com",
		"https://api.example.com:443": "https://api.example.com", "https://api.example.com:": "https://api.example.com", "https://api.example.com:8443": "https://api.example.com:8443",
		"https://api.example.com:0443": "https://api.example.com", "https://api.example.com:08443": "https://api.example.com:8443", "https://[::0001]": "https://[::1]", "https://[::ffff:192.0.2.1]": "https://[::ffff:c000:201]",
		"https://[2001:DB8::1]:8443": "https://[2001:db8::1]:8443", "https://[::1]": "https://[::1]", "https://192.0.2.1": "https://192.0.2.1",
		"http://api.example.com": "", "https://": "", "https://:443": "", "api.example.com": "", "https://u:p@api.example.com": "", "https://api.example.com/x": "",
		"https://api.example.com?": "", "https://api.example.com?x": "", "https://api.example.com#x": "", "https://bücher.example": "", "https://api.example.com.": "",
		"https://api.example.com:0": "", "https://api.example.com:65536": "", "https://api.example.com:x": "", "https://*.example.com": "", "https://[fe80::1%25eth0]": "",
	} {
		p, err := newHostPolicy(nil, raw)
		if p.public != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", raw, p.public, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "public_url") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
