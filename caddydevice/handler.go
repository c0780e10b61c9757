// This file holds the handler's configuration and its life.

package caddydevice

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// troubleEvery is how often the log repeats what every request meets while the
// identity provider or the store is in trouble.
const troubleEvery = 10 * time.Second

// maxDuration is more than any session needs, and far from what would overflow
// a date.
const maxDuration = 10 * 365 * 24 * time.Hour

// Handler lets a request pass only once a person has approved it by the OAuth
// 2.0 device authorization grant (RFC 8628). A client that is not signed in
// gets instructions: a page with a QR code in a browser, text with a QR code
// in a terminal, JSON in a program. The gateway polls the identity provider on
// its behalf, and after the approval the client's next request goes on.
//
// The sign-in belongs to a session key, `dvc_…`. A terminal gets it printed
// and sends it as `Authorization: Bearer`; a browser has it in a cookie.
//
// Paths below `path_prefix` are the gateway's own: login, wait, qr.svg,
// session and logout.
//
// For a signed-in request it sets:
//
// Placeholder | Description
// ------------|-------------
// `{http.auth.user.id}` | The user's sub claim; the access log shows it as user_id
// `{http.auth.user.claims.<path>}` | A claim of the ID token, with dots into objects: `realm_access.roles`
//
// and the request headers of `upstream_headers`, which no client can set,
// change or remove. The session key never reaches the upstream.
//
// Several handlers on one site (a host) with the same issuer and client id are
// one gate: the first that matches a request asks who it is, and each later one
// that matches adds its `upstream_headers`. All other settings must be equal.
// Handlers for different identity providers on one host need a `path_prefix`
// and a cookie (`session`) each. Handlers of different sites that share issuer
// and client id share the provider's settings, but nobody's session: that is
// for one site.
//
// An identity provider that is out of reach, or a store, answers 503: nobody
// gets in by a fault, and nobody is signed out by one.
type Handler struct {
	// Which requests are protected. Default: all. Cleaning of headers and the
	// gateway's own paths do not depend on it.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// The identity provider's settings, with these keys: unless a provider of
	// the app is named, issuer and client_id are required.
	Provider

	// The name of one of the app's providers, in place of the keys of Provider:
	// together they are a mistake. Default: none.
	ProviderName string `json:"provider,omitempty"`

	// The signature algorithms that an ID token may have, out of RS256, RS384,
	// RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA. Default: all
	// of these.
	Algorithms []string `json:"algorithms,omitempty"`

	// How far this clock and the identity provider's may be apart. Default:
	// 30s; at most 5m.
	ClockSkew caddy.Duration `json:"clock_skew,omitempty"`

	// Who may start a sign-in: a request that one of these matcher sets
	// matches. Default: everybody.
	StartRaw caddyhttp.RawMatcherSets `json:"start,omitempty" caddy:"namespace=http.matchers"`

	// Bounds for one client of this gate. Default: those below.
	Limits *Limits `json:"limits,omitempty"`

	// What the upstream sees of who is signed in: header names, and the claim
	// that each holds. Printable ASCII goes as it is; every other byte, and a
	// percent sign, as %XX. Lists are joined by commas, and a comma within an
	// element is %2C. An absent claim leaves the header out. Default:
	// Remote-User from preferred_username, Remote-Groups from groups.
	UpstreamHeaders map[string]string `json:"upstream_headers,omitzero"`

	// How long a session lives.
	Session *SessionConfig `json:"session,omitempty"`

	// The URL under which clients reach this site, where that is not what this
	// server sees: TLS ends in front of Caddy. https:// and a host, and a port
	// if need be. Default: the request's own scheme and host, if this server
	// is for that host.
	PublicURL string `json:"public_url,omitempty"`

	// Where the gateway's own paths begin: letters, digits and - . _ ~ / only.
	// Inside a handle or route block with a path matcher it must lie within
	// that. Default: /.device
	PathPrefix string `json:"path_prefix,omitempty"`

	// Lets the session cookie cross a network unencrypted, on a server
	// without TLS. Servers with TLS, with public_url, on loopback, or for
	// localhost alone do not need it. DANGER: who reads the traffic is signed
	// in as well. Default: false, and such a server is refused.
	InsecureCookie bool `json:"insecure_cookie,omitempty"`

	resolved   idp.Config // of the provider, with placeholders replaced
	params     []paramTemplate
	settings   map[string]any // what gates that are one must agree on
	matchers   caddyhttp.MatcherSets
	starters   caddyhttp.MatcherSets
	logger     *zap.Logger
	app        *App
	engine     *engine
	upstream   *upstreamHeaders
	cookie     cookiePolicy
	hosts      hostPolicy
	clients    *clientLimiter
	crossCheck *http.CrossOriginProtection
	unloaded   <-chan struct{}
	onceXFF    sync.Once
	trouble    *rate.Sometimes // for what every start could say again
	faults     *rate.Sometimes // the same for every request
}

