// This file tests the command `caddy device-auth` against the admin endpoint of
// a Caddy in this process.

package caddydevice

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// command runs `caddy device-auth` with arguments.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	root := &cobra.Command{Use: "device-auth", SilenceUsage: true}
	deviceAuthCommand(root)
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// sessions runs a command about sessions at the test's admin endpoint.
func (a *admin) sessions(args ...string) (string, error) {
	a.t.Helper()
	return command(a.t, append(append([]string{"sessions"}, args...), "--address", a.addr)...)
}

func TestCommandList(t *testing.T) {
	a, g := startAdmin(t), newGate(t, nil)
	alice, over := g.terminal(), g.begun(curlHeaders)
	g.end(over, "denied", "declined")
	putOrphan(t, sharedStore(t), strings.Repeat("0", 64))
	for _, row := range []struct {
		args []string
		want []string // of each line, without its times
	}{
		{nil, []string{
			"0000000000000000 active - terminal old.example.com <b>zoë</b> https://gone.example.com old client",
			idOf(t, alice)[:16] + " active - terminal api.example.com sub-alice " + g.Issuer + " " + g.ClientID,
			idOf(t, over)[:16] + " denied declined terminal api.example.com - " + g.Issuer + " " + g.ClientID,
		}},
		{[]string{"--state", "denied"}, []string{idOf(t, over)[:16] + " denied declined terminal api.example.com - " + g.Issuer + " " + g.ClientID}},
		{[]string{"--provider", "https://gone.example.com old client"}, []string{"0000000000000000 active - terminal old.example.com <b>zoë</b> https://gone.example.com old client"}},
		{[]string{"--subject", "sub-alice", "--limit", "5000"}, []string{idOf(t, alice)[:16] + " active - terminal api.example.com sub-alice " + g.Issuer + " " + g.ClientID}},
		{[]string{"--subject", "nobody"}, nil},
	} {
		out, err := a.sessions(append([]string{"list"}, row.args...)...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if err != nil || !strings.HasPrefix(lines[0], "ID                STATE") && len(row.want) > 0 {
			t.Fatalf("%q: %v\n%s", row.args, err, out)
		}
		got := map[string]bool{}
		for _, line := range lines[1:] {
			times := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +(-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) `)
			got[strings.Join(strings.Fields(times.ReplaceAllString(line, "")), " ")] = true
		}
		for _, want := range row.want {
			if !got[want] {
				t.Errorf("%q does not show %q:\n%s", row.args, want, out)
			}
		}
		if len(got) != len(row.want) {
			t.Errorf("%q: %d lines, want %d:\n%s", row.args, len(got), len(row.want), out)
		}
	}
}

// TestCommandListFollowsPages up to its limit, and says where it has stopped.
func TestCommandListFollowsPages(t *testing.T) {
	a := startAdmin(t)
	newGate(t, nil)
	for i := range mostPage + 50 {
		putOrphan(t, sharedStore(t), fmt.Sprintf("%064x", i))
	}
	for _, row := range []struct {
		args  []string
		shown int
		more  bool
	}{
		{nil, defaultPage, true},
		{[]string{"--limit", "1020"}, 1020, true},
		{[]string{"--limit", "1050"}, 1050, false},
		{[]string{"--limit", "9999"}, 1050, false},
	} {
		out, err := a.sessions(append([]string{"list"}, row.args...)...)
		if err != nil || strings.Count(out, "gone.example.com") != row.shown || strings.Contains(out, "There may be more") != row.more {
			t.Errorf("%v: %v, %d lines", row.args, err, strings.Count(out, "\n"))
		}
		var page sessionPage
		out, err = a.sessions(append([]string{"list", "--json"}, row.args...)...)
		if err := json.Unmarshal([]byte(out), &page); err != nil {
			t.Fatalf("%v: %v\n%s", row.args, err, out)
		}
		if err != nil || len(page.Sessions) != row.shown || page.Next == "" == row.more || len(page.Sessions[0].ID) != 64 {
			t.Errorf("%v: %v, %d sessions, next %q", row.args, err, len(page.Sessions), page.Next)
		}
	}
}

// TestCommandListIsHarmless: what somebody is called at an identity provider
// steers no terminal and makes no line of its own.
func TestCommandListIsHarmless(t *testing.T) {
	a := startAdmin(t)
	newGate(t, nil)
	for i, subject := range []string{"\x1b[2Jx", "a\nb", "a\tb", "\u202eevil", "a\u0085b"} {
		rec := store.Record{ID: fmt.Sprintf("%064x", i), Version: 1, State: "active", Subject: subject, Until: time.Now().Add(25 * time.Hour)}
		if err := sharedStore(t).Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	out, err := a.sessions("list")
	if lines := strings.Count(out, "\n"); err != nil || lines != 6 || strings.ContainsAny(out, "\x1b\t\u202e\u0085\r") {
		t.Errorf("%v, %d lines: %q", err, lines, out)
	}
	for _, want := range []string{`"\x1b[2Jx"`, `"a\nb"`, `"a\tb"`, `"\u202eevil"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in %s", want, out)
		}
	}
}

func TestCommandEnd(t *testing.T) {
	a, g := startAdmin(t), newGate(t, nil)
	one, two, bob, rest := g.terminal(), g.terminal(), g.begun(curlHeaders), g.begun(curlHeaders)
	g.approveWith(bob, nil, func(id *session.Identity) { id.Subject = "sub-bob" })
	for _, row := range []struct {
		args []string
		want string
		let  map[string]bool
	}{
		{[]string{idOf(t, one)[:16]}, "ended: 1\n", map[string]bool{one: false, two: true, bob: true}},
		{[]string{"--subject", "sub-alice", "--provider", "https://other.example.com"}, "ended: 0\n", map[string]bool{two: true, bob: true}},
		{[]string{"--subject", "sub-alice", "--provider", g.Issuer + " " + g.ClientID}, "ended: 1\n", map[string]bool{two: false, bob: true}},
		{[]string{"--all", "--provider", "https://other.example.com"}, "ended: 0\n", map[string]bool{bob: true}},
		{[]string{"--all"}, "ended: 2\n", map[string]bool{bob: false, rest: false}},
	} {
		if out, err := a.sessions(append([]string{"end"}, row.args...)...); err != nil || out != row.want {
			t.Errorf("%v: %v, %q", row.args, err, out)
		}
		g.wantLet(fmt.Sprint(row.args), row.let)
	}
}

// TestCommandMistakes end nothing, and say what to do.
func TestCommandMistakes(t *testing.T) {
	a, g := startAdmin(t), newGate(t, nil)
	key := g.terminal()
	off := filepath.Join(t.TempDir(), "off.json")
	on := filepath.Join(t.TempDir(), "on.json")
	for file, text := range map[string]string{off: `{"admin":{"disabled":true}}`, on: `{"admin":{"listen":"` + a.addr + `"}}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	here := []string{"--address", a.addr}
	nobody := freeAddress(t)
	for _, row := range []struct {
		args  []string
		words string
	}{
		{append([]string{"end"}, here...), "an id, --subject or --all"},
		{append([]string{"end", "--provider", g.Issuer}, here...), "an id, --subject or --all"},
		{append([]string{"end", "--subject", ""}, here...), "subject is empty"},
		{append([]string{"end", "--all", "--provider", ""}, here...), "provider is empty"},
		{append([]string{"end", "--all", "--subject", "sub-alice"}, here...), "keep one"},
		{append([]string{"end", idOf(t, key), "--all"}, here...), "leave --subject, --provider and --all out"},
		{append([]string{"end", idOf(t, key), "--subject", "x"}, here...), "leave --subject, --provider and --all out"},
		{append([]string{"end", idOf(t, key), "other"}, here...), "accepts at most 1 arg"},
		{append([]string{"end", idOf(t, key)[:5]}, here...), "8 to 64"},
		{append([]string{"end", "../config"}, here...), "8 to 64"},
		{append([]string{"end", ""}, here...), "an id, --subject or --all"},
		{append([]string{"end", "0000000000"}, here...), "no session's id begins with"},
		{append([]string{"list", "--state", "alive"}, here...), "no session is ever"},
		{append([]string{"list", "--limit", "0"}, here...), "at least 1"},
		{append([]string{"list", "x"}, here...), "unknown command"},
		{[]string{"list", "--address", nobody}, "asking Caddy at " + nobody},
		{[]string{"end", "--all", "--address", nobody}, "admin endpoint on"},
		{[]string{"list", "--config", off}, "turns the admin endpoint off"},
		{[]string{"list", "--config", off + "x"}, "no such file"},
	} {
		out, err := command(t, append([]string{"sessions"}, row.args...)...)
		if err == nil || !strings.Contains(err.Error(), row.words) {
			t.Errorf("%q: %v, want %q\n%s", row.args, err, row.words, out)
		}
	}
	g.wantLet("mistakes", map[string]bool{key: true})
	if out, err := command(t, "sessions", "list", "--config", on); err != nil || !strings.Contains(out, "sub-alice") {
		t.Errorf("by a configuration: %v\n%s", err, out)
	}
}
