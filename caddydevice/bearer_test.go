// This file tests access tokens that clients bring themselves, as the gate
// takes them.

package caddydevice

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// accessToken is one for the audience api, with the claims on top.
func accessToken(t testing.TB, p *idptest.Provider, claims map[string]any) string {
	t.Helper()
	now := time.Now().Unix()
	all := map[string]any{
		"iss": p.Issuer, "sub": "sub-carol", "aud": "api", "azp": "my-cli", "iat": now, "exp": now + 300,
		"preferred_username": "carol", "groups": []string{"robots"},
	}
	maps.Copy(all, claims)
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return p.Sign(payload, map[jose.HeaderKey]any{"typ": "at+jwt"})
}

func bearerOn(more map[string]any) map[string]any {
	cfg := map[string]any{"bearer": map[string]any{"audience": []string{"api"}}}
	maps.Copy(cfg, more)
	return cfg
}

// TestBearer: what each kind of Authorization comes to.
func TestBearer(t *testing.T) {
	type made struct {
		g     *gate
		token string
	}
	for _, row := range []struct {
		name   string
		cfg    map[string]any
		header func(m made) map[string]string
		status int
		user   string
		body   string
	}{
		{"good", nil, func(m made) map[string]string { return bearer(m.token) }, 200, "carol", ""},
		{"good, scheme in another case", nil, func(m made) map[string]string { return with(curlHeaders, "Authorization", "bEaReR "+m.token) }, 200, "carol", ""},
		{"good, from a page of another origin", nil, func(m made) map[string]string {
			return with(fetchHeaders, "Authorization", "Bearer "+m.token, "Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site")
		}, 200, "carol", ""},
		{"good, and somebody's cookie", nil, func(m made) map[string]string {
			return with(m.g.cookieOf(curlHeaders, m.g.terminal()), "Authorization", "Bearer "+m.token)
		}, 200, "carol", ""},
		{"bad, and a good cookie", nil, func(m made) map[string]string {
			return with(m.g.cookieOf(curlHeaders, m.g.terminal()), "Authorization", "Bearer "+m.token[:len(m.token)-2]+"xx")
		}, 401, "", "access token is not good"},
		{"not for this API", nil, func(m made) map[string]string {
			return bearer(accessToken(m.g.t, m.g.idp, map[string]any{"aud": "other"}))
		}, 401, "", "access token is not good"},
		{"run out", nil, func(m made) map[string]string {
			return bearer(accessToken(m.g.t, m.g.idp, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}))
		}, 401, "", "access token is not good"},
		{"an ID token", nil, func(m made) map[string]string { return bearer(m.g.idp.IDToken(nil)) }, 401, "", "access token is not good"},
		{"no JWT", nil, func(made) map[string]string { return bearer("opaque") }, 401, "", "access token is not good"},
		{"nothing behind the scheme", nil, func(made) map[string]string { return with(curlHeaders, "Authorization", "Bearer") }, 401, "", "not known"},
		{"two blanks", nil, func(m made) map[string]string { return with(curlHeaders, "Authorization", "Bearer  "+m.token) }, 401, "", "not known"},
		{"a tab", nil, func(m made) map[string]string { return with(curlHeaders, "Authorization", "Bearer\t"+m.token) }, 401, "", "not known"},
		{"two in one field", nil, func(m made) map[string]string {
			return with(curlHeaders, "Authorization", "Bearer "+m.token+", Bearer "+m.token)
		}, 401, "", "not known"},
		{"as a Basic password, and nobody signed in", nil, func(m made) map[string]string {
			return with(curlHeaders, "Authorization", "Basic "+m.token)
		}, 401, "", "enter the code"},
		{"another scheme, and a good cookie", nil, func(m made) map[string]string {
			return with(m.g.cookieOf(curlHeaders, m.g.terminal()), "Authorization", "Digest username=x")
		}, 200, "alice", ""},
		{"in the query", nil, func(m made) map[string]string { return curlHeaders }, 401, "", "enter the code"},
		{"a session key", nil, func(m made) map[string]string { return bearer(m.g.terminal()) }, 200, "alice", ""},
		{"lacks what is required", map[string]any{"require": rules("groups", "admins")}, func(m made) map[string]string { return bearer(m.token) }, 403, "", "you may not see this"},
		{"has what is required", map[string]any{"require": rules("groups", "robots")}, func(m made) map[string]string { return bearer(m.token) }, 200, "carol", ""},
		{"is not whose approval is expected", map[string]any{"expect": rules("groups", "admins")}, func(m made) map[string]string { return bearer(m.token) }, 200, "carol", ""},
		{"is no session that only reads", map[string]any{"session": map[string]any{"methods": []string{"HEAD"}}}, func(m made) map[string]string { return bearer(m.token) }, 200, "carol", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGate(t, bearerOn(row.cfg))
			m := made{g, accessToken(t, g.idp, nil)}
			header := row.header(m)
			starts := g.starts()
			resp := g.do(request{target: "/x?access_token=" + m.token, header: header})
			if resp.StatusCode != row.status || !strings.Contains(g.body, row.body) || (g.upstream != nil) != (row.status == 200) {
				t.Fatalf("%d, want %d; upstream %t: %s", resp.StatusCode, row.status, g.upstream != nil, g.body)
			}
			switch {
			case row.status == 200:
				if got := g.upstream.Header.Get("Remote-User"); got != row.user {
					t.Errorf("Remote-User: %q, want %q", got, row.user)
				}
				if strings.Contains(g.upstream.Header.Get("Authorization"), "Bearer") || g.setCookie(resp) != "" {
					t.Errorf("the upstream sees %q; cookie %q", g.upstream.Header.Get("Authorization"), g.setCookie(resp))
				}
			case strings.Contains(row.body, "not"):
				want := `Bearer realm="device_auth", error="invalid_token"`
				if row.status == 403 {
					want = `Bearer realm="device_auth", error="insufficient_scope"`
				}
				if got := resp.Header.Get("WWW-Authenticate"); got != want || g.starts() != starts {
					t.Errorf("WWW-Authenticate: %q; starts %d", got, g.starts()-starts)
				}
			}
		})
	}
}

