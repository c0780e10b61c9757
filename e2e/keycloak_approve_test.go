// This file shows the sign-ins at Keycloak that a person decides: approved from
// a terminal's and a kiosk's point of view, and declined.
package e2e

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/keycloak"
)

func keycloakApproves(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm, keycloakPlan{})
	s.withBoth(t, func(t *testing.T, s *keycloakStage) {
		got := s.get(t, "/report?x=1&y=a%2Fb")
		wantStatus(t, got, 401)
		shown := readText(t, got.Body)
		code := s.code(t, shown.code)
		if scanned := scanText(t, got.Body); scanned != code.complete {
			t.Errorf("the QR code holds %q, want %q", scanned, code.complete)
		}
		if !strings.HasPrefix(code.complete, shown.uri+"?user_code=") {
			t.Errorf("the address %q is not that of %q", shown.uri, code.complete)
		}
		p := s.newPhone(t)
		p.approveTyped(t, shown.uri, shown.code, keycloak.Alice)
		readJSON(t, s.wait(t, keyIn(t, shown.command)), 200)
		seen := echo(t, curl.Shell(s.ctx, t, shown.command).Out) // the line as it is printed
		if seen.URI != "/report?x=1&y=a%2Fb" {
			t.Errorf("the upstream saw %q", seen.URI)
		}
		wantKeycloakAlice(t, seen)

		// Another person on the same site is another person to the upstream.
		a := s.startJSON(t, "/")
		s.newPhone(t).approve(t, a.Complete, keycloak.Bob)
		readJSON(t, s.wait(t, a.Session), 200)
		wantKeycloakBob(t, echo(t, s.get(t, "/", "-H", bearer(a.Session)).Body))
		s.wantOfflineAccess(t)
	})
	if n := len(s.rec.Starts()); n != 4 {
		t.Errorf("%d device authorizations for 4 sign-ins", n)
	}
}

// wantOfflineAccess fails unless Keycloak gave a refresh token that outlives
// its own session: the gateway asks for offline_access wherever that is listed.
func (s *keycloakStage) wantOfflineAccess(t *testing.T) {
	t.Helper()
	tokens := s.rec.Secrets()["refresh token"]
	if len(tokens) == 0 {
		t.Error("no refresh token came")
	}
	for _, token := range tokens {
		if claims := payload(t, token); claims["typ"] != "Offline" {
			t.Errorf("a refresh token of type %v", claims["typ"])
		}
	}
}

// keycloakKiosk runs a kiosk through its life, with and without scripts.
func keycloakKiosk(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm, keycloakPlan{})
	s.withBoth(t, func(t *testing.T, s *keycloakStage) {
		for name, o := range map[string]chrome.Options{
			"with JavaScript":    {Width: 1920, Height: 1080},
			"without JavaScript": {NoScript: true, Dark: true},
		} {
			t.Run(name, func(t *testing.T) { s.kioskToUpstream(t, o, "/wall/"+strings.ReplaceAll(t.Name(), " ", "-")) })
		}
	})
}

func (s *keycloakStage) kioskToUpstream(t *testing.T, o chrome.Options, path string) {
	kiosk := chrome.Start(t, o)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("the kiosk: %v", err)
		}
	}
	wall := s.url + path + "?room=3&to=%2F%2Fother"
	must(kiosk.Open(s.ctx, wall))
	must(kiosk.Wait(s.ctx, ".code"))
	code, err := kiosk.Text(s.ctx, ".code")
	must(err)
	complete := s.code(t, code).complete
	if scanned := chrome.ScanQR(t, s.screenshot(t, kiosk, "before")); scanned != complete {
		t.Errorf("the QR code holds %q, want %q", scanned, complete)
	}
	p := s.newPhone(t)
	p.do(t, p.Open(s.ctx, complete))
	p.do(t, p.Wait(s.ctx, signInField))
	s.screenshot(t, p.Browser, "phone")
	if during := s.screenshot(t, kiosk, "during"); chrome.ScanQR(t, during) != complete {
		t.Error("the code changed while the person signs in")
	}
	p.signInAndDecide(t, keycloak.Alice, consent)

	must(kiosk.WaitURL(s.ctx, func(at string) bool { return at == wall }))
	must(kiosk.Wait(s.ctx, "pre"))
	body, err := kiosk.Text(s.ctx, "pre")
	must(err)
	seen := echo(t, body)
	if s.url+seen.URI != wall {
		t.Errorf("the upstream saw %q", seen.URI)
	}
	wantKeycloakAlice(t, seen)
	s.screenshot(t, kiosk, "after")
	s.wantQuiet(t, kiosk)
}

// wantQuiet fails where the kiosk's pages broke a rule of their own, or asked
// for anything elsewhere.
func (s *keycloakStage) wantQuiet(t *testing.T, kiosk *chrome.Browser) {
	t.Helper()
	for _, problem := range kiosk.Problems() {
		t.Errorf("the kiosk complains: %s", problem)
	}
	for _, address := range kiosk.Requests() {
		if u, err := url.Parse(address); err != nil || u.Scheme+"://"+u.Host != s.url {
			t.Errorf("the kiosk asked for %s", address)
		}
	}
}

