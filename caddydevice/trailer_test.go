// This file tests a request's trailers over real connections: what net/http
// and quic-go make of them differs by version.

package caddydevice

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// trailers is a request's trailer section: what is announced, and what comes.
type trailers struct {
	announced []string
	come      [][2]string
}

// trailerRows have trailers of our names in each spelling, and others.
var trailerRows = map[string]trailers{
	"none":                       {},
	"another's":                  {announced: []string{"X-Checksum"}, come: [][2]string{{"X-Checksum", "abc"}}},
	"another's, unannounced too": {announced: []string{"X-Checksum"}, come: [][2]string{{"X-Checksum", "abc"}, {"X-Late", "1"}}},
	"ours":                       {announced: []string{"Remote-User"}, come: [][2]string{{"Remote-User", "root"}}},
	"ours, which never come":     {announced: []string{"Remote-User, Remote_Groups"}},
	"ours among others":          {announced: []string{"X-Checksum, remote-user", "REMOTE_GROUPS"}, come: [][2]string{{"X-Checksum", "abc"}, {"remote-user", "root"}, {"REMOTE_GROUPS", "wheel"}}},
	"unannounced":                {come: [][2]string{{"Remote-User", "root"}, {"Remote_User", "root"}, {"X-Late", "1"}}},
	"unannounced beside others":  {announced: []string{"X-Checksum"}, come: [][2]string{{"Remote-User", "root"}, {"Remote_User", "root"}, {"remote.user", "root"}, {"rEmOtE-gRoUpS", "wheel"}, {"Remote.Groups", "wheel"}, {"X-Checksum", "abc"}}},
	"unannounced beside ours":    {announced: []string{"Remote-User"}, come: [][2]string{{"Remote-User", "root"}, {"Remote-Groups", "wheel"}, {"X-Late", "1"}}},
}

// seenTrailers is what the handler behind the gate saw.
type seenTrailers struct {
	announced, arrived http.Header
	wrapped            bool
}

// TestTrailers compares what comes through with what comes without a gate:
// the same but for our names. It does so for requests as Caddy passes them on,
// copies of the server's, and for the server's own, into which every server
// puts more.
func TestTrailers(t *testing.T) {
	user := newGate(t, map[string]any{"upstream_headers": map[string]string{"Remote-User": "preferred_username"}, "match": []any{map[string]any{"path": []string{"/private"}}}})
	groups := newGate(t, map[string]any{"upstream_headers": map[string]string{"Remote-Groups": "groups"}, "match": []any{map[string]any{"path": []string{"/private"}}}})
	for version, start := range trailerServers {
		for _, own := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the server's own %v", version, own), func(t *testing.T) {
				saw := make(chan seenTrailers, 1)
				send := start(t, throughGates(own, saw, user, groups))
				for name, row := range trailerRows {
					send(t, "/none", row)
					want := <-saw
					send(t, "/through", row)
					got := <-saw
					if !reflect.DeepEqual(got.announced, withoutOurs(want.announced)) || !reflect.DeepEqual(got.arrived, withoutOurs(want.arrived)) {
						t.Errorf("%s: announced %v, arrived %v; without a gate %v, %v", name, got.announced, got.arrived, want.announced, want.arrived)
					}
				}
			})
		}
	}
}

// TestOtherBodies: what can bring no trailer of our names reaches the upstream
// as it is.
func TestOtherBodies(t *testing.T) {
	const head = " /through HTTP/1.1\r\nHost: api.example.com\r\n"
	match := []any{map[string]any{"path": []string{"/private"}}}
	for _, row := range []struct {
		name, text string
		headers    map[string]string
		wrapped    bool
	}{
		{"none", "GET" + head + "\r\n", map[string]string{"Remote-User": "sub"}, false},
		{"of a known length", "POST" + head + "Content-Length: 4\r\n\r\nbody", map[string]string{"Remote-User": "sub"}, false},
		{"no names", "POST" + head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", map[string]string{}, false},
		{"chunked", "POST" + head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", map[string]string{"Remote-User": "sub"}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			saw := make(chan seenTrailers, 1)
			server := httptest.NewServer(throughGates(false, saw, newGate(t, map[string]any{"upstream_headers": row.headers, "match": match})))
			defer server.Close()
			exchange(t, server.Listener.Addr().String(), row.text)
			if got := <-saw; got.wrapped != row.wrapped {
				t.Errorf("wrapped: %v", got.wrapped)
			}
		})
	}
}

// TestExpect: a client is told to go on only when the upstream reads the body
// (RFC 9110 §10.1.1); nobody else is asked for one, and the answer does not
// wait for it.
func TestExpect(t *testing.T) {
	g := newGate(t, nil)
	server := httptest.NewServer(throughGates(false, make(chan seenTrailers, 4), g))
	defer server.Close()
	authorization := "Authorization: Bearer " + g.terminal() + "\r\n"
	for _, framing := range []string{"Content-Length: 1073741824\r\n", "Transfer-Encoding: chunked\r\n"} {
		for who, want := range map[string]int{"": http.StatusUnauthorized, authorization: http.StatusContinue} {
			answer := exchange(t, server.Listener.Addr().String(), "POST / HTTP/1.1\r\nHost: api.example.com\r\nExpect: 100-continue\r\n"+who+framing+"\r\n")
			if answer.StatusCode != want {
				t.Errorf("%q: %d, want %d", framing, answer.StatusCode, want)
			}
		}
	}
}

