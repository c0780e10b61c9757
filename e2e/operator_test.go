// This file shows an operator who sees and ends sessions: the lines of the
// README, with the real command and curl, at a gateway that people use.
package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/gate"
)

var operatorSection = regexp.MustCompile(`(?ms)^## Sessions: see them, end them\n(.*?)^## `)

func TestOperator(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	laptop, desktop, late := s.signIn(t), s.signIn(t), s.startJSON(t, "/")

	listed := s.operate(t, "caddy device-auth sessions list --state active")
	rows := regexp.MustCompile(`(?m)^([0-9a-f]{16}) +active +- +terminal +localhost +id-of-alice .* `+regexp.QuoteMeta(s.rec.URL())).FindAllStringSubmatch(listed, -1)
	if len(rows) != 2 || strings.Contains(listed, "pending") {
		t.Fatalf("two sessions are active:\n%s", listed)
	}
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	section := operatorSection.FindStringSubmatch(string(text))
	if section == nil {
		t.Fatal("the README has no section of that name")
	}
	var printed []string
	for _, block := range shellBlock.FindAllStringSubmatch(section[1], -1) {
		printed = append(printed, s.operate(t, strings.NewReplacer(
			"6b1f20ce9a44d013", rows[0][1], "248289761001", "id-of-alice",
			"'http://localhost:2019/", "-fsS --unix-socket "+s.gate.AdminSocket()+" 'http://localhost/",
		).Replace(block[1])))
	}
	want := []string{listed, "ended: 1\nended: 1\nended: 1\n", "{\"sessions\":[]}\n{\"ended\":0}\n"}
	for i, got := range printed {
		if i >= len(want) || got != want[i] {
			t.Errorf("block %d prints\n%s", i+1, got)
		}
	}
	if len(printed) != len(want) {
		t.Errorf("the section has %d blocks, want %d", len(printed), len(want))
	}
	for name, key := range map[string]string{"laptop": laptop, "desktop": desktop, "sign-in under way": late.Session} {
		if got := s.get(t, "/", "-H", bearer(key)); got.Status != 401 {
			t.Errorf("%s: %d", name, got.Status)
		}
	}
	again := s.startJSON(t, "/") // the word was for what there was, not for good
	s.awaitPolls(t, again.UserCode, 3)
	s.approve(t, again.Complete)
	s.wantActive(t, again.Session)
}

// operate runs lines of an operator's at the gateway's machine.
func (s *stage) operate(t *testing.T, lines string) string {
	t.Helper()
	needProgram(t, "curl")
	cmd := exec.CommandContext(s.ctx, "sh", "-e", "-c", lines)
	cmd.Env = []string{"PATH=" + filepath.Dir(gate.Binary(t)) + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "CADDY_ADMIN=unix/" + s.gate.AdminSocket(), "TZ=UTC"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", lines, err, out)
	}
	return string(out)
}
