// This file holds when a session's tokens are refreshed: before they run out,
// also between its client's requests, and at once where they have.

package keeper

import (
	"math/rand/v2"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

const (
	// refreshFrom is the part of a token's life after which it is refreshed,
	// refreshSpread the part over which sessions that began together spread.
	refreshFrom, refreshSpread = 0.8, 0.1
	// refreshGap is the first gap after a try that failed; it doubles each time
	// up to widest.
	refreshGap = 2 * time.Second
	// busyGap is the gap after another node was found at work.
	busyGap = time.Second
	// refreshJitter spreads the tries after an outage, as a part of the gap.
	refreshJitter = 0.25
	// leastGap is the shortest gap between two refreshes of a session, however
	// short its tokens live.
	leastGap = time.Second
	// presentations is how often a refresh token is sent: once, and once more
	// where the answer was lost. The identity provider may take a third time for
	// theft.
	presentations = 2
)

// The outcomes of a try to refresh a session. The set is closed.
const (
	Refreshed          = "refreshed"
	RefreshRefused     = "refused"        // the session has ended
	RefreshLost        = "lost"           // the session has ended: an earlier answer did not arrive
	RefreshOther       = "other_identity" // the session has ended: the tokens were somebody else's
	RefreshUntrusted   = "untrusted"      // the session has ended: the tokens could not be trusted
	RefreshFailed      = "failed"         // it is tried again
	RefreshBusy        = "busy"           // another node is at it
	RefreshNotRecorded = "not_recorded"   // the store did not take it; it is tried again
)

// Refresh is one try to refresh a session, for the log and the metrics. Err
// holds no secrets.
type Refresh struct {
	Outcome string
	// Took is how long the identity provider took; 0 where it was not asked.
	Took time.Duration
	Err  error
}

// renewal keeps one session's tokens fresh. A worker that has taken it out of
// the queue owns everything but the job, done and notBefore, which Keeper.mu
// guards.
type renewal struct {
	job
	keeper  *Keeper
	session *session.Session
	// done is closed at the end of the next try, for who waits for it.
	done chan struct{}
	// notBefore is before when no request brings the next try forward.
	notBefore time.Time

	failures int           // tries in a row that failed
	runOut   int           // answers in a row whose tokens had run out
	retry    time.Duration // the last answer's Retry-After
	busy     bool          // another node was at it
	// resume is when to look again, where that is known; else the zero time.
	resume time.Time

	tally tally
	// finish is there while the provider's answer is in hand, but what it comes
	// to is not written down yet.
	finish func() (over bool)
	// tokens are those of the answer, token is what they replace, and identity
	// is made of them once they are verified.
	tokens   idp.Tokens
	token    secret.String
	identity *session.Identity
}

func (r *renewal) lease() string { return "refresh/" + r.session.ID().String() }

// renewable reports whether the session's tokens are to be kept fresh here. A
// browser's session that nobody has claimed opens nothing, and the claim makes
// another session with its tokens: they must not change meanwhile.
func renewable(s *session.Session, snap *session.Snapshot) bool {
	return snap.State == session.Active && snap.Identity.RefreshToken != "" && !snap.Identity.TokensUntil.IsZero() &&
		(s.Kind() != session.Browser || snap.Claimed())
}

// refreshAt is when the tokens are to be refreshed at the earliest. It is never
// later than their end, also where two clocks disagree on which came first.
func refreshAt(id *session.Identity) time.Time {
	life := id.TokensUntil.Sub(id.TokensSince)
	if life <= 0 {
		return id.TokensUntil
	}
	return id.TokensSince.Add(time.Duration(refreshFrom * float64(life)))
}

// spread is a random part of the time over which refreshes spread.
func spread(id *session.Identity) time.Duration {
	life := id.TokensUntil.Sub(id.TokensSince)
	return time.Duration(rand.Float64() * refreshSpread * float64(max(life, 0)))
}

// keep begins to keep the session's tokens fresh, if nobody does yet.
func (k *Keeper) keep(s *session.Session) {
	snap := s.Now()
	if !renewable(s, snap) || k.closed() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.renewalOf(s, snap)
}

// renewalOf is the session's renewal, made where there is none. k.mu is held.
func (k *Keeper) renewalOf(s *session.Session, snap *session.Snapshot) *renewal {
	if r, ok := k.renewals[s.ID()]; ok {
		return r
	}
	r := &renewal{keeper: k, session: s, done: make(chan struct{})}
	r.job = job{index: -1, task: r}
	k.renewals[s.ID()] = r
	k.tokens.put(&r.job, refreshAt(snap.Identity).Add(spread(snap.Identity)))
	return r
}

// Renew asks for the refresh of a session whose tokens have run out. It returns
// a channel that is closed at the end of the try that is under way or comes
// next; nil, and after which time to come back, where the last one failed.
func (k *Keeper) Renew(s *session.Session) (done <-chan struct{}, after time.Duration) {
	snap := s.Now()
	if !renewable(s, snap) || k.closed() {
		return nil, 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.renewalOf(s, snap)
	if !r.queued() {
		return r.done, 0
	}
	now := time.Now()
	if wait := r.notBefore.Sub(now); wait > busyGap {
		return nil, wait
	}
	if at := maxTime(now, r.notBefore); at.Before(r.due) {
		k.tokens.put(&r.job, at)
	}
	return r.done, 0
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (r *renewal) turn() { r.keeper.runRenewal(r) }

// runRenewal does what is due for a renewal and puts it back, unless the
// session is over.
func (k *Keeper) runRenewal(r *renewal) {
	over := k.renew(r)
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	close(r.done)
	r.done = make(chan struct{})
	if over {
		delete(k.renewals, r.session.ID())
		return
	}
	at := r.next(now)
	r.notBefore = time.Time{}
	if r.failures > 0 || r.busy {
		r.notBefore = at
	}
	k.tokens.put(&r.job, at)
}

// next is when to try next: in time before the tokens run out or, after a try
// that failed, when its gap is over.
func (r *renewal) next(now time.Time) time.Time {
	switch {
	case !r.resume.IsZero():
		return r.resume
	case r.busy:
		return now.Add(busyGap)
	case r.failures == 0:
		id := r.session.Now().Identity
		if id == nil {
			return now // over by now: the next turn sees to it
		}
		return maxTime(refreshAt(id).Add(spread(id)), now.Add(leastGap))
	}
	gap := min(refreshGap<<min(r.failures-1, 10), widest)
	if r.finish != nil {
		gap = min(gap, settleGap)
	}
	gap = max(gap, min(r.retry, mostRetryAfter))
	return now.Add(gap + time.Duration(rand.Float64()*refreshJitter*float64(gap)))
}

// again keeps the renewal for another try.
func (r *renewal) again() bool {
	r.failures++
	return false
}
