// This file holds the tests of how a sign-in ends at the identity provider.

package idp

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func TestRevoke(t *testing.T) {
	later := func(status int, after string) idptest.Reply {
		return idptest.Reply{Status: status, Header: http.Header{"Retry-After": {after}}}
	}
	const (
		done = iota
		unavailable
		refused
	)
	for name, c := range map[string]struct {
		reply idptest.Reply
		want  int
		after time.Duration
		busy  bool
	}{
		"200": {idptest.Reply{Status: 200}, done, 0, false}, "204": {idptest.Reply{Status: 204}, done, 0, false}, "200 HTML": {idptest.Reply{Status: 200, Body: "<html>"}, done, 0, false},
		"429":           {later(429, "7"), unavailable, 7 * time.Second, true},
		"503":           {later(503, "9"), unavailable, 9 * time.Second, true},
		"503, no time":  {later(503, ""), unavailable, defaultInterval, true},
		"500":           {later(500, ""), unavailable, defaultInterval, false},
		"500, words":    {idptest.Error(500, "server_error"), unavailable, defaultInterval, false},
		"broken":        {idptest.Reply{Err: errors.New("reset")}, unavailable, defaultInterval, false},
		"no answer":     {idptest.Reply{Status: 200, Delay: time.Hour}, unavailable, defaultInterval, false},
		"other type":    {idptest.Error(400, "unsupported_token_type"), refused, 0, false},
		"other client":  {idptest.Error(401, "invalid_client"), refused, 0, false},
		"400 HTML":      {idptest.Reply{Status: 400, Body: "<html>" + strings.Repeat("x", 9999)}, refused, 0, false},
		"404":           {idptest.Reply{Status: 404}, refused, 0, false},
		"redirect":      {redirect(302, issuer+"/login"), refused, 0, false},
		"hostile words": {idptest.JSON(400, map[string]any{"error": "\x1b[2J" + strings.Repeat("x", 9999), "error_description": "\u202e"}), refused, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				p.Always("/revoke", c.reply)
				client := newClient(t, p, func(cfg *Config) { cfg.ClientSecret = "password-canary" })
				begun := time.Now()
				err := client.Revoke(t.Context(), refreshToken, "refresh_token")
				switch c.want {
				case done:
					if err != nil {
						t.Error(err)
					}
				case unavailable:
					if u := wantUnavailable(t, err); u.RetryAfter != c.after || u.Busy != c.busy {
						t.Errorf("%+v", u)
					}
				case refused:
					wantRefused(t, "revocation", err)
				}
				if err != nil && strings.Contains(err.Error(), "canary") {
					t.Errorf("the error is %q", err)
				}
				if time.Since(begun) > client.Timeout() {
					t.Errorf("took %v", time.Since(begun))
				}
			})
		})
	}
}

func TestRevokeRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p, func(cfg *Config) { cfg.ClientSecret = "password-canary" })
		for i, hint := range []string{"refresh_token", "access_token"} {
			if err := c.Revoke(t.Context(), "token-canary", hint); err != nil {
				t.Fatal(err)
			}
			call := p.Calls("/revoke")[i]
			if form := call.Form; len(form) != 3 || form.Get("token") != "token-canary" || form.Get("token_type_hint") != hint || form.Get("client_id") != "gate" || call.Pass != "password-canary" {
				t.Errorf("asked with %v", call)
			}
		}
	})
}

