// This file holds the identity providers that are somebody else's service, and
// those that nobody can sign in at by the device flow.

package caddydevice

import (
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func hosted() []*dialect {
	return []*dialect{entraDialect(), oktaDialect(), auth0Dialect(), googleDialect(), gitHubDialect()}
}

func entraDialect() *dialect {
	lines := device(publicLines, idptest.Entra)
	d := &dialect{
		name: "Microsoft Entra ID", idp: idptest.Entra, lines: lines,
		code: "EWPU7M86B", uri: "https://microsoft.com/devicelogin", complete: "", expires: 600, interval: 5,
		user: "alice@example.com", groups: "1c6a2a1e-1d57-4b0c-9c1f-6a1f2d5f3b7a", subject: "AAAAAGraph-alice", life: 4035 * time.Second,
		declined: "denied", forgotten: "failed", tells: true, stranger: "refused",
		stories: []story{
			unlisted(publicLines),
			listed(idptest.Entra, publicLines),
			{name: "1b §0.17 numbers as text, and verification_url", idp: idptest.EntraText, tell: (*dialect).signIn},
			{name: "too many groups", idp: idptest.EntraOverage, lines: more(lines, "require groups 1c6a2a1e-1d57-4b0c-9c1f-6a1f2d5f3b7a"), tell: (*dialect).mayNot},
			{name: "its message is not passed on", tell: (*dialect).keepMessage},
			entraOfMany("common"),
			entraOfMany("organizations"),
		},
	}
	d.stories = append(d.stories, sendNoSecret(d))
	return d
}

// keepMessage is a text of the identity provider's that no client gets.
func (d *dialect) keepMessage(g *replayed) {
	g.t.Helper()
	if ans := g.begin(); strings.Contains(ans.body, "anzumelden") {
		g.t.Errorf("the message is passed on: %s", ans.body)
	}
}

// entraOfMany is somebody who has not named a tenant: the document has a
// placeholder in its issuer, and says so itself.
func entraOfMany(tenants string) story {
	return story{
		name: "1a §0.13 " + tenants + ": name the tenant",
		idp:  func() *idptest.Replay { return idptest.EntraMany(tenants) },
		lines: device(strings.Replace(more(publicLines, "require tid 6babcaad-604b-40ac-a9d7-9fd97c0b779f"), "ISSUER", "https://login.microsoftonline.com/"+tenants+"/v2.0", 1),
			idptest.Entra),
		tell: (*dialect).nameTenant,
	}
}

// nameTenant is a refusal that says what to write, beside what is written.
func (d *dialect) nameTenant(g *replayed) {
	g.t.Helper()
	refuseStart("{tenantid}", "issuer")(d, g)
	for _, line := range g.lines() {
		if strings.Contains(strings.ReplaceAll(line, "{tenantid}", ""), "tenant") {
			return
		}
	}
	g.t.Errorf("nobody is told to name a tenant\n%s", g.log())
}

func oktaDialect() *dialect {
	d := &dialect{
		name: "Okta", idp: idptest.Okta, lines: device(publicLines, idptest.Okta),
		code: "GDLMZQCT", uri: "https://example.okta.com/activate", complete: "", expires: 600, interval: 5,
		user: "alice@example.com", groups: "Everyone,staff", subject: "00u1alice", life: time.Hour,
		declined: "denied", forgotten: "failed", tells: true, stranger: "refused",
		stories: []story{unlisted(publicLines), listed(idptest.Okta, publicLines)},
	}
	d.stories = append(d.stories, sendNoSecret(d))
	return d
}

func auth0Dialect() *dialect {
	require := "require email *@example.com"
	lines := headers(more(publicLines, require), "nickname", "https://example.com/roles")
	d := &dialect{
		name: "Auth0", idp: idptest.Auth0, lines: device(lines, idptest.Auth0),
		code: "QTZL-MCBW", uri: "https://example.eu.auth0.com/activate", complete: "https://example.eu.auth0.com/activate?user_code=QTZL-MCBW", expires: 600, interval: 5,
		user: "alice", groups: "staff,admin", subject: "auth0|alice", life: 24 * time.Hour,
		declined: "denied", forgotten: "failed", tells: true, stranger: "refused",
		stories: []story{
			unlisted(lines),
			listed(idptest.Auth0, lines),
			{name: "§0.2 invalid_grant once the code has run out", tell: (*dialect).endLate},
			{name: "§0.8 403 while pending, 429 when too fast", tell: (*dialect).slowDown},
			{name: "§0.10 an audience for the access token", lines: more(device(lines, idptest.Auth0), "param audience https://api.example.com"), tell: (*dialect).nameAudience},
			{name: "§0.13 a slash too few", lines: strings.Replace(device(lines, idptest.Auth0), "ISSUER", "https://example.eu.auth0.com", 1), tell: refuseStart("to the last slash")},
		},
	}
	d.stories = append(d.stories, sendNoSecret(d))
	return d
}

// nameAudience is a sign-in that says what its access token is for.
func (d *dialect) nameAudience(g *replayed) {
	g.t.Helper()
	d.signIn(g)
	if got := g.idp.Exchanges(idptest.DeviceCode)[0].Form.Get("audience"); got != "https://api.example.com" {
		g.t.Errorf("audience is %q", got)
	}
}

func googleDialect() *dialect {
	lines := headers(more(confidentialLines, "require email *@example.com"), "email", "hd")
	return &dialect{
		name: "Google", idp: idptest.Google, lines: device(lines, idptest.Google),
		code: "GQVQ-JKEC-WMwm", uri: "https://www.google.com/device", complete: "", expires: 600, interval: 5,
		user: "alice@example.com", groups: "example.com", subject: "110248495921238986420", life: time.Hour,
		declined: "denied", forgotten: "failed", tells: true, stranger: "failed",
		stories: []story{
			unlisted(lines),
			listed(idptest.Google, lines),
			{name: "§0.8 428 while pending, 403 when too fast", tell: (*dialect).slowDown},
			{name: "its quota", tell: (*dialect).meetQuota},
		},
	}
}

// meetQuota is a refusal under another name. [U] the body.
func (d *dialect) meetQuota(g *replayed) {
	g.t.Helper()
	g.idp.Script(idptest.DeviceCode, idptest.Raw(403, `{"error_code": "rate_limit_exceeded"}`))
	if ans := g.ask("GET", "/hello"); ans.code < 500 || strings.Contains(ans.body, "rate_limit") {
		g.t.Errorf("%d %s", ans.code, ans.body)
	}
	g.wantLog("device authorization", "403")
}

func gitHubDialect() *dialect {
	lines := more("issuer ISSUER", "dialect github", "client_id CLIENT_ID", "require login octocat", "upstream_headers {", "\tRemote-User login", "}")
	return &dialect{
		name: "GitHub", idp: idptest.GitHub, lines: lines,
		code: "WDJB-MJHT", uri: "https://github.com/login/device", complete: "", expires: 600, interval: 5,
		user: "octocat", groups: "", subject: "583231",
		declined: "denied", forgotten: "failed", tells: true, stranger: "refused",
		stories: []story{
			{name: "§0.8 errors with 200, and the next interval in them", tell: (*dialect).heedInterval},
			{name: "§0.10 §0.11 who it is says the API", tell: (*dialect).askAPI},
			{name: "no more than issuer, dialect, client_id and require", lines: more("issuer ISSUER", "dialect github", "client_id CLIENT_ID", "require login octocat"), tell: (*dialect).signIn},
			{name: "device flow off", idp: idptest.GitHubOff, tell: refuseStart("device_flow_disabled")},
			{name: "somebody else", lines: strings.Replace(lines, "octocat", "hubot", 1), tell: (*dialect).mayNot},
			{name: "an API that is away for a while", tell: (*dialect).outlastAPI},
		},
	}
}

// heedInterval is a slow_down that says how slow.
func (d *dialect) heedInterval(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(7 * time.Second)
	g.idp.Script(idptest.Poll, idptest.Raw(200, `{"error":"slow_down","error_description":"Too many requests.","interval":25}`))
	g.watchPolls(2)
	if gap := g.lastGap(); gap < 25*time.Second {
		g.t.Errorf("the poll after that came %s later, want 25 s at least", gap)
	}
	g.wantState("pending")
}

// askAPI is a sign-in, and how its requests look.
func (d *dialect) askAPI(g *replayed) {
	g.t.Helper()
	d.signIn(g)
	if scope := g.idp.Exchanges(idptest.DeviceCode)[0].Form.Get("scope"); strings.Contains(scope, "openid") {
		g.t.Errorf("the scope is %q", scope)
	}
	asked := g.idp.Exchanges(idptest.UserInfo)
	if len(asked) == 0 || !strings.HasPrefix(asked[0].Header.Get("Authorization"), "Bearer gho_") {
		g.t.Errorf("the API was asked: %v", asked)
	}
	if n := len(g.idp.Exchanges(idptest.Elsewhere)); n != 0 {
		g.t.Errorf("%d requests to addresses that there are not", n)
	}
}

// outlastAPI is a sign-in whose tokens are there before it can be told whose
// they are: they will not come again.
func (d *dialect) outlastAPI(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	away := idptest.Reply{Status: 502, Body: "<html>"}
	g.idp.Script(idptest.UserInfo, away, away)
	g.approve()
	g.watch(time.Minute)
	g.wantIn(d.user, d.groups)
}

// unable are the identity providers that have no device flow, and what their
// operators are told.
func unable() []*dialect {
	const notOffered = "device authorization grant (RFC 8628) is not offered"
	return []*dialect{
		{name: "Kanidm", idp: idptest.Kanidm, lines: confidentialLines, stories: []story{
			{name: "1a no device endpoint", tell: refuseStart(notOffered)},
			{name: "§0.1 a development build, pending for ever", idp: idptest.KanidmDevelopment, tell: (*dialect).expire},
		}},
		{name: "Amazon Cognito", idp: idptest.Cognito, lines: publicLines, stories: []story{
			{name: "1a no device endpoint", tell: refuseStart(notOffered)},
		}},
		{name: "AWS IAM Identity Center", idp: idptest.AWS, lines: confidentialLines, stories: []story{
			{name: "1a no discovery document", tell: refuseStart("discovery", "404")},
			{name: "1a a device endpoint in words of its own", tell: refuseStart("invalid_request"), lines: more(confidentialLines, "endpoints {",
				"\tdevice_authorization https://oidc.eu-west-1.amazonaws.com/device_authorization",
				"\ttoken https://oidc.eu-west-1.amazonaws.com/token", "\tjwks https://oidc.eu-west-1.amazonaws.com/jwks", "}")},
		}},
	}
}

// TestOpenDialects: where anybody can have an account, somebody has to be named.
func TestOpenDialects(t *testing.T) {
	for _, c := range []struct{ name, issuer string }{
		{"GitHub", "https://github.com"},
		{"Google", "https://accounts.google.com"},
		{"Auth0", "https://example.eu.auth0.com/"},
		{"Microsoft Entra ID, common", "https://login.microsoftonline.com/common/v2.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tryProvision(t, map[string]any{"issuer": c.issuer, "client_id": "gate"}, nil)
			if err == nil || !strings.Contains(err.Error(), "require") {
				t.Errorf("got %v", err)
			}
		})
	}
}
