// This file holds the answers that stay open until something changes.

package caddydevice

import (
	"io"
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
	session.Active: http.StatusOK, session.Pending: http.StatusAccepted, session.Denied: http.StatusForbidden,
	session.Expired: http.StatusGone, session.Failed: http.StatusGone, session.Ended: http.StatusGone, session.Superseded: http.StatusGone,
}

// getWait answers when the caller's sign-in is decided, or after the timeout.
func (h *Handler) getWait(w http.ResponseWriter, r *http.Request) error {
	timeout, ok := waitTimeout(r.URL.Query().Get("timeout"))
	if !ok {
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "parameter"})
	}
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		return h.answer(w, r, http.StatusNotAcceptable, &page.Answer{Status: page.Invalid, Detail: "unsupported"})
	}
	s, _, done, err := h.own(w, r)
	if done {
		return err
	}
	if s == nil {
		return h.answer(w, r, http.StatusUnauthorized, &page.Answer{Status: page.Required, Detail: "unknown"})
	}
	if s.Now().State == session.Pending {
		end, ok := h.beginWatch(w, s)
		if !ok {
			return h.limited(w, r, waitsLimit, retrySoon)
		}
		s = h.await(r, s, waiting{timeout: timeout})
		end()
	}
	return h.outcome(w, r, s)
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
func (h *Handler) outcome(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	snap := s.Now()
	a := &page.Answer{Status: statusOf(snap), Detail: string(snap.Reason)}
	switch snap.State {
	case session.Active:
		if !s.Claimable(snap) { // else the key opens nothing, not even a name
			a = signedIn(snap)
		}
	case session.Pending:
		setRetryAfter(w, time.Second)
		a = h.instructions(r, s, snap, session.Key{})
	default: // over: the state says it all
	}
	return h.answer(w, r, waitStatus[snap.State], a)
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
	timeout time.Duration
	// progress, where given, is called now and then; it ends the wait by
	// returning false.
	progress func(*session.Session) bool
	// throughReload: not even a new configuration ends the wait.
	throughReload bool
}

// await returns the session once it is no longer pending, or as it is when the
// timeout has passed, the client is gone, or the configuration is replaced:
// then the client is to come back.
func (h *Handler) await(r *http.Request, s *session.Session, wait waiting) *session.Session {
	deadline := time.NewTimer(wait.timeout)
	defer deadline.Stop()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	unloaded := h.unloaded
	for {
		snap := s.Now()
		if snap.State != session.Pending {
			return s
		}
		select {
		case <-snap.Next():
			s = h.newest(r, s)
		case <-tick.C:
			s = h.newest(r, s)
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

// stream writes instructions to a terminal and stays open: a whole line now
// and then, and at the end who signed in and how to go on. Where no stream is
// left the instructions alone have to do.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, s *session.Session, a *page.Answer, key session.Key) error {
	setRetryAfter(w, a.Login.Interval)
	end, ok := h.beginWatch(w, s)
	if !ok {
		return h.answer(w, r, http.StatusOK, a)
	}
	defer end()
	h.decided(instructed)
	a.Site = h.hosts.siteOf(r)
	flush := http.NewResponseController(w).Flush
	if a.BeginText(w) != nil || flush() != nil {
		return nil // nobody is left to read
	}
	s = h.await(r, s, waiting{timeout: time.Hour, progress: func(s *session.Session) bool {
		snap := s.Now()
		if snap.Login == nil {
			return true
		}
		line := a.Language.ProgressLine(snap.Expires, s.IsAway())
		_, err := io.WriteString(w, line) //nolint:gosec // G705: it is text/plain with nosniff
		return err == nil && flush() == nil
	}})
	if r.Context().Err() != nil {
		return nil
	}
	_, _ = io.WriteString(w, "\n"+h.lastWords(r, s, key)) //nolint:gosec // G705: it is text/plain with nosniff
	return nil
}

// lastWords end a stream.
func (h *Handler) lastWords(r *http.Request, s *session.Session, key session.Key) string {
	snap := s.Now()
	switch {
	case snap.State == session.Pending:
		return (*page.Language)(nil).ReloadingLine()
	case snap.State == session.Active && s.Kind() == session.Terminal:
		return signedIn(snap).OutcomeLine() + "\n" + h.command(r, h.linksFor(r), h.destination(r), key) + "\n"
	case snap.State == session.Active:
		return signedIn(snap).OutcomeLine()
	}
	return (&page.Answer{Status: statusOf(snap), Detail: string(snap.Reason)}).OutcomeLine()
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
