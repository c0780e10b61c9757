// This file holds what the tests of this package share: a gate with a
// scriptable identity provider behind it, and clients in front.

package caddydevice

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard" // matchers

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// TestMain keeps Caddy's files away from the user's, and looks for goroutines
// that outlive the tests.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "device_auth")
	if err != nil {
		panic(err)
	}
	caddy.DefaultStorage.Path = dir
	os.Setenv("XDG_DATA_HOME", dir)
	goleak.VerifyTestMain(m,
		// Caddy's own: it notices after its next sleep that the lock is gone
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
		goleak.Cleanup(func(code int) { os.RemoveAll(dir); os.Exit(code) }))
}

// gate is a provisioned handler, its identity provider, and an upstream that
// notes what it gets.
type gate struct {
	*Handler
	t        testing.TB
	idp      *idptest.Provider
	upstream *http.Request // the last request that passed
	body     string
	ctx      context.Context // of the next request; nil for the test's
	behind   *Handler        // another gate on the way to the upstream, if any
	// answerHeader is what handlers before the gate have set on the answer.
	answerHeader http.Header
}

// newGate provisions a handler as Caddy does; cfg adds to the least
// configuration, in JSON words.
func newGate(t testing.TB, cfg map[string]any) *gate {
	t.Helper()
	provider := idptest.New("")
	provider.Issuer = serve(t, provider).URL
	all := map[string]any{"issuer": provider.Issuer, "client_id": provider.ClientID}
	maps.Copy(all, cfg)
	g := &gate{t: t, idp: provider}
	g.Handler = provision(t, all, nil)
	return g
}

// served are the addresses that providers have had.
var served sync.Map

// serve gives a provider an address that none has had before: metrics go by the
// issuer, and would go on counting.
func serve(t testing.TB, provider http.Handler) *httptest.Server {
	t.Helper()
	for {
		server := httptest.NewServer(provider)
		t.Cleanup(server.Close) // not before, or the next might get the same
		if _, had := served.LoadOrStore(server.URL, true); !had {
			return server
		}
	}
}

// provision loads a handler, and an app with the given configuration. Sessions
// are in memory where that names no store: what is tested does not depend on
// the disk.
func provision(t testing.TB, cfg, app map[string]any) *Handler {
	t.Helper()
	h, err := tryProvision(t, cfg, app)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func tryProvision(t testing.TB, cfg, app map[string]any) (*Handler, error) {
	t.Helper()
	config := &caddy.Config{Logging: quiet, Admin: &caddy.AdminConfig{Disabled: true}, AppsRaw: caddy.ModuleMap{}}
	ctx, err := caddy.ProvisionContext(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := caddy.NewContext(ctx)
	t.Cleanup(cancel)
	// from here on, so that the app is this context's, and ends with it
	withStore := map[string]any{"store": map[string]any{"store": "memory"}}
	maps.Copy(withStore, app)
	config.AppsRaw["device_auth"] = mustJSON(t, withStore)
	mod, err := ctx.LoadModuleByID("http.handlers.device_auth", mustJSON(t, cfg))
	if err != nil {
		return nil, err
	}
	return mod.(*Handler), nil
}

// quiet drops Caddy's log.
var quiet = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}}}}

func mustJSON(t testing.TB, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// request is one request of a client.
type request struct {
	method, target string
	header         map[string]string
	body           string
	remote         string
}

// do sends a request through the gate.
func (g *gate) do(req request) *http.Response {
	g.t.Helper()
	if req.method == "" {
		req.method = http.MethodGet
	}
	if strings.HasPrefix(req.target, "/") {
		req.target = "https://api.example.com" + req.target
	}
	var body io.Reader
	if req.body != "" {
		body = strings.NewReader(req.body)
	}
	ctx := g.ctx
	if ctx == nil {
		ctx = g.t.Context()
	}
	r := httptest.NewRequestWithContext(ctx, req.method, req.target, body)
	for k, v := range req.header {
		r.Header.Set(k, v)
	}
	if req.remote != "" {
		r.RemoteAddr = req.remote
	}
	return g.send(r)
}

// send passes a request through the gate as Caddy's server would.
func (g *gate) send(r *http.Request) *http.Response {
	g.t.Helper()
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	maps.Copy(w.Header(), g.answerHeader)
	g.upstream = nil
	var next caddyhttp.Handler = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		g.upstream = r
		_, err := io.WriteString(w, "upstream")
		return err
	})
	if upstream := next; g.behind != nil {
		next = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return g.behind.ServeHTTP(w, r, upstream) })
	}
	err := g.ServeHTTP(w, r, next)
	if err != nil {
		g.t.Fatalf("the handler returned an error, which would reach handle_errors: %v", err)
	}
	g.body = w.Body.String()
	return w.Result()
}

