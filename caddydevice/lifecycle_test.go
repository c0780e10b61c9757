// This file tests the module inside a running Caddy: servers with and without
// TLS, reloads, and the end.

package caddydevice

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	sealed "github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// running is a Caddy in this process with one site on loopback.
type running struct {
	t    *testing.T
	idp  *idptest.Provider
	addr string
	// store is the line that says where sessions are kept; by default in
	// memory.
	store string
	// options are more global options.
	options string
}

// client keeps no connection: one that a reload closes may do so just as the
// next request goes out.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func startCaddy(t *testing.T) *running {
	t.Helper()
	return startCaddyOn(t, "store memory")
}

func startCaddyOn(t *testing.T, store string) *running {
	t.Helper()
	provider := idptest.New("")
	provider.Issuer = serve(t, provider).URL
	r := &running{t: t, idp: provider, addr: freeAddress(t), store: store}
	if err := r.load(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// freeAddress is one on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // only to find it
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// load loads the site with more lines in its block.
func (r *running) load(lines string) error {
	r.t.Helper()
	text := fmt.Sprintf(`{
	admin off
	persist_config off
	log {
		output discard
	}
	%s
	device_auth {
		%s
	}
}
http://%s {
	device_auth {
		issuer %s
		client_id gate
		%s
	}
	respond "hello {http.auth.user.id}"
}
`, r.options, r.store, r.addr, r.idp.Issuer, lines)
	cfg, err := adapt(text)
	if err != nil {
		return err
	}
	return caddy.Load([]byte(cfg), true)
}

func (r *running) get(path, key string) (int, map[string]any, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.addr+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := client.Do(req)
	for try := 0; err != nil && try < 3; try++ {
		// right after a reload: Caddy's old listener took the connection with it
		resp, err = client.Do(req)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var answer map[string]any
	_ = json.Unmarshal(body, &answer)
	return resp.StatusCode, answer, string(body)
}

// TestReload: sign-ins under way and sessions are there after a reload, also
// after one that failed, and the identity provider is not asked for new codes.
func TestReload(t *testing.T) {
	r := startCaddy(t)
	r.idp.Device = everySecond(r.idp)
	_, answer, _ := r.get("/", "")
	signedIn, _ := answer["session"].(string)
	r.idp.Approve("device-canary-1")
	if status, _, body := r.get("/.device/wait?timeout=30", signedIn); status != http.StatusOK {
		t.Fatalf("the first sign-in: %d %s", status, body)
	}
	_, answer, _ = r.get("/", "")
	pending, _ := answer["session"].(string)

	for _, lines := range []string{"session {\n idle 1h\n }", "clock_skew 1m", "scopes openid", "no_such_line", "clock_skew 1h"} {
		if err := r.load(lines); (err != nil) != (lines == "no_such_line" || lines == "clock_skew 1h") {
			t.Fatalf("%s: %v", lines, err)
		}
		if status, _, body := r.get("/x", signedIn); status != http.StatusOK || body != "hello sub-alice" {
			t.Errorf("after %q: %d %s", lines, status, body)
		}
		if _, again, body := r.get("/", pending); again["user_code"] != "WDJB-0002" {
			t.Errorf("after %q the code is %v: %s", lines, again["user_code"], body)
		}
	}
	if n := len(r.idp.Calls("/device")); n != 2 {
		t.Errorf("%d device authorizations, want 2", n)
	}
	r.idp.Approve("device-canary-2")
	if status, _, body := r.get("/.device/wait?timeout=30", pending); status != http.StatusOK {
		t.Errorf("the second sign-in, after the reloads: %d %s", status, body)
	}
}

// everySecond answers device authorization requests so that polls may come
// every second.
func everySecond(p *idptest.Provider) func(int) idptest.Reply {
	return func(n int) idptest.Reply {
		answer := idptest.Device(p.Issuer, n)
		answer["interval"] = 1
		return idptest.JSON(http.StatusOK, answer)
	}
}

// TestReloadEndsWaits: a wait does not keep an old configuration alive.
func TestReloadEndsWaits(t *testing.T) {
	r := startCaddy(t)
	_, answer, _ := r.get("/", "")
	key, _ := answer["session"].(string)
	done := make(chan int)
	go func() {
		status, _, _ := r.get("/.device/wait?timeout=120", key)
		done <- status
	}()
	for !r.watched(key) {
		time.Sleep(time.Millisecond)
	}
	if err := r.load("clock_skew 1m"); err != nil {
		t.Fatal(err)
	}
	if status := <-done; status != http.StatusAccepted {
		t.Errorf("%d, want 202 and come back", status)
	}
}

// watched reports whether somebody waits for the key's sign-in.
func (r *running) watched(key string) bool {
	k, ok := session.ParseKey(key)
	if !ok {
		r.t.Fatalf("%q is no key", key)
	}
	watched := false
	engines.Range(func(_, val any) bool {
		s, err := val.(*engine).table.Lookup(r.t.Context(), k, "127.0.0.1")
		watched = watched || err == nil && s.Watched(0)
		return true
	})
	return watched
}

// TestPlainHTTP: where the cookie would cross a network in the clear, the
// configuration is refused with the remedy.
func TestPlainHTTP(t *testing.T) {
	for _, row := range []struct {
		name, address, global, lines string
		refused                      bool
	}{
		{name: "https", address: "https://api.example.com"},
		{name: "no scheme", address: "api.example.com"},
		{name: "http", address: "http://api.example.com", refused: true},
		{name: "port", address: ":8080", refused: true},
		{name: "http, public_url", address: "http://api.example.com", lines: "public_url https://api.example.com"},
		{name: "http, insecure_cookie", address: "http://api.example.com", lines: "insecure_cookie"},
		{name: "http on localhost", address: "http://localhost:8080"},
		{name: "http on a loopback address", address: "http://127.0.0.1:8080"},
		{name: "http, bound to loopback", address: "http://kiosk.lan:8080", global: "default_bind 127.0.0.1"},
		{name: "http on ::1", address: "http://[::1]:8080"},
		{name: "http on a name below localhost", address: "http://api.localhost:8080"},
		{name: "http on localhost in capitals", address: "http://LOCALHOST:8080"},
		{name: "http, like localhost", address: "http://localhost.example.com:8080", refused: true},
		{name: "http, like a loopback address", address: "http://127.0.0.1.example.com:8080", refused: true},
		{name: "http, bound to both loopback addresses", address: "http://kiosk.lan:8080", global: "default_bind 127.0.0.1 [::1]"},
		{name: "http, bound to loopback and another", address: "http://kiosk.lan:8080", global: "default_bind 127.0.0.1 192.0.2.1", refused: true},
		{name: "http, bound to a unix socket", address: "http://kiosk.lan", global: "default_bind unix//run/kiosk", refused: true},
		{name: "port, bound to loopback", address: ":8080", global: "default_bind 127.0.0.1"},
		{name: "localhost and another", address: "http://localhost:8080, http://kiosk.lan:8080", refused: true},
		{name: "other cookie", address: "https://api.example.com", lines: "session {\n cookie kiosk\n }"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg, err := adapt(fmt.Sprintf("{\n%s\n}\n%s {\n device_auth {\n issuer https://idp.example.com\n client_id x\n %s\n }\n}\n", row.global, row.address, row.lines))
			if err != nil {
				t.Fatal(err)
			}
			var config caddy.Config
			if err := json.Unmarshal([]byte(cfg), &config); err != nil {
				t.Fatal(err)
			}
			config.Logging = quiet
			err = caddy.Validate(&config)
			if (err != nil) != row.refused {
				t.Fatalf("%v, refused: want %t", err, row.refused)
			}
			if row.refused {
				for _, remedy := range []string{"https", "public_url", "loopback", "insecure_cookie"} {
					if !strings.Contains(err.Error(), remedy) {
						t.Errorf("the remedy %q is not in %q", remedy, err)
					}
				}
			}
		})
	}
}

// TestCookieNames: the prefix that browsers hold to wherever there is TLS.
func TestCookieNames(t *testing.T) {
	tls := &caddyhttp.Server{Listen: []string{":443"}, TLSConnPolicies: caddytls.ConnectionPolicies{new(caddytls.ConnectionPolicy)}}
	loopback := &caddyhttp.Server{Listen: []string{"127.0.0.1:80", "[::1]:80"}}
	for _, row := range []struct {
		name   string
		server *caddyhttp.Server
		h      *Handler
		want   string
		secure bool
	}{
		{"TLS", tls, &Handler{}, "__Host-device_auth", true},
		{"TLS, insecure_cookie", tls, &Handler{InsecureCookie: true}, "__Host-device_auth", true},
		{"TLS, other name", tls, &Handler{Session: &SessionConfig{Cookie: "kiosk"}}, "__Host-kiosk", true},
		{"prefix given", tls, &Handler{Session: &SessionConfig{Cookie: "__Host-kiosk"}}, "__Host-kiosk", true},
		{"loopback", loopback, &Handler{}, "device_auth", false},
		{"public_url", loopback, &Handler{PublicURL: "https://api.example.com"}, "__Host-device_auth", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := row.h
			h.logger = zap.NewNop()
			h.setDefaults()
			got, err := h.newCookiePolicy(row.server)
			if err != nil || got.name != row.want || got.secure != row.secure {
				t.Errorf("%+v %v, want %s", got, err, row.want)
			}
		})
	}
}

// TestSeveralGates: what gates of one site may differ in.
func TestSeveralGates(t *testing.T) {
	r := startCaddy(t)
	other := httptest.NewServer(idptest.New("https://unused.example.com"))
	t.Cleanup(other.Close)
	_, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, first, second, want, address string }{
		{name: "two clients, one cookie, any host", first: "issuer ISSUER\n client_id gate", second: "issuer ISSUER\n client_id other\n path_prefix /x", want: "shares the cookie", address: ":" + port},
		{name: "one gate, two routes", first: "issuer ISSUER\n client_id gate", second: "issuer ISSUER\n client_id gate\n upstream_headers {\n X-Sub sub\n }"},
		{name: "one gate, two prefixes", first: "issuer ISSUER\n client_id gate", second: "issuer ISSUER\n client_id gate\n path_prefix /x", want: "differ in path_prefix"},
		{name: "one gate, two lifetimes", first: "issuer ISSUER\n client_id gate", second: "issuer ISSUER\n client_id gate\n session {\n lifetime 1d\n }", want: "differ in session"},
		{name: "one gate, two scopes", first: "issuer ISSUER\n client_id gate", second: "issuer ISSUER\n client_id gate\n scopes openid", want: "make these lines equal"},
		{name: "two clients, one cookie", first: "issuer ISSUER\n client_id gate", second: "issuer ISSUER\n client_id other\n path_prefix /x", want: "shares the cookie"},
		{name: "two clients, one prefix", first: "issuer ISSUER\n client_id gate", second: "issuer ISSUER\n client_id other\n session {\n cookie other\n }", want: "shares the path"},
		{name: "two clients, apart", first: "issuer ISSUER\n client_id gate", second: "issuer ISSUER\n client_id other\n path_prefix /x\n session {\n cookie other\n }"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := fmt.Sprintf("{\n admin off\n persist_config off\n log {\n output discard\n }\n}\nhttp://%s {\n bind 127.0.0.1\n device_auth /a/* {\n %s\n }\n device_auth /b/* {\n %s\n }\n respond hello\n}\n", cmp.Or(row.address, r.addr), row.first, row.second)
			cfg, err := adapt(strings.ReplaceAll(text, "ISSUER", r.idp.Issuer))
			if err != nil {
				t.Fatal(err)
			}
			err = caddy.Load([]byte(cfg), true)
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

// TestGatesInARow: the second gate of a request keeps what the first has set,
// and adds its own.
func TestGatesInARow(t *testing.T) {
	first := newGate(t, nil)
	key := first.terminal()
	second := provision(t, map[string]any{
		"issuer": first.Issuer, "client_id": first.ClientID, "upstream_headers": map[string]string{"X-Sub": "sub", "Remote-User": "preferred_username"},
	}, nil)
	var seen http.Header
	r := newRequest(t, "/", with(bearer(key), "X-Sub", "root", "Remote-User", "root"))
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	err := first.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return second.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
			seen = r.Header
			return nil
		}))
	}))
	if err != nil || seen.Get("X-Sub") != "sub-alice" || seen.Get("Remote-User") != "alice" || seen.Get("Remote-Groups") != "staff,admins" {
		t.Errorf("%v, the upstream sees %v: %s", err, seen, w.Body)
	}
}

