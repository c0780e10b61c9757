// This file holds the codes of a sign-in as they are polled, each at its own
// pace: the one that is shown, and earlier ones that still work.

package keeper

import (
	"math/rand/v2"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

const (
	margin = idp.PollMargin
	// slowDownStep is RFC 8628 §3.5's.
	slowDownStep = 5 * time.Second
	// widest is where back-off and the widening for lack of watchers end.
	widest = time.Minute
	// jitter spreads retries, as a part of the gap.
	jitter = 0.1
)

// pace is when to try next.
type pace struct {
	last     time.Time     // end of the last answer
	failures int           // answers in a row that told nothing
	retry    time.Duration // the last answer's Retry-After
}

// gap is the interval and a margin, doubled for each failure in a row and for
// each poll that nobody watched, no further than widest unless the identity
// provider asked for more.
func (p *pace) gap(interval time.Duration, unwatched int) time.Duration {
	gap := interval + margin
	for range min(p.failures+unwatched, 10) {
		gap *= 2
	}
	return max(min(gap, widest), interval+margin, p.retry)
}

// after is when a gap is over, and a little later where that is a retry.
func (p *pace) after(gap time.Duration) time.Time {
	if p.failures > 0 {
		gap += time.Duration(rand.Float64() * jitter * float64(gap))
	}
	return p.last.Add(gap)
}

// code is one code that is polled.
type code struct {
	pace
	login   session.Login
	atLeast time.Duration // the interval with every slow_down, also if it could not be stored
	at      time.Time     // when to poll next
}

// interval is the least time between two polls.
func (c *code) interval() time.Duration { return max(c.atLeast, c.login.Interval) }

// follow makes the codes those of the snapshot. A new one was issued just now:
// its first poll comes one interval later. Nobody polls for one that has run
// out, or that the identity provider has put an end to.
func (f *flow) follow(snap *session.Snapshot) {
	known := map[secret.String]*code{}
	for _, c := range f.codes {
		known[c.login.DeviceCode] = c
	}
	f.codes = f.codes[:0:0]
	for _, login := range snap.Codes() {
		if f.over[login.DeviceCode] {
			continue
		}
		c := known[login.DeviceCode]
		if c == nil {
			c = &code{pace: pace{last: login.Issued}, at: login.Issued.Add(login.Interval + margin)}
		}
		c.login = login
		f.codes = append(f.codes, c)
	}
}

// begin makes the first poll of each code from here on come one interval after
// now: somebody else may have polled until this moment.
func (f *flow) begin(now time.Time) {
	for _, c := range f.codes {
		c.last = now
	}
}

// dueCode is the code to poll now, nil for none.
func (f *flow) dueCode(now time.Time) *code {
	for _, c := range f.codes {
		if !now.Before(c.at) && now.Before(c.login.Expires) {
			return c
		}
	}
	return nil
}

// shows reports whether it is the code that is on the screen.
func (f *flow) shows(c *code) bool {
	login := f.session.Now().Login
	return login != nil && login.DeviceCode == c.login.DeviceCode
}
