// This file holds what is told of a sign-in and its session as they go along:
// each step is one function, and writes a log line, counts, and so on.

package caddydevice

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/keeper"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// authorizationOutcome names what came of a device authorization request.
func authorizationOutcome(err error) string {
	var away *idp.UnavailableError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled):
		return "canceled" // the client hung up
	case errors.As(err, &away) && away.Busy:
		return "busy"
	case away != nil:
		return "unavailable"
	}
	return "refused"
}

// authorize asks the identity provider for a code.
func (h *Handler) authorize(r *http.Request, params []idp.Param) (idp.DeviceAuthorization, error) {
	begun := time.Now()
	login, err := h.engine.keeper.Client().Authorize(r.Context(), params...)
	metrics.authorizations.WithLabelValues(h.engine.issuer, authorizationOutcome(err)).Observe(time.Since(begun).Seconds())
	return login, err
}

// started tells of a new sign-in.
func (h *Handler) started(r *http.Request, s *session.Session, site string) {
	h.logger.Info("sign-in started", zap.String("session", s.ID().Short()), zap.String("kind", string(s.Kind())), zap.String("site", site),
		zap.String("client_ip", clientIP(r)))
	metrics.started.WithLabelValues(h.engine.issuer).Inc()
}

// reached tells that a client was held up by a limit.
func (h *Handler) reached(r *http.Request, which limit) {
	metrics.limited.WithLabelValues(h.engine.issuer, string(which)).Inc()
}

// polled tells of one poll.
func (e *engine) polled(_ *session.Session, outcome idp.Outcome, took time.Duration) {
	metrics.polls.WithLabelValues(e.issuer, outcome.String()).Observe(took.Seconds())
}

// settled tells what became of a sign-in.
func (e *engine) settled(s *session.Session, r keeper.Result) {
	snap := s.Now()
	e.logSettled(s, snap, r)
	if r.Outcome == idp.Transient && snap.State != session.Ended && snap.State != session.Pending {
		return // another node has decided it, and tells
	}
	metrics.ended.WithLabelValues(e.issuer, signInOutcome(snap)).Inc()
}

func (e *engine) logSettled(s *session.Session, snap *session.Snapshot, r keeper.Result) {
	fields := []zap.Field{
		zap.String("session", s.ID().Short()), zap.String("state", string(snap.State)), zap.String("reason", string(snap.Reason)),
		zap.Int("polls", r.Polls), zap.Duration("after", time.Since(s.Created())),
	}
	if snap.Identity != nil {
		fields = append(fields, zap.String("sub", snap.Identity.Subject))
	}
	logger := e.logger.Load()
	if r.Outcome == idp.Invalid || r.Outcome == idp.Failed {
		logger.Error("sign-in failed", append(fields, zap.Error(r.Err))...)
		return
	}
	if r.Err != nil {
		fields = append(fields, zap.Error(r.Err))
	}
	logger.Info("sign-in ended", fields...)
}

// decided counts what was decided about a request.
func (h *Handler) decided(d decision) { h.decision[d].Inc() }

// refreshed tells of one token refresh. outcome is of a closed set; err, where
// there is one, is for the log.
func (e *engine) refreshed(s *session.Session, outcome string, took time.Duration, err error) {
	metrics.refreshes.WithLabelValues(e.issuer, outcome).Observe(took.Seconds())
	e.logRefreshed(s, outcome, err)
}

func (e *engine) logRefreshed(s *session.Session, outcome string, err error) {
	level, known := refreshLevels[outcome]
	if !known {
		level = zap.InfoLevel // the session is over, which its end says again
	}
	if c := e.logger.Load().Check(level, "tokens refreshed"); c != nil {
		c.Write(zap.String("session", s.ID().Short()), zap.String("outcome", outcome), zap.Error(err))
	}
}

// refreshLevels are the levels at which a refresh is logged.
var refreshLevels = map[string]zapcore.Level{"refreshed": zap.DebugLevel, "busy": zap.DebugLevel, "failed": zap.WarnLevel}

// ended tells that the session of a signed-in client is over. One that the
// claim has replaced is not: it goes on under the browser's new key.
func (e *engine) ended(s *session.Session, was, now *session.Snapshot) {
	if now.State == session.Superseded {
		return
	}
	e.logger.Load().Info("session ended", zap.String("session", s.ID().Short()), zap.String("reason", string(now.Reason)),
		zap.String("sub", was.Identity.Subject), zap.Duration("after", time.Since(s.Created())))
	metrics.sessionsEnded.WithLabelValues(e.issuer, string(now.Reason)).Inc()
}

// what the keeper will tell of once it refreshes
var _ = []any{(*engine).refreshed, (*engine).ended}
