// This file holds what the tests of this package share: a client of a scripted
// identity provider, and hosts that must stay silent.

package idp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const issuer = "https://idp.example"

func newProvider(change ...func(*idptest.Provider)) *idptest.Provider {
	p := idptest.New(issuer)
	for _, c := range change {
		c(p)
	}
	return p
}

func newClient(t testing.TB, transport http.RoundTripper, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Issuer: issuer, ClientID: "gate", Transport: transport}
	for _, c := range change {
		c(&cfg)
	}
	client, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// guarded sends requests to the identity provider's origin to it, and counts
// all others.
type guarded struct {
	*idptest.Provider
	strays atomic.Int32
}

func (g *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme+"://"+r.URL.Host != issuer {
		g.strays.Add(1)
		rec := httptest.NewRecorder()
		rec.WriteHeader(http.StatusOK)
		return rec.Result(), nil
	}
	return g.Provider.RoundTrip(r)
}

// redirects are the places that an identity provider must not lead us to.
func redirects() map[string]string {
	return map[string]string{
		"another host": "https://canary.example/x", "plain http": "http://idp.example/x", "another port": "https://idp.example:8443/x",
		"link-local metadata": "http://169.254.169.254/latest", "loopback": "http://127.0.0.1/", "a subdomain": "https://a.idp.example/x",
		"without a scheme": "//canary.example/x",
	}
}

func redirect(status int, to string) idptest.Reply {
	return idptest.Reply{Status: status, Header: http.Header{"Location": {to}}}
}

// poll makes one poll.
func poll(c *Client) Answer {
	return c.Poll(context.Background(), secret.String("device-canary-1"), "")
}

func wantUnavailable(t *testing.T, err error) *UnavailableError {
	t.Helper()
	var u *UnavailableError
	if !errors.As(err, &u) {
		t.Fatalf("%v, want an UnavailableError", err)
	}
	return u
}

// dripping answers at once and then sends a byte a second for ever.
type dripping struct{ ctx context.Context }

func (d dripping) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

func (dripping) Close() error { return nil }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// slowFor lets one path drip, or never answer at all.
func slowFor(p *idptest.Provider, path string, silent bool) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != path {
			return p.RoundTrip(r)
		}
		if silent {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: dripping{r.Context()}, Request: r}, nil
	}
}

// endless answers one path with a body that has no end, and counts what was
// read of it.
func endless(p *idptest.Provider, path string, read *atomic.Int64) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != path {
			return p.RoundTrip(r)
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(&zeros{read}), Request: r}, nil
	}
}

type zeros struct{ read *atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{' '}, len(p)))
	z.read.Add(int64(len(p)))
	return len(p), nil
}

// ready asks for the discovery document, as every request does first.
func ready(c *Client) error {
	_, err := c.metadata(context.Background())
	return err
}
