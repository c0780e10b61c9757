// This file holds the colours of a page: which go together so that people can
// read them (WCAG 2.2 §1.4.3).

package page

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
)

// colour is one of sRGB.
type colour struct{ r, g, b uint8 }

var hexColour = regexp.MustCompile(`^#([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})$`)

// IsColor reports whether a text is a colour, as #rgb or #rrggbb.
func IsColor(text string) bool {
	_, err := parseColour(text)
	return err == nil
}

// parseColour reads #rgb or #rrggbb.
func parseColour(text string) (colour, error) {
	if !hexColour.MatchString(text) {
		return colour{}, fmt.Errorf("%q is no colour: write #rgb or #rrggbb", text)
	}
	digits := text[1:]
	if len(digits) == 3 {
		digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
	}
	n, _ := strconv.ParseUint(digits, 16, 32) // hexColour has seen to it
	return colour{uint8(n >> 16), uint8(n >> 8), uint8(n)}, nil
}

func (c colour) String() string { return fmt.Sprintf("#%02x%02x%02x", c.r, c.g, c.b) }

// luminance is relative luminance as WCAG defines it, from 0 to 1.
func (c colour) luminance() float64 {
	linear := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.r) + 0.7152*linear(c.g) + 0.0722*linear(c.b)
}

// contrast is the contrast ratio of two colours, from 1 to 21.
func contrast(a, b colour) float64 {
	la, lb := a.luminance(), b.luminance()
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

// towards mixes a share of another colour in.
func (c colour) towards(other colour, share float64) colour {
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a) + share*(float64(b)-float64(a)))) }
	return colour{mix(c.r, other.r), mix(c.g, other.g), mix(c.b, other.b)}
}

const (
	// readable is the least contrast of text, visible that of a button's edge.
	readable = 4.5
	visible  = 3
)

// theme is what an operator can choose of a page's colours.
type theme struct{ background, text, accent colour }

var (
	dark  = theme{colour{0x14, 0x17, 0x1c}, colour{0xe3, 0xe7, 0xed}, colour{0xb3, 0xd1, 0xff}}
	light = theme{colour{0xe2, 0xe5, 0xe9}, colour{0x1e, 0x22, 0x28}, colour{0x0b, 0x38, 0x74}}

	// for those who ask their system for more contrast
	darkStark  = theme{colour{0, 0, 0}, colour{0xff, 0xff, 0xff}, colour{0xc4, 0xdb, 0xff}}
	lightStark = theme{colour{0xf4, 0xf4, 0xf4}, colour{0, 0, 0}, colour{0, 0x2a, 0x66}}
)

// check wants text and accent readable on the background.
func (t theme) check() error {
	for _, row := range []struct {
		name string
		on   colour
	}{{"text", t.text}, {"accent", t.accent}} {
		if ratio := contrast(row.on, t.background); ratio < readable {
			return fmt.Errorf("%s %v on background %v has a contrast of %.1f:1, too little to be read; choose colours further apart, of at least %.1f:1", row.name, row.on, t.background, math.Floor(ratio*10)/10, readable)
		}
	}
	return nil
}

// palette is a theme as the style sheet has it.
type palette struct{ Background, Text, Accent, Quiet, Surface, Line colour }

// palette makes the other colours out of the theme's, as far as they can still
// be read.
func (t theme) palette() palette {
	p := palette{Background: t.background, Text: t.text, Accent: t.accent, Quiet: t.text, Surface: t.background, Line: t.text}
	if quiet := t.text.towards(t.background, 0.12); contrast(quiet, t.background) >= readable {
		p.Quiet = quiet
	}
	if surface := t.background.towards(t.text, 0.1); contrast(t.text, surface) >= readable {
		p.Surface = surface
	}
	if line := t.background.towards(t.text, 0.5); contrast(line, p.Surface) >= visible && contrast(line, t.background) >= visible {
		p.Line = line
	}
	return p
}
