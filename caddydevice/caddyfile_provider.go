// This file holds the Caddyfile's lines about an identity provider, and the
// providers that the global option names.

package caddydevice

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
)

// providerBlock is `provider <name> { … }`; the directive has its lines too.
var providerBlock = block[*Provider]{
	title: "a provider in the global option device_auth",
	lines: map[string]line[*Provider]{
		"issuer":             urlLine("issuer https://idp.example.com", func(p *Provider) *string { return &p.Issuer }),
		"discovery":          urlLine("discovery https://idp.example.com/discovery.json", func(p *Provider) *string { return &p.Discovery }),
		"client_id":          textLine("client_id my-gateway", func(p *Provider) *string { return &p.ClientID }),
		"client_secret":      {usage: "client_secret {env.CLIENT_SECRET}", min: 1, max: 1, secret: true, parse: parseClientSecret},
		"client_secret_file": textLine("client_secret_file /run/secrets/client", func(p *Provider) *string { return &p.ClientSecretFile }),
		"client_auth":        {usage: "client_auth auto|none|basic|post|private_key_jwt …|tls", min: 1, max: -1, parse: parseClientAuth},
		"dialect":            choiceLine("dialect "+strings.Join(idp.Dialects(), "|"), idp.Dialects(), func(p *Provider) *string { return &p.Dialect }),
		"endpoints":          {usage: "endpoints { … }", block: true, parse: parseEndpoints},
		"scopes":             {usage: "scopes openid profile email", min: 1, max: -1, parse: parseScopes},
		"param":              {usage: "param audience https://api.example.com", min: 2, max: 2, many: true, request: true, parse: parseParam},
		"pkce":               choiceLine("pkce auto|on|off", idp.PKCEModes, func(p *Provider) *string { return &p.PKCE }),
		"complete_uri":       choiceLine("complete_uri on|off", switches, func(p *Provider) *string { return &p.CompleteURI }),
		"transport":          {usage: "transport { … }", block: true, parse: parseTransport},
		"idp_timeout":        durationLine("idp_timeout 10s", func(p *Provider) *caddy.Duration { return &p.IdPTimeout }),
	},
}

var endpointsBlock = block[*Endpoints]{
	title: "endpoints",
	lines: map[string]line[*Endpoints]{
		"device_authorization": urlLine("device_authorization https://idp.example.com/device", func(e *Endpoints) *string { return &e.DeviceAuthorization }),
		"token":                urlLine("token https://idp.example.com/token", func(e *Endpoints) *string { return &e.Token }),
		"jwks":                 urlLine("jwks https://idp.example.com/jwks", func(e *Endpoints) *string { return &e.JWKS }),
		"userinfo":             urlLine("userinfo https://idp.example.com/userinfo", func(e *Endpoints) *string { return &e.Userinfo }),
		"revocation":           urlLine("revocation https://idp.example.com/revoke", func(e *Endpoints) *string { return &e.Revocation }),
	},
}

func init() {
	providerBlock.register()
	endpointsBlock.register()
}

func parseClientSecret(in input, p *Provider) error {
	p.ClientSecret = in.args[0]
	return nil
}

func parseClientAuth(in input, p *Provider) error {
	method, more := in.args[0], in.args[1:]
	switch {
	case !slices.Contains(idp.ClientAuthMethods, method):
		return in.Errf("client_auth %q is none of %s", method, strings.Join(idp.ClientAuthMethods, ", "))
	case method == "private_key_jwt" && (len(more) == 0 || len(more) > 2):
		return in.Err("client_auth private_key_jwt needs the file of the client's private key, and may have the key's id: write it like `client_auth private_key_jwt /etc/caddy/key.pem my-key`")
	case method != "private_key_jwt" && len(more) > 0:
		return in.Errf("client_auth %s has too many arguments: write one of %s", method, strings.Join(idp.ClientAuthMethods, ", "))
	}
	p.ClientAuth.Method = method
	if len(more) > 0 {
		p.ClientAuth.PEM = more[0]
	}
	if len(more) > 1 {
		p.ClientAuth.KID = more[1]
	}
	return nil
}

func parseEndpoints(in input, p *Provider) error {
	p.Endpoints = new(Endpoints)
	return endpointsBlock.parse(in.Dispenser, p.Endpoints)
}

func parseScopes(in input, p *Provider) error {
	p.Scopes = in.args
	return nil
}

// parseParam reads one parameter. In a site Caddy has replaced {host} and the
// like by then; among the global options it has not.
func parseParam(in input, p *Provider) error {
	name := in.args[0]
	if err := idp.CheckParamName(name); err != nil {
		return in.Errf("param %w", err)
	}
	if len(p.Param[name]) > 0 && !slices.Contains(several, name) {
		return in.Errf("param %s is there twice: keep one (only %s may be there several times)", name, strings.Join(several, " and "))
	}
	if p.Param == nil {
		p.Param = map[string][]string{}
	}
	p.Param[name] = append(p.Param[name], in.args[1])
	return nil
}

// expandShorthands replaces {host} and the like in the arguments of a line.
func expandShorthands(args []string) {
	replacer := httpcaddyfile.NewShorthandReplacer()
	for i, arg := range args {
		segment := caddyfile.Segment{{Text: arg}}
		replacer.ApplyToSegment(&segment)
		args[i] = segment[0].Text
	}
}

// parseProvider reads `provider <name> { … }`.
func parseProvider(in input, app *App) error {
	name := in.args[0]
	if !providerName.MatchString(name) {
		return in.Errf("provider %q: %w", name, errProviderName)
	}
	if app.Providers[name] != nil {
		return in.Errf("provider %s is there twice: keep one, or give one of them another name", name)
	}
	p := new(Provider)
	if err := providerBlock.parse(in.Dispenser, p); err != nil {
		return err
	}
	if app.Providers == nil {
		app.Providers = map[string]*Provider{}
	}
	app.Providers[name] = p
	return p.missing(in.Dispenser, "provider "+name)
}

// missing reports what no provider can do without.
func (p *Provider) missing(d *caddyfile.Dispenser, title string) error {
	switch {
	case p.Issuer == "":
		return d.Errf("%s: issuer is missing: add a line like: issuer https://idp.example.com", title)
	case p.ClientID == "":
		return d.Errf("%s: client_id is missing: add a line with the name under which this gateway is registered at the identity provider", title)
	case p.ClientSecret != "" && p.ClientSecretFile != "":
		return d.Errf("%s: %w", title, errTwoSecrets)
	case p.ClientAuth.Method == "tls" && (p.Transport == nil || len(p.Transport.TLSClientAuth) == 0):
		return d.Errf("%s: %w", title, idp.ErrNoClientCertificate)
	}
	return nil
}

// checkProviderName looks for the provider that the directive names, where the
// global option is there to tell; else the app does, when it is provisioned.
func checkProviderName(h httpcaddyfile.Helper) error {
	defer h.Reset()
	h.Next()
	option, ok := h.Option("device_auth").(httpcaddyfile.App)
	if !h.NextArg() || !ok {
		return nil
	}
	var app App
	if err := json.Unmarshal(option.Value, &app); err != nil {
		return h.WrapErr(err)
	}
	if app.Providers[h.Val()] == nil {
		return h.Errf("device_auth: %s", noSuchProvider(h.Val(), slices.Sorted(maps.Keys(app.Providers))))
	}
	return nil
}
