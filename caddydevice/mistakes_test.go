// This file tests the mistakes that are found when a configuration is
// provisioned, which the adapter cannot see, or did not make.

package caddydevice

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

// site is one route of a server of these tests.
type site struct {
	host string
	cfg  map[string]any
}

// siteConfig is a configuration with sites on the server "edge", on loopback.
func siteConfig(t *testing.T, app map[string]any, sites ...site) *caddy.Config {
	t.Helper()
	routes := make([]map[string]any, len(sites))
	for i, s := range sites {
		handler := map[string]any{"handler": "device_auth"}
		for k, v := range s.cfg {
			handler[k] = v
		}
		inner := map[string]any{"handler": "subroute", "routes": []any{map[string]any{"handle": []any{handler}}}}
		routes[i] = map[string]any{"handle": []any{inner}}
		if s.host != "" {
			routes[i]["match"] = []any{map[string]any{"host": []string{s.host}}}
		}
	}
	config := &caddy.Config{Logging: quiet, Admin: &caddy.AdminConfig{Disabled: true}, AppsRaw: caddy.ModuleMap{
		"http": mustJSON(t, map[string]any{"servers": map[string]any{"edge": map[string]any{"listen": []string{"127.0.0.1:9"}, "routes": routes}}}),
	}}
	if app != nil {
		config.AppsRaw["device_auth"] = mustJSON(t, app)
	}
	return config
}

