// This file tests how keys are found on requests, and cookies.

package caddydevice

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestAuthorizationForms(t *testing.T) {
	key := session.NewKey().Reveal()
	for _, row := range []struct {
		name, field string
		want        source
	}{
		{"bearer", "Bearer " + key, fromBearer},
		{"scheme in lower case", "bearer " + key, fromBearer},
		{"two spaces", "Bearer  " + key, badBearer},
		{"tab", "Bearer\t" + key, badBearer},
		{"trailing space", "Bearer " + key + " ", badBearer},
		{"two keys", "Bearer " + key + ", Bearer " + key, badBearer},
		{"no scheme", key, badBearer},
		{"another scheme", "Token " + key, badBearer},
		{"short key", "Bearer dvc_x", badBearer},
		{"long key", "Bearer " + key + "x", badBearer},
		{"netrc", basic("me", key), fromBearer},
		{"netrc, scheme in capitals", "BASIC " + basic("me", key)[6:], fromBearer},
		{"key as user", basic(key, "x"), badBearer},
		{"password around a key", basic("me", "x"+key), badBearer},
		{"basic, not encoded", "Basic " + key, badBearer},
		{"basic without padding", "Basic " + strings.TrimRight(basic("xy", key)[6:], "="), badBearer},
		{"basic after a tab", "Basic\t" + basic("xy", key)[6:], badBearer},
		{"basic with blanks", "Basic  " + basic("xy", key)[6:] + " ", badBearer},
		{"basic in the other alphabet", "Basic " + base64.RawURLEncoding.EncodeToString([]byte("x>?:"+key)), badBearer},
		{"the upstream's bearer", "Bearer eyJhbGciOi.J9.x", noCredential},
		{"the upstream's basic", basic("me", "secret"), noCredential},
		{"unreadable basic", "Basic %%%", noCredential},
		{"empty", "", noCredential},
	} {
		if got := parseAuthorization(row.field); got.source != row.want {
			t.Errorf("%s: %d, want %d", row.name, got.source, row.want)
		}
	}
}

func TestCookieForms(t *testing.T) {
	key, other := session.NewKey().Reveal(), session.NewKey().Reveal()
	c := cookiePolicy{name: "__Host-device_auth", secure: true}
	for _, row := range []struct {
		name   string
		fields []string
		found  bool
		hidden []string
	}{
		{"alone", []string{c.name + "=" + key}, true, nil},
		{"among others", []string{"a=1; " + c.name + "=" + key + "; b=2"}, true, []string{"a=1; b=2"}},
		{"in a second field", []string{"a=1", c.name + "=" + key}, true, []string{"a=1"}},
		{"twice the same", []string{c.name + "=" + key + "; " + c.name + "=" + key}, true, nil},
		{"two different", []string{c.name + "=" + key + "; " + c.name + "=" + other}, false, nil},
		{"junk and a good one", []string{c.name + "=junk; " + c.name + "=" + key}, true, nil},
		{"quoted", []string{c.name + `="` + key + `"`}, false, nil},
		{"empty", []string{c.name + "="}, false, nil},
		{"similar name", []string{c.name + "2=x"}, false, []string{c.name + "2=x"}},
		{"name of the insecure cookie", []string{"device_auth=" + key}, false, nil},
		{"none", []string{"a=1;b=2"}, false, []string{"a=1;b=2"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRequest(t, "/", nil)
			r.Header["Cookie"] = row.fields
			got, found := c.key(r.Header["Cookie"])
			if found != row.found || (found && got.Reveal() != key) {
				t.Errorf("found: %t, want %t", found, row.found)
			}
			c.hide(r.Header)
			if left := strings.Join(r.Header["Cookie"], "|"); left != strings.Join(row.hidden, "|") {
				t.Errorf("left: %q, want %q", left, row.hidden)
			}
		})
	}
}

func TestCookieAttributes(t *testing.T) {
	g := newGate(t, map[string]any{"session": map[string]any{"lifetime": "48h"}})
	resp := g.do(request{target: "/", header: browserHeaders})
	want := "; Path=/; Max-Age=172800; HttpOnly; Secure; SameSite=Lax"
	got := resp.Header.Get("Set-Cookie")
	if !strings.HasPrefix(got, "__Host-device_auth=dvc_") || !strings.HasSuffix(got, want) || strings.Contains(got, "Domain") {
		t.Errorf("Set-Cookie: %s", got)
	}
}

// TestKeyPlaces: a browser's key is nowhere but in the cookie, and no key in
// any address or QR code.
func TestKeyPlaces(t *testing.T) {
	for name, header := range map[string]map[string]string{
		"page": browserHeaders, "JSON to a browser": with(fetchHeaders, "Accept", "application/json"), "text to a browser": fetchHeaders,
	} {
		g := newGate(t, nil)
		g.do(request{target: "/.device/login", header: header, method: http.MethodPost})
		if strings.Contains(g.body, "dvc_") {
			t.Errorf("%s: the body holds the key: %s", name, g.body)
		}
	}
}

func TestLimitOfOneClient(t *testing.T) {
	g := newGate(t, map[string]any{"limits": map[string]any{"starts": map[string]any{"count": 3, "per": "1m"}}})
	from := func(remote string, header map[string]string) int {
		return g.do(request{target: "/", header: header, remote: remote}).StatusCode
	}
	for range 3 {
		if got := from("[2001:db8::1]:1", curlHeaders); got != http.StatusUnauthorized {
			t.Fatalf("within the limit: %d", got)
		}
	}
	resp := g.do(request{target: "/", header: curlHeaders, remote: "[2001:db8::ffff]:2"})
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || len(g.body) > 512 || g.starts() != 3 {
		t.Errorf("over the limit, same /64: %d, Retry-After %q, %d starts", resp.StatusCode, resp.Header.Get("Retry-After"), g.starts())
	}
	if got := from("[2001:db8:0:1::1]:1", curlHeaders); got != http.StatusUnauthorized {
		t.Errorf("another /64: %d", got)
	}
	passed, begun := 0, time.Now()
	for range 3*proxyFactor + 10 {
		if from("[2001:db8::1]:1", with(curlHeaders, "X-Forwarded-For", "203.0.113.9")) == http.StatusUnauthorized {
			passed++
		}
	}
	// the limit for all is 50 at once; one more may start each second
	if passed < 40 || passed > 3*proxyFactor+int(time.Since(begun)/time.Second)+1 {
		t.Errorf("%d starts of a proxy that is not trusted", passed)
	}
}

func TestLimiterTableIsBounded(t *testing.T) {
	l, err := newClientLimiter(Rate{Count: 1, Per: caddy.Duration(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range clientTable + 1000 {
		l.allow(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), i%2 == 0)
	}
	if n := l.clients.Len(); n > clientTable {
		t.Errorf("%d entries", n)
	}
}
