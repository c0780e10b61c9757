// This file tests the way to an identity provider: whom TLS trusts, what it
// shows, and the proxy.

package caddydevice

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

// TestTransport: who is not trusted gets nothing, and there is no sign-in.
func TestTransport(t *testing.T) {
	authority, other := idptest.NewAuthority(), idptest.NewAuthority()
	onLoopback := authority.Certificate("127.0.0.1")
	elsewhere := authority.Certificate("idp.example.com")
	cert, key := authority.Issue("gateway")
	shown := []string{inFile(t, cert), inFile(t, key)}
	cert, key = other.Issue("gateway")
	wrong := []string{inFile(t, cert), inFile(t, key)}
	pool := trusting(t, authority)
	demanding := &tls.Config{Certificates: []tls.Certificate{onLoopback}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool()}
	for _, row := range []struct {
		name      string
		server    *tls.Config
		transport map[string]any
		ok        bool
	}{
		{"the system does not know it", &tls.Config{Certificates: []tls.Certificate{onLoopback}}, nil, false},
		{"trusted", &tls.Config{Certificates: []tls.Certificate{onLoopback}}, map[string]any{"tls_trust_pool": pool}, true},
		{"another is trusted", &tls.Config{Certificates: []tls.Certificate{onLoopback}}, map[string]any{"tls_trust_pool": trusting(t, other)}, false},
		{"another name", &tls.Config{Certificates: []tls.Certificate{elsewhere}}, map[string]any{"tls_trust_pool": pool}, false},
		{"another name, as expected", &tls.Config{Certificates: []tls.Certificate{elsewhere}}, map[string]any{"tls_trust_pool": pool, "tls_server_name": "idp.example.com"}, true},
		{"not the name that is expected", &tls.Config{Certificates: []tls.Certificate{onLoopback}}, map[string]any{"tls_trust_pool": pool, "tls_server_name": "idp.example.com"}, false},
		{"not checked", &tls.Config{Certificates: []tls.Certificate{elsewhere}}, map[string]any{"tls_insecure_skip_verify": true}, true},
		{"too old", &tls.Config{Certificates: []tls.Certificate{onLoopback}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, map[string]any{"tls_trust_pool": pool, "tls_insecure_skip_verify": true}, false},
		{"a client certificate is demanded", demanding, map[string]any{"tls_trust_pool": pool}, false},
		{"a client certificate is shown", demanding, map[string]any{"tls_trust_pool": pool, "tls_client_auth": shown}, true},
		{"a client certificate of another", demanding, map[string]any{"tls_trust_pool": pool, "tls_client_auth": wrong}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := startTLS(t, "127.0.0.1", row.server)
			cfg := map[string]any{"issuer": p.Issuer, "client_id": "gate"}
			if row.transport != nil {
				cfg["transport"] = row.transport
			}
			g := &gate{t: t, idp: p.Provider, Handler: provision(t, cfg, nil)}
			status := g.do(request{target: "/hello", header: curlHeaders}).StatusCode
			want := http.StatusServiceUnavailable
			if row.ok {
				want = http.StatusUnauthorized
			}
			if status != want || (len(p.Calls("")) > 0) != row.ok {
				t.Errorf("%d, want %d; %d requests", status, want, len(p.Calls("")))
			}
		})
	}
}

// TestNetworkProxy: the identity provider is reached through the proxy, which
// sees a tunnel; what is on loopback is not.
func TestNetworkProxy(t *testing.T) {
	authority := idptest.NewAuthority()
	p := startTLS(t, "idp.example.com", &tls.Config{Certificates: []tls.Certificate{authority.Certificate("idp.example.com")}})
	proxy, address := startProxy(t, p.address)
	t.Setenv("DEVICE_AUTH_TEST_PASSWORD", "canary-p%40ss")
	for name, row := range map[string]struct{ url, want string }{
		"plain":           {"http://" + address, ""},
		"with a password": {"http://gate:{env.DEVICE_AUTH_TEST_PASSWORD}@" + address, "Basic " + base64.StdEncoding.EncodeToString([]byte("gate:canary-p@ss"))},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(p.Calls("/device"))
			g := &gate{t: t, idp: p.Provider, Handler: provision(t, map[string]any{"issuer": p.Issuer, "client_id": "gate", "transport": map[string]any{
				"tls_trust_pool": trusting(t, authority), "network_proxy": map[string]any{"from": "url", "url": row.url},
			}}, nil)}
			g.begun(curlHeaders)
			host := strings.TrimPrefix(p.Issuer, "https://")
			if got, ok := proxy.asked[host]; !ok || got != row.want || len(proxy.asked) != 1 || len(p.Calls("/device")) != before+1 {
				t.Errorf("asked for %v, want %s with %q", proxy.asked, host, row.want)
			}
		})
	}
	t.Run("loopback", func(t *testing.T) {
		g := newGate(t, map[string]any{"transport": map[string]any{"network_proxy": map[string]any{"from": "url", "url": "http://" + address}}})
		g.begun(curlHeaders)
		if proxy.plain != 0 || len(proxy.asked) != 1 {
			t.Errorf("the proxy was asked for %v, and %d plain requests", proxy.asked, proxy.plain)
		}
	})
}

