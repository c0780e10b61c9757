// This file runs the contract: each row of what a request is answered
// (contract_rows_test.go, contract_paths_test.go, contract_starts_test.go), with
// the requests of five clients, over each version of HTTP.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/tokenissuer"
	"github.com/caddydevice/device-auth/e2e/internal/websocket"
)

const trustedOrigin = "https://app.example.com"

// contractSites are the site of most rows, one that has no start left, and one
// whose identity provider is nowhere.
func contractSites() string {
	shared := []string{
		manyStarts, "bearer on {\naudience api\nissuer {$TOKENS}\n}", "protected_resource", "trusted_origins " + trustedOrigin,
	}
	site := func(address string, directives ...string) string {
		return address + " {\nlog\ntls internal\n" + strings.Join(directives, "") + "reverse_proxy {$UPSTREAM}\n}\n"
	}
	return site("localhost:{$GATE_PORT}",
		deviceAuth("", shared...), deviceAuth("/admin/*", append(shared, "require groups nobody")...)) +
		site("localhost:{$GATE_PORT_2}", deviceAuth("", "limits {\nstarts 1 24h\n}")) +
		site("other.localhost:{$GATE_PORT_2}", "device_auth {\nissuer http://127.0.0.1:1\nclient_id none\n}\n")
}

// contract is the stage with what the rows need.
type contract struct {
	*stage
	clients map[string]http.RoundTripper // by version of HTTP
	tokens  *tokenissuer.Issuer
	store   *stage // whose store cannot be opened

	token string // a client's own

	// keys of sessions, by what became of them
	terminal, browser, over, pending, pendingBrowser, declined string
	approved                                                   []string // of browsers that have not claimed them; used up one by one
}

// caller is a kind of client: the request that it makes by itself.
type caller struct {
	name   string
	method string
	header http.Header
	body   string
}

// callers are in the order in which the rows say what each is answered. The
// headers are those of the real ones.
var callers = []caller{
	{name: "curl", method: http.MethodGet, header: http.Header{"User-Agent": {"curl/8.14.1"}, "Accept": {"*/*"}}},
	{name: "browser", method: http.MethodGet, header: navigation},
	{name: "program", method: http.MethodGet, header: http.Header{"User-Agent": {"node"}, "Accept": {"application/json"}, "Accept-Language": {"*"}, "Sec-Fetch-Mode": {"cors"}}},
	{name: "WebSocket", method: http.MethodGet, header: http.Header{
		"User-Agent": {chromium}, "Pragma": {"no-cache"}, "Cache-Control": {"no-cache"}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {websocket.Key}, "Origin": {ownOrigin},
	}},
	{name: "gRPC", method: http.MethodPost, header: http.Header{"User-Agent": {"grpc-go/1.81.0"}, "Content-Type": {"application/grpc"}, "Te": {"trailers"}}, body: "\x00\x00\x00\x00\x00"},
}

const (
	chromium = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
	// ownOrigin stands for that of the site, whose port is found late.
	ownOrigin = "https://own.origin"
)

