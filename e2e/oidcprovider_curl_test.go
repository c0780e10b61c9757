// This file shows the main job: a curl line, a person who approves, and the
// same line with the key.
package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

// clientSites are three sites with a client each, by how it authenticates.
func clientSites() string {
	var b strings.Builder
	for host, lines := range map[string]string{
		"public": "client_id " + idpserver.PublicClient,
		"basic":  "client_id " + idpserver.BasicClient + "\nclient_secret {env.SECRET}\nclient_auth basic",
		"post":   "client_id " + idpserver.PostClient + "\nclient_secret {env.SECRET}\nclient_auth post",
	} {
		fmt.Fprintf(&b, "http://%s.localhost:{$GATE_PORT} {\nlog\ndevice_auth {\nissuer {$ISSUER}\n%s\n}\nreverse_proxy {$UPSTREAM}\n}\n", host, lines)
	}
	return b.String()
}

func TestCurl(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{caddyfile: clientSites()})
	t.Run("clients", func(t *testing.T) {
		for _, host := range []string{"public", "basic", "post"} {
			t.Run(host, func(t *testing.T) {
				t.Parallel()
				s.curlToUpstream(t, "http://"+host+".localhost:"+s.gate.Port())
			})
		}
	})
	if n := len(s.rec.Starts()); n != 3 {
		t.Errorf("%d device authorizations for 3 sign-ins", n)
	}
}

// awkward is a path and query that a shell, or a careless program, would change.
const awkward = "/a%2Fb/it's/$(id)?q=$HOME&x=%20;%27"

func (s *stage) curlToUpstream(t *testing.T, site string) {
	address := site + awkward
	got := s.curl(t, address)
	wantStatus(t, got, 401)
	wantOurs(t, got.Header)
	for name, value := range map[string]string{
		"Content-Type": "text/plain; charset=utf-8", "Www-Authenticate": `Bearer realm="device_auth"`, "Retry-After": "1",
	} {
		if got.Header.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, got.Header.Get(name), value)
		}
	}
	shown := readText(t, got.Body)
	if complete := s.code(t, shown.code).complete; scanText(t, got.Body) != complete {
		t.Errorf("the QR code holds %q, want %q", scanText(t, got.Body), complete)
	}

	// The same key has the same code, in every form.
	_, key, _ := strings.Cut(shown.command, "Bearer ")
	key, _, _ = strings.Cut(key, "'")
	again := readJSON(t, s.curl(t, "-H", bearer(key), "-H", asJSON, address), 401)
	if again.UserCode != shown.code || again.URI != shown.uri || again.Complete != s.code(t, shown.code).complete || again.Session != "" {
		t.Errorf("the second answer differs: %+v", again)
	}
	if before := curl.Shell(s.ctx, t, shown.command); !strings.Contains(before.Out, shown.code) {
		t.Errorf("before the approval the line gives %q", before.Out)
	}

	// The person types the code.
	device := idpserver.Device{URI: shown.uri, Code: shown.code}
	if err := idpserver.NewPerson(t).Approve(s.ctx, device, idpserver.Alice, idpserver.AlicePassword); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, s.curl(t, "-H", bearer(key), site+"/.device/wait?timeout=60"), 200)

	after := curl.Shell(s.ctx, t, shown.command)
	if after.ExitCode != 0 {
		t.Fatalf("the line ended with %d: %s", after.ExitCode, after.Stderr)
	}
	seen := echo(t, after.Out)
	if seen.URI != awkward || seen.Method != "GET" {
		t.Errorf("the upstream saw %s %s, want GET %s", seen.Method, seen.URI, awkward)
	}
	wantAlice(t, seen)
	if polls := s.polls(t, shown.code); len(polls) == 0 || polls[len(polls)-1].Status != 200 {
		t.Errorf("the last poll brought no tokens: %+v", polls)
	}
}

func TestCurlPostsAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	got := s.get(t, "/orders", "-X", "PUT", "--data", "n=1")
	wantStatus(t, got, 401)
	line := readText(t, got.Body).command
	if !strings.HasPrefix(line, "curl -X 'PUT' -H 'Authorization: Bearer dvc_") {
		t.Errorf("the line that goes on is %q", strings.Split(line, "dvc_")[0])
	}
	// A key that came to the page, not the terminal: never printed there.
	if page := s.get(t, "/", "-H", "Accept: text/html"); strings.Contains(page.Body, "dvc_") {
		t.Error("a browser's key is printed")
	}
	if len(s.up.Requests()) != 0 {
		t.Error("a request without a sign-in reached the upstream")
	}
}
