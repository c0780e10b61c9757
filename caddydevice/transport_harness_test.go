// This file holds what the tests of the way to an identity provider share: one
// that speaks TLS, and a proxy.

package caddydevice

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

// tlsIdP is an identity provider on loopback that speaks TLS.
type tlsIdP struct {
	*idptest.Provider
	address string
	mu      sync.Mutex
	open    map[net.Conn]bool
	shown   []*x509.Certificate // by clients, with each request
}

// startTLS starts one whose issuer is at host, which need not lead there.
func startTLS(t *testing.T, host string, config *tls.Config) *tlsIdP {
	t.Helper()
	p := &tlsIdP{Provider: idptest.New(""), open: map[net.Conn]bool{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.shown = append(p.shown, r.TLS.PeerCertificates...)
		p.mu.Unlock()
		p.ServeHTTP(w, r)
	}))
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open[c] = state != http.StateClosed
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = config
	server.StartTLS()
	t.Cleanup(server.Close)
	p.address = server.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(p.address)
	p.Issuer = "https://" + net.JoinHostPort(host, port)
	return p
}

// connections is how many are open.
func (p *tlsIdP) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, open := range p.open {
		if open {
			n++
		}
	}
	return n
}

// connectProxy passes every tunnel on to one address, whatever it asks for.
type connectProxy struct {
	to string
	mu sync.Mutex
	// asked are the hosts, and what they came with as Proxy-Authorization.
	asked map[string]string
	// plain is how many requests came without a tunnel.
	plain int
}

func startProxy(t *testing.T, to string) (*connectProxy, string) {
	t.Helper()
	p := &connectProxy{to: to, asked: map[string]string{}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, strings.TrimPrefix(server.URL, "http://")
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	if r.Method != http.MethodConnect {
		p.plain++
		p.mu.Unlock()
		return
	}
	p.asked[r.Host] = r.Header.Get("Proxy-Authorization")
	p.mu.Unlock()
	up, err := net.Dial("tcp", p.to) //nolint:noctx // it ends with the tunnel
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	down, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		up.Close()
		return
	}
	defer down.Close()
	_, _ = io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		defer up.Close()
		_, _ = io.Copy(up, buffered)
	}()
	_, _ = io.Copy(down, up)
}

// inFile writes a file and returns its name.
func inFile(t *testing.T, content []byte) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "*.pem")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	return filepath.Clean(f.Name())
}

// trusting is the transport setting that trusts one authority.
func trusting(t *testing.T, a *idptest.Authority) map[string]any {
	t.Helper()
	return map[string]any{"provider": "file", "pem_files": []string{inFile(t, a.PEM())}}
}
