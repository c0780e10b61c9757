// This file holds TokenIDP and WSO2 Identity Server.

package caddydevice

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func tokenIDPDialect() *dialect {
	lines := more(confidentialLines, "dialect tokenidp", "upstream_headers {", "\tRemote-User unique_name", "\tRemote-Groups role", "}")
	return &dialect{
		name: "TokenIDP", idp: idptest.TokenIDP, lines: lines,
		code: "K7QP-M2XD", uri: "https://tokenidp.example.com/device",
		complete: "https://tokenidp.example.com/device?user_code=K7QP-M2XD", expires: 600, interval: 5,
		user: "alice", groups: "Admin,Staff", subject: "usr:1234", life: time.Hour,
		declined: "expired", forgotten: "failed", stranger: "failed",
		stories: []story{
			{name: "§0.6 JSON at the device endpoint, a grant type of its own, 500 while pending", tell: (*dialect).speakTokenIDP},
			{name: "§0.6 plain answers", idp: idptest.TokenIDPPlain, tell: (*dialect).signIn},
			{name: "§0.6 camelCase answers", idp: idptest.TokenIDPCamel, tell: (*dialect).signIn},
			{name: "§0.9 the access token is for nobody", lines: more(lines, "upstream_token access_token"), tell: (*dialect).handOn},
			{name: "§0.12 a key id that matches nothing", tell: (*dialect).seeOtherKeyID},
			{name: "§0.14 the refresh token is a cookie", idp: idptest.TokenIDPCookie, tell: (*dialect).comeInOnce},
			{name: "the life of a token is its exp", tell: (*dialect).readExpiry},
			{name: "a refusal is no pending sign-in", tell: (*dialect).failOfRefusal},
			{name: "a scope that the client may not have", lines: strings.Replace(lines, "dialect tokenidp", "dialect tokenidp\n\t\tscopes openid admin", 1), tell: refuseStart("refused to start")},
			{name: "too many requests", tell: (*dialect).restAwhile},
			{name: "device_metadata", lines: more(lines, "param device_metadata lobby"), tell: (*dialect).sendMetadata},
			{name: "a secret with punctuation", idp: idptest.TokenIDPPunctuated, tell: (*dialect).signIn},
		},
	}
}

// speakTokenIDP is a sign-in, and how its requests look.
func (d *dialect) speakTokenIDP(g *replayed) {
	g.t.Helper()
	d.signIn(g)
	if e := g.idp.Exchanges(idptest.DeviceCode)[0]; e.Media != "application/json" || e.Form.Get("client_id") != "gate" {
		g.t.Errorf("the device authorization request: %s %v", e.Media, e.Form)
	}
	for i, e := range g.idp.Exchanges(idptest.Poll) {
		if e.Form.Get("grant_type") != "device_code" {
			g.t.Errorf("poll %d: %v", i+1, e.Form)
		}
	}
}

// failOfRefusal is a token request that is refused with another status than a
// pending one.
func (d *dialect) failOfRefusal(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(7 * time.Second)
	g.wantState("pending")
	g.idp.Script(idptest.Poll, idptest.Raw(http.StatusBadRequest, `{"isSuccess":false,"error":{"code":"","error":"multiple_audiences_not_supported"}}`))
	g.watch(12 * time.Second)
	g.wantState("failed")
}

// seeOtherKeyID is a sign-in that costs no more than two looks at the keys.
func (d *dialect) seeOtherKeyID(g *replayed) {
	g.t.Helper()
	if key := g.idp.Tokens.Key; key.TokenID == key.PublishedID {
		g.t.Fatal("the replay's key ids match")
	}
	g.begin()
	g.watch(12 * time.Second)
	g.approve()
	g.wantIn(d.user, d.groups)
	if n := len(g.idp.Exchanges(idptest.Keys)); n < 1 || n > 2 {
		g.t.Errorf("the keys were fetched %d times", n)
	}
}

// comeInOnce is a sign-in whose session need not outlive its token.
func (d *dialect) comeInOnce(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.approve()
	for range 5 {
		g.wantIn(d.user, d.groups)
		time.Sleep(10 * time.Minute)
	}
	d.signOut(g)
}

// readExpiry is a session that is refreshed by what its token says, not by an
// expires_in that counts minutes.
func (d *dialect) readExpiry(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.approve()
	for range 40 {
		g.wantIn(d.user, d.groups)
		time.Sleep(time.Minute)
	}
	if n := len(g.idp.Exchanges(idptest.Refresh)); n != 0 {
		g.t.Errorf("%d refreshes in the first 40 of 60 minutes", n)
	}
	for range 20 {
		time.Sleep(time.Minute)
		g.wantIn(d.user, d.groups)
	}
	if n := len(g.idp.Exchanges(idptest.Refresh)); n != 1 {
		g.t.Errorf("%d refreshes in an hour", n)
	}
}