// withoutOurs are the trailers of other names; no map stays none.
func withoutOurs(all http.Header) http.Header {
	others := maps.Clone(all)
	maps.DeleteFunc(others, func(name string, _ []string) bool { return strings.HasPrefix(strings.ToLower(name), "remote") })
	return others
}

// throughGates passes requests through gates, one after the other, to a
// handler that notes their trailers; those for /none it notes at once.
func throughGates(own bool, saw chan<- seenTrailers, gates ...*gate) http.Handler {
	note := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		seen := seenTrailers{announced: r.Trailer.Clone()}
		_, seen.wrapped = r.Body.(*trailerBody)
		_, err := io.Copy(io.Discard, r.Body)
		seen.arrived = r.Trailer.Clone()
		saw <- seen
		return err
	})
	next := caddyhttp.Handler(note)
	for _, g := range slices.Backward(gates) {
		behind := next
		next = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return g.ServeHTTP(w, r, behind) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = struct{ io.ReadCloser }{r.Body} // as Caddy does, for its timeouts
		prepared := caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		if own {
			*r = *prepared
			prepared = r
		}
		handler := next
		if r.URL.Path == "/none" {
			handler = note
		}
		if err := handler.ServeHTTP(w, prepared); err != nil {
			panic(http.ErrAbortHandler)
		}
	})
}

// trailerServers start a server of one version of HTTP; what they return sends
// a request with a body and trailers.
var trailerServers = map[string]func(*testing.T, http.Handler) func(*testing.T, string, trailers){
	"HTTP/1.1": func(t *testing.T, h http.Handler) func(*testing.T, string, trailers) {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return func(t *testing.T, path string, tr trailers) {
			t.Helper()
			sendChunked(t, server.Listener.Addr().String(), path, tr)
		}
	},
	"HTTP/2": func(t *testing.T, h http.Handler) func(*testing.T, string, trailers) {
		server := httptest.NewUnstartedServer(h)
		server.EnableHTTP2 = true
		server.StartTLS()
		t.Cleanup(server.Close)
		return sender(server.Client(), server.URL)
	},
	"HTTP/3": func(t *testing.T, h http.Handler) func(*testing.T, string, trailers) {
		base, transport := startHTTP3(t, h)
		return sender(&http.Client{Transport: transport}, base)
	},
}

// startHTTP3 runs a server until the test ends, and returns its address and a
// client's transport.
func startHTTP3(t *testing.T, h http.Handler) (string, *http3.Transport) {
	t.Helper()
	// only for its certificate
	https := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(https.Close)
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http3.Server{Handler: h, TLSConfig: http3.ConfigureTLSConfig(https.TLS.Clone())}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(socket) // ends with the test
	}()
	transport := &http3.Transport{TLSClientConfig: https.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
	transport.TLSClientConfig.NextProtos = nil
	t.Cleanup(func() {
		transport.Close()
		server.Close()
		socket.Close()
		<-done
	})
	return "https://" + socket.LocalAddr().String(), transport
}

// sendChunked writes a request as no client would: names as they are spelled,
// and trailers that nobody announced.
func sendChunked(t *testing.T, address, path string, tr trailers) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "POST %s HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n", path)
	for _, line := range tr.announced {
		text.WriteString("Trailer: " + line + "\r\n")
	}
	text.WriteString("\r\n4\r\nbody\r\n0\r\n")
	for _, field := range tr.come {
		text.WriteString(field[0] + ": " + field[1] + "\r\n")
	}
	text.WriteString("\r\n")
	answer := exchange(t, address, text.String())
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, answer.Status)
	}
}

// exchange sends text on a connection of its own and returns the answer's head.
func exchange(t *testing.T, address, text string) *http.Response {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(t.Context(), func() { conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer
}

// sender sends with a client of Go's: it announces the keys that are in the
// map when it sends the head, and sends those that are there at the end.
func sender(client *http.Client, base string) func(*testing.T, string, trailers) {
	return func(t *testing.T, path string, tr trailers) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "api.example.com"
		req.Trailer = http.Header{}
		for _, line := range tr.announced {
			for name := range strings.SplitSeq(line, ", ") {
				req.Trailer[name] = nil
			}
		}
		req.ContentLength = -1
		req.Body = &endingBody{Reader: strings.NewReader("body"), end: func() {
			for _, field := range tr.come {
				req.Trailer[field[0]] = []string{field[1]}
			}
		}}
		answer, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, answer.Status)
		}
	}
}

// endingBody calls end before it says that it is over.
type endingBody struct {
	io.Reader
	end func()
}

func (b *endingBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.end()
	}
	return n, err
}

func (b *endingBody) Close() error { return nil }