// TestFailedStart: a configuration that is provisioned, but cannot start,
// leaves the running one as it was.
func TestFailedStart(t *testing.T) {
	r := startCaddy(t)
	var e *engine
	engines.Range(func(key, val any) bool {
		if key.(engineKey).issuer == r.idp.Issuer {
			e = val.(*engine)
		}
		return true
	})
	before := e.keeper.Client()
	cfg, err := adapt(fmt.Sprintf("{\n admin off\n persist_config off\n log {\n output discard\n }\n device_auth {\n store memory\n }\n}\nhttp://%s {\n device_auth {\n issuer %s\n client_id gate\n client_secret wrong\n }\n}\nhttp://192.0.2.1:9 {\n bind 192.0.2.1\n respond x\n}\n", r.addr, r.idp.Issuer))
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load([]byte(cfg), true); err == nil {
		t.Fatal("listens on an address of nobody's")
	}
	if e.keeper.Client() != before {
		t.Error("the secret of a configuration that failed is in use")
	}
	if err := r.load(""); err != nil {
		t.Fatal(err)
	}
	if e.keeper.Client() != before {
		t.Error("an equal configuration has thrown away what was learned")
	}
	if err := r.load("client_secret other"); err != nil {
		t.Fatal(err)
	}
	if e.keeper.Client() == before {
		t.Error("a new secret is not in use")
	}
}

