// This file tests the rules for several gates on one site.

package caddydevice

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
)

// provisionSites provisions a configuration without starting it.
func provisionSites(t *testing.T, config *caddy.Config) (*caddyhttp.App, error) {
	t.Helper()
	apps := config.AppsRaw
	config.AppsRaw = caddy.ModuleMap{}
	ctx, err := caddy.ProvisionContext(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := caddy.NewContext(ctx)
	t.Cleanup(cancel)
	config.AppsRaw = apps // from here on, so that the apps are this context's, and end with it
	httpApp, err := ctx.App("http")
	if err != nil {
		return nil, err
	}
	return httpApp.(*caddyhttp.App), nil
}

// configOf is the configuration that a Caddyfile makes.
func configOf(t *testing.T, caddyfile string) *caddy.Config {
	t.Helper()
	text, err := adapt(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	var raw struct {
		Apps caddy.ModuleMap `json:"apps"`
	}
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	return &caddy.Config{Logging: quiet, Admin: &caddy.AdminConfig{Disabled: true}, AppsRaw: raw.Apps}
}

// startSites is what App.Start says of a configuration.
func startSites(t *testing.T, config *caddy.Config) error {
	t.Helper()
	httpApp, err := provisionSites(t, config)
	if err != nil {
		return err
	}
	return checkSites(allGates(httpApp))
}

// otherSettings differ from the default in one key each.
var otherSettings = map[string]any{
	"start":           []any{map[string]any{"remote_ip": map[string]any{"ranges": []string{"10.0.0.0/8"}}}},
	"limits":          map[string]any{"code": "5m"},
	"session":         map[string]any{"idle": "1h"},
	"page":            map[string]any{"title": "Wall"},
	"public_url":      "https://api.example.com",
	"path_prefix":     "/gate",
	"insecure_cookie": true,
	"clock_skew":      "10s",
	"algorithms":      []string{"ES256"},
	"identity":        "userinfo",

	"match":            []any{map[string]any{"path": []string{"/x"}}},
	"require":          []any{map[string]any{"claim": "groups", "values": []string{"staff"}}},
	"upstream_headers": map[string]any{"X-User": "sub"},

	"expect":             []any{map[string]any{"claim": "groups", "values": []string{"staff"}}},
	"bearer":             map[string]any{"audience": []string{"api"}},
	"protected_resource": true,
	"upstream_token":     "access_token",
	"trusted_origins":    []string{"https://app.example.com"},

	"discovery":          "https://idp.example.com/d",
	"client_secret":      "canary",
	"client_secret_file": "testdata/client_secret",
	"client_auth":        "none",
	"endpoints":          map[string]any{"revocation": "https://idp.example.com/r"},
	"scopes":             []string{"openid"},
	"param":              map[string]any{"audience": []string{"x"}},
	"pkce":               "off",
	"dialect":            "wso2_old",
	"complete_uri":       "off",
	"transport":          map[string]any{"tls_server_name": "idp.example.com"},
	"idp_timeout":        "5s",
}

// TestOneGate: gates of one site with the same issuer and client are one, so
// they agree on all settings but those that are each one's own. A setting that
// is new has to be put into this test.
func TestOneGate(t *testing.T) {
	own := []string{"match", "require", "upstream_headers"}
	for _, key := range jsonKeys(reflect.TypeFor[Handler]()) {
		if slices.Contains([]string{"issuer", "client_id", "provider"}, key) {
			continue // another gate, or another way to write the same
		}
		t.Run(key, func(t *testing.T) {
			value, ok := otherSettings[key]
			if !ok {
				t.Fatal("no other value to try")
			}
			plain := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"}
			if key == "protected_resource" {
				plain["bearer"] = otherSettings["bearer"] // it needs that
			}
			changed := maps.Clone(plain)
			changed[key] = value
			for _, cfgs := range [][2]map[string]any{{plain, changed}, {changed, plain}} {
				err := startSites(t, siteConfig(t, nil, site{"api.example.com", cfgs[0]}, site{"api.example.com", cfgs[1]}))
				switch {
				case slices.Contains(own, key):
					if err != nil {
						t.Error(err)
					}
				case err == nil:
					t.Error("accepted")
				case !strings.Contains(err.Error(), " "+key) || !strings.Contains(err.Error(), "device_auth on api.example.com (server edge, listening on 127.0.0.1:9)"):
					t.Errorf("names neither site nor key: %v", err)
				case strings.Contains(err.Error(), "canary"):
					t.Errorf("prints a secret: %v", err)
				}
				if err := startSites(t, siteConfig(t, nil, site{"api.example.com", changed}, site{"api.example.com", changed})); err != nil {
					t.Errorf("equal ones: %v", err)
				}
			}
		})
	}
}

// TestMethodsMayDiffer: which methods a session may use is each gate's own, as
// what it requires is.
func TestMethodsMayDiffer(t *testing.T) {
	plain := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"}
	reading := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate", "session": map[string]any{"methods": []string{"GET"}}}
	if err := startSites(t, siteConfig(t, nil, site{"api.example.com", plain}, site{"api.example.com", reading})); err != nil {
		t.Error(err)
	}
}

// TestDefaultsAreEqual: a default that is written out is none that differs.
func TestDefaultsAreEqual(t *testing.T) {
	plain := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"}
	written := map[string]any{
		"issuer": "https://idp.example.com", "client_id": "gate", "path_prefix": "/.device", "session": map[string]any{"cookie": "device_auth", "idle": "12h", "lifetime": "30d"},
		"upstream_token": "none", "identity": "auto",
		"limits": map[string]any{"code": "10m", "starts": map[string]any{"count": 10, "per": "1m"}},
		"page":   map[string]any{"theme": "auto", "renew": 3, "confirm": "auto"},
	}
	if err := startSites(t, siteConfig(t, nil, site{"api.example.com", plain}, site{"api.example.com", written})); err != nil {
		t.Error(err)
	}
}

// TestSettingNames: each field of the client's configuration is a line.
func TestSettingNames(t *testing.T) {
	typ := reflect.TypeFor[idp.Config]()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		for line := range strings.SplitSeq(settingNames[name], ", ") {
			if name != "Transport" && name != "KeysOnly" && directiveBlock.lines[line].usage == "" {
				t.Errorf("%s is %q, which is no line", name, line)
			}
		}
	}
}

func TestTwoProviders(t *testing.T) {
	app := map[string]any{"providers": map[string]any{
		"keycloak":  map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"},
		"authentik": map[string]any{"issuer": "https://auth.example.com", "client_id": "gate"},
	}}
	one := map[string]any{"provider": "keycloak"}
	inline := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"}
	two := func(change map[string]any) map[string]any {
		cfg := map[string]any{"provider": "authentik"}
		maps.Copy(cfg, change)
		return cfg
	}
	cookie := map[string]any{"cookie": "other"}
	for _, row := range []struct {
		name  string
		sites []site
		want  string
	}{
		{"one site, apart", []site{{"a.example.com", one}, {"a.example.com", two(map[string]any{"path_prefix": "/x", "session": cookie})}}, ""},
		{"one site, one cookie", []site{{"a.example.com", one}, {"a.example.com", two(map[string]any{"path_prefix": "/x"})}}, "shares the cookie"},
		{"one site, one prefix", []site{{"a.example.com", one}, {"a.example.com", two(map[string]any{"session": cookie})}}, "shares the path /.device"},
		{"one site, a prefix in the other", []site{{"a.example.com", one}, {"a.example.com", two(map[string]any{"path_prefix": "/.device/b", "session": cookie})}}, "lie in each other"},
		{"one site, a prefix around the other", []site{{"a.example.com", two(map[string]any{"path_prefix": "/.device/b", "session": cookie})}, {"a.example.com", one}}, "lie in each other"},
		{"two sites", []site{{"a.example.com", one}, {"b.example.com", two(nil)}}, ""},
		{"hosts in capitals", []site{{"a.example.com", one}, {"A.Example.com", two(nil)}}, "shares the cookie"},
		{"any host", []site{{"", one}, {"", two(nil)}}, "shares the cookie"},
		{"one provider on many sites", []site{{"a.example.com", one}, {"b.example.com", one}, {"c.example.com", one}}, ""},
		{"sites of one provider differ", []site{{"a.example.com", one}, {"b.example.com", map[string]any{"provider": "keycloak", "path_prefix": "/x"}}}, ""},
		{"by name and written out", []site{{"a.example.com", one}, {"a.example.com", inline}}, ""},
		{"by name and written out, differ", []site{{"a.example.com", one}, {"a.example.com", map[string]any{"issuer": "https://idp.example.com", "client_id": "gate", "path_prefix": "/x"}}}, "differ in path_prefix"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := startSites(t, siteConfig(t, app, row.sites...))
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

// TestSharedEngine: sites of one provider share its sign-ins, sites of two do
// not.
func TestSharedEngine(t *testing.T) {
	config := siteConfig(t, map[string]any{"providers": map[string]any{
		"keycloak":  map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"},
		"authentik": map[string]any{"issuer": "https://auth.example.com", "client_id": "gate"},
	}}, site{"a.example.com", map[string]any{"provider": "keycloak"}}, site{"b.example.com", map[string]any{"provider": "keycloak"}}, site{"c.example.com", map[string]any{"provider": "authentik"}})
	httpApp, err := provisionSites(t, config)
	if err != nil {
		t.Fatal(err)
	}
	gates := allGates(httpApp)
	if len(gates) != 3 || gates[0].engine != gates[1].engine || gates[0].engine == gates[2].engine {
		t.Errorf("%d gates", len(gates))
	}
}

// TestWhereGatesAre: inside routes with hosts of their own, and in named routes.
func TestWhereGatesAre(t *testing.T) {
	host := func(names ...string) caddyhttp.MatcherSets {
		m := caddyhttp.MatchHost(names)
		return caddyhttp.MatcherSets{{&m}}
	}
	route := func(m caddyhttp.MatcherSets, handlers ...caddyhttp.MiddlewareHandler) caddyhttp.Route {
		return caddyhttp.Route{MatcherSets: m, Handlers: handlers}
	}
	sub := func(routes ...caddyhttp.Route) *caddyhttp.Subroute { return &caddyhttp.Subroute{Routes: routes} }
	gate := new(Handler)
	named := route(nil, gate)
	loop := route(nil, &caddyhttp.Invoke{Name: "loop"})
	server := &caddyhttp.Server{NamedRoutes: map[string]*caddyhttp.Route{"gate": &named, "loop": &loop}}
	for _, row := range []struct {
		name  string
		route caddyhttp.Route
		want  [][]string
	}{
		{"any host", route(nil, gate), [][]string{nil}},
		{"the site's", route(host("a"), sub(route(nil, sub(route(nil, gate))))), [][]string{{"a"}}},
		{"its own", route(host("*.x"), sub(route(host("a.x"), gate), route(host("b.x"), sub(route(nil, gate))), route(nil, gate))), [][]string{{"a.x"}, {"b.x"}, {"*.x"}}},
		{"named", route(host("a"), &caddyhttp.Invoke{Name: "gate"}), [][]string{{"a"}}},
		{"not there", route(host("a"), &caddyhttp.Invoke{Name: "no"}), nil},
		{"in a circle", route(host("a"), &caddyhttp.Invoke{Name: "loop"}), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got [][]string
			server.Routes = caddyhttp.RouteList{row.route}
			for _, p := range gatesOf(server) {
				got = append(got, p.hosts)
			}
			if !reflect.DeepEqual(got, row.want) {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
}

// TestGatesOfTwoServers: a host's cookies are sent to all its ports.
func TestGatesOfTwoServers(t *testing.T) {
	one := map[string]any{"handler": "device_auth", "issuer": "https://idp.example.com", "client_id": "gate"}
	for _, row := range []struct {
		name       string
		host, cfgs map[string]any // of the second
		want       string
	}{
		{"another client, one cookie", map[string]any{"host": []string{"a.example.com"}}, map[string]any{"client_id": "other"}, "shares the cookie __Host-device_auth with the gate on a.example.com (server a, listening on 127.0.0.1:8)"},
		{"another client, cookies apart", map[string]any{"host": []string{"a.example.com"}}, map[string]any{"client_id": "other", "session": map[string]any{"cookie": "x"}}, ""},
		{"another client, another host", map[string]any{"host": []string{"b.example.com"}}, map[string]any{"client_id": "other"}, ""},
		{"another client, any host", nil, map[string]any{"client_id": "other"}, ""},
		{"the same client, other settings", map[string]any{"host": []string{"a.example.com"}}, map[string]any{"path_prefix": "/x"}, ""},
		{"the same client, confirmed at one", map[string]any{"host": []string{"a.example.com"}}, confirming, "only one of the two has them confirmed"},
		{"the same client, confirmed at one, another host", map[string]any{"host": []string{"b.example.com"}}, confirming, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			two := maps.Clone(one)
			maps.Copy(two, row.cfgs)
			server := func(listen string, handler, match map[string]any) map[string]any {
				route := map[string]any{"handle": []any{handler}}
				if match != nil {
					route["match"] = []any{match}
				}
				return map[string]any{"listen": []string{listen}, "routes": []any{route}}
			}
			config := siteConfig(t, nil)
			host := map[string]any{"host": []string{"a.example.com"}}
			if row.host == nil {
				host = nil
			}
			config.AppsRaw["http"] = mustJSON(t, map[string]any{"servers": map[string]any{
				"a": server("127.0.0.1:8", one, host), "b": server("127.0.0.1:9", two, row.host),
			}})
			err := startSites(t, config)
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "server b")) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

// TestGatesOnOneWay: gates that one request may pass have to get along, whatever
// their hosts are called; those of a group do not meet.
func TestGatesOnOneWay(t *testing.T) {
	gate := func(lines string) string {
		return "device_auth {\n issuer https://idp.example.com\n client_id gate\n" + lines + "\n}\n"
	}
	other := func(lines string) string { return strings.Replace(gate(lines), "idp.", "auth.", 1) }
	const apart = "path_prefix /x\n session {\n cookie other\n }"
	api := func(inner string) string {
		return "@api host api.example.com\n handle @api {\n" + inner + "respond api\n}\n"
	}
	for _, row := range []struct{ name, address, lines, want string }{
		{"outside and inside", "*.example.com", gate("") + api(other("")), "shares the cookie"},
		{"for any host and inside", ":443", gate("") + api(other("")), "shares the cookie"},
		{"outside and inside, apart", "*.example.com", gate("") + api(other(apart)), ""},
		{"one provider, outside and inside", "*.example.com", gate("") + api(gate("")), ""},
		{"one provider that differs", "*.example.com", gate("") + api(gate("session {\n idle 1h\n }")), "differ in session"},
		{"one or the other", "*.example.com", api(other("")) + "handle {\n" + gate("") + "respond rest\n}\n", ""},
		{"two hosts inside", "*.example.com", api(other("")) + "@web host web.example.com\n handle @web {\n" + gate("") + "respond web\n}\n", ""},
		{"for any host and deep inside", ":443", gate("") + "handle /x* {\n" + api(other("")) + "}\n", "shares the cookie"},
		{"who may start, deep inside", ":443", gate("") + "handle /x* {\n" + api(gate("start {\n remote_ip 10.0.0.0/8\n }")) + "}\n", "differ in start"},
		{"two hosts in a row", "*.example.com", "@web host web.example.com\n route @web {\n" + gate("") + "}\n@api host api.example.com\n route @api {\n" + other("") + "}\n", ""},
		{"a wildcard and a host in a row", "*.example.com", "@any host *.example.com\n route @any {\n" + gate("") + "}\n@api host api.example.com\n route @api {\n" + other("") + "}\n", "shares the cookie"},
		{"one after the other", "api.example.com", "route {\n" + gate("") + other("") + "respond both\n}\n", "shares the cookie"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := startSites(t, configOf(t, row.address+" {\n"+row.lines+"respond hello\n}\n"))
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

// TestGatesOfRoutesInARow: a request goes on to the next route of a list, be it
// the server's own, unless it is terminal or for other hosts.
func TestGatesOfRoutesInARow(t *testing.T) {
	gate := func(issuer string) map[string]any {
		return map[string]any{"handler": "device_auth", "issuer": "https://" + issuer + ".example.com", "client_id": "gate"}
	}
	route := func(host string, terminal bool, handler any) any {
		r := map[string]any{"handle": []any{handler}, "terminal": terminal}
		if host != "" {
			r["match"] = []any{map[string]any{"host": []string{host}}}
		}
		return r
	}
	sub := func(routes ...any) any { return map[string]any{"handler": "subroute", "routes": routes} }
	const shared = "shares the cookie"
	for _, row := range []struct {
		name     string
		first    string
		terminal bool
		second   string
		want     string
	}{
		{"any host, then one", "", false, "api.example.com", shared},
		{"a wildcard, then a host", "*.example.com", false, "api.example.com", shared},
		{"a host, then a wildcard", "api.example.com", false, "*.example.com", shared},
		{"wildcards that meet", "*.example.com", false, "api.*.com", shared},
		{"a wildcard is one label", "*.example.com", false, "a.b.example.com", ""},
		{"two hosts", "a.example.com", false, "b.example.com", ""},
		{"terminal, any host, then one", "", true, "api.example.com", ""},
		{"terminal, a wildcard, then a host", "*.example.com", true, "api.example.com", ""},
	} {
		for where, routes := range map[string][]any{
			"server":          {route(row.first, row.terminal, gate("idp")), route(row.second, row.terminal, gate("auth"))},
			"subroute":        {route("", false, sub(route(row.first, row.terminal, gate("idp")), route(row.second, row.terminal, gate("auth"))))},
			"out of subroute": {route("", false, sub(route(row.first, row.terminal, gate("idp")))), route(row.second, row.terminal, gate("auth"))},
		} {
			t.Run(row.name+", "+where, func(t *testing.T) {
				config := siteConfig(t, nil)
				config.AppsRaw["http"] = mustJSON(t, map[string]any{"servers": map[string]any{"edge": map[string]any{"listen": []string{"127.0.0.1:9"}, "routes": routes}}})
				err := startSites(t, config)
				if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
					t.Errorf("%v, want %q", err, row.want)
				}
			})
		}
	}
}

// TestGateBeforeAndInAGroup: a named route that was passed before a group is
// not forgotten where the group invokes it too.
func TestGateBeforeAndInAGroup(t *testing.T) {
	one, two := new(Handler), new(Handler)
	route := func(group string, handler caddyhttp.MiddlewareHandler) caddyhttp.Route {
		return caddyhttp.Route{Group: group, Handlers: []caddyhttp.MiddlewareHandler{handler}}
	}
	gates := gatesOf(&caddyhttp.Server{Routes: caddyhttp.RouteList{route("", one), route("g", one), route("g", two)}})
	if len(gates) != 3 || !gates[2].isBehind(one) {
		t.Errorf("%d gates, the last behind %d stops", len(gates), len(gates[len(gates)-1].way))
	}
}
