// This file holds the client of one identity provider and how it
// authenticates itself there.

package idp

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// Config says which identity provider to use, and as whom. The zero value of a
// field means its default.
type Config struct {
	// Issuer is the identity provider's issuer identifier, compared byte for
	// byte with what it says of itself (OpenID Connect Discovery §4.3).
	Issuer string
	// Discovery is the address of the discovery document, where that is not
	// <Issuer>/.well-known/openid-configuration. Its issuer must be Issuer all
	// the same.
	Discovery string
	// Endpoints that are set count in place of those of the discovery
	// document. With all of them, and without Discovery, that is not asked
	// for.
	Endpoints Endpoints
	// ClientID and ClientSecret are this gateway's at the identity provider.
	// Without a secret the client is public.
	ClientID     string
	ClientSecret secret.String
	// ClientAuth is one of [ClientAuthMethods]; "" is "auto".
	ClientAuth string
	// ClientKey is the client's private key in PEM, and ClientKeyID its kid at
	// the identity provider, "" for none: for private_key_jwt.
	ClientKey   secret.String
	ClientKeyID string
	// Scopes to ask for. Default: openid, unless Identity does without ID
	// tokens, and what the identity provider lists of profile, email and
	// offline_access.
	Scopes []string
	// PKCE is one of [PKCEModes]; "" is "auto".
	PKCE string
	// Algorithms are the signature algorithms that an ID token may have, out
	// of [Algorithms]; none stands for all of those.
	Algorithms []string
	// Dialect is one of [Dialects]; "" is the standards'.
	Dialect string
	// Identity is one of [Identities]; "" is "auto".
	Identity string
	// NoCompleteURI leaves verification_uri_complete out of what is shown.
	NoCompleteURI bool
	// Timeout bounds each request but a refresh. Default: 10 s.
	Timeout time.Duration
	// ClockSkew is how far this clock and the identity provider's may be
	// apart. Default: 30 s.
	ClockSkew time.Duration
	// KeysOnly is for an issuer that nobody signs in at here: of its discovery
	// document only the keys are needed.
	KeysOnly bool
	// Network is the way to the identity provider; nil is the plain one.
	Network *Network
	// Transport replaces the HTTP transport, for tests.
	Transport http.RoundTripper
}

// Endpoints are addresses of an identity provider; "" is one that discovery
// tells. Userinfo is needed where that is the identity; Revocation is one that
// nobody has to have.
type Endpoints struct{ DeviceAuthorization, Token, JWKS, Userinfo, Revocation string }

// ClientAuthMethods are the values of Config.ClientAuth: "auto" is none
// without a secret, else basic where the identity provider lists it or lists
// nothing (RFC 8414 §2) and is not known to misread it, else post. "tls" is the
// certificate of Network, with client_id in the form (RFC 8705 §2).
var ClientAuthMethods = []string{"auto", "none", "basic", "post", "private_key_jwt", "tls"}

// ErrNoClientCertificate is a configuration whose client has none to show.
var ErrNoClientCertificate = errors.New("client_auth tls needs the client's certificate: add a transport with a line like `tls_client_auth /etc/ssl/gateway.pem /etc/ssl/gateway.key`")

// withoutSecret are the methods that send none.
var withoutSecret = []string{"none", "private_key_jwt", "tls"}

// Client is an identity provider as this gateway's client sees it. It makes no
// request until it is first used, and is safe for concurrent use.
type Client struct {
	cfg       Config
	dialect   dialect
	polled    meaning
	http      *http.Client
	patient   *http.Client // for refreshes: the same transport, but RefreshTimeout
	discovery discovery
	clientKey crypto.Signer // nil but for private_key_jwt
	// endpointIsAudience is whether the identity provider takes assertions for
	// its token endpoint only.
	endpointIsAudience atomic.Bool
}

