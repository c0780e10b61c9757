// This file holds the identity providers of the documents that this project
// answers: Keycloak and authentik here, TokenIDP and WSO2 Identity Server beside.

package caddydevice

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

const (
	publicLines       = "issuer ISSUER\n\t\tclient_id CLIENT_ID"
	confidentialLines = publicLines + "\n\t\tclient_secret CLIENT_SECRET"
)

// more adds lines to a block.
func more(lines string, others ...string) string {
	return strings.Join(append([]string{lines}, others...), "\n\t\t")
}

func documented() []*dialect {
	return []*dialect{keycloakDialect(), authentikDialect(), tokenIDPDialect(), wso2Dialect()}
}

func keycloakDialect() *dialect {
	return &dialect{
		name: "Keycloak", idp: idptest.Keycloak, lines: confidentialLines,
		code: "OIWD-BMJH", uri: "https://keycloak.example.com/realms/demo/device",
		complete: "https://keycloak.example.com/realms/demo/device?user_code=OIWD-BMJH", expires: 600, interval: 5,
		user: "alice", groups: "/staff,/staff/admins", subject: "f3c9-alice", life: 5 * time.Minute,
		declined: "denied", forgotten: "failed", tells: true, stranger: "refused",
		stories: []story{
			{name: "public client", idp: idptest.KeycloakPublic, lines: publicLines, tell: (*dialect).signIn},
			{name: "public client with another id", idp: idptest.KeycloakPublic, lines: publicLines, tell: (*dialect).comeAsStranger},
			{name: "PKCE demanded", idp: idptest.KeycloakPKCE, lines: publicLines, tell: (*dialect).signIn},
			{name: "PKCE demanded, and switched off here", idp: idptest.KeycloakPKCE, lines: more(publicLines, "pkce off"), tell: refuseStart("code_challenge_method")},
			{name: "PKCE unknown", idp: idptest.KeycloakWithoutPKCE, tell: sendsNo("code_challenge")},
			{name: "1a split host names", idp: idptest.KeycloakSplit, tell: (*dialect).signIn},
			{name: "grant off", idp: idptest.KeycloakGrantOff, tell: refuseStart("invalid_grant", "not allowed for OAuth 2.0 Device")},
			{name: "§0.2 invalid_grant once the code has run out", tell: (*dialect).endLate},
			{name: "§0.9 the access token is for others", lines: more(confidentialLines, "upstream_token access_token"), tell: (*dialect).handOn},
			{name: "§0.13 a slash too many", lines: strings.Replace(confidentialLines, "ISSUER", "ISSUER/", 1), tell: refuseStart("to the last slash")},
			{name: "§0.15 no nonce", tell: sendsNo("nonce")},
			{name: "§0.15 a nonce that comes back", lines: more(confidentialLines, "param nonce n-0S6_WzA2Mj"), tell: (*dialect).signIn},
			{name: "§0.17 authenticated at the device endpoint, and a network that breaks", tell: (*dialect).outlast},
			{name: "an interval of a minute", idp: slowKeycloak, tell: (*dialect).wait},
			{name: "a new signing key", tell: (*dialect).seeNewKey},
		},
	}
}

// slowKeycloak asks for a minute between two polls, and means it.
func slowKeycloak() *idptest.Replay {
	r := idptest.Keycloak()
	r.Codes.Answer = strings.Replace(r.Codes.Answer, `"interval":5`, `"interval":60`, 1)
	r.Polls.Pace.Every = time.Minute
	return r
}

// sendsNo is a sign-in whose device authorization request has no such parameter.
func sendsNo(name string) func(*dialect, *replayed) {
	return func(d *dialect, g *replayed) {
		g.t.Helper()
		d.signIn(g)
		for _, e := range g.idp.Exchanges(idptest.DeviceCode) {
			if e.Form.Has(name) {
				g.t.Errorf("%s is sent", name)
			}
		}
	}
}

// handOn is a sign-in whose access token goes to the upstream, whoever it is for.
func (d *dialect) handOn(g *replayed) {
	g.t.Helper()
	d.signIn(g)
	g.key = ""
	g.begin()
	g.watch(12 * time.Second)
	g.approve()
	g.wantIn(d.user, d.groups)
	token, _ := strings.CutPrefix(g.upstream.Header.Get("Authorization"), "Bearer ")
	if strings.Count(token, ".") != 2 {
		g.t.Errorf("the upstream got %q", token)
	}
}

// outlast is a sign-in over a network that breaks between the polls.
func (d *dialect) outlast(g *replayed) {
	g.t.Helper()
	g.begin()
	if e := g.idp.Exchanges(idptest.DeviceCode)[0]; !e.Basic && !e.Form.Has("client_secret") {
		g.t.Error("the device authorization request is not authenticated")
	}
	broken := idptest.Reply{Err: http.ErrHandlerTimeout}
	g.idp.Script(idptest.Poll, broken, idptest.Reply{Status: http.StatusBadGateway, Body: "<html>"}, broken)
	g.watch(90 * time.Second)
	g.wantState("pending")
	g.approve()
	g.wantIn(d.user, d.groups)
}

// wait is a sign-in whose polls are far apart.
func (d *dialect) wait(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(200 * time.Second)
	if n := g.polls(""); n != 3 {
		g.t.Errorf("%d polls in 200 s", n)
	}
	if n := g.polls("slow_down"); n != 0 {
		g.t.Errorf("%d times slow_down", n)
	}
	g.idp.Approve()
	g.watch(time.Minute)
	g.wantIn(d.user, d.groups)
}