// TestTransportOfOtherIssuers: their keys come the same way, but their
// certificates are checked, and for their own names.
func TestTransportOfOtherIssuers(t *testing.T) {
	authority := idptest.NewAuthority()
	own := startTLS(t, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{authority.Certificate("idp.example.com")}})
	trusted := startTLS(t, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{authority.Certificate("127.0.0.1")}})
	unknown := startTLS(t, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{idptest.NewAuthority().Certificate("127.0.0.1")}})
	g := &gate{t: t, Handler: provision(t, map[string]any{
		"issuer": own.Issuer, "client_id": "gate",
		"bearer":    map[string]any{"audience": []string{"api"}, "issuer": []string{own.Issuer, trusted.Issuer, unknown.Issuer}},
		"transport": map[string]any{"tls_trust_pool": trusting(t, authority), "tls_server_name": "idp.example.com", "tls_insecure_skip_verify": true},
	}, nil)}
	for name, row := range map[string]struct {
		idp    *tlsIdP
		status int
	}{"own": {own, http.StatusOK}, "trusted": {trusted, http.StatusOK}, "unknown": {unknown, http.StatusServiceUnavailable}} {
		token := accessToken(t, row.idp.Provider, nil)
		if got := g.do(request{target: "/hello", header: bearer(token)}).StatusCode; got != row.status {
			t.Errorf("%s: %d, want %d: %s", name, got, row.status, g.body)
		}
	}
}

