// This file holds how a handler is set up from its configuration.

package caddydevice

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// troubleEvery is how often the log repeats what every request meets while the
// identity provider or the store is in trouble.
const troubleEvery = 10 * time.Second

// refusalsEvery is the same for what a signed-in client may not do, once there
// were many.
const refusalsEvery = 100 * time.Millisecond

// maxDuration is more than any session needs, and far from what would overflow
// a date.
const maxDuration = 10 * 365 * 24 * time.Hour

// Provision sets up the handler. It asks nobody: an identity provider that is
// out of reach does not keep Caddy from starting.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	appIface, err := ctx.App("device_auth")
	if err != nil {
		return fmt.Errorf("getting device_auth app: %w", err)
	}
	h.app = appIface.(*App)
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if err := h.provision(ctx, server); err != nil {
		return fmt.Errorf("device_auth%s: %w", placeOf(server), err)
	}
	return nil
}

// provision returns mistakes without saying where: Provision does.
func (h *Handler) provision(ctx caddy.Context, server *caddyhttp.Server) error {
	h.setDefaults()
	if err := h.resolvePlaceholders(); err != nil {
		return err
	}
	var err error
	if h.settings, err = h.settingsInCommon(); err != nil {
		return err
	}
	if err := h.loadMatchers(ctx); err != nil {
		return err
	}
	if h.pages, err = h.Page.provision(); err != nil {
		return err
	}
	h.unloaded = closing(ctx, server)
	if server != nil {
		h.writeTimeout = time.Duration(server.WriteTimeout)
		h.accessLog = server.Logs != nil
	}
	h.trouble = &rate.Sometimes{First: 3, Interval: troubleEvery}
	h.faults = &rate.Sometimes{First: 3, Interval: troubleEvery}
	h.refusals = &rate.Sometimes{First: 1000, Interval: refusalsEvery}
	if err := h.provisionHTTP(server); err != nil {
		return err
	}
	provider, err := h.provider(ctx, h.app)
	if err != nil {
		return err
	}
	provider.ClockSkew, provider.Algorithms, provider.Identity = time.Duration(h.ClockSkew), h.Algorithms, h.Identity
	h.resolved, h.params = provider.Config, provider.params
	if err := h.checkPolicy(); err != nil {
		return err
	}
	at := placeOf(server)
	if h.engine, err = h.app.engineFor(provider, at); err != nil {
		return err
	}
	h.decision = metrics.decisions(h.engine.issuer)
	h.accept = expects(h.Expect)
	h.noteOpenness(at, server)
	if h.Bearer == nil {
		return nil
	}
	h.bearer, err = h.newBearerGate()
	return err
}

// Cleanup lets go of what is the handler's alone. Requests that are under way
// go on.
func (h *Handler) Cleanup() error {
	if h.bearer != nil {
		h.bearer.close()
	}
	return nil
}

// closing is closed when the server begins to shut down: Caddy cancels ctx only
// once all answers are through, and those that stay open would keep it waiting.
func closing(ctx context.Context, server *caddyhttp.Server) <-chan struct{} {
	if server == nil {
		return ctx.Done()
	}
	ctx, cancel := context.WithCancel(ctx)
	server.RegisterOnShutdown(cancel)
	return ctx.Done()
}

// setDefaults fills what the configuration leaves out.
func (h *Handler) setDefaults() {
	if h.Limits == nil {
		h.Limits = new(Limits)
	}
	if h.Limits.Starts == nil {
		h.Limits.Starts = &Rate{Count: 10, Per: caddy.Duration(time.Minute)}
	}
	if h.Session == nil {
		h.Session = new(SessionConfig)
	}
	if h.Page == nil {
		h.Page = new(PageConfig)
	}
	h.Page.setDefaults()
	defaultTo(&h.Limits.Code, caddy.Duration(10*time.Minute))
	defaultTo(&h.Session.Cookie, "device_auth")
	defaultTo(&h.Session.Idle, caddy.Duration(12*time.Hour))
	defaultTo(&h.Session.Lifetime, caddy.Duration(30*24*time.Hour))
	defaultTo(&h.UpstreamToken, "none")
	defaultTo(&h.Identity, "auto")
	defaultTo(&h.PathPrefix, "/.device")
	if h.UpstreamHeaders == nil {
		h.UpstreamHeaders = map[string]string{"Remote-User": "preferred_username", "Remote-Groups": "groups"}
	}
}

