// This file tests the gate's rules for those who are signed in.

package caddydevice

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// observed has the gate's log observed.
func (g *gate) observed() *observer.ObservedLogs {
	core, logs := observer.New(zapcore.DebugLevel)
	g.logger = zap.New(core)
	return logs
}

func rules(pairs ...string) []any {
	var all []any
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, map[string]any{"claim": pairs[i], "values": []string{pairs[i+1]}})
	}
	return all
}

// TestRequire: what is lacking is 403 in three forms, and for the log.
func TestRequire(t *testing.T) {
	insufficient := `Bearer realm="device_auth", error="insufficient_scope"`
	for _, row := range []struct {
		name      string
		rules     []any
		key       func(*gate) string
		header    func(g *gate, key string) map[string]string
		passes    bool
		body      string
		challenge string
	}{
		{name: "holds", rules: rules("groups", "admins"), key: (*gate).terminal, passes: true},
		{name: "all hold", rules: rules("groups", "adm*", "preferred_username", "alice"), key: (*gate).terminal, passes: true},
		{name: "one does not", rules: rules("groups", "admins", "preferred_username", "bob"), key: (*gate).terminal, body: "You are signed in, but you may not see this.", challenge: insufficient},
		{name: "any", rules: []any{map[string]any{"claim": "any"}}, key: (*gate).terminal, passes: true},
		{
			name: "JSON", rules: rules("groups", "secret-group"), key: (*gate).terminal, challenge: insufficient,
			header: func(_ *gate, key string) map[string]string { return with(jsonHeaders, "Authorization", "Bearer "+key) },
			body:   `"status":"forbidden","error":"insufficient_permission"`,
		},
		{
			name: "HTML for a key as bearer", rules: rules("groups", "secret-group"), key: (*gate).terminal, challenge: insufficient,
			header: func(_ *gate, key string) map[string]string {
				return with(browserHeaders, "Authorization", "Bearer "+key)
			},
			body: "You are signed in, but you may not see this.",
		},
		{
			name: "HTML", rules: rules("groups", "secret-group"), key: (*gate).kiosk,
			header: func(g *gate, key string) map[string]string { return g.cookieOf(browserHeaders, key) },
			body:   `<input type="hidden" name="to" value="/reports?a=b"><button id="new-code" class="first">Sign in as someone else</button>`,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGate(t, map[string]any{"require": row.rules})
			logs := g.observed()
			key := row.key(g)
			header := bearer(key)
			if row.header != nil {
				header = row.header(g, key)
			}
			starts := g.starts()
			resp := g.do(request{target: "/reports?a=b", header: header})
			if row.passes {
				if g.upstream == nil {
					t.Errorf("%d %s", resp.StatusCode, g.body)
				}
				return
			}
			if resp.StatusCode != http.StatusForbidden || g.upstream != nil || !strings.Contains(g.body, row.body) {
				t.Errorf("%d, upstream %t, %s", resp.StatusCode, g.upstream != nil, g.body)
			}
			if got := resp.Header.Get("WWW-Authenticate"); got != row.challenge {
				t.Errorf("WWW-Authenticate: %q", got)
			}
			if row.challenge != "" && strings.Contains(g.body, "<button>") {
				t.Error("a button cannot take a key out of a program's hands")
			}
			if strings.Contains(g.body, "secret-group") || g.starts() != starts || g.setCookie(resp) != "" {
				t.Errorf("starts %d, cookie %q: %s", g.starts()-starts, g.setCookie(resp), g.body)
			}
			said := logs.FilterMessage("signed in, but not allowed").All()
			if len(said) != 1 || said[0].ContextMap()["sub"] != "sub-alice" || said[0].ContextMap()["require"] == nil || said[0].ContextMap()["path"] != "/reports" {
				t.Errorf("the log: %v", said)
			}
		})
	}
}

// TestRequireOfEachGate: gates of one site add their rules up.
func TestRequireOfEachGate(t *testing.T) {
	g := newGate(t, nil)
	g.behind = provision(t, map[string]any{"issuer": g.Issuer, "client_id": g.ClientID, "require": rules("groups", "owners")}, nil)
	for name, row := range map[string]struct {
		groups []any
		status int
	}{"owner": {[]any{"owners"}, 200}, "other": {[]any{"staff"}, 403}} {
		t.Run(name, func(t *testing.T) {
			key := g.begun(curlHeaders)
			g.approve(key, map[string]any{"groups": row.groups})
			resp := g.do(request{target: "/", header: bearer(key)})
			if resp.StatusCode != row.status || (g.upstream != nil) != (row.status == 200) {
				t.Errorf("%d, upstream %t", resp.StatusCode, g.upstream != nil)
			}
		})
	}
}

