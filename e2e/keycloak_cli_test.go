// This file shows a client that brings its own access tokens: a small program
// in Python signs people in at Keycloak, for an API behind the gate.
package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/keycloak"
	"github.com/caddydevice/device-auth/e2e/internal/proc"
)

const (
	cliClient = "my-cli" // as pythoncli/cli.py has it
	cliAPI    = "https://api.example.com"

	// tokenLife is for as long as a first access token is good. The gate's
	// clock_skew comes on top.
	tokenLife = 5 * time.Second
)

// cliCaddyfile has the API as it is meant, and once more with the least that
// `bearer on` asks for, and the token handed on.
const cliCaddyfile = keycloakProvider + `
http://localhost:{$GATE_PORT} {
	log
	device_auth keycloak {
		clock_skew 1s
		bearer on {
			audience ` + cliAPI + `
			authorized_party ` + cliClient + `
		}
		protected_resource
		require realm_access.roles editor
	}
	reverse_proxy {$UPSTREAM}
}

http://127.0.0.1:{$GATE_PORT_2} {
	device_auth keycloak {
		clock_skew 1s
		bearer on {
			authorized_party ` + cliClient + `
		}
		upstream_token access_token
	}
	reverse_proxy {$UPSTREAM}
}
`

// newCLIClient makes the program's client: a public one with the device grant,
// whose tokens name the API. The ID token names it too, so that it is its type
// alone by which it is refused.
func newCLIClient(t *testing.T, realm *keycloak.Realm) {
	t.Helper()
	realm.NewClient(t.Context(), t, keycloak.Client{
		"clientId": cliClient, "publicClient": true, "standardFlowEnabled": false, "directAccessGrantsEnabled": false,
		"attributes": map[string]any{
			"oauth2.device.authorization.grant.enabled": "true",
			"oauth2.device.polling.interval":            "1",
			"pkce.code.challenge.method":                "S256",
			"access.token.lifespan":                     tokenLife.Seconds(),
		},
		"protocolMappers": []map[string]any{{
			"name": "the API", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
			"config": map[string]any{"included.custom.audience": cliAPI, "access.token.claim": "true", "id.token.claim": "true"},
		}},
	})
}

// apiStage is the API behind the gate, with two people who use it, and what the
// line to Keycloak saw.
type apiStage struct {
	*keycloakStage
	line       *cliLine
	alice, bob cli
}

// cliLine watches the line between gate, program and Keycloak.
type cliLine struct {
	mu      sync.Mutex
	errors  []string    // answers to the program's next polls, in Keycloak's place
	fetches []time.Time // of Keycloak's keys
}

func (l *cliLine) watch(r *http.Request) (int, []byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/protocol/openid-connect/certs") {
		l.fetches = append(l.fetches, time.Now())
	}
	if r.PostForm.Get("client_id") != cliClient || r.PostForm.Get("device_code") == "" || len(l.errors) == 0 {
		return 0, nil, false
	}
	code := l.errors[0]
	l.errors = l.errors[1:]
	return http.StatusBadRequest, []byte(`{"error": "` + code + `"}`), true
}

func (l *cliLine) next(errors ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errors = errors
}

func (l *cliLine) keyFetches() []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]time.Time(nil), l.fetches...)
}

// keycloakPythonCLI goes on from step to step: most need the tokens of the one
// before.
func keycloakPythonCLI(t *testing.T, shared *keycloak.Realm) {
	needProgram(t, "python3")
	realm := pollEachSecond(t, shared)
	newCLIClient(t, realm)
	stage := newStageOf(t, realm, cliCaddyfile)
	s := apiStage{stage, &cliLine{}, stage.newCLI(t), stage.newCLI(t)}
	s.rec.Rewrite(s.line.watch)
	for _, step := range []struct {
		name string
		run  func(apiStage, *testing.T)
	}{
		{"login", apiStage.wantSignIn},
		{"token over", apiStage.wantRefreshWhenOver},
		{"refresh", apiStage.wantRefresh},
		{"role", apiStage.wantRole},
		{"errors of polls", apiStage.wantPollErrors},
		{"other kinds of tokens", apiStage.wantOnlyAccessTokens},
		{"another audience", apiStage.wantAudience},
		{"another client", apiStage.wantParty},
		{"upstream_token", apiStage.wantHandedOn},
		{"few fetches of keys", apiStage.wantFewFetches},
		{"keys kept", apiStage.wantKeysKept},
		{"logout", apiStage.wantSignOut},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(s, t) })
	}
}

