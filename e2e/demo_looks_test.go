// This file looks at the pages of the demo, as somebody sees them who has just
// typed make demo.
package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
	"github.com/caddydevice/device-auth/e2e/internal/ports"
	"github.com/caddydevice/device-auth/e2e/internal/proc"
)

// startDemo runs the demo and returns the address of its gate.
func startDemo(ctx context.Context, t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "demo")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "examples", "demo")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the demo: %v: %s", err, out)
	}
	gate := ports.Free(t)
	demo := proc.Start(t, "the demo", exec.Command(program, "-gate", gate, "-idp", ports.Free(t), "-upstream", ports.Free(t)))
	if _, err := demo.WaitFor(ctx, "The demo is running"); err != nil {
		t.Fatal(err)
	}
	return "http://localhost:" + gate + "/"
}

func TestDemoLooks(t *testing.T) {
	t.Parallel()
	s := emptyStage(t)
	wall := startDemo(s.ctx, t)
	for _, on := range []screen{screens[1], screens[2], screens[5], screens[6]} {
		t.Run(on.name, func(t *testing.T) {
			l := s.newLooker(t, on)
			l.open(wall)
			l.shows("pending", "code of the demo")
			l.speaks(wall)
			shot, err := l.Screenshot(l.ctx)
			l.must(err)
			l.approveAtDemo(chrome.ScanQR(t, shot))
			l.shows("active", "welcome from the demo")
			l.must(l.WaitURL(l.ctx, func(at string) bool { return at == wall }))
			l.wantNoScriptErrors()
		})
	}
}

// approveAtDemo is what Alice does with the address that her phone has read.
func (l *looker) approveAtDemo(address string) {
	l.t.Helper()
	phone := chrome.Start(l.t, chrome.Options{Width: 390, Height: 844})
	if !strings.Contains(address, l.userCode()) {
		l.t.Errorf("the QR code holds %q", address)
	}
	l.must(phone.Open(l.ctx, address))
	l.must(phone.Click(l.ctx, "button"))
	l.must(phone.Type(l.ctx, "input[name=username]", "alice"))
	l.must(phone.Type(l.ctx, "input[name=password]", "alice-demo"))
	l.must(phone.Click(l.ctx, "button"))
	l.must(phone.Click(l.ctx, "button[value=approve]"))
}