// Limits bound what one client may do.
type Limits struct {
	// New sign-ins of one client; an IPv6 client is its /64. Default: 10 in
	// 1m.
	Starts *Rate `json:"starts,omitempty"`

	// The longest life of a code, whatever the identity provider says: between
	// 1m and 1h. Default: 10m.
	Code caddy.Duration `json:"code,omitempty"`
}

// Rate is a number of things, at most 1000000, in a time.
type Rate struct {
	Count int            `json:"count"`
	Per   caddy.Duration `json:"per"`
}

// SessionConfig says how long a session lives.
type SessionConfig struct {
	// The cookie's name, without the prefix __Host-, which it gets wherever
	// it is sent over TLS only. Default: device_auth
	Cookie string `json:"cookie,omitempty"`

	// A session that no request used for so long is over. At least 1s.
	// Default: 12h.
	Idle caddy.Duration `json:"idle,omitempty"`

	// The longest life of a session, however much it is used. At least 1s, at
	// most 3650d. Default: 30d.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.device_auth",
		New: func() caddy.Module { return new(Handler) },
	}
}

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
	h.unloaded = closing(ctx, server)
	h.trouble = &rate.Sometimes{First: 3, Interval: troubleEvery}
	h.faults = &rate.Sometimes{First: 3, Interval: troubleEvery}
	if err := h.provisionHTTP(server); err != nil {
		return err
	}
	provider, err := h.provider(h.app)
	if err != nil {
		return err
	}
	provider.ClockSkew, provider.Algorithms = time.Duration(h.ClockSkew), h.Algorithms
	h.resolved, h.params = provider.Config, provider.params
	h.engine, err = h.app.engineFor(provider, placeOf(server))
	return err
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
	defaultTo(&h.Limits.Code, caddy.Duration(10*time.Minute))
	defaultTo(&h.Session.Cookie, "device_auth")
	defaultTo(&h.Session.Idle, caddy.Duration(12*time.Hour))
	defaultTo(&h.Session.Lifetime, caddy.Duration(30*24*time.Hour))
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
	headers := make(map[string]string, len(h.UpstreamHeaders))
	for _, name := range slices.Sorted(maps.Keys(h.UpstreamHeaders)) {
		headers[name] = r.text("upstream_headers "+name, h.UpstreamHeaders[name])
	}
	h.UpstreamHeaders = headers
	return r.err
}

// MarshalLogObject keeps a secret that is written into the configuration out
// of Caddy's trace log.
func (h *Handler) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("provider", h.ProviderName)
	enc.AddString("issuer", h.Issuer)
	enc.AddString("client_id", h.ClientID)
	return nil
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
	if h.upstream, err = newUpstreamHeaders(h.UpstreamHeaders); err != nil {
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
	h.crossCheck = http.NewCrossOriginProtection()
	if h.PublicURL != "" {
		err = h.crossCheck.AddTrustedOrigin(h.hosts.public)
	}
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

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