// TestBindings: the newest configuration's client is in use, and where that
// goes away the one before.
func TestBindings(t *testing.T) {
	g := newGate(t, nil)
	client := func(secret string) (idp.Config, *idp.Client) {
		cfg := g.resolved
		cfg.ClientSecret = sealed.String(secret)
		c, err := idp.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return cfg, c
	}
	var first, second App
	cfg1, one := client("one")
	cfg2, two := client("two")
	g.engine.bind(binding{app: &first, cfg: cfg1, client: one, logger: zap.NewNop()})
	g.engine.bind(binding{app: &second, cfg: cfg2, client: two, logger: zap.NewNop()})
	if g.engine.keeper.Client() != two {
		t.Error("the newest is not in use")
	}
	g.engine.unbind(&second)
	if g.engine.keeper.Client() != one {
		t.Error("the one before is not back")
	}
	g.engine.unbind(&first)
	if g.engine.keeper.Client() != one {
		t.Error("requests that are under way have no client")
	}
}

// TestSecretStaysOutOfTheLog: neither a resolved nor a literal secret is in
// what Caddy writes about the handler in its trace log.
func TestSecretStaysOutOfTheLog(t *testing.T) {
	t.Setenv("DEVICE_AUTH_TEST_SECRET", "canary-resolved")
	for _, secret := range []string{"{env.DEVICE_AUTH_TEST_SECRET}", "canary-literal"} {
		g := newGate(t, map[string]any{"client_secret": secret})
		var log strings.Builder
		logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&log), zap.DebugLevel))
		logger.Debug("trace", zap.Any("module", g.Handler))
		if strings.Contains(log.String(), "canary") {
			t.Errorf("%s: %s", secret, log.String())
		}
		if got := g.resolved.ClientSecret.Reveal(); !strings.HasPrefix(got, "canary") {
			t.Errorf("%s resolves to %q", secret, got)
		}
	}
}
