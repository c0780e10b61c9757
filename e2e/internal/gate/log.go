// This file holds the gateway's log and what a test asks of it.
package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Lines is all that the gateway has written, over all its runs.
func (g *Gate) Lines() []string {
	if g.process == nil {
		return slices.Clone(g.earlier)
	}
	return append(slices.Clone(g.earlier), g.process.Lines()...)
}

// LogText is the same as one text, for a search.
func (g *Gate) LogText() string { return strings.Join(g.Lines(), "\n") }

// Log is the log as Caddy meant it: each JSON line. What is no JSON is left out.
func (g *Gate) Log() []map[string]any {
	var records []map[string]any
	for _, line := range g.Lines() {
		var r map[string]any
		if json.Unmarshal([]byte(line), &r) == nil {
			records = append(records, r)
		}
	}
	return records
}

// WaitForLog waits until the present run has written a line with that text.
func (g *Gate) WaitForLog(ctx context.Context, text string) (string, error) {
	return g.process.WaitFor(ctx, text)
}

// checkLog is the last look at each gateway.
func (g *Gate) checkLog(t testing.TB) {
	t.Helper()
	if err := troubleIn(g.Lines()); err != nil {
		t.Error(err)
	}
}

// troubleIn returns the first sign of a data race or a panic, with what follows.
func troubleIn(lines []string) error {
	for i, line := range lines {
		if trouble.MatchString(line) {
			return fmt.Errorf("the gateway's log shows trouble:\n%s", strings.Join(lines[i:min(len(lines), i+60)], "\n"))
		}
	}
	return nil
}
