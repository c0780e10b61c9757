// This file holds requests that come past the life of their session's tokens:
// they wait for the one refresh.

package caddydevice

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// letIn lets the request of an active session through.
func (h *Handler) letIn(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, cred credential, s *session.Session, snap *session.Snapshot) error {
	s.Use()
	if snap.Stale() {
		refreshed, err := h.awaitFresh(w, r, s)
		if !refreshed {
			return err
		}
		return h.decideAnew(w, r, next, cred, s)
	}
	open, w, snap := h.open(w, r, s)
	if open == nil {
		return h.decideAnew(w, r, next, cred, s)
	}
	defer open.close()
	return h.admit(w, r, next, guest{Identity: snap.Identity, source: cred.source, open: open})
}

// decideAnew decides by what the session has become.
func (h *Handler) decideAnew(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, cred credential, s *session.Session) error {
	current, err := h.engine.table.Current(r.Context(), s)
	switch {
	case errors.Is(err, session.ErrUnknown):
		return h.decide(w, r, next, cred, nil)
	case err != nil:
		return h.fault(w, r, "looking up a session", err)
	}
	return h.decideSession(w, r, next, cred, current)
}

// awaitFresh waits for the refresh of a session whose tokens have run out, at
// most as long as a request to the identity provider may take. Where it is not
// done by then, or the last try has failed a moment ago, the answer is 503: the
// session is there still.
func (h *Handler) awaitFresh(w http.ResponseWriter, r *http.Request, s *session.Session) (refreshed bool, err error) {
	timeout := time.NewTimer(h.engine.keeper.Client().Timeout())
	defer timeout.Stop()
	for {
		snap := s.Now()
		if !snap.Stale() {
			return true, nil
		}
		done, after := h.engine.keeper.Renew(s)
		if done == nil {
			return false, h.unavailable(w, r, "refresh", after)
		}
		select {
		case <-snap.Next():
		case <-done:
		case <-timeout.C:
			return false, h.unavailable(w, r, "refresh", retrySoon)
		case <-r.Context().Done():
			h.decided(gone)
			return false, nil // nobody is left to answer
		}
		switch s, err = h.engine.table.Current(r.Context(), s); {
		case errors.Is(err, session.ErrUnknown):
			return true, nil
		case err != nil:
			return false, h.fault(w, r, "looking up a session", err)
		}
	}
}
