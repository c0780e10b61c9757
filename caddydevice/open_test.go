// This file holds the tests of requests that are open when their session ends,
// over real connections.

package caddydevice

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// endsWithin is the promise: no open request outlives its session for longer.
const endsWithin = 2 * time.Second

// upstreams are handlers that never end by themselves.
var upstreams = map[string]caddyhttp.HandlerFunc{
	"stream that heeds its context": func(w http.ResponseWriter, r *http.Request) error {
		fmt.Fprintln(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	},
	"stream that heeds nothing": func(w http.ResponseWriter, _ *http.Request) error {
		fmt.Fprintln(w, "begun")
		for http.NewResponseController(w).Flush() == nil {
			time.Sleep(time.Millisecond)
			if _, err := fmt.Fprintln(w, "more"); err != nil {
				break
			}
		}
		return nil
	},
	"request without an answer yet": func(_ http.ResponseWriter, r *http.Request) error {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	},
}

// serving is a server in front of the gate.
func (g *gate) serving(next caddyhttp.Handler) *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "api.example.com"
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		if err := g.ServeHTTP(w, r, next); err != nil {
			g.t.Error(err)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	g.t.Cleanup(server.Close)
	return server
}

func TestOpenRequestsEnd(t *testing.T) {
	ends := map[string]func(g *gate, key string){
		"signed out": func(g *gate, key string) { g.end(key, session.Ended, session.SignedOut) },
		"logged out": func(g *gate, _ string) {
			_, err := g.engine.table.EndAll(g.t.Context(), session.SubjectIndex(g.resolved.Issuer, "sub-alice"), session.LoggedOut)
			if err != nil {
				g.t.Error(err)
			}
		},
		"no longer what is required": func(g *gate, key string) {
			s := g.session(key)
			id := *s.Now().Identity
			id.Claims = map[string]any{"groups": []any{"staff"}}
			if err := s.Renew(g.t.Context(), id.RefreshToken, id); err != nil {
				g.t.Error(err)
			}
		},
	}
	for how, end := range ends {
		t.Run(how, func(t *testing.T) {
			g := newGate(t, map[string]any{"require": []any{map[string]any{"claim": "groups", "values": []any{"admins"}}}})
			key := g.terminal()
			var all []*opened
			for name, next := range upstreams {
				for _, version := range []int{1, 2} {
					all = append(all, g.openOne(fmt.Sprintf("%s, HTTP/%d", name, version), next, key, version))
				}
			}
			end(g, key)
			late := time.After(endsWithin)
			for _, o := range all {
				select {
				case err := <-o.over:
					if err == nil {
						t.Errorf("%s: the answer ended as if it were whole", o.name)
					}
				case <-late:
					t.Fatalf("%s: still open", o.name)
				}
			}
		})
	}
}

// opened is a request that is open; over gets how its answer ended.
type opened struct {
	name string
	over chan error
}

// openOne makes a request, and returns once it is at the upstream.
func (g *gate) openOne(name string, upstream caddyhttp.HandlerFunc, key string, version int) *opened {
	begun := make(chan struct{})
	server := g.serving(caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		close(begun)
		return upstream(w, r)
	}))
	client := server.Client()
	transport := client.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2 = version == 2
	if version == 1 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	o := &opened{name: name, over: make(chan error, 1)}
	go func() { o.over <- readAll(g.t, client, server.URL, key, version) }()
	<-begun
	return o
}

// readAll makes a request and reads its answer to the end.
func readAll(t testing.TB, client *http.Client, url, key string, version int) error {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Error(err)
		return err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != version {
		t.Errorf("HTTP/%d", resp.ProtoMajor)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// TestOpenUpgradeEnds: a connection that another protocol has taken over.
func TestOpenUpgradeEnds(t *testing.T) {
	g := newGate(t, nil)
	key := g.terminal()
	server := g.serving(caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, conn)
		return nil
	}))
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // G402: the test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\nAuthorization: Bearer %s\r\n\r\n", key)
	read := bufio.NewReader(conn)
	resp, err := http.ReadResponse(read, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", resp, err)
	}
	defer resp.Body.Close()
	fmt.Fprintln(conn, "hello")
	if line, err := read.ReadString('\n'); line != "hello\n" || err != nil {
		t.Fatalf("%q %v", line, err)
	}
	g.end(key, session.Ended, session.SignedOut)
	_ = conn.SetReadDeadline(time.Now().Add(endsWithin))
	if _, err := read.ReadByte(); err == nil || isTimeout(err) {
		t.Errorf("still open: %v", err)
	}
}

