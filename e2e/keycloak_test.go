// This file shows the sign-in with a real Keycloak: with the confidential and
// the public client of examples/keycloak, whose files are used as they are. A
// person's part is played by Chromium, and so is the kiosk's.
package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/keycloak"
	"github.com/caddydevice/device-auth/e2e/internal/upstream"
)

// TestKeycloak shares one server, and one realm for all that leave it as it is.
func TestKeycloak(t *testing.T) {
	t.Parallel()
	server := keycloak.Start(t)
	wantInReadme(t, keycloak.Version(t))
	realm := server.NewRealm(t.Context(), t)
	t.Run("scenarios", func(t *testing.T) {
		for name, scenario := range map[string]func(*testing.T, *keycloak.Realm){
			"approve":            keycloakApproves,
			"kiosk":              keycloakKiosk,
			"looks":              keycloakLooks,
			"decline":            keycloakDeclines,
			"secret by post":     keycloakSecretByPost,
			"signed JWT":         keycloakSignedJWT,
			"without PKCE":       keycloakWithoutPKCE,
			"expiry":             keycloakExpiry,
			"slow_down":          keycloakSlowDown,
			"wrong secret":       keycloakWrongSecret,
			"grant switched off": keycloakGrantOff,
			"checked":            keycloakChecked,
			"tried":              keycloakTried,
			"keys rotated":       keycloakKeysRotated,
			"roles and groups":   keycloakRoles,
			"wrong account":      keycloakWrongAccount,
			"clients' tokens":    keycloakPythonCLI,
			"refreshes and ends": keycloakLife,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				scenario(t, realm)
			})
		}
	})
	t.Run("stopped while pending", func(t *testing.T) { keycloakStops(t, realm) })
}

// wantInReadme fails unless the README says which version was tested.
func wantInReadme(t *testing.T, version string) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "real server, "+version) {
		t.Errorf("the README does not say that %s was tested", version)
	}
}

// keycloakStage is a stage with Keycloak behind the recorder.
type keycloakStage struct {
	*stage
	realm *keycloak.Realm
}

// keycloakPlan is what differs between scenarios; the zero value is the
// example.
type keycloakPlan struct {
	change func(caddyfile string) string
	secret string                             // the right one unless set
	noPKCE bool                               // its discovery does not know PKCE, as one that is switched off
	answer func(n int, answer map[string]any) // changes the nth answer to a device authorization request, from 1
}

// example is the text of a file of examples/keycloak.
func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "examples", "keycloak", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func newKeycloakStage(t *testing.T, realm *keycloak.Realm, p keycloakPlan) *keycloakStage {
	t.Helper()
	s := &keycloakStage{stage: emptyStage(t), realm: realm}
	s.rec.SetTarget(t, realm.Server.URL())
	s.watchAnswers(plan{asItIs: true, answer: p.answer, noPKCE: p.noPKCE})
	if p.secret == "" {
		p.secret = keycloak.Secret
	}
	caddyfile := example(t, "Caddyfile")
	if p.change != nil {
		changed := p.change(caddyfile)
		if changed == caddyfile {
			t.Fatal("the example is not changed: it has no such line any more")
		}
		caddyfile = changed
	}
	s.canaries.Add(t, "client secret", p.secret)
	s.open(t, caddyfile, map[string]string{"ISSUER": s.rec.URL() + "/realms/" + s.realm.Name, "CLIENT_SECRET": p.secret})
	return s
}

// clients are the example's two sites, by the kind of their client.
func (s *keycloakStage) clients() map[string]*keycloakStage {
	public := *s.stage
	public.url = "http://127.0.0.1:" + s.gate.Port2()
	return map[string]*keycloakStage{
		"confidential": s,
		"public":       {stage: &public, realm: s.realm},
	}
}

// withBoth runs a scenario with each client, both at once.
func (s *keycloakStage) withBoth(t *testing.T, scenario func(*testing.T, *keycloakStage)) {
	t.Helper()
	t.Run("clients", func(t *testing.T) {
		for name, site := range s.clients() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				scenario(t, site)
			})
		}
	})
}

// wantUser fails unless the upstream was told who it is, with the groups and
// realm roles that realm.json gives them, in whatever order Keycloak says them.
func wantUser(t *testing.T, r upstream.Request, user string, groups, roles []string) {
	t.Helper()
	wantHeader(t, r, "Remote-User", user)
	for name, want := range map[string][]string{"Remote-Groups": groups, "Remote-Roles": roles} {
		got := strings.Split(r.Header.Get(name), ",")
		slices.Sort(got)
		slices.Sort(want)
		if len(spellings(r, name)) != 1 || !slices.Equal(got, want) {
			t.Errorf("the upstream saw %q, want one %s of %q", spellings(r, name), name, want)
		}
	}
}

