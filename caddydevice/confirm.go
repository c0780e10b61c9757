// This file holds the confirmation: where the configuration asks for it, an
// approved sign-in waits until somebody says on the device itself that it was
// they who approved it (RFC 10027, on the wrong account and the wrong device).

package caddydevice

import (
	"net/http"

	"go.uber.org/zap"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// postConfirm takes the person's word. A second one is no mistake: an answer
// may have been lost.
func (h *Handler) postConfirm(w http.ResponseWriter, r *http.Request) error {
	if r.Form.Has("to") && !validDestination(r.Form.Get("to")) {
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "to"})
	}
	s, cred, done, err := h.own(w, r)
	switch {
	case done:
		return err
	case s == nil:
		return h.answer(w, r, http.StatusUnauthorized, &page.Answer{Status: page.Required, Detail: "unknown"})
	}
	snap := s.Now()
	if snap.State == session.Approved {
		if err := s.Confirm(r.Context()); err != nil {
			return h.notConfirmed(w, r, s, cred.key, err)
		}
		h.logger.Info("sign-in confirmed", zap.String("session", s.ID().Short()), zap.String("client_ip", clientIP(r)))
		snap = s.Now()
	}
	switch {
	case snap.State == session.Pending:
		return h.answer(w, r, http.StatusConflict, &page.Answer{Status: page.Invalid, Detail: "not_approved"})
	case page.Negotiate(r.Header["Accept"]) == page.HTML:
		return h.redirect(w, h.linksFor(r).login(h.destination(r), 1))
	case snap.State == session.Active && !s.Claimable(snap):
		return h.answer(w, r, http.StatusOK, signedIn(snap))
	case cred.source == fromBearer:
		return h.refuseBearer(w, r, snap, "")
	}
	return h.outcome(w, r, s, cred.key)
}

// notConfirmed answers a confirmation that could not be written down; where
// the session has come to its end meanwhile, that is what there is to say.
func (h *Handler) notConfirmed(w http.ResponseWriter, r *http.Request, s *session.Session, key session.Key, err error) error {
	if s.Now().State == session.Approved {
		return h.fault(w, r, "confirming a sign-in", err)
	}
	return h.outcome(w, r, s, key)
}

// confirmation is the answer of a sign-in that waits to be confirmed. Its page
// has an address to load what becomes of it: where the person was going would
// have nothing to offer a page's script.
func (h *Handler) confirmation(r *http.Request, s *session.Session, snap *session.Snapshot, key session.Key) *page.Answer {
	l, to := h.linksFor(r), h.destination(r)
	a := &page.Answer{
		Status: page.Approved, To: to, Reload: l.login(to, 1), ReloadAfter: pageReload,
		ConfirmPath: l.path + "/confirm", ConfirmURI: l.origin + l.path + "/confirm",
		User: &page.User{Name: displayName(snap.Identity), Until: snap.Expires},
	}
	if key != (session.Key{}) && s.Kind() == session.Terminal { // a browser's key is never printed
		a.Command = h.confirmCommand(r, l, key)
	}
	return a
}
