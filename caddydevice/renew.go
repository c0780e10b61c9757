// This file holds living codes: the page of a sign-in that somebody watches
// gets another code before its own runs out, a few times without a sign of life.

package caddydevice

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// renewGap is after how long a renewal that failed is tried again.
const renewGap = 5 * time.Second

// renewAt is when a sign-in's code is to be renewed; the zero time for never.
// Only pages show that they have another code: what a terminal has printed
// stays as it is.
func (h *Handler) renewAt(s *session.Session, snap *session.Snapshot) time.Time {
	if s.Kind() != session.Browser || snap.State != session.Pending || snap.Renewals >= h.pages.renewals {
		return time.Time{}
	}
	return snap.RenewAt()
}

// untilRenewal ticks when a watched sign-in's code is to be renewed, and again
// a while after that has failed; never where it is not to be.
func (h *Handler) untilRenewal(s *session.Session, snap *session.Snapshot) <-chan time.Time {
	at := h.renewAt(s, snap)
	if at.IsZero() {
		return nil
	}
	return time.After(max(time.Until(at), time.Until(s.RenewalTried().Add(renewGap))))
}

// renewIfDue asks the identity provider for the next code of a sign-in that its
// client watches right now, if it is time for one. The code before goes on
// working to its own end.
func (h *Handler) renewIfDue(r *http.Request, s *session.Session) {
	snap := s.Now()
	at := h.renewAt(s, snap)
	if at.IsZero() || time.Now().Before(at) || !s.TryRenewal(renewGap) {
		return
	}
	if err := h.renew(r, s, snap); err != nil {
		s.Unrenewed()
		h.trouble.Do(func() {
			h.logger.Warn("the code of a page could not be renewed; it is tried again until the code runs out", zap.String("session", s.ID().Short()), zap.Error(err))
		})
	}
}

var (
	errResting = errors.New("the identity provider wants to be left alone for a while")
	errLimited = errors.New("too many sign-ins are started: see limits starts")
)

// renew gets the next code, unless somebody else is at it.
func (h *Handler) renew(r *http.Request, s *session.Session, snap *session.Snapshot) error {
	if h.engine.restLeft() > 0 {
		return errResting
	}
	end, ok, err := h.engine.table.BeginRenewal(r.Context(), s, snap)
	if err != nil || !ok {
		return err
	}
	defer end()
	if which, _, ok := h.takeCode(r); !ok {
		h.reached(r, which)
		return errLimited
	}
	params := make([]idp.Param, 0, len(snap.Params))
	for _, p := range snap.Params {
		params = append(params, idp.Param(p))
	}
	// a page that is loaded anew meanwhile shows it
	login, _, err := h.authorize(r.WithContext(context.WithoutCancel(r.Context())), params)
	if err != nil {
		if away, ok := errors.AsType[*idp.UnavailableError](err); ok {
			h.heedRest(away)
		}
		return err
	}
	if err := s.NextCode(r.Context(), loginOf(login, time.Duration(h.Limits.Code))); err != nil {
		return err
	}
	h.engine.keeper.Renewed(s)
	h.renewed(s)
	return nil
}
