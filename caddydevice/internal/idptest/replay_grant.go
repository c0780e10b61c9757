// This file holds what a replay does with codes and tokens: it hands them out,
// and takes them back.

package idptest

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// code is one device authorization at the identity provider.
type code struct {
	device, user     string
	scope, nonce     string
	challenge        string // of PKCE; "" for none
	issued           time.Time
	life             time.Duration
	sound            bool // an approval counts
	approved, denied bool
	polls            int
	last             time.Time // the poll that counts as the last
	every            time.Duration
	unknown          bool
	grant            *grant // once tokens were handed out
	answer           Reply  // that they were handed out with
}

// grant is what came of an approval.
type grant struct {
	scope, nonce    string
	since           time.Time
	access, refresh string   // the ones of now
	spent           []string // refresh tokens of before
	dead            bool
}

// Approve is a person's yes to all codes that wait for one. It reports how many
// there were.
func (r *Replay) Approve() int { return r.decide(func(c *code) { c.approved = true }) }

// Deny is a person's no to all codes.
func (r *Replay) Deny() int {
	return r.decide(func(c *code) { c.denied = !r.Polls.Undeniable })
}

func (r *Replay) decide(what func(*code)) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.codes {
		if c.sound && c.grant == nil && !c.unknown && (c.polls > 0 || !r.Polls.PolledFirst) {
			what(c)
			n++
		}
	}
	return n
}

// Expire ends the life of all codes, whatever was said of it.
func (r *Replay) Expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.codes {
		c.life = 0
		if r.Polls.Kept > 0 {
			c.issued = time.Now()
		}
	}
}

// Forget loses all codes, as a server does that was restarted, or cleaned up.
func (r *Replay) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.codes {
		c.unknown = true
	}
}

// Rotate puts another signing key in place.
func (r *Replay) Rotate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rotations++
}

// Dead reports whether any tokens were taken back.
func (r *Replay) Dead() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.grants, func(g *grant) bool { return g.dead })
}

// authorize answers a device authorization request.
func (r *Replay) authorize(q *Request) Reply {
	if r.Codes.PerHour > 0 && r.startsSince(q.When.Add(-time.Hour)) >= r.Codes.PerHour {
		return r.Codes.TooMany
	}
	n := len(r.codes)
	c := &code{
		device: r.Codes.Code, user: r.Codes.UserCodes[n%len(r.Codes.UserCodes)],
		scope: q.Form.Get("scope"), nonce: q.Form.Get("nonce"),
		issued: q.When, life: r.Codes.Life, every: r.Polls.Pace.Every,
		sound: r.Codes.Sound == nil || r.Codes.Sound(r, q),
	}
	if n > 0 {
		c.device = fmt.Sprintf("%s%d", c.device, n+1)
	}
	if r.Polls.PKCE {
		c.challenge = q.Form.Get("code_challenge")
	}
	if r.Polls.Pace.FromStart {
		c.last = c.issued
	}
	r.codes = append(r.codes, c)
	return Raw(http.StatusOK, r.expand(r.Codes.Answer, map[string]string{"device_code": c.device, "user_code": c.user}))
}

func (r *Replay) startsSince(when time.Time) (n int) {
	for _, c := range r.codes {
		if c.issued.After(when) {
			n++
		}
	}
	return n
}

func (r *Replay) codeOf(device string) *code {
	for _, c := range r.codes {
		if c.device == device {
			return c
		}
	}
	return nil
}

// poll answers a device access token request.
func (r *Replay) poll(q *Request) Reply {
	known := r.Polls.Grant
	if known == "" {
		known = deviceGrant
	}
	if q.Form.Get("grant_type") != known {
		return r.BadGrant
	}
	c := r.codeOf(q.Form.Get("device_code"))
	if c == nil || c.unknown || (r.Polls.Kept > 0 && q.When.Sub(c.issued) >= c.life+r.Polls.Kept) {
		return r.Polls.Unknown
	}
	c.polls++
	if c.grant != nil {
		return r.again(c)
	}
	for _, check := range r.Polls.Order {
		if reply := check(r, c, q.When); reply != nil {
			return *reply
		}
	}
	if c.challenge != "" && c.challenge != challengeOf(q.Form.Get("code_verifier")) {
		return refused(http.StatusBadRequest, "invalid_grant", "PKCE verification failed")
	}
	c.grant = &grant{scope: c.scope, nonce: c.nonce, since: q.When}
	r.grants = append(r.grants, c.grant)
	c.answer = r.handOut(c.grant, r.Tokens.Answer)
	return c.answer
}

// again answers a code whose tokens were handed out.
func (r *Replay) again(c *code) Reply {
	if r.Polls.ReuseRevokes {
		c.grant.dead = true
	}
	if r.Polls.SameAgain {
		return c.answer
	}
	return r.Polls.Reused
}

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// tooFast is the check of the pace.
func tooFast(r *Replay, c *code, now time.Time) *Reply {
	pace := r.Polls.Pace
	gap := now.Sub(c.last)
	early := !c.last.IsZero() && (gap < c.every || (pace.Strict && gap == c.every))
	if !early || pace.Moves {
		c.last = now
	}
	switch {
	case early:
		c.every += pace.Adds
		return &r.Polls.SlowDown
	case pace.Forgives:
		c.every = pace.Every
	}
	return nil
}

// expired is the check of the code's life.
func expired(r *Replay, c *code, now time.Time) *Reply {
	if now.Sub(c.issued) < c.life {
		return nil
	}
	c.unknown = r.Polls.Once
	return &r.Polls.Expired
}

// denied is the check for a person's no.
func denied(r *Replay, c *code, _ time.Time) *Reply {
	if !c.denied {
		return nil
	}
	c.unknown = r.Polls.Once
	return &r.Polls.Denied
}

// pending is the check for a person's yes.
func pending(r *Replay, c *code, _ time.Time) *Reply {
	if c.approved {
		return nil
	}
	return &r.Polls.Pending
}

// unapproved makes a check only while nobody has approved.
func unapproved(check Check) Check {
	return func(r *Replay, c *code, now time.Time) *Reply {
		if c.approved {
			return nil
		}
		return check(r, c, now)
	}
}

// refresh answers a refresh request.
func (r *Replay) refresh(q *Request) Reply {
	token := q.Form.Get("refresh_token")
	for _, g := range r.grants {
		switch {
		case slices.Contains(g.spent, token):
			g.dead = g.dead || r.Refreshes.SpentRevokes
			return r.Refreshes.Spent
		case g.dead || token == "" || token != g.refresh:
			continue
		}
		if r.Refreshes.Rotates {
			g.spent = append(g.spent, token)
			g.refresh = ""
		}
		answer := r.Refreshes.Answer
		if answer == "" {
			answer = r.Tokens.Answer
		}
		return r.handOut(g, answer)
	}
	return r.Refreshes.Spent
}

// revoke answers a revocation request (RFC 7009 §2.2): a token that is not known
// counts as revoked.
func (r *Replay) revoke(q *Request) Reply {
	for _, g := range r.grants {
		if token := q.Form.Get("token"); token != "" && (token == g.refresh || token == g.access) {
			g.dead = true
		}
	}
	return Reply{Status: http.StatusOK}
}

// userInfo answers with the claims of whoever the access token is for.
func (r *Replay) userInfo(q *Request) Reply {
	token, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	if !ok || !slices.ContainsFunc(r.grants, func(g *grant) bool { return !g.dead && g.access == token }) {
		return refused(http.StatusUnauthorized, "invalid_token", "The access token is invalid")
	}
	return Raw(http.StatusOK, r.expand(r.Claims, nil))
}
