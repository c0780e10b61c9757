// This file tests what the settings of an identity provider do: shared ones,
// parameters, and secrets that stay where they belong.

package caddydevice

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

// TestParamsOfARequest: placeholders are resolved once, from this request, and
// what they hold is never taken for another placeholder.
func TestParamsOfARequest(t *testing.T) {
	t.Setenv("DEVICE_AUTH_TEST_PARAM", "{http.request.host}")
	t.Setenv("DEVICE_AUTH_TEST_SECRET", "canary")
	file := filepath.Join(t.TempDir(), "audience")
	if err := os.WriteFile(file, []byte("{env.DEVICE_AUTH_TEST_SECRET}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGate(t, map[string]any{"param": map[string]any{
		"login_hint": []string{"{http.request.header.X-User}@{http.request.host}!"}, "acr_values": []string{"plain"}, "from_env": []string{"<{env.DEVICE_AUTH_TEST_PARAM}>"},
		"from_file": []string{"{file." + file + "}"}, "empty": []string{"{http.request.header.X-None}"}, "braces": []string{`\{a\}`},
		"resource": []string{"https://a.example.com", "https://b.example.com"},
	}})
	g.begun(with(curlHeaders, "X-User", "{env.DEVICE_AUTH_TEST_SECRET}&scope=evil"))
	g.begun(with(curlHeaders, "X-User", "bob"))
	forms := g.idp.Calls("/device")
	for i, want := range []string{"{env.DEVICE_AUTH_TEST_SECRET}&scope=evil@api.example.com!", "bob@api.example.com!"} {
		if got := forms[i].Form.Get("login_hint"); got != want {
			t.Errorf("login_hint %q, want %q", got, want)
		}
	}
	form := forms[0].Form
	for name, want := range map[string]string{"acr_values": "plain", "from_env": "<{http.request.host}>", "from_file": "{env.DEVICE_AUTH_TEST_SECRET}", "braces": "{a}", "client_id": "gate"} {
		if got := form.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if form.Has("empty") || len(form["resource"]) != 2 || strings.Contains(form.Get("scope"), "evil") {
		t.Errorf("%v", form)
	}
}

// TestCompleteURIOff: no answer has the address with the code in it.
func TestCompleteURIOff(t *testing.T) {
	for _, value := range []string{"on", "off", ""} {
		cfg := map[string]any{}
		if value != "" {
			cfg["complete_uri"] = value
		}
		g := newGate(t, cfg)
		var all []string
		for _, header := range []map[string]string{curlHeaders, browserHeaders, jsonHeaders} {
			key := g.setCookie(g.do(request{target: "/hello", header: header}))
			all = append(all, g.body)
			g.do(request{target: "/.device/qr.svg", header: g.cookieOf(header, key)})
			all = append(all, g.body)
		}
		shown := strings.Contains(strings.Join(all, "\n"), "user_code=")
		if !strings.Contains(strings.Join(all, "\n"), "/activate") || shown != (value != "off") {
			t.Errorf("complete_uri %q: shown %t", value, shown)
		}
		if login := g.session(g.begun(curlHeaders)).Now().Login; (login.VerificationURIComplete != "") != (value != "off") {
			t.Errorf("complete_uri %q: the session has %q", value, login.VerificationURIComplete)
		}
	}
}

// TestTwoProvidersOnOneSite: each gate asks its own identity provider, and a
// session of one is none of the other's.
func TestTwoProvidersOnOneSite(t *testing.T) {
	r := startCaddy(t)
	other := idptest.New("")
	other.Issuer = serve(t, other).URL
	other.Subject = "sub-guest"
	cfg, err := adapt(fmt.Sprintf(`{
	admin off
	persist_config off
	log {
		output discard
	}
	device_auth {
		store memory
		provider staff {
			issuer %s
			client_id gate
			param login_hint {host}
		}
		provider guests {
			issuer %s
			client_id gate
		}
	}
}
http://%s {
	@staff path /staff/*
	device_auth @staff staff
	device_auth /guests/* guests {
		path_prefix /.guests
		session {
			cookie guests
		}
	}
	respond "hello {http.auth.user.id}"
}
`, r.idp.Issuer, other.Issuer, r.addr))
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load([]byte(cfg), true); err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for path, p := range map[string]*idptest.Provider{"/staff/x": r.idp, "/guests/x": other} {
		p.Device = func(n int) idptest.Reply {
			answer := idptest.Device(p.Issuer, n)
			answer["interval"] = 1
			return idptest.JSON(http.StatusOK, answer)
		}
		p.Approve("")
		_, answer, body := r.get(path, "")
		key, ok := answer["session"].(string)
		if !ok || !strings.HasPrefix(fmt.Sprint(answer["verification_uri"]), p.Issuer) {
			t.Fatalf("%s: %s", path, body)
		}
		keys[path] = key
	}
	for path, wait := range map[string]string{"/staff/x": "/.device/wait?timeout=30", "/guests/x": "/.guests/wait?timeout=30"} {
		if status, _, body := r.get(wait, keys[path]); status != http.StatusOK {
			t.Fatalf("%s: %d %s", wait, status, body)
		}
	}
	for _, row := range []struct {
		path, key string
		status    int
		body      string
	}{
		{"/staff/x", keys["/staff/x"], http.StatusOK, "hello sub-alice"},
		{"/guests/x", keys["/guests/x"], http.StatusOK, "hello sub-guest"},
		{"/staff/x", keys["/guests/x"], http.StatusUnauthorized, ""},
		{"/guests/x", keys["/staff/x"], http.StatusUnauthorized, ""},
		{"/open", "", http.StatusOK, ""},
	} {
		if status, _, body := r.get(row.path, row.key); status != row.status || row.body != "" && body != row.body {
			t.Errorf("%s: %d %s", row.path, status, body)
		}
	}
	if got := r.idp.Calls("/device")[0].Form.Get("login_hint"); got != "127.0.0.1" {
		t.Errorf("login_hint %q", got)
	}
}