// TestBearerOff: without the setting a JWT is the upstream's business.
func TestBearerOff(t *testing.T) {
	g := newGate(t, nil)
	token := accessToken(t, g.idp, nil)
	if g.do(request{target: "/", header: bearer(token)}); g.upstream != nil || !strings.Contains(g.body, "enter the code") {
		t.Errorf("upstream %t: %s", g.upstream != nil, g.body)
	}
	header := with(g.cookieOf(curlHeaders, g.terminal()), "Authorization", "Bearer "+token)
	if g.do(request{target: "/", header: header}); g.upstream == nil || g.upstream.Header.Get("Authorization") != "Bearer "+token || g.upstream.Header.Get("Remote-User") != "alice" {
		t.Errorf("the upstream sees %v: %s", g.upstream, g.body)
	}
}

// TestBearerNeedsNoStore: a token is good while nobody can look a session up.
func TestBearerNeedsNoStore(t *testing.T) {
	g := newGate(t, bearerOn(nil))
	token := accessToken(t, g.idp, nil)
	before := len(g.idp.Calls("/jwks"))
	for range 50 {
		if g.do(request{target: "/", header: bearer(token)}); g.upstream == nil {
			t.Fatal(g.body)
		}
	}
	if n := len(g.idp.Calls("/jwks")) - before; n != 1 {
		t.Errorf("the keys were asked for %d times", n)
	}
	if n := g.engine.table.Len(); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// TestVerdicts: a token is verified once, and again when that could come out
// otherwise.
func TestVerdicts(t *testing.T) {
	g := newGate(t, bearerOn(nil))
	token := accessToken(t, g.idp, nil)
	ask := func() *session.Identity {
		t.Helper()
		who, err := g.bearer.identify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return who
	}
	_ = ask() // the first one fetches the keys, and so comes before their version
	first := ask()
	if ask() != first {
		t.Error("verified anew for nothing")
	}
	for _, v := range g.bearer.verdicts.Values() {
		v.keys++
	}
	if ask() == first {
		t.Error("not verified anew when the keys have changed")
	}
	second := ask()
	for _, v := range g.bearer.verdicts.Values() {
		v.until = time.Now()
	}
	if ask() == second {
		t.Error("not verified anew when it has run out")
	}
	large := accessToken(t, g.idp, map[string]any{"groups": make([]string, maxRemembered/4)})
	kept := g.bearer.verdicts.Len()
	if _, err := g.bearer.identify(t.Context(), large); err != nil || len(large) <= maxRemembered || g.bearer.verdicts.Len() != kept {
		t.Errorf("a token of %d bytes: %v, %d verdicts are kept", len(large), err, g.bearer.verdicts.Len())
	}
	for i := range verdictTable + 100 {
		g.bearer.verdicts.Add([32]byte{byte(i), byte(i >> 8)}, new(verdict))
	}
	if n := g.bearer.verdicts.Len(); n != verdictTable {
		t.Errorf("%d verdicts are kept", n)
	}
}

// TestBearerIssuers: tokens of other issuers, each by its own keys.
func TestBearerIssuers(t *testing.T) {
	other := idptest.New("")
	other.Issuer = serve(t, other).URL
	other.Metadata = func(md map[string]any) { delete(md, "device_authorization_endpoint"); delete(md, "token_endpoint") }
	stranger := idptest.New("https://stranger.example.com")

	g := newGate(t, nil)
	own := g.Issuer
	for _, row := range []struct {
		name    string
		issuers []string
		token   func() string
		good    bool
	}{
		{"another", []string{other.Issuer}, func() string { return accessToken(t, other, nil) }, true},
		{"its own, which is not listed", []string{other.Issuer}, func() string { return accessToken(t, g.idp, nil) }, false},
		{"its own, listed", []string{other.Issuer, own}, func() string { return accessToken(t, g.idp, nil) }, true},
		{"another, beside its own", []string{other.Issuer, own}, func() string { return accessToken(t, other, nil) }, true},
		{"another's name, its own keys", []string{other.Issuer, own}, func() string { return accessToken(t, g.idp, map[string]any{"iss": other.Issuer}) }, false},
		{"its own name, another's keys", []string{other.Issuer, own}, func() string { return accessToken(t, other, map[string]any{"iss": own}) }, false},
		{"a stranger", []string{other.Issuer, own}, func() string { return accessToken(t, stranger, nil) }, false},
		{"no issuer", []string{other.Issuer, own}, func() string { return accessToken(t, other, map[string]any{"iss": nil}) }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := provision(t, map[string]any{"issuer": own, "client_id": g.ClientID, "bearer": map[string]any{"audience": []string{"api"}, "issuer": row.issuers}}, nil)
			if listed := slices.Contains(row.issuers, own); (h.bearer.own != nil) != listed || len(h.bearer.others) != 1 {
				t.Errorf("its own client: %t, others: %d", h.bearer.own != nil, len(h.bearer.others))
			}
			if scopes := h.resourceScopes(t.Context()); (len(scopes) > 0) != slices.Contains(row.issuers, own) {
				t.Errorf("scopes %v", scopes)
			}
			one := &gate{Handler: h, t: t, idp: g.idp}
			resp := one.do(request{target: "/", header: bearer(row.token())})
			if (one.upstream != nil) != row.good || (resp.StatusCode == http.StatusUnauthorized) == row.good {
				t.Errorf("%d %s", resp.StatusCode, one.body)
			}
		})
	}
}

