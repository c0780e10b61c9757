// This file holds the settings of one identity provider: the handler's own, or
// those of a name that several handlers share.

package caddydevice

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
)

// Provider says which identity provider is asked, as whom and how. A handler
// has these keys itself, or names a provider of the app, where several
// handlers share it.
//
// Placeholders are resolved when the configuration is loaded: `{env.NAME}` and
// `{file./path}`. One that is not set, or whose file is empty or cannot be
// read, is a mistake. Only `param` may hold placeholders of the request.
type Provider struct {
	// The identity provider's issuer URL, exactly as it names itself, to the
	// last slash. It must be https; http is for loopback addresses only.
	// Required.
	Issuer string `json:"issuer,omitempty"`

	// Where the discovery document is. The issuer that it names must be the
	// configured one all the same. Default:
	// <issuer>/.well-known/openid-configuration
	Discovery string `json:"discovery,omitempty"`

	// The id under which this gateway is registered at the identity provider.
	// Required.
	ClientID string `json:"client_id,omitempty"`

	// The client's secret, for a confidential client. Use a placeholder like
	// {env.CLIENT_SECRET} or {file./run/secrets/client}: a secret that is
	// written here is shown by GET /config, by the autosaved file and by
	// Caddy's debug log, so it is warned about. Default: none, for a public client.
	ClientSecret string `json:"client_secret,omitempty"`

	// A file that holds the client's secret and nothing else, in place of
	// client_secret. It is read when the configuration is loaded, without the
	// newline at its end; a relative path starts at Caddy's working directory.
	// `caddy reload --force` reads it again. Default: none.
	ClientSecretFile string `json:"client_secret_file,omitempty"`

	// How the client authenticates: a method, auto, none, basic, post or tls, or
	// an object with private_key_jwt and the key that it needs. Default: auto,
	// which is none without a secret, else what the identity provider lists.
	ClientAuth ClientAuth `json:"client_auth,omitzero"`

	// What the identity provider does in its own way, where that cannot be told
	// from its discovery document and answers: github, tokenidp, or wso2_old
	// (5.10 and 5.11). Default: nothing, which is right for all others.
	Dialect string `json:"dialect,omitempty"`

	// Endpoints in place of those that discovery tells. With the first three,
	// and without discovery, nothing is discovered: then auto means basic for
	// client_auth and off for pkce, and the default of scopes is openid alone.
	Endpoints *Endpoints `json:"endpoints,omitempty"`

	// The scopes to ask for; openid must be among them where an ID token tells
	// who signs in. Default: openid, unless identity is access_token, and what
	// the identity provider lists of profile, email and offline_access.
	Scopes []string `json:"scopes,omitempty"`

	// Parameters that go with each device authorization request, beside what
	// the gateway sends itself, which they cannot replace: names, and the
	// values of each. Only resource and audience may have several. Placeholders
	// of the request, like {http.request.host}, are resolved for each sign-in;
	// a value that comes out empty is not sent. Default: none.
	Param map[string][]string `json:"param,omitempty"`

	// Whether a code challenge goes with each sign-in (RFC 7636): auto, on or
	// off. Default: auto, which is on where the identity provider names S256.
	PKCE string `json:"pkce,omitempty"`

	// Whether the address that has the code in it (verification_uri_complete)
	// is used: on or off. Where it is off, links and QR codes lead to the
	// address without the code, and the person types that. Default: on.
	CompleteURI string `json:"complete_uri,omitempty"`

	// How the identity provider is reached: certificates and a proxy. Default:
	// directly, trusting whom the system trusts.
	Transport *Transport `json:"transport,omitempty"`

	// How long one request to the identity provider may take. Default: 10s.
	IdPTimeout caddy.Duration `json:"idp_timeout,omitempty"`
}

