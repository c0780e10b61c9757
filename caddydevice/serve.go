// This file holds a request's way through the gate, in the order of its steps.

package caddydevice

import (
	"errors"
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
	h.upstream.clean(r)
	dropForeignUpgrade(r)

	protected, err := h.protects(r)
	if err != nil {
		return h.fault(w, r, "deciding whether the request is protected", err)
	}
	if !protected {
		h.hideCredentials(r)
		return next.ServeHTTP(w, r)
	}
	if who := h.passed(r); who != nil {
		return h.forward(w, r, next, who)
	}
	cred := h.credentialOf(r)
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
	return s, nil
}

// decide answers a protected request, or lets it pass (design §3.1).
func (h *Handler) decide(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, cred credential, s *session.Session) error {
	switch {
	case cred.source == ambiguous:
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "authorization"})
	case cred.source == badBearer || (s == nil && cred.source == fromBearer):
		return h.refuseBearer(w, r, nil)
	case s == nil:
		return h.startOrRefuse(w, r, nil)
	}
	snap := s.Now()
	switch {
	case snap.State == session.Pending:
		h.engine.keeper.Seen(s)
		return h.instruct(w, r, s, snap)
	case s.Claimable(snap):
		return h.claim(w, r, s, arrivedURI(r))
	case snap.State == session.Active:
		if cred.source == fromCookie && !h.fromHere(r) {
			return h.answer(w, r, http.StatusForbidden, &page.Answer{Status: page.Forbidden, Detail: "cross_origin"})
		}
		s.Use()
		return h.forward(w, r, next, snap.Identity)
	case snap.State == session.Superseded:
		return h.superseded(w, r, arrivedURI(r), 0)
	case cred.source == fromBearer:
		return h.refuseBearer(w, r, snap)
	}
	return h.startOrRefuse(w, r, snap)
}

// fromHere reports whether a request that a cookie speaks for was meant by
// this origin: unsafe methods by the standard library's rules, a WebSocket by
// its Origin (RFC 6455 §10.2), over any version of HTTP.
func (h *Handler) fromHere(r *http.Request) bool {
	if isWebSocket(r) {
		if r.Header["Origin"] == nil && r.Header["Sec-Fetch-Site"] == nil {
			return true // not a browser
		}
		origin := r.Header.Get("Origin")
		return origin != "" && (origin == h.hosts.public || sameHost(origin, r.Host))
	}
	return h.crossCheck.Check(r) == nil
}

// identityVar is the request variable that holds who an earlier gate of the
// same issuer and client has let pass.
const identityVar = "device_auth.identity"

// admitted is who was let pass, and by which gate.
type admitted struct {
	engine *engine
	who    *session.Identity
}

// passed returns whom an earlier gate on this request's way has let pass.
func (h *Handler) passed(r *http.Request) *session.Identity {
	a, ok := caddyhttp.GetVar(r.Context(), identityVar).(admitted)
	if !ok || a.engine != h.engine {
		return nil
	}
	return a.who
}

// forward lets the request pass: it says who is there, takes our secrets off,
// and calls the next handler, whose answer is not touched.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, who *session.Identity) error {
	if !h.upstream.set(r, who.Claims) {
		h.logger.Error("a claim is too large for a header", zap.String("sub", who.Subject), zap.Int("limit", maxHeaderValue))
		return h.answer(w, r, http.StatusForbidden, &page.Answer{Status: page.Forbidden, Detail: "identity_too_large"})
	}
	h.hideCredentials(r)
	caddyhttp.SetVar(r.Context(), identityVar, admitted{engine: h.engine, who: who})
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set("http.auth.user.id", who.Subject)
		repl.Map(func(key string) (any, bool) { return claimPlaceholder(who, key) })
	}
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
	key, err := h.engine.table.Claim(r.Context(), s)
	if errors.Is(err, session.ErrNotClaimable) {
		return h.superseded(w, r, to, 0) // another window was faster
	}
	if err != nil {
		return h.fault(w, r, "claiming a session", err)
	}
	h.cookie.set(w, key)
	return redirect(w, to)
}

// redirect sends a browser on, within this origin.
func redirect(w http.ResponseWriter, to string) error {
	page.SecurityHeaders(w.Header())
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// mostReloads is how often a page with a superseded key loads itself again:
// another window may have the new key in the jar by then.
const mostReloads = 3

func (h *Handler) superseded(w http.ResponseWriter, r *http.Request, to string, again int) error {
	a := &page.Answer{Status: page.Superseded, To: to}
	a.Button = again >= mostReloads
	if !a.Button {
		a.Reload, a.ReloadAfter = h.linksFor(r).login(to, again+1), time.Second
	}
	return h.answer(w, r, http.StatusUnauthorized, a)
}

// refuseBearer answers a bearer that is not good (RFC 6750 §3.1). It starts
// nothing: whoever holds a key knows where to get another.
func (h *Handler) refuseBearer(w http.ResponseWriter, r *http.Request, over *session.Snapshot) error {
	a := &page.Answer{Status: page.Required, Detail: "unknown"}
	if over != nil {
		a.Status, a.Detail = statusOf(over), string(over.Reason)
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="device_auth", error="invalid_token"`)
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
