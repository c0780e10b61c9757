// This file tests the command `caddy device-auth check`: which providers of a
// configuration it asks, and what a sign-in by it shows.

package caddydevice

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// quick is a scripted provider with an address, asked each second.
func quick(t *testing.T) *idptest.Provider {
	t.Helper()
	p := idptest.New("")
	p.Issuer = serve(t, p).URL
	p.Device = func(n int) idptest.Reply {
		answer := idptest.Device(p.Issuer, n)
		answer["interval"] = 1
		return idptest.JSON(http.StatusOK, answer)
	}
	return p
}

func caddyfileAt(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestCommandCheck: each provider is asked once, whether gates name it or not,
// and one that is no good makes the command fail.
func TestCommandCheck(t *testing.T) {
	one, two := quick(t), quick(t)
	file := caddyfileAt(t, `{
	device_auth {
		provider first {
			issuer `+one.Issuer+`
			client_id gate
		}
		provider second {
			issuer `+two.Issuer+`
			client_id gate
		}
	}
}
http://a.localhost, http://b.localhost {
	device_auth first
	respond ok
}
http://c.localhost {
	device_auth first
	respond ok
}
`)
	out, err := command(t, "check", "--config", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, p := range []*idptest.Provider{one, two} {
		if n := len(p.Calls("/device")); n != 1 {
			t.Errorf("asked for %d codes", n)
		}
	}
	for _, want := range []string{"first: " + one.Issuer + " as gate\n", "second: " + two.Issuer + " as gate\n", "  ok     client: gate is let in (client_auth none)\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}

	two.Always("/device", idptest.Error(401, "invalid_client"))
	out, err = command(t, "check", "--config", file)
	if err == nil || err.Error() != "people cannot sign in at 1 of 2 identity providers" || !strings.Contains(out, "  wrong  sign-in: ") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = command(t, "check", "--config", file, "--provider", "first"); err != nil || strings.Contains(out, "second") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = command(t, "check", "--config", file, "--provider", two.Issuer); err == nil || strings.Contains(out, "first") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestCommandCheckMistakes: each says what to do.
func TestCommandCheckMistakes(t *testing.T) {
	gate := func(lines string) string {
		return "http://a.localhost {\n device_auth {\n issuer https://idp.example.com\n client_id gate\n" + lines + "\n }\n}\n"
	}
	two := "{\n device_auth {\n provider one {\n issuer https://a.example.com\n client_id gate\n }\n provider two {\n issuer https://b.example.com\n client_id gate\n }\n }\n}\n"
	for _, c := range []struct {
		name, text string
		args       []string
		want       string
	}{
		{"no gate", "http://a.localhost {\n respond ok\n}\n", nil, "no device_auth in this configuration"},
		{"nothing", "{\n admin off\n}\n", nil, "no device_auth in this configuration"},
		{"a mistake", gate("pkce sometimes"), nil, `pkce "sometimes" is none of`},
		{"an unset secret", gate("client_secret {env.THIS_IS_NOT_SET}"), nil, "THIS_IS_NOT_SET"},
		{"no such provider", two, []string{"--provider", "three"}, "one: https://a.example.com as gate; two: https://b.example.com as gate"},
		{"to try which", two, []string{"--try"}, "say which with --provider"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := command(t, append([]string{"check", "--config", caddyfileAt(t, c.text)}, c.args...)...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q\n%s", err, c.want, out)
			}
		})
	}
}

// TestCommandTry signs somebody in, shows what that tells, and signs them out.
func TestCommandTry(t *testing.T) {
	t.Setenv("GATE_SECRET", "secret-canary")
	p := quick(t)
	p.Claims = map[string]any{
		"preferred_username": "alice", "groups": []string{"staff", "the board"},
		"realm_access": map[string]any{"roles": []string{"admin"}}, "evil": "\x1b[2J",
	}
	p.Approve("")
	file := caddyfileAt(t, `http://a.localhost {
	device_auth {
		issuer `+p.Issuer+`
		client_id gate
		client_secret {env.GATE_SECRET}
		param device_name kiosk-{http.request.host}
		param audience api
		require groups staff
	}
	respond ok
}
http://b.localhost {
	device_auth {
		issuer `+p.Issuer+`
		client_id gate
		client_secret {env.GATE_SECRET}
		param device_name kiosk-{http.request.host}
		param audience api
		require groups nobody
	}
	respond ok
}
`)
	// an approval that comes before anybody was told is none of the check's
	p.Poll = func(n int, _ string) idptest.Reply { return idptest.Pending() }
	p.Decide("device-canary-2", p.Tokens(nil))
	p.Decide("", idptest.Pending())
	out, err := command(t, "check", "--try", "--config", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"\nWDJB-0002\n", p.Issuer + "/activate\n", "Signed in as alice (sub sub-alice).", `  preferred_username: "alice"` + "\n",
		"groups: staff, the board\n", "realm_access.roles: admin\n",
		"  let only those in who have one of them:  require groups staff `the board`\n", "  require realm_access.roles admin\n",
		"The gate on a.localhost", "lets them in.\n", "does not let them in: groups nobody does not hold.\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "canary") || strings.Contains(out, "\x1b[2J") {
		t.Errorf("it tells what it must not:\n%q", out)
	}
	for _, call := range p.Calls("/device") {
		if call.Form.Get("audience") != "api" || call.Form.Has("device_name") {
			t.Errorf("asked with %v", call.Form)
		}
	}
	if n := len(p.Calls("/revoke")); n != 2 {
		t.Errorf("%d tokens were revoked", n)
	}
}

// TestCommandTryDeclined: why nobody was signed in is told, in words.
func TestCommandTryDeclined(t *testing.T) {
	p := quick(t)
	p.Decide("device-canary-2", idptest.Error(400, "access_denied"))
	p.Decide("", idptest.Pending())
	file := caddyfileAt(t, "http://a.localhost {\n device_auth {\n issuer "+p.Issuer+"\n client_id gate\n }\n}\n")
	out, err := command(t, "check", "--try", "--config", file)
	if err == nil || !strings.HasPrefix(err.Error(), "The sign-in was declined.") || !strings.Contains(err.Error(), "access_denied") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestGroupsIn finds what is about groups, whatever it is called.
func TestGroupsIn(t *testing.T) {
	for text, want := range map[string]string{
		`{"groups":["a","b"]}`:                           "require groups a b",
		`{"group":"a"}`:                                  "require group a",
		`{"role":["a"],"sub":"x","scope":"a b"}`:         "require role a",
		`{"realm_access":{"roles":["a"]}}`:               "require realm_access.roles a",
		`{"resource_access":{"my-api":{"roles":["a"]}}}`: "require resource_access.my-api.roles a",
		`{"cognito:groups":["a"]}`:                       "require cognito:groups a",
		`{"urn:zitadel:iam:org:project:roles":{"b":{"1":"x"},"a":{"1":"x"},"none":{}}}`: "require urn:zitadel:iam:org:project:roles.a *|require urn:zitadel:iam:org:project:roles.b *",
		`{"https://example.com/roles":["a"]}`:                                           "require https://example.com/roles a",
		`{"memberOf":["cn=a b,dc=x"]}`:                                                  "require memberOf `cn=a b,dc=x`",
		`{"groups":[],"roles":null,"hasgroups":true,"controls":[]}`:                     "",
		`{"groups":[1,"a"],"wids":["w"]}`:                                               "require groups a|require wids w",
	} {
		var claims map[string]any
		if err := json.Unmarshal([]byte(text), &claims); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, rule := range groupsIn(claims, "") {
			got = append(got, requireLine(rule))
			if !rule.holds(claims) {
				t.Errorf("%s: %s does not hold", text, rule)
			}
		}
		if line := strings.Join(got, "|"); line != want {
			t.Errorf("%s: %q, want %q", text, line, want)
		}
	}
}

// TestSuggestedLines: what is to be copied holds for those names alone, can be
// written in a Caddyfile, and steers no terminal.
func TestSuggestedLines(t *testing.T) {
	for name, row := range map[string]struct{ claims, want string }{
		"a star would let others in":   {`{"groups":["*","adm*","staff"]}`, "require groups staff"},
		"nothing but a star":           {`{"groups":["*"]}`, ""},
		"a role with a star as its id": {`{"urn:roles":{"*":{"1":"x"},"a":{"1":"x"}}}`, "require urn:roles.a *"},
		"escape sequences":             {`{"groups":["\u001b[2J","\u202egroup","two\nlines","staff"]}`, "require groups staff"},
		"escape sequences in its name": {`{"\u001b]0;x\u0007 groups":["staff"]}`, ""},
		"a placeholder":                {`{"groups":["{env.HOME}","staff"]}`, "require groups staff"},
		"a quote that would be lost":   {"{\"groups\":[\"a`b\",\"staff\"]}", "require groups staff"},
		"the beginning of a heredoc":   {`{"groups":["<<staff"]}`, "require groups `<<staff`"},
	} {
		t.Run(name, func(t *testing.T) {
			var claims map[string]any
			if err := json.Unmarshal([]byte(row.claims), &claims); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			new(checked).report(&out, &session.Identity{Subject: "sub-alice", Claims: claims}, time.Now())
			var lines []string
			for line := range strings.Lines(out.String()) {
				if _, rule, found := strings.Cut(strings.TrimSuffix(line, "\n"), "one of them:  "); found {
					lines = append(lines, rule)
				}
			}
			if got := strings.Join(lines, "|"); got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
			if strings.ContainsAny(out.String(), "\x1b\u202e\a") {
				t.Errorf("%q", out.String())
			}
		})
	}
}
