// This file shows the sign-in with a real Spring Authorization Server: the one
// of examples/spring, built and configured as it is there. It has no ID tokens
// in this flow, so the gateway goes by the access token.
package e2e

import (
	"archive/zip"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
	"github.com/caddydevice/device-auth/e2e/internal/ports"
	"github.com/caddydevice/device-auth/e2e/internal/proc"
	"github.com/caddydevice/device-auth/e2e/internal/record"
)

const (
	// springTime bounds a build, a start, and what a person does, on a machine
	// that is busy with other tests.
	springTime = 4 * time.Minute
	// springTokenLife is a life of access tokens that a test can outwait.
	springTokenLife = 10 * time.Second
)

func TestSpring(t *testing.T) {
	t.Parallel()
	jar := buildSpring(t)
	wantSpringVersions(t, jar)
	asItIs := runSpring(t, jar)
	shortTokens := runSpring(t, jar, "--spring.security.oauth2.authorizationserver.client.my-gateway.token.access-token-time-to-live="+springTokenLife.String())
	t.Run("scenarios", func(t *testing.T) {
		for name, c := range map[string]struct {
			server   string
			change   [2]string // of the example's Caddyfile: what is there, and what is to be
			scenario func(*testing.T, *springStage)
		}{
			"approve, sign out": {server: asItIs, scenario: springApproves},
			"type the code":     {server: asItIs, scenario: springTyped},
			"decline":           {server: asItIs, scenario: springDeclines},
			"refresh":           {server: shortTokens, scenario: springRefreshes},
			"not let in":        {server: asItIs, change: [2]string{"require groups staff", "require groups admins"}, scenario: springForbids},
			"openid is refused": {server: asItIs, change: [2]string{"scopes profile", "scopes openid profile"}, scenario: springRefusesOpenID},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c.scenario(t, &springStage{newExampleStage(t, "spring", func(string) string { return c.server }, c.change)})
			})
		}
	})
}

// buildSpring builds a copy of the example. `make deps` has fetched what it is
// built of.
func buildSpring(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, part := range []string{"pom.xml", "src"} {
		if out, err := exec.Command("cp", "-R", exampleFile("spring", part), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), springTime)
	defer cancel()
	build := exec.CommandContext(ctx, "mvn", "--quiet", "--batch-mode", "package")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building examples/spring (what it is built of comes with make deps): %v\n%s", err, out)
	}
	return filepath.Join(dir, "target", "auth-server.jar")
}

// wantSpringVersions fails unless the README names what the server is made of.
func wantSpringVersions(t *testing.T, jar string) {
	t.Helper()
	parts, err := zip.OpenReader(jar)
	if err != nil {
		t.Fatal(err)
	}
	defer parts.Close()
	versions := map[string]string{}
	library := regexp.MustCompile(`^BOOT-INF/lib/(spring-boot|spring-security-oauth2-authorization-server)-([0-9.]+)\.jar$`)
	for _, part := range parts.File {
		if found := library.FindStringSubmatch(part.Name); found != nil {
			versions[found[1]] = found[2]
		}
	}
	wantInReadme(t, fmt.Sprintf("%s (Spring Boot %s)", versions["spring-security-oauth2-authorization-server"], versions["spring-boot"]))
}

// runSpring runs a server until the test ends. Without an issuer of its own it
// takes that from each request's Host, which a recorder leaves as it is: one
// server is behind many.
func runSpring(t *testing.T, jar string, settings ...string) (address string) {
	t.Helper()
	port := ports.Free(t)
	// a short life: quick to compile counts more than quick to run
	args := append([]string{"-XX:TieredStopAtLevel=1", "-jar", jar, "--server.port=" + port}, settings...)
	server := proc.Start(t, "spring", exec.Command("java", args...))
	ctx, cancel := context.WithTimeout(t.Context(), springTime)
	defer cancel()
	if _, err := server.WaitFor(ctx, "Started AuthServer"); err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + port
}

// springStage is a stage with Spring Authorization Server behind the recorder.
type springStage struct{ *stage }

// springPhone is a person's browser at Spring's pages.
type springPhone struct {
	*chrome.Browser
	ctx context.Context
}

func (s *springStage) newPhone(t *testing.T) springPhone {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, springTime)
	t.Cleanup(cancel)
	return springPhone{chrome.Start(t, chrome.Options{Width: 390, Height: 844}), ctx}
}