// cli is one person's installation of the program.
type cli struct {
	s    *keycloakStage
	home string
}

func (s *keycloakStage) newCLI(t *testing.T) cli {
	t.Helper()
	return cli{s, filepath.Join(t.TempDir(), "my-cli")}
}

// start runs a command of the program.
func (c cli) start(t *testing.T, command string) *proc.Process {
	t.Helper()
	program, err := filepath.Abs(filepath.Join("pythoncli", "cli.py"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-I", "-B", program, command, c.s.url)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.home, "MY_CLI_HOME=" + c.home, "NO_PROXY=*"}
	return proc.Start(t, "cli.py "+command, cmd)
}

// want runs a command, which ends with that code and these words.
func (c cli) want(t *testing.T, command string, code int, words string) {
	t.Helper()
	c.wantEnd(t, c.start(t, command), code, words)
}

// wantEnd waits for the program's end; what it wrote has no token in it.
func (c cli) wantEnd(t *testing.T, p *proc.Process, code int, words string) {
	t.Helper()
	select {
	case <-p.Done():
	case <-c.s.ctx.Done():
		t.Fatal("the program does not end")
	}
	out := strings.Join(p.Lines(), "\n")
	if got := p.ExitCode(); got != code || !strings.Contains(out, words) {
		t.Fatalf("the program ends with code %d and says %q, want %d and %q", got, out, code, words)
	}
	secrets := c.s.rec.Secrets()
	for _, kind := range []string{"access token", "refresh token", "ID token", "device code", "code verifier"} {
		for _, secret := range secrets[kind] {
			if strings.Contains(out, secret) {
				t.Errorf("the program prints a secret of kind %s", kind)
			}
		}
	}
}

// login starts a sign-in and returns the code that the person is to enter.
func (c cli) login(t *testing.T) (p *proc.Process, userCode string) {
	t.Helper()
	p = c.start(t, "login")
	line, err := p.WaitFor(c.s.ctx, "enter the code ")
	if err != nil {
		t.Fatal(err)
	}
	_, userCode, _ = strings.Cut(line, "enter the code ")
	return p, userCode
}

// cliTokens are those that the program has stored for the API.
type cliTokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
}

// tokens are read from the program's file.
func (c cli) tokens(t *testing.T) cliTokens {
	t.Helper()
	raw, err := os.ReadFile(c.file())
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]cliTokens
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	return all[c.s.url]
}

func (c cli) file() string { return filepath.Join(c.home, "tokens.json") }

// wantSignIn: from the API's 401 alone the program finds its way to Keycloak,
// polls as it is told to, and keeps what it gets to itself.
func (s apiStage) wantSignIn(t *testing.T) {
	s.clients()["public"].newCLI(t).want(t, "login", 1, "does not say where to sign in") // without protected_resource
	s.alice.want(t, "whoami", 1, "You are not signed in")
	s.line.next("slow_down")
	p, userCode := s.alice.login(t)
	s.approveAs(t, keycloak.Alice, s.code(t, userCode).complete)
	s.alice.wantEnd(t, p, 0, "Signed in.")
	polls := s.polls(t, userCode)
	if len(polls) < 2 || polls[0].Error != "slow_down" {
		t.Fatalf("the polls are %+v", polls)
	}
	wantGaps(t, polls, 6*time.Second) // RFC 8628 §3.5: five more than Keycloak's one
	info, err := os.Stat(s.alice.file())
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("the file of tokens has mode %v", mode)
	}
	claims := payload(t, s.alice.tokens(t).Access)
	if claims["typ"] != "Bearer" || claims["azp"] != cliClient {
		t.Errorf("Keycloak made a token of another kind: typ %v, azp %v", claims["typ"], claims["azp"])
	}
}

