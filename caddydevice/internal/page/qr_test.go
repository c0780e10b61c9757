// This file tests that QR codes can be read again, from the pixels that are
// drawn; the end-to-end tests do so with a reader of somebody else's.

package page

import (
	"strings"
	"testing"

	qr "github.com/piglig/go-qr"
)

func TestQRSizes(t *testing.T) {
	for _, row := range []struct {
		name        string
		length      int
		blocks, svg bool
	}{
		{"short", 30, true, true},
		{"usual", 80, true, true},
		{"long", 250, true, true},
		{"too wide for a terminal at level M", 360, true, true},
		{"too wide for a terminal", 430, false, true},
		{"too long for any", 3000, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := "https://e.com/" + strings.Repeat("x", row.length-14)
			blocks, svg := Blocks(text), SVG(text, "title")
			if (blocks != "") != row.blocks || (svg != "") != row.svg {
				t.Errorf("blocks %t, want %t; SVG %t, want %t", blocks != "", row.blocks, svg != "", row.svg)
			}
			for line := range strings.Lines(blocks) {
				bare := strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(line, blackOnWhite), "\n"), reset)
				if n := len([]rune(bare)); n > columns {
					t.Fatalf("%d columns", n)
				}
			}
		})
	}
}

// TestBlocksShowTheMatrix reads the half blocks back into modules.
func TestBlocksShowTheMatrix(t *testing.T) {
	const text = "https://idp.example.com/device?user_code=WDJB-MJHT"
	m, ok := encode(text, qr.Medium)
	if !ok {
		t.Fatal("does not fit")
	}
	y := 0
	for line := range strings.Lines(Blocks(text)) {
		bare, ok := strings.CutPrefix(strings.TrimSuffix(line, reset+"\n"), blackOnWhite)
		if !ok || len([]rune(bare)) != m.size {
			t.Fatalf("line %d: %q", y/2, line)
		}
		for x, c := range []rune(bare) {
			upper, lower := c == '▀' || c == '█', c == '▄' || c == '█'
			if upper != m.dark(x, y) || lower != m.dark(x, y+1) {
				t.Fatalf("module %d,%d", x, y)
			}
		}
		y += 2
	}
	if y < m.size || y > m.size+1 {
		t.Errorf("%d rows, want %d", y, m.size)
	}
	for i := range m.size {
		for q := range quiet {
			if m.dark(i, q) || m.dark(q, i) || m.dark(i, m.size-1-q) || m.dark(m.size-1-q, i) {
				t.Fatal("the quiet zone is not quiet")
			}
		}
	}
}
