// This file reads QR codes as a phone would.
package chrome

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ScanQR is what the QR code in a picture (PNG) says; the test fails where the
// picture has none.
func ScanQR(t testing.TB, picture []byte) string {
	t.Helper()
	if _, err := exec.LookPath("zbarimg"); err != nil {
		t.Fatal("zbarimg is not installed: run make deps")
	}
	name := filepath.Join(t.TempDir(), "qr.png")
	if err := os.WriteFile(name, picture, 0o600); err != nil {
		t.Fatal(err)
	}
	// Lines of text pass for bar codes at times, so only QR codes are looked for.
	out, err := exec.CommandContext(t.Context(), "zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", name).Output()
	if err != nil {
		t.Fatalf("zbarimg finds no code: %v", err)
	}
	return strings.TrimSuffix(string(out), "\n")
}
