// This file holds a request's way through the gate, in the order of its steps.

package caddydevice

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// ServeHTTP implements caddyhttp.MiddlewareHandler. The first two steps are
// for every request of the block, the others for those that are protected.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.URL.Opaque != "" {
		// a target like x:/path has no path here, but the upstream gets it all
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "target"})
	}
	if name, ok := h.reserved(r); ok {
		return h.serveReserved(w, r, name)
	}
	if h.ProtectedResource && h.isMetadata(r) {
		return h.serveMetadata(w, r)
	}
	h.upstream.clean(r)
	dropForeignUpgrade(r)

	protected, err := h.protects(r)
	if err != nil {
		return h.fault(w, r, "deciding whether the request is protected", err)
	}
	switch {
	case !protected:
		h.decided(notProtected)
		h.hideCredentials(r)
		return next.ServeHTTP(w, r)
	case h.origins.trustedPreflight(r):
		h.decided(notProtected)
		barePreflight(r)
		return next.ServeHTTP(w, r)
	}
	if g, ok := h.passed(r); ok {
		return h.admit(w, r, next, g)
	}
	cred := h.credentialOf(r)
	if cred.source == fromToken {
		who, done, err := h.bearerOf(w, r, cred.token)
		if done {
			return err
		}
		return h.admit(w, r, next, guest{Identity: who, source: fromToken})
	}
	s, err := h.identify(r, cred)
	if err != nil {
		return h.fault(w, r, "looking up a session", err)
	}
	return h.decide(w, r, next, cred, s)
}

// identify finds the credential's session. There is none (nil) where the key
// is not known for this site, or is of a kind that counts for nothing here: a
// browser's key as a bearer, a terminal's in the cookie of a browser.
func (h *Handler) identify(r *http.Request, cred credential) (*session.Session, error) {
	if cred.source != fromBearer && cred.source != fromCookie {
		return nil, nil
	}
	site := h.hosts.siteOf(r)
	if site == "" {
		return nil, nil
	}
	s, err := h.engine.table.Lookup(r.Context(), cred.key, site)
	switch {
	case errors.Is(err, session.ErrUnknown):
		return nil, nil
	case err != nil:
		return nil, err
	case cred.source == fromBearer && s.Kind() != session.Terminal:
		return nil, nil
	case cred.source == fromCookie && s.Kind() == session.Terminal && isBrowser(r):
		return nil, nil
	}
	h.known(r, s)
	return s, nil
}

// decide answers a protected request, or lets it pass (design §3.1).
func (h *Handler) decide(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, cred credential, s *session.Session) error {
	switch {
	case cred.source == ambiguous:
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "authorization"})
	case cred.source == badBearer || (s == nil && cred.source == fromBearer):
		return h.refuseBearer(w, r, nil, "unknown")
	case s == nil:
		return h.startOrRefuse(w, r, nil)
	}
	if wait, ok := preferredWait(r); ok && s.Now().State == session.Pending {
		h.seen(s)
		return h.hold(w, r, next, cred, s, wait)
	}
	return h.decideSession(w, r, next, cred, s)
}

// decideSession is decide for a request whose session is known.
func (h *Handler) decideSession(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, cred credential, s *session.Session) error {
	snap := s.Now()
	switch {
	case undecided(snap):
		h.seen(s)
		return h.instruct(w, r, s, snap, cred)
	case s.Claimable(snap):
		return h.claim(w, r, s, arrivedURI(r))
	case snap.State == session.Active:
		if cred.source == fromCookie && !h.origins.fromHere(r) {
			return h.answer(w, r, http.StatusForbidden, &page.Answer{Status: page.Forbidden, Detail: "cross_origin"})
		}
		return h.letIn(w, r, next, cred, s, snap)
	case snap.State == session.Superseded:
		return h.superseded(w, r, arrivedURI(r), 0)
	case cred.source == fromBearer:
		return h.refuseBearer(w, r, snap, "")
	}
	return h.startOrRefuse(w, r, snap)
}

// admittedVar is the request variable that holds whom an earlier gate of the
// same issuer and client has let pass.
const admittedVar = "device_auth.admitted"

// admitted is who was let pass, and by which gate.
type admitted struct {
	engine *engine
	guest  guest
}

// passed returns whom an earlier gate on this request's way has let pass.
func (h *Handler) passed(r *http.Request) (guest, bool) {
	a, ok := caddyhttp.GetVar(r.Context(), admittedVar).(admitted)
	if !ok || a.engine != h.engine {
		return guest{}, false
	}
	return a.guest, true
}

// admit lets the request of a guest pass if this gate's own rules hold.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, g guest) error {
	h.introduce(r, g)
	if rule := lacking(h.Require, g.Claims); rule != nil {
		return h.forbid(w, r, g, "", zap.Stringer("require", rule))
	}
	// approved where nobody, or somebody else, was expected: at another server
	// of this host, or before the configuration was changed
	if rule := lacking(h.Expect, g.Claims); rule != nil && g.source != fromToken {
		return h.forbid(w, r, g, "", zap.Stringer("expect", rule))
	}
	if !h.mayUse(r, g) {
		return h.forbid(w, r, g, "methods", zap.Strings("session_methods", h.Session.Methods))
	}
	if g.open != nil {
		g.open.passed(h)
	}
	return h.forward(w, r, next, g)
}