// TestNextGateFindsItsKey: a gate takes keys off what it does not protect, and
// the next one on the request's way finds its own all the same; the upstream
// finds none.
func TestNextGateFindsItsKey(t *testing.T) {
	only := func(path string) []any { return []any{map[string]any{"path": []string{path}}} }
	for _, same := range []bool{true, false} {
		second := newGate(t, map[string]any{"match": only("/b/*")})
		cfg := map[string]any{"issuer": second.Issuer, "client_id": second.ClientID, "match": only("/a/*")}
		if !same {
			cfg["issuer"], cfg["path_prefix"], cfg["session"] = "https://other.example.com", "/.other", map[string]any{"cookie": "other"}
		}
		first := provision(t, cfg, nil)
		key := second.terminalAt("/b/x")
		for name, header := range map[string]map[string]string{
			"bearer": with(bearer(key), "Cookie", "mine=1"), "basic": with(curlHeaders, "Authorization", "Basic "+basicOf(key), "Cookie", "mine=1"),
			"cookie": with(curlHeaders, "Cookie", "mine=1; "+second.cookie.name+"="+key),
		} {
			var seen http.Header
			var printed string
			r := newRequest(t, "/b/x", header)
			w := httptest.NewRecorder()
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
			err := first.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				return second.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
					seen = r.Header
					printed = r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).ReplaceAll("{http.vars."+arrivedVar+"}", "")
					return nil
				}))
			}))
			switch {
			case err != nil || seen == nil:
				t.Errorf("%s, one provider %t: %v, %d %s", name, same, err, w.Code, w.Body)
			case strings.Contains(fmt.Sprint(seen, printed), key) || seen["Authorization"] != nil || seen.Get("Cookie") != "mine=1":
				t.Errorf("%s, one provider %t: the upstream sees %v, a variable %q", name, same, seen, printed)
			}
		}
	}
}

func basicOf(key string) string { return base64.StdEncoding.EncodeToString([]byte("x:" + key)) }

// logWriter is where Caddy's log of these tests goes.
type logWriter struct{}

var testLog struct {
	sync.Mutex
	bytes.Buffer
}

func init() { caddy.RegisterModule(logWriter{}) }

func (logWriter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.device_auth_test", New: func() caddy.Module { return new(logWriter) }}
}
func (logWriter) String() string                      { return "test" }
func (logWriter) WriterKey() string                   { return "device_auth_test" }
func (logWriter) OpenWriter() (io.WriteCloser, error) { return logWriter{}, nil }
func (logWriter) Close() error                        { return nil }
func (logWriter) Write(p []byte) (int, error) {
	testLog.Lock()
	defer testLog.Unlock()
	return testLog.Buffer.Write(p)
}

// logOf is what a configuration logs while it is validated.
func logOf(t *testing.T, config *caddy.Config) string {
	t.Helper()
	config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{WriterRaw: []byte(`{"output":"device_auth_test"}`), Level: "DEBUG"}}}}
	testLog.Lock()
	testLog.Reset()
	testLog.Unlock()
	if err := caddy.Validate(config); err != nil {
		t.Fatal(err)
	}
	testLog.Lock()
	defer testLog.Unlock()
	return testLog.String()
}