func wantKeycloakAlice(t *testing.T, r upstream.Request) {
	t.Helper()
	wantUser(t, r, keycloak.Alice, []string{"admins", "staff"}, []string{"editor", "offline_access", "viewer"})
}

func wantKeycloakBob(t *testing.T, r upstream.Request) {
	t.Helper()
	wantUser(t, r, keycloak.Bob, []string{"staff"}, []string{"offline_access", "viewer"})
}

// signInAlice starts a sign-in, has it approved, and returns the key.
func (s *keycloakStage) signInAlice(t *testing.T) string {
	t.Helper()
	return s.signInAs(t, keycloak.Alice)
}

func (s *keycloakStage) signInAs(t *testing.T, user string) string {
	t.Helper()
	a := s.startJSON(t, "/")
	s.approveAs(t, user, a.Complete)
	end := readJSON(t, s.wait(t, a.Session), 200)
	if end.Status != "active" || end.User != user || end.Subject == "" {
		t.Fatalf("wait says %+v", end)
	}
	return a.Session
}

// approve is what Alice does who scanned the QR code.
func (s *keycloakStage) approve(t *testing.T, complete string) {
	t.Helper()
	s.approveAs(t, keycloak.Alice, complete)
}

// approveAs fills Keycloak's forms, which is quicker than Chromium.
func (s *keycloakStage) approveAs(t *testing.T, user, complete string) {
	t.Helper()
	s.realm.Consent.Lock()
	defer s.realm.Consent.Unlock()
	err := idpserver.NewPerson(t).Approve(s.ctx, idpserver.Device{Complete: complete}, user, user+"-password")
	if err != nil {
		t.Fatal(err)
	}
}

// phone is a person's own browser, at Keycloak.
type phone struct {
	*chrome.Browser
	s *keycloakStage
}

func (s *keycloakStage) newPhone(t *testing.T) phone {
	t.Helper()
	return phone{chrome.Start(t, chrome.Options{Width: 390, Height: 844}), s}
}

func (p phone) approve(t *testing.T, address, user string) {
	t.Helper()
	p.decide(t, address, user, "[name=accept]")
}

func (p phone) decline(t *testing.T, address, user string) {
	t.Helper()
	p.decide(t, address, user, "[name=cancel]")
}

// decide opens what the QR code holds, signs in where Keycloak asks for that,
// and presses a button of its consent page.
func (p phone) decide(t *testing.T, address, user, button string) {
	t.Helper()
	p.do(t, p.Open(p.s.ctx, address))
	p.signInAndDecide(t, user, button)
}

// approveTyped is a person who reads address and code off the screen.
func (p phone) approveTyped(t *testing.T, address, code, user string) {
	t.Helper()
	p.do(t, p.Open(p.s.ctx, address))
	p.do(t, p.Type(p.s.ctx, "[name=device_user_code]", code+"\r"))
	p.signInAndDecide(t, user, "[name=accept]")
}

const (
	signInField = "#username"
	consent     = "[name=accept]"
)

func (p phone) signInAndDecide(t *testing.T, user, button string) {
	t.Helper()
	p.do(t, p.Wait(p.s.ctx, signInField+", "+consent))
	if html, err := p.HTML(p.s.ctx); err != nil || strings.Contains(html, `id="username"`) {
		p.do(t, err)
		p.do(t, p.Type(p.s.ctx, signInField, user))
		p.do(t, p.Type(p.s.ctx, "#password", user+"-password\r"))
	}
	p.s.realm.Consent.Lock()
	defer p.s.realm.Consent.Unlock()
	p.press(t, button)
}

// press presses a button of the consent page until it is heeded: a click can be
// lost where the page is still loading.
func (p phone) press(t *testing.T, button string) {
	t.Helper()
	done := func(at string) bool { return strings.Contains(at, "/device/status") }
	var err error
	for range presses {
		ctx, cancel := context.WithTimeout(p.s.ctx, pressTime)
		if err = p.Click(ctx, button); err == nil {
			err = p.WaitURL(ctx, done)
		}
		cancel()
		if err == nil || done(p.URL()) {
			return
		}
	}
	html, _ := p.HTML(p.s.ctx)
	t.Fatalf("the person's browser: %v\n%s", err, html)
}

const (
	// presses is how often a button is pressed, and pressTime is for how long
	// each is waited for, on a machine that is busy with other tests.
	presses   = 4
	pressTime = 30 * time.Second
)

func (p phone) do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("the person's browser: %v", err)
	}
}