// TestProvisionMistakes: each names the site, the directive, the key and the
// value, and what to do.
func TestProvisionMistakes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	empty, newline, lines, huge := write("empty", ""), write("newline", "\r\n"), write("lines", "canary\n\n"), write("huge", strings.Repeat("canary", 1<<18))
	key := inFile(t, newSigningKey(t).text)
	certText, keyText := idptest.NewAuthority().Issue("gateway")
	shown := map[string]any{"tls_client_auth": []string{inFile(t, certText), inFile(t, keyText)}}
	good := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"}
	atGitHub := func(key string, value any) map[string]any {
		return map[string]any{"issuer": "https://github.com", "dialect": "github", "require": []any{map[string]any{"claim": "login", "values": []string{"alice"}}}, key: value}
	}
	for _, row := range []struct {
		name string
		cfg  map[string]any
		want string
	}{
		{"ID tokens where there are none", atGitHub("upstream_token", "id_token"), "upstream_token id_token: there are no ID tokens in dialect github: use access_token"},
		{"tokens of clients that cannot be verified", atGitHub("bearer", map[string]any{"audience": []string{"api"}}), "bearer on: the access tokens of dialect github are opaque"},
		{"no issuer", map[string]any{"issuer": nil}, "issuer is missing: write"},
		{"no client_id", map[string]any{"client_id": nil}, "client_id is missing: it is the name"},
		{"plain issuer", map[string]any{"issuer": "http://idp.example.com"}, `issuer "http://idp.example.com": must start with https://`},
		{"issuer with a fragment", map[string]any{"issuer": "https://idp.example.com#x"}, "without user or fragment"},
		{"plain discovery", map[string]any{"discovery": "http://idp.example.com/d"}, `discovery "http://idp.example.com/d": must start with https://`},
		{"plain endpoint", map[string]any{"endpoints": map[string]any{"token": "http://idp.example.com/t"}}, `endpoints token "http://idp.example.com/t": must start with https://`},
		{"plain revocation", map[string]any{"endpoints": map[string]any{"revocation": "http://idp.example.com/r"}}, `endpoints revocation "http://idp.example.com/r": must start with https://`},
		{"unset variable in revocation", map[string]any{"endpoints": map[string]any{"revocation": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}}, "endpoints revocation: {env."},
		{"unknown endpoint", map[string]any{"endpoints": map[string]any{"introspection": "https://idp.example.com/t"}}, "introspection"},
		{"unset variable", map[string]any{"client_secret": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}, "client_secret: {env.DEVICE_AUTH_NO_SUCH_VARIABLE} is not set: set the variable DEVICE_AUTH_NO_SUCH_VARIABLE"},
		{"unset variable in issuer", map[string]any{"issuer": "https://{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}, "issuer: {env.DEVICE_AUTH_NO_SUCH_VARIABLE} is not set"},
		{"unset variable in discovery", map[string]any{"discovery": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}, "discovery: {env."},
		{"unset variable in scopes", map[string]any{"scopes": []string{"{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}}, "scopes: {env."},
		{"unset variable in endpoints", map[string]any{"endpoints": map[string]any{"jwks": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}}, "endpoints jwks: {env."},
		{"unset variable in param", map[string]any{"param": map[string]any{"a": []string{"{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}}}, "param a: {env."},
		{"unset variable in path_prefix", map[string]any{"path_prefix": "/{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}, "path_prefix: {env."},
		{"unset variable in the cookie", map[string]any{"session": map[string]any{"cookie": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}}, "session cookie: {env."},
		{"unset variable in a claim", map[string]any{"upstream_headers": map[string]string{"X-User": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}}, "upstream_headers X-User: {env."},
		{"unset variable in public_url", map[string]any{"public_url": "https://{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}, "public_url: {env."},
		{"request placeholder", map[string]any{"client_id": "{http.request.host}"}, "client_id: {http.request.host} is known only during a request"},
		{"placeholder of Caddy's", map[string]any{"client_id": "{system.hostname}"}, "client_id: {system.hostname} is no placeholder that is known here"},
		{"braces in a secret", map[string]any{"client_secret": "canary{canary}"}, `client_secret: what is in braces is neither {env.NAME} nor {file./path}`},
		{"missing file", map[string]any{"client_secret": "{file./no/such/file}"}, "client_secret: {file./no/such/file}: the file is empty, or Caddy cannot read it"},
		{"empty file", map[string]any{"client_secret": "{file." + empty + "}"}, "the file is empty"},
		{"no secret file", map[string]any{"client_secret_file": "/no/such/file"}, "client_secret_file: open /no/such/file: no such file or directory: name a file that Caddy's user can read"},
		{"a directory as secret file", map[string]any{"client_secret_file": dir}, "name a file that Caddy's user can read"},
		{"empty secret file", map[string]any{"client_secret_file": empty}, "is empty: write into it what belongs there"},
		{"secret file of a newline", map[string]any{"client_secret_file": newline}, "is empty: write into it what belongs there"},
		{"secret file with several lines", map[string]any{"client_secret_file": lines}, "has several lines: it must hold the secret and nothing else"},
		{"huge secret file", map[string]any{"client_secret_file": huge}, "is larger than 1 MiB"},
		{"unset variable in the secret file's name", map[string]any{"client_secret_file": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}/x"}, "client_secret_file: {env.DEVICE_AUTH_NO_SUCH_VARIABLE} is not set"},
		{"two secrets", map[string]any{"client_secret": "canary", "client_secret_file": "testdata/client_secret"}, "client_secret and client_secret_file are both set: keep one"},
		{"none with a secret file", map[string]any{"client_auth": "none", "client_secret_file": "testdata/client_secret"}, "remove one"},
		{"basic without a secret", map[string]any{"client_auth": "basic"}, "client_auth basic needs client_secret"},
		{"none with a secret", map[string]any{"client_auth": "none", "client_secret": "canary"}, "remove one"},
		{"no key file", map[string]any{"client_auth": map[string]any{"method": "private_key_jwt", "pem": "/no/such/file"}}, "client_auth private_key_jwt: open /no/such/file: no such file or directory: name a file that Caddy's user can read"},
		{"no key in the file", map[string]any{"client_auth": map[string]any{"method": "private_key_jwt", "pem": "testdata/client_secret"}}, "client_auth private_key_jwt: testdata/client_secret: there is no private key in it"},
		{"unset variable in the key file's name", map[string]any{"client_auth": map[string]any{"method": "private_key_jwt", "pem": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}}, "client_auth private_key_jwt: {env.DEVICE_AUTH_NO_SUCH_VARIABLE} is not set"},
		{"no key", map[string]any{"client_auth": "private_key_jwt"}, "client_auth private_key_jwt needs the file of the client's private key"},
		{"an id without a key", map[string]any{"client_auth": map[string]any{"method": "private_key_jwt", "kid": "x"}}, "client_auth: kid is the id of a key: add pem, the file of that"},
		{"a key for another method", map[string]any{"client_secret": "canary", "client_auth": map[string]any{"method": "post", "pem": key}}, "no other method takes one"},
		{"a key and a secret", map[string]any{"client_secret": "canary", "client_auth": map[string]any{"method": "private_key_jwt", "pem": key}}, "client_auth private_key_jwt sends no secret"},
		{"tls without a certificate", map[string]any{"client_auth": "tls"}, "client_auth tls needs the client's certificate: add a transport with a line like `tls_client_auth"},
		{"tls with another transport", map[string]any{"client_auth": "tls", "transport": map[string]any{"tls_server_name": "x"}}, "client_auth tls needs the client's certificate"},
		{"tls with a secret", map[string]any{"client_auth": "tls", "client_secret": "canary", "transport": shown}, "client_auth tls sends no secret"},
		{"tls in the clear", map[string]any{"client_auth": "tls", "endpoints": map[string]any{"token": "http://127.0.0.1:1"}, "transport": shown}, `endpoints token "http://127.0.0.1:1": must start with https://`},
		{"unknown key of client_auth", map[string]any{"client_auth": map[string]any{"method": "none", "key": "x"}}, `unknown field "key"`},
		{"unknown client_auth", map[string]any{"client_auth": "magic"}, `client_auth "magic" is none of auto`},
		{"unknown pkce", map[string]any{"pkce": "S256"}, `pkce "S256" is none of auto, on, off`},
		{"unknown complete_uri", map[string]any{"complete_uri": "maybe"}, `complete_uri "maybe" is none of on, off`},
		{"algorithm none", map[string]any{"algorithms": []string{"none"}}, `algorithms "none": a token without a signature`},
		{"scopes without openid", map[string]any{"scopes": []string{"profile"}}, "scopes must include openid"},
		{"param of ours", map[string]any{"param": map[string]any{"client_id": []string{"x"}}}, "param: client_id: the gateway sends that itself"},
		{"param of ours in capitals", map[string]any{"param": map[string]any{"Scope": []string{"x"}}}, "the gateway sends that itself"},
		{"param twice", map[string]any{"param": map[string]any{"acr_values": []string{"x", "y"}}}, "param acr_values: it is there 2 times: keep one"},
		{"param without a value", map[string]any{"param": map[string]any{"acr_values": []string{""}}}, "param acr_values: it needs a value"},
		{"param of the body", map[string]any{"param": map[string]any{"a": []string{"{http.request.body}"}}}, "param a: {http.request.body} would read the body"},
		{"param of nothing", map[string]any{"param": map[string]any{"a": []string{"{hots}"}}}, "param a: {hots} is no placeholder"},
		{"idp_timeout", map[string]any{"idp_timeout": "-1s"}, "idp_timeout -1s: must be positive"},
		{"clock_skew", map[string]any{"clock_skew": "1h"}, "clock_skew 1h0m0s: must be between 0 and 5m"},
		{"limits code, long", map[string]any{"limits": map[string]any{"code": "2h"}}, "limits code 2h: must be between 1m and 1h"},
		{"limits code, short", map[string]any{"limits": map[string]any{"code": "1s"}}, "limits code 1s: must be between 1m and 1h"},
		{"limits starts", map[string]any{"limits": map[string]any{"starts": map[string]any{"count": 0, "per": "1m"}}}, "limits starts 0 1m: must be a number between 1 and 1000000"},
		{"limits starts, no time", map[string]any{"limits": map[string]any{"starts": map[string]any{"count": 5}}}, "limits starts 5 0s: must be"},
		{"session idle", map[string]any{"session": map[string]any{"idle": -1}}, "session idle -1ns: must be between 1s and 3650d"},
		{"session lifetime", map[string]any{"session": map[string]any{"lifetime": "99999d"}}, "session lifetime 99999d: must be between 1s and 3650d"},
		{"cookie name", map[string]any{"session": map[string]any{"cookie": "a b"}}, `session cookie "a b": not a cookie name`},
		{"path_prefix", map[string]any{"path_prefix": "/a/../b"}, `path_prefix "/a/../b": must start with /`},
		{"public_url, http", map[string]any{"public_url": "http://api.example.com"}, `public_url "http://api.example.com": must be https://`},
		{"public_url, path", map[string]any{"public_url": "https://api.example.com/x"}, "must be https:// and a host, with nothing after it"},
		{"public_url, user", map[string]any{"public_url": "https://u@api.example.com"}, "must be https:// and a host"},
		{"public_url, query", map[string]any{"public_url": "https://api.example.com?x"}, "must be https:// and a host"},
		{"header", map[string]any{"upstream_headers": map[string]string{"Host": "sub"}}, "upstream_headers: Host cannot hold a claim: it has a meaning of its own"},
		{"header name", map[string]any{"upstream_headers": map[string]string{"X_User": "sub"}}, `upstream_headers: "X_User" is not a header name`},
		{"header without a claim", map[string]any{"upstream_headers": map[string]string{"X-User": ""}}, "upstream_headers: X-User needs a claim"},
		{"header twice", map[string]any{"upstream_headers": map[string]string{"X-User": "sub", "x-user": "sub"}}, "upstream_headers: X-User is there twice"},
		{"matcher", map[string]any{"match": []any{map[string]any{"no_such": true}}}, "loading matchers"},
		{"start", map[string]any{"start": []any{map[string]any{"no_such": true}}}, "loading matchers"},
		{"unknown key", map[string]any{"issuers": "x"}, `unknown field "issuers"`},
		{"unknown provider", map[string]any{"issuer": nil, "client_id": nil, "provider": "keycloak"}, `provider "keycloak" is not defined: add `},
		{"provider and its keys", map[string]any{"provider": "keycloak", "pkce": "on"}, `provider "keycloak" is named, and issuer, client_id, pkce set here as well: write that at the provider, or leave out the name`},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := map[string]any{}
			for _, from := range []map[string]any{good, row.cfg} {
				for k, v := range from {
					if cfg[k] = v; v == nil {
						delete(cfg, k)
					}
				}
			}
			fine := site{"fine.example.com", good}
			err := caddy.Validate(siteConfig(t, nil, fine, site{"api.example.com", cfg}, fine))
			place := "device_auth on api.example.com (server edge, listening on 127.0.0.1:9): "
			if strings.HasPrefix(row.want, "unknown field") || row.name == "unknown endpoint" {
				place = "server edge" // Caddy's own words
			}
			switch {
			case err == nil:
				t.Errorf("accepted, want %q", row.want)
			case !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), place):
				t.Errorf("%v, want %q and %q", err, place, row.want)
			case strings.Contains(err.Error(), "canary"):
				t.Errorf("a secret is printed: %v", err)
			}
		})
	}
}

// TestAppMistakes are those of the global option, with no site to name.
func TestAppMistakes(t *testing.T) {
	provider := func(change map[string]any) map[string]any {
		p := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"}
		for k, v := range change {
			p[k] = v
		}
		return map[string]any{"providers": map[string]any{"keycloak": p}}
	}
	for _, row := range []struct {
		name string
		app  map[string]any
		want string
	}{
		{"pending", map[string]any{"limits": map[string]any{"pending": -1}}, "device_auth: limits pending -1: must be at least 1"},
		{"waits", map[string]any{"limits": map[string]any{"waits": -1}}, "device_auth: limits waits -1: must be at least 1"},
		{"starts", map[string]any{"limits": map[string]any{"starts": map[string]any{"count": 5, "per": -1}}}, "device_auth: limits starts 5 -1ns: must be"},
		{"store path, unset variable", map[string]any{"store": map[string]any{"store": "bolt", "path": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}/x"}}, "store bolt: path"},
		{"store path, request placeholder", map[string]any{"store": map[string]any{"store": "bolt", "path": "{http.request.host}"}}, "store bolt: path"},
		{"unknown store", map[string]any{"store": map[string]any{"store": "no_such"}}, "no_such"},
		{"unknown key", map[string]any{"provider": map[string]any{}}, `unknown field "provider"`},
		{"unknown key of a provider", provider(map[string]any{"path_prefix": "/x"}), `unknown field "path_prefix"`},
		{"null", map[string]any{"providers": map[string]any{"keycloak": nil}}, "device_auth: provider keycloak: issuer is missing"},
		{"name", map[string]any{"providers": map[string]any{"@x": map[string]any{}}}, `device_auth: provider "@x": a provider's name is letters`},
		{"issuer", provider(map[string]any{"issuer": "http://idp.example.com"}), `device_auth: provider keycloak: issuer "http://idp.example.com": must start with https://`},
		{"placeholder", provider(map[string]any{"client_secret": "{env.DEVICE_AUTH_NO_SUCH_VARIABLE}"}), "device_auth: provider keycloak: client_secret: {env.DEVICE_AUTH_NO_SUCH_VARIABLE} is not set"},
		{"param", provider(map[string]any{"param": map[string]any{"scope": []string{"x"}}}), "device_auth: provider keycloak: param: scope: the gateway sends that itself"},
		{"discovery", provider(map[string]any{"discovery": "ftp://x"}), "device_auth: provider keycloak: discovery"},
	} {
		t.Run(row.name, func(t *testing.T) {
			// a provider that no site uses is checked all the same
			for _, sites := range [][]site{nil, {{"api.example.com", map[string]any{"issuer": "https://other.example.com", "client_id": "gate"}}}} {
				err := caddy.Validate(siteConfig(t, row.app, sites...))
				if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "device_auth on ") {
					t.Errorf("%v, want %q and no site", err, row.want)
				}
			}
		})
	}
}

// TestNamesOfProviders: who names one that is not there is told which are.
func TestNamesOfProviders(t *testing.T) {
	p := func(id string) map[string]any {
		return map[string]any{"issuer": "https://idp.example.com", "client_id": id}
	}
	app := map[string]any{"providers": map[string]any{"keycloak": p("a"), "authentik": p("b")}}
	for name, want := range map[string]string{
		"keycloak": "", "authentik": "", "keycloack": "did you mean keycloak?", "okta": "there are authentik, keycloak; or add `provider okta { … }`",
	} {
		err := caddy.Validate(siteConfig(t, app, site{"api.example.com", map[string]any{"provider": name}}))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), fmt.Sprintf("provider %q is not defined: %s", name, want))) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestPlaceWithoutAName: where there is no host to name, the server is.
func TestPlaceWithoutAName(t *testing.T) {
	err := caddy.Validate(siteConfig(t, nil, site{"", map[string]any{"issuer": "x", "client_id": "x"}}))
	if err == nil || !strings.Contains(err.Error(), `device_auth on server edge (listening on 127.0.0.1:9): issuer "x"`) {
		t.Error(err)
	}
	var raw map[string]any
	config := siteConfig(t, nil, site{"fine.example.com", map[string]any{"issuer": "https://idp.example.com", "client_id": "x"}})
	if err := json.Unmarshal(config.AppsRaw["http"], &raw); err != nil {
		t.Fatal(err)
	}
	server := raw["servers"].(map[string]any)["edge"].(map[string]any)
	server["named_routes"] = map[string]any{"gate": map[string]any{"handle": []any{map[string]any{"handler": "device_auth", "issuer": "x"}}}}
	config.AppsRaw["http"] = mustJSON(t, raw)
	if err := caddy.Validate(config); err == nil || !strings.Contains(err.Error(), "device_auth on server edge (listening on 127.0.0.1:9): ") {
		t.Errorf("in a named route: %v", err)
	}
}