// TestRevocationEndpoint: the configured one counts, a bad one is none, and
// nobody needs one to sign in.
func TestRevocationEndpoint(t *testing.T) {
	set := func(v any) func(map[string]any) {
		return func(md map[string]any) { md["revocation_endpoint"] = v }
	}
	for name, c := range map[string]struct {
		metadata  func(map[string]any)
		endpoints Endpoints
		want      string // "" where there is none
	}{
		"discovered":           {nil, Endpoints{}, "/revoke"},
		"configured":           {nil, Endpoints{Revocation: issuer + "/r2"}, "/r2"},
		"configured, none":     {func(md map[string]any) { delete(md, "revocation_endpoint") }, Endpoints{Revocation: issuer + "/r2"}, "/r2"},
		"without discovery":    {nil, Endpoints{DeviceAuthorization: issuer + "/device", Token: issuer + "/token", JWKS: issuer + "/jwks", Revocation: issuer + "/r2"}, "/r2"},
		"nothing to discover":  {nil, Endpoints{DeviceAuthorization: issuer + "/device", Token: issuer + "/token", JWKS: issuer + "/jwks"}, ""},
		"none":                 {func(md map[string]any) { delete(md, "revocation_endpoint") }, Endpoints{}, ""},
		"plain http":           {set("http://idp.example/revoke"), Endpoints{}, ""},
		"plain http, loopback": {set("http://127.0.0.1/revoke"), Endpoints{}, ""},
		"relative":             {set("/revoke"), Endpoints{}, ""},
		"a file":               {set("file:///revoke"), Endpoints{}, ""},
		"number":               {set(42), Endpoints{}, ""},
		"object":               {set(map[string]any{}), Endpoints{}, ""},
		"null":                 {set(nil), Endpoints{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &guarded{Provider: newProvider(func(p *idptest.Provider) { p.Metadata = c.metadata })}
				g.Always("/r2", idptest.Reply{Status: 200})
				client := newClient(t, g, func(cfg *Config) { cfg.Endpoints = c.endpoints })
				if _, err := client.Authorize(t.Context()); err != nil {
					t.Fatal(err)
				}
				err := client.Revoke(t.Context(), refreshToken, "refresh_token")
				if errors.Is(err, ErrNoRevocation) != (c.want == "") || err != nil && c.want != "" || g.strays.Load() != 0 {
					t.Errorf("%v", err)
				}
				if c.want != "" && len(g.Calls(c.want)) != 1 {
					t.Errorf("%s was not asked", c.want)
				}
			})
		})
	}
}

func TestRevokeWithoutDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.Always(wellKnown, idptest.Reply{Status: 503})
		if u := wantUnavailable(t, newClient(t, p).Revoke(t.Context(), refreshToken, "refresh_token")); u.RetryAfter <= 0 {
			t.Errorf("%+v", u)
		}
	})
}

func TestEndSessionURL(t *testing.T) {
	for name, c := range map[string]struct {
		endpoint any
		want     string
	}{
		"plain":            {issuer + "/logout", issuer + "/logout?client_id=g%26+ate"},
		"with a query":     {issuer + "/logout?tenant=a%26b&client_id=other", issuer + "/logout?client_id=g%26+ate&tenant=a%26b"},
		"http":             {"http://idp.example/logout", "http://idp.example/logout?client_id=g%26+ate"},
		"none":             {nil, ""},
		"number":           {7, ""},
		"empty":            {"", ""},
		"script":           {"javascript:alert(1)", ""},
		"data":             {"data:text/html,x", ""},
		"relative":         {"/logout", ""},
		"without a scheme": {"//idp.example/logout", ""},
		"with a user":      {"https://u:p@idp.example/logout", ""},
		"control":          {issuer + "/\x1b[2J", ""},
		"bidi":             {issuer + "/\u202e", ""},
		"quote":            {issuer + `/"><script>`, ""},
		"too long":         {issuer + "/" + strings.Repeat("a", maxURI), ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider(func(p *idptest.Provider) {
				p.Metadata = func(md map[string]any) { md["end_session_endpoint"] = c.endpoint }
			})
			client := newClient(t, p, func(cfg *Config) { cfg.ClientID = "g& ate" })
			if got := client.EndSessionURL(); got != "" || len(p.Calls("")) != 0 {
				t.Errorf("%s: %q before anything is known", name, got)
			}
			if err := ready(client); err != nil {
				t.Fatal(err)
			}
			if got := client.EndSessionURL(); got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		})
	}
}
