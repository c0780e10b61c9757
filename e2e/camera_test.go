// This file holds a phone's camera in front of each form of the QR code: small,
// out of focus, from the side, in bad light.
package e2e

import (
	"encoding/base64"
	"image/color"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
)

// cameras are what ImageMagick makes of a picture.
var cameras = []struct {
	name      string
	arguments []string
}{
	{"straight", nil},
	{"small", []string{"-resize", "130x130"}},
	{"blurred", []string{"-blur", "0x2"}},
	{"at an angle", []string{"-background", "gray60", "-rotate", "25"}},
	{"from the side", append(side("60,40", "%[w],0", "%[fx:w-20],%[fx:h-70]"), "-blur", "0x1")},
	{"in bad light", []string{"-brightness-contrast", "-35x-45", "-seed", "1", "-attenuate", "0.3", "+noise", "Gaussian"}},
	{"from afar, askew and out of focus", slices.Concat(
		[]string{"-background", "gray50", "-rotate", "12"}, side("20,30", "%[fx:w-10],0", "%[w],%[fx:h-20]"),
		[]string{"-resize", "260x260", "-blur", "0x0.6", "-seed", "1", "-attenuate", "0.1", "+noise", "Gaussian"},
	)},
}

// side looks from the side: where three of the corners come to be.
func side(topLeft, topRight, bottomRight string) []string {
	return []string{"-virtual-pixel", "gray", "-distort", "Perspective", "0,0," + topLeft + " %[w],0," + topRight + " %[w],%[h]," + bottomRight + " 0,%[h],0,%[h]"}
}

func TestPhotographed(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	a := s.startJSON(t, "/")
	get := func(name string) string {
		got := s.get(t, "/.device/"+name, "-H", bearer(a.Session))
		wantStatus(t, got, 200)
		return got.Body
	}
	text := get("qr.txt")
	for form, picture := range map[string][]byte{
		"SVG":                      renderSVG(t, get("qr.svg")),
		"PNG":                      []byte(get("qr.png")),
		"text in a dark terminal":  drawText(t, text, color.Black).png(t),
		"text in a light terminal": drawText(t, text, color.White).png(t),
	} {
		for _, camera := range cameras {
			t.Run(form+", "+camera.name, func(t *testing.T) {
				if got := chrome.ScanQR(t, photograph(t, picture, camera.arguments)); got != a.Complete {
					t.Errorf("it holds %q, want %q", got, a.Complete)
				}
			})
		}
	}
}

// renderSVG is what Chromium makes of a picture.
func renderSVG(t *testing.T, svg string) []byte {
	t.Helper()
	b := chrome.Start(t, chrome.Options{Width: 300, Height: 300})
	if err := b.Open(t.Context(), "data:image/svg+xml;base64,"+base64.StdEncoding.EncodeToString([]byte(svg))); err != nil {
		t.Fatal(err)
	}
	shot, err := b.Screenshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return shot
}

func photograph(t *testing.T, picture []byte, arguments []string) []byte {
	t.Helper()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from.png"), filepath.Join(dir, "to.png")
	if err := os.WriteFile(from, picture, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{from, "-bordercolor", "gray70", "-border", "40"}, arguments...)
	out, err := exec.CommandContext(t.Context(), "convert", append(args, to)...).CombinedOutput()
	if err != nil {
		t.Fatalf("convert: %v: %s", err, out)
	}
	photo, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return photo
}
