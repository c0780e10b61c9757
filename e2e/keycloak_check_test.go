// This file shows the command `caddy device-auth check` against real servers: what
// it says to an operator whose Keycloak is right, and to five whose is not.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/gate"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/keycloak"
	"github.com/caddydevice/device-auth/e2e/internal/ports"
	"github.com/caddydevice/device-auth/e2e/internal/proc"
)

// checkedSite is a Caddyfile with a gate for a client.
func checkedSite(issuer, clientID, lines string) string {
	return fmt.Sprintf("http://localhost:9080 {\n\tdevice_auth {\n\t\tissuer %s\n\t\tclient_id %s\n%s\n\t}\n\trespond ok\n}\n", issuer, clientID, lines)
}

// keycloakChecked has six answers that differ, each with what to do, and the exit
// code 0 only for the one that lets people in.
func keycloakChecked(t *testing.T, realm *keycloak.Realm) {
	base, issuer := realm.Server.URL(), realm.Server.URL()+"/realms/"+realm.Name
	without := idpserver.Start(t, idpserver.Options{NoDeviceFlow: true})
	closed := "http://127.0.0.1:" + ports.Free(t)
	const off = "without-the-grant"
	realm.NewClient(t.Context(), t, keycloak.Client{"clientId": off, "secret": keycloak.Secret, "publicClient": false})
	const secret = "client_secret " + keycloak.Secret
	raw, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme, answers := string(raw), map[string]string{}
	for _, c := range []struct {
		name, caddyfile string
		good            bool
	}{
		{"right", checkedSite(issuer, keycloak.ConfidentialClient, secret), true},
		{"right, public", checkedSite(issuer, keycloak.PublicClient, ""), true},
		{"grant off", checkedSite(issuer, off, secret), false},
		{"wrong secret", checkedSite(issuer, keycloak.ConfidentialClient, "client_secret another-one"), false},
		{"wrong realm", checkedSite(base+"/realms/no-such-realm", keycloak.ConfidentialClient, secret), false},
		{"stopped server", checkedSite(closed+"/realms/my-realm", keycloak.ConfidentialClient, secret), false},
		{"no device endpoint", checkedSite(without.URL(), idpserver.PublicClient, ""), false},
		{"PKCE demanded and off", checkedSite(issuer, keycloak.PublicClient, "pkce off"), false},
	} {
		got := runCaddy(t, t.TempDir(), "device-auth", "check", "--config", writeCaddyfile(t, c.caddyfile))
		if (got.code == 0) != c.good {
			t.Errorf("%s: exit code %d\n%s%s", c.name, got.code, got.out, got.errs)
		}
		if strings.Contains(got.out+got.errs, keycloak.Secret) || strings.Contains(got.out+got.errs, "another-one") {
			t.Errorf("%s: it tells the secret", c.name)
		}
		text := strings.NewReplacer(
			base, "https://keycloak.example.com", realm.Name, "my-realm", closed, "https://stopped.example.com",
			strings.TrimPrefix(closed, "http://"), "stopped.example.com:443", without.URL(), "https://other.example.com",
		).Replace(got.out)
		text = userCodes.ReplaceAllString(text, "XXXX-XXXX")
		for other, same := range answers {
			if same == text {
				t.Errorf("%s and %s have the same answer", c.name, other)
			}
		}
		answers[c.name] = text
		if c.name == "grant off" && !strings.Contains(readme, strings.TrimSpace(strings.ReplaceAll(text, off, keycloak.ConfidentialClient))) {
			t.Errorf("the README shows another answer than\n%s", text)
		}
		wantGolden(t, filepath.Join("testdata", "check", strings.ReplaceAll(strings.ReplaceAll(c.name, ",", ""), " ", "_")+".txt"), text)
	}
}

var userCodes = regexp.MustCompile(`\b[A-Z]{4}-[A-Z]{4}\b`)

// wantGolden compares a text with a file; -update writes that.
func wantGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != got {
		t.Errorf("%s differs (%v); where that is right, run this test with -update\ngot\n%s\nwant\n%s", file, err, got, want)
	}
}

// keycloakTried signs alice in by `check --try`: who she is, her groups, and which
// gates would let her in.
func keycloakTried(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm, keycloakPlan{})
	issuer := realm.Server.URL() + "/realms/" + realm.Name
	file := writeCaddyfile(t, checkedSite(issuer, keycloak.ConfidentialClient, "client_secret {env.CLIENT_SECRET}\nrequire realm_access.roles nobody-has-it"))
	cmd := exec.CommandContext(t.Context(), gate.Binary(t), "device-auth", "check", "--try", "--config", file)
	cmd.Env = append(os.Environ(), "CLIENT_SECRET="+keycloak.Secret, "HOME="+t.TempDir())
	p := proc.Start(t, "check --try", cmd)
	if _, err := p.WaitFor(s.ctx, "The code works"); err != nil {
		t.Fatal(err)
	}
	var address, code string
	for _, line := range p.Lines() {
		switch {
		case line == issuer+"/device":
			address = line
		case userCodes.FindString(line) == line && line != "":
			code = line
		}
	}
	s.newPhone(t).approveTyped(t, address, code, keycloak.Alice)
	select {
	case <-p.Done():
	case <-s.ctx.Done():
		t.Fatal("it does not end")
	}
	text := strings.Join(p.Lines(), "\n")
	for _, want := range []string{
		"Signed in as alice (sub ", "preferred_username: \"alice\"",
		"does not let them in: realm_access.roles nobody-has-it does not hold.",
		"let only those in who have one of them:  require groups ",
		"let only those in who have one of them:  require realm_access.roles ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if p.ExitCode() != 0 {
		t.Errorf("exit code %d", p.ExitCode())
	}
}
