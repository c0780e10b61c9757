// This file holds how the identity provider is reached where the plain way does
// not do: whom TLS trusts, as whom it answers, and through which proxy.

package caddydevice

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// Transport says how the identity provider is reached, in the words of
// reverse_proxy's `transport http`. It is for all requests to it, whatever their
// host; for the keys of other issuers (`bearer` `issuer`), tls_trust_pool and
// network_proxy are. Files are read when the configuration is loaded, and again
// with `caddy reload --force`.
//
// All else has its bounds already: TLS 1.2 or newer, and `idp_timeout`.
type Transport struct {
	// Which certificate authorities are trusted, in place of the system's. All
	// placeholders are resolved when the configuration is loaded.
	TLSTrustPoolRaw json.RawMessage `json:"tls_trust_pool,omitempty" caddy:"namespace=tls.ca_pool.source inline_key=provider"`

	// The name that the identity provider's certificate must have, where that
	// is not the host of its address. Default: the host.
	TLSServerName string `json:"tls_server_name,omitempty"`

	// The certificate that the gateway shows where it is asked for one, and
	// for one of its authority if the other side names some: the files of a
	// certificate (PEM) and of its key, or one name whose certificate Caddy
	// manages. Default: none.
	TLSClientAuth []string `json:"tls_client_auth,omitempty"`

	// Whether any certificate will do. DANGER: whoever is on the way can read
	// the client's secret and sign in as anybody. Default: false.
	TLSInsecureSkipVerify bool `json:"tls_insecure_skip_verify,omitempty"`

	// The proxy to go through. Addresses on loopback are asked directly, and
	// no environment variable counts. A password in its URL is best a
	// placeholder. Default: none.
	NetworkProxyRaw json.RawMessage `json:"network_proxy,omitempty" caddy:"namespace=caddy.network_proxy inline_key=from"`
}

// provision resolves the placeholders, reads the files and loads the modules;
// warnings is what an operator should know. Without settings there is nothing.
func (t *Transport) provision(ctx caddy.Context, r *resolver) (network *idp.Network, warnings []string, err error) {
	if t == nil {
		return nil, nil, nil
	}
	resolved := t.resolve(r)
	if r.err != nil {
		return nil, nil, r.err
	}
	if err := resolved.check(); err != nil {
		return nil, nil, fmt.Errorf("transport %w", r.hide(err))
	}
	settings, err := json.Marshal(resolved)
	if err != nil {
		return nil, nil, fmt.Errorf("transport: %w", err)
	}
	network = &idp.Network{Settings: secret.String(settings)}
	if err := resolved.useTLS(ctx, network); err != nil {
		return nil, nil, fmt.Errorf("transport: %w", r.hide(err))
	}
	if err := resolved.useProxy(ctx, network); err != nil {
		return nil, nil, fmt.Errorf("transport network_proxy: %w", r.hide(err))
	}
	return network, t.warnings(), nil
}

// resolve is a copy with its placeholders replaced; loading takes its modules
// out of it.
func (t *Transport) resolve(r *resolver) *Transport {
	resolved := &Transport{
		TLSTrustPoolRaw:       r.module("transport tls_trust_pool", t.TLSTrustPoolRaw),
		TLSServerName:         r.text("transport tls_server_name", t.TLSServerName),
		TLSClientAuth:         slices.Clone(t.TLSClientAuth),
		TLSInsecureSkipVerify: t.TLSInsecureSkipVerify,
		NetworkProxyRaw:       r.module("transport network_proxy", t.NetworkProxyRaw),
	}
	r.texts("transport tls_client_auth", resolved.TLSClientAuth)
	return resolved
}

