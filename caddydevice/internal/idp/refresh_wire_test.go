// This file holds the tests of what net/http tells of a refresh that got no
// answer, over real connections: whether it may have arrived.

package idp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

// wireClient is a client whose token endpoint is at an address of loopback, and
// which has nothing to discover.
func wireClient(t *testing.T, base string, transport http.RoundTripper) *Client {
	t.Helper()
	return newClient(t, transport, func(cfg *Config) {
		cfg.Issuer = base
		cfg.Endpoints = Endpoints{DeviceAuthorization: base + "/device", Token: base + "/token", JWKS: base + "/jwks"}
	})
}

// onEach hands each connection over after its request was read, or before.
func onEach(t *testing.T, read bool, then func(net.Conn)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if read {
				if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
				}
			}
			then(conn)
			conn.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		served.Wait()
	})
	return "http://" + l.Addr().String()
}

func TestRefreshLostOnTheWire(t *testing.T) {
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, text) }
	}
	reset := func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }
	silent := func(c net.Conn) {
		giveUp()
		_, _ = c.Read(make([]byte, 1)) // until the client has gone
	}
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer stranger.Close()
	for _, c := range []struct {
		name, base string
		sent       bool
	}{
		{"nobody listens", "http://127.0.0.1:1", false},
		{"a certificate of nobody's", stranger.URL, false},
		{"closed when read", onEach(t, true, func(net.Conn) {}), true},
		{"closed unread", onEach(t, false, func(net.Conn) {}), true},
		{"reset when read", onEach(t, true, reset), true},
		{"not HTTP", onEach(t, true, say("SSH-2.0-x\r\n")), true},
		{"hostile words", onEach(t, true, say("HTTP/1.1 200 OK\r\n\x1b[2J refresh-canary-0 "+strings.Repeat("x", 9999)+"\r\n\r\n")), true},
		{"hostile status", onEach(t, true, say("HTTP/1.1 2\x1b[2J refresh-canary-0 "+strings.Repeat("x", 9999)+"\r\n\r\n")), true},
		{"hostile address", onEach(t, true, say("HTTP/1.1 302 Found\r\nLocation: :"+strings.Repeat("x", 9999)+" refresh-canary-0\r\n\r\n")), true},
		{"half a header", onEach(t, true, say("HTTP/1.1 200 OK\r\nContent-")), true},
		{"half a body", onEach(t, true, say("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"access_")), true},
		{"half a refusal", onEach(t, true, say("HTTP/1.1 400 Bad Request\r\nContent-Length: 500\r\n\r\n{\"error\":\"invalid_grant\"}")), true},
		{"a refusal", onEach(t, true, say("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno")), false},
		{"never answered", onEach(t, true, silent), true}, // the last one: it ends ctx
	} {
		ans := wireClient(t, c.base, nil).Refresh(ctx, refreshToken, false)
		if ans.Outcome != Transient || ans.Sent != c.sent {
			t.Errorf("%s: %v, sent %v, want sent %v: %v", c.name, ans.Outcome, ans.Sent, c.sent, ans.Err)
		}
		if text := ans.Err.Error(); len(text) > 300 || strings.Contains(text, "canary") || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("%s: the error is %q", c.name, text)
		}
	}
}

// connections serves a provider over real HTTP and tells which connection each
// request came by.
type connections struct {
	*idptest.Provider
	mu   sync.Mutex
	from []string
	lose bool // the answers
}

func (c *connections) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.from = append(c.from, r.RemoteAddr)
	lose := c.lose
	c.mu.Unlock()
	if lose {
		panic(http.ErrAbortHandler)
	}
	c.Provider.ServeHTTP(w, r)
}

func (c *connections) loseAnswers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose = true
}

// TestRefreshAgain: a token whose answer was lost goes over another connection.
func TestRefreshAgain(t *testing.T) {
	idp := &connections{Provider: newProvider()}
	server := httptest.NewServer(idp)
	defer server.Close()
	c := wireClient(t, server.URL, nil)
	defer c.Close()
	for _, again := range []bool{false, false, true, false} {
		if ans := c.Refresh(t.Context(), refreshToken, again); ans.Outcome != Approved || ans.Sent {
			t.Errorf("%v, sent %v: %v", ans.Outcome, ans.Sent, ans.Err)
		}
	}
	if f := idp.from; len(f) != 4 || f[0] != f[1] || f[1] == f[2] || f[2] != f[3] {
		t.Errorf("they came from %v", f)
	}
}

// TestRefreshLostOnHTTP2: there one answer is lost without its connection.
func TestRefreshLostOnHTTP2(t *testing.T) {
	idp := &connections{Provider: newProvider()}
	server := httptest.NewUnstartedServer(idp)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	c := wireClient(t, server.URL, server.Client().Transport)
	defer c.Close()
	if ans := refresh(c); ans.Outcome != Approved || ans.Sent {
		t.Errorf("%v, sent %v: %v", ans.Outcome, ans.Sent, ans.Err)
	}
	idp.loseAnswers()
	if ans := refresh(c); ans.Outcome != Transient || !ans.Sent {
		t.Errorf("%v, sent %v: %v", ans.Outcome, ans.Sent, ans.Err)
	}
	if f := idp.from; len(f) != 2 || f[0] != f[1] {
		t.Errorf("they came from %v", f)
	}
}

// TestRefreshOnAnotherConnection: a transport that takes a second connection
// knows that nothing went out over the first, which had gone stale.
func TestRefreshOnAnotherConnection(t *testing.T) {
	for name, second := range map[string]bool{"the second is there": true, "the second cannot be dialled": false} {
		ans := refresh(wireClient(t, issuer, roundTrip(func(r *http.Request) (*http.Response, error) {
			trace := httptrace.ContextClientTrace(r.Context())
			trace.GetConn("idp.example:443")
			trace.GotConn(httptrace.GotConnInfo{Reused: true})
			trace.GetConn("idp.example:443")
			if second {
				trace.GotConn(httptrace.GotConnInfo{})
			}
			return nil, errors.New("broken")
		})))
		if ans.Outcome != Transient || ans.Sent != second {
			t.Errorf("%s: %v, sent %v", name, ans.Outcome, ans.Sent)
		}
	}
}
