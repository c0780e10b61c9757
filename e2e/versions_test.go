// This file makes a client for each version of HTTP.
package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// overTLS makes a client for each version, all of which trust the gateway. They
// come from one address, which is in what the upstream sees.
func (s *stage) overTLS(t *testing.T, others ...*stage) (trust *tls.Config, clients map[string]http.RoundTripper) {
	t.Helper()
	pool := x509.NewCertPool()
	for _, on := range append(others, s) {
		root, err := os.ReadFile(on.gate.RootCA())
		if err != nil {
			t.Fatal(err)
		}
		pool.AppendCertsFromPEM(root)
	}
	trust = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.Replace(address, "localhost", "127.0.0.1", 1))
	}
	one := &http.Transport{DialContext: dial, TLSClientConfig: trust.Clone(), DisableCompression: true, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	two := &http2.Transport{TLSClientConfig: trust.Clone(), DisableCompression: true, DialTLSContext: func(ctx context.Context, network, address string, cfg *tls.Config) (net.Conn, error) {
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return tls.Client(raw, cfg), nil
	}}
	three := &http3.Transport{TLSClientConfig: trust.Clone(), DisableCompression: true, Dial: dialQUIC(t)}
	t.Cleanup(func() {
		one.CloseIdleConnections()
		two.CloseIdleConnections()
		three.Close()
	})
	return trust, map[string]http.RoundTripper{"HTTP/1.1": one, "HTTP/2.0": two, "HTTP/3.0": three}
}

// dialQUIC makes connections that end with the test: the transport forgets one
// on which a request had no answer, and the gateway would wait for its end.
func dialQUIC(t *testing.T) func(context.Context, string, *tls.Config, *quic.Config) (*quic.Conn, error) {
	t.Helper()
	return func(ctx context.Context, address string, trust *tls.Config, config *quic.Config) (*quic.Conn, error) {
		conn, err := quic.DialAddrEarly(ctx, address, trust, config)
		if err == nil {
			t.Cleanup(func() { conn.CloseWithError(0, "") }) //nolint:errcheck // it may be closed already
		}
		return conn, err
	}
}
