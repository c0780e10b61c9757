// This file tests a program that ends by itself, and one that does not.
package proc_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddydevice/device-auth/e2e/internal/proc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	short := proc.Start(t, "short", exec.Command("sh", "-c", "echo one; echo two >&2; printf three; exit 7"))
	if line, err := short.WaitFor(ctx, "thr"); err != nil || line != "three" {
		t.Errorf("%q, %v", line, err)
	}
	if _, err := short.WaitFor(ctx, "four"); !errors.Is(err, proc.ErrEnded) {
		t.Errorf("%v", err)
	}
	if got := strings.Join(short.Lines(), " "); got != "one two three" || short.ExitCode() != 7 {
		t.Errorf("%q, code %d", got, short.ExitCode())
	}

	long := proc.Start(t, "long", exec.Command("sh", "-c", "echo up; exec sleep 600"))
	if _, err := long.WaitFor(ctx, "up"); err != nil {
		t.Fatal(err)
	}
	soon, cancelSoon := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancelSoon()
	if _, err := long.WaitFor(soon, "never"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	long.Stop(t)
	if code := long.ExitCode(); code != -1 {
		t.Errorf("code %d", code)
	}
}
