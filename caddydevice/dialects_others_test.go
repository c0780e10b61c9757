// This file holds the identity providers that people run themselves, beside
// those of the documents.

package caddydevice

import (
	"strings"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func others() []*dialect {
	return []*dialect{
		dexDialect(), hydraDialect(), zitadelDialect(), oidcProviderDialect(), logtoDialect(), autheliaDialect(),
		gitLabDialect(), springDialect(), duendeDialect(), casdoorDialect(), pingFederateDialect(), pingOneDialect(),
	}
}

// headers are lines for claims of other names.
func headers(lines, user, groups string) string {
	return more(lines, "upstream_headers {", "\tRemote-User "+user, "\tRemote-Groups "+groups, "}")
}

// device is a line for a device endpoint that discovery does not tell of.
func device(lines string, provider func() *idptest.Replay) string {
	return more(lines, "endpoints {", "\tdevice_authorization "+provider().Where.Device, "}")
}

// listed is the story of a discovery document that does tell of it.
func listed(provider func() *idptest.Replay, lines string) story {
	return story{
		name: "1a the device endpoint is listed", lines: lines, tell: (*dialect).signIn,
		idp: func() *idptest.Replay { return provider().Listed() },
	}
}

// unlisted is the story of somebody who has not written that line yet.
func unlisted(lines string) story {
	return story{name: "1a the device endpoint is not listed", lines: lines, tell: refuseStart("endpoints device_authorization")}
}

func dexDialect() *dialect {
	lines := more(confidentialLines, "client_auth post", "scopes openid profile groups offline_access")
	return &dialect{
		name: "Dex", idp: idptest.Dex, lines: lines,
		code: "BZHM-QXLT", uri: "https://dex.example.com/dex/device", complete: "https://dex.example.com/dex/device?user_code=BZHM-QXLT", expires: 300, interval: 5,
		user: "alice", groups: "staff,admins", subject: "CgVhbGljZRIFbG9jYWw", life: 24 * time.Hour,
		declined: "expired", forgotten: "failed", tells: true, stranger: "expired",
		stories: []story{
			{name: "§0.2 invalid_request once the code has run out", tell: (*dialect).endLate},
			{name: "§0.7 a secret beside the body is none", lines: strings.Replace(lines, "client_auth post", "client_auth basic", 1), tell: (*dialect).waitInVain},
			{name: "§0.7 the secret is in the body, without a line for it", lines: strings.Replace(lines, "client_auth post\n\t\t", "", 1), tell: (*dialect).signIn},
			{name: "PKCE", tell: sends("code_verifier")},
			{name: "without PKCE", lines: more(lines, "pkce off"), tell: (*dialect).signIn},
			{name: "a new signing key", tell: (*dialect).seeNewKey},
		},
	}
}

// waitInVain is a sign-in whose person is told in the browser that it cannot be.
func (d *dialect) waitInVain(g *replayed) {
	g.t.Helper()
	ans := g.begin()
	g.watch(12 * time.Second)
	if n := g.idp.Approve(); n != 0 {
		g.t.Errorf("%d codes could be approved", n)
	}
	g.watch(time.Minute)
	g.wantState("pending")
	g.watch(time.Duration(ans.ExpiresIn) * time.Second)
	g.wantState("expired")
}

// sends is a sign-in whose polls all have a parameter.
func sends(name string) func(*dialect, *replayed) {
	return func(d *dialect, g *replayed) {
		g.t.Helper()
		d.signIn(g)
		for i, e := range g.idp.Exchanges(idptest.Poll) {
			if e.Form.Get(name) == "" {
				g.t.Errorf("poll %d has no %s", i+1, name)
			}
		}
	}
}

func hydraDialect() *dialect {
	lines := headers(confidentialLines, "sub", "groups")
	return &dialect{
		name: "Ory Hydra", idp: idptest.Hydra, lines: lines,
		code: "xK7TwP3d", uri: "https://hydra.example.com/oauth2/device/verify",
		complete: "https://hydra.example.com/oauth2/device/verify?user_code=xK7TwP3d", expires: 600, interval: 5,
		user: "alice@example.com", groups: "staff", subject: "alice@example.com", life: time.Hour,
		declined: "denied", forgotten: "failed", stranger: "refused",
		stories: []story{
			{name: "§0.8 client_id in the body beside Basic", tell: (*dialect).nameItself},
			{name: "§0.10 the access token says nothing", tell: (*dialect).signIn},
			{name: "§0.13 a slash too few", lines: strings.Replace(lines, "ISSUER", "https://hydra.example.com", 1), tell: refuseStart("to the last slash")},
		},
	}
}

// nameItself is a client that says who it is in both places.
func (d *dialect) nameItself(g *replayed) {
	g.t.Helper()
	d.signIn(g)
	for _, e := range g.idp.Exchanges("") {
		if e.Method == "POST" && (!e.Basic || e.Form.Get("client_id") != g.idp.ClientID) {
			g.t.Errorf("%s: Basic %t, client_id %q", e, e.Basic, e.Form.Get("client_id"))
		}
	}
}

func zitadelDialect() *dialect {
	d := &dialect{
		name: "ZITADEL", idp: idptest.Zitadel, lines: publicLines,
		code: "GQWP-LTVX", uri: "https://zitadel.example.com/device", complete: "https://zitadel.example.com/device?user_code=GQWP-LTVX", expires: 300, interval: 5,
		user: "alice@example.com", groups: "", subject: "163840776835432705", life: 12 * time.Hour,
		declined: "denied", forgotten: "denied", tells: true, stranger: "refused",
		stories: []story{
			{name: "roles are the names of an object", lines: more(publicLines, `require urn:zitadel:iam:org:project:roles.admin *`), tell: (*dialect).signIn},
			{name: "another role", lines: more(publicLines, `require urn:zitadel:iam:org:project:roles.owner *`), tell: (*dialect).mayNot},
		},
	}
	d.stories = append(d.stories, sendNoSecret(d))
	return d
}

// mayNot is somebody who signs in, and has no business here.
func (d *dialect) mayNot(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.approve()
	if ans := g.ask("GET", "/hello"); ans.code != 403 || ans.Status != "forbidden" {
		g.t.Errorf("%d %s\n%s", ans.code, ans.body, g.log())
	}
}

func oidcProviderDialect() *dialect {
	return &dialect{
		name: "node oidc-provider", idp: idptest.OIDCProvider, lines: confidentialLines,
		code: "HDWR-KXMN", uri: "https://op.example.com/device", complete: "https://op.example.com/device?user_code=HDWR-KXMN", expires: 600, interval: 5,
		user: "alice", groups: "staff", subject: "alice", life: time.Hour,
		declined: "denied", forgotten: "failed", tells: true, stranger: "refused",
		stories: []story{
			{name: "§0.16 a code is never presented again", tell: (*dialect).presentOnce},
			{name: "§0.16 §0.2 the answer with the tokens is lost", tell: (*dialect).loseTokens},
		},
	}
}

// presentOnce is a sign-in after which the grant still lives.
func (d *dialect) presentOnce(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.approve()
	g.wantIn(d.user, d.groups)
	g.watch(5 * time.Minute)
	good := 0
	for _, e := range g.idp.Exchanges(idptest.Poll) {
		if e.Status == 200 {
			good++
		}
	}
	if good != 1 || g.idp.Dead() {
		g.t.Errorf("%d polls brought tokens, taken back: %t", good, g.idp.Dead())
	}
}

// loseTokens is a sign-in that ends in words, since a code is spent whether or
// not its tokens arrive.
func (d *dialect) loseTokens(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.idp.Approve()
	g.idp.Script(idptest.Poll, idptest.Reply{Delay: time.Minute}) // past idp_timeout
	g.watch(2 * time.Minute)
	g.wantState("failed")
	if ans := g.ask("GET", "/hello"); g.upstream != nil {
		g.t.Errorf("a request passed: %s", ans.body)
	}
}

func logtoDialect() *dialect {
	return &dialect{
		name: "Logto", idp: idptest.Logto, lines: headers(publicLines, "username", "roles"),
		code: "HDWR-KXMN", uri: "https://logto.example.com/device", complete: "https://logto.example.com/device?user_code=HDWR-KXMN", expires: 600, interval: 5,
		user: "alice", groups: "staff", subject: "u7x2alice", life: time.Hour,
		declined: "denied", forgotten: "failed", tells: true, stranger: "refused",
		stories: []story{
			{name: "§0.16 a code is never presented again", tell: (*dialect).presentOnce},
			{name: "a new signing key, on P-384", tell: (*dialect).seeNewKey},
		},
	}
}

func autheliaDialect() *dialect {
	lines := more(confidentialLines, "scopes openid profile groups offline_access")
	return &dialect{
		name: "Authelia", idp: idptest.Authelia, lines: lines,
		code: "KLQZBMWX", uri: "https://auth.example.org/consent/openid/device-authorization",
		complete: "https://auth.example.org/consent/openid/device-authorization?user_code=KLQZBMWX", expires: 600, interval: 10,
		user: "alice", groups: "staff,admins", subject: "5f0b-alice", life: time.Hour,
		declined: "denied", forgotten: "failed", stranger: "refused",
		stories: []story{
			{name: "§0.3 a slow token endpoint", tell: (*dialect).waitForSlow},
			{name: "§0.9 the access token is for nobody", lines: more(lines, "upstream_token access_token"), tell: (*dialect).handOn},
			{name: "§0.16 a code is never presented again", tell: (*dialect).presentOnce},
			{name: "claims only in userinfo", idp: idptest.AutheliaBare, lines: more(lines, "identity userinfo"), tell: (*dialect).signIn},
		},
	}
}

func gitLabDialect() *dialect {
	lines := more(device(confidentialLines, idptest.GitLab), "identity userinfo")
	return &dialect{
		name: "GitLab", idp: idptest.GitLab, lines: lines,
		code: "0O1I8B5S", uri: "https://gitlab.example.com/oauth/device", complete: "https://gitlab.example.com/oauth/device?user_code=0O1I8B5S", expires: 300, interval: 5,
		user: "alice", groups: "staff,staff/web", subject: "2", life: 2 * time.Hour,
		declined: "denied", forgotten: "failed", tells: true, stranger: "failed",
		stories: []story{
			unlisted(confidentialLines),
			listed(idptest.GitLab, more(confidentialLines, "identity userinfo")),
			{name: "§0.10 §0.11 no ID token, and nothing said of it", lines: device(confidentialLines, idptest.GitLab), tell: refuseTokens("ID token")},
			{name: "with an ID token", idp: idptest.GitLabSigned, lines: device(headers(confidentialLines, "preferred_username", "groups_direct"), idptest.GitLab), tell: (*dialect).comeInByID},
			{name: "§0.2 invalid_grant once the code has run out", tell: (*dialect).endLate},
		},
	}
}

// comeInByID is a sign-in by an ID token, with the groups that it has.
func (d *dialect) comeInByID(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.approve()
	g.wantIn("alice", "staff")
	if n := len(g.idp.Exchanges(idptest.UserInfo)); n != 0 {
		g.t.Errorf("userinfo was asked %d times", n)
	}
}

func springDialect() *dialect {
	lines := headers(more(confidentialLines, "scopes profile", "identity access_token"), "sub", "roles")
	return &dialect{
		name: "Spring Authorization Server", idp: idptest.Spring, lines: lines,
		code: "BZJW-PTSH", uri: "https://spring.example.com/activate", complete: "https://spring.example.com/activate?user_code=BZJW-PTSH", expires: 300, interval: 5,
		user: "alice", groups: "staff,admin", subject: "alice", life: 5 * time.Minute,
		declined: "expired", forgotten: "failed", stranger: "refused",
		stories: []story{
			{name: "§0.11 no ID token, and openid refused", lines: confidentialLines, tell: refuseStart("invalid_scope")},
			{name: "§0.11 before 1.5.3: openid is taken, and there is no ID token", idp: oldSpring, lines: confidentialLines, tell: refuseTokens("ID token")},
			{name: "the access token is for another audience", idp: foreignSpring, tell: refuseTokens("error sign-in failed", "aud")},
			{name: "another client has presented the code", idp: idptest.SpringOther, tell: (*dialect).loseToOther},
		},
	}
}

// oldSpring is Spring before it refused openid.
func oldSpring() *idptest.Replay {
	r := idptest.Spring()
	r.Refusals = nil
	return r
}

// foreignSpring is Spring whose access tokens are for an API.
func foreignSpring() *idptest.Replay {
	r := idptest.Spring()
	r.Tokens.AccessClaims = strings.Replace(r.Tokens.AccessClaims, `"aud":"$client_id"`, `"aud":"https://other.example.com"`, 1)
	return r
}

// loseToOther is a sign-in whose code another client has made worthless.
func (d *dialect) loseToOther(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.idp.Forget()
	g.watch(12 * time.Second)
	g.wantState("denied")
}

func duendeDialect() *dialect {
	lines := headers(device(confidentialLines, idptest.Duende), "preferred_username", "role")
	return &dialect{
		name: "Duende IdentityServer", idp: idptest.Duende, lines: lines,
		code: "412345678", uri: "https://duende.example.com/device", complete: "https://duende.example.com/device?userCode=412345678", expires: 300, interval: 5,
		user: "alice", groups: "staff,admin", subject: "818727", life: time.Hour,
		slow:     1, // its own interval is longer than the one that it tells of
		declined: "denied", forgotten: "failed", tells: true, stranger: "refused",
		stories: []story{
			unlisted(confidentialLines),
			listed(idptest.Duende, headers(confidentialLines, "preferred_username", "role")),
		},
	}
}

func casdoorDialect() *dialect {
	const documentLine = "discovery https://casdoor.example.com/.well-known/app-gate/openid-configuration"
	lines := headers(more(confidentialLines, documentLine), "name", "groups")
	return &dialect{
		name: "Casdoor", idp: idptest.Casdoor, lines: lines,
		code: "k3x9qd", uri: "https://casdoor.example.com/login/oauth/device/k3x9qd?cancelToken=c4e1", complete: "", expires: 600, interval: 5,
		user: "alice", groups: "built-in/staff", subject: "b1c2-alice", life: 7 * 24 * time.Hour,
		declined: "denied", forgotten: "expired", tells: true,
		stranger: "active", // no secret is looked at
		stories: []story{
			{name: "1a §0.13 the document of one application", tell: (*dialect).signIn},
			{name: "1c §0.8 bad client, with 200", lines: strings.Replace(lines, "client_id CLIENT_ID", "client_id another", 1), tell: refuseStart("invalid_client")},
			{name: "§0.8 device login off, with 200", idp: idptest.CasdoorOff, tell: (*dialect).keepWordsBack},
		},
	}
}

// keepWordsBack is a refusal whose words are for the log only.
func (d *dialect) keepWordsBack(g *replayed) {
	g.t.Helper()
	ans := g.ask("GET", "/hello")
	if ans.code != 502 || strings.Contains(ans.body, "应用") || strings.Contains(ans.body, "unauthorized_client") {
		g.t.Errorf("%d %s", ans.code, ans.body)
	}
	g.wantLog("unauthorized_client", "应用不支持设备登录")
}

func pingFederateDialect() *dialect {
	return &dialect{
		name: "PingFederate", idp: idptest.PingFederate, lines: device(publicLines, idptest.PingFederate),
		code: "YYD6-CD4T", uri: "https://ping.example.com/as/user_authz.oauth2", complete: "", expires: 600, interval: 5,
		user: "alice", groups: "staff", subject: "alice",
		declined: "denied", forgotten: "failed", tells: true, stranger: "refused",
		stories: []story{
			unlisted(publicLines),
			listed(idptest.PingFederate, publicLines),
			{name: "no refresh token: the session ends with its token", tell: (*dialect).endWithToken},
		},
	}
}

// endWithToken is a session that nothing can prolong.
func (d *dialect) endWithToken(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.approve()
	g.wantIn(d.user, d.groups)
	g.wantLog("no refresh token")
	time.Sleep(g.idp.Tokens.Life)
	g.wantState("ended")
}

func pingOneDialect() *dialect {
	d := pingFederateDialect()
	d.name, d.idp, d.lines = "PingOne", idptest.PingOne, device(publicLines, idptest.PingOne)
	d.uri = "https://auth.pingone.eu/activate"
	d.stories = []story{unlisted(publicLines), listed(idptest.PingOne, publicLines)}
	return d
}
