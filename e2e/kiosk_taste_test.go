// This file is about what people ask of all pages by their system: dark or
// light colours, more contrast, less motion. Each page of a sign-in heeds it.
package e2e

import (
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

// taste is what somebody asks for, and what they have to get.
type taste struct {
	name       string
	dark       bool
	media      map[string]string
	own        bool    // the operator chose the colours, with little contrast
	background string  // of each page
	contrast   float64 // that all text has at least
	still      bool    // nothing moves bit by bit
}

var tastes = []taste{
	{name: "dark", dark: true, background: "rgb(20, 23, 28)", contrast: 4.5},
	{name: "light", background: "rgb(226, 229, 233)", contrast: 4.5},
	{name: "own colours", own: true, background: "rgb(36, 71, 107)", contrast: 4.5},
	{name: "more contrast dark", dark: true, media: more, background: "rgb(0, 0, 0)", contrast: 7},
	{name: "more contrast light", media: more, background: "rgb(244, 244, 244)", contrast: 7},
	{name: "more contrast in own colours", media: more, own: true, background: "rgb(0, 0, 0)", contrast: 7},
	{name: "less motion", dark: true, media: reduced, background: "rgb(20, 23, 28)", contrast: 4.5, still: true},
}

var (
	more    = map[string]string{"prefers-contrast": "more"}
	reduced = map[string]string{"prefers-reduced-motion": "reduce"}
)

func TestKioskTastes(t *testing.T) {
	t.Parallel()
	confirmed := "confirm required"
	usual := oneSite(deviceAuth("", manyStarts, pageBlock(confirmed)))
	own := oneSite(deviceAuth("", manyStarts, pageBlock(confirmed, `colors {`, `background "#24476b"`, `text "#b4c4d4"`, `accent "#d0c080"`, `}`)))
	s := newStage(t, plan{caddyfile: usual + strings.ReplaceAll(own, "{$GATE_PORT}", "{$GATE_PORT_2}")})
	for _, asked := range tastes {
		t.Run(asked.name, func(t *testing.T) {
			t.Parallel()
			l := s.newLookerWith(t, screen{asked.name, 1024, 600, asked.dark}, chrome.Options{Media: asked.media})
			site := s.url
			if asked.own {
				site = "http://localhost:" + s.gate.Port2()
			}
			l.eachPage(site, func(status string) {
				l.must(l.Wait(l.ctx, `main[data-status="`+status+`"]`))
				l.heeds(asked, status)
				l.look(status)
			})
			l.wantNoScriptErrors()
		})
	}
}

// eachPage goes through a sign-in, and has each page looked at.
func (l *looker) eachPage(site string, look func(status string)) {
	l.open(site + "/wall/" + strings.ReplaceAll(l.screen.name, " ", "-"))
	look("pending")
	l.must(idpserver.NewPerson(l.t).Deny(l.ctx, idpserver.Device{Complete: l.stage.code(l.t, l.userCode()).complete}, idpserver.Alice, idpserver.AlicePassword))
	look("denied")
	l.must(l.Click(l.ctx, "#new-code"))
	l.must(l.Wait(l.ctx, ".code"))
	l.approve(l.t, l.stage.code(l.t, l.userCode()).complete)
	look("approved")
	l.must(l.Click(l.ctx, "#confirm"))
	l.must(l.Wait(l.ctx, "#not-you"))
	l.open(site + "/.device/session")
	look("active")
	l.must(l.Click(l.ctx, "#sign-out"))
	look("ended")
}

// appearance is what a style sheet makes of a page.
type appearance struct {
	Background string
	Faint      []string // what has too little contrast, and how much that is
	Moving     []string // what can change bit by bit, or does
}

// appears works out contrast as WCAG 2.2 defines it.
const appears = `least => {
	const luminance = c => c.match(/[\d.]+/g).slice(0, 3).map(v => v / 255)
		.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = e => {
		const c = e ? getComputedStyle(e).backgroundColor : "rgb(255, 255, 255)";
		return c === "rgba(0, 0, 0, 0)" ? behind(e.parentElement) : c;
	};
	const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
	const name = e => e.tagName + "." + e.className;
	const all = [...document.body.querySelectorAll("*")].filter(e => !e.closest("svg, script, noscript"));
	const text = all.filter(e => [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim()));
	return {
		Background: behind(document.body),
		Faint: text.map(e => [name(e), ratio(luminance(getComputedStyle(e).color), luminance(behind(e)))])
			.filter(([, r]) => r < least).map(([n, r]) => n + " " + r.toFixed(2)),
		Moving: all.filter(e => [null, "::before", "::after"].some(part => {
			const style = getComputedStyle(e, part);
			return style.animationName !== "none" || style.transitionDuration.split(", ").some(d => d !== "0s");
		})).map(name),
	};
}`

// heeds fails unless the page is as it was asked for.
func (l *looker) heeds(asked taste, page string) {
	l.t.Helper()
	var got appearance
	l.must(l.Call(l.ctx, appears, asked.contrast, &got))
	if got.Background != asked.background {
		l.t.Errorf("%s: the background is %s, want %s", page, got.Background, asked.background)
	}
	if len(got.Faint) > 0 {
		l.t.Errorf("%s: less contrast than %.1f:1: %q", page, asked.contrast, got.Faint)
	}
	if moving := len(got.Moving) > 0; moving == asked.still {
		l.t.Errorf("%s: what can move is %q", page, got.Moving)
	}
}
