// This file holds what is told of a sign-in and its session as they go along:
// each step is one function, and writes a log line, counts, and so on.

package caddydevice

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

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

// authorize asks the identity provider for a code; asked is the span of that.
func (h *Handler) authorize(r *http.Request, params []idp.Param) (login idp.DeviceAuthorization, asked trace.SpanContext, err error) {
	ctx, span := startSpan(r.Context(), authorizeSpan)
	defer span.End()
	begun := time.Now()
	login, err = h.engine.keeper.Client().Authorize(ctx, params...)
	outcome := authorizationOutcome(err)
	metrics.authorizations.WithLabelValues(h.engine.issuer, outcome).Observe(time.Since(begun).Seconds())
	span.SetAttributes(issuerAttribute.String(h.engine.issuer), outcomeAttribute.String(outcome))
	return login, span.SpanContext(), err
}

// known tells whose request it is, in the access log and in its own span.
func (h *Handler) known(r *http.Request, s *session.Session) {
	ctx := r.Context()
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok && h.accessLog {
		extra.Set(zap.String("device_auth_session", s.ID().Short()))
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(sessionAttribute.String(s.ID().Short()))
		h.engine.traces.goOn(s.ID(), span)
	}
}

// started tells of a new sign-in, whose code was asked for in that span.
func (h *Handler) started(r *http.Request, s *session.Session, site string, asked trace.SpanContext) {
	if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
		h.engine.traces.begin(s.ID(), span, asked)
	}
	h.known(r, s)
	h.logger.Info("sign-in started", zap.String("session", s.ID().Short()), zap.String("kind", string(s.Kind())), zap.String("site", site),
		zap.String("client_ip", clientIP(r)))
	metrics.started.WithLabelValues(h.engine.issuer).Inc()
	h.engine.emitAbout(startedEvent, s, map[string]any{"client_ip": clientIP(r)})
}

// renewed tells that a sign-in has another code.
func (h *Handler) renewed(s *session.Session) {
	h.logger.Info("code renewed", zap.String("session", s.ID().Short()), zap.Int("renewals", s.Now().Renewals))
}

// reached tells that a client was held up by a limit.
func (h *Handler) reached(r *http.Request, which limit) {
	metrics.limited.WithLabelValues(h.engine.issuer, string(which)).Inc()
	h.engine.emit(limitedEvent, map[string]any{"issuer": h.engine.issuer, "limit": string(which), "site": h.hosts.siteOf(r), "client_ip": clientIP(r)})
}

// claimed tells that a browser's session goes on under another id.
func (h *Handler) claimed(s *session.Session, id session.ID) {
	h.engine.traces.rename(s.ID(), id)
	h.logger.Info("browser has its new key", zap.String("session", id.Short()), zap.String("before", s.ID().Short()))
	h.engine.emitAbout(claimedEvent, s, map[string]any{"session": id.Short(), "before": s.ID().Short()})
}

// polled tells of one poll.
func (e *engine) polled(s *session.Session, outcome idp.Outcome, took time.Duration) {
	e.traces.note(pollSpan, s.ID(), took, issuerAttribute.String(e.issuer), outcomeAttribute.String(outcome.String()))
	metrics.polls.WithLabelValues(e.issuer, outcome.String()).Observe(took.Seconds())
}

// settled tells what became of a sign-in.
func (e *engine) settled(s *session.Session, r keeper.Result) {
	snap := s.Now()
	e.logSettled(s, snap, r)
	if r.Outcome == idp.Transient && snap.State != session.Ended && snap.State != session.Pending {
		return // another node has decided it, and tells
	}
	end := signInEndOf(snap)
	metrics.ended.WithLabelValues(e.issuer, end.outcome).Inc()
	if snap.Identity != nil {
		e.emitAbout(end.event, s, map[string]any{"subject": snap.Identity.Subject})
		return
	}
	e.emitAbout(end.event, s, map[string]any{"reason": string(snap.Reason)})
}

