// This file reads QR codes as a phone would: what was drawn becomes a picture,
// and zbarimg says what is in it.
package e2e

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
)

// scale is the size of a module in the picture.
const scale = 6

// The terminal's colours are named outright, so that no theme counts.
const (
	blackOnWhite = "\x1b[38;5;16;48;5;231m"
	colourReset  = "\x1b[0m"
)

// dark says for each block character which half of it is black.
var dark = map[rune][2]bool{' ': {false, false}, '▀': {true, false}, '▄': {false, true}, '█': {true, true}}

// picture is black on white.
type picture struct{ *image.Gray }

func newPicture(width, height int) picture {
	p := picture{image.NewGray(image.Rect(0, 0, width*scale, height*scale))}
	draw.Draw(p, p.Bounds(), image.White, image.Point{}, draw.Src)
	return p
}

func (p picture) fill(c color.Color, x, y, width, height int) {
	draw.Draw(p, image.Rect(x*scale, y*scale, (x+width)*scale, (y+height)*scale), image.NewUniform(c), image.Point{}, draw.Src)
}

// png is the picture as a file.
func (p picture) png(t *testing.T) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := png.Encode(&file, p); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// scanText reads the code that is drawn in a text answer.
func scanText(t *testing.T, body string) string {
	t.Helper()
	return chrome.ScanQR(t, drawText(t, body, color.White).png(t))
}

// drawText draws a text answer's code as a terminal with that background does.
// Nothing else in the text may use escape sequences, and no line is wider than
// 80 columns.
func drawText(t *testing.T, body string, background color.Color) picture {
	t.Helper()
	var rows [][]rune
	for _, line := range strings.Split(body, "\n") {
		inner, isQR := strings.CutPrefix(line, blackOnWhite)
		if isQR {
			inner = strings.TrimSuffix(inner, colourReset)
			rows = append(rows, []rune(inner))
		}
		if strings.Contains(inner, "\x1b") {
			t.Errorf("an escape sequence in %q", line)
		}
		if isQR && len([]rune(inner)) > 80 {
			t.Errorf("a row of %d columns", len([]rune(inner)))
		}
	}
	if len(rows) == 0 {
		t.Fatalf("no QR code in\n%s", body)
	}
	const margin = 6
	p := newPicture(len(rows[0])+2*margin, 2*(len(rows)+margin))
	p.fill(background, 0, 0, len(rows[0])+2*margin, 2*(len(rows)+margin))
	p.fill(color.White, margin, margin, len(rows[0]), 2*len(rows))
	for y, row := range rows {
		for x, block := range row {
			halves, known := dark[block]
			if !known {
				t.Fatalf("%q in the QR code", block)
			}
			for i, black := range halves {
				if black {
					p.fill(color.Black, margin+x, margin+2*y+i, 1, 1)
				}
			}
		}
	}
	return p
}

var (
	svgElement = regexp.MustCompile(`(?s)<svg .*?</svg>`)
	svgBox     = regexp.MustCompile(`viewBox="0 0 (\d+) (\d+)"`)
	svgPath    = regexp.MustCompile(`<path fill="#(fff|000)" d="([^"]*)"`)
	// svgRect is how the paths are written: one rectangle after the other.
	svgRect = regexp.MustCompile(`M(\d+) (\d+)h(\d+)v(\d+)(?:h-(\d+)|H(\d+))z`)
)

// scanSVG reads the code that is drawn in a page, or is an SVG by itself.
func scanSVG(t *testing.T, body string) string {
	t.Helper()
	return chrome.ScanQR(t, drawSVG(t, body).png(t))
}

func drawSVG(t *testing.T, body string) picture {
	t.Helper()
	svg := svgElement.FindString(body)
	box := svgBox.FindStringSubmatch(svg)
	if box == nil {
		t.Fatalf("no QR code in\n%s", body)
	}
	p := newPicture(number(t, box[1]), number(t, box[2]))
	p.fill(color.Gray{Y: 128}, 0, 0, number(t, box[1]), number(t, box[2])) // the page's own colour: white must be drawn
	for _, path := range svgPath.FindAllStringSubmatch(svg, -1) {
		fill := map[string]color.Color{"fff": color.White, "000": color.Black}[path[1]]
		if rest := svgRect.ReplaceAllString(path[2], ""); rest != "" {
			t.Fatalf("the path has %q", rest)
		}
		for _, r := range svgRect.FindAllStringSubmatch(path[2], -1) {
			x, y, width, height := number(t, r[1]), number(t, r[2]), number(t, r[3]), number(t, r[4])
			if r[5] != "" && r[5] != r[3] || r[6] != "" && r[6] != r[1] {
				t.Fatalf("%s is no rectangle", r[0])
			}
			p.fill(fill, x, y, width, height)
		}
	}
	return p
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
