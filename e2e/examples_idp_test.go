// This file sets a scenario up from examples/<identity provider>, as it is
// there, and shows that of node oidc-provider.
package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/ports"
	"github.com/caddydevice/device-auth/e2e/internal/proc"
)

// exampleSecret is the client's secret in the examples.
const exampleSecret = "change-this-secret"

// exampleFile is the path of a file of examples/.
func exampleFile(parts ...string) string {
	return filepath.Join(append([]string{"..", "examples"}, parts...)...)
}

// newExampleStage starts the gateway with the Caddyfile of an example, and a
// recorder between it and the server. change is a text of the Caddyfile, and
// what is to be there instead.
func newExampleStage(t *testing.T, example string, server func(issuer string) (address string), change [2]string) *stage {
	t.Helper()
	s := emptyStage(t)
	s.rec.SetTarget(t, server(s.rec.URL()))
	s.watchAnswers(plan{asItIs: true})
	text, err := os.ReadFile(exampleFile(example, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), change[0]) {
		t.Fatalf("the example has no line %q any more", change[0])
	}
	s.canaries.Add(t, "client secret", exampleSecret)
	caddyfile := strings.Replace(string(text), change[0], change[1], 1)
	s.open(t, caddyfile, map[string]string{"ISSUER": s.rec.URL(), "CLIENT_SECRET": exampleSecret})
	return s
}

// TestOIDCProviderExample is about the files of the example; what the provider
// does is tested with one that can be told more.
func TestOIDCProviderExample(t *testing.T) {
	t.Parallel()
	var installed struct{ Dependencies map[string]string }
	if text, err := os.ReadFile(filepath.Join("oidcprovider", "package.json")); err != nil || json.Unmarshal(text, &installed) != nil {
		t.Fatal("package.json cannot be read: ", err)
	}
	wantInReadme(t, installed.Dependencies["oidc-provider"])
	s := newExampleStage(t, "oidc-provider", func(issuer string) string { return runOIDCProvider(t, issuer) }, [2]string{})
	for user, status := range map[string]int{"alice": 200, "carol": 403} {
		a := s.startJSON(t, "/")
		s.approveWith(t, idpserver.NewPerson(t), user, a.Complete)
		if end := readJSON(t, s.wait(t, a.Session), 200); end.Status != "active" || end.Subject != user {
			t.Fatalf("wait says %+v", end)
		}
		got := s.get(t, "/report", "-H", bearer(a.Session))
		wantStatus(t, got, status)
		if status == 200 {
			wantAlice(t, echo(t, got.Body))
		}
	}
}

// runOIDCProvider runs the example's provider.mjs until the test ends.
func runOIDCProvider(t *testing.T, issuer string) (address string) {
	t.Helper()
	dir := t.TempDir() // where its packages are found beside it
	modules, err := filepath.Abs(filepath.Join("oidcprovider", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(exampleFile("oidc-provider", "provider.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "provider.mjs"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	port := ports.Free(t)
	cmd := exec.Command("node", "provider.mjs")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PORT="+port, "ISSUER="+issuer)
	server := proc.Start(t, "oidc-provider", cmd)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := server.WaitFor(ctx, "listening at "); err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + port
}
