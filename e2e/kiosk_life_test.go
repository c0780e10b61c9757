// This file is a screen's long life: codes that are renewed, a gateway that is
// loaded anew or goes away, and nobody there to help.
package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestKioskLivingCodes: a watched page gets another code in place, the one
// before still works; once renewals are used up it takes a touch.
func TestKioskLivingCodes(t *testing.T) {
	t.Parallel()
	const life = 40
	s := newStage(t, plan{
		caddyfile: oneSite(deviceAuth("", manyStarts, pageBlock("renew 1"))), expiresIn: life,
	})
	for _, on := range screens {
		t.Run("renewed on "+on.name, func(t *testing.T) {
			t.Parallel()
			l := s.newLooker(t, on)
			l.open(s.url + "/wall/" + strings.ReplaceAll(on.name, " ", "-"))
			l.renewed(l.userCode())
			l.look("renewed")
		})
	}
	t.Run("a slow typist", func(t *testing.T) {
		t.Parallel()
		l := s.newLooker(t, screens[0])
		l.open(s.url + "/wall/slow")
		first := l.userCode()
		l.renewed(first)
		if n := len(l.newPages()); n != 1 {
			t.Errorf("%d pages were loaded to show another code", n)
		}
		s.approve(t, s.code(t, first).complete) // within the rest of its life
		l.shows("active", "welcome")
	})
	t.Run("nobody comes", func(t *testing.T) {
		t.Parallel()
		l := s.newLooker(t, screens[0])
		begun := time.Now()
		l.open(s.url + "/wall/nobody")
		first := l.userCode()
		l.renewed(first)
		second := l.userCode()
		l.shows("expired", "expired")
		if took := time.Since(begun); took < life*time.Second*7/4-2*time.Second {
			t.Errorf("it was over after %v", took)
		}
		l.must(l.Click(l.ctx, "h1")) // anywhere
		l.must(l.Wait(l.ctx, `main[data-status="pending"]`))
		if third := l.userCode(); third == first || third == second {
			t.Errorf("a touch brought %s again", third)
		}
	})
}

// renewed waits for another code than that.
func (l *looker) renewed(code string) {
	l.t.Helper()
	l.soon(fmt.Sprintf(`main[data-status="pending"]:not([data-code=%q])`, code))
}

// newPages are the navigations so far.
func (l *looker) newPages() []string {
	var entries []string
	l.must(l.Call(l.ctx, `() => performance.getEntriesByType("navigation").map(e => e.name)`, nil, &entries))
	return entries
}

// TestKioskSurvives: what happens to the gateway takes no page down.
func TestKioskSurvives(t *testing.T) {
	t.Parallel()
	caddyfile := oneSite(deviceAuth("", manyStarts))
	s := newStage(t, plan{caddyfile: caddyfile})
	l := s.newLooker(t, screens[0])
	wall := s.url + "/wall"
	l.open(wall)
	code := l.userCode()

	s.gate.Reload(t, strings.Replace(caddyfile, "log\n", header("reloaded"), 1))
	s.passTime(t, 3)
	l.look("after a reload")

	s.gate.Stop(t)
	l.must(l.Wait(l.ctx, ".trouble"))
	said, err := l.Text(l.ctx, ".trouble")
	l.must(err)
	if !strings.Contains(said, "cannot be reached right now. Next try in ") {
		t.Errorf("while the gateway is away the page says %q", said)
	}
	l.look("gateway away")
	s.gate.StartAgain(t)
	s.await(t, "the page to be well again", func() bool {
		said, err := l.Text(l.ctx, ".trouble")
		return err == nil && said == ""
	})
	if after := l.userCode(); after != code || len(l.newPages()) != 1 {
		t.Errorf("the code was %s, and is %s on another page", code, after)
	}
	s.approve(t, s.code(t, code).complete)
	l.shows("active", "welcome after all that")
	l.must(l.WaitURL(l.ctx, func(at string) bool { return at == wall }))
}
