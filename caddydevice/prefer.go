// This file holds requests that would rather wait: `Prefer: wait=N` (RFC 7240).

package caddydevice

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// mostHeld bounds how long a request is held.
const mostHeld = 300 * time.Second

// preferredWait reads the wait preference: whole seconds (RFC 7240 §4.3). The
// first one counts (§2); one that is no number counts for nothing.
func preferredWait(r *http.Request) (time.Duration, bool) {
	for _, field := range r.Header["Prefer"] {
		for preference := range strings.SplitSeq(field, ",") {
			preference, _, _ = strings.Cut(preference, ";") // its parameters
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(value), `"`))
			if err != nil || n < 1 {
				return 0, false
			}
			return min(time.Duration(min(n, 1000))*time.Second, mostHeld), true
		}
	}
	return 0, false
}

// hold keeps a request until its sign-in is decided, and then goes on as if it
// had come only now. One with a body on HTTP/1.1 is not held: a client that
// hangs up is not noticed there before the body is read, which is for the
// upstream.
func (h *Handler) hold(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, cred credential, s *session.Session, wait time.Duration) error {
	if r.ProtoMajor < 2 && r.ContentLength != 0 {
		a := h.instructions(r, s, s.Now(), session.Key{})
		if a.Status == page.Pending {
			a.Detail = "body"
		}
		return h.answer(w, r, http.StatusUnauthorized, a)
	}
	end, ok := h.beginWatch(w, s)
	if !ok {
		return h.limited(w, r, waitsLimit, retrySoon)
	}
	s = h.await(r, s, waiting{timeout: wait, throughReload: true})
	end()
	if r.Context().Err() != nil {
		h.decided(gone)
		return nil // nobody is left to answer, nor to act for
	}
	return h.decideSession(w, r, next, cred, s)
}