func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// resolvePlaceholders replaces {env.…} and {file.…} in the handler's own
// settings; the provider's are its own business.
func (h *Handler) resolvePlaceholders() error {
	r := newResolver()
	h.PublicURL = r.text("public_url", h.PublicURL)
	h.PathPrefix = r.text("path_prefix", h.PathPrefix)
	h.Session.Cookie = r.text("session cookie", h.Session.Cookie)
	h.Page.resolve(r)
	headers := make(map[string]string, len(h.UpstreamHeaders))
	for _, name := range slices.Sorted(maps.Keys(h.UpstreamHeaders)) {
		headers[name] = r.text("upstream_headers "+name, h.UpstreamHeaders[name])
	}
	h.UpstreamHeaders = headers
	for _, rules := range [][]ClaimRule{h.Require, h.Expect} {
		for i := range rules {
			rules[i].Claim = r.text("require or expect", rules[i].Claim)
			r.texts(rules[i].Claim, rules[i].Values)
		}
	}
	r.texts("trusted_origins", h.TrustedOrigins)
	if b := h.Bearer; b != nil {
		r.texts("bearer audience", b.Audience)
		r.texts("bearer authorized_party", b.AuthorizedParty)
		r.texts("bearer issuer", b.Issuer)
	}
	return r.err
}

func (h *Handler) loadMatchers(ctx caddy.Context) error {
	for _, m := range []struct {
		field string
		raw   caddyhttp.RawMatcherSets
		into  *caddyhttp.MatcherSets
	}{{"MatcherSetsRaw", h.MatcherSetsRaw, &h.matchers}, {"StartRaw", h.StartRaw, &h.starters}} {
		if m.raw == nil {
			continue
		}
		sets, err := ctx.LoadModule(h, m.field)
		if err != nil {
			return fmt.Errorf("loading matchers: %w", err)
		}
		if err := m.into.FromInterface(sets); err != nil {
			return fmt.Errorf("loading matchers: %w", err)
		}
	}
	return nil
}

// provisionHTTP checks and prepares everything about requests and answers.
func (h *Handler) provisionHTTP(server *caddyhttp.Server) error {
	if err := h.checkValues(); err != nil {
		return err
	}
	var err error
	if h.upstream, err = newUpstreamHeaders(h.UpstreamHeaders, h.UpstreamToken); err != nil {
		return err
	}
	if h.hosts, err = newHostPolicy(server, h.PublicURL); err != nil {
		return err
	}
	if h.cookie, err = h.newCookiePolicy(server); err != nil {
		return err
	}
	if h.clients, err = newClientLimiter(*h.Limits.Starts); err != nil {
		return err
	}
	h.origins, err = newOrigins(h.hosts.public, h.TrustedOrigins)
	return err
}

func (h *Handler) checkValues() error {
	if err := h.Limits.Starts.check(); err != nil {
		return fmt.Errorf("limits starts %w", err)
	}
	for _, d := range []struct {
		key         string
		value       caddy.Duration
		least, most time.Duration
	}{
		{"limits code", h.Limits.Code, time.Minute, time.Hour},
		{"session idle", h.Session.Idle, time.Second, maxDuration},
		{"session lifetime", h.Session.Lifetime, time.Second, maxDuration},
	} {
		if v := time.Duration(d.value); v < d.least || v > d.most {
			return fmt.Errorf("%s %s: must be between %s and %s", d.key, span(v), span(d.least), span(d.most))
		}
	}
	if !validPrefix(h.PathPrefix) {
		return fmt.Errorf("path_prefix %q: must start with /, not end with one, and be plain: letters, digits, and - . _ ~ /", h.PathPrefix)
	}
	return nil
}

// span writes a duration as it would be written in the configuration.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d != 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
