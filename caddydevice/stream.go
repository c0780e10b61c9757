// This file holds the answers that stay open and tell of each change: lines for
// a terminal, server-sent events for a page.

package caddydevice

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// streamRetry is after how long a page comes back whose stream has ended.
const streamRetry = 2 * time.Second

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
	h.dress(r, a)
	flush := http.NewResponseController(w).Flush
	if a.BeginText(w) != nil || flush() != nil {
		return nil // nobody is left to read
	}
	say := func(text string) bool {
		_, err := io.WriteString(w, text) //nolint:gosec // G705: it is text/plain with nosniff
		return err == nil && flush() == nil
	}
	progress := func(s *session.Session) bool {
		snap := s.Now()
		return !undecided(snap) || say(a.Language.ProgressLine(snap.Expires, s.IsAway()))
	}
	s = h.await(r, s, waiting{timeout: mostStream, progress: progress})
	if snap := s.Now(); snap.State == session.Approved && !h.isUnloaded() {
		if !say("\n" + h.words(r, h.confirmation(r, s, snap, key))) {
			return nil
		}
		s = h.await(r, s, waiting{timeout: mostStream, progress: progress})
	}
	if r.Context().Err() == nil {
		say("\n" + h.lastWords(r, s, key))
	}
	return nil
}

// mostStream is longer than any sign-in lives.
const mostStream = 24 * time.Hour

// words is an answer as a text.
func (h *Handler) words(r *http.Request, a *page.Answer) string { return h.dress(r, a).Words() }

// lastWords end a stream. A browser's key that waits for the claim hears no name.
func (h *Handler) lastWords(r *http.Request, s *session.Session, key session.Key) string {
	snap := s.Now()
	if undecided(snap) {
		return h.pages.brand.Choose(r.Header["Accept-Language"]).ReloadingLine()
	}
	line := h.dress(r, h.becameOf(r, s, snap, key)).OutcomeLine()
	if snap.State != session.Active || s.Kind() != session.Terminal {
		return line
	}
	return line + "\n" + h.command(r, h.linksFor(r), h.destination(r), key) + "\n"
}

// wantsEvents reports whether the client asks for server-sent events.
func wantsEvents(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// streamEvents sends what becomes of a sign-in as server-sent events, the first
// at once. A client that comes back is told what it has missed: whatever it has
// seen last, one event says how things are now.
func (h *Handler) streamEvents(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	snap := s.Now()
	seen := r.Header.Get("Last-Event-ID")
	if !undecided(snap) && seen == eventID(s, snap) {
		return h.nothing(w) // 204: do not come back (WHATWG HTML §9.2.2)
	}
	end, ok := h.beginWatch(w, s)
	if !ok {
		return h.limited(w, r, waitsLimit, retrySoon)
	}
	defer end()
	h.decided(instructed)
	stream, err := page.BeginStream(w, streamRetry)
	if err != nil {
		return nil // nobody is left to read
	}
	h.follow(r, s, stream, seen)
	return nil
}

// follow sends events until the sign-in is decided, or the client or this
// configuration is gone.
func (h *Handler) follow(r *http.Request, s *session.Session, stream *page.Stream, seen string) {
	var shown *session.Snapshot
	tell := func(s *session.Session) bool {
		snap := s.Now()
		event, id := eventOf(shown, snap), eventID(s, snap)
		if id == seen {
			shown = snap
			return true
		}
		seen, shown = id, snap
		return stream.Send(event, id, h.dress(r, h.becameOf(r, s, snap, session.Key{}))) == nil
	}
	for tell(s) && undecided(shown) {
		now := h.await(r, s, waiting{shown: shown, timeout: mostStream, changed: func(*session.Snapshot) bool { return false }, progress: func(s *session.Session) bool {
			return stream.Beat() == nil && tell(s)
		}})
		if r.Context().Err() != nil || h.isUnloaded() {
			return
		}
		s = now
	}
}

// eventOf names what has happened since a snapshot was shown: RFC 8628 has no
// events, these are the states of a session.
func eventOf(shown, now *session.Snapshot) string {
	if shown != nil && shown.State == session.Pending && now.State == session.Pending && !sameCode(shown, now) {
		return "renewed"
	}
	return string(now.State)
}

// eventID tells a client's place in what becomes of a session: its version,
// and what changes without one. An end may be told before it is written.
func eventID(s *session.Session, snap *session.Snapshot) string {
	if !undecided(snap) {
		return string(snap.State)
	}
	id := strconv.FormatUint(snap.Version, 10) + "-" + string(snap.State)
	if s.IsAway() {
		id += "-away"
	}
	return id
}

func (h *Handler) isUnloaded() bool {
	select {
	case <-h.unloaded:
		return true
	default:
		return false
	}
}
