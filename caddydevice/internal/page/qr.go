// This file holds QR codes: the library makes the matrix, the drawing is ours,
// so that every form has explicit black on white and a quiet zone.

package page

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strings"

	qr "github.com/piglig/go-qr"
)

const (
	// quiet is the quiet zone in modules (ISO/IEC 18004).
	quiet = 4
	// columns is the width of the narrowest terminal that a QR code is drawn
	// for.
	columns = 80
	// pixels is the width of a module in a PNG.
	pixels = 8
	// blackOnWhite are fixed entries of the 256 colours: no theme redefines
	// them, so the code scans on dark and light terminals.
	blackOnWhite = "\x1b[38;5;16;48;5;231m"
	reset        = "\x1b[0m"
)

// matrix is a QR code with its quiet zone.
type matrix struct {
	code *qr.QrCode
	size int
}

// encode makes the smallest code of at least the level; ok is false where the
// text fits none.
func encode(text string, level qr.Ecc) (matrix, bool) {
	code, err := qr.EncodeText(text, level)
	if err != nil {
		return matrix{}, false
	}
	return matrix{code: code, size: code.GetSize() + 2*quiet}, true
}

func (m matrix) dark(x, y int) bool { return m.code.GetModule(x-quiet, y-quiet) }

// SVG draws the text as one path, black on white, with a title for screen
// readers; "" where it fits no QR code.
func SVG(text, title string) string {
	m, ok := encode(text, qr.Medium)
	if !ok {
		return ""
	}
	var path strings.Builder
	for y := range m.size {
		for x := 0; x < m.size; x++ {
			run := 0
			for m.dark(x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", x, y, run, run)
				x += run
			}
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges" role="img"><title>%s</title>`+
		`<path fill="#fff" d="M0 0h%dv%dH0z"/><path fill="#000" d="%s"/></svg>`, m.size, m.size, html.EscapeString(title), m.size, m.size, path.String())
}

// PNG draws the text as a picture, black on white; nil where it fits no QR
// code.
func PNG(text string) []byte {
	m, ok := encode(text, qr.Medium)
	if !ok {
		return nil
	}
	picture := image.NewPaletted(image.Rect(0, 0, m.size*pixels, m.size*pixels), color.Palette{color.White, color.Black})
	for y := range m.size * pixels {
		for x := range m.size * pixels {
			if m.dark(x/pixels, y/pixels) {
				picture.SetColorIndex(x, y, 1)
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return nil // cannot be: it is a picture, and memory takes it
	}
	return b.Bytes()
}

// halves are the characters for two modules above each other, by upper and
// lower being dark.
var halves = map[[2]bool]string{{false, false}: " ", {true, false}: "▀", {false, true}: "▄", {true, true}: "█"}

// Blocks draws the text for a terminal, two rows of modules a line; "" where
// it does not fit 80 columns even with the least error correction.
func Blocks(text string) string {
	m, ok := encode(text, qr.Medium)
	if !ok || m.size > columns {
		m, ok = encode(text, qr.Low)
	}
	if !ok || m.size > columns {
		return ""
	}
	var b strings.Builder
	for y := 0; y < m.size; y += 2 {
		b.WriteString(blackOnWhite)
		for x := range m.size {
			b.WriteString(halves[[2]bool{m.dark(x, y), m.dark(x, y+1)}])
		}
		b.WriteString(reset + "\n")
	}
	return b.String()
}

// WriteSVG sends the QR code of the sign-in, and nothing else.
func (a *Answer) WriteSVG(w http.ResponseWriter, r *http.Request) error {
	return writeBody(w, r, "image/svg+xml", SVG(a.Login.QRText(), a.Language.orEnglish().say("qr_label")))
}

// WritePNG is WriteSVG as a picture for what shows no SVG.
func (a *Answer) WritePNG(w http.ResponseWriter, r *http.Request) error {
	return writeBody(w, r, "image/png", string(PNG(a.Login.QRText())))
}

// WriteBlocks is WriteSVG for a terminal; where the code does not fit one it
// sends the address itself.
func (a *Answer) WriteBlocks(w http.ResponseWriter, r *http.Request) error {
	text := a.Login.QRText()
	return writeBody(w, r, contentTypes[Text], cmp.Or(Blocks(text), text+"\n"))
}
