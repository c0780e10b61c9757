// This file holds the Caddyfile's lines about how the identity provider is
// reached. Caddy's reverse_proxy reads them, so they mean the same.

package caddydevice

import (
	"reflect"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

const (
	trustPoolUsage = "tls_trust_pool file /etc/ssl/company-ca.pem"
	proxyUsage     = "network_proxy url http://proxy.example.com:3128"
)

// transportBlock has of reverse_proxy's lines those that say whom to trust and
// which way to go. For the others there are bounds already.
var transportBlock = block[*Transport]{
	title: "transport",
	lines: map[string]line[*Transport]{
		"tls_trust_pool":           {usage: trustPoolUsage, raw: true, parse: parseTrustPool},
		"tls_server_name":          {usage: "tls_server_name idp.example.com", min: 1, max: 1, parse: parseTransportLine},
		"tls_client_auth":          {usage: "tls_client_auth /etc/ssl/gateway.pem /etc/ssl/gateway.key", min: 1, max: 2, parse: parseTransportLine},
		"tls_insecure_skip_verify": {usage: "tls_insecure_skip_verify", parse: parseTransportLine},
		"network_proxy":            {usage: proxyUsage, min: 1, max: 2, secret: true, parse: parseNetworkProxy},
	},
	moved: map[string]string{
		"tls":                     "is not needed here: remove the line, https:// in an address is enough",
		"tls_timeout":             "is not needed here: remove the line, idp_timeout bounds each request",
		"dial_timeout":            "is not needed here: remove the line, idp_timeout bounds each request",
		"read_timeout":            "is not needed here: remove the line, idp_timeout bounds each request",
		"write_timeout":           "is not needed here: remove the line, idp_timeout bounds each request",
		"response_header_timeout": "is not needed here: remove the line, idp_timeout bounds each request",
		"tls_trusted_ca_certs":    "is an older name: write it like `" + trustPoolUsage + "`",
		"forward_proxy_url":       "is an older name: write it like `" + proxyUsage + "`",
	},
}

func init() { transportBlock.register() }

func parseTransport(in input, p *Provider) error {
	p.Transport = new(Transport)
	if err := transportBlock.parse(in.Dispenser, p.Transport); err != nil {
		return err
	}
	if reflect.ValueOf(*p.Transport).IsZero() {
		return in.Errf("transport is empty: remove it, or add a line like `%s`", trustPoolUsage)
	}
	return nil
}

func parseTransportLine(in input, t *Transport) error {
	segment := make(caddyfile.Segment, 1+len(in.args))
	for i, text := range append([]string{in.name}, in.args...) {
		segment[i] = in.Token()
		segment[i].Text = text
	}
	return t.read(segment)
}

// parseTrustPool reads the only line that may have a block: some sources do.
func parseTrustPool(in input, t *Transport) error {
	segment := in.NextSegment()
	if len(segment) < 2 || segment[1].Text == "{" {
		return in.Errf("tls_trust_pool needs a source: write it like `%s`", trustPoolUsage)
	}
	if err := knownModule(in, "tls.ca_pool.source.", segment[1].Text, trustPoolUsage); err != nil {
		return err
	}
	for _, token := range segment[1:] {
		if token.Text == "{" || token.Text == "}" {
			continue
		}
		if err := checkPlaceholders(token.Text, "env", "file"); err != nil {
			return in.Errf("tls_trust_pool: %w", err)
		}
	}
	return t.read(segment)
}

// parseNetworkProxy prints no argument that may be an address: that may have a
// password.
func parseNetworkProxy(in input, t *Transport) error {
	source, values := in.args[0], in.args[1:]
	switch {
	case strings.Contains(source, ":"), source == "url" && len(values) == 0:
		return in.Errf("network_proxy needs the word url and an address: write it like `%s`", proxyUsage)
	case source == "none" && len(values) > 0:
		return in.Err("network_proxy none takes no address: write `network_proxy none`, which is the default as well")
	}
	if err := knownModule(in, "caddy.network_proxy.", source, proxyUsage); err != nil {
		return err
	}
	if source == "url" && !strings.Contains(values[0], "{") {
		if err := checkProxyURL(values[0]); err != nil {
			return in.Errf("network_proxy: %w", err)
		}
	}
	return parseTransportLine(in, t)
}

func knownModule(in input, namespace, name, usage string) error {
	if _, err := caddy.GetModule(namespace + name); err != nil {
		return in.Errf("%s %s is none that this Caddy has: write it like `%s`, or build Caddy with the module %s%s", in.name, name, usage, namespace, name)
	}
	return nil
}

// read has reverse_proxy's `transport http` read a line as if it stood there.
func (t *Transport) read(segment caddyfile.Segment) error {
	first, last := segment[0], segment[len(segment)-1]
	name, opening, closing := first, first, last
	name.Text, opening.Text, closing.Text = "http", "{", "}"
	closing.Line++ // a closing brace has a line to itself
	tokens := append(caddyfile.Segment{name, opening}, segment...)

	var h reverseproxy.HTTPTransport
	if err := h.UnmarshalCaddyfile(caddyfile.NewDispenser(append(tokens, closing))); err != nil {
		return err
	}
	t.take(&h)
	return nil
}

// take adds what one line has set.
func (t *Transport) take(h *reverseproxy.HTTPTransport) {
	if h.NetworkProxyRaw != nil {
		t.NetworkProxyRaw = h.NetworkProxyRaw
	}
	switch {
	case h.TLS == nil:
	case h.TLS.CARaw != nil:
		t.TLSTrustPoolRaw = h.TLS.CARaw
	case h.TLS.ServerName != "":
		t.TLSServerName = h.TLS.ServerName
	case h.TLS.ClientCertificateAutomate != "":
		t.TLSClientAuth = []string{h.TLS.ClientCertificateAutomate}
	case h.TLS.ClientCertificateFile != "":
		t.TLSClientAuth = []string{h.TLS.ClientCertificateFile, h.TLS.ClientCertificateKeyFile}
	case h.TLS.InsecureSkipVerify:
		t.TLSInsecureSkipVerify = true
	}
}