// restAwhile is a token endpoint that wants to be left alone for half a minute.
func (d *dialect) restAwhile(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(7 * time.Second)
	tooMany := idptest.Raw(http.StatusTooManyRequests, `{"error":"rate_limit_exceeded","error_description":"Too many requests."}`)
	tooMany.Header.Set("Retry-After", "30")
	g.idp.Script(idptest.Poll, tooMany)
	g.watch(50 * time.Second)
	all := g.idp.Exchanges(idptest.Poll)
	at := slices.IndexFunc(all, func(e idptest.Exchange) bool { return e.Status == http.StatusTooManyRequests })
	if at < 0 || at+1 >= len(all) || all[at+1].When.Sub(all[at].End) < 30*time.Second {
		g.t.Errorf("the polls after a Retry-After of 30 s: %v", all)
	}
	g.approve()
	g.wantIn(d.user, d.groups)
}

// sendMetadata is a sign-in that says where it is from.
func (d *dialect) sendMetadata(g *replayed) {
	g.t.Helper()
	g.begin()
	if got := g.idp.Exchanges(idptest.DeviceCode)[0].Form.Get("device_metadata"); got != "lobby" {
		g.t.Errorf("device_metadata is %q", got)
	}
}

func wso2Dialect() *dialect {
	lines := more(confidentialLines, "scopes openid profile groups", "upstream_headers {", "\tRemote-User username", "\tRemote-Groups groups", "}")
	old := more(lines, "dialect wso2_old")
	return &dialect{
		name: "WSO2 Identity Server", idp: idptest.WSO2, lines: lines,
		code: "bWnQ7k", uri: "https://is.example.com:9443/authenticationendpoint/device.do",
		complete: "https://is.example.com:9443/authenticationendpoint/device.do?user_code=bWnQ7k", expires: 600, interval: 5,
		user: "alice", groups: "staff,admin", subject: "4b1c-alice", life: time.Hour,
		declined: "expired", forgotten: "failed", stranger: "refused",
		stories: []story{
			{name: "1a §0.13 the issuer is the token endpoint", tell: (*dialect).signIn},
			{name: "§0.3 the first poll is later than the interval", tell: (*dialect).waitAtFirst},
			{name: "§0.3 a slow token endpoint", tell: (*dialect).waitForSlow},
			{name: "§0.10 the access token says nothing", tell: (*dialect).signIn},
			{name: "a code that was entered is spent: the page offers another", tell: (*dialect).anotherCode},
			{name: "old: invalid_grant while pending", idp: idptest.WSO2Old, lines: old, tell: (*dialect).signIn},
			{name: "old: §0.1 §0.2 nobody comes", idp: idptest.WSO2Old, lines: old, tell: (*dialect).expire},
			{name: "old: without the dialect it fails at the first poll", idp: idptest.WSO2Old, tell: (*dialect).failAtOnce},
		},
	}
}

// waitAtFirst is a first poll that is not punished.
func (d *dialect) waitAtFirst(g *replayed) {
	g.t.Helper()
	g.begin()
	begun := time.Now()
	g.watch(7 * time.Second)
	all := g.idp.Exchanges(idptest.Poll)
	if len(all) != 1 || all[0].When.Sub(begun) <= 5*time.Second || all[0].Word != "authorization_pending" {
		g.t.Errorf("the polls of the first 7 s: %v", all)
	}
}

// waitForSlow is a token endpoint that takes four seconds for each answer.
func (d *dialect) waitForSlow(g *replayed) {
	g.t.Helper()
	four := idptest.Reply{Delay: 4 * time.Second}
	g.idp.Script(idptest.Poll, four, four, four, four, four)
	g.begin()
	g.watch(time.Minute)
	g.approve()
	g.wantIn(d.user, d.groups)
	d.wantPace(g)
}

// anotherCode is a person whose code is spent, who asks for a new one.
func (d *dialect) anotherCode(g *replayed) {
	g.t.Helper()
	first := g.page("GET", "/.device/login", "")
	if !strings.Contains(first.Body.String(), "bWnQ7k") || !strings.Contains(first.Body.String(), `id="new-code"`) {
		g.t.Fatalf("no code, or no way to another: %s", first.Body)
	}
	cookie, _, _ := strings.Cut(first.Header().Get("Set-Cookie"), ";")
	g.page("POST", "/.device/login", cookie)
	if n := len(g.idp.Exchanges(idptest.DeviceCode)); n != 2 {
		g.t.Errorf("%d device authorization requests", n)
	}
}

// page is what a browser gets.
func (g *replayed) page(method, target, cookie string) *httptest.ResponseRecorder {
	g.t.Helper()
	r := httptest.NewRequestWithContext(g.t.Context(), method, "https://api.example.com"+target, nil)
	for name, value := range browserHeaders {
		r.Header.Set(name, value)
	}
	if method == http.MethodPost {
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Content-Type", formType)
	}
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	return g.serve(r)
}

// failAtOnce is a sign-in that an answer ends for which there is a dialect.
func (d *dialect) failAtOnce(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.wantState("failed")
	g.wantLog("error sign-in failed", "invalid_grant")
}