// New checks the configuration; it asks nobody.
func New(cfg Config) (*Client, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.ClockSkew == 0 {
		cfg.ClockSkew = 30 * time.Second
	}
	if cfg.ClientAuth == "" {
		cfg.ClientAuth = "auto"
	}
	if cfg.PKCE == "" {
		cfg.PKCE = "auto"
	}
	if cfg.Identity == "" {
		cfg.Identity = "auto"
	}
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = Algorithms
	}
	d := dialects[cfg.Dialect]
	cfg.Endpoints = cfg.Endpoints.withDialect(d, cfg.Issuer)
	if err := cfg.check(); err != nil {
		return nil, err
	}
	transport := cfg.Transport
	if transport == nil {
		transport = cfg.Network.transport(cfg.Timeout)
	}
	c := &Client{cfg: cfg, dialect: d, polled: d.meaningOfPolls(), http: newHTTPClient(cfg.Timeout, transport)}
	patient := *c.http
	patient.Timeout = RefreshTimeout
	c.patient = &patient
	if cfg.ClientAuth == "private_key_jwt" {
		var err error
		if c.clientKey, err = parseClientKey(cfg.ClientKey); err != nil {
			return nil, fmt.Errorf("client_auth private_key_jwt: %w", err)
		}
	}
	c.discovery.init()
	if cfg.Discovery == "" && cfg.Endpoints.complete(d) {
		c.discovery.good.Store(c.withoutDiscovery())
	}
	return c, nil
}

func (cfg *Config) check() error {
	if cfg.Issuer == "" {
		return errors.New("issuer is missing: write the identity provider's issuer URL, exactly as its discovery document has it")
	}
	for _, e := range []struct {
		name, url    string
		authenticate bool // whether the client does, which tls does over TLS only
	}{
		{"issuer", cfg.Issuer, false},
		{"discovery", cfg.Discovery, false},
		{"endpoints device_authorization", cfg.Endpoints.DeviceAuthorization, true},
		{"endpoints token", cfg.Endpoints.Token, true},
		{"endpoints jwks", cfg.Endpoints.JWKS, false},
		{"endpoints userinfo", cfg.Endpoints.Userinfo, false},
		{"endpoints revocation", cfg.Endpoints.Revocation, true},
	} {
		needHTTPS := e.authenticate && cfg.ClientAuth == "tls"
		if err := checkEndpoint(e.url, needHTTPS); err != nil && e.url != "" {
			return fmt.Errorf("%s %q: %w", e.name, e.url, err)
		}
	}
	for _, alg := range cfg.Algorithms {
		if err := CheckAlgorithm(alg); err != nil {
			return fmt.Errorf("algorithms %w", err)
		}
	}
	switch {
	case cfg.ClientID == "":
		return errors.New("client_id is missing: it is the name under which this gateway is registered at the identity provider")
	case !slices.Contains(ClientAuthMethods, cfg.ClientAuth):
		return fmt.Errorf("client_auth %q is none of %s", cfg.ClientAuth, strings.Join(ClientAuthMethods, ", "))
	case slices.Contains(withoutSecret, cfg.ClientAuth) && cfg.ClientSecret != "":
		return fmt.Errorf("client_auth %s sends no secret, but client_secret or client_secret_file is set: remove one of them", cfg.ClientAuth)
	case (cfg.ClientAuth == "private_key_jwt") != (cfg.ClientKey != ""):
		return errors.New("client_auth private_key_jwt needs the file of the client's private key, and no other method takes one: write it like `client_auth private_key_jwt /etc/caddy/key.pem`")
	case (cfg.ClientAuth == "basic" || cfg.ClientAuth == "post") && cfg.ClientSecret == "":
		return fmt.Errorf("client_auth %s needs client_secret or client_secret_file", cfg.ClientAuth)
	case cfg.ClientAuth == "tls" && !cfg.Network.showsCertificate():
		return ErrNoClientCertificate
	case !slices.Contains(PKCEModes, cfg.PKCE):
		return fmt.Errorf("pkce %q is none of %s", cfg.PKCE, strings.Join(PKCEModes, ", "))
	case !slices.Contains(Identities, cfg.Identity):
		return fmt.Errorf("identity %q is none of %s", cfg.Identity, strings.Join(Identities, ", "))
	case len(cfg.Scopes) > 0 && cfg.source() == "id_token" && !slices.Contains(cfg.Scopes, "openid"):
		return errors.New("scopes must include openid: without it there is no ID token to tell who signed in (a server that has none in the device grant needs identity access_token or userinfo)")
	case cfg.Timeout < 0:
		return fmt.Errorf("idp_timeout %s: must be positive", cfg.Timeout)
	case cfg.ClockSkew < 0 || cfg.ClockSkew > 5*time.Minute:
		return fmt.Errorf("clock_skew %s: must be between 0 and 5m", cfg.ClockSkew)
	}
	return cfg.checkDialect()
}