// introduce says who is there to whatever else is on the request's way: the
// next gates, matchers, templates and the access log.
func (h *Handler) introduce(r *http.Request, g guest) {
	ctx := r.Context()
	_, mapped := caddyhttp.GetVar(ctx, admittedVar).(admitted)
	caddyhttp.SetVar(ctx, admittedVar, admitted{engine: h.engine, guest: g})
	repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	repl.Set("http.auth.user.id", g.Subject)
	if mapped {
		return
	}
	repl.Map(func(key string) (any, bool) {
		// of the last gate, as is all that the upstream is told
		last, _ := caddyhttp.GetVar(ctx, admittedVar).(admitted)
		return claimPlaceholder(last.guest.Identity, key)
	})
}

// forward takes our secrets off, says who is there, and calls the next
// handler, whose answer is not touched.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, g guest) error {
	h.hideCredentials(r)
	if g.source == fromToken {
		dropBearer(r)
	}
	if !h.upstream.set(r, g.Identity) {
		h.logger.Error("a claim is too large for a header", zap.String("sub", g.Subject), zap.Int("limit", maxHeaderValue))
		return h.answer(w, r, http.StatusForbidden, &page.Answer{Status: page.Forbidden, Detail: "identity_too_large"})
	}
	h.decided(letThrough)
	return next.ServeHTTP(w, r)
}

const claimPrefix = "http.auth.user.claims."

// claimPlaceholder resolves {http.auth.user.claims.…}. A claim that is not
// there is empty.
func claimPlaceholder(who *session.Identity, key string) (any, bool) {
	if len(key) <= len(claimPrefix) || key[:len(claimPrefix)] != claimPrefix {
		return nil, false
	}
	claim, _ := claimAt(who.Claims, key[len(claimPrefix):])
	if text, ok := claim.(string); ok {
		return text, true
	}
	value, _ := headerValue(claim)
	return value, true
}

// claim gives a browser whose sign-in was approved its new key, in an answer
// of our own that leads to where it was going. Only a navigation gets one.
func (h *Handler) claim(w http.ResponseWriter, r *http.Request, s *session.Session, to string) error {
	if !isNavigation(r) {
		return h.answer(w, r, http.StatusUnauthorized, &page.Answer{Status: page.Active, Detail: "navigate"})
	}
	first := s.Now().State == session.Active
	key, err := h.engine.table.Claim(r.Context(), s)
	if errors.Is(err, session.ErrNotClaimable) {
		return h.superseded(w, r, to, 0) // another window was faster
	}
	if err != nil {
		return h.fault(w, r, "claiming a session", err)
	}
	if first {
		h.claimed(s, key.ID())
	}
	h.cookie.set(w, key)
	return h.redirect(w, to)
}

// redirect sends a browser on, within this origin.
func (h *Handler) redirect(w http.ResponseWriter, to string) error {
	h.decided(answered)
	page.SecurityHeaders(w.Header())
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// mostReloads is how often a page with a superseded key loads itself again soon:
// another window may have the new key in the jar by then. One more, a while
// later, begins anew: a browser that lost power may have lost the new key.
const mostReloads = 3

// late is the query that counts those, apart from again, which counts renewals
// as well.
const late = "late"

func (h *Handler) superseded(w http.ResponseWriter, r *http.Request, to string, times int) error {
	a := &page.Answer{Status: page.Superseded, To: to, Reload: fmt.Sprintf("%s&%s=%d", h.linksFor(r).login(to, 1), late, times+1), ReloadAfter: time.Second}
	if times >= mostReloads {
		a.Button, a.ReloadAfter = true, slowReload // on a wall nobody can press it
	}
	return h.answer(w, r, http.StatusUnauthorized, a)
}

// refuseBearer answers a bearer that is not good (RFC 6750 §3.1). It starts
// nothing: whoever holds one knows where to get another. over is the session
// that it once opened; without one, detail says what it is.
func (h *Handler) refuseBearer(w http.ResponseWriter, r *http.Request, over *session.Snapshot, detail string) error {
	a := &page.Answer{Status: page.Required, Detail: detail}
	if over != nil {
		a.Status, a.Detail = statusOf(over), string(over.Reason)
	}
	w.Header().Set("WWW-Authenticate", h.challenge(r, "invalid_token"))
	return h.answer(w, r, http.StatusUnauthorized, a)
}

// fault answers what is not the client's fault: 503, and every cookie stays.
// What it was goes to the log only.
func (h *Handler) fault(w http.ResponseWriter, r *http.Request, doing string, err error) error {
	h.faults.Do(func() {
		h.logger.Error("request cannot be decided", zap.String("doing", doing), zap.Error(err))
	})
	return h.unavailable(w, r, "store", 0)
}
