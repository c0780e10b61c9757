// This file shows the login path in a terminal: it stays open, tells how it
// goes, and ends with the outcome.
package e2e

import (
	"io"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/curl"
)

// openLogin starts a sign-in that streams, and reads its instructions.
func (s *stage) openLogin(t *testing.T) (*curl.Stream, instructions, string) {
	t.Helper()
	stream := curl.Open(s.ctx, t, s.gate.URL()+"/.device/login?to=/after")
	lines, err := stream.Until(s.ctx, "▀") // the QR code has begun, all else is there
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(lines, "\n")
	s.canaries.AddText(t, text)
	return stream, readText(t, text), text
}

func TestLoginStream(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	stream, shown, _ := s.openLogin(t)
	if _, err := stream.Until(s.ctx, "waiting, "); err != nil {
		t.Fatal(err)
	}
	s.approve(t, s.code(t, shown.code).complete)
	lines, err := stream.Until(s.ctx, "Signed in as alice.")
	if err != nil {
		t.Fatal(err)
	}
	var rest []string
	for {
		line, err := stream.Line(s.ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		rest = append(rest, line)
	}
	line := commandLine.FindString(strings.Join(rest, "\n"))
	if line == "" || line != shown.command || !strings.HasSuffix(line, "'"+s.gate.URL()+"/after'") {
		t.Fatalf("the stream ends with %d lines after %q, and without the line that goes on", len(rest), lines[len(lines)-1])
	}
	seen := echo(t, curl.Shell(s.ctx, t, line).Out)
	wantAlice(t, seen)
	if seen.URI != "/after" {
		t.Errorf("the upstream saw %s", seen.URI)
	}
}

// TestStopWithOpenStream: an operator who stops Caddy does not wait for the
// people who are signing in.
func TestStopWithOpenStream(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	stream, shown, _ := s.openLogin(t)
	_, key, _ := strings.Cut(shown.command, "Bearer ")
	key, _, _ = strings.Cut(key, "'")
	waiting := curl.Open(s.ctx, t, "-i", "-H", bearer(key), s.gate.URL()+"/.device/wait?timeout=120")
	s.awaitPolls(t, shown.code, 1)
	s.gate.Stop(t) // fails where it takes long
	if _, err := stream.Until(s.ctx, "Run the same command again"); err != nil {
		t.Errorf("the stream ended without a hint: %v", err)
	}
	if _, err := waiting.Until(s.ctx, "202"); err != nil {
		t.Errorf("the wait ended without an answer: %v", err)
	}
}