// wantRefreshWhenOver: a token that has run out is refused, and the program
// gets another by itself, once.
func (s apiStage) wantRefreshWhenOver(t *testing.T) {
	over := s.alice.tokens(t).Access
	s.passTime(t, int(tokenLife/time.Second)+2) // a poll each second at most; clock_skew, and one for rounding
	wantInvalidToken(t, s.get(t, "/", "-H", bearer(over), "-H", asJSON), "token")
	s.alice.wantRefreshes(t, 1)
	s.realm.ChangeClient(s.ctx, t, cliClient, func(c keycloak.Client) {
		c.Attributes()["access.token.lifespan"] = "600"
	})
}

// wantRefreshes asks who it is: Alice, and the program refreshes its token so
// often.
func (c cli) wantRefreshes(t *testing.T, times int) {
	t.Helper()
	before := len(c.s.rec.Refreshes())
	c.want(t, "whoami", 0, keycloak.Alice)
	if n := len(c.s.rec.Refreshes()) - before; n != times {
		t.Errorf("the program refreshed %d times, want %d", n, times)
	}
}

// wantRefresh: a refreshed token is another one, and works.
func (s apiStage) wantRefresh(t *testing.T) {
	old := s.alice.tokens(t).Access
	s.alice.want(t, "refresh", 0, "Refreshed.")
	if s.alice.tokens(t).Access == old {
		t.Error("the access token is the old one")
	}
	s.alice.wantRefreshes(t, 0)
	seen := s.up.Last(t)
	wantHeader(t, seen, "Remote-User", keycloak.Alice)
	if seen.Header.Get("Authorization") != "" {
		t.Error("the token went on to the upstream, unasked")
	}
}

// wantRole: `require` is for clients' tokens as well.
func (s apiStage) wantRole(t *testing.T) {
	before := len(s.up.Requests())
	p, userCode := s.bob.login(t)
	s.approveAs(t, keycloak.Bob, s.code(t, userCode).complete)
	s.bob.wantEnd(t, p, 0, "Signed in.")
	s.bob.want(t, "whoami", 1, "You are signed in, but not allowed")
	s.wantForbidden(t, "/bob", s.bob.tokens(t).Access, "realm_access.roles editor")
	if n := len(s.up.Requests()) - before; n != 0 {
		t.Errorf("%d requests of Bob's reached the upstream", n)
	}
}

// wantPollErrors: the program gives up where Keycloak says so, and then asks no
// more (the last look at the stage would see it).
func (s apiStage) wantPollErrors(t *testing.T) {
	c := s.newCLI(t)
	for _, row := range []struct{ answer, words string }{
		{"access_denied", "was declined"},
		{"expired_token", "has expired"},
		{"invalid_grant", "failed: invalid_grant"},
	} {
		s.line.next("authorization_pending", row.answer)
		p, userCode := c.login(t)
		c.wantEnd(t, p, 1, row.words)
		if n := len(s.polls(t, userCode)); n != 2 {
			t.Errorf("%s: the program polled %d times", row.answer, n)
		}
	}
	if _, err := os.Stat(c.file()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file of tokens: %v", err)
	}
}

// wantSignOut: after it neither the program nor whoever copied its file can
// get another token.
func (s apiStage) wantSignOut(t *testing.T) {
	copied, err := os.ReadFile(s.alice.file())
	if err != nil {
		t.Fatal(err)
	}
	s.alice.want(t, "logout", 0, "Signed out.")
	s.alice.want(t, "whoami", 1, "You are not signed in")
	if err := os.WriteFile(s.alice.file(), copied, 0o600); err != nil {
		t.Fatal(err)
	}
	s.alice.want(t, "refresh", 1, "refused: invalid_grant")
}
