// This file tests the gate with every identity provider, replayed: what each is
// called, what is written into the Caddyfile for it, and what is told of it.

package caddydevice

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

// dialect is one identity provider.
type dialect struct {
	name  string
	idp   func() *idptest.Replay
	lines string // of the Caddyfile; ISSUER, CLIENT_ID and CLIENT_SECRET are the replay's

	// What the client has to be shown, to the letter.
	code, uri, complete string
	expires, interval   int

	// Who the upstream hears of.
	user, groups, subject string

	// life is how long an access token lives, and so when the next refresh is
	// due; 0 where there is none.
	life time.Duration
	// slow is how often the identity provider may say that polls come too fast.
	slow int

	// What a sign-in comes to once the person declines, and once its code is
	// not known any more.
	declined, forgotten string
	// tells is set where an expiry is told, and not just never approved.
	tells bool
	// stranger is what becomes of a sign-in by a client with a wrong secret or,
	// without secrets, another id: refused at once, or a state.
	stranger string

	stories []story
}

// story is something that is told of an identity provider. Its name begins with
// the parts of the list of wire behaviour that it shows.
type story struct {
	name  string
	idp   func() *idptest.Replay // nil: the dialect's
	lines string                 // "": the dialect's
	tell  func(*dialect, *replayed)
}

// usual are the stories of every identity provider that signs people in.
func (d *dialect) usual() []story {
	expired := "§0.1 1c nobody comes, and it is pending for ever"
	if d.tells {
		expired = "1c nobody comes"
	}
	all := []story{
		{name: "1a 1b sign-in, refreshes, sign-out", tell: (*dialect).signIn},
		{name: "1c declined", tell: (*dialect).decline},
		{name: expired, tell: (*dialect).expire},
		{name: "1c code unknown", tell: (*dialect).forget},
		{name: "1c bad client", tell: (*dialect).comeAsStranger},
	}
	if d.tells {
		all = append(all, story{name: "1c expired before its time", tell: (*dialect).expireEarly})
	}
	if r := d.idp(); r.Polls.SlowDown.Status != 0 && r.Polls.SlowDown.Body != r.Polls.Pending.Body {
		all = append(all, story{name: "§0.3 1c too fast", tell: (*dialect).slowDown})
	}
	return append(all, d.stories...)
}

// TestDialects signs people in by the whole gate, at each identity provider.
func TestDialects(t *testing.T) {
	for _, d := range slices.Concat(documented(), others(), hosted()) {
		t.Run(d.name, func(t *testing.T) { d.run(t, d.usual()) })
	}
	for _, d := range unable() {
		t.Run(d.name, func(t *testing.T) { d.run(t, d.stories) })
	}
}

func (d *dialect) run(t *testing.T, stories []story) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				provider, lines := d.idp, d.lines
				if s.idp != nil {
					provider = s.idp
				}
				if s.lines != "" {
					lines = s.lines
				}
				g := newReplayed(t, provider(), lines)
				s.tell(d, g)
				for _, line := range g.idp.Story() {
					t.Log(line)
				}
			})
		})
	}
}

// signIn is the way that everything goes well.
func (d *dialect) signIn(g *replayed) {
	g.t.Helper()
	d.wantShown(g, g.begin())
	g.watch(31 * time.Second)
	g.wantState("pending")
	g.approve()
	g.wantIn(d.user, d.groups)
	g.wantSubject(d.subject)
	polls := g.polls("")
	d.wantPace(g)
	d.stay(g)
	if n := g.polls(""); n != polls {
		g.t.Errorf("%d polls after the tokens had come", n-polls)
	}
	d.signOut(g)
}

// wantShown compares the instructions with what the identity provider said.
func (d *dialect) wantShown(g *replayed, ans said) {
	g.t.Helper()
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"user_code", ans.UserCode, d.code},
		{"verification_uri", ans.URI, d.uri},
		{"verification_uri_complete", ans.Complete, d.complete},
		{"expires_in", ans.ExpiresIn, d.expires},
		{"interval", ans.Interval, d.interval},
	} {
		if c.got != c.want {
			g.t.Errorf("%s is %v, want %v", c.what, c.got, c.want)
		}
	}
}

