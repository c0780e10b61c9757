// This file holds logouts that the identity provider tells of by itself
// (OpenID Connect Back-Channel Logout 1.0).

package caddydevice

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// mostReplay bounds for how long it is remembered that a logout token was
// heeded. No token is good for longer.
const mostReplay = 25 * time.Hour

// logoutTimeout bounds a logout, which goes on where the identity provider hangs
// up: it may not tell of it again.
const logoutTimeout = time.Minute

// postBackchannelLogout ends the sessions that a logout token names (§2.5 to
// §2.8). What is wrong with a token is for the log. A fault is 503: then the
// logout was not heeded, and the identity provider may tell of it again.
func (h *Handler) postBackchannelLogout(w http.ResponseWriter, r *http.Request) error {
	tokens := r.PostForm["logout_token"]
	if len(tokens) != 1 {
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "logout_token"})
	}
	logout, err := h.engine.keeper.Client().VerifyLogout(r.Context(), tokens[0])
	switch {
	case errors.Is(err, idp.ErrTemporary), r.Context().Err() != nil:
		h.faults.Do(func() { h.logger.Warn("a logout token cannot be checked", zap.Error(err)) })
		return h.unavailable(w, r, "keys", 0)
	case err != nil:
		h.trouble.Do(func() {
			h.logger.Warn("a logout token was refused", zap.Error(err), zap.String("client_ip", clientIP(r)))
		})
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "logout_token"})
	}
	if err := h.engine.logOut(r.Context(), logout); err != nil {
		return h.fault(w, r, "ending sessions by a logout token", err)
	}
	h.decided(answered)
	page.SecurityHeaders(w.Header())
	w.WriteHeader(http.StatusOK)
	return nil
}

// logOut ends what the token is for: the sessions of one sid, with those of its
// sub that may be of it, or else all of one sub. A token that was heeded already
// ends nothing (§2.6): by now the person may have signed in again.
func (e *engine) logOut(ctx context.Context, l *idp.Logout) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
	defer cancel()
	// the client counts: a token may be for several (aud), and comes to each
	heeded := store.NewIndex("jti", string(e.table.Everybody()), l.ID)
	if at, err := e.store.Marked(ctx, heeded); err != nil || !at.IsZero() {
		return err
	}
	indexes := []store.Index{session.SubjectIndex(l.Issuer, l.Subject)}
	if l.SessionID != "" {
		indexes = []store.Index{session.ProviderSessionIndex(l.Issuer, l.SessionID), session.UnnamedIndex(l.Issuer, l.Subject)}
	}
	ended := 0
	for _, index := range indexes {
		n, err := e.table.EndAll(ctx, index, session.LoggedOut)
		if err != nil {
			return err
		}
		ended += n
	}
	e.logger.Load().Info("logged out at the identity provider", zap.String("sub", l.Subject), zap.Int("sessions", ended))
	return e.store.Mark(ctx, heeded, mostReplay)
}
