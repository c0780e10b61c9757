// This file holds what the tests of the identity providers share: a gate made
// of a Caddyfile with a replayed identity provider behind it, and one client.

package caddydevice

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

// replayed is a gate within a bubble, from a Caddyfile on. Its client is a
// program in a terminal.
type replayed struct {
	*Handler
	t    *testing.T
	idp  *idptest.Replay
	logs *observer.ObservedLogs

	key      string        // of the client's session
	upstream *http.Request // the last request that passed
}

// newReplayed adapts the lines of a device_auth block and provisions what comes
// of them.
func newReplayed(t *testing.T, provider *idptest.Replay, lines string) *replayed {
	t.Helper()
	lines = strings.NewReplacer("ISSUER", provider.Issuer, "CLIENT_ID", provider.ClientID, "CLIENT_SECRET", provider.ClientSecret).Replace(lines)
	text, err := adapt("api.example.com {\n\tdevice_auth {\n\t\t" + lines + "\n\t}\n\trespond ok\n}\n")
	if err != nil {
		t.Fatalf("adapting: %v", err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	g := &replayed{Handler: provision(t, handlerIn(t, text), nil), t: t, idp: provider, logs: logs}
	g.logger = zap.New(core)
	g.engine.logger.Store(g.logger)
	g.use(provider)
	return g
}

// handlerIn finds the handler in an adapted configuration.
func handlerIn(t *testing.T, config string) map[string]any {
	t.Helper()
	var all any
	if err := json.Unmarshal([]byte(config), &all); err != nil {
		t.Fatal(err)
	}
	found := findHandler(all)
	if found == nil {
		t.Fatalf("no handler in %s", config)
	}
	delete(found, "handler")
	return found
}

func findHandler(in any) map[string]any {
	switch v := in.(type) {
	case map[string]any:
		if v["handler"] == "device_auth" {
			return v
		}
		for _, inner := range v {
			if found := findHandler(inner); found != nil {
				return found
			}
		}
	case []any:
		for _, inner := range v {
			if found := findHandler(inner); found != nil {
				return found
			}
		}
	}
	return nil
}

// use puts the replay where the network would be.
func (g *replayed) use(provider *idptest.Replay) {
	g.t.Helper()
	resolved := g.resolved
	resolved.Transport = provider
	client, err := idp.New(resolved)
	if err != nil {
		g.t.Fatal(err)
	}
	g.engine.keeper.Use(client)
}

// said is what the gate says in JSON.
type said struct {
	code int
	body string

	Status, Error, Reason, Session string
	UserCode                       string `json:"user_code"`
	URI                            string `json:"verification_uri"`
	Complete                       string `json:"verification_uri_complete"`
	ExpiresIn                      int    `json:"expires_in"`
	Interval                       int    `json:"interval"`
}

// ask makes a request of the client.
func (g *replayed) ask(method, target string) said {
	g.t.Helper()
	return g.askFrom("192.0.2.1:1234", method, target)
}

func (g *replayed) askFrom(remote, method, target string) said {
	g.t.Helper()
	r := httptest.NewRequestWithContext(g.t.Context(), method, "https://api.example.com"+target, nil)
	r.Header.Set("Accept", "application/json")
	r.RemoteAddr = remote
	if g.key != "" {
		r.Header.Set("Authorization", "Bearer "+g.key)
	}
	w := g.serve(r)
	ans := said{code: w.Code, body: w.Body.String()}
	_ = json.Unmarshal(w.Body.Bytes(), &ans) // an empty body says nothing
	return ans
}

// serve passes a request through the gate as Caddy's server would.
func (g *replayed) serve(r *http.Request) *httptest.ResponseRecorder {
	g.t.Helper()
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	address, _, _ := strings.Cut(r.RemoteAddr, ":")
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, address)
	g.upstream = nil
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		g.upstream = r
		_, err := io.WriteString(w, `{"status":"upstream"}`)
		return err
	})
	if err := g.ServeHTTP(w, r, next); err != nil {
		g.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return w
}

// begin starts a sign-in, which has to be pending then.
func (g *replayed) begin() said {
	g.t.Helper()
	ans := g.ask("GET", "/hello")
	if ans.code != http.StatusUnauthorized || ans.Status != "pending" || ans.Session == "" {
		g.t.Fatalf("starting a sign-in: %d %s\n%s", ans.code, ans.body, g.log())
	}
	g.key = ans.Session
	return ans
}

// watch lets time pass while the client asks again and again.
func (g *replayed) watch(d time.Duration) {
	g.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(10*time.Second, time.Until(end)))
		g.ask("GET", "/hello")
	}
}

// state is what became of the client's session.
func (g *replayed) state() string {
	g.t.Helper()
	return g.ask("GET", "/.device/wait?timeout=0").Status
}

// wantState fails where the session has come to something else.
func (g *replayed) wantState(want string) {
	g.t.Helper()
	if got := g.state(); got != want {
		g.t.Errorf("the session is %q, want %q\n%s", got, want, g.log())
	}
}

// wantIn fails unless the client gets through, as that user with these groups.
func (g *replayed) wantIn(user, groups string) {
	g.t.Helper()
	ans := g.ask("GET", "/hello")
	if ans.code != http.StatusOK || g.upstream == nil {
		g.t.Fatalf("signed in: %d %s\n%s", ans.code, ans.body, g.log())
	}
	if got := g.upstream.Header.Get("Remote-User"); got != user {
		g.t.Errorf("Remote-User is %q, want %q", got, user)
	}
	if got := g.upstream.Header.Get("Remote-Groups"); got != groups {
		g.t.Errorf("Remote-Groups is %q, want %q", got, groups)
	}
}

// wantSubject fails unless the last request that passed was that user's.
func (g *replayed) wantSubject(want string) {
	g.t.Helper()
	repl := g.upstream.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if got, _ := repl.GetString("http.auth.user.id"); got != want {
		g.t.Errorf("the user's id is %q, want %q", got, want)
	}
}

// wantLog fails unless the log says all of these words, in one entry.
func (g *replayed) wantLog(words ...string) {
	g.t.Helper()
	for _, line := range g.lines() {
		if containsAll(line, words) {
			return
		}
	}
	g.t.Errorf("no entry of the log says %q\n%s", words, g.log())
}

func containsAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(word)) {
			return false
		}
	}
	return true
}

// lines are the log's entries, with what they hold.
func (g *replayed) lines() []string {
	var lines []string
	for _, e := range g.logs.All() {
		lines = append(lines, fmt.Sprintf("%s %s %v", e.Level, e.Message, e.ContextMap()))
	}
	return lines
}

func (g *replayed) log() string { return "log:\n" + strings.Join(g.lines(), "\n") }

// polls are the polls so far that got an answer with that word; "" stands for
// all.
func (g *replayed) polls(word string) int {
	n := 0
	for _, e := range g.idp.Exchanges(idptest.Poll) {
		if word == "" || e.Word == word {
			n++
		}
	}
	return n
}

// lastGap is the time between the end of the last but one poll of the first code
// and the last.
func (g *replayed) lastGap() time.Duration { return g.lastGapOf(g.idp.Codes.Code) }

func (g *replayed) lastGapOf(code string) time.Duration {
	var polls []idptest.Exchange
	for _, e := range g.idp.Exchanges(idptest.Poll) {
		if e.Form.Get("device_code") == code {
			polls = append(polls, e)
		}
	}
	if len(polls) < 2 {
		g.t.Fatalf("%d polls", len(polls))
	}
	return polls[len(polls)-1].When.Sub(polls[len(polls)-2].End)
}