// approve is a person's yes, and the time that it takes to get around.
func (g *replayed) approve() {
	g.t.Helper()
	if g.idp.Approve() == 0 {
		g.t.Fatal("no code can be approved")
	}
	g.watch(24 * time.Second)
}

// wantPace checks that all polls came later than the interval after the answer
// before, but not much later where all goes well, and that the identity provider
// was content with that.
func (d *dialect) wantPace(g *replayed) {
	g.t.Helper()
	all := g.idp.Exchanges(idptest.Poll)
	if len(all) < 3 {
		g.t.Errorf("%d polls in all", len(all))
	}
	interval := time.Duration(d.interval) * time.Second
	for i := 1; i < len(all); i++ {
		gap := all[i].When.Sub(all[i-1].End)
		if gap <= interval || (gap > interval+2*time.Second && d.slow == 0) {
			g.t.Errorf("poll %d came %s after the answer before", i+1, gap)
		}
	}
	if n := g.polls("slow_down"); n != d.slow {
		g.t.Errorf("%d times slow_down, want %d", n, d.slow)
	}
}

// stay uses the session through two lives of its access token.
func (d *dialect) stay(g *replayed) {
	g.t.Helper()
	if d.life == 0 {
		time.Sleep(time.Hour)
		g.wantIn(d.user, d.groups)
		return
	}
	step := min(d.life/10, 6*time.Hour)
	for used := time.Duration(0); used <= 2*d.life; used += step {
		time.Sleep(step)
		g.wantIn(d.user, d.groups)
	}
	refreshes := g.idp.Exchanges(idptest.Refresh)
	if len(refreshes) < 2 || len(refreshes) > 4 {
		g.t.Errorf("%d refreshes in two lives of a token", len(refreshes))
	}
	for _, e := range refreshes {
		if e.Status != http.StatusOK || e.Word != "" {
			g.t.Errorf("a refresh: %s", e)
		}
	}
}

// signOut ends the session here and, where that can be, there.
func (d *dialect) signOut(g *replayed) {
	g.t.Helper()
	if ans := g.ask("POST", "/.device/logout"); ans.code != http.StatusNoContent {
		g.t.Errorf("signing out: %d %s", ans.code, ans.body)
	}
	time.Sleep(10 * time.Second)
	if g.idp.Where.Revocation != "" && g.idp.RevokeBy == "" && !g.idp.Dead() {
		g.t.Errorf("no token was revoked\n%s", g.log())
	}
	if ans := g.ask("GET", "/hello"); ans.code != http.StatusUnauthorized {
		g.t.Errorf("signed out: %d %s", ans.code, ans.body)
	}
}

// decline is a person's no.
func (d *dialect) decline(g *replayed) {
	g.t.Helper()
	ans := g.begin()
	g.watch(12 * time.Second)
	g.idp.Deny()
	g.watch(24 * time.Second)
	if d.declined == "expired" { // nobody tells us of the no
		g.wantState("pending")
		g.watch(time.Duration(ans.ExpiresIn) * time.Second)
	}
	g.wantState(d.declined)
}

// expire lets a code run out, and has somebody approve it after that.
func (d *dialect) expire(g *replayed) {
	g.t.Helper()
	ans := g.begin()
	g.watch(time.Duration(ans.ExpiresIn+1) * time.Second)
	g.wantState("expired")
	polls := g.polls("")
	g.idp.Approve()
	g.watch(5 * time.Minute)
	g.wantState("expired")
	if n := g.polls(""); polls == 0 || n != polls {
		g.t.Errorf("%d polls while the code lived, %d in all", polls, n)
	}
}

// expireEarly is an identity provider whose clock is ahead of ours.
func (d *dialect) expireEarly(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.idp.Expire()
	g.watch(24 * time.Second)
	g.wantState("expired")
}

// forget is an identity provider that lost the code.
func (d *dialect) forget(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(12 * time.Second)
	g.idp.Forget()
	g.watch(24 * time.Second)
	g.wantState(d.forgotten)
	polls := g.polls("")
	g.watch(time.Minute)
	if n := g.polls(""); n != polls {
		g.t.Errorf("%d polls after the last answer", n-polls)
	}
}

// comeAsStranger is a client that the identity provider does not know as such.
func (d *dialect) comeAsStranger(g *replayed) {
	g.t.Helper()
	g.estrange()
	d.wantRefused(g, d.stranger)
}

