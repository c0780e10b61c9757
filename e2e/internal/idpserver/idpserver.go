// Package idpserver runs a real OpenID provider (node oidc-provider) for a
// test, and plays the person who signs in there.
package idpserver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/e2e/internal/pki"
	"github.com/caddydevice/device-auth/e2e/internal/ports"
	"github.com/caddydevice/device-auth/e2e/internal/proc"
)

// The clients that the provider knows, named by how they authenticate.
const (
	PublicClient = "e2e-public"
	BasicClient  = "e2e-basic"
	PostClient   = "e2e-post"

	// These are there with Options.ClientKeys, and the last two with TLS.
	KeyClient         = "e2e-key"         // signs with one of the keys
	CertificateClient = "e2e-certificate" // has a certificate of TLS.ClientCA for ClientHost
	SelfSignedClient  = "e2e-self-signed" // has the certificate of one of the keys
)

// ClientHost is the name in the certificate of CertificateClient.
const ClientHost = "gateway.example.com"

// The accounts; their passwords are the name with "-password". Both are in the
// group staff, alice also in admins.
const (
	Alice         = "alice"
	AlicePassword = "alice-password"
	Bob           = "bob"
	BobPassword   = "bob-password"
)

// startTime bounds how long a start may take, on a machine busy with other tests.
const startTime = 60 * time.Second

// exitPortTaken is what server.mjs ends with where another program holds the port.
const exitPortTaken = 98

// Options say how the provider behaves; the zero value is a good start.
type Options struct {
	NoDeviceFlow     bool          // there is no device grant
	Issuer           string        // its own address unless set; a recorder's address in most tests
	DeviceCodeLife   time.Duration // 10 minutes unless set; whole seconds
	AccessTokenLife  time.Duration // 1 hour unless set; the ID token's too; whole seconds
	KeepRefreshToken bool          // a refresh token is good for any number of refreshes
	ClientKeys       []jose.JSONWebKey
	TLS              *TLS // plain HTTP unless set
}

// TLS says how the provider speaks it. It asks for a client's certificate, but
// answers those without one too.
type TLS struct {
	Pair     *pki.Pair // its own
	ClientCA *pki.Pair // signs the clients' certificates
}

// Server is one provider; Stop and StartAgain keep its port. What is exported
// may be changed while it is stopped.
type Server struct {
	Secret               string // of the confidential clients
	BackchannelLogoutURI string // where it sends logout tokens; nowhere unless set

	options  Options
	script   string
	stateDir string
	port     string
	process  *proc.Process
	client   *http.Client
}

// Start runs a provider until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{Secret: "e2e-secret-" + rand.Text(), options: o, script: script(t), stateDir: t.TempDir(), port: ports.Free(t), client: http.DefaultClient}
	if o.TLS != nil {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: o.TLS.ClientCA.Pool()}}
		t.Cleanup(transport.CloseIdleConnections)
		s.client = &http.Client{Transport: transport}
	}
	s.run(t)
	return s
}

// URL is where the provider really listens, whatever its issuer is.
func (s *Server) URL() string {
	if s.options.TLS != nil {
		return "https://127.0.0.1:" + s.port
	}
	return "http://127.0.0.1:" + s.port
}

// Stop ends the provider; what it remembers stays on disk.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.process.Stop(t)
}

// StartAgain starts a stopped provider on its old port with all that it knew.
func (s *Server) StartAgain(t testing.TB) {
	t.Helper()
	select {
	case <-s.process.Done():
	default:
		t.Fatal("the provider is still running: stop it first")
	}
	s.run(t)
}

// LoseState makes a stopped provider forget codes, tokens, grants and
// sign-ins; it keeps its signing keys.
func (s *Server) LoseState(t testing.TB) { s.remove(t, "state.json") }

// LoseKeys makes a stopped provider come back with new signing keys.
func (s *Server) LoseKeys(t testing.TB) { s.remove(t, "keys.json") }

func (s *Server) remove(t testing.TB, name string) {
	t.Helper()
	select {
	case <-s.process.Done():
	default:
		t.Fatal("the provider is still running: stop it first")
	}
	if err := os.Remove(filepath.Join(s.stateDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func (s *Server) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	for {
		s.process = proc.Start(t, "oidc-provider", s.command(t))
		line, err := s.awaitReady(ctx)
		if err == nil {
			s.port = strings.TrimPrefix(line, "ready ")
			break
		}
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			s.process.Kill() // it hangs; another one will not
			continue
		}
		// Between Stop and StartAgain another program may hold the port for a while.
		if !errors.Is(err, proc.ErrEnded) || s.process.ExitCode() != exitPortTaken {
			t.Fatal(err)
		}
	}
	if err := s.answers(ctx); err != nil {
		t.Fatal(err)
	}
}

// awaitReady gives one process a third of the time that there is.
func (s *Server) awaitReady(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime/3)
	defer cancel()
	return s.process.WaitFor(ctx, "ready ")
}

func (s *Server) command(t testing.TB) *exec.Cmd {
	t.Helper()
	args := []string{s.script, s.port}
	if s.options.Issuer != "" {
		args = append(args, s.options.Issuer)
	}
	cmd := exec.Command("node", args...)
	cmd.Dir = filepath.Dir(s.script)
	cmd.Env = append(os.Environ(),
		"E2E_SECRET="+s.Secret,
		"E2E_STATE_DIR="+s.stateDir,
		"E2E_DEVICE_CODE_LIFE="+seconds(s.options.DeviceCodeLife),
		"E2E_ACCESS_TOKEN_LIFE="+seconds(s.options.AccessTokenLife),
		"E2E_BACKCHANNEL_LOGOUT_URI="+s.BackchannelLogoutURI,
	)
	if s.options.KeepRefreshToken {
		cmd.Env = append(cmd.Env, "E2E_KEEP_REFRESH_TOKEN=yes")
	}
	if s.options.NoDeviceFlow {
		cmd.Env = append(cmd.Env, "E2E_NO_DEVICE_FLOW=yes")
	}
	if s.options.ClientKeys != nil {
		keys, err := json.Marshal(jose.JSONWebKeySet{Keys: s.options.ClientKeys})
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, "E2E_CLIENT_KEYS="+string(keys))
	}
	if tls := s.options.TLS; tls != nil {
		cmd.Env = append(cmd.Env, "E2E_TLS_CERT="+tls.Pair.CertFile, "E2E_TLS_KEY="+tls.Pair.KeyFile, "E2E_TLS_CLIENT_CA="+tls.ClientCA.CertFile)
	}
	return cmd
}

// answers checks that discovery really works before a test depends on it.
func (s *Server) answers(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/.well-known/openid-configuration", nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the provider for discovery: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asking the provider for discovery: status %d", resp.StatusCode)
	}
	return nil
}

// script finds server.mjs from any package of this module, and checks that its
// packages are installed: a test that needs them must not pass without them.
func script(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("looking for the module: %v", err)
	}
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "oidcprovider")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "oidc-provider", "package.json")); err != nil {
		t.Fatal("the packages of the provider are not installed: run make deps")
	}
	return filepath.Join(dir, "server.mjs")
}

func seconds(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return strconv.Itoa(max(1, int(d/time.Second)))
}
