// This file shows what a signed-in session lets through unharmed: it sets up
// one gateway with TLS, a site without a gate beside it, and clients of each
// version of HTTP.
package e2e

import (
	"crypto/tls"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

// passThroughSites are a site with a gate on the first port and the same site
// without one on the second. They have no access log: Caddy's counts a body's
// bytes while the transport may still read it, which the race detector sees.
func passThroughSites() string {
	const site = "reverse_proxy /app/* {$BACKEND}\nreverse_proxy /grpc.health.v1.Health/* h2c://{$GRPC}\nreverse_proxy {$UPSTREAM}\nencode /app/events/encoded\n"
	return "localhost:{$GATE_PORT} {\ntls internal\n" + deviceAuth("", manyStarts) + site + "}\n" +
		"localhost:{$GATE_PORT_2} {\ntls internal\n" + site + "}\n"
}

// passage is a stage with clients for it, and a signed-in session.
type passage struct {
	*stage
	key     string
	trust   *tls.Config
	clients map[string]http.RoundTripper // by version of HTTP
	backend *backend
}

func TestPassThrough(t *testing.T) {
	t.Parallel()
	health := startHealth(t)
	p := newPassage(t, plan{caddyfile: passThroughSites(), env: map[string]string{"GRPC": health.address}})
	p.key = p.signIn(t, idpserver.NewPerson(t)).Session
	t.Run("same", p.same)
	t.Run("WebSocket", p.webSocket)
	t.Run("events", p.events)
	t.Run("hints", p.hints)
	t.Run("upload", p.upload)
	t.Run("expect", p.expect)
	t.Run("range", p.ranges)
	t.Run("gRPC", func(t *testing.T) { p.grpc(t, health) })
}

// newPassage has a backend beside the upstream.
func newPassage(t *testing.T, o plan) *passage {
	t.Helper()
	p := &passage{backend: startBackend(t)}
	env := map[string]string{
		"BACKEND": p.backend.address,
		"GODEBUG": "http2xconnect=1", // else Go offers no WebSocket over HTTP/2 (RFC 8441)
	}
	maps.Copy(env, o.env)
	o.env = env
	p.stage = newStage(t, o)
	p.url = "https://localhost:" + p.gate.Port()
	p.trust, p.clients = p.overTLS(t)
	return p
}

// signIn signs a terminal in over TLS.
func (p *passage) signIn(t *testing.T, person *idpserver.Person) answer {
	t.Helper()
	trust := []string{"--cacert", p.gate.RootCA(), "-H", asJSON}
	a := readJSON(t, p.curl(t, append(trust, p.url+"/")...), 401)
	p.approveWith(t, person, idpserver.Alice, a.Complete)
	got := p.curl(t, append(trust, "-H", bearer(a.Session), p.url+"/.device/wait?timeout=60")...)
	wantStatus(t, got, 200)
	return a
}

// each runs a test with the client of each version.
func (p *passage) each(t *testing.T, test func(*testing.T, http.RoundTripper)) {
	t.Helper()
	for version, client := range p.clients {
		t.Run(version, func(t *testing.T) {
			test(t, client)
		})
	}
}

// request is one to the first site, signed in where the key is not empty.
func (p *passage) request(t *testing.T, method, path string, body io.Reader, key string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(p.ctx, method, "https://127.0.0.1:"+p.gate.Port()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "localhost"
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	return req
}

// do sends a request and leaves the body to be read; it is closed at the end
// of the test.
func do(t *testing.T, client http.RoundTripper, req *http.Request) *http.Response {
	t.Helper()
	resp, err := client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func bodyOf(t *testing.T, r io.Reader) string {
	t.Helper()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// backend is an application that does more than write down and answer.
type backend struct {
	address string
	mux     *http.ServeMux
}

func startBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{mux: http.NewServeMux()}
	server := httptest.NewServer(b.mux)
	t.Cleanup(server.Close)
	b.address = server.Listener.Addr().String()
	return b
}
