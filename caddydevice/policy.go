// This file holds the rules for who is let pass once it is known who that is.

package caddydevice

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/keeper"
	"github.com/caddydevice/device-auth/caddydevice/internal/page"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// guest is who a request comes from, and how that is known.
type guest struct {
	*session.Identity
	source source
	open   *openRequest // nil for a client's own token
}

// forbid answers 403. What was lacking is for the log: to the client it would
// tell what the rules are. A person may have another account; a program hears
// what RFC 6750 §3.1 has for it.
func (h *Handler) forbid(w http.ResponseWriter, r *http.Request, g guest, detail string, lacks zap.Field) error {
	h.refusals.Do(func() {
		h.logger.Info("signed in, but not allowed", lacks, zap.String("sub", g.Subject), zap.String("method", r.Method),
			zap.String("path", r.URL.Path), zap.String("client_ip", clientIP(r)))
	})
	if g.source != fromCookie {
		w.Header().Set("WWW-Authenticate", h.challenge(r, "insufficient_scope"))
	}
	return h.answer(w, r, http.StatusForbidden, &page.Answer{
		Status: page.Forbidden, Detail: detail, Button: g.source == fromCookie && detail == "", To: arrivedURI(r),
	})
}

// overrides are the fields by which some servers let a request say that it has
// another method.
var overrides = []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"}

// mayUse reports whether the guest's session may use the request's method, and
// takes off what could make another of it. A WebSocket begins with GET, whatever
// version of HTTP it comes over. A client's own token is no session.
func (h *Handler) mayUse(r *http.Request, g guest) bool {
	if len(h.Session.Methods) == 0 || g.source == fromToken {
		return true
	}
	dropOverrides(r)
	method := r.Method
	if isWebSocket(r) {
		method = http.MethodGet
	}
	return slices.Contains(h.Session.Methods, method)
}

func dropOverrides(r *http.Request) {
	for field := range r.Header {
		if slices.ContainsFunc(overrides, func(name string) bool { return sameVariable(field, name) }) {
			delete(r.Header, field)
		}
	}
}

func checkMethods(methods []string) error {
	for _, m := range methods {
		if !httpguts.ValidHeaderFieldName(m) || strings.ToUpper(m) != m {
			return fmt.Errorf("session methods %q: must be methods in capitals, like GET HEAD", m)
		}
	}
	return nil
}

// checkPolicy reports what is wrong with the rules, once the provider is known.
func (h *Handler) checkPolicy() error {
	if err := checkRules("require", h.Require); err != nil {
		return err
	}
	if err := checkRules("expect", h.Expect); err != nil {
		return err
	}
	if err := checkMethods(h.Session.Methods); err != nil {
		return err
	}
	if h.Bearer != nil {
		if err := h.Bearer.check(); err != nil {
			return err
		}
	}
	if h.ProtectedResource && h.Bearer == nil {
		return errors.New("protected_resource tells clients to bring tokens of their own, which are refused without `bearer on`: add that, or remove protected_resource")
	}
	if !slices.Contains(upstreamTokens, h.UpstreamToken) {
		return fmt.Errorf("upstream_token %q is none of %s", h.UpstreamToken, strings.Join(upstreamTokens, ", "))
	}
	if err := h.checkOpenIssuer(h.resolved.Issuer, len(h.Expect) > 0); err != nil {
		return err
	}
	if err := h.checkTokens(); err != nil {
		return err
	}
	if h.Bearer == nil {
		return nil
	}
	// a client's own token passes no expect: that is about approvals
	for _, issuer := range h.bearerIssuers() {
		if err := h.checkOpenIssuer(issuer, false); err != nil {
			return fmt.Errorf("bearer: %w", err)
		}
	}
	return nil
}

// checkTokens refuses what needs signed tokens where the dialect has none.
func (h *Handler) checkTokens() error {
	if !h.resolved.Opaque() {
		return nil
	}
	switch {
	case h.UpstreamToken == "id_token":
		return fmt.Errorf("upstream_token id_token: there are no ID tokens in dialect %s: use access_token", h.resolved.Dialect)
	case h.Bearer != nil && slices.Contains(h.bearerIssuers(), h.resolved.Issuer):
		return fmt.Errorf("bearer on: the access tokens of dialect %s are opaque, so they cannot be verified here: remove the line", h.resolved.Dialect)
	}
	return nil
}

// expects says why an approval is the wrong person's; nil where anybody's does.
// It holds on to the rules alone: a sign-in may outlive this configuration.
func expects(rules []ClaimRule) keeper.Accept {
	if len(rules) == 0 {
		return nil
	}
	return func(who *idp.Identity) error {
		if rule := lacking(rules, who.Claims); rule != nil {
			return fmt.Errorf("another account was expected: expect %s", rule)
		}
		return nil
	}
}

// seen tells the keeper that the session's client is still there, and whom this
// gate expects.
func (h *Handler) seen(s *session.Session) { h.engine.keeper.Seen(s, h.accept) }

// openGate is a gate that is open to more people than its operator may think.
type openGate struct {
	issuer, at             string
	everyone, anyoneStarts bool
}

// noteOpenness has it logged once the configuration has started. Without a
// start, whoever reaches the server can ask for codes, and send them to others
// as bait (RFC 10027 §4.1).
func (h *Handler) noteOpenness(at string, server *caddyhttp.Server) {
	local := server == nil || listensOnLoopback(server) || h.hosts.local
	gate := openGate{
		issuer: h.resolved.Issuer, at: strings.TrimSpace(at),
		everyone:     len(h.Require)+len(h.Expect) == 0,
		anyoneStarts: h.starters == nil && (!local || h.PublicURL != ""),
	}
	h.app.mu.Lock()
	defer h.app.mu.Unlock()
	h.app.open = append(h.app.open, gate)
}

func (g openGate) log(logger *zap.Logger) {
	logger = logger.With(zap.String("gate", g.at))
	if g.everyone {
		logger.Info("everyone who can sign in at the issuer gets in: `require` or `expect` would choose", zap.String("issuer", g.issuer))
	}
	if g.anyoneStarts {
		logger.Info("everyone who reaches this server can start a sign-in, and send its code to somebody else: where clients are in known networks, `start` can say so (RFC 10027)")
	}
}