// Endpoints are addresses of an identity provider, https like the issuer.
type Endpoints struct {
	// Where a sign-in begins (RFC 8628 §3.1). Default: what discovery tells.
	DeviceAuthorization string `json:"device_authorization,omitempty"`

	// Where tokens come from. Default: what discovery tells.
	Token string `json:"token,omitempty"`

	// Where the keys are that ID tokens are signed with. Default: what
	// discovery tells.
	JWKS string `json:"jwks,omitempty"`

	// Where it is asked who signed in (OpenID Connect Core §5.3), where identity
	// is userinfo. Default: what discovery tells.
	Userinfo string `json:"userinfo,omitempty"`

	// Where tokens are revoked when a session ends (RFC 7009). Default: what
	// discovery tells; where that tells none, none are revoked.
	Revocation string `json:"revocation,omitempty"`
}

// switches are the values of complete_uri.
var switches = []string{"on", "off"}

// resolvedProvider is a Provider with its placeholders replaced. It is kept
// apart from the configuration, which Caddy may show or log.
type resolvedProvider struct {
	idp.Config
	params   []paramTemplate
	warnings []string // what an operator should know
}

// resolve replaces the placeholders, reads the files and checks what idp.New
// does not see.
func (p *Provider) resolve(ctx caddy.Context) (resolvedProvider, error) {
	r := newResolver()
	e := Endpoints{}
	if p.Endpoints != nil {
		e = *p.Endpoints
	}
	clientSecret, literal := r.clientSecret(p)
	out := resolvedProvider{
		Config: idp.Config{
			Issuer: r.text("issuer", p.Issuer), Discovery: r.text("discovery", p.Discovery),
			ClientID: r.text("client_id", p.ClientID), ClientSecret: clientSecret,
			ClientAuth: r.text("client_auth", p.ClientAuth.Method),
			Endpoints: idp.Endpoints{
				DeviceAuthorization: r.text("endpoints device_authorization", e.DeviceAuthorization),
				Token:               r.text("endpoints token", e.Token),
				JWKS:                r.text("endpoints jwks", e.JWKS),
				Userinfo:            r.text("endpoints userinfo", e.Userinfo),
				Revocation:          r.text("endpoints revocation", e.Revocation),
			},
			Dialect: r.text("dialect", p.Dialect),
			PKCE:    r.text("pkce", p.PKCE), NoCompleteURI: p.CompleteURI == "off",
			Timeout: time.Duration(p.IdPTimeout),
		},
	}
	if literal {
		out.warnings = append(out.warnings, literalSecret)
	}
	for _, scope := range p.Scopes {
		out.Scopes = append(out.Scopes, r.text("scopes", scope))
	}
	if r.err == nil && p.CompleteURI != "" && !slices.Contains(switches, p.CompleteURI) {
		r.err = fmt.Errorf("complete_uri %q is none of %s", p.CompleteURI, strings.Join(switches, ", "))
	}
	out.params = r.templates(p.Param)
	out.ClientKey, out.ClientKeyID = r.clientKey(p.ClientAuth)
	network, warnings, err := p.Transport.provision(ctx, r)
	if r.err != nil {
		return out, r.err
	}
	out.Network, out.warnings = network, append(out.warnings, warnings...)
	return out, err
}

// providerKeys are the JSON keys of a Provider, and so the Caddyfile's lines.
func providerKeys() []string {
	typ := reflect.TypeFor[Provider]()
	keys := make([]string, typ.NumField())
	for i := range keys {
		keys[i], _, _ = strings.Cut(typ.Field(i).Tag.Get("json"), ",")
	}
	return keys
}

// set are the keys that are there.
func (p *Provider) set() []string {
	var set []string
	v := reflect.ValueOf(p).Elem()
	for i, key := range providerKeys() {
		if !v.Field(i).IsZero() {
			set = append(set, key)
		}
	}
	return set
}

// providerName is what a provider can be called: nothing that would be read as
// a matcher in the Caddyfile.
var providerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

var errProviderName = errors.New("a provider's name is letters, digits and - _ . and starts with a letter or a digit")

