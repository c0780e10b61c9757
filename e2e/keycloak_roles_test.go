// This file shows who gets in by Keycloak's roles and groups, and who may
// approve: two users, and routes that are chosen by Caddy's own matchers.
package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/keycloak"
)

// keycloakProvider is the client of the example, for use by name.
const keycloakProvider = `{
	device_auth {
		provider keycloak {
			issuer {$ISSUER}
			client_id my-gateway
			client_secret {env.CLIENT_SECRET}
		}
	}
}
`

// rolesCaddyfile has a route for everyone, two that ask for more, and one that
// Caddy chooses by a claim. The paths tell nothing of what is asked.
const rolesCaddyfile = keycloakProvider + `
http://localhost:{$GATE_PORT} {
	log
	handle /drafts/* {
		device_auth keycloak {
			require realm_access.roles editor
		}
		reverse_proxy {$UPSTREAM}
	}
	handle /vault/* {
		device_auth keycloak {
			require groups nobody admins
		}
		reverse_proxy {$UPSTREAM}
	}
	handle {
		device_auth keycloak
		@warden expression ` + "`" + `"admins" in {http.auth.user.claims.groups}.split(",")` + "`" + `
		handle @warden {
			request_header Desk warden
			reverse_proxy {$UPSTREAM}
		}
		handle {
			request_header Desk visitor
			reverse_proxy {$UPSTREAM}
		}
	}
}

http://127.0.0.1:{$GATE_PORT_2} {
	device_auth {
		issuer {$ISSUER}
		client_id my-gateway-public
		require groups /admins
	}
	reverse_proxy {$UPSTREAM}
}
`

// wrongAccountCaddyfile has a site that is for Alice.
const wrongAccountCaddyfile = keycloakProvider + `
http://localhost:{$GATE_PORT} {
	log
	device_auth keycloak {
		expect preferred_username alice
	}
	reverse_proxy {$UPSTREAM}
}
`

// ruleWords are what the rules above are made of; no answer may have them.
var ruleWords = []string{"editor", "admins", "realm_access", "groups", "require", "preferred_username", "expect"}

// pollEachSecond is a realm of its own where Keycloak lets both clients do so.
func pollEachSecond(t *testing.T, realm *keycloak.Realm) *keycloak.Realm {
	t.Helper()
	quick := realm.Server.NewRealm(t.Context(), t)
	for _, client := range []string{keycloak.ConfidentialClient, keycloak.PublicClient} {
		quick.ChangeClient(t.Context(), t, client, func(c keycloak.Client) {
			c.Attributes()["oauth2.device.polling.interval"] = "1"
		})
	}
	return quick
}

// newStageOf is a stage with a Caddyfile of its own, and polls each second.
func newStageOf(t *testing.T, realm *keycloak.Realm, caddyfile string) *keycloakStage {
	t.Helper()
	s := newKeycloakStage(t, realm, keycloakPlan{change: func(string) string { return caddyfile }})
	s.interval = time.Second
	return s
}

func keycloakRoles(t *testing.T, realm *keycloak.Realm) {
	realm = pollEachSecond(t, realm)
	realm.ChangeClient(t.Context(), t, keycloak.PublicClient, func(c keycloak.Client) {
		c.Mapper(t, "groups")["full.path"] = "true"
	})
	s := newStageOf(t, realm, rolesCaddyfile)
	t.Run("ways in", func(t *testing.T) {
		for name, scenario := range map[string]func(*testing.T, *keycloakStage){
			"terminal":   rolesInTerminal,
			"kiosk":      rolesInKiosk,
			"group path": func(t *testing.T, s *keycloakStage) { groupPath(t, s.clients()["public"]) },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				scenario(t, s)
			})
		}
	})
	// one each for Alice and Bob at both sites, and two for the kiosk
	if n := len(s.rec.Starts()); n != 6 {
		t.Errorf("%d device authorizations for 6 sign-ins", n)
	}
}

// rolesInTerminal: one sign-in serves all gates of a site, and each asks for
// what it asks for.
func rolesInTerminal(t *testing.T, s *keycloakStage) {
	got := s.get(t, "/drafts/terminal?x=1")
	wantStatus(t, got, 401)
	shown := readText(t, got.Body)
	s.approveAs(t, keycloak.Alice, s.code(t, shown.code).complete)
	alice := keyIn(t, shown.command)
	readJSON(t, s.wait(t, alice), 200)
	if seen := echo(t, curl.Shell(s.ctx, t, shown.command).Out); seen.URI != "/drafts/terminal?x=1" {
		t.Errorf("the upstream saw %q", seen.URI)
	}
	bob := s.signInAs(t, keycloak.Bob)
	for _, row := range []struct {
		path, user, key, desk string // the desk is "" where none is on the way
		status                int
		lacks                 string
	}{
		{"/terminal", keycloak.Alice, alice, "warden", 200, ""},
		{"/drafts/x", keycloak.Alice, alice, "", 200, ""},
		{"/vault/x", keycloak.Alice, alice, "", 200, ""},
		{"/terminal", keycloak.Bob, bob, "visitor", 200, ""},
		{"/drafts/y", keycloak.Bob, bob, "", 403, "realm_access.roles editor"},
		{"/vault/y", keycloak.Bob, bob, "", 403, "groups nobody admins"},
	} {
		if row.status == 403 {
			s.wantForbidden(t, row.path, row.key, row.lacks)
			continue
		}
		got := s.get(t, row.path, "-H", bearer(row.key))
		wantStatus(t, got, 200)
		seen := echo(t, got.Body)
		wantHeader(t, seen, "Remote-User", row.user)
		if desk := seen.Header.Get("Desk"); desk != row.desk {
			t.Errorf("%s at %s came to the desk %q, want %q", row.user, row.path, desk, row.desk)
		}
	}
}

