// This file holds the handler's configuration and its life.

package caddydevice

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// troubleEvery is how often the log repeats what every request meets while the
// identity provider or the store is in trouble.
const troubleEvery = 10 * time.Second

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
// An identity provider that is out of reach, or a store, answers 503: nobody
// gets in by a fault, and nobody is signed out by one.
type Handler struct {
	// Which requests are protected. Default: all. Cleaning of headers and the
	// gateway's own paths do not depend on it.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// The identity provider's issuer URL, exactly as it names itself.
	// Required.
	Issuer string `json:"issuer,omitempty"`

	// The id under which this gateway is registered at the identity provider.
	// Required.
	ClientID string `json:"client_id,omitempty"`

	// The client's secret, for a confidential client. Use a placeholder like
	// {env.CLIENT_SECRET} or {file./run/secrets/client} to keep it out of the
	// configuration.
	ClientSecret string `json:"client_secret,omitempty"`

	// How the client authenticates: auto, none, basic or post. Default: auto,
	// which is none without a secret, else what the identity provider lists.
	ClientAuth string `json:"client_auth,omitempty"`

	// The scopes to ask for; openid must be among them. Default: openid, and
	// what the identity provider lists of profile, email and offline_access.
	Scopes []string `json:"scopes,omitempty"`

	// Whether a code challenge goes with each sign-in (RFC 7636): auto, on or
	// off. Default: auto, which is on where the identity provider names S256.
	PKCE string `json:"pkce,omitempty"`

	// How long one request to the identity provider may take. Default: 10s.
	IdPTimeout caddy.Duration `json:"idp_timeout,omitempty"`

	// How far this clock and the identity provider's may be apart. Default:
	// 30s; at most 5m.
	ClockSkew caddy.Duration `json:"clock_skew,omitempty"`

	// Who may start a sign-in: a request that one of these matcher sets
	// matches. Default: everybody.
	StartRaw caddyhttp.RawMatcherSets `json:"start,omitempty" caddy:"namespace=http.matchers"`

	// Bounds for one client of this gate.
	Limits *Limits `json:"limits,omitempty"`

	// What the upstream sees of who is signed in: header names, and the claim
	// that each holds. Printable ASCII goes as it is; every other byte, and a
	// percent sign, as %XX. Lists are joined by commas, and a comma within an
	// element is %2C. An absent claim leaves the header out. Default:
	// Remote-User from preferred_username, Remote-Groups from groups.
	UpstreamHeaders map[string]string `json:"upstream_headers,omitzero"`

	// How long a session lives.
	Session *SessionConfig `json:"session,omitempty"`

	// The https URL under which clients reach this site, where that is not
	// what this server sees: TLS ends in front of Caddy. Default: the
	// request's own scheme and host.
	PublicURL string `json:"public_url,omitempty"`

	// Where the gateway's own paths begin. Default: /.device
	PathPrefix string `json:"path_prefix,omitempty"`

	// Lets the session cookie cross a network unencrypted, on a server
	// without TLS. DANGER: who reads the traffic is signed in as well.
	InsecureCookie bool `json:"insecure_cookie,omitempty"`

	resolved   idp.Config // with placeholders replaced
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

	// The longest life of a code, whatever the identity provider says.
	// Default: 10m.
	Code caddy.Duration `json:"code,omitempty"`
}

// Rate is a number of things in a time.
type Rate struct {
	Count int            `json:"count"`
	Per   caddy.Duration `json:"per"`
}

// SessionConfig says how long a session lives.
type SessionConfig struct {
	// The cookie's name, without the prefix __Host-, which it gets wherever
	// it is sent over TLS only. Default: device_auth
	Cookie string `json:"cookie,omitempty"`

	// A session that no request used for so long is over. Default: 12h.
	Idle caddy.Duration `json:"idle,omitempty"`

	// The longest life of a session, however much it is used. Default: 720h
	// (30 days).
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
	h.setDefaults()
	if err := h.resolvePlaceholders(); err != nil {
		return err
	}
	if err := h.loadMatchers(ctx); err != nil {
		return err
	}
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	h.unloaded = closing(ctx, server)
	h.trouble = &rate.Sometimes{First: 3, Interval: troubleEvery}
	h.faults = &rate.Sometimes{First: 3, Interval: troubleEvery}
	if err := h.provisionHTTP(server); err != nil {
		return err
	}
	appIface, err := ctx.App("device_auth")
	if err != nil {
		return fmt.Errorf("getting device_auth app: %w", err)
	}
	h.app = appIface.(*App)
	h.engine, err = h.app.engineFor(h.resolved)
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

// resolvePlaceholders replaces {env.…} and {file.…} once. One that is unset,
// or that only a request could fill, is a mistake. What comes of it is kept
// apart from the configuration, which Caddy may show or log.
func (h *Handler) resolvePlaceholders() error {
	repl := caddy.NewReplacer()
	var err error
	resolve := func(key, value string) string {
		text, failed := repl.ReplaceOrErr(value, true, true)
		if failed != nil && err == nil {
			err = fmt.Errorf("device_auth: %s: %w; set it, or write the value itself", key, failed)
		}
		return text
	}
	h.resolved = idp.Config{
		Issuer: resolve("issuer", h.Issuer), ClientID: resolve("client_id", h.ClientID),
		ClientSecret: secret.String(resolve("client_secret", h.ClientSecret)), ClientAuth: resolve("client_auth", h.ClientAuth),
		PKCE:    resolve("pkce", h.PKCE),
		Timeout: time.Duration(h.IdPTimeout), ClockSkew: time.Duration(h.ClockSkew),
	}
	for _, scope := range h.Scopes {
		h.resolved.Scopes = append(h.resolved.Scopes, resolve("scopes", scope))
	}
	h.PublicURL = resolve("public_url", h.PublicURL)
	return err
}

// MarshalLogObject keeps a secret that is written into the configuration out
// of Caddy's trace log.
func (h *Handler) MarshalLogObject(enc zapcore.ObjectEncoder) error {
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
			return fmt.Errorf("device_auth: loading matchers: %w", err)
		}
		if err := m.into.FromInterface(sets); err != nil {
			return fmt.Errorf("device_auth: loading matchers: %w", err)
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
	switch {
	case h.resolved.Issuer == "":
		return errors.New("device_auth: issuer is missing: write the identity provider's issuer URL")
	case h.Limits.Code < caddy.Duration(time.Minute) || h.Limits.Code > caddy.Duration(time.Hour):
		return fmt.Errorf("device_auth: limits code %s: must be between 1m and 1h", time.Duration(h.Limits.Code))
	case h.Limits.Starts.Count < 1 || h.Limits.Starts.Per <= 0:
		return errors.New("device_auth: limits starts: needs a number of at least 1 and a positive time")
	case h.Session.Idle < 0 || h.Session.Lifetime < 0:
		return errors.New("device_auth: session idle and lifetime must be positive")
	case !validPrefix(h.PathPrefix):
		return fmt.Errorf("device_auth: path_prefix %q: must start with /, not end with one, and be plain: letters, digits, and - . _ ~ /", h.PathPrefix)
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
