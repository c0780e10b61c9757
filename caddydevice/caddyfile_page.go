// This file holds the Caddyfile's block page.

package caddydevice

import (
	"strconv"
	"strings"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
)

var pageBlock = block[*PageConfig]{
	title: "page",
	lines: map[string]line[*PageConfig]{
		"title":     textLine(`title "Wall of the workshop"`, func(p *PageConfig) *string { return &p.Title }),
		"logo":      textLine("logo /etc/caddy/logo.svg", func(p *PageConfig) *string { return &p.Logo }),
		"template":  textLine("template /etc/caddy/page.html", func(p *PageConfig) *string { return &p.Template }),
		"languages": {usage: "languages de en", min: 1, max: -1, parse: parseLanguages},
		"theme":     choiceLine("theme auto|dark|light", themes, func(p *PageConfig) *string { return &p.Theme }),
		"colors":    {usage: "colors { … }", block: true, parse: parseColors},
		"renew":     {usage: "renew 3", min: 1, max: 1, parse: parseRenew},
		"confirm":   choiceLine("confirm auto|required", confirms, func(p *PageConfig) *string { return &p.Confirm }),
	},
}

var colorsBlock = block[*ColorsConfig]{
	title: "colors",
	lines: map[string]line[*ColorsConfig]{
		"background": colorLine(`background "#14171c"`, func(c *ColorsConfig) *string { return &c.Background }),
		"text":       colorLine(`text "#d5d9e0"`, func(c *ColorsConfig) *string { return &c.Text }),
		"accent":     colorLine(`accent "#9ec5ff"`, func(c *ColorsConfig) *string { return &c.Accent }),
	},
}

// colorLine is a line with a colour. One that is not quoted is a comment to the
// Caddyfile.
func colorLine(usage string, field func(*ColorsConfig) *string) line[*ColorsConfig] {
	return line[*ColorsConfig]{usage: usage, max: 1, parse: func(in input, c *ColorsConfig) error {
		switch {
		case len(in.args) == 0:
			return in.Errf("%s needs a value, and a # begins a comment: write %s, with the quotes", in.name, usage)
		case !strings.Contains(in.args[0], "{") && !page.IsColor(in.args[0]):
			return in.Errf("%s %q is not a colour: write it like `%s`", in.name, in.args[0], usage)
		}
		*field(c) = in.args[0]
		return nil
	}}
}

func init() {
	pageBlock.register()
	colorsBlock.register()
}

func parsePage(in input, h *Handler) error {
	h.Page = new(PageConfig)
	return pageBlock.parse(in.Dispenser, h.Page)
}

func parseColors(in input, p *PageConfig) error {
	p.Colors = new(ColorsConfig)
	return colorsBlock.parse(in.Dispenser, p.Colors)
}

func parseLanguages(in input, p *PageConfig) error {
	if _, err := page.NewLanguages(in.args...); err != nil {
		return in.Errf("languages: %w", err)
	}
	p.Languages = in.args
	return nil
}

func parseRenew(in input, p *PageConfig) error {
	n, err := strconv.Atoi(in.args[0])
	if err != nil || n < 0 || n > mostRenewals {
		return in.Errf("renew %q is not a number between 0 and %d%s", in.args[0], mostRenewals, notLater(in.args))
	}
	p.Renew = &n
	return nil
}