// wantForbidden fails unless the answer is 403 in all three forms, the log has
// what was lacking, and nobody else hears of it.
func (s *keycloakStage) wantForbidden(t *testing.T, path, key, lacks string) {
	t.Helper()
	for _, accept := range []string{"*/*", "application/json", "text/html"} {
		got := s.get(t, path, "-H", bearer(key), "-H", "Accept: "+accept)
		wantStatus(t, got, 403)
		wantOurs(t, got.Header)
		wantUntold(t, got.Body)
		if !strings.Contains(got.Body, "You are signed in, but you may not see this.") {
			t.Errorf("%s: the answer is\n%s", accept, got.Body)
		}
		// a button would be for a browser, which has a cookie
		if strings.Contains(got.Body, "<button") {
			t.Errorf("%s: a terminal is offered a button", accept)
		}
		challenge := got.Header.Get("WWW-Authenticate")
		wantUntold(t, challenge)
		if !strings.Contains(challenge, `error="insufficient_scope"`) { // RFC 6750 §3.1
			t.Errorf("%s: WWW-Authenticate: %s", accept, challenge)
		}
	}
	a := s.json(t, 403, path, "-H", bearer(key))
	if a.Status != "forbidden" || a.Error != "insufficient_permission" {
		t.Errorf("%+v", a)
	}
	if n := len(s.upstreamSaw(path)); n != 0 {
		t.Errorf("%d requests for %s reached the upstream", n, path)
	}
	s.await(t, "the log's word of what is lacking", func() bool {
		for _, record := range s.gate.Log() {
			if record["msg"] == "signed in, but not allowed" && record["path"] == path && record["require"] == lacks {
				return true
			}
		}
		return false
	})
}

// wantUntold fails where an answer says what a rule asks for.
func wantUntold(t *testing.T, text string) {
	t.Helper()
	for _, word := range ruleWords {
		if strings.Contains(text, word) {
			t.Errorf("the client is told of %q:\n%s", word, text)
		}
	}
}

// rolesInKiosk: somebody who may not see a page makes room for somebody who
// may.
func rolesInKiosk(t *testing.T, s *keycloakStage) {
	k := s.openKiosk(t, "/drafts/wall")
	s.approveAs(t, keycloak.Bob, s.code(t, k.code).complete)
	k.wantNewCode(t, "You are signed in, but you may not see this.", "Sign in as someone else")
	if n := len(s.upstreamSaw("/drafts/wall")); n != 0 {
		t.Errorf("%d requests of Bob's reached the upstream", n)
	}
	s.approveAs(t, keycloak.Alice, s.code(t, k.code).complete)
	k.wantUpstream(t, keycloak.Alice)
	s.wantQuiet(t, k.Browser)
}

// groupPath: Keycloak can also name a group with its path.
func groupPath(t *testing.T, s *keycloakStage) {
	got := s.get(t, "/group", "-H", bearer(s.signInAs(t, keycloak.Alice)))
	wantStatus(t, got, 200)
	if groups := echo(t, got.Body).Header.Get("Remote-Groups"); !strings.Contains(groups, "/admins") {
		t.Errorf("the upstream was told of the groups %q", groups)
	}
	s.wantForbidden(t, "/group/bob", s.signInAs(t, keycloak.Bob), "groups /admins")
}

// keycloakWrongAccount: where Alice is expected, nothing of Bob's approval is
// of use to anybody, and all who wait hear of it.
func keycloakWrongAccount(t *testing.T, realm *keycloak.Realm) {
	s := newStageOf(t, pollEachSecond(t, realm), wrongAccountCaddyfile)
	t.Run("ways in", func(t *testing.T) {
		for name, scenario := range map[string]func(*testing.T, *keycloakStage){
			"stream": wrongAccountInStream, "JSON": wrongAccountInJSON, "kiosk": wrongAccountInKiosk,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				scenario(t, s)
			})
		}
	})
	s.wantNothingOf(t, keycloak.Bob)
}

const wrongAccount = "approved with an account that it is not meant for"