// TestMethods: a session that may only read reads, however a request says what
// it does.
func TestMethods(t *testing.T) {
	g := newGate(t, map[string]any{"session": map[string]any{"methods": []string{"GET", "HEAD"}}})
	key := g.terminal()
	for _, row := range []struct {
		name   string
		method string
		header []string
		passes bool
	}{
		{"GET", "GET", nil, true},
		{"HEAD", "HEAD", nil, true},
		{"POST", "POST", nil, false},
		{"DELETE", "DELETE", nil, false},
		{"OPTIONS", "OPTIONS", nil, false},
		{"a method of one's own", "PURGE", nil, false},
		{"WebSocket", "GET", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, true},
		{"GET that says it is DELETE", "GET", []string{"X-HTTP-Method-Override", "DELETE", "X-Method-Override", "PUT", "X-Http-Method", "PATCH", "X_HTTP_Method_Override", "POST"}, true},
		{"POST that says it is GET", "POST", []string{"X-HTTP-Method-Override", "GET"}, false},
		{"POST that says it is a WebSocket", "POST", []string{"Upgrade", "websocket"}, false},
		{"DELETE that upgrades to a WebSocket", "DELETE", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			resp := g.do(request{method: row.method, target: "/", header: with(bearer(key), row.header...)})
			if (g.upstream != nil) != row.passes || (resp.StatusCode == http.StatusForbidden) == row.passes {
				t.Errorf("%d, upstream %t", resp.StatusCode, g.upstream != nil)
			}
			if g.upstream == nil {
				return
			}
			for field := range g.upstream.Header {
				if strings.Contains(strings.ToLower(field), "method") {
					t.Errorf("%s reached the upstream", field)
				}
			}
		})
	}
}

// TestMethodsOfWebSockets: over HTTP/2 they begin with CONNECT (RFC 8441 §4), and
// count as GET all the same.
func TestMethodsOfWebSockets(t *testing.T) {
	g := newGate(t, map[string]any{"session": map[string]any{"methods": []string{"GET", "HEAD"}}})
	key := g.terminal()
	for protocol, passes := range map[string]bool{"websocket": true, "other": false} {
		r := newRequest(t, "/x", bearer(key))
		r.Method, r.ProtoMajor = http.MethodConnect, 2
		r.Header[":protocol"] = []string{protocol}
		resp := g.send(r)
		if (g.upstream != nil) != passes {
			t.Errorf("%s: %d", protocol, resp.StatusCode)
		}
	}
}

// TestSecondGateAsksNobody: who a request is from is found out once.
func TestSecondGateAsksNobody(t *testing.T) {
	g := newGate(t, bearerOn(nil))
	g.behind = provision(t, bearerOn(map[string]any{"issuer": g.Issuer, "client_id": g.ClientID, "require": rules("groups", "robots")}), nil)
	if g.do(request{target: "/", header: bearer(accessToken(t, g.idp, nil))}); g.upstream == nil {
		t.Fatal(g.body)
	}
	if n := g.behind.bearer.verdicts.Len(); n != 0 {
		t.Errorf("the second gate has verified %d tokens", n)
	}
}

func TestExpects(t *testing.T) {
	if expects(nil) != nil {
		t.Error("nobody is expected, but somebody is refused")
	}
	accept := expects([]ClaimRule{{Claim: "groups", Values: []string{"screens"}}})
	if err := accept(&idp.Identity{Claims: map[string]any{"groups": []any{"screens"}}}); err != nil {
		t.Error(err)
	}
	if err := accept(&idp.Identity{Claims: map[string]any{"groups": []any{"staff"}}}); err == nil || !strings.Contains(err.Error(), "expect groups screens") {
		t.Errorf("error: %v", err)
	}
}

