// Package gate runs the gateway, a real Caddy process with this project's
// module, for a test.
package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/ports"
	"github.com/caddydevice/device-auth/e2e/internal/proc"
)

// startTime bounds a start; the race detector makes Caddy slow.
const startTime = 60 * time.Second

// startTries is how often a start is repeated where a port was taken in
// between.
const startTries = 5

// trouble is what no run may write.
var trouble = regexp.MustCompile(`DATA RACE|panic: |panic serving|fatal error: |runtime error: `)

// Options say what to run. The Caddyfile may use {$GATE_PORT} and
// {$GATE_PORT_2}, free ports on loopback, and whatever Env holds as {$NAME}.
// Admin and logging are set by this package.
type Options struct {
	Caddyfile string
	Env       map[string]string
	Home      string // shared or kept state: the HOME of an earlier gate; a new one unless set
}

// Gate is one gateway.
type Gate struct {
	Home string // HOME and the XDG directories of the process

	env       map[string]string
	caddyfile string
	config    string    // the file that caddyfile was adapted to; "" where it was not yet
	ports     [3]string // the third is for the redirects of TLS sites
	socket    string
	earlier   []string // the log of earlier runs
	process   *proc.Process
}

// Start runs a gateway until the test ends. The test fails if it does not
// start, and if its log shows a data race or a panic.
func Start(t testing.TB, o Options) *Gate {
	t.Helper()
	g := &Gate{Home: o.Home, env: o.Env, caddyfile: o.Caddyfile, socket: filepath.Join(shortDir(t), "admin")}
	if g.Home == "" {
		g.Home = t.TempDir()
	}
	t.Cleanup(func() { g.checkLog(t) }) // runs after the process has ended
	for try := 1; ; try++ {
		g.ports = freePorts(t)
		err := g.run(t)
		if err == nil {
			return g
		}
		if try == startTries || !strings.Contains(g.LogText(), "address already in use") {
			t.Fatal(err)
		}
		g.earlier, g.config = g.Lines(), ""
	}
}

// Port is what {$GATE_PORT} stood for, Port2 what {$GATE_PORT_2} did.
func (g *Gate) Port() string { return g.ports[0] }

// Port2 is the second port.
func (g *Gate) Port2() string { return g.ports[1] }

// URL is the address of the first port by the name localhost, over plain HTTP.
func (g *Gate) URL() string { return "http://localhost:" + g.ports[0] }

// AdminSocket is where the admin API listens.
func (g *Gate) AdminSocket() string { return g.socket }

// RootCA is the file with the certificate of Caddy's own authority, for sites
// with `tls internal`.
func (g *Gate) RootCA() string {
	return filepath.Join(g.Home, "data", "caddy", "pki", "authorities", "local", "root.crt")
}

// Stop ends the gateway as an operator would, and waits.
func (g *Gate) Stop(t testing.TB) {
	t.Helper()
	g.process.Stop(t)
}

// Kill ends it as a crash would.
func (g *Gate) Kill() { g.process.Kill() }

// StartAgain starts a stopped gateway with its state, ports and configuration.
func (g *Gate) StartAgain(t testing.TB) {
	t.Helper()
	g.process.Kill()
	g.earlier = g.Lines()
	if err := g.run(t); err != nil {
		t.Fatal(err)
	}
}

// Reload loads another Caddyfile into the running gateway.
func (g *Gate) Reload(t testing.TB, caddyfile string) {
	t.Helper()
	if err := g.TryReload(t, caddyfile); err != nil {
		t.Fatal(err)
	}
}

// TryReload is Reload for a configuration that may be refused.
func (g *Gate) TryReload(t testing.TB, caddyfile string) error {
	t.Helper()
	config, err := g.adapt(t, caddyfile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	if err := g.load(ctx, config); err != nil {
		return err
	}
	g.caddyfile, g.config = caddyfile, ""
	return g.waitForListener(ctx)
}

func (g *Gate) load(ctx context.Context, config []byte) error {
	if _, err := g.admin(ctx, http.MethodPost, "/load", config); err != nil {
		return fmt.Errorf("reloading the gateway: %w", err)
	}
	return nil
}

// admin asks the admin API of the gateway.
func (g *Gate) admin(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", g.socket)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	// Without it Caddy does nothing for a configuration that has not changed.
	req.Header.Set("Cache-Control", "must-revalidate")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, answer)
	}
	return answer, err
}