func wrongAccountInStream(t *testing.T, s *keycloakStage) {
	stream, shown, _ := s.openLogin(t)
	s.approveAs(t, keycloak.Bob, s.code(t, shown.code).complete)
	lines, err := stream.Until(s.ctx, wrongAccount)
	if err != nil {
		t.Fatal(err)
	}
	wantUntold(t, lines[len(lines)-1])
	wantInvalidToken(t, s.get(t, "/stream", "-H", bearer(keyIn(t, shown.command)), "-H", asJSON), "wrong_account")

	stream, shown, _ = s.openLogin(t)
	s.approveAs(t, keycloak.Alice, s.code(t, shown.code).complete)
	if _, err := stream.Until(s.ctx, "Signed in as alice."); err != nil {
		t.Fatal(err)
	}
	wantHeader(t, echo(t, curl.Shell(s.ctx, t, shown.command).Out), "Remote-User", keycloak.Alice)
}

func wrongAccountInJSON(t *testing.T, s *keycloakStage) {
	a := s.startJSON(t, "/json")
	s.approveAs(t, keycloak.Bob, a.Complete)
	end := readJSON(t, s.wait(t, a.Session), 403)
	if end.Status != "denied" || end.Error != "access_denied" || end.Reason != "wrong_account" || !strings.Contains(end.Description, wrongAccount) {
		t.Errorf("wait says %+v", end)
	}
	if end.User != "" || end.Subject != "" {
		t.Errorf("wait says who it was: %+v", end)
	}
	wantUntold(t, end.Description)
	wantInvalidToken(t, s.get(t, "/json", "-H", bearer(a.Session), "-H", asJSON), "wrong_account")
	got := s.get(t, "/json", "-H", bearer(s.signInAs(t, keycloak.Alice)))
	wantStatus(t, got, 200)
	wantHeader(t, echo(t, got.Body), "Remote-User", keycloak.Alice)
}

func wrongAccountInKiosk(t *testing.T, s *keycloakStage) {
	k := s.openKiosk(t, "/wall")
	s.approveAs(t, keycloak.Bob, s.code(t, k.code).complete)
	k.wantNewCode(t, wrongAccount, "Sign in")
	s.approveAs(t, keycloak.Alice, s.code(t, k.code).complete)
	k.wantUpstream(t, keycloak.Alice)
}

// wantNothingOf fails where the upstream has heard of a user, or the database
// holds anything of theirs, or a secret of anybody; the last look is at the log.
func (s *keycloakStage) wantNothingOf(t *testing.T, user string) {
	t.Helper()
	for _, r := range s.up.Requests() {
		if strings.Contains(strings.Join(r.RawHeader, "\n"), user) {
			t.Errorf("the upstream saw %s at %s", user, r.URI)
		}
	}
	s.gate.Stop(t)
	raw, err := os.ReadFile(s.databaseOf())
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]int{}
	for _, token := range s.rec.Secrets()["ID token"] {
		claims := payload(t, token)
		name, subject := fmt.Sprint(claims["preferred_username"]), fmt.Sprint(claims["sub"])
		given[name]++
		if strings.Contains(string(raw), subject) != (name != user) { // who is signed in is in the clear
			t.Errorf("the database is wrong about the subject %s, who is %s", subject, name)
		}
	}
	if given[user] != 3 || len(given) != 2 {
		t.Errorf("Keycloak gave ID tokens of %v: the search would prove too little", given)
	}
	s.canaries.AddRecord(t, s.rec)
	for _, found := range s.canaries.Search(string(raw)) {
		t.Errorf("the database holds %s", found)
	}
}

// kiosk is a screen on a wall, with the code that it shows.
type kiosk struct {
	*chrome.Browser
	s    *keycloakStage
	url  string
	code string
}

func (s *keycloakStage) openKiosk(t *testing.T, path string) *kiosk {
	t.Helper()
	k := &kiosk{Browser: chrome.Start(t, chrome.Options{Width: 1920, Height: 1080}), s: s, url: s.url + path}
	k.must(t, k.Open(s.ctx, k.url))
	k.readCode(t)
	return k
}

func (k *kiosk) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("the kiosk: %v", err)
	}
}

func (k *kiosk) readCode(t *testing.T) {
	t.Helper()
	code, err := k.Text(k.s.ctx, ".code")
	k.must(t, err)
	k.code = code
}

// wantNewCode waits for the kiosk's word, and presses its button.
func (k *kiosk) wantNewCode(t *testing.T, why, button string) {
	t.Helper()
	var text string
	k.s.await(t, "the kiosk's word", func() bool {
		var err error
		text, err = k.Text(k.s.ctx, "main")
		return err == nil && strings.Contains(text, why)
	})
	wantUntold(t, text)
	label, err := k.Text(k.s.ctx, "form button")
	k.must(t, err)
	if label != button {
		t.Errorf("the button says %q, want %q", label, button)
	}
	old := k.code
	k.s.wantNewCodeByButton(t, k.Browser, old, why)
	k.readCode(t)
}

// wantUpstream waits until the kiosk shows the page that it was opened for.
func (k *kiosk) wantUpstream(t *testing.T, user string) {
	t.Helper()
	body, err := k.Text(k.s.ctx, "pre")
	k.must(t, err)
	seen := echo(t, body)
	if k.s.url+seen.URI != k.url {
		t.Errorf("the upstream saw %q", seen.URI)
	}
	wantHeader(t, seen, "Remote-User", user)
}