// TestWrongAccount: whoever approves is not who is meant. The screen says so,
// and nobody is signed in.
func TestWrongAccount(t *testing.T) {
	g := newGate(t, map[string]any{"expect": rules("preferred_username", "lobby")})
	g.idp.Device = func(n int) idptest.Reply {
		answer := idptest.Device(g.idp.Issuer, n)
		answer["interval"] = 1
		return idptest.JSON(http.StatusOK, answer)
	}
	const words = "approved with an account that it is not meant for"
	rows := []struct {
		name   string
		header map[string]string
		words  string
		key    string
	}{
		{name: "terminal", header: curlHeaders, words: words},
		{name: "program", header: jsonHeaders, words: `"status":"denied","error":"access_denied"`},
		{name: "browser", header: browserHeaders, words: words},
	}
	for i := range rows {
		rows[i].key = g.begun(rows[i].header)
	}
	g.idp.Approve("") // as alice
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := g.session(row.key)
			for s.Now().State == session.Pending {
				<-s.Now().Next()
			}
			if snap := s.Now(); snap.State != session.Denied || snap.Reason != session.WrongAccount || snap.Identity != nil {
				t.Fatalf("%s, %s, %v", snap.State, snap.Reason, snap.Identity)
			}
			resp := g.do(request{target: "/.device/wait", header: g.cookieOf(row.header, row.key)})
			if resp.StatusCode != http.StatusForbidden || !strings.Contains(g.body, row.words) {
				t.Errorf("%d %s", resp.StatusCode, g.body)
			}
			if g.do(request{target: "/", header: g.cookieOf(row.header, row.key)}); g.upstream != nil {
				t.Error("reached the upstream")
			}
		})
	}
}

// TestExpectHoldsForSessions: one that somebody else approved, at a gate of the
// same host that expects nobody in particular, passes no gate that does.
func TestExpectHoldsForSessions(t *testing.T) {
	g := newGate(t, bearerOn(nil))
	key := g.terminal() // as alice
	g.Handler = provision(t, map[string]any{
		"issuer": g.Issuer, "client_id": g.ClientID, "expect": rules("preferred_username", "lobby"), "bearer": map[string]any{"audience": []string{"api"}},
	}, nil)
	resp := g.do(request{target: "/", header: bearer(key)})
	if resp.StatusCode != http.StatusForbidden || g.upstream != nil {
		t.Errorf("%d, upstream %t", resp.StatusCode, g.upstream != nil)
	}
	if g.do(request{target: "/", header: bearer(accessToken(t, g.idp, nil))}); g.upstream == nil {
		t.Errorf("a client's own token, which nobody approves: %s", g.body)
	}
}

// TestPlaceholdersOfTwoProviders: behind two gates all is said of the last
// one's person.
func TestPlaceholdersOfTwoProviders(t *testing.T) {
	first := newGate(t, map[string]any{"session": map[string]any{"cookie": "first"}})
	second := newGate(t, map[string]any{"path_prefix": "/.second", "session": map[string]any{"cookie": "second"}})
	admin, bob := first.begun(curlHeaders), second.begun(curlHeaders)
	first.approve(admin, map[string]any{"role": "admin"})
	second.approve(bob, map[string]any{"preferred_username": "bob", "role": "user"})
	first.behind = second.Handler
	cookies := first.cookie.name + "=" + admin + "; " + second.cookie.name + "=" + bob
	if first.do(request{target: "/", header: with(curlHeaders, "Cookie", cookies)}); first.upstream == nil {
		t.Fatal(first.body)
	}
	repl := first.upstream.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if got := repl.ReplaceAll("{http.auth.user.claims.preferred_username} {http.auth.user.claims.role}", ""); got != "bob user" || first.upstream.Header.Get("Remote-User") != "bob" {
		t.Errorf("%q, Remote-User %q", got, first.upstream.Header.Get("Remote-User"))
	}
}

// TestExpressions: Caddy's own matcher sees the claims once the gate has let
// the request pass.
func TestExpressions(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	for expr, want := range map[string]bool{
		`"admins" in {http.auth.user.claims.groups}.split(",")`:      true,
		`"adm" in {http.auth.user.claims.groups}.split(",")`:         false,
		`{http.auth.user.claims.preferred_username} == "alice"`:      true,
		`{http.auth.user.claims.missing} == ""`:                      true,
		`{http.auth.user.id}.startsWith("sub-")`:                     true,
		`"viewer" in {http.auth.user.claims.realm.roles}.split(",")`: true,
		`int({http.auth.user.claims.level}) >= 3`:                    true,
		`{http.auth.user.claims.verified} == "true"`:                 true,
	} {
		t.Run(expr, func(t *testing.T) {
			g := newGate(t, nil)
			key := g.begun(curlHeaders)
			g.approve(key, map[string]any{"realm": map[string]any{"roles": []any{"viewer", "editor"}}, "level": claimsOf(t, `{"x":3}`)["x"], "verified": true})
			m := &caddyhttp.MatchExpression{Expr: expr}
			if err := m.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			if g.do(request{target: "/", header: bearer(key)}); g.upstream == nil {
				t.Fatal(g.body)
			}
			if got, err := m.MatchWithError(g.upstream); got != want || err != nil {
				t.Errorf("%t, %v", got, err)
			}
		})
	}
}