func (g *Gate) run(t testing.TB) error {
	t.Helper()
	if g.config == "" {
		config, err := g.adapt(t, g.caddyfile)
		if err != nil {
			return err
		}
		g.config = filepath.Join(t.TempDir(), "caddy.json")
		if err := os.WriteFile(g.config, config, 0o600); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	g.process = proc.Start(t, "gateway", g.command("run", "--config", g.config))
	if _, err := g.process.WaitFor(ctx, `"msg":"serving initial configuration"`); err != nil {
		return fmt.Errorf("starting the gateway: %w", err)
	}
	return waitForCertificates(ctx, g.process.Lines())
}

func (g *Gate) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(build.dir, "caddy"), args...)
	cmd.Dir = g.Home
	env := map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": g.Home,
		"XDG_DATA_HOME": filepath.Join(g.Home, "data"), "XDG_CONFIG_HOME": filepath.Join(g.Home, "config"),
		"GATE_PORT": g.ports[0], "GATE_PORT_2": g.ports[1],
		// Go on after a race: the log shall hold all of them.
		"GORACE": "halt_on_error=0",
	}
	maps.Copy(env, g.env)
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// adapt turns a Caddyfile into JSON with the real adapter, then sets admin and
// logging there, so that a test's text is free of both.
func (g *Gate) adapt(t testing.TB, caddyfile string) ([]byte, error) {
	t.Helper()
	Binary(t)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(caddyfile), 0o600); err != nil {
		return nil, err
	}
	var errs bytes.Buffer
	cmd := g.command("adapt", "--config", file, "--adapter", "caddyfile")
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("adapting the Caddyfile: %w: %s", err, errs.String())
	}
	var config map[string]any
	if err := json.Unmarshal(out, &config); err != nil {
		return nil, fmt.Errorf("adapting the Caddyfile: %w", err)
	}
	if err := g.settle(config); err != nil {
		return nil, err
	}
	return json.Marshal(config)
}

// settle sets what a test process needs: an admin socket of its own, a log
// that tells everything, and nothing that touches the machine.
func (g *Gate) settle(config map[string]any) error {
	config["admin"] = map[string]any{"listen": "unix/" + g.socket, "config": map[string]any{"persist": false}}
	log := member(member(member(config, "logging"), "logs"), "default")
	log["level"] = "DEBUG"
	log["writer"] = map[string]any{"output": "stderr"}
	log["encoder"] = map[string]any{"format": "json"}
	apps := member(config, "apps")
	// The redirects of TLS sites would take port 80.
	if web := member(apps, "http"); web["http_port"] == nil {
		port, err := strconv.Atoi(g.ports[2])
		if err != nil {
			return err
		}
		web["http_port"] = port
	}
	// The machine's trust store is not ours to change.
	member(member(member(apps, "pki"), "certificate_authorities"), "local")["install_trust"] = false
	return nil
}

func member(object map[string]any, name string) map[string]any {
	inner, ok := object[name].(map[string]any)
	if !ok {
		inner = map[string]any{}
		object[name] = inner
	}
	return inner
}

// Validate runs `caddy validate` on a Caddyfile and returns what it wrote; the
// error says that it refused. With the Home of a running gate it has that one's
// data directory.
func Validate(t testing.TB, o Options) (string, error) {
	t.Helper()
	Binary(t)
	g := &Gate{Home: o.Home, env: o.Env, ports: freePorts(t)}
	if g.Home == "" {
		g.Home = t.TempDir()
	}
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(o.Caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := g.command("validate", "--config", file, "--adapter", "caddyfile").CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err
}

func freePorts(t testing.TB) [3]string {
	t.Helper()
	return [3]string{ports.Free(t), ports.Free(t), ports.Free(t)}
}

// shortDir is for sockets: their path may have 107 bytes only, and t.TempDir
// holds the test's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gate-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