// signInEnds says what became of a sign-in, by its session's state and reason;
// "" stands for any reason that is not above.
var signInEnds = []signInEnd{
	{session.Active, "", "approved", approvedEvent},
	{session.Approved, "", "approved", approvedEvent},   // and to be confirmed
	{session.Superseded, "", "approved", approvedEvent}, // and the browser has its new key already
	{session.Denied, session.Declined, "declined", deniedEvent},
	{session.Denied, session.WrongAccount, "wrong_account", deniedEvent},
	{session.Expired, "", "code_expired", expiredEvent},
	{session.Failed, session.Forgotten, "forgotten", failedEvent},
	{session.Failed, session.BadTokens, "bad_tokens", failedEvent},
	{session.Failed, "", "failed", failedEvent},
	{session.Ended, session.CrowdedOut, "crowded_out", endedEvent},
	{session.Ended, session.Replaced, "given_up", endedEvent},
	{session.Ended, session.SignedOut, "given_up", endedEvent},
	{session.Ended, "", "approved", approvedEvent}, // and over at once
	{session.Pending, "", "lost", endedEvent},      // its record is gone from the store
}

type signInEnd struct {
	state          session.State
	reason         session.Reason
	outcome, event string
}

func signInEndOf(snap *session.Snapshot) signInEnd {
	for _, end := range signInEnds {
		if end.state == snap.State && (end.reason == snap.Reason || end.reason == "") {
			return end
		}
	}
	return signInEnd{outcome: "failed", event: failedEvent}
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
	if snap.State == session.Active && snap.Identity.RefreshToken == "" {
		e.trouble.Do(func() {
			logger.Warn("the identity provider gave no refresh token, so the session ends with its access token: let this client have refresh tokens there, or ask for the scope that brings them, often offline_access",
				zap.Time("until", snap.Expires))
		})
	}
}

// refreshed tells of one try to refresh a session.
func (e *engine) refreshed(s *session.Session, r keeper.Refresh) {
	e.logRefreshed(s, r)
	if r.Outcome != keeper.RefreshBusy {
		e.traces.note(refreshSpan, s.ID(), r.Took, issuerAttribute.String(e.issuer), outcomeAttribute.String(r.Outcome))
	}
	metrics.refreshes.WithLabelValues(e.issuer, r.Outcome).Observe(r.Took.Seconds())
	if who := s.Now().Identity; r.Outcome == keeper.Refreshed && who != nil {
		e.emitAbout(refreshedEvent, s, map[string]any{"subject": who.Subject})
	}
}

func (e *engine) logRefreshed(s *session.Session, r keeper.Refresh) {
	logger := e.logger.Load().With(zap.String("session", s.ID().Short()), zap.String("outcome", r.Outcome))
	switch r.Outcome {
	case keeper.Refreshed, keeper.RefreshBusy:
		logger.Debug("session refreshed", zap.Duration("took", r.Took))
	case keeper.RefreshFailed, keeper.RefreshNotRecorded:
		e.trouble.Do(func() { logger.Warn("a session cannot be refreshed; it is tried again", zap.Error(r.Err)) })
	default:
		logger.Warn("a session was not refreshed, and has ended", zap.Error(r.Err))
	}
}

// ended tells that the session of a signed-in client is over.
func (e *engine) ended(s *session.Session, was, now *session.Snapshot) {
	e.logger.Load().Info("session ended", zap.String("session", s.ID().Short()), zap.String("reason", string(now.Reason)),
		zap.String("sub", was.Identity.Subject), zap.Duration("after", time.Since(was.Identity.Since)))
	metrics.sessionsEnded.WithLabelValues(e.issuer, string(now.Reason)).Inc()
	e.emitAbout(endedEvent, s, map[string]any{"subject": was.Identity.Subject, "reason": string(now.Reason)})
}

// revoked tells of tokens that were revoked, or could not be.
func (e *engine) revoked(err error) {
	outcome := revokedOutcome
	if err != nil {
		outcome = notRevokedOutcome
		e.trouble.Do(func() {
			e.logger.Load().Warn("tokens could not be revoked: they run out by themselves", zap.Error(err))
		})
	}
	metrics.revocations.WithLabelValues(e.issuer, outcome).Inc()
}

// decided counts what was decided about a request.
func (h *Handler) decided(d decision) { h.decision[d].Inc() }
