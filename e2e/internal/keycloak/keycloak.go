// Package keycloak runs a real Keycloak for a test, and does there what an
// administrator does in the console.
package keycloak

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/ports"
	"github.com/caddydevice/device-auth/e2e/internal/proc"
)

// startTime bounds a start. The first one of an installation takes half a
// minute more, on a machine that has nothing else to do.
const startTime = 4 * time.Minute

const adminUser = "admin"

// Server is one Keycloak in development mode; Stop and StartAgain keep its port
// and its realms.
type Server struct {
	password  string // of the administrator
	data      string
	port      string
	process   *proc.Process
	admin     *http.Client
	token     adminToken
	importing sync.Mutex
}

// Start runs a Keycloak until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{password: rand.Text(), data: t.TempDir(), port: ports.Free(t)}
	transport := &http.Transport{} // none of the environment's proxies
	t.Cleanup(transport.CloseIdleConnections)
	s.admin = &http.Client{Transport: transport, Timeout: time.Minute}
	s.run(t)
	return s
}

// URL is where Keycloak listens. It takes its own name from each request's
// Host, so behind a recorder its issuers are at the recorder's address.
func (s *Server) URL() string { return "http://127.0.0.1:" + s.port }

// Stop ends Keycloak; its realms and users stay on disk.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.process.Stop(t)
}

// StartAgain starts a stopped Keycloak on its old port.
func (s *Server) StartAgain(t testing.TB) {
	t.Helper()
	s.run(t)
}

func (s *Server) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	s.process = proc.Start(t, "keycloak", s.command(t))
	if _, err := s.process.WaitFor(ctx, "Listening on: "); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) command(t testing.TB) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(home(t), "bin", "kc.sh"), "start-dev",
		"--http-host=127.0.0.1", "--http-port="+s.port,
		"--db-url=jdbc:h2:file:"+filepath.Join(s.data, "keycloak")+";NON_KEYWORDS=VALUE;DB_CLOSE_ON_EXIT=FALSE")
	cmd.Env = append(os.Environ(),
		"KC_BOOTSTRAP_ADMIN_USERNAME="+adminUser, "KC_BOOTSTRAP_ADMIN_PASSWORD="+s.password,
		// a short life: quick to compile counts more than quick to run
		"JAVA_OPTS_APPEND=-XX:TieredStopAtLevel=1")
	return cmd
}

// home is where `make deps` has put Keycloak.
func home(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "caddydevice", "keycloak")
	if _, err := os.Stat(filepath.Join(dir, "bin", "kc.sh")); err != nil {
		t.Fatalf("Keycloak is not installed: run make deps (%v)", err)
	}
	return dir
}

// Version is Keycloak's own word for which one it is, such as 26.7.4.
func Version(t testing.TB) string {
	t.Helper()
	word, err := os.ReadFile(filepath.Join(home(t), "version.txt"))
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(strings.TrimSpace(string(word)), "Version ")
	return version
}