// CheckAlgorithm says why a signature algorithm is not among [Algorithms].
func CheckAlgorithm(alg string) error {
	switch {
	case slices.Contains(Algorithms, alg):
		return nil
	case strings.EqualFold(alg, "none"):
		return fmt.Errorf("%q: a token without a signature could be anybody's (RFC 8725 §3.2): choose from %s", alg, strings.Join(Algorithms, ", "))
	case strings.HasPrefix(strings.ToUpper(alg), "HS"):
		return fmt.Errorf("%q: whoever can check such a signature can make one (RFC 8725 §2.1): let the identity provider sign with one of %s", alg, strings.Join(Algorithms, ", "))
	}
	return fmt.Errorf("%q is none of %s", alg, strings.Join(Algorithms, ", "))
}

// checkEndpoint accepts an absolute https URL, and a plain http one on
// loopback: a secret must not cross a network in the clear (RFC 6749 §2.3.1,
// §3.2). needHTTPS refuses that as well: an https issuer has no http endpoint,
// and a client certificate is shown over TLS only.
func checkEndpoint(raw string, needHTTPS bool) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return errors.New("is not a URL")
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return errors.New("must be an absolute URL without user or fragment")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && !needHTTPS && isLoopback(u.Hostname()):
		return nil
	case needHTTPS:
		return errors.New("must start with https://")
	}
	return errors.New("must start with https:// (http:// is for loopback only)")
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Timeout returns the bound on each request but a refresh ([RefreshTimeout]).
func (c *Client) Timeout() time.Duration { return c.cfg.Timeout }

// Close releases idle connections. Requests under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// authenticate adds the client's credentials (RFC 6749 §2.3.1). client_id goes
// into the form in every case: some servers want it there even with Basic.
// audience is whom an assertion is for.
func (c *Client) authenticate(md *metadata, form url.Values, header http.Header, audience string) error {
	secret := c.cfg.ClientSecret.Reveal()
	switch c.authMethod(md) {
	case "private_key_jwt":
		return c.assert(md, form, audience)
	case "basic":
		pair := url.QueryEscape(c.cfg.ClientID) + ":" + url.QueryEscape(secret)
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	case "post":
		form.Set("client_secret", secret)
	}
	return nil
}

func (c *Client) authMethod(md *metadata) string {
	if c.cfg.ClientAuth != "auto" {
		return c.cfg.ClientAuth
	}
	if c.cfg.ClientSecret == "" {
		return "none"
	}
	listed := md.TokenAuthMethods
	post := slices.Contains(listed, "client_secret_post")
	switch {
	case c.dialect.post, post && productOf(c.cfg.Issuer, md.DeviceEndpoint).post:
		return "post"
	case post && !slices.Contains(listed, "client_secret_basic"):
		return "post"
	}
	return "basic"
}

// Scopes returns the scopes that a sign-in asks for. Where the identity
// provider cannot be asked what it lists, that is openid alone.
func (c *Client) Scopes(ctx context.Context) []string {
	md, err := c.metadata(ctx)
	if err != nil {
		md = new(metadata)
	}
	return c.scopes(md)
}

func (c *Client) scopes(md *metadata) []string {
	if len(c.cfg.Scopes) > 0 {
		return slices.Clone(c.cfg.Scopes)
	}
	var scopes []string
	if !c.dialect.noOpenID && c.cfg.source() != "access_token" {
		scopes = []string{"openid"}
	}
	for _, s := range []string{"profile", "email", "offline_access"} {
		if slices.Contains(md.ScopesSupported, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes
}