// provisionProviders checks every named provider, also one that no handler
// uses.
func (a *App) provisionProviders() error {
	a.named = map[string]resolvedProvider{}
	for _, name := range slices.Sorted(maps.Keys(a.Providers)) {
		p := a.Providers[name]
		if p == nil {
			p = new(Provider)
		}
		if !providerName.MatchString(name) {
			return fmt.Errorf("device_auth: provider %q: %w", name, errProviderName)
		}
		resolved, err := p.resolve(a.ctx)
		if err == nil {
			err = resolved.check()
		}
		if err != nil {
			return fmt.Errorf("device_auth: provider %s: %w", name, err)
		}
		resolved.warn(a.logger.With(zap.String("provider", name)))
		a.named[name] = resolved
	}
	return nil
}

func (p *resolvedProvider) check() error {
	c, err := idp.New(p.Config)
	if err != nil {
		return err
	}
	c.Close()
	return nil
}

// provider returns the settings of a handler: its own, or those of the
// provider that it names.
func (h *Handler) provider(ctx caddy.Context, app *App) (resolvedProvider, error) {
	if h.ProviderName == "" {
		p, err := h.Provider.resolve(ctx)
		p.warn(h.logger.With(zap.String("issuer", p.Issuer)))
		return p, err
	}
	if both := h.Provider.set(); len(both) > 0 {
		return resolvedProvider{}, fmt.Errorf("provider %q is named, and %s set here as well: write that at the provider, or leave out the name",
			h.ProviderName, strings.Join(both, ", "))
	}
	p, ok := app.named[h.ProviderName]
	if !ok {
		return p, errors.New(noSuchProvider(h.ProviderName, slices.Sorted(maps.Keys(app.named))))
	}
	return p, nil
}

// noSuchProvider says what names there are.
func noSuchProvider(name string, names []string) string {
	remedy := fmt.Sprintf("add `provider %s { … }` to the global option device_auth (a matcher would start with @ or /)", name)
	switch near := nearest(name, names); {
	case near != "":
		remedy = fmt.Sprintf("did you mean %s?", near)
	case len(names) > 0:
		remedy = fmt.Sprintf("there are %s; or %s", strings.Join(names, ", "), remedy)
	}
	return fmt.Sprintf("provider %q is not defined: %s", name, remedy)
}

const literalSecret = "client_secret is written into the configuration, where GET /config, the autosaved file and Caddy's debug log show it: use {env.NAME}, {file./path} or client_secret_file"

func (p *resolvedProvider) warn(logger *zap.Logger) {
	for _, warning := range p.warnings {
		logger.Warn(warning)
	}
}

// settingNames are the lines that the fields of idp.Config come from, with
// commas between where there are several.
var settingNames = map[string]string{
	"Issuer": "issuer", "Discovery": "discovery", "Endpoints": "endpoints", "ClientID": "client_id", "ClientSecret": "client_secret, client_secret_file",
	"ClientAuth": "client_auth", "ClientKey": "client_auth", "ClientKeyID": "client_auth", "Scopes": "scopes", "PKCE": "pkce", "Algorithms": "algorithms", "NoCompleteURI": "complete_uri",
	"Timeout": "idp_timeout", "ClockSkew": "clock_skew", "Network": "transport", "Dialect": "dialect", "Identity": "identity",
}

// differences are the lines in which two providers differ.
func (p *resolvedProvider) differences(other *resolvedProvider) []string {
	var names []string
	for _, field := range differingFields(p.Config, other.Config) {
		if name := settingNames[field]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if !reflect.DeepEqual(p.params, other.params) {
		names = append(names, "param")
	}
	return names
}

// differingFields are the names of the fields in which two configurations of
// clients differ.
func differingFields(a, b idp.Config) []string {
	var names []string
	one, two := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range one.NumField() {
		name := one.Type().Field(i).Name
		same := reflect.DeepEqual(one.Field(i).Interface(), two.Field(i).Interface())
		if name == "Network" { // functions and certificate pools have no DeepEqual
			same = a.Network.Equal(b.Network)
		}
		if !same {
			names = append(names, name)
		}
	}
	return names
}
