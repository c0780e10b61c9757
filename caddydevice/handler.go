// This file holds the handler and its configuration.

package caddydevice

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/keeper"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler lets a request pass only once a person has approved it by the OAuth
// 2.0 device authorization grant (RFC 8628). A client that is not signed in
// gets instructions: a page with a QR code in a browser, text with a QR code
// in a terminal, JSON in a program. The gateway polls the identity provider on
// its behalf, and after the approval the client's next request goes on.
//
// The sign-in belongs to a session key, `dvc_…`. A terminal gets it printed
// and sends it as `Authorization: Bearer`; a browser has it in a cookie.
//
// Paths below `path_prefix` are the gateway's own: login, confirm, wait,
// qr.svg, qr.png, qr.txt, session, logout, and backchannel-logout for the
// identity provider.
//
// The page of a sign-in renews its code before that runs out, for as long as
// somebody watches it: the code before works to its own end. Where nobody gives
// a sign of life that stops after a few times, see `page` `renew`.
//
// The identity provider's tokens are refreshed before they run out, also while
// nobody asks for anything. What it says then counts: an account that is gone
// ends the session, a role that is gone is missing from the claims. A request
// past the tokens' life waits for the refresh, at most `idp_timeout`; else it
// gets 503. A session ends with its sign-out, there or here, when it was not
// used for `session` `idle`, at the age of `session` `lifetime`, and, where
// there is no refresh token, with its tokens. Whatever is open of it then, like
// a WebSocket, is closed.
//
// A request passes once it is known who it is from and `require` holds. Where
// `bearer` is set, a client may also bring an access token of its own.
//
// For a signed-in request it sets:
//
// Placeholder | Description
// ------------|-------------
// `{http.auth.user.id}` | The user's sub claim; the access log shows it as user_id
// `{http.auth.user.claims.<path>}` | A claim of the ID token, with dots into objects: `realm_access.roles`
//
// and the request headers of `upstream_headers`, which no client can set,
// change or remove. The session key never reaches the upstream. Handlers and
// matchers behind this one can use the placeholders. A list is its elements with
// commas between, so this matches a role:
//
//	expression "admin" in {http.auth.user.claims.realm_access.roles}.split(",")
//
// Several handlers on one site (a host) with the same issuer and client id are
// one gate: the first that matches a request asks who it is, and each later one
// that matches adds its `require`, its `session` `methods` and its
// `upstream_headers`. All other settings must be equal.
// Handlers for different identity providers on one host need a `path_prefix`
// and a cookie (`session`) each. Handlers of different sites that share issuer
// and client id share the provider's settings, but nobody's session: that is
// for one site.
//
// An identity provider that is out of reach, or a store, answers 503: nobody
// gets in by a fault, and nobody is signed out by one.
//
// An error that arises before the gate, such as a wrong password for
// basic_auth, goes to handle_errors without having passed it: an upstream there
// sees headers as the client sent them, and its cookies, unless device_auth
// stands in handle_errors too.
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

	// What tells who signed in. auto: the ID token, or the userinfo endpoint in a
	// dialect without one. id_token: that alone. userinfo: what the endpoint adds
	// to the ID token, both about the same sub (OpenID Connect Core §5.3.2), for
	// where claims are only there. access_token: the access token, which must be
	// a signed JWT for this client, for servers without an ID token in the device
	// grant. Default: auto.
	Identity string `json:"identity,omitempty"`

	// The signature algorithms that an ID token may have, out of RS256, RS384,
	// RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA. Default: all
	// of these.
	Algorithms []string `json:"algorithms,omitempty"`

	// How far this clock and the identity provider's may be apart. Default:
	// 30s; at most 5m.
	ClockSkew caddy.Duration `json:"clock_skew,omitempty"`

	// Access tokens (JWT) that clients bring themselves, as `Authorization:
	// Bearer`, are taken where this is there. They need no sign-in at this
	// gate, and no store. Where the gate protects nothing they are the
	// upstream's, as is any other Authorization that holds no session key.
	// Default: none is taken.
	Bearer *BearerConfig `json:"bearer,omitempty"`

	// What the claims must be of whoever passes: every rule has to hold. The
	// claim `any` without values lets everyone in on purpose, where anyone can
	// have an account at the issuer. Default: everyone at the issuer gets in;
	// at issuers where anyone can have an account that is a mistake.
	Require []ClaimRule `json:"require,omitempty"`

	// What the claims must be of whoever approves a sign-in here: the approval
	// of anybody else is refused in words. Default: anybody's is taken.
	Expect []ClaimRule `json:"expect,omitempty"`

	// Who may start a sign-in: a request that one of these matcher sets
	// matches. Codes that anybody can ask for can be sent to others as bait:
	// RFC 10027 advises to let only known networks start. Default: everybody.
	StartRaw caddyhttp.RawMatcherSets `json:"start,omitempty" caddy:"namespace=http.matchers"`

	// Bounds for one client of this gate. Default: those below.
	Limits *Limits `json:"limits,omitempty"`

	// What the upstream sees of who is signed in: header names, and the claim
	// that each holds. Printable ASCII goes as it is; every other byte, and a
	// percent sign, as %XX. Lists are joined by commas, and a comma within an
	// element is %2C. An absent claim, null or an object leaves the header out;
	// what is longer than 4 KiB then is refused with 403. Default:
	// Remote-User from preferred_username, Remote-Groups from groups.
	UpstreamHeaders map[string]string `json:"upstream_headers,omitzero"`

	// A token for the upstream, as `Authorization: Bearer` in place of whatever
	// Authorization the client sent: none, access_token, or id_token. A
	// client's own access token counts as the first and has none of the
	// second. Default: none.
	UpstreamToken string `json:"upstream_token,omitempty"`

	// How long a session lives, and what it may do.
	Session *SessionConfig `json:"session,omitempty"`

	// The gateway's own pages.
	Page *PageConfig `json:"page,omitempty"`

	// The URL under which clients reach this site, where that is not what this
	// server sees: TLS ends in front of Caddy. https:// and a host, and a port
	// if need be. Default: the request's own scheme and host, if this server
	// is for that host.
	PublicURL string `json:"public_url,omitempty"`

	// Origins, like https://app.example.com, whose pages may use the session
	// cookie. Their preflights go to the upstream, without identity: it is the
	// upstream that allows them more. Default: none but the site's own.
	TrustedOrigins []string `json:"trusted_origins,omitempty"`

	// Whether /.well-known/oauth-protected-resource says where clients get an
	// access token for this site (RFC 9728), and every 401 says so. It needs
	// bearer. Default: false.
	ProtectedResource bool `json:"protected_resource,omitempty"`

	// Where the gateway's own paths begin: letters, digits and - . _ ~ / only.
	// Inside a handle or route block with a path matcher it must lie within
	// that. Default: /.device
	PathPrefix string `json:"path_prefix,omitempty"`

	// Lets the session cookie cross a network unencrypted, on a server
	// without TLS. Servers with TLS, with public_url, on loopback, or for
	// localhost alone do not need it. DANGER: who reads the traffic is signed
	// in as well. Default: false, and such a server is refused.
	InsecureCookie bool `json:"insecure_cookie,omitempty"`

	resolved idp.Config // of the provider, with placeholders replaced
	params   []paramTemplate
	settings map[string]any // what gates that are one must agree on
	matchers caddyhttp.MatcherSets
	starters caddyhttp.MatcherSets
	logger   *zap.Logger
	app      *App
	engine   *engine
	decision *decisionCounters
	upstream *upstreamHeaders
	cookie   cookiePolicy
	hosts    hostPolicy
	pages    pages
	clients  *clientLimiter
	origins  *origins
	bearer   *bearerGate   // nil where no client's own token is taken
	accept   keeper.Accept // of Expect
	unloaded <-chan struct{}
	onceXFF  sync.Once
	trouble  *rate.Sometimes // for what every start could say again
	faults   *rate.Sometimes // the same for every request
	refusals *rate.Sometimes // the same for those who are signed in
	// accessLog is whether the server has one.
	accessLog bool
	// writeTimeout is the server's, 0 for none.
	writeTimeout time.Duration
	// strips are the prefixes that may be taken off a request's path before it
	// comes here, for each place of the handler; nil until the app has started,
	// and where they are not known.
	strips atomic.Pointer[[][]string]
}

// SessionConfig says how long a session lives.
type SessionConfig struct {
	// The cookie's name, without the prefix __Host-, which it gets wherever
	// it is sent over TLS only. Default: device_auth
	Cookie string `json:"cookie,omitempty"`

	// A session that no request used for so long is over; one that is open, like
	// a WebSocket, uses it all the time. At least 1s. Default: 12h.
	Idle caddy.Duration `json:"idle,omitempty"`

	// The longest life of a session, however much it is used. At least 1s, at
	// most 3650d. Default: 30d.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// The methods that a request may have, in capitals: GET and HEAD make
	// sessions that only read, if the upstream's GET only reads: what it takes
	// from a query like ?_method= is its own business. A WebSocket counts as
	// GET; a client's own access token may use any. Default: all.
	Methods []string `json:"methods,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.device_auth",
		New: func() caddy.Module { return new(Handler) },
	}
}

// MarshalLogObject keeps a secret that is written into the configuration out
// of Caddy's trace log.
func (h *Handler) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("provider", h.ProviderName)
	enc.AddString("issuer", h.Issuer)
	enc.AddString("client_id", h.ClientID)
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
