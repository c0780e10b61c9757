// This file holds how a sign-in starts: who may, how many may, and what the
// identity provider says to it.

package caddydevice

import (
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// providerRest is how long an identity provider that refuses device
// authorization requests for now, and does not say for how long, is left
// alone.
const providerRest = time.Minute

// startOrRefuse answers a protected request that has no session: with a new
// sign-in where its shape allows one, else shortly. over is why an earlier one
// is no more.
func (h *Handler) startOrRefuse(w http.ResponseWriter, r *http.Request, over *session.Snapshot) error {
	if !h.mayStart(r, false) {
		a := &page.Answer{Status: page.Required}
		if over != nil {
			a.Status, a.Detail = statusOf(over), string(over.Reason)
		}
		return h.answer(w, r, http.StatusUnauthorized, a)
	}
	return h.start(w, r, over, http.StatusUnauthorized)
}

// start starts a sign-in and shows it.
func (h *Handler) start(w http.ResponseWriter, r *http.Request, over *session.Snapshot, status int) error {
	s, key, ok, err := h.begin(w, r, 0)
	if !ok {
		return err
	}
	h.cookie.set(w, key)
	return h.answer(w, r, status, h.firstInstructions(r, s, key, over))
}

// begin makes a new session, or answers why there is none: then ok is false.
// renewals are those that its page has had without a sign of life.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, renewals int) (s *session.Session, key session.Key, ok bool, err error) {
	site := h.hosts.siteOf(r)
	if site == "" {
		return nil, key, false, h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "host"})
	}
	allowed, err := h.mayStartFrom(r)
	if err != nil {
		return nil, key, false, h.fault(w, r, "deciding who may start", err)
	}
	if !allowed {
		return nil, key, false, h.answer(w, r, http.StatusForbidden, &page.Answer{Status: page.Forbidden, Detail: "start"})
	}
	if left := h.engine.restLeft(); left > 0 {
		return nil, key, false, h.unavailable(w, r, "idp", left)
	}
	params, ok := h.paramsFor(r)
	if !ok {
		return nil, key, false, h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "param"})
	}
	// asked first: a sign-in that cannot be kept must not be started, nor count
	if err := h.engine.table.Ready(r.Context()); err != nil {
		return nil, key, false, h.fault(w, r, "preparing a new session", err)
	}
	which, wait, ok := h.takeStart(r)
	if !ok {
		return nil, key, false, h.limited(w, r, which, wait)
	}
	defer h.app.begun.Add(-1)
	login, asked, err := h.authorize(r, params)
	if err != nil {
		return nil, key, false, h.notStarted(w, r, err)
	}
	if h.app.full() && !makeRoom(r.Context()) {
		return nil, key, false, h.limited(w, r, pendingLimit, time.Minute)
	}
	n := h.newSession(r, site, login, params)
	n.Renewals = renewals
	s, key, err = h.engine.table.Create(r.Context(), n)
	if err != nil {
		return nil, key, false, h.fault(w, r, "keeping a new session", err)
	}
	h.engine.keeper.Add(s, h.accept)
	h.started(r, s, site, asked)
	return s, key, true, nil
}

func (h *Handler) newSession(r *http.Request, site string, login idp.DeviceAuthorization, params []idp.Param) session.New {
	kept := make([]session.Param, 0, len(params))
	for _, p := range params {
		kept = append(kept, session.Param(p))
	}
	kind := session.Terminal
	if isBrowser(r) {
		kind = session.Browser
	}
	return session.New{
		Kind: kind, Site: site, Login: loginOf(login, time.Duration(h.Limits.Code)), Params: kept, Confirm: h.pages.confirm,
		Idle:     time.Duration(h.Session.Idle),
		Lifetime: time.Duration(h.Session.Lifetime),
	}
}

// loginOf is a device authorization as a session keeps it; its code lives for most
// at most, whatever the identity provider says.
func loginOf(login idp.DeviceAuthorization, most time.Duration) session.Login {
	now := time.Now()
	return session.Login{
		DeviceCode: login.DeviceCode, CodeVerifier: login.CodeVerifier, UserCode: login.UserCode, Interval: login.Interval,
		VerificationURI: login.VerificationURI, VerificationURIComplete: login.VerificationURIComplete,
		Issued: now, Expires: now.Add(min(login.ExpiresIn, most)),
	}
}

// mayStartFrom asks the start matchers.
func (h *Handler) mayStartFrom(r *http.Request) (bool, error) {
	if h.starters == nil {
		return true, nil
	}
	return h.starters.AnyMatchWithError(r)
}

// takeStart counts a start against every limit, or says which is reached.
// Where ok, the caller takes one off App.begun when it is done.
func (h *Handler) takeStart(r *http.Request) (which limit, wait time.Duration, ok bool) {
	if which, wait, ok := h.takeCode(r); !ok {
		return which, wait, false
	}
	h.app.begun.Add(1)
	// room is made once the identity provider has said yes
	if h.app.full() && !roomCanBeMade() {
		h.app.begun.Add(-1)
		return pendingLimit, time.Minute, false
	}
	return "", 0, true
}

// takeCode counts a device authorization request against the limits on those,
// or says which is reached. Renewals count like starts: else one client could
// keep ever more sign-ins alive, until there is no place for another's.
func (h *Handler) takeCode(r *http.Request) (which limit, wait time.Duration, ok bool) {
	client, proxy, known := clientOf(r)
	if known {
		if wait, ok := h.clients.allow(client, proxy); !ok {
			return clientLimit, wait, false
		}
	}
	if proxy {
		h.onceXFF.Do(func() {
			h.logger.Warn("a proxy that is not among trusted_proxies sends X-Forwarded-For, so starts are counted for all its clients together: set trusted_proxies in Caddy's servers option",
				zap.String("proxy", clientIP(r)))
		})
	}
	if wait, ok := take(h.app.starts); !ok {
		return allLimit, wait, false
	}
	return "", 0, true
}

// full reports whether there are more sign-ins under way, those included that
// are about to be, than there may be.
func (a *App) full() bool { return a.begun.Load()+int64(signInsUnderWay()) > int64(a.Limits.Pending) }

// notStarted answers what the identity provider said instead of a code. Its
// own words are for the log.
func (h *Handler) notStarted(w http.ResponseWriter, r *http.Request, err error) error {
	var away *idp.UnavailableError
	if !errors.As(err, &away) {
		h.trouble.Do(func() {
			h.logger.Error("the identity provider refused to start a sign-in: check client_id, client_secret or client_auth, and that the device grant is on for this client",
				zap.String("issuer", h.resolved.Issuer), zap.Error(err))
		})
		return h.later(w, r, http.StatusBadGateway, &page.Answer{Status: page.Failed, Detail: "setup"}, slowReload)
	}
	h.heedRest(away)
	if r.Context().Err() != nil {
		return h.unavailable(w, r, "idp", 0) // the client hung up, which is no trouble of the provider's
	}
	h.trouble.Do(func() {
		h.logger.Warn("the identity provider cannot be asked", zap.String("issuer", h.resolved.Issuer), zap.Error(err), zap.Duration("retry_after", away.RetryAfter))
	})
	return h.unavailable(w, r, "idp", away.RetryAfter)
}

// heedRest leaves an identity provider alone that wants to be.
func (h *Handler) heedRest(away *idp.UnavailableError) {
	if !away.Busy {
		return
	}
	if away.RetryAfter == 0 {
		away.RetryAfter = providerRest
	}
	h.engine.rest(away.RetryAfter)
}

// clientIP is the client's address for the log, as Caddy resolved it.
func clientIP(r *http.Request) string {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return ip
}