// navigation is what Chromium sends for an address that the person typed.
var navigation = http.Header{
	"User-Agent": {chromium}, "Accept": {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"},
	"Accept-Language": {"en-US,en;q=0.9"}, "Upgrade-Insecure-Requests": {"1"}, "Sec-Ch-Ua": {`"Chromium";v="142", "Not_A Brand";v="99"`}, "Sec-Ch-Ua-Mobile": {"?0"},
	"Sec-Fetch-Site": {"none"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-User": {"?1"}, "Sec-Fetch-Dest": {"document"},
}

// expected is what an answer has to be.
type expected struct {
	status    int
	passes    string // who the upstream is told it is; "-" for nobody; "" for nothing reaches it
	starts    int    // device authorizations
	cookie    bool   // the answer sets our cookie
	clears    bool   // the answer takes it away
	challenge string // the error of WWW-Authenticate
	retry     bool   // Retry-After is there
	body      string // is part of it
}

var (
	started      = expected{status: 401, starts: 1, cookie: true, retry: true}
	refused      = expected{status: 401}
	refusedToken = expected{status: 401, challenge: "invalid_token"}
	shown        = expected{status: 401, retry: true}
	asAlice      = expected{status: 200, passes: "alice"}
	asCarol      = expected{status: 200, passes: "carol"}
	forbidden    = expected{status: 403}
	forbiddenKey = expected{status: 403, challenge: "insufficient_scope"}
	limited      = expected{status: 429, retry: true}
	unavailable  = expected{status: 503, retry: true}
)

// each is what all clients are answered.
func each(want expected) []expected { return slices.Repeat([]expected{want}, len(callers)) }

// asked is one request of a row.
type asked struct {
	path   string // /row unless set
	method string // the client's unless set
	site   string // the first one's host and port unless set
	store  bool   // of the gateway whose store cannot be opened
	header http.Header
	body   string
	noBody bool // the client's is left out
	// approve is the key of a sign-in that somebody approves right before.
	approve string
}

func TestContract(t *testing.T) {
	t.Parallel()
	c := newContract(t)
	for _, version := range slices.Sorted(maps.Keys(c.clients)) {
		t.Run(version, func(t *testing.T) {
			t.Run("protected", func(t *testing.T) { c.protected(t, version) })
			t.Run("paths", func(t *testing.T) { c.paths(t, version) })
			t.Run("starts", func(t *testing.T) { c.starts(t, version) })
		})
	}
}

func newContract(t *testing.T) *contract {
	t.Helper()
	tokens := tokenissuer.Start(t)
	env := map[string]string{"TOKENS": tokens.URL, "GODEBUG": "http2xconnect=1"} // else Go offers no WebSocket over HTTP/2 (RFC 8441)
	c := &contract{tokens: tokens, stage: newStage(t, plan{caddyfile: contractSites(), env: env})}
	c.url = "https://localhost:" + c.gate.Port()
	c.token = tokens.Token(t, "api", nil)
	home := t.TempDir()
	locked(t, filepath.Join(home, "data", "caddy", "device_auth", "sessions.db"))
	c.store = newStage(t, plan{
		caddyfile: "localhost:{$GATE_PORT} {\ntls internal\n" + deviceAuth("", "bearer on {\naudience api\nissuer {$TOKENS}\n}") + "reverse_proxy {$UPSTREAM}\n}\n",
		env:       env, home: home, crowded: true, // with nothing: it never starts a sign-in
	})
	_, c.clients = c.overTLS(t, c.store)
	c.signAllIn(t)
	return c
}

// signAllIn makes the sessions that the rows use. All are approved before any
// of them is waited for.
func (c *contract) signAllIn(t *testing.T) {
	t.Helper()
	keys := make([]string, 3+len(c.clients)*len(callers))
	for i := range keys {
		keys[i] = c.begin(t, callers[min(i/2, 1)]) // two of curl's, all others of browsers
	}
	c.terminal, c.over, c.approved = keys[0], keys[1], keys[2:]
	c.pending, c.pendingBrowser, c.declined = c.begin(t, callers[0]), c.begin(t, callers[1]), c.begin(t, callers[0])
	err := idpserver.NewPerson(t).Deny(c.ctx, idpserver.Device{Complete: c.code(t, c.userCode(t, c.declined)).complete}, idpserver.Alice, idpserver.AlicePassword)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		c.approveKey(t, key)
	}
	for _, key := range keys {
		c.awaitEnd(t, key, http.StatusOK)
	}
	c.awaitEnd(t, c.declined, http.StatusForbidden)
	c.send(t, "HTTP/1.1", callers[0], asked{method: http.MethodPost, path: "/.device/logout", header: inJar(c.over)})
	c.send(t, "HTTP/1.1", callers[0], asked{site: "localhost:" + c.gate.Port2()}) // the only start that there is
	got := c.send(t, "HTTP/1.1", callers[1], asked{header: inJar(c.claimable(t))})
	if got.StatusCode != http.StatusSeeOther || got.key == "" {
		t.Fatalf("the claim: %d", got.StatusCode)
	}
	c.browser = got.key
}

// claimable uses up a browser key that was approved, and that nobody has
// claimed.
func (c *contract) claimable(t *testing.T) string {
	t.Helper()
	if len(c.approved) == 0 {
		t.Fatal("all keys are used up: make more")
	}
	key := c.approved[0]
	c.approved = c.approved[1:]
	return key
}

// begin starts a sign-in and returns its key.
func (c *contract) begin(t *testing.T, client caller) string {
	t.Helper()
	got := c.send(t, "HTTP/1.1", client, asked{})
	if got.key == "" {
		t.Fatalf("no sign-in is started: %d %s", got.StatusCode, got.body)
	}
	c.canaries.AddText(t, got.key)
	return got.key
}

// approveKey is what the person does who reads the code of a key's sign-in.
func (c *contract) approveKey(t *testing.T, key string) {
	t.Helper()
	c.approve(t, c.code(t, c.userCode(t, key)).complete)
}

func (c *contract) userCode(t *testing.T, key string) string {
	t.Helper()
	got := c.send(t, "HTTP/1.1", callers[0], asked{path: "/.device/session", header: inJar(key)})
	return codeLine.FindString(got.body)
}

func (c *contract) awaitEnd(t *testing.T, key string, status int) {
	t.Helper()
	for {
		got := c.send(t, "HTTP/1.1", callers[0], asked{path: "/.device/wait?timeout=60", header: inJar(key)})
		if got.StatusCode != http.StatusAccepted {
			if got.StatusCode != status {
				t.Fatalf("status %d, want %d: %s", got.StatusCode, status, got.body)
			}
			return
		}
	}
}

// received is an answer as far as it was read.
type received struct {
	*http.Response
	body string
	key  string // in the cookie that it sets
}

// send sends a client's request. A stream is read until it has no more to say
// for now.
func (c *contract) send(t *testing.T, version string, client caller, a asked) received {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	resp, err := c.clients[version].RoundTrip(c.request(ctx, t, version, client, a))
	if err != nil {
		t.Fatalf("%s: %v", client.name, err)
	}
	defer resp.Body.Close()
	got := received{Response: resp, body: beginning(t, resp)}
	if set := setCookies(resp.Header)[tlsCookie]; set != nil {
		got.key = set.Value
	}
	c.canaries.AddText(t, got.body, got.key)
	return got
}

// beginning is the body, of a stream only what comes at once.
func beginning(t *testing.T, resp *http.Response) string {
	t.Helper()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Length") != "" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		all, err := io.ReadAll(resp.Body)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		return string(all)
	}
	buf := make([]byte, 16<<10)
	n, err := resp.Body.Read(buf)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func (c *contract) request(ctx context.Context, t *testing.T, version string, client caller, a asked) *http.Request {
	t.Helper()
	on := c.stage
	if a.store {
		on = c.store
	}
	method, path, site, body := client.method, "/row", "localhost:"+on.gate.Port(), client.body
	for _, o := range []struct {
		into  *string
		value string
	}{{&method, a.method}, {&path, a.path}, {&site, a.site}, {&body, a.body}} {
		if o.value != "" {
			*o.into = o.value
		}
	}
	var sent io.Reader
	if body != "" && !a.noBody {
		sent = bytes.NewReader([]byte(body))
	}
	_, port, _ := strings.Cut(site, ":")
	req, err := http.NewRequestWithContext(ctx, method, "https://127.0.0.1:"+port+path, sent)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = site
	req.Header = client.header.Clone()
	maps.Copy(req.Header, a.header)
	if req.Header.Get("Origin") == ownOrigin {
		req.Header.Set("Origin", "https://"+site)
	}
	if req.Header.Get("Upgrade") != "" && req.Method == http.MethodGet {
		asUpgrade(req, version)
	}
	return req
}

// asUpgrade turns the request for a WebSocket into what the version has for it
// (RFC 6455 §4.1, RFC 8441 §4, RFC 9220 §3).
func asUpgrade(req *http.Request, version string) {
	if version == "HTTP/1.1" {
		return
	}
	for _, field := range []string{"Connection", "Upgrade", "Sec-Websocket-Key"} {
		req.Header.Del(field)
	}
	req.Method = http.MethodConnect
	if version == "HTTP/2.0" {
		req.Header.Set(":protocol", "websocket")
	} else {
		req.Proto = "websocket"
	}
}

// check sends a client's request and compares the answer, and what else came
// of it.
func (c *contract) check(t *testing.T, version string, client caller, a asked, want expected) {
	t.Helper()
	if client.name == "WebSocket" && a.method != "" && a.method != http.MethodGet {
		return // there is no such request
	}
	on := c.stage
	if a.store {
		on = c.store
	}
	starts, requests := len(c.rec.Starts())+len(c.store.rec.Starts()), len(on.up.Requests())
	if a.approve != "" { // which the gateway learns at its next poll
		c.approveKey(t, a.approve)
	}
	got := c.send(t, version, client, a)
	if got.StatusCode != want.status || !strings.Contains(got.body, want.body) {
		t.Errorf("%s: %d, want %d with %q: %.300s", client.name, got.StatusCode, want.status, want.body, got.body)
	}
	if n := len(c.rec.Starts()) + len(c.store.rec.Starts()) - starts; n != want.starts {
		t.Errorf("%s: %d sign-ins started, want %d", client.name, n, want.starts)
	}
	set := setCookies(got.Header)[tlsCookie]
	if (got.key != "") != want.cookie || (set != nil && set.MaxAge < 0) != want.clears || len(got.Header["Set-Cookie"]) > 1 {
		t.Errorf("%s: it sets the cookie %v", client.name, set != nil)
	}
	seen := on.up.Requests()[requests:]
	switch {
	case want.passes == "" && len(seen) > 0:
		t.Errorf("%s: it reached the upstream", client.name)
	case want.passes == "":
		wantOwn(t, client, got, want)
	case len(seen) != 1:
		t.Errorf("%s: it reached the upstream %d times", client.name, len(seen))
	case strings.TrimPrefix(want.passes, "-") != seen[0].Header.Get("Remote-User"):
		t.Errorf("%s: the upstream was told it is %q", client.name, seen[0].Header.Get("Remote-User"))
	}
}

// wantOwn holds for every answer of the gateway itself.
func wantOwn(t *testing.T, client caller, got received, want expected) {
	t.Helper()
	wantOurs(t, got.Header)
	challenge := got.Header.Get("WWW-Authenticate")
	switch {
	case want.status == http.StatusUnauthorized && !strings.HasPrefix(challenge, `Bearer realm="device_auth"`):
		t.Errorf("%s: WWW-Authenticate %q", client.name, challenge)
	case want.challenge != "" && !strings.Contains(challenge, `error="`+want.challenge+`"`):
		t.Errorf("%s: WWW-Authenticate %q, want %s", client.name, challenge, want.challenge)
	case want.challenge == "" && strings.Contains(challenge, "error="):
		t.Errorf("%s: WWW-Authenticate %q, want no error", client.name, challenge)
	}
	seconds, err := strconv.Atoi(got.Header.Get("Retry-After"))
	if want.retry != (err == nil && seconds > 0) {
		t.Errorf("%s: Retry-After %q", client.name, got.Header.Get("Retry-After"))
	}
	if client.name == "gRPC" && want.status == http.StatusUnauthorized && got.Header.Get("Grpc-Status") != "16" {
		t.Errorf("%s: grpc-status %q", client.name, got.Header.Get("Grpc-Status"))
	}
	if client.name == "browser" && strings.HasPrefix(got.Header.Get("Content-Type"), "text/html") && !strings.Contains(got.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("%s: it can be framed", client.name)
	}
}

// asBearer and inJar are how a key or token is carried.
func asBearer(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }
func inJar(key string) http.Header    { return http.Header{"Cookie": {tlsCookie + "=" + key}} }

// and adds header fields.
func and(h http.Header, pairs ...string) http.Header {
	all := h.Clone()
	if all == nil {
		all = http.Header{}
	}
	for i := 0; i < len(pairs); i += 2 {
		all.Set(pairs[i], pairs[i+1])
	}
	return all
}