// screenshot takes a picture, and keeps it where E2E_SCREENSHOTS says.
func (s *keycloakStage) screenshot(t *testing.T, b *chrome.Browser, name string) []byte {
	t.Helper()
	shot, err := b.Screenshot(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("E2E_SCREENSHOTS"); dir != "" {
		file := strings.NewReplacer("/", "_", "#", "_").Replace(t.Name()) + "_" + name + ".png"
		if err := os.WriteFile(filepath.Join(dir, file), shot, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return shot
}

func keycloakDeclines(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm, keycloakPlan{})
	s.withBoth(t, func(t *testing.T, s *keycloakStage) {
		a := s.startJSON(t, "/")
		kiosk := chrome.Start(t, chrome.Options{})
		if err := kiosk.Open(s.ctx, s.url+"/wall"); err != nil {
			t.Fatal(err)
		}
		first, err := kiosk.Text(s.ctx, ".code")
		if err != nil {
			t.Fatal(err)
		}
		p := s.newPhone(t)
		p.decline(t, a.Complete, keycloak.Bob)
		end := readJSON(t, s.wait(t, a.Session), 403)
		if end.Status != "denied" || end.Error != "access_denied" || end.Reason != "declined" {
			t.Errorf("wait says %+v", end)
		}
		wantInvalidToken(t, s.get(t, "/", "-H", bearer(a.Session), "-H", asJSON), "declined")

		p.decline(t, s.code(t, first).complete, keycloak.Bob)
		s.wantNewCodeByButton(t, kiosk, first, "declined")
		for _, code := range []string{a.UserCode, first} {
			s.wantDenied(t, code)
		}
		if n := len(s.upstreamSaw("/wall")); n != 0 {
			t.Errorf("%d requests reached the upstream", n)
		}
	})
}

// wantNewCodeByButton waits until the kiosk says that its code is over and why,
// and presses the button.
func (s *keycloakStage) wantNewCodeByButton(t *testing.T, kiosk *chrome.Browser, old, why string) {
	t.Helper()
	s.await(t, "the kiosk's word", func() bool {
		text, err := kiosk.Text(s.ctx, "main")
		return err == nil && strings.Contains(text, why)
	})
	s.screenshot(t, kiosk, why)
	if err := kiosk.Click(s.ctx, "form button"); err != nil {
		t.Fatal(err)
	}
	code, err := kiosk.Text(s.ctx, ".code")
	if err != nil || code == old {
		t.Errorf("the button brought the code %q, %v", code, err)
	}
}

// keycloakSecretByPost: the secret goes with both requests either way, since
// Keycloak refuses them without; here it does not go in a header.
func keycloakSecretByPost(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm, keycloakPlan{change: func(caddyfile string) string {
		const line = "client_secret {env.CLIENT_SECRET}\n"
		return strings.Replace(caddyfile, line, line+"client_auth post\n", 1)
	}})
	key := s.signInAlice(t)
	wantKeycloakAlice(t, echo(t, s.get(t, "/", "-H", bearer(key)).Body))
	secrets := s.rec.Secrets()
	if len(secrets["basic credential"]) != 0 || len(secrets["client secret"]) != 1 {
		t.Errorf("%d secrets came by Basic, %d in all", len(secrets["basic credential"]), len(secrets["client secret"]))
	}
}

// keycloakWithoutPKCE has a public client that does not demand it: auto works
// there as well, also where discovery does not know it, and off works only there.
func keycloakWithoutPKCE(t *testing.T, realm *keycloak.Realm) {
	lenient := realm.Server.NewRealm(t.Context(), t)
	lenient.ChangeClient(t.Context(), t, keycloak.PublicClient, func(c keycloak.Client) {
		c.Attributes()["pkce.code.challenge.method"] = ""
	})
	off := func(caddyfile string) string {
		const line = "client_id my-gateway-public\n"
		return strings.Replace(caddyfile, line, line+"pkce off\n", 1)
	}
	for name, p := range map[string]struct {
		realm *keycloak.Realm
		plan  keycloakPlan
		works bool
	}{
		"demanded, auto":     {realm, keycloakPlan{}, true},
		"not demanded, auto": {lenient, keycloakPlan{}, true},
		"not known, auto":    {lenient, keycloakPlan{noPKCE: true}, true},
		"not demanded, off":  {lenient, keycloakPlan{change: off}, true},
		"demanded, off":      {realm, keycloakPlan{change: off}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newKeycloakStage(t, p.realm, p.plan).clients()["public"]
			if p.works {
				s.signInAlice(t)
				sent := len(s.rec.Secrets()["code verifier"]) > 0
				if want := !p.plan.noPKCE && p.plan.change == nil; sent != want {
					t.Errorf("a code verifier was sent: %v, want %v", sent, want)
				}
				return
			}
			if a := s.json(t, 502, "/"); a.Status != "failed" || a.Reason != "setup" {
				t.Errorf("%+v", a)
			}
			s.wantLogged(t, "code_challenge") // what Keycloak demands
		})
	}
}
