// This file looks at the pages as people see them: each on several screens, in
// dark and light, in languages of both directions, from the code to the page
// behind the gate, with a real browser. Nothing may have to be scrolled, the QR
// code has to be large and readable, and axe-core finds nothing to complain of.
package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

// screen is what a page is looked at on.
type screen struct {
	name          string
	width, height int
	dark          bool
}

var screens = []screen{
	{"panel dark", 1024, 600, true},
	{"panel light", 1024, 600, false},
	{"1080p dark", 1920, 1080, true},
	{"1080p light", 1920, 1080, false},
	{"4K dark", 3840, 2160, true},
	{"4K light", 3840, 2160, false},
	{"phone dark", 360, 740, true},
	{"phone light", 360, 740, false},
}

func (s screen) isPhone() bool { return s.width < s.height }

// otherLanguages are looked at beside English.
var otherLanguages = []string{"de", "ja", "ar"}

// looker is a screen with a browser, and somebody who looks closely.
type looker struct {
	*chrome.Browser
	*stage
	t      *testing.T
	screen screen
}

func (s *stage) newLooker(t *testing.T, on screen) *looker {
	t.Helper()
	return s.newLookerWith(t, on, chrome.Options{})
}

// newLookerWith is the same for a browser that the options change beyond its
// screen.
func (s *stage) newLookerWith(t *testing.T, on screen, o chrome.Options) *looker {
	t.Helper()
	o.Width, o.Height, o.Dark = on.width, on.height, on.dark
	return &looker{chrome.Start(t, o), s, t, on}
}

func (l *looker) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *looker) open(address string) {
	l.t.Helper()
	l.must(l.Open(l.ctx, address))
}

// shows waits until the page shows an outcome, and looks at it.
func (l *looker) shows(status, name string) {
	l.t.Helper()
	l.must(l.Wait(l.ctx, `main[data-status="`+status+`"]`))
	l.look(name)
}

// soon waits for an element, and no longer than what goes right can take.
func (l *looker) soon(selector string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.ctx, 90*time.Second)
	defer cancel()
	l.must(l.Wait(ctx, selector))
}

// userCode is the code that the page shows.
func (l *looker) userCode() string {
	l.t.Helper()
	l.must(l.Wait(l.ctx, ".code"))
	text, err := l.Text(l.ctx, ".code")
	l.must(err)
	return text
}

// measures are what a page takes of its screen, in CSS pixels.
type measures struct {
	Wide, High, InnerWide, InnerHigh float64
	QR                               float64 // its height; 0 where there is none
	Lines                            float64 // that the address takes
	CodeLines                        float64
	Lang, Dir, Missing               string
}

const measure = `() => {
	const of = s => document.querySelector(s), root = document.documentElement;
	const lines = e => e ? e.getBoundingClientRect().height / parseFloat(getComputedStyle(e).lineHeight) : 0;
	const qr = of(".qr svg");
	return {Wide: root.scrollWidth, High: root.scrollHeight, InnerWide: innerWidth, InnerHigh: innerHeight,
		QR: qr ? qr.getBoundingClientRect().height : 0, Lines: lines(of(".uri")), CodeLines: lines(of(".code")),
		Lang: root.lang, Dir: root.dir, Missing: of("main").innerText.trim() ? "" : "everything"};
}`

// look checks what is on the screen, for everybody who is in front of it.
func (l *looker) look(name string) {
	l.t.Helper()
	l.fits(name)
	for _, v := range l.Violations(l.ctx, l.t) {
		l.t.Errorf("%s: %s", name, v)
	}
}

// fits checks that what is on the screen has room there, and keeps a picture.
func (l *looker) fits(name string) {
	l.t.Helper()
	var m measures
	l.must(l.Call(l.ctx, measure, nil, &m))
	if m.Wide > m.InnerWide || m.High > m.InnerHigh {
		l.t.Errorf("%s: the page takes %v by %v of a screen of %v by %v", name, m.Wide, m.High, m.InnerWide, m.InnerHigh)
	}
	if m.QR > 0 && !l.screen.isPhone() && (m.QR < m.InnerHigh/3 || m.Lines > 1.5 || m.CodeLines > 1.5) {
		l.t.Errorf("%s: the QR code is %v high of %v, the address takes %.1f lines, the code %.1f", name, m.QR, m.InnerHigh, m.Lines, m.CodeLines)
	}
	if m.Missing != "" {
		l.t.Errorf("%s: nothing is on the page", name)
	}
	shot, err := l.Screenshot(l.ctx)
	l.must(err)
	if dir := os.Getenv("E2E_SCREENSHOTS"); dir != "" {
		file := strings.ReplaceAll("kiosk "+l.screen.name+" "+name, " ", "_") + ".png"
		l.must(os.WriteFile(filepath.Join(dir, file), shot, 0o600))
	}
	if m.QR > 0 {
		l.wantQR(shot, name)
	}
}

