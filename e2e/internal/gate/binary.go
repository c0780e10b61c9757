// This file builds the gateway's Caddy, once for all tests of a package.
package gate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

var build struct {
	once sync.Once
	dir  string
	err  error
}

// Main is the TestMain of a package that uses this one: it runs the tests,
// checks that no goroutine is left, and removes the binary.
func Main(m *testing.M) {
	dir, err := os.MkdirTemp("", "gate-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	build.dir = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// Binary builds e2e/cmd/caddy with the race detector and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	build.once.Do(func() { build.err = buildBinary() })
	if build.err != nil {
		t.Fatal(build.err)
	}
	return filepath.Join(build.dir, "caddy")
}

func buildBinary() error {
	if build.dir == "" {
		return errors.New("the package's TestMain must call gate.Main")
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("looking for the module: %w", err)
	}
	cmd := exec.Command("go", "build", "-race", "-o", filepath.Join(build.dir, "caddy"), "./cmd/caddy")
	cmd.Dir = filepath.Dir(strings.TrimSpace(string(mod)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the gateway: %w\n%s", err, out)
	}
	return nil
}
