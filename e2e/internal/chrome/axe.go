// This file checks a page against the rules for accessible content with
// axe-core.
package chrome

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rules are those of WCAG 2.2 up to level AA, by axe-core's names.
var rules = []string{"wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"}

// axe is where make deps puts it, seen from the folder of the end-to-end tests.
var axe = filepath.Join("axe", "node_modules", "axe-core", "axe.min.js")

// Violations are what in the page breaks WCAG 2.2 AA, a line each, as far as a
// program can tell.
func (b *Browser) Violations(ctx context.Context, t testing.TB) []string {
	t.Helper()
	source, err := os.ReadFile(axe)
	if err != nil {
		t.Fatal("axe-core is not installed: run make deps: ", err)
	}
	if err := b.evaluate(ctx, string(source)+"\n;null", nil); err != nil {
		t.Fatal(err)
	}
	var found []struct {
		ID, Help string
		Nodes    []struct{ HTML, FailureSummary string }
	}
	if err := b.Call(ctx, `rules => axe.run(document, {runOnly: rules}).then(r => r.violations.map(v => (
		{ID: v.id, Help: v.help, Nodes: v.nodes.map(n => ({HTML: n.html, FailureSummary: n.failureSummary}))})))`, rules, &found); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, v := range found {
		for _, n := range v.Nodes {
			lines = append(lines, fmt.Sprintf("%s: %s: %.200s: %s", v.ID, v.Help, n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", " ")))
		}
	}
	return lines
}
