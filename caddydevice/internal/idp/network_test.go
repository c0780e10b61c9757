// This file tests the way to an identity provider: when two are equal, and the
// bounds that every one has.

package idp

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
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

// TestMTLSAliases: client_auth tls goes to the endpoints that ask for a
// certificate (RFC 8705 §5), unless others are configured; nobody else does.
func TestMTLSAliases(t *testing.T) {
	alias := func(names ...string) map[string]any {
		all := map[string]any{}
		for _, name := range names {
			all[name] = issuer + "/mtls/" + name
		}
		return all
	}
	const device, token, revoke = "device_authorization_endpoint", "token_endpoint", "revocation_endpoint"
	plain := []string{"/device", "/token", "/revoke"}
	aliased := []string{"/mtls/" + device, "/mtls/" + token, "/mtls/" + revoke}
	certificate := idptest.NewAuthority().Certificate("gateway")
	for name, row := range map[string]struct {
		method     string
		aliases    any
		configured string
		want       []string // the paths that are asked
		words      string   // where it fails
	}{
		"all":                    {"tls", alias(device, token, revoke), "", aliased, ""},
		"one":                    {"tls", alias(token), "", []string{"/device", "/mtls/" + token, "/revoke"}, ""},
		"none":                   {"tls", nil, "", plain, ""},
		"no object":              {"tls", "x", "", plain, ""},
		"no text":                {"tls", map[string]any{token: 5}, "", plain, ""},
		"configured":             {"tls", alias(device, token, revoke), issuer + "/t2", []string{"/mtls/" + device, "/t2", "/mtls/" + revoke}, ""},
		"in the clear":           {"tls", map[string]any{token: "http://127.0.0.1/token"}, "", nil, "token_endpoint must start with https://"},
		"another method":         {"none", alias(device, token, revoke), "", plain, ""},
		"another, and no object": {"none", []int{1}, "", plain, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(func(p *idptest.Provider) {
					p.Metadata = func(md map[string]any) { md["mtls_endpoint_aliases"] = row.aliases }
				})
				p.Always("/mtls/"+device, idptest.JSON(http.StatusOK, idptest.Device(issuer, 1)))
				p.Always("/mtls/"+token, idptest.Pending())
				p.Always("/t2", idptest.Pending())
				p.Always("/mtls/"+revoke, idptest.Reply{Status: http.StatusOK})
				client := newClient(t, p, func(cfg *Config) {
					cfg.ClientAuth, cfg.Endpoints.Token = row.method, row.configured
					cfg.Network = &Network{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}} //nolint:gosec // for its certificate only
				})
				if row.words != "" {
					if _, err := client.Authorize(t.Context()); err == nil || !strings.Contains(err.Error(), row.words) {
						t.Errorf("%v, want %q", err, row.words)
					}
					return
				}
				if _, err := client.Authorize(t.Context()); err != nil {
					t.Fatal(err)
				}
				poll(client)
				if err := client.Revoke(t.Context(), "refresh-canary", "refresh_token"); err != nil {
					t.Fatal(err)
				}
				var asked []string
				for _, call := range p.Calls("") {
					if len(call.Form) == 0 {
						continue // discovery
					}
					asked = append(asked, call.Path)
					if call.Form.Get("client_id") != "gate" || call.Basic || call.Form.Has("client_secret") {
						t.Errorf("%s: %v", call.Path, call.Form)
					}
				}
				if !slices.Equal(asked, row.want) {
					t.Errorf("%v, want %v", asked, row.want)
				}
			})
		})
	}
}

// TestTLSBesideTheClear: an issuer on loopback may be asked in the clear, but not
// where the client has to show its certificate.
func TestTLSBesideTheClear(t *testing.T) {
	const clear, secure = "http://127.0.0.1:1", "https://127.0.0.1:2"
	for name, row := range map[string]struct {
		aliases map[string]string
		words   string // "" where it works
		revokes bool
	}{
		"no alias":   {nil, "device_authorization_endpoint must start with https://", false},
		"one only":   {map[string]string{"device_authorization_endpoint": secure + "/device"}, "token_endpoint must start with https://", false},
		"both":       {map[string]string{"device_authorization_endpoint": secure + "/device", "token_endpoint": secure + "/token"}, "", false},
		"revocation": {map[string]string{"device_authorization_endpoint": secure + "/device", "token_endpoint": secure + "/token", "revocation_endpoint": secure + "/revoke"}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			p := idptest.New(clear)
			p.Metadata = func(md map[string]any) { md["mtls_endpoint_aliases"] = row.aliases }
			client := newClient(t, p, func(cfg *Config) {
				cfg.Issuer, cfg.ClientAuth = clear, "tls"
				cfg.Network = &Network{TLS: &tls.Config{Certificates: []tls.Certificate{idptest.NewAuthority().Certificate("gateway")}}} //nolint:gosec // for its certificate only
			})
			_, err := client.Authorize(t.Context())
			if row.words == "" && err != nil || row.words != "" && (err == nil || !strings.Contains(err.Error(), row.words)) {
				t.Errorf("%v, want %q", err, row.words)
			}
			if err := client.Revoke(t.Context(), "refresh-canary", "refresh_token"); row.words == "" && (err == nil) != row.revokes {
				t.Errorf("revocation: %v", err)
			}
		})
	}
}

// TestAdviceOnCredentials: whose key or certificate is refused is not told to
// look for a secret.
func TestAdviceOnCredentials(t *testing.T) {
	key := secret.String(inPEM(t, newKeys(t)["P-256"]))
	certificate := &Network{TLS: &tls.Config{Certificates: []tls.Certificate{idptest.NewAuthority().Certificate("gateway")}}} //nolint:gosec // for its certificate only
	for method, row := range map[string]struct {
		change func(*Config)
		words  string
	}{
		"none":            {func(*Config) {}, "No secret is sent"},
		"post":            {func(cfg *Config) { cfg.ClientSecret = "canary" }, "Check client_id and client_secret"},
		"private_key_jwt": {func(cfg *Config) { cfg.ClientKey = key }, "the public half of the key that client_auth names"},
		"tls":             {func(cfg *Config) { cfg.Network = certificate }, "with the certificate of tls_client_auth"},
	} {
		p := newProvider()
		p.Always("/device", idptest.Error(http.StatusUnauthorized, "invalid_client"))
		client := newClient(t, p, row.change, func(cfg *Config) { cfg.ClientAuth = method })
		var all []string
		for _, found := range client.Check(t.Context()) {
			all = append(all, found.Text)
		}
		if text := strings.Join(all, "\n"); !strings.Contains(text, row.words) {
			t.Errorf("%s: %s", method, text)
		}
	}
}