func (p springPhone) do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("the person's browser, at %s: %v", p.URL(), err)
	}
}

// enter signs in and sends the code off: the one that the address has in it,
// or the one that is typed.
func (p springPhone) enter(t *testing.T, address, user, code string) {
	t.Helper()
	p.do(t, p.Open(p.ctx, address))
	p.do(t, p.Type(p.ctx, "#username", user))
	p.do(t, p.Type(p.ctx, "#password", user+"-password\r"))
	p.do(t, p.Wait(p.ctx, "[name=user_code]"))
	if code != "" {
		p.do(t, p.Type(p.ctx, "[name=user_code]", code))
	}
	p.do(t, p.Click(p.ctx, "button"))
	p.do(t, p.Wait(p.ctx, "#submit-consent"))
}

func (p springPhone) allow(t *testing.T) {
	t.Helper()
	p.do(t, p.Click(p.ctx, "#profile"))
	p.do(t, p.Click(p.ctx, "#submit-consent"))
	p.do(t, p.WaitURL(p.ctx, func(at string) bool { return strings.HasSuffix(at, "/done") }))
}

// signIn starts a sign-in, has it approved, and returns the key.
func (s *springStage) signIn(t *testing.T, user string) string {
	t.Helper()
	a := s.startJSON(t, "/")
	p := s.newPhone(t)
	p.enter(t, a.Complete, user, "")
	p.allow(t)
	s.wantSignedIn(t, a.Session, user)
	return a.Session
}

func (s *springStage) wantSignedIn(t *testing.T, key, user string) {
	t.Helper()
	if end := readJSON(t, s.wait(t, key), 200); end.Status != "active" || end.Subject != user {
		t.Fatalf("wait says %+v", end)
	}
}

func (s *springStage) wantGoesOn(t *testing.T, key string) {
	t.Helper()
	got := s.get(t, "/report", "-H", bearer(key))
	wantStatus(t, got, 200)
	wantAlice(t, echo(t, got.Body))
}

func springApproves(t *testing.T, s *springStage) {
	key := s.signIn(t, "alice")
	s.wantGoesOn(t, key)
	// her consent does not last: the next device is asked about as well
	s.newPhone(t).enter(t, s.startJSON(t, "/").Complete, "alice", "")

	wantStatus(t, s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(key)), 204)
	wantStatus(t, s.get(t, "/", "-H", bearer(key)), 401)
	s.await(t, "a revocation", func() bool {
		return slices.ContainsFunc(s.rec.Revocations(), func(e record.Entry) bool { return e.RefreshToken != "" && e.Status == 200 })
	})
}

func springTyped(t *testing.T, s *springStage) {
	a := s.startJSON(t, "/")
	p := s.newPhone(t)
	p.enter(t, a.URI, "alice", strings.ToLower(strings.ReplaceAll(a.UserCode, "-", "")))
	p.allow(t)
	s.wantSignedIn(t, a.Session, "alice")
}

func springDeclines(t *testing.T, s *springStage) {
	a := s.startJSON(t, "/")
	p := s.newPhone(t)
	p.enter(t, a.Complete, "alice", "")
	p.do(t, p.Click(p.ctx, "#cancel-consent"))
	if end := readJSON(t, s.wait(t, a.Session), 403); end.Status != "denied" || end.Reason != "declined" {
		t.Errorf("wait says %+v", end)
	}
}

func springForbids(t *testing.T, s *springStage) {
	wantStatus(t, s.get(t, "/", "-H", bearer(s.signIn(t, "bob"))), 403)
	if n := len(s.up.Requests()); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}

func springRefreshes(t *testing.T, s *springStage) {
	key := s.signIn(t, "alice")
	begin := time.Now()
	s.await(t, "the end of the first access token", func() bool { return time.Since(begin) > springTokenLife })
	s.wantGoesOn(t, key)
	if len(s.rec.Refreshes()) == 0 {
		t.Error("the session outlived its token, and nothing was refreshed")
	}
}

// springRefusesOpenID is why the example asks for another scope.
func springRefusesOpenID(t *testing.T, s *springStage) {
	wantStatus(t, s.get(t, "/"), 502)
	s.wantLogged(t, "invalid_scope")
}