// Headers of typical clients.
var (
	curlHeaders    = map[string]string{"User-Agent": "curl/8", "Accept": "*/*"}
	browserHeaders = map[string]string{
		"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Site": "none",
		"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document",
	}
	fetchHeaders = map[string]string{
		"Accept": "*/*", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty",
	}
	jsonHeaders = map[string]string{"Accept": "application/json"}
)

// with adds header fields to a client's.
func with(base map[string]string, pairs ...string) map[string]string {
	all := maps.Clone(base)
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	return all
}

func bearer(key string) map[string]string {
	return with(curlHeaders, "Authorization", "Bearer "+key)
}

func (g *gate) cookieOf(base map[string]string, key string) map[string]string {
	return with(base, "Cookie", g.cookie.name+"="+key)
}

// setCookie returns the session cookie of an answer, "" for none.
func (g *gate) setCookie(resp *http.Response) string {
	for _, c := range resp.Cookies() {
		if c.Name == g.cookie.name {
			return c.Value
		}
	}
	return ""
}

// begun starts a sign-in with a client's headers and returns its key.
func (g *gate) begun(header map[string]string) string {
	g.t.Helper()
	resp := g.do(request{target: "/hello", header: header})
	key := g.setCookie(resp)
	if resp.StatusCode != http.StatusUnauthorized || key == "" {
		g.t.Fatalf("starting a sign-in: %d, cookie %q, %s", resp.StatusCode, key, g.body)
	}
	return key
}

// session returns the session of a key as the table has it.
func (g *gate) session(key string) *session.Session {
	g.t.Helper()
	k, ok := session.ParseKey(key)
	if !ok {
		g.t.Fatalf("%q is no key", key)
	}
	s, err := g.engine.table.Lookup(context.Background(), k, "api.example.com")
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

// approve signs a session's client in.
func (g *gate) approve(key string, claims map[string]any) {
	g.t.Helper()
	g.approveWith(key, claims, func(*session.Identity) {})
}

// approveWith is approve with a change to who that is.
func (g *gate) approveWith(key string, claims map[string]any, change func(*session.Identity)) {
	g.t.Helper()
	all := map[string]any{"sub": "sub-alice", "preferred_username": "alice", "groups": []any{"staff", "admins"}}
	maps.Copy(all, claims)
	id := session.Identity{
		Issuer: g.resolved.Issuer, Subject: "sub-alice", Claims: all, Since: time.Now(),
		AccessToken: "access-canary", RefreshToken: "refresh-canary", IDToken: "id-canary",
		Asked: time.Now(), TokensSince: time.Now(), TokensUntil: time.Now().Add(time.Hour),
	}
	change(&id)
	if err := g.session(key).Activate(g.t.Context(), id); err != nil {
		g.t.Fatal(err)
	}
}

// end ends a session.
func (g *gate) end(key string, state session.State, reason session.Reason) {
	g.t.Helper()
	if err := g.session(key).End(g.t.Context(), state, reason); err != nil {
		g.t.Fatal(err)
	}
}

// terminal and kiosk are signed-in clients of each kind.
func (g *gate) terminal() string {
	key := g.begun(curlHeaders)
	g.approve(key, nil)
	return key
}

// kiosk returns the key after the claim.
func (g *gate) kiosk() string {
	g.t.Helper()
	old := g.begun(browserHeaders)
	g.approve(old, nil)
	resp := g.do(request{target: "/hello", header: g.cookieOf(browserHeaders, old)})
	key := g.setCookie(resp)
	if resp.StatusCode != http.StatusSeeOther || key == "" {
		g.t.Fatalf("the claim: %d, cookie %q, %s", resp.StatusCode, key, g.body)
	}
	return key
}

// starts is how many device authorization requests the identity provider got.
func (g *gate) starts() int { return len(g.idp.Calls("/device")) }

// terminalAt is terminal for a gate that protects only some paths.
func (g *gate) terminalAt(target string) string {
	g.t.Helper()
	resp := g.do(request{target: target, header: curlHeaders})
	key := g.setCookie(resp)
	if key == "" {
		g.t.Fatalf("%s: %d", target, resp.StatusCode)
	}
	g.approve(key, nil)
	return key
}

func newRequest(t *testing.T, target string, header map[string]string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example.com"+target, nil)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	return r
}

// doIn is do with a context of its own.
func (g *gate) doIn(ctx context.Context, req request) *http.Response {
	g.t.Helper()
	g.ctx = ctx
	defer func() { g.ctx = nil }()
	return g.do(req)
}
