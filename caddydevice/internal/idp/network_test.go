// This file tests the way to an identity provider: when two are equal, and the
// bounds that every one has.

package idp

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func TestNetworkEqual(t *testing.T) {
	one, two := idptest.NewAuthority(), idptest.NewAuthority()
	mine, other := one.Certificate("gateway"), one.Certificate("gateway")
	with := func(change func(*tls.Config)) *Network {
		config := &tls.Config{RootCAs: one.Pool(), Certificates: []tls.Certificate{mine}} //nolint:gosec // for comparing only
		change(config)
		return &Network{TLS: config, Settings: "settings"}
	}
	same := func(*tls.Config) {}
	for name, row := range map[string]struct {
		a, b  *Network
		equal bool
	}{
		"none":                {nil, nil, true},
		"one":                 {nil, &Network{}, false},
		"made anew":           {with(same), with(same), true},
		"other settings":      {&Network{Settings: "a"}, &Network{Settings: "b"}, false},
		"equal settings":      {&Network{Settings: "a"}, &Network{Settings: "a"}, true},
		"TLS in one":          {&Network{Settings: "settings"}, with(same), false},
		"another pool":        {with(same), with(func(c *tls.Config) { c.RootCAs = two.Pool() }), false},
		"the system's pool":   {with(same), with(func(c *tls.Config) { c.RootCAs = nil }), false},
		"another certificate": {with(same), with(func(c *tls.Config) { c.Certificates = []tls.Certificate{other} }), false},
		"no certificate":      {with(same), with(func(c *tls.Config) { c.Certificates = nil }), false},
	} {
		if row.a.Equal(row.b) != row.equal || row.b.Equal(row.a) != row.equal {
			t.Errorf("%s: equal is not %t", name, row.equal)
		}
	}
}

// TestNetworkBounds: whatever is set, the bounds are ours, and the environment
// has no say.
func TestNetworkBounds(t *testing.T) {
	proxy, err := url.Parse("http://proxy.example.com:3128")
	if err != nil {
		t.Fatal(err)
	}
	proxied := &Network{Proxy: http.ProxyURL(proxy), TLS: &tls.Config{MinVersion: tls.VersionTLS10, InsecureSkipVerify: true}} //nolint:gosec // that is what must not count
	for name, n := range map[string]*Network{"plain": nil, "empty": {}, "proxied": proxied} {
		transport := n.transport(5 * time.Second)
		if transport.TLSClientConfig.MinVersion != tls.VersionTLS12 || transport.MaxResponseHeaderBytes != maxHeader ||
			transport.TLSHandshakeTimeout != 5*time.Second || transport.MaxIdleConnsPerHost != maxIdlePerHost || transport.IdleConnTimeout <= 0 {
			t.Errorf("%s: %+v", name, transport)
		}
		if (transport.Proxy != nil) != (n == proxied) {
			t.Errorf("%s: asks for a proxy: %t", name, transport.Proxy != nil)
		}
	}
	for address, want := range map[string]*url.URL{
		"https://idp.example.com/token": proxy, "http://127.0.0.1:8080/": nil, "https://[::1]/": nil, "https://localhost:8443/": nil, "http://idp.localhost/": nil,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := proxied.transport(time.Second).Proxy(r); err != nil || got != want {
			t.Errorf("%s: %v, %v", address, got, err)
		}
	}
}