// TestTransportMistakes are found when the configuration is loaded.
func TestTransportMistakes(t *testing.T) {
	authority := idptest.NewAuthority()
	cert, key := authority.Issue("gateway")
	_, otherKey := authority.Issue("gateway")
	certFile, keyFile, otherFile := inFile(t, cert), inFile(t, key), inFile(t, otherKey)
	files := func(names ...string) map[string]any { return map[string]any{"provider": "file", "pem_files": names} }
	proxy := func(url string) map[string]any { return map[string]any{"from": "url", "url": url} }
	for _, row := range []struct {
		name      string
		transport map[string]any
		want      string
	}{
		{"no such file", map[string]any{"tls_trust_pool": files("/no/such/file")}, "transport: failed to load ca module"},
		{"no certificate in it", map[string]any{"tls_trust_pool": files(keyFile)}, "transport: tls_trust_pool holds no certificate, so nobody would be trusted: name a PEM file"},
		{"no files", map[string]any{"tls_trust_pool": files()}, "holds no certificate"},
		{"unknown source", map[string]any{"tls_trust_pool": map[string]any{"provider": "no_such"}}, "no_such"},
		{"unset variable in the pool", map[string]any{"tls_trust_pool": files("{env.DEVICE_AUTH_NO_SUCH_VARIABLE}")}, "transport tls_trust_pool: {env.DEVICE_AUTH_NO_SUCH_VARIABLE} is not set"},
		{"server name of a request", map[string]any{"tls_server_name": "{http.request.host}"}, "transport tls_server_name: {http.request.host} is known only during a request"},
		{"server name with braces", map[string]any{"tls_server_name": `\{host\}`}, `transport tls_server_name "{host}": must be a host name`},
		{"server name with a port of a URL", map[string]any{"tls_server_name": "https://idp.example.com"}, "must be a host name"},
		{"no such certificate", map[string]any{"tls_client_auth": []string{"/no/such/file", keyFile}}, "transport: loading client certificate key pair: open /no/such/file"},
		{"another key", map[string]any{"tls_client_auth": []string{certFile, otherFile}}, "private key does not match public key"},
		{"three values", map[string]any{"tls_client_auth": []string{certFile, keyFile, "x"}}, "transport tls_client_auth: must be the files of a certificate and of its key, or one name"},
		{"an empty value", map[string]any{"tls_client_auth": []string{certFile, ""}}, "transport tls_client_auth: must be the files"},
		{"unset variable in the certificate", map[string]any{"tls_client_auth": []string{"{env.DEVICE_AUTH_NO_SUCH_VARIABLE}", keyFile}}, "transport tls_client_auth: {env.DEVICE_AUTH_NO_SUCH_VARIABLE} is not set"},
		{"proxy without a scheme", map[string]any{"network_proxy": proxy("canary:3128")}, "transport network_proxy: the address must start with http://"},
		{"proxy without a host", map[string]any{"network_proxy": proxy("http://user:canary@:3128")}, "transport network_proxy: the address must start with http://"},
		{"proxy that is no URL", map[string]any{"network_proxy": proxy("http://user:canary%@x")}, "transport network_proxy: the address must start with http://"},
		{"proxy of a request", map[string]any{"network_proxy": proxy("http://{http.canary}")}, "transport network_proxy: what is in braces is neither"},
		{"unset variable in the proxy", map[string]any{"network_proxy": proxy("http://{env.DEVICE_AUTH_NO_SUCH_VARIABLE}")}, "transport network_proxy: {env.DEVICE_AUTH_NO_SUCH_VARIABLE} is not set"},
		{"unknown source of a proxy", map[string]any{"network_proxy": map[string]any{"from": "no_such"}}, "transport network_proxy: "},
		{"unknown key", map[string]any{"versions": []string{"3"}}, `unknown field "versions"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			provider := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate", "transport": row.transport}
			for where, config := range map[string]*caddy.Config{
				"handler":  siteConfig(t, nil, site{"api.example.com", provider}),
				"provider": siteConfig(t, map[string]any{"providers": map[string]any{"keycloak": provider}}),
			} {
				err := caddy.Validate(config)
				if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "canary") {
					t.Errorf("%s: %v, want %q", where, err, row.want)
				}
			}
		})
	}
}

// TestTransportWarnings: what is dangerous is warned about, and nothing else.
func TestTransportWarnings(t *testing.T) {
	t.Setenv("DEVICE_AUTH_TEST_PASSWORD", "canary")
	t.Setenv("DEVICE_AUTH_TEST_USER", "gate")
	t.Setenv("DEVICE_AUTH_TEST_HOST", "proxy.example.com")
	t.Setenv("DEVICE_AUTH_TEST_PROXY", "http://gate:canary@proxy.example.com")
	proxy := func(url string) map[string]any {
		return map[string]any{"network_proxy": map[string]any{"from": "url", "url": url}}
	}
	const unchecked, literal = "the identity provider's certificate is not checked", "the password of network_proxy is written into the configuration"
	for name, row := range map[string]struct {
		transport map[string]any
		want      string
	}{
		"unchecked":        {map[string]any{"tls_insecure_skip_verify": true}, unchecked},
		"checked":          {map[string]any{"tls_server_name": "x"}, ""},
		"literal password": {proxy("http://gate:canary@proxy.example.com"), literal},
		"password by name": {proxy("http://gate:{env.DEVICE_AUTH_TEST_PASSWORD}@proxy.example.com"), ""},
		"user by name":     {proxy("http://{env.DEVICE_AUTH_TEST_USER}:canary@proxy.example.com"), literal},
		"host by name":     {proxy("http://gate:canary@{env.DEVICE_AUTH_TEST_HOST}:3128"), literal},
		"all by name":      {proxy("{env.DEVICE_AUTH_TEST_PROXY}"), ""},
		"no password":      {proxy("http://proxy.example.com"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := logOf(t, siteConfig(t, nil, site{"api.example.com", map[string]any{"issuer": "https://idp.example.com", "client_id": "gate", "transport": row.transport}}))
			for _, warning := range []string{unchecked, literal} {
				if n := strings.Count(text, warning); (n == 1) != (warning == row.want) {
					t.Errorf("%q is there %d times: %s", warning, n, text)
				}
			}
			for line := range strings.SplitSeq(text, "\n") {
				// Caddy's own debug log has the whole configuration
				if strings.Contains(line, "canary") && !strings.Contains(line, `"msg":"adjusted config"`) {
					t.Errorf("the log has the password: %s", line)
				}
			}
		})
	}
}

// TestTransportsOfOneClient: gates with the same issuer and client id share one
// client, so they must go the same way, whatever files that is written with.
func TestTransportsOfOneClient(t *testing.T) {
	one, two := idptest.NewAuthority(), idptest.NewAuthority()
	same := inFile(t, one.PEM())
	pool := func(file string) map[string]any {
		return map[string]any{"tls_trust_pool": map[string]any{"provider": "file", "pem_files": []string{file}}}
	}
	gateWith := func(transport map[string]any) site {
		return site{"api.example.com", map[string]any{"issuer": "https://idp.example.com", "client_id": "gate", "transport": transport}}
	}
	if err := startSites(t, siteConfig(t, nil, gateWith(pool(same)), gateWith(pool(same)))); err != nil {
		t.Errorf("equal ones: %v", err)
	}
	if err := startSites(t, siteConfig(t, nil, gateWith(pool(same)), gateWith(pool(inFile(t, two.PEM()))))); err == nil || !strings.Contains(err.Error(), "another transport") {
		t.Errorf("two pools: %v", err)
	}
}

// TestReloadOfTransport: a reload takes what has changed, also where that is
// only in a file, and lets go of the old connections; without a change the
// client stays.
func TestReloadOfTransport(t *testing.T) {
	one, two := idptest.NewAuthority(), idptest.NewAuthority()
	p := startTLS(t, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{one.Certificate("127.0.0.1")}})
	file := inFile(t, append(one.PEM(), two.PEM()...))
	r := startCaddy(t)
	r.idp = p.Provider
	lines := func(file string) string { return fmt.Sprintf("transport {\n tls_trust_pool file %s\n }", file) }
	load := func(file string) {
		t.Helper()
		if err := r.load(lines(file)); err != nil {
			t.Fatal(err)
		}
	}
	start := func() int {
		t.Helper()
		status, _, _ := r.get("/hello", "")
		return status
	}
	load(file)
	if got := start(); got != http.StatusUnauthorized || p.connections() != 1 {
		t.Fatalf("%d, %d connections", got, p.connections())
	}
	discovered := len(p.Calls("/.well-known/openid-configuration"))
	load(file)
	if got := start(); got != http.StatusUnauthorized || p.connections() != 1 || len(p.Calls("/.well-known/openid-configuration")) != discovered {
		t.Errorf("without a change: %d, %d connections", got, p.connections())
	}
	overwrite(t, file, one.PEM())
	load(file)
	waitFor(t, "the old connection to be closed", func() bool { return p.connections() == 0 })
	if got := start(); got != http.StatusUnauthorized {
		t.Errorf("still trusted: %d", got)
	}
	overwrite(t, file, two.PEM())
	load(file)
	if got := start(); got != http.StatusServiceUnavailable {
		t.Errorf("no longer trusted: %d", got)
	}
}

// TestManagedClientCertificate: Caddy's own certificate for a name is shown.
func TestManagedClientCertificate(t *testing.T) {
	authority := idptest.NewAuthority()
	p := startTLS(t, "127.0.0.1", &tls.Config{Certificates: []tls.Certificate{authority.Certificate("127.0.0.1")}, ClientAuth: tls.RequireAnyClientCert})
	r := startCaddy(t)
	r.idp, r.options = p.Provider, "local_certs\n skip_install_trust"
	if err := r.load(fmt.Sprintf("transport {\n tls_trust_pool file %s\n tls_client_auth gateway.example.com\n }", inFile(t, authority.PEM()))); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a sign-in", func() bool {
		status, _, _ := r.get("/hello", "")
		return status == http.StatusUnauthorized
	})
	if names := p.shown[0].DNSNames; len(names) != 1 || names[0] != "gateway.example.com" {
		t.Errorf("the certificate is for %v", names)
	}
}

// overwrite changes a file's content.
func overwrite(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// waitFor waits for what happens soon, and nobody tells of.
func waitFor(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
