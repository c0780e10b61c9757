// This file holds discovery: asked for when first needed, retried with
// back-off, and the last good answer kept.

package idp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// discoveryMaxAge is when a discovery document is asked for again. The
	// old one serves on where that fails.
	discoveryMaxAge = time.Hour
	// The back-off between failed tries doubles from first to most.
	discoveryFirstBackoff = time.Second
	discoveryMostBackoff  = 15 * time.Second
)

// metadata is what is used of a discovery document (OpenID Connect Discovery
// §3, RFC 8414 §2, RFC 8628 §4).
type metadata struct {
	Issuer           string   `json:"issuer"`
	DeviceEndpoint   string   `json:"device_authorization_endpoint"`
	TokenEndpoint    string   `json:"token_endpoint"`
	JWKSURI          string   `json:"jwks_uri"`
	ScopesSupported  []string `json:"scopes_supported"`
	TokenAuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	ChallengeMethods []string `json:"code_challenge_methods_supported"`
	GrantTypes       []string `json:"grant_types_supported"`
	IDTokenAlgs      []string `json:"id_token_signing_alg_values_supported"`
	// TokenAuthAlgorithms are for the client's assertions.
	TokenAuthAlgorithms []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	// What nobody has to have: RFC 8414 §2 and OpenID Connect RP-Initiated
	// Logout §2.1.
	RevocationEndpoint optionalURL `json:"revocation_endpoint"`
	UserinfoEndpoint   optionalURL `json:"userinfo_endpoint"`
	EndSessionEndpoint optionalURL `json:"end_session_endpoint"`
	// MTLSAliases are an object for client_auth tls, which nobody has to have.
	MTLSAliases json.RawMessage `json:"mtls_endpoint_aliases"`

	keys    *keySet
	fetched time.Time
	settled bool // by the configuration alone: there is nothing to ask for
	// apart is how far this clock is before the answer's, if that was dated.
	apart time.Duration
	dated bool
}

// optionalURL is a member that nobody has to have: one that is no string is none.
type optionalURL string

func (u *optionalURL) UnmarshalJSON(b []byte) error {
	var text string
	_ = json.Unmarshal(b, &text) // "" where it is none
	*u = optionalURL(text)
	return nil
}

// discovery holds the last good document and when to ask next.
type discovery struct {
	turn chan struct{} // one asks at a time; the others wait as long as they like
	good atomic.Pointer[metadata]

	// held while turn is
	nextTry time.Time
	backoff time.Duration
	lastErr error
}

func (d *discovery) init() { d.turn = make(chan struct{}, 1) }

// metadata returns the discovery document, asking for it where it is missing
// or old. While there is none and the last try failed a moment ago, it fails
// at once with an [UnavailableError].
func (c *Client) metadata(ctx context.Context) (*metadata, error) {
	d := &c.discovery
	if md := d.good.Load(); md.fresh() {
		return md, nil
	}
	if !d.takeTurn(ctx) {
		return d.fallback(d.good.Load(), discoveryFirstBackoff, ctx.Err())
	}
	defer func() { <-d.turn }()
	return c.renew(ctx)
}

// metadataAtHand is metadata for a caller that waits for no document but the
// first: an old one serves while it is renewed in the background.
func (c *Client) metadataAtHand(ctx context.Context) (*metadata, error) {
	d := &c.discovery
	md := d.good.Load()
	if md == nil || md.fresh() {
		return c.metadata(ctx)
	}
	select {
	case d.turn <- struct{}{}:
		go func() {
			defer func() { <-d.turn }()
			_, _ = c.renew(ctx) // where it fails, the old one stays
		}()
	default:
	}
	return md, nil
}

