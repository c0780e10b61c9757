// This file tests what the upstream sees.

package caddydevice

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestCleaning sends what only the gateway may set, however it is spelled, as
// a signed-in client and as nobody.
func TestCleaning(t *testing.T) {
	spellings := []string{
		"Remote-User", "Remote_User", "Remote.User", "REMOTE_USER", "remote-user", "rEmOtE.uSeR", "Remote-Groups", "remote_groups", "Remote.Groups",
	}
	g := newGate(t, nil)
	key := g.terminal()
	for _, name := range spellings {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t, "/", bearer(key))
			r.Header[name] = []string{"root", "wheel"}
			r.Header["Connection"] = []string{"keep-alive, Remote-User", "remote_user,Remote.Groups"}
			r.Header["Trailer"] = []string{name + ", X-Checksum"}
			g.send(r)
			if g.upstream == nil {
				t.Fatal("did not pass")
			}
			seen := map[string][]string{}
			for field, values := range g.upstream.Header {
				if strings.HasPrefix(strings.ToLower(field), "remote") {
					seen[field] = values
				}
			}
			if len(seen) != 2 || seen["Remote-User"][0] != "alice" || len(seen["Remote-User"]) != 1 || seen["Remote-Groups"][0] != "staff,admins" {
				t.Errorf("the upstream sees %v", seen)
			}
			if got := g.upstream.Header.Get("Connection"); got != "keep-alive" {
				t.Errorf("Connection: %q", got)
			}
			if got := g.upstream.Header.Get("Trailer"); got != "X-Checksum" {
				t.Errorf("Trailer: %q", got)
			}
		})
	}
}

// TestAbsentClaim: a header whose claim is absent is not there, whatever the
// client says.
func TestAbsentClaim(t *testing.T) {
	g := newGate(t, map[string]any{"upstream_headers": map[string]string{"X-Team": "team", "Remote-User": "preferred_username"}})
	key := g.terminal()
	g.do(request{target: "/", header: with(bearer(key), "X-Team", "root", "X_Team", "root")})
	if g.upstream.Header.Get("X-Team") != "" || g.upstream.Header.Get("X_Team") != "" {
		t.Errorf("the upstream sees %v", g.upstream.Header)
	}
}

func TestNoUpstreamHeaders(t *testing.T) {
	g := newGate(t, map[string]any{"upstream_headers": map[string]string{}})
	key := g.terminal()
	g.do(request{target: "/", header: bearer(key)})
	if g.upstream == nil || g.upstream.Header.Get("Remote-User") != "" {
		t.Errorf("an empty block sets headers: %v", g.upstream)
	}
}

// TestSecretsStayHere: neither key nor cookie reaches the upstream, and what
// is the upstream's does, unchanged.
func TestSecretsStayHere(t *testing.T) {
	g := newGate(t, nil)
	key := g.terminal()
	for _, row := range []struct {
		name   string
		header map[string]string
		cookie string
		auth   string
	}{
		{"bearer", bearer(key), "", ""},
		{"bearer and cookies", with(bearer(key), "Cookie", "a=1;  b=2"), "a=1;  b=2", ""},
		{"netrc", with(curlHeaders, "Authorization", basic("anything", key)), "", ""},
		{"jar", with(curlHeaders, "Cookie", g.cookie.name+"="+key), "", ""},
		{"jar with others", with(curlHeaders, "Cookie", "a=1; "+g.cookie.name+"="+key+"; b=2"), "a=1; b=2", ""},
		{"jar and the upstream's own", with(curlHeaders, "Cookie", g.cookie.name+"="+key, "Authorization", "Digest x"), "", "Digest x"},
		{"key under another name", with(bearer(key), "Cookie", "other="+key+"; b=2"), "b=2", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			g.do(request{target: "/", header: row.header})
			if g.upstream == nil {
				t.Fatalf("did not pass: %s", g.body)
			}
			for field, values := range g.upstream.Header {
				if strings.Contains(strings.Join(values, " "), "dvc_") {
					t.Errorf("the upstream sees the key in %s", field)
				}
			}
			if got := g.upstream.Header.Get("Cookie"); got != row.cookie {
				t.Errorf("Cookie: %q, want %q", got, row.cookie)
			}
			if got := g.upstream.Header.Get("Authorization"); got != row.auth {
				t.Errorf("Authorization: %q, want %q", got, row.auth)
			}
		})
	}
}