// wantQR reads the code that is in a picture. Nobody has told what the demo's
// provider answered, so there the code that is shown has to do.
func (l *looker) wantQR(shot []byte, name string) {
	l.t.Helper()
	got, shown := chrome.ScanQR(l.t, shot), l.userCode()
	l.codes.mu.Lock()
	known, ok := l.codes.of[shown]
	l.codes.mu.Unlock()
	if got != known.complete && (ok || !strings.HasSuffix(got, shown)) {
		l.t.Errorf("%s: the QR code holds %q, want %q with %s", name, got, known.complete, shown)
	}
}

// pageBlock is a block of the directive.
func pageBlock(lines ...string) string { return "page {\n" + strings.Join(lines, "\n") + "\n}" }

// TestKioskLooks takes each screen through the life of a sign-in.
func TestKioskLooks(t *testing.T) {
	t.Parallel()
	first := deviceAuth("", manyStarts, "expect preferred_username alice", pageBlock(`title "Wall of the workshop"`))
	second := deviceAuth("", manyStarts, pageBlock("confirm required", `colors {`, `background "#1d3557"`, `text "#f1faee"`, `accent "#ffd166"`, `}`))
	// hosts apart: sign-ins are a host's, and confirmed at all of its gates or at none
	other := strings.NewReplacer("localhost", "127.0.0.1", "{$GATE_PORT}", "{$GATE_PORT_2}").Replace(oneSite(second))
	s := newStage(t, plan{caddyfile: oneSite(first) + other})
	for _, on := range screens {
		t.Run(on.name, func(t *testing.T) {
			l := s.newLooker(t, on)
			l.signsInAtLast(s.url + "/wall?screen=" + strings.ReplaceAll(on.name, " ", "-"))
			l.confirms("http://127.0.0.1:" + s.gate.Port2() + "/wall")
			l.wantNoScriptErrors()
		})
	}
}

// wantNoScriptErrors leaves out what this test brings about itself: answers that
// are no success, and styles that axe-core tries.
func (l *looker) wantNoScriptErrors() {
	l.t.Helper()
	for _, problem := range l.Problems() {
		if !strings.HasPrefix(problem, "request: ") && !strings.Contains(problem, "Applying inline style") {
			l.t.Errorf("the browser complains: %s", problem)
		}
	}
}

// signsInAtLast goes through everything that can go wrong, and then well.
func (l *looker) signsInAtLast(wall string) {
	l.open(wall)
	l.shows("pending", "code")
	l.speaks(wall)
	l.outage()

	l.must(idpserver.NewPerson(l.t).Deny(l.ctx, idpserver.Device{Complete: l.stage.code(l.t, l.userCode()).complete}, idpserver.Alice, idpserver.AlicePassword))
	l.shows("denied", "denied")
	l.must(l.Click(l.ctx, "#new-code"))
	l.shows("pending", "code after denial")
	l.approveWith(l.t, idpserver.NewPerson(l.t), "bob", l.stage.code(l.t, l.userCode()).complete)
	l.shows("denied", "wrong account")

	l.rec.Down(true)
	l.must(l.Click(l.ctx, "#new-code"))
	l.shows("unavailable", "provider down")
	l.rec.Down(false)
	l.shows("pending", "code after an outage") // by itself

	l.approve(l.t, l.stage.code(l.t, l.userCode()).complete)
	l.shows("active", "welcome")
	l.must(l.WaitURL(l.ctx, func(at string) bool { return at == wall })) // by itself
	l.open(l.url + "/.device/session")
	l.shows("active", "session")
	l.must(l.Click(l.ctx, "#sign-out"))
	l.shows("ended", "signed out")
}

// speaks looks at the code in other languages.
func (l *looker) speaks(wall string) {
	for _, language := range otherLanguages {
		l.must(l.Languages(l.ctx, language))
		l.open(wall)
		l.shows("pending", "code in "+language)
		var m measures
		l.must(l.Call(l.ctx, measure, nil, &m))
		if want := map[bool]string{true: "rtl", false: "ltr"}[language == "ar"]; m.Lang != language || m.Dir != want {
			l.t.Errorf("asked for %s, the page is in %s, %s", language, m.Lang, m.Dir)
		}
	}
	l.must(l.Languages(l.ctx, "en"))
	l.open(wall)
}

// outage is one of the provider, which the page tells of, and the end of it.
func (l *looker) outage() {
	before := l.userCode()
	l.rec.Down(true)
	l.must(l.Wait(l.ctx, `main[data-reason="away"]`))
	l.look("provider away")
	l.rec.Down(false)
	l.must(l.Wait(l.ctx, `main:not([data-reason="away"])`))
	if after := l.userCode(); after != before {
		l.t.Errorf("the code was %s, and is %s after an outage", before, after)
	}
}

// confirms is a sign-in that is to be confirmed on the screen itself.
func (l *looker) confirms(wall string) {
	l.open(wall)
	l.shows("pending", "code in other colours")
	l.approve(l.t, l.stage.code(l.t, l.userCode()).complete)
	l.shows("approved", "to be confirmed")
	l.must(l.Click(l.ctx, "#confirm"))
	l.shows("active", "welcome after confirming")
	l.must(l.Click(l.ctx, "#go-on"))
	l.must(l.WaitURL(l.ctx, func(at string) bool { return at == wall }))
}