// TestUnattended: what asks by itself starts nothing, whatever it accepts.
func TestUnattended(t *testing.T) {
	g := newGate(t, nil)
	for _, agent := range []string{
		"kube-probe/1.33", "ELB-HealthChecker/2.0", "GoogleHC/1.0", "Consul Health Check", "Prometheus/3.1.0", "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
		"Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "Twitterbot/1.0", "facebookexternalhit/1.1 Facebot Twitterbot/1.0", "WhatsApp/2.23.20.0",
		"TelegramBot (like TwitterBot)", "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)", "LinkedInBot/1.0", "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
		"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Synapse (bot; +https://github.com/matrix-org/synapse)",
	} {
		for _, target := range []string{"/", "/.device/login"} {
			for _, base := range []map[string]string{curlHeaders, browserHeaders, {"Accept": "text/html"}} {
				resp := g.do(request{target: target, header: with(base, "User-Agent", agent)})
				if resp.StatusCode != http.StatusUnauthorized || g.starts() != 0 || g.setCookie(resp) != "" {
					t.Fatalf("%s, %s: %d, starts %d", agent, target, resp.StatusCode, g.starts())
				}
			}
		}
	}
	for _, agent := range []string{
		"curl/8.5.0", "Wget/1.21.3", "HTTPie/3.2.1", "python-requests/2.31.0", "Go-http-client/1.1", "node", "",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
	} {
		before := g.starts()
		if g.do(request{target: "/", header: with(curlHeaders, "User-Agent", agent)}); g.starts() != before+1 {
			t.Errorf("%q starts nothing: %s", agent, g.body)
		}
	}
}

// TestOpenness: what start-up says of gates that are open to more people than
// their operator may think.
func TestOpenness(t *testing.T) {
	everyone := "everyone who can sign in at the issuer gets in"
	anyone := "everyone who reaches this server can start a sign-in"
	public, loopback := named([]string{"api.example.com"}), named([]string{"api.example.com"})
	public.Listen, loopback.Listen = []string{":443"}, []string{"127.0.0.1:443"}
	start := []any{map[string]any{"remote_ip": map[string]any{"ranges": []string{"192.0.2.0/24"}}}}
	for _, row := range []struct {
		name   string
		server *caddyhttp.Server
		cfg    map[string]any
		want   []string
	}{
		{"defaults", public, nil, []string{everyone, anyone}},
		{"on loopback", loopback, nil, []string{everyone}},
		{"on loopback, behind what ends TLS", loopback, map[string]any{"public_url": "https://api.example.com"}, []string{everyone, anyone}},
		{"require", public, map[string]any{"require": rules("groups", "staff")}, []string{anyone}},
		{"require any", public, map[string]any{"require": []any{map[string]any{"claim": "any"}}}, []string{anyone}},
		{"expect", public, map[string]any{"expect": rules("groups", "staff")}, []string{anyone}},
		{"start", public, map[string]any{"start": start}, []string{everyone}},
		{"all of them", public, map[string]any{"start": start, "require": rules("groups", "staff")}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGate(t, row.cfg)
			var err error
			if g.hosts, err = newHostPolicy(row.server, g.PublicURL); err != nil {
				t.Fatal(err)
			}
			core, logs := observer.New(zapcore.DebugLevel)
			g.app.open = nil
			g.noteOpenness(" on api.example.com", row.server)
			g.app.open[0].log(zap.New(core))
			var said []string
			for _, entry := range logs.All() {
				message, _, _ := strings.Cut(entry.Message, ":")
				message, _, _ = strings.Cut(message, ", and")
				said = append(said, message)
				if entry.ContextMap()["gate"] != "on api.example.com" {
					t.Errorf("%v names no gate", entry)
				}
			}
			if !slices.Equal(said, row.want) {
				t.Errorf("%q, want %q", said, row.want)
			}
		})
	}
}