func TestHeaderValues(t *testing.T) {
	for _, row := range []struct {
		name, claim, want string
		absent            bool
	}{
		{name: "plain", claim: `"alice"`, want: "alice"},
		{name: "with a space", claim: `"Alice Example"`, want: "Alice Example"},
		{name: "non-ASCII", claim: `"José"`, want: "Jos%C3%A9"},
		{name: "line break", claim: `"a\r\nX-Evil: 1"`, want: "a%0D%0AX-Evil: 1"},
		{name: "NUL", claim: `"a\u0000b"`, want: "a%00b"},
		{name: "percent sign", claim: `"100%"`, want: "100%25"},
		{name: "blanks at the ends", claim: `" a "`, want: "%20a%20"},
		{name: "comma", claim: `"a,b"`, want: "a,b"},
		{name: "list", claim: `["a","b"]`, want: "a,b"},
		{name: "list with a comma", claim: `["a,b","c"]`, want: "a%2Cb,c"},
		{name: "list of other things", claim: `[1,true,null,{"x":1},"z"]`, want: "1,true,z"},
		{name: "empty list", claim: `[]`, want: ""},
		{name: "number", claim: `12345678901234567890`, want: "12345678901234567890"},
		{name: "boolean", claim: `false`, want: "false"},
		{name: "null", claim: `null`, absent: true},
		{name: "object", claim: `{"a":"b"}`, absent: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, ok := headerValue(decoded(t, row.claim))
			if ok == row.absent || got != row.want {
				t.Errorf("%q %t, want %q %t", got, ok, row.want, !row.absent)
			}
		})
	}
}

func TestClaimPaths(t *testing.T) {
	claims := decoded(t, `{"a":"1","realm_access":{"roles":["x"]},"https://e.com/roles":"2","a.b":"3","x":{"y.z":"4","y":{"w":"5"}}}`).(map[string]any)
	for path, want := range map[string]string{
		"a": "1", "realm_access.roles": "x", "https://e.com/roles": "2", "a.b": "3", "x.y.z": "4", "x.y.w": "5",
		"b": "absent", "a.c": "absent", "realm_access": "absent", "x.": "absent", "": "absent", ".": "absent",
	} {
		got := "absent"
		if claim, ok := claimAt(claims, path); ok {
			if v, ok := headerValue(claim); ok {
				got = v
			}
		}
		if got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func decoded(t *testing.T, text string) any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestTooLarge: a claim that no server would take is refused here.
func TestTooLarge(t *testing.T) {
	g := newGate(t, nil)
	key := g.begun(curlHeaders)
	g.approve(key, map[string]any{"preferred_username": strings.Repeat("x", maxHeaderValue+1)})
	resp := g.do(request{target: "/", header: bearer(key)})
	if resp.StatusCode != http.StatusForbidden || g.upstream != nil || !strings.Contains(g.body, "upstream_headers") {
		t.Errorf("%d, upstream %t: %s", resp.StatusCode, g.upstream != nil, g.body)
	}
}

func TestPlaceholders(t *testing.T) {
	g := newGate(t, nil)
	key := g.begun(curlHeaders)
	g.approve(key, map[string]any{"realm_access": map[string]any{"roles": []any{"r1", "r2"}}})
	g.do(request{target: "/", header: bearer(key)})
	repl := g.upstream.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	for text, want := range map[string]string{
		"{http.auth.user.id}":                               "sub-alice",
		"{http.auth.user.claims.preferred_username}":        "alice",
		"{http.auth.user.claims.realm_access.roles}":        "r1,r2",
		"x{http.auth.user.claims.no_such_claim}y":           "xy",
		"{http.auth.user.claims.groups} {http.auth.user.x}": "staff,admins ",
	} {
		if got := repl.ReplaceAll(text, ""); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestUpstreamHeaderMistakes(t *testing.T) {
	for name, cfg := range map[string]map[string]string{
		"no header name": {"Remote User": "sub"},
		"underscore":     {"Remote_User": "sub"},
		"Host":           {"host": "sub"},
		"Authorization":  {"authorization": "sub"},
		"Sec-":           {"Sec-Fetch-Site": "sub"},
		"no claim":       {"Remote-User": ""},
		"twice":          {"Remote-User": "sub", "remote-user": "name"},
	} {
		if _, err := newUpstreamHeaders(cfg, ""); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