// serverName is a host name or an address, and no placeholder: Caddy would look
// for the request that it is of.
var serverName = regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`)

func (t *Transport) check() error {
	switch {
	case t.TLSServerName != "" && !serverName.MatchString(t.TLSServerName):
		return fmt.Errorf("tls_server_name %q: must be a host name, like idp.example.com", t.TLSServerName)
	case len(t.TLSClientAuth) > 2 || slices.Contains(t.TLSClientAuth, ""):
		return errors.New("tls_client_auth: must be the files of a certificate and of its key, or one name whose certificate Caddy manages")
	}
	if proxy, ok := t.proxyURL(); ok {
		if err := checkProxyURL(proxy); err != nil {
			return fmt.Errorf("network_proxy: %w", err)
		}
	}
	return nil
}

// proxyURL is the address of a proxy that is named by one.
func (t *Transport) proxyURL() (address string, ok bool) {
	var proxy struct {
		From string `json:"from"`
		URL  string `json:"url"`
	}
	if json.Unmarshal(t.NetworkProxyRaw, &proxy) != nil || proxy.From != "url" {
		return "", false
	}
	return proxy.URL, true
}

// checkProxyURL prints nothing of the address: it may have a password.
func checkProxyURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		return errors.New("the address must start with http://, https://, socks5:// or socks5h:// and a host, like http://proxy.example.com:3128")
	}
	return nil
}

// useTLS makes of the settings what reverse_proxy would.
func (t *Transport) useTLS(ctx caddy.Context, network *idp.Network) error {
	settings := reverseproxy.TLSConfig{CARaw: t.TLSTrustPoolRaw, ServerName: t.TLSServerName, InsecureSkipVerify: t.TLSInsecureSkipVerify}
	switch len(t.TLSClientAuth) {
	case 1:
		settings.ClientCertificateAutomate = t.TLSClientAuth[0]
	case 2:
		settings.ClientCertificateFile, settings.ClientCertificateKeyFile = t.TLSClientAuth[0], t.TLSClientAuth[1]
	}
	made, err := settings.MakeTLSClientConfig(ctx)
	switch {
	case err != nil:
		return err
	case made != nil && made.RootCAs != nil && made.RootCAs.Equal(x509.NewCertPool()):
		return errors.New("tls_trust_pool holds no certificate, so nobody would be trusted: name a PEM file with the certificate authority's")
	}
	network.TLS = made
	return nil
}

func (t *Transport) useProxy(ctx caddy.Context, network *idp.Network) error {
	if t.NetworkProxyRaw == nil {
		return nil
	}
	loaded, err := ctx.LoadModule(t, "NetworkProxyRaw")
	if err != nil {
		return err
	}
	proxy, ok := loaded.(caddy.ProxyFuncProducer)
	if !ok {
		return fmt.Errorf("%T is no source of a proxy", loaded)
	}
	network.Proxy = proxy.ProxyFunc()
	return nil
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// literalPassword reports whether a proxy's address has one that is no
// placeholder, whatever else in it is one. A user alone may be a token.
func literalPassword(address string) bool {
	_, rest, _ := strings.Cut(address, "://")
	at := strings.LastIndex(rest, "@")
	if at < 0 {
		return false
	}
	user, password, both := strings.Cut(placeholder.ReplaceAllString(rest[:at], ""), ":")
	return password != "" || !both && user != ""
}

// warnings are about the configuration as it is written.
func (t *Transport) warnings() []string {
	var warnings []string
	if t.TLSInsecureSkipVerify {
		warnings = append(warnings, "tls_insecure_skip_verify: the identity provider's certificate is not checked, so whoever is on the way can read the client's secret and sign in as anybody: use tls_trust_pool")
	}
	if proxy, _ := t.proxyURL(); literalPassword(proxy) {
		warnings = append(warnings, "the password of network_proxy is written into the configuration, where GET /config, the autosaved file and Caddy's debug log show it: use {env.NAME} or {file./path}")
	}
	return warnings
}

// module replaces {env.…} and {file.…} in all texts of a module's settings. A
// mistake must not print a part of them: some are secret.
func (r *resolver) module(key string, raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return nil
	}
	var settings any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	r.fail(key, decoder.Decode(&settings))
	replaced, err := json.Marshal(r.each(key, settings))
	r.fail(key, err)
	return replaced
}

// each replaces placeholders in a value that came from JSON.
func (r *resolver) each(key string, value any) any {
	switch v := value.(type) {
	case string:
		text, _ := r.secret(key, v)
		return text
	case []any:
		for i := range v {
			v[i] = r.each(key, v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = r.each(key, v[name])
		}
	}
	return value
}
