// This file holds the answers that stay open until something changes.

package caddydevice

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

const (
	// mostWaits are the open waits and streams of one session.
	mostWaits = 4
	// defaultWait and mostWait bound GET wait.
	defaultWait = 30 * time.Second
	mostWait    = 120 * time.Second
	// progressEvery is how often a stream says that nothing has changed yet.
	progressEvery = 15 * time.Second
)

// waitStatus are the HTTP statuses of GET wait.
var waitStatus = map[session.State]int{
	session.Active: http.StatusOK, session.Pending: http.StatusAccepted, session.Approved: http.StatusAccepted, session.Denied: http.StatusForbidden,
	session.Expired: http.StatusGone, session.Failed: http.StatusGone, session.Ended: http.StatusGone, session.Superseded: http.StatusGone,
}

// getWait answers when the caller's sign-in is decided, or after the timeout.
func (h *Handler) getWait(w http.ResponseWriter, r *http.Request) error {
	timeout, ok := waitTimeout(r.URL.Query().Get("timeout"))
	if !ok {
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "parameter"})
	}
	s, cred, done, err := h.own(w, r)
	if done {
		return err
	}
	if s == nil {
		return h.answer(w, r, http.StatusUnauthorized, &page.Answer{Status: page.Required, Detail: "unknown"})
	}
	if wantsEvents(r) {
		return h.streamEvents(w, r, s)
	}
	if snap := s.Now(); undecided(snap) {
		end, ok := h.beginWatch(w, s)
		if !ok {
			return h.limited(w, r, waitsLimit, retrySoon)
		}
		s = h.await(r, s, waiting{shown: snap, timeout: timeout, changed: func(now *session.Snapshot) bool { return sameCode(snap, now) }})
		end()
	}
	return h.outcome(w, r, s, cred.key)
}

// undecided reports whether there is something to wait for.
func undecided(snap *session.Snapshot) bool {
	return snap.State == session.Pending || snap.State == session.Approved
}

// sameCode reports whether two snapshots show the same code, or none.
func sameCode(was, now *session.Snapshot) bool {
	return was.Login == nil || now.Login == nil || was.Login.UserCode == now.Login.UserCode
}

// waitTimeout reads the parameter: whole seconds, at most two minutes.
func waitTimeout(text string) (time.Duration, bool) {
	if text == "" {
		return defaultWait, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, false
	}
	return min(time.Duration(min(n, 1000))*time.Second, mostWait), true
}

// outcome answers GET wait with what has become of the session.
func (h *Handler) outcome(w http.ResponseWriter, r *http.Request, s *session.Session, key session.Key) error {
	snap := s.Now()
	if snap.State == session.Pending {
		setRetryAfter(w, time.Second)
	}
	return h.answer(w, r, waitStatus[snap.State], h.becameOf(r, s, snap, key))
}

// becameOf is the answer that says what has become of a session, to whoever
// holds its key.
func (h *Handler) becameOf(r *http.Request, s *session.Session, snap *session.Snapshot, key session.Key) *page.Answer {
	switch {
	case snap.State == session.Pending:
		return h.instructions(r, s, snap, session.Key{})
	case snap.State == session.Approved:
		return h.confirmation(r, s, snap, key)
	case snap.State == session.Active && !s.Claimable(snap): // else the key opens nothing, not even a name
		return signedIn(snap)
	}
	return &page.Answer{Status: statusOf(snap), Detail: string(snap.Reason)}
}

// beginWatch counts an open wait against both limits. The session is watched
// for as long, and the server's time for an answer begins at its end.
func (h *Handler) beginWatch(w http.ResponseWriter, s *session.Session) (end func(), ok bool) {
	endAll, ok := h.app.beginWait()
	if !ok {
		return nil, false
	}
	endOne, ok := s.Watch(mostWaits)
	if !ok {
		endAll()
		return nil, false
	}
	h.seen(s)
	h.deadline(w, 0)
	return func() {
		h.deadline(w, h.writeTimeout)
		endOne()
		endAll()
	}, true
}

// deadline gives an answer that long, or as long as it takes, if the server
// limits that at all. Not every writer has deadlines; then the server's holds.
func (h *Handler) deadline(w http.ResponseWriter, left time.Duration) {
	if h.writeTimeout == 0 {
		return
	}
	var at time.Time
	if left > 0 {
		at = time.Now().Add(left)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(at)
}

// waiting is how long to wait for a sign-in to be decided.
type waiting struct {
	// shown is what the client knows of the sign-in; nil is how it is now.
	shown   *session.Snapshot
	timeout time.Duration
	// changed, where given, is called with each change that leaves the sign-in
	// in its state, like another code; it ends the wait by returning false.
	changed func(*session.Snapshot) bool
	// progress, where given, is called now and then; it ends the wait by
	// returning false.
	progress func(*session.Session) bool
	// throughReload: not even a new configuration ends the wait.
	throughReload bool
}

// await returns the session once it is in another state, or as it is when the
// timeout has passed, the client is gone, or the configuration is replaced:
// then the client is to come back. Its code is renewed while it is watched so.
func (h *Handler) await(r *http.Request, s *session.Session, wait waiting) *session.Session {
	deadline := time.NewTimer(wait.timeout)
	defer deadline.Stop()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	unloaded := h.unloaded
	snap := cmp.Or(wait.shown, s.Now())
	for undecided(snap) {
		now := s.Now()
		if now.State != snap.State || (now != snap && wait.changed != nil && !wait.changed(now)) {
			return s
		}
		snap = now
		select {
		case <-snap.Next():
			s = h.newest(r, s)
		case <-h.untilRenewal(s, snap):
			h.renewIfDue(r, s)
		case <-tick.C:
			s = h.newest(r, s)
			s.Use() // a newer object does not know that it is watched
			if wait.progress != nil && !wait.progress(s) {
				return s
			}
		case <-deadline.C:
			return s
		case <-r.Context().Done():
			return s
		case <-unloaded:
			if !wait.throughReload || caddy.Exiting() {
				return s
			}
			unloaded = nil
		}
	}
	return s
}

// newest returns the session as it is known now: where another node has
// written it there is a newer object.
func (h *Handler) newest(r *http.Request, s *session.Session) *session.Session {
	newer, err := h.engine.table.Current(r.Context(), s)
	if err != nil {
		return s // tried again at the next tick
	}
	return newer
}

// maxName bounds a name that is shown.
const maxName = 100

// displayName is what a person is called on a page or in a terminal, in
// characters that print as themselves.
func displayName(who *session.Identity) string {
	for _, claim := range []string{"preferred_username", "name", "email"} {
		text, ok := who.Claims[claim].(string)
		if !ok {
			continue
		}
		text = strings.TrimSpace(strings.Map(func(c rune) rune {
			if !unicode.IsPrint(c) {
				return -1
			}
			return c
		}, text))
		if text != "" {
			return strings.ToValidUTF8(text[:min(len(text), maxName)], "")
		}
	}
	return who.Subject
}
