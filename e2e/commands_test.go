// This file shows the command line of a Caddy with this module: what an
// operator runs before and beside the server.
package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/gate"
)

// ran is what a command of Caddy's wrote, and how it ended.
type ran struct {
	out, errs string
	code      int
}

// runCaddy runs a command in a home of its own.
func runCaddy(t *testing.T, home string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), gate.Binary(t), args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home,
		"XDG_DATA_HOME=" + filepath.Join(home, "data"), "XDG_CONFIG_HOME=" + filepath.Join(home, "config"),
	}
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ran{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func TestCommandsNameTheModule(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	modules := runCaddy(t, home, "list-modules")
	listed := strings.Fields(modules.out)
	for _, id := range []string{"http.handlers.device_auth", "device_auth", "device_auth.stores.bolt", "device_auth.stores.memory", "admin.api.device_auth"} {
		if modules.code != 0 || !slices.Contains(listed, id) {
			t.Errorf("list-modules ends with %d and does not list %s", modules.code, id)
		}
	}
	info := runCaddy(t, home, "build-info")
	if info.code != 0 || !slices.Contains(strings.Fields(info.out), "github.com/caddydevice/device-auth") {
		t.Errorf("build-info ends with %d and does not name the module", info.code)
	}
	for _, row := range []struct{ command, words string }{
		{"", "device-auth"},
		{"device-auth", "sessions"},
		{"device-auth sessions list", "caddy device-auth sessions list --state active"},
		{"device-auth sessions end", "caddy device-auth sessions end --subject alice"},
	} {
		got := runCaddy(t, home, append(strings.Fields(row.command), "--help")...)
		if got.code != 0 || !strings.Contains(got.out, row.words) {
			t.Errorf("%s --help: %+v", row.command, got)
		}
	}
}

// writeCaddyfile puts a text into a file named Caddyfile.
func writeCaddyfile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// siteWith is a Caddyfile whose directive holds the lines from line 5 on.
func siteWith(lines string) string {
	return "http://localhost:9080 {\n\tdevice_auth {\n\t\tissuer https://idp.example.com\n\t\tclient_id gate\n" + lines + "\n\t}\n\treverse_proxy localhost:8080\n}\n"
}

func TestCommandAdapt(t *testing.T) {
	t.Parallel()
	got := runCaddy(t, t.TempDir(), "adapt", "--config", writeCaddyfile(t, siteWith("\t\tpkce on")))
	if got.code != 0 || !json.Valid([]byte(got.out)) || !strings.Contains(got.out, `"handler":"device_auth"`) || !strings.Contains(got.out, `"pkce":"on"`) {
		t.Fatalf("%+v", got)
	}
	for _, tc := range []struct {
		name, caddyfile string
		words           []string // on stderr: the place, and what to do
	}{
		{"unknown line", siteWith("\t\tisuer x"), []string{"Caddyfile:5", `unrecognized subdirective "isuer"`}},
		{"no number", siteWith("\t\tlimits {\n\t\t\tstarts many 1m\n\t\t}"), []string{"Caddyfile:6", "like `starts 10 1m`"}},
		{"no issuer", strings.Replace(siteWith(""), "issuer https://idp.example.com\n", "\n", 1), []string{"Caddyfile:6", "issuer is missing: add a line like"}},
		{"no URL", strings.Replace(siteWith(""), "https://idp", "idp", 1), []string{"Caddyfile:3", "must start with https://"}},
		{"twice", siteWith("\t\tclient_id other"), []string{"Caddyfile:5", "client_id is there twice: keep one"}},
		{"store to come", "{\n\tdevice_auth {\n\t\tstore redis localhost:6379\n\t}\n}\n" + siteWith(""), []string{"Caddyfile:3", "use bolt"}},
		{"store with too much", "{\n\tdevice_auth {\n\t\tstore bolt a b\n\t}\n}\n" + siteWith(""), []string{"Caddyfile:3", "it takes one path"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := runCaddy(t, t.TempDir(), "adapt", "--config", writeCaddyfile(t, tc.caddyfile))
			if got.code == 0 || got.out != "" {
				t.Errorf("it ends with %d, after\n%s", got.code, got.out)
			}
			for _, words := range tc.words {
				if !strings.Contains(strings.ReplaceAll(got.errs, `\"`, `"`), words) {
					t.Errorf("%q is not in\n%s", words, got.errs)
				}
			}
		})
	}
}

// TestCommandValidate asks nobody and leaves nothing behind: it may run beside
// a server, and on a machine that reaches no identity provider.
func TestCommandValidate(t *testing.T) {
	t.Parallel()
	issuer, asked := countedListener(t)
	home := t.TempDir()
	got := runCaddy(t, home, "validate", "--config", writeCaddyfile(t, strings.Replace(siteWith(""), "https://idp.example.com", issuer, 1)))
	if got.code != 0 || !strings.Contains(got.out+got.errs, "Valid configuration") {
		t.Errorf("%+v", got)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the issuer was asked %d times", n)
	}
	wantNoFiles(t, filepath.Join(home, "data"))
}

// countedListener is an address on loopback that counts who connects.
func countedListener(t *testing.T) (string, *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String(), &n
}

// wantNoFiles fails for each file below a directory, which may be missing.
func wantNoFiles(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() || strings.Contains(path, "device_auth") {
			t.Errorf("%s was made", path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCommandValidateMistakes(t *testing.T) {
	t.Parallel()
	good := siteWith("")
	for _, tc := range []struct{ name, caddyfile, words string }{
		{"unset placeholder", siteWith("\t\tclient_secret {env.NOT_SET_ANYWHERE}"), "set the variable NOT_SET_ANYWHERE for Caddy's process"},
		{"a code's life", siteWith("\t\tlimits {\n\t\t\tcode 5s\n\t\t}"), "must be between 1m and 1h"},
		{"prefix", siteWith("\t\tpath_prefix /a/../b/"), "must start with /, not end with one, and be plain"},
		{"issuer without TLS", strings.Replace(good, "https://idp.example.com", "http://idp.example.com", 1), "https"},
		{"cookie without TLS", strings.Replace(good, "http://localhost:9080", "http://app.example.com:9080", 1), "insecure_cookie"},
		{"unset path of the store", "{\n\tdevice_auth {\n\t\tstore bolt {env.NOT_SET_ANYWHERE}/sessions.db\n\t}\n}\n" + good, "store bolt: path"},
		{
			"gates that disagree", good + strings.NewReplacer("9080", "9081").Replace(siteWith("\t\tpkce off")),
			"so make these lines equal",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			got := runCaddy(t, home, "validate", "--config", writeCaddyfile(t, tc.caddyfile))
			if got.code == 0 || !strings.Contains(got.errs, tc.words) || strings.Contains(got.out+got.errs, "Valid configuration") {
				t.Errorf("it ends with %d, without %q:\n%s", got.code, tc.words, got.errs)
			}
			wantNoFiles(t, filepath.Join(home, "data"))
		})
	}
}

// TestCommandFmt: what people copy is as `caddy fmt` would leave it.
func TestCommandFmt(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "examples", "*", "Caddyfile"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no examples: %v", err)
	}
	for _, file := range append(files, filepath.Join("..", "Caddyfile.example")) {
		t.Run(filepath.ToSlash(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := runCaddy(t, t.TempDir(), "fmt", file); got.out != string(text) {
				t.Errorf("caddy fmt changes it (%d):\n%s%s", got.code, got.out, got.errs)
			}
		})
	}
}
