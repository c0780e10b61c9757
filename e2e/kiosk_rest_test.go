// This file is about a screen that nobody touches for long: it dims and moves
// so that nothing burns in, until somebody comes.
package e2e

import (
	"bytes"
	"image/color"
	"image/png"
	"math"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

// clock stands still, but for pass(seconds), after which the page has lived
// that much longer, and has noticed.
const clock = `(() => {
	const every = window.setInterval, ticks = [];
	let now = Date.now();
	Date.now = () => now;
	window.setInterval = (f, ms) => { ticks.push(f); return every(f, ms); };
	window.pass = seconds => { now += seconds * 1000; ticks.forEach(f => f()); };
})()`

// TestKioskRests: two minutes to the first rest, then another place each
// minute, and all is as before at a touch.
func TestKioskRests(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{codeLife: time.Hour})
	for _, row := range []struct {
		name   string
		screen screen
		media  map[string]string
		moves  float64 // seconds from one place to the next
	}{
		{"on a dark panel", screens[0], nil, 4},
		{"on a light panel", screens[1], nil, 4},
		{"with less motion", screens[0], reduced, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			l := s.newLookerWith(t, row.screen, chrome.Options{Before: clock, Media: row.media})
			l.open(s.url + "/wall/rests")
			l.must(l.Wait(l.ctx, ".code"))
			bright, began := l.brightness(), l.rests()
			l.pass(119)
			if now := l.rests(); now.Dim || now.Place != began.Place {
				t.Errorf("it rests too early: %+v", now)
			}
			l.pass(2)
			now := l.rests()
			if !now.Dim || now.Place == began.Place || now.Moves != row.moves {
				t.Errorf("nobody touched it, and it does not rest: %+v, it was at %+v", now, began)
			}
			if dark := l.brightness(); dark > bright*.8 {
				t.Errorf("its brightness was %.3f, and is %.3f", bright, dark)
			}
			l.look("rests " + row.name)
			l.movesAround()

			here := l.rests()
			l.must(l.Click(l.ctx, "h1"))
			if now := l.rests(); now.Dim || now.Place != here.Place {
				t.Errorf("somebody is there: %+v, it was at %+v", now, here)
			}
			if again := l.brightness(); again < bright*.95 {
				t.Errorf("its brightness was %.3f, and is %.3f", bright, again)
			}
			l.pass(119)
			if now := l.rests(); now.Dim || now.Place != here.Place {
				t.Errorf("it rests too early after a touch: %+v, it was at %+v", now, here)
			}
			l.pass(2)
			if !l.rests().Dim {
				t.Error("it rests only once")
			}
			l.wantNoScriptErrors()
		})
	}
}

// TestKioskRestsOn: a code that is renewed wakes nobody, or a wall whose codes
// live for a few minutes would never rest; what somebody does, shows.
func TestKioskRestsOn(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{expiresIn: 40})
	l := s.newLookerWith(t, screens[0], chrome.Options{Before: clock})
	l.open(s.url + "/wall/rests-on")
	first := l.userCode()
	l.pass(121)
	asleep := l.rests()
	l.renewed(first)
	if now := l.rests(); !now.Dim || now.Place != asleep.Place {
		t.Errorf("with another code it is at %+v, it was at %+v", now, asleep)
	}
	l.fits("renewed at rest")
	l.pass(60)
	if now := l.rests(); !now.Dim || now.Place == asleep.Place {
		t.Errorf("a minute later it is still at %+v", now)
	}
	l.must(idpserver.NewPerson(t).Deny(l.ctx, idpserver.Device{Complete: s.code(t, l.userCode()).complete}, idpserver.Alice, idpserver.AlicePassword))
	l.soon(`html:not([data-dim]) main[data-status="denied"]`)
	l.wantNoScriptErrors()
}

// pass lets seconds pass on the page.
func (l *looker) pass(seconds int) {
	l.t.Helper()
	l.must(l.Call(l.ctx, `seconds => pass(seconds)`, seconds, nil))
}

// rest is how a page rests.
type rest struct {
	Dim   bool
	Place string
	Moves float64 // seconds that the move takes that is under way
	X, Y  float64 // where main stands, in hundredths of the screen's shorter side
}

func (l *looker) rests() rest {
	l.t.Helper()
	var r rest
	l.must(l.Call(l.ctx, `() => {
		const main = document.querySelector("main"), share = 100 / Math.min(innerWidth, innerHeight);
		const at = new DOMMatrix(getComputedStyle(main).transform);
		return {
			Dim: document.documentElement.hasAttribute("data-dim"), Place: main.dataset.place, X: at.e * share, Y: at.f * share,
			Moves: Math.max(0, ...main.getAnimations().map(a => a.effect.getComputedTiming().duration / 1000)),
		};
	}`, nil, &r))
	return r
}

// movesAround watches a screen at rest until it was everywhere.
func (l *looker) movesAround() {
	l.t.Helper()
	const places = 8
	been := map[string]bool{}
	before := l.arrives()
	for range places {
		l.pass(60)
		now := l.arrives()
		if step := math.Hypot(now.X-before.X, now.Y-before.Y); step < .5 || step > 2 {
			l.t.Fatalf("from %+v to %+v it moves by %.1f hundredths of the screen", before, now, step)
		}
		been[now.Place] = true
		before = now
		l.fits("at rest")
	}
	if len(been) != places {
		l.t.Errorf("it was at %d places, want %d", len(been), places)
	}
}

// arrives is where the screen is once a move is through.
func (l *looker) arrives() rest {
	l.t.Helper()
	l.must(l.Call(l.ctx, `() => document.querySelector("main").getAnimations().forEach(a => a.finish())`, nil, nil))
	return l.rests()
}

// brightness is that of the whole picture, from 0 to 1.
func (l *looker) brightness() float64 {
	l.t.Helper()
	shot, err := l.Screenshot(l.ctx)
	l.must(err)
	picture, err := png.Decode(bytes.NewReader(shot))
	l.must(err)
	box, sum := picture.Bounds(), 0
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			sum += int(color.GrayModel.Convert(picture.At(x, y)).(color.Gray).Y)
		}
	}
	return float64(sum) / float64(box.Dx()*box.Dy()) / 255
}