// estrange makes the identity provider know another secret or, where there are
// none, another client.
func (g *replayed) estrange() {
	if g.idp.ClientSecret != "" && g.resolved.ClientSecret != "" {
		g.idp.ClientSecret = "quite-another-secret-than-the-one-in-the-configuration"
	} else {
		g.idp.ClientID = "somebody-else"
	}
}

// wantRefused wants a sign-in not to begin, or to come to something by itself
// where everybody approves.
func (d *dialect) wantRefused(g *replayed, want string) {
	g.t.Helper()
	if want == "refused" {
		ans := g.ask("GET", "/hello")
		if ans.code != http.StatusBadGateway || ans.Session != "" {
			g.t.Errorf("a client that is not known: %d %s", ans.code, ans.body)
		}
		g.wantLog("refused to start a sign-in", "client_id")
		return
	}
	ans := g.begin()
	g.watch(31 * time.Second)
	g.idp.Approve()
	g.watch(time.Duration(ans.ExpiresIn) * time.Second)
	g.wantState(want)
	if want == "failed" {
		g.wantLog("error sign-in failed", "invalid_client")
	}
}

// slowDown is an identity provider that finds polls too fast once.
func (d *dialect) slowDown(g *replayed) {
	g.t.Helper()
	g.begin()
	g.watch(7 * time.Second)
	g.idp.Script(idptest.Poll, g.idp.Polls.SlowDown)
	g.watchPolls(2)
	if gap, least := g.lastGap(), time.Duration(d.interval+5)*time.Second; gap < least {
		g.t.Errorf("the poll after that came %s later, want %s at least", gap, least)
	}
	g.approve()
	g.wantIn(d.user, d.groups)
}

// watchPolls lets as many more polls come, if they do.
func (g *replayed) watchPolls(n int) {
	g.t.Helper()
	want := g.polls("") + n
	for range 50 {
		if g.polls("") >= want {
			return
		}
		g.watch(time.Second)
	}
	g.t.Errorf("no poll any more\n%s", g.log())
}

// refuseTokens is a sign-in whose tokens are not to be had for what they are,
// and an operator who is told that in these words.
func refuseTokens(words ...string) func(*dialect, *replayed) {
	return func(_ *dialect, g *replayed) {
		g.t.Helper()
		ans := g.ask("GET", "/hello")
		if ans.Session != "" {
			g.key = ans.Session
			g.watch(12 * time.Second)
			g.approve()
			g.wantState("failed")
		}
		if g.ask("GET", "/hello"); g.upstream != nil {
			g.t.Error("a request passed")
		}
		g.wantLog(words...)
	}
}

// refuseStart is a sign-in that cannot begin, and why in these words.
func refuseStart(words ...string) func(*dialect, *replayed) {
	return func(_ *dialect, g *replayed) {
		g.t.Helper()
		if ans := g.ask("GET", "/hello"); ans.code < 500 || ans.Session != "" {
			g.t.Errorf("starting a sign-in: %d %s", ans.code, ans.body)
		}
		if n := len(g.idp.Exchanges(idptest.Poll)); n != 0 {
			g.t.Errorf("%d polls", n)
		}
		g.wantLog(words...)
	}
}

// endLate is a code whose last poll is answered once it has run out here, as one
// that is not known any more.
func (d *dialect) endLate(g *replayed) {
	g.t.Helper()
	ans := g.begin()
	g.watch(time.Duration(ans.ExpiresIn-8) * time.Second)
	g.idp.Forget()
	g.idp.Script(idptest.Poll, slowly, slowly)
	g.watch(30 * time.Second)
	if n := g.polls(g.idp.Exchanges(idptest.Poll)[g.polls("")-1].Word); n != 1 {
		g.t.Errorf("%d polls of a code that is not known", n)
	}
	g.wantState("expired")
}

// slowly is the usual answer, nine seconds later.
var slowly = idptest.Reply{Delay: 9 * time.Second}

// sendNoSecret is a client that has a secret where none may be sent.
func sendNoSecret(d *dialect) story {
	return story{
		name: "1c a secret of a public client", lines: strings.Replace(d.lines, "client_id CLIENT_ID", "client_id CLIENT_ID\n\t\tclient_secret some-canary-secret", 1),
		tell: func(d *dialect, g *replayed) { d.wantRefused(g, "refused") },
	}
}