// TestUpgradeAfterTheEnd: a session that ends while the upstream still thinks
// about the upgrade.
func TestUpgradeAfterTheEnd(t *testing.T) {
	g := newGate(t, nil)
	key := g.terminal()
	hijacked := make(chan error, 1)
	server := g.serving(caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		g.end(key, session.Ended, session.SignedOut)
		<-r.Context().Done()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
		hijacked <- err
		panic(http.ErrAbortHandler)
	}))
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // G402: the test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\nAuthorization: Bearer %s\r\n\r\n", key)
	if err := <-hijacked; err == nil {
		t.Error("the connection was taken over after its session had ended")
	}
}

// TestClaimsThatChangeAtTheGate: between what a gate has seen of them and its
// being noted.
func TestClaimsThatChangeAtTheGate(t *testing.T) {
	g := newGate(t, map[string]any{"require": []any{map[string]any{"claim": "groups", "values": []any{"admins"}}}})
	w := httptest.NewRecorder()
	r := newRequest(t, "/", nil)
	s := g.session(g.terminal())
	open, _, _ := g.open(w, r, s)
	if open == nil {
		t.Fatal("not open")
	}
	defer open.close()
	id := *s.Now().Identity
	id.Claims = map[string]any{"groups": []any{"staff"}}
	if err := s.Renew(t.Context(), id.RefreshToken, id); err != nil {
		t.Fatal(err)
	}
	open.passed(g.Handler)
	select {
	case <-r.Context().Done():
	case <-time.After(endsWithin):
		t.Error("still open")
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(interface{ Timeout() bool })
	return ok && timeout.Timeout()
}

// TestClosedRequestIsNotCut: its connection may be in use for another one.
func TestClosedRequestIsNotCut(t *testing.T) {
	g := newGate(t, nil)
	one, two := g.terminal(), g.terminal()
	server := g.serving(caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		_, err := io.WriteString(w, "upstream")
		return err
	}))
	client := server.Client()
	if err := readAll(t, client, server.URL, one, 2); err != nil {
		t.Fatal(err)
	}
	g.end(one, session.Ended, session.SignedOut)
	if err := readAll(t, client, server.URL, two, 2); err != nil {
		t.Error(err)
	}
}

// TestOpenRequestIsTheOneThatArrived: what Caddy's placeholders read of the body
// is there for the upstream too.
func TestOpenRequestIsTheOneThatArrived(t *testing.T) {
	g := newGate(t, nil)
	key := g.terminal()
	var body string
	server := g.serving(caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		body = repl.ReplaceAll("{http.request.body}", "")
		rest, err := io.ReadAll(r.Body)
		body += " " + string(rest)
		return err
	}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("payload"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if body != "payload payload" {
		t.Errorf("the placeholder and the upstream got %q", body)
	}
}

// TestContextAfterTheUpstream: who comes after it finds the request's own.
func TestContextAfterTheUpstream(t *testing.T) {
	g := newGate(t, nil)
	w := httptest.NewRecorder()
	r := newRequest(t, "/", bearer(g.terminal()))
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	before := r.Context()
	err := g.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		if r.Context() == before {
			t.Error("the upstream's context cannot be cut")
		}
		return nil
	}))
	if err != nil || w.Code != http.StatusOK || r.Context() != before {
		t.Errorf("%v, %d, context %v", err, w.Code, r.Context())
	}
}

// TestRequestThatEndsInTime: one that was let through a moment before the end is
// answered.
func TestRequestThatEndsInTime(t *testing.T) {
	g := newGate(t, nil)
	key := g.terminal()
	server := g.serving(caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		g.end(key, session.Ended, session.SignedOut)
		time.Sleep(cutAfter / 5) // its work
		_, err := io.WriteString(w, "upstream")
		return err
	}))
	if err := readAll(t, server.Client(), server.URL, key, 2); err != nil {
		t.Error(err)
	}
}
