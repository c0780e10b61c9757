// This file tests how a gateway proves to the identity provider which client it
// is.

package caddydevice

import (
	"os"
	"path/filepath"
	"testing"
)

// TestClientSecretFile: the secret is what the file holds, but for one newline
// at its end, and nothing in it is taken for a placeholder.
func TestClientSecretFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DEVICE_AUTH_TEST_DIR", dir)
	for name, row := range map[string]struct{ content, want string }{
		"plain": {"canary", "canary"}, "newline": {"canary\n", "canary"}, "newline of Windows": {"canary\r\n", "canary"},
		"blanks": {" canary ", " canary "}, "braces": {"{env.DEVICE_AUTH_TEST_DIR}", "{env.DEVICE_AUTH_TEST_DIR}"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(row.content), 0o600); err != nil {
				t.Fatal(err)
			}
			g := newGate(t, map[string]any{"client_secret_file": "{env.DEVICE_AUTH_TEST_DIR}/secret", "client_auth": "post"})
			g.begun(curlHeaders)
			if got := g.idp.Calls("/device")[0].Form.Get("client_secret"); got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
}
