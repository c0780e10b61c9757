// This file holds how the gateway's own pages are set up: what they look like,
// and how they live.

package caddydevice

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
)

// PageConfig says what the gateway's own pages look like, and how they live.
type PageConfig struct {
	// What is signed in to, by name. The host is shown as well: people are to
	// see where they are. At most 80 characters. Default: the host alone.
	Title string `json:"title,omitempty"`

	// A file with a picture for the top of each page: SVG, PNG, JPEG, WebP or
	// GIF, at most 256 KiB. It is read when the configuration is loaded.
	// Default: none.
	Logo string `json:"logo,omitempty"`

	// A file with a whole page in place of the built-in one, in the language of
	// Go's html/template: examples/kiosk says what it can use. It is read, and
	// tried with each kind of page, when the configuration is loaded. Default:
	// the built-in page.
	Template string `json:"template,omitempty"`

	// The languages that pages and texts may be in, the first for those who ask
	// for none of them: en, de, fr, es, pt, ar, zh-Hans, ja. Which one it is
	// decides the request's Accept-Language. Default: all, English first.
	Languages []string `json:"languages,omitempty"`

	// auto follows what the browser says that its person wants, dark and light
	// do not. Default: auto.
	Theme string `json:"theme,omitempty"`

	// Colours in place of the theme's.
	Colors *ColorsConfig `json:"colors,omitempty"`

	// How many times the code of a page that somebody watches is renewed
	// without a sign of life from a person: a touch, a key, or the page coming
	// to the front. After that it takes a touch. 0 to 100000. Default: 3.
	Renew *int `json:"renew,omitempty"`

	// required makes a sign-in wait, once it is approved, until somebody
	// confirms on the device itself that it was they who approved it; for 5
	// minutes. auto does not. Default: auto.
	Confirm string `json:"confirm,omitempty"`
}

// ColorsConfig are colours, as #rgb or #rrggbb. Texts have to be readable: a
// contrast below 4.5 is refused (WCAG 2.2, 1.4.3).
type ColorsConfig struct {
	// Default: the theme's.
	Background string `json:"background,omitempty"`
	Text       string `json:"text,omitempty"`

	// The address, links and what has the focus. Default: the theme's.
	Accent string `json:"accent,omitempty"`
}

const (
	defaultRenewals = 3
	mostRenewals    = 100_000
)

var (
	themes   = []string{"auto", "dark", "light"}
	confirms = []string{"auto", "required"}
)

// pages are the settings of PageConfig, ready for use.
type pages struct {
	brand    *page.Brand
	renewals int
	confirm  bool
}

func (c *PageConfig) setDefaults() {
	defaultTo(&c.Theme, "auto")
	defaultTo(&c.Confirm, "auto")
	if c.Renew == nil {
		renew := defaultRenewals
		c.Renew = &renew
	}
	if c.Colors == nil {
		c.Colors = new(ColorsConfig)
	}
}

// resolve replaces placeholders that are known when the configuration is
// loaded.
func (c *PageConfig) resolve(r *resolver) {
	c.Title = r.text("page title", c.Title)
	c.Logo = r.text("page logo", c.Logo)
	c.Template = r.text("page template", c.Template)
	c.Colors.Background = r.text("page colors background", c.Colors.Background)
	c.Colors.Text = r.text("page colors text", c.Colors.Text)
	c.Colors.Accent = r.text("page colors accent", c.Colors.Accent)
	r.texts("page languages", c.Languages)
}

func (c *PageConfig) provision() (pages, error) {
	switch {
	case !slices.Contains(themes, c.Theme):
		return pages{}, fmt.Errorf("page theme %q is none of %s", c.Theme, strings.Join(themes, ", "))
	case !slices.Contains(confirms, c.Confirm):
		return pages{}, fmt.Errorf("page confirm %q is none of %s", c.Confirm, strings.Join(confirms, ", "))
	case *c.Renew < 0 || *c.Renew > mostRenewals:
		return pages{}, fmt.Errorf("page renew %d: must be a number between 0 and %d", *c.Renew, mostRenewals)
	}
	for _, color := range []struct{ key, value string }{{"background", c.Colors.Background}, {"text", c.Colors.Text}, {"accent", c.Colors.Accent}} {
		if color.value != "" && !page.IsColor(color.value) {
			return pages{}, fmt.Errorf("page colors %s %q is not a colour: write it like #d5d9e0", color.key, color.value)
		}
	}
	brand, err := page.NewBrand(page.BrandConfig{
		Title: c.Title, LogoFile: c.Logo, TemplateFile: c.Template, Theme: c.Theme, Languages: c.Languages,
		Background: c.Colors.Background, Text: c.Colors.Text, Accent: c.Colors.Accent,
	})
	if err != nil {
		return pages{}, fmt.Errorf("page %w", err)
	}
	return pages{brand: brand, renewals: *c.Renew, confirm: c.Confirm == "required"}, nil
}
