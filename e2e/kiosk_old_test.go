// This file is about players that lack much of what browsers have today: each
// hears what becomes of a sign-in all the same, with nobody there to help.
package e2e

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/chrome"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

// oldWebKit leaves a page's script with what WebKit had around 2012, in a
// player that has no stream of events either.
const oldWebKit = `(() => {
	const without = (from, names) => names.split(" ").forEach(name => delete from[name]);
	without(window, "EventSource fetch Headers Request Response AbortController Promise Symbol Map Set WeakMap WeakSet " +
		"Proxy Reflect URL URLSearchParams PointerEvent IntersectionObserver ResizeObserver MutationObserver CSS " +
		"queueMicrotask requestAnimationFrame requestIdleCallback structuredClone BroadcastChannel globalThis");
	without(Document.prototype, "hidden visibilityState append prepend replaceChildren");
	without(Element.prototype, "closest matches remove append prepend before after replaceWith replaceChildren " +
		"insertAdjacentElement toggleAttribute animate");
	without(HTMLFormElement.prototype, "requestSubmit reportValidity");
	without(KeyboardEvent.prototype, "key code");
	without(NodeList.prototype, "forEach entries keys values");
	without(XMLHttpRequest.prototype, "timeout responseType responseURL");
	without(Object, "assign entries values fromEntries hasOwn");
	without(Array, "from of");
	without(Array.prototype, "find findIndex includes fill flat flatMap at");
	without(String.prototype, "includes startsWith endsWith repeat padStart padEnd replaceAll at");
	without(Number, "isNaN isFinite isInteger");
	without(Math, "sign trunc");
	const parse = DOMParser.prototype.parseFromString; // it read XML only
	DOMParser.prototype.parseFromString = function (text, type) {
		return type === "text/html" ? null : parse.call(this, text, type);
	};
})()`

// players are old ones, each on a screen of its own.
var players = []struct {
	name    string
	screen  screen
	options chrome.Options
}{
	{"without a stream of events", screens[0], chrome.Options{Before: "delete window.EventSource"}},
	{"an old WebKit", screens[1], chrome.Options{Before: oldWebKit}},
	{"without JavaScript", screens[0], chrome.Options{NoScript: true}},
	{"without JavaScript on a phone", screens[7], chrome.Options{NoScript: true}},
}

// TestKioskOldPlayers: a denial and an approval get there, long before a code
// would have run out.
func TestKioskOldPlayers(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	for _, p := range players {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			l := s.newLookerWith(t, p.screen, p.options)
			path := "/wall/" + strings.ReplaceAll(p.name, " ", "-")
			l.open(s.url + path)
			l.must(l.Wait(l.ctx, `main[data-status="pending"]`))
			l.fits("code " + p.name)

			l.must(idpserver.NewPerson(t).Deny(l.ctx, idpserver.Device{Complete: s.code(t, l.userCode()).complete}, idpserver.Alice, idpserver.AlicePassword))
			l.soon(`main[data-status="denied"]`)
			l.fits("denied " + p.name)
			l.must(l.Click(l.ctx, "#new-code"))
			l.soon(`main[data-status="pending"]`)

			s.approve(t, s.code(t, l.userCode()).complete)
			l.soon(`main[data-status="active"]`)
			l.must(l.WaitURL(l.ctx, func(at string) bool { return at == s.url+path }))
			l.must(l.Wait(l.ctx, "pre"))
			l.wantPolls(!p.options.NoScript)
			l.wantNoScriptErrors()
			seen := s.upstreamSaw(path)
			if len(seen) != 1 {
				t.Fatalf("%d requests reached the upstream", len(seen))
			}
			wantAlice(t, seen[0])
		})
	}
}

// TestKioskOldPlayersRenew: another code comes by itself, and stands where the
// one before stood.
func TestKioskOldPlayersRenew(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{expiresIn: 40})
	for _, p := range players {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			l := s.newLookerWith(t, p.screen, p.options)
			l.open(s.url + "/wall/" + strings.ReplaceAll(p.name, " ", "-"))
			first, at := l.userCode(), l.places()
			l.renewed(first)
			l.fits("renewed " + p.name)
			if now := l.places(); !slices.Equal(now, at) {
				t.Errorf("QR code and code stood at %v, and stand at %v", at, now)
			}
			l.wantPolls(!p.options.NoScript)
			l.wantNoScriptErrors()
		})
	}
}

// places are where the QR code and the code stand on the screen, in pixels, but
// for the slow move of the whole page.
func (l *looker) places() []float64 {
	l.t.Helper()
	var at []float64
	l.must(l.Call(l.ctx, `() => {
		const move = new DOMMatrix(getComputedStyle(document.querySelector("main")).transform);
		const qr = document.querySelector(".qr svg").getBoundingClientRect(), code = document.querySelector(".code").getBoundingClientRect();
		return [qr.left - move.e, qr.top - move.f, qr.width, code.left - move.e, code.top - move.f].map(Math.round);
	}`, nil, &at))
	return at
}

// wantPolls fails unless the page asked one question after the other, or none
// at all.
func (l *looker) wantPolls(want bool) {
	l.t.Helper()
	polls := 0
	for _, address := range l.Requests() {
		u, err := url.Parse(address)
		l.must(err)
		switch {
		case u.Path != "/.device/wait" || u.Query().Get("timeout") == "0": // it looks whether the server answers
		case u.RawQuery == "timeout=25":
			polls++
		default:
			l.t.Errorf("the page asked for %s", address)
		}
	}
	if (polls > 0) != want {
		l.t.Errorf("the page asked %d times what has become of the sign-in", polls)
	}
}