// TestPlainHTTPWarns: a cookie that is not Secure is warned about.
func TestPlainHTTPWarns(t *testing.T) {
	for _, row := range []struct {
		name, address, line string
		warns               bool
	}{
		{"https", "https://api.example.com", "", false}, {"localhost", "http://localhost:8080", "", true}, {"insecure_cookie", "http://api.example.com", "insecure_cookie", true},
		{"insecure_cookie on https", "https://api.example.com", "insecure_cookie", false}, {"public_url", "http://api.example.com", "public_url https://api.example.com", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg, err := adapt(fmt.Sprintf("%s {\n device_auth {\n issuer https://idp.example.com\n client_id x\n %s\n }\n}\n", row.address, row.line))
			if err != nil {
				t.Fatal(err)
			}
			config := new(caddy.Config)
			if err := json.Unmarshal([]byte(cfg), config); err != nil {
				t.Fatal(err)
			}
			if text := logOf(t, config); strings.Contains(text, "the session cookie is not Secure") != row.warns {
				t.Error(text)
			}
		})
	}
}

// TestLiteralSecret: it works, and is warned about, once for each place where
// it is written; its value is nowhere.
func TestLiteralSecret(t *testing.T) {
	t.Setenv("DEVICE_AUTH_TEST_SECRET", "canary-resolved")
	provider := func(secret string) map[string]any {
		p := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"}
		if secret != "" {
			p["client_secret"] = secret
		}
		return p
	}
	for _, row := range []struct {
		name, secret string
		warnings     int
	}{
		{"none", "", 0}, {"variable", "{env.DEVICE_AUTH_TEST_SECRET}", 0}, {"in part", "x{env.DEVICE_AUTH_TEST_SECRET}", 0},
		{"literal", "canary-literal", 1}, {"literal with braces", `canary-\{literal\}`, 1},
	} {
		for _, named := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, named %t", row.name, named), func(t *testing.T) {
				config := siteConfig(t, nil, site{"api.example.com", provider(row.secret)})
				if named {
					config = siteConfig(t, map[string]any{"providers": map[string]any{"keycloak": provider(row.secret)}},
						site{"a.example.com", map[string]any{"provider": "keycloak"}}, site{"b.example.com", map[string]any{"provider": "keycloak"}})
				}
				text := logOf(t, config)
				if n := strings.Count(text, "client_secret is written into the configuration"); n != row.warnings {
					t.Errorf("%d warnings, want %d: %s", n, row.warnings, text)
				}
				for line := range strings.SplitSeq(text, "\n") {
					// Caddy's own debug log has the whole configuration
					if strings.Contains(line, "canary") && !strings.Contains(line, `"msg":"adjusted config"`) {
						t.Errorf("the log has the secret: %s", line)
					}
				}
			})
		}
	}
}

// TestConfigKeepsPlaceholders: neither GET /config nor the autosaved file has
// what a placeholder stands for.
func TestConfigKeepsPlaceholders(t *testing.T) {
	t.Setenv("DEVICE_AUTH_TEST_SECRET", "canary-resolved")
	saved := caddy.ConfigAutosavePath
	caddy.ConfigAutosavePath = filepath.Join(t.TempDir(), "autosave.json")
	t.Cleanup(func() { caddy.ConfigAutosavePath = saved })
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // only to find a free port
	if err != nil {
		t.Fatal(err)
	}
	admin := l.Addr().String()
	l.Close()
	r := startCaddy(t)
	cfg, err := adapt(fmt.Sprintf(`{
	admin %s
	log {
		output discard
	}
	device_auth {
		store memory
		provider keycloak {
			issuer %s
			client_id gate
			client_secret {env.DEVICE_AUTH_TEST_SECRET}
		}
	}
}
http://%s {
	device_auth /a/* keycloak
	device_auth /b/* {
		issuer %[2]s
		client_id gate
		client_secret {env.DEVICE_AUTH_TEST_SECRET}
	}
	respond hello
}
`, admin, r.idp.Issuer, r.addr))
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load([]byte(cfg), true); err != nil {
		t.Fatal(err)
	}
	if status, _, body := r.get("/a/x", ""); status != http.StatusUnauthorized {
		t.Errorf("%d %s", status, body)
	}
	if call := r.idp.Calls("/device")[0]; call.Pass != "canary-resolved" {
		t.Error("the secret is not in use")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/config/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	shown, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	autosaved, err := os.ReadFile(caddy.ConfigAutosavePath)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"GET /config": string(shown), "the autosaved file": string(autosaved)} {
		if strings.Contains(text, "canary") || strings.Count(text, "{env.DEVICE_AUTH_TEST_SECRET}") != 2 {
			t.Errorf("%s: %s", name, text)
		}
	}
	if err := r.load(""); err != nil { // without the admin endpoint, which outlives caddy.Stop
		t.Fatal(err)
	}
}