// TestBearerKeysAway: where a token cannot be checked, that is nobody's fault.
func TestBearerKeysAway(t *testing.T) {
	g := newGate(t, bearerOn(nil))
	token := accessToken(t, g.idp, nil)
	g.idp.Always("/jwks", idptest.Reply{Status: http.StatusInternalServerError})
	resp := g.do(request{target: "/", header: bearer(token)})
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || g.upstream != nil || g.setCookie(resp) != "" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, g.body)
	}
}

// TestTokenEndpoints: at the gateway's own paths a client with its own token is
// told who it is, and has nothing to start or to end.
func TestTokenEndpoints(t *testing.T) {
	g := newGate(t, bearerOn(nil))
	token := accessToken(t, g.idp, nil)
	for _, row := range []struct {
		method, target string
		status         int
		body           string
	}{
		{"GET", "/.device/session", 200, "Signed in to api.example.com as carol. Since 20"},
		{"GET", "/.device/login?to=/x", 200, "as carol"},
		{"POST", "/.device/login", 200, "as carol"},
		{"GET", "/.device/wait", 200, "as carol"},
		{"GET", "/.device/session?format=curl", 200, "as carol"},
		{"GET", "/.device/qr.svg", 404, "No sign-in is under way"},
		{"POST", "/.device/logout", 400, "has an access token of its own"},
		{"GET", "/.device/logout", 405, ""},
	} {
		t.Run(row.method+" "+row.target, func(t *testing.T) {
			resp := g.do(request{method: row.method, target: row.target, header: bearer(token)})
			if resp.StatusCode != row.status || !strings.Contains(g.body, row.body) || strings.Contains(g.body, token) {
				t.Errorf("%d %s", resp.StatusCode, g.body)
			}
			bad := g.do(request{method: row.method, target: row.target, header: bearer(token + "x")})
			if row.status != 405 && bad.StatusCode != http.StatusUnauthorized {
				t.Errorf("a bad token: %d %s", bad.StatusCode, g.body)
			}
		})
	}
	if g.starts() != 0 {
		t.Errorf("%d starts", g.starts())
	}
}