// renew asks for the document, unless that was just done or failed a moment
// ago. The caller has the turn.
func (c *Client) renew(ctx context.Context) (*metadata, error) {
	d := &c.discovery
	old := d.good.Load()
	if old.fresh() {
		return old, nil
	}
	if wait := time.Until(d.nextTry); wait > 0 {
		return d.fallback(old, wait, d.lastErr)
	}
	// whoever asks may give up; what is learned, or that it failed, is for all
	md, err := c.discover(context.WithoutCancel(ctx))
	if err != nil {
		d.backoff = min(max(2*d.backoff, discoveryFirstBackoff), discoveryMostBackoff)
		d.nextTry, d.lastErr = time.Now().Add(d.backoff), err
		return d.fallback(old, d.backoff, err)
	}
	if old != nil && old.JWKSURI == md.JWKSURI {
		md.keys = old.keys
	}
	d.backoff, d.nextTry, d.lastErr = 0, time.Time{}, nil
	d.good.Store(md)
	return md, nil
}

func (md *metadata) fresh() bool {
	return md != nil && (md.settled || time.Since(md.fetched) < discoveryMaxAge)
}

// takeTurn waits for the turn to ask; while there is an old document that will
// do, it does not wait for somebody else's.
func (d *discovery) takeTurn(ctx context.Context) bool {
	select {
	case d.turn <- struct{}{}:
		return true
	default:
	}
	if d.good.Load() != nil {
		return false
	}
	select {
	case d.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// fallback is the last good document or, without one, why there is none.
func (d *discovery) fallback(old *metadata, wait time.Duration, why error) (*metadata, error) {
	if old != nil {
		return old, nil
	}
	return nil, &UnavailableError{RetryAfter: wait, Err: why}
}

// discoveryURL is where the document is (OpenID Connect Discovery §4.1).
func (cfg *Config) discoveryURL() string {
	if cfg.Discovery != "" {
		return cfg.Discovery
	}
	return strings.TrimSuffix(cfg.Issuer, "/") + "/.well-known/openid-configuration"
}

// discover asks once. A document whose issuer is not, byte for byte, the
// configured one is refused (OpenID Connect Discovery §4.3), wherever it is.
// go-oidc compares with the address that it asks at, which knows no documents
// elsewhere.
func (c *Client) discover(ctx context.Context) (*metadata, error) {
	md, err := c.askDiscovery(ctx)
	switch {
	case err != nil:
		return nil, &trouble{problemOf(err), fmt.Errorf("discovery: %s", words(withoutURL(err).Error()))}
	case strings.Contains(md.Issuer, "{"): // Entra's, where it is for many tenants
		return nil, &trouble{otherIssuer, fmt.Errorf("discovery: the identity provider calls itself %q, which is a pattern for many tenants: write the issuer of one, with its tenant id", words(md.Issuer))}
	case md.Issuer != c.cfg.Issuer:
		return nil, &trouble{otherIssuer, fmt.Errorf("issuer is configured as %q, but the identity provider calls itself %q: they must be the same, to the last slash",
			c.cfg.Issuer, words(md.Issuer))}
	}
	if err := c.useEndpoints(md); err != nil {
		if md.DeviceEndpoint == "" {
			return nil, &trouble{noDeviceGrant, err}
		}
		return nil, &trouble{badDocument, err}
	}
	md.keys = newKeySet(md.JWKSURI, c.http, c.dialect.anyKeyID)
	md.fetched = time.Now()
	return md, nil
}

func (c *Client) askDiscovery(ctx context.Context) (*metadata, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.cfg.discoveryURL(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &trouble{noDocument, fmt.Errorf("status %d", resp.StatusCode)}
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	md := new(metadata)
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		md.apart, md.dated = time.Since(at), true
	}
	if err := (reply{status: resp.StatusCode, body: body}).object(md); err != nil {
		return nil, &trouble{noDocument, err}
	}
	return md, nil
}

// useEndpoints puts the configured endpoints in place and checks the others.
func (c *Client) useEndpoints(md *metadata) error {
	needHTTPS := strings.HasPrefix(c.cfg.Issuer, "https:")
	byCertificate := c.cfg.ClientAuth == "tls"
	if byCertificate {
		md.useAliases()
	}
	for _, e := range []struct {
		member     string
		url        *string
		configured string
		forKeys    bool // needed also where only the keys are
		remedy     string
	}{
		{
			"device_authorization_endpoint", &md.DeviceEndpoint, c.cfg.Endpoints.DeviceAuthorization, false,
			"the device authorization grant (RFC 8628) is not offered by this issuer; switch it on there, or set endpoints device_authorization",
		},
		{"token_endpoint", &md.TokenEndpoint, c.cfg.Endpoints.Token, false, "without it nobody can sign in; set endpoints token"},
		{"jwks_uri", &md.JWKSURI, c.cfg.Endpoints.JWKS, true, "without it no token can be verified; set endpoints jwks"},
	} {
		if c.cfg.KeysOnly && !e.forKeys {
			continue
		}
		if e.configured != "" {
			*e.url = e.configured // checked when it was configured
			continue
		}
		if *e.url == "" {
			return fmt.Errorf("discovery: no %s: %s", e.member, e.remedy)
		}
		if err := checkEndpoint(*e.url, needHTTPS || byCertificate && !e.forKeys); err != nil {
			return fmt.Errorf("discovery: %s %w", e.member, err)
		}
	}
	md.RevocationEndpoint.settle(c.cfg.Endpoints.Revocation, needHTTPS || byCertificate)
	md.UserinfoEndpoint.settle(c.cfg.Endpoints.Userinfo, needHTTPS)
	if c.cfg.source() == "userinfo" && md.UserinfoEndpoint == "" {
		return errors.New("discovery: no userinfo_endpoint: without it identity userinfo cannot tell who signs in; set endpoints userinfo, or remove the line identity")
	}
	return nil
}

// useAliases puts the endpoints where a client certificate is asked for in place
// of those where it is not (RFC 8705 §5). What has no alias stays.
func (md *metadata) useAliases() {
	var aliases struct {
		Device     optionalURL `json:"device_authorization_endpoint"`
		Token      optionalURL `json:"token_endpoint"`
		Revocation optionalURL `json:"revocation_endpoint"`
	}
	_ = json.Unmarshal(md.MTLSAliases, &aliases) // none where it is no object
	md.DeviceEndpoint = cmp.Or(string(aliases.Device), md.DeviceEndpoint)
	md.TokenEndpoint = cmp.Or(string(aliases.Token), md.TokenEndpoint)
	md.RevocationEndpoint = cmp.Or(aliases.Revocation, md.RevocationEndpoint)
}

// settle puts the configured address in place of the one that discovery tells. A
// bad one of the latter is left out: not everybody needs it.
func (u *optionalURL) settle(configured string, needHTTPS bool) {
	switch {
	case configured != "":
		*u = optionalURL(configured)
	case checkEndpoint(string(*u), needHTTPS) != nil:
		*u = ""
	}
}

// complete reports whether nothing is left to discover.
func (e Endpoints) complete(d dialect) bool {
	whose := e.JWKS
	if d.noOpenID {
		whose = e.Userinfo
	}
	return e.DeviceAuthorization != "" && e.Token != "" && whose != ""
}

// withoutDiscovery is what the configuration says by itself. What only
// discovery could tell (scopes, methods) is as if it listed none.
func (c *Client) withoutDiscovery() *metadata {
	e := c.cfg.Endpoints
	return &metadata{
		Issuer: c.cfg.Issuer, DeviceEndpoint: e.DeviceAuthorization, TokenEndpoint: e.Token, JWKSURI: e.JWKS,
		RevocationEndpoint: optionalURL(e.Revocation), UserinfoEndpoint: optionalURL(e.Userinfo),
		keys: newKeySet(e.JWKS, c.http, c.dialect.anyKeyID), settled: true,
	}
}