// seeNewKey is a session whose refreshed tokens have another signature.
func (d *dialect) seeNewKey(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.approve()
	g.wantIn(d.user, d.groups)
	g.idp.Rotate()
	d.stay(g)
	if n := len(g.idp.Exchanges(idptest.Keys)); n < 2 {
		g.t.Errorf("the keys were fetched %d times", n)
	}
}

func authentikDialect() *dialect {
	return &dialect{
		name: "authentik", idp: idptest.Authentik, lines: confidentialLines,
		code: "012345678", uri: "https://auth.example.com/device",
		complete: "https://auth.example.com/device?code=012345678", expires: 60, interval: 5,
		user: "alice", groups: "staff,authentik Admins", subject: "7f0c-hashed-alice", life: 5 * time.Minute,
		declined: "expired", forgotten: "failed", stranger: "failed",
		stories: []story{
			{name: "§0.2 invalid_grant once the code has run out", tell: (*dialect).endLate},
			{name: "§0.4 the device endpoint is throttled", tell: (*dialect).overdo},
			{name: "§0.4 the device endpoint is throttled, without words", idp: wordlessAuthentik, tell: (*dialect).overdo},
			{name: "§0.5 device_code with punctuation", tell: (*dialect).quote},
			{name: "§0.12 no signing key", idp: idptest.AuthentikUnsigned, tell: refuseTokens("signing key")},
			{name: "tokens encrypted", idp: idptest.AuthentikEncrypted, tell: refuseTokens("encrypt")},
			{
				name: "1a §0.13 global issuer", idp: idptest.AuthentikGlobal,
				lines: more(confidentialLines, "discovery https://auth.example.com/application/o/gate/.well-known/openid-configuration"), tell: (*dialect).signIn,
			},
			{name: "§0.13 a slash too few", lines: strings.Replace(confidentialLines, "ISSUER", "https://auth.example.com/application/o/gate", 1), tell: refuseStart("to the last slash")},
			{name: "§0.14 a refresh names no scope", tell: (*dialect).refreshWithoutScope},
			{name: "§0.14 a refresh brings no new refresh token", idp: idptest.AuthentikThreshold, tell: (*dialect).signIn},
			{name: "claims only in userinfo", idp: idptest.AuthentikBare, lines: more(confidentialLines, "identity userinfo"), tell: (*dialect).signIn},
			{name: "userinfo of somebody else", idp: swappedAuthentik, lines: more(confidentialLines, "identity userinfo"), tell: refuseTokens("error sign-in failed", "sub")},
			{name: "a secret with punctuation, in the body", idp: idptest.AuthentikPunctuated, lines: more(confidentialLines, "client_auth post"), tell: (*dialect).signIn},
			{name: "a secret with punctuation", idp: idptest.AuthentikPunctuated, tell: (*dialect).signIn},
		},
	}
}

// wordlessAuthentik is an older one: its 429 has no body.
func wordlessAuthentik() *idptest.Replay {
	r := idptest.Authentik()
	r.Codes.TooMany = idptest.Reply{Status: http.StatusTooManyRequests}
	return r
}

// swappedAuthentik tells of another user than the one whose token is shown.
func swappedAuthentik() *idptest.Replay {
	r := idptest.AuthentikBare()
	r.Claims = strings.Replace(r.Claims, "7f0c-hashed-alice", "7f0c-hashed-mallory", 1)
	return r
}

// overdo is more sign-ins in an hour than there may be from one address, which is
// the gateway's: no more are tried for a while, and the others go on as before.
func (d *dialect) overdo(g *replayed) {
	g.t.Helper()
	begin := func(n int) said { return g.askFrom("198.51.100."+string(rune('0'+n%10))+":1234", "GET", "/hello") }
	for n := range 19 {
		if ans := begin(n); ans.code != http.StatusUnauthorized {
			g.t.Fatalf("start %d: %d %s", n+1, ans.code, ans.body)
		}
		time.Sleep(time.Second)
	}
	g.begin()
	key := g.key
	g.key = ""
	for n := range 3 {
		if ans := begin(n); ans.code != http.StatusServiceUnavailable {
			g.t.Errorf("one too many: %d %s", ans.code, ans.body)
		}
	}
	if n := len(g.idp.Exchanges(idptest.DeviceCode)); n != 21 {
		g.t.Errorf("%d device authorization requests, want 21: none after the one that was refused", n)
	}
	g.key = key
	g.watch(12 * time.Second)
	if gap := g.lastGapOf(g.idp.Codes.Code + "20"); gap > 8*time.Second {
		g.t.Errorf("the polls were %s apart: the 429 was not theirs", gap)
	}
	g.approve()
	g.wantIn(d.user, d.groups)
}

// quote is a device code that arrives as it was given out.
func (d *dialect) quote(g *replayed) {
	g.t.Helper()
	d.signIn(g)
	for _, e := range g.idp.Exchanges(idptest.Poll) {
		if got := e.Form.Get("device_code"); got != g.idp.Codes.Code {
			g.t.Fatalf("%q was given out, %q came back", g.idp.Codes.Code, got)
		}
	}
}

// refreshWithoutScope is a session whose refreshes ask for what there was.
func (d *dialect) refreshWithoutScope(g *replayed) {
	g.t.Helper()
	d.signIn(g)
	for _, e := range g.idp.Exchanges(idptest.Refresh) {
		if e.Form.Has("scope") {
			g.t.Errorf("a refresh asks for %q", e.Form.Get("scope"))
		}
	}
}