// TestProtectedResource: a 401 alone leads to where tokens come from.
func TestProtectedResource(t *testing.T) {
	g := newGate(t, bearerOn(map[string]any{"protected_resource": true}))
	g.idp.Metadata = func(md map[string]any) {
		md["scopes_supported"] = []string{"openid", "email", "offline_access", "phone"}
	}
	const pointer = `, resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`
	for name, row := range map[string]struct {
		header map[string]string
		want   string
	}{
		"nobody": {curlHeaders, `Bearer realm="device_auth"` + pointer}, "a bad token": {bearer("x.y.z"), `Bearer realm="device_auth", error="invalid_token"` + pointer},
		"a browser": {fetchHeaders, `Bearer realm="device_auth"` + pointer},
	} {
		resp := g.do(request{target: "/x", header: row.header})
		if got := resp.Header.Get("WWW-Authenticate"); got != row.want || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d, %q", name, resp.StatusCode, got)
		}
	}
	starts := g.starts()
	for _, header := range []map[string]string{curlHeaders, browserHeaders, fetchHeaders, bearer("x.y.z")} {
		resp := g.do(request{target: "/.well-known/oauth-protected-resource", header: header})
		var got map[string]any
		if err := json.Unmarshal([]byte(g.body), &got); err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("%d %v %s", resp.StatusCode, err, g.body)
		}
		want := map[string]any{
			"resource": "https://api.example.com", "authorization_servers": []any{g.Issuer},
			"scopes_supported": []any{"openid", "email", "offline_access"}, "bearer_methods_supported": []any{"header"},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	if resp := g.do(request{method: "POST", target: "/.well-known/oauth-protected-resource", header: curlHeaders}); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, %v", resp.StatusCode, resp.Header)
	}
	if g.upstream != nil || g.starts() != starts {
		t.Errorf("upstream %t, starts %d", g.upstream != nil, g.starts()-starts)
	}
	if resp := g.do(request{target: "/.well-known/oauth-protected-resource/x", header: curlHeaders}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a longer path: %d", resp.StatusCode)
	}
	_, err := tryProvision(t, map[string]any{"issuer": "https://idp.example.com", "client_id": "gate", "protected_resource": true}, nil)
	if err == nil || !strings.Contains(err.Error(), "which are refused without `bearer on`") {
		t.Errorf("without bearer: %v", err)
	}
	without := newGate(t, nil)
	if resp := without.do(request{target: "/.well-known/oauth-protected-resource", header: curlHeaders}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the setting: %d", resp.StatusCode)
	}
}

// TestUpstreamToken: the upstream gets the token that is configured, and no
// Authorization that the gate has not made.
func TestUpstreamToken(t *testing.T) {
	for _, row := range []struct {
		name  string
		token string
		key   func(g *gate) map[string]string
		want  string
	}{
		{"none", "none", func(g *gate) map[string]string { return bearer(g.terminal()) }, ""},
		{"access token", "access_token", func(g *gate) map[string]string { return bearer(g.terminal()) }, "Bearer access-canary"},
		{"ID token", "id_token", func(g *gate) map[string]string { return bearer(g.terminal()) }, "Bearer id-canary"},
		{"in place of the client's own", "access_token", func(g *gate) map[string]string {
			return with(g.cookieOf(curlHeaders, g.terminal()), "Authorization", "Basic YTpi")
		}, "Bearer access-canary"},
		{"none, and the client's own", "none", func(g *gate) map[string]string {
			return with(g.cookieOf(curlHeaders, g.terminal()), "Authorization", "Basic YTpi")
		}, "Basic YTpi"},
		{"not to be taken off again", "access_token", func(g *gate) map[string]string {
			return with(bearer(g.terminal()), "Connection", "keep-alive, Authorization")
		}, "Bearer access-canary"},
		{"a client's token", "access_token", func(g *gate) map[string]string { return bearer(accessToken(g.t, g.idp, map[string]any{"jti": "mark"})) }, "Bearer {token}"},
		{"a client's token, but no ID token", "id_token", func(g *gate) map[string]string { return bearer(accessToken(g.t, g.idp, nil)) }, ""},
		{"a client's token, none", "none", func(g *gate) map[string]string { return bearer(accessToken(g.t, g.idp, nil)) }, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGate(t, bearerOn(map[string]any{"upstream_token": row.token}))
			header := row.key(g)
			if g.do(request{target: "/", header: header}); g.upstream == nil {
				t.Fatal(g.body)
			}
			want := strings.ReplaceAll(row.want, "Bearer {token}", header["Authorization"])
			if got := g.upstream.Header.Get("Authorization"); got != want || len(g.upstream.Header["Authorization"]) > 1 {
				t.Errorf("%q, want %q", got, want)
			}
			if strings.Contains(g.upstream.Header.Get("Connection"), "Authorization") {
				t.Error("Connection would have it taken off")
			}
		})
	}
	open := newGate(t, map[string]any{"upstream_token": "access_token", "match": []any{map[string]any{"path": []string{"/private/*"}}}})
	if open.do(request{target: "/open", header: with(curlHeaders, "Authorization", "Bearer forged")}); open.upstream == nil || open.upstream.Header["Authorization"] != nil {
		t.Error("where nobody has to sign in, a client can say what the gate says elsewhere")
	}
	if open.do(request{target: "/private/x", header: with(curlHeaders, "Authorization", "Basic YTpi")}); !strings.Contains(open.body, "curl -b '") {
		t.Errorf("the line that goes on does not leave room for the client's own: %s", open.body)
	}
}
