// Package upstream is the application behind the gateway: it writes down each
// request that reaches it and answers with what it saw, as JSON.
package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// maxHead bounds the bytes kept of one request to read its raw header from.
const maxHead = 1 << 20

// Request is one request as it arrived.
type Request struct {
	Method     string      `json:"method"`
	URI        string      `json:"uri"`
	Proto      string      `json:"proto"`
	Host       string      `json:"host"`
	Header     http.Header `json:"header"`
	RawHeader  []string    `json:"raw_header"` // the lines as they came, in order, duplicates and spelling kept
	Trailer    http.Header `json:"trailer"`
	BodyLength int64       `json:"body_length"`
}

// Server is one upstream.
type Server struct {
	url string

	mu       sync.Mutex
	requests []Request
	answer   http.HandlerFunc
}

// Start runs an upstream until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{url: "http://" + plain.Addr().String()}
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: time.Minute,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, tapKey{}, c)
		},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(tapListener{plain}); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("upstream: %v", err)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return s
}

// URL is where the upstream listens.
func (s *Server) URL() string { return s.url }

// Addr is the same as host and port, for reverse_proxy.
func (s *Server) Addr() string { return strings.TrimPrefix(s.url, "http://") }

// AnswerWith replaces the echo; requests are written down all the same. A nil
// handler brings the echo back.
func (s *Server) AnswerWith(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = h
}

// Requests are all that arrived, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Last is the latest request; the test fails where there was none.
func (s *Server) Last(t testing.TB) Request {
	t.Helper()
	all := s.Requests()
	if len(all) == 0 {
		t.Fatal("no request has reached the upstream")
	}
	return all[len(all)-1]
}

// ServeHTTP reads the whole request, writes it down and answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tapped, _ := r.Context().Value(tapKey{}).(*tap)
	raw := tapped.head()
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
	tapped.forget()
	got := Request{
		Method: r.Method, URI: r.RequestURI, Proto: r.Proto, Host: r.Host,
		Header: r.Header, RawHeader: raw, Trailer: r.Trailer, BodyLength: n,
	}
	s.mu.Lock()
	s.requests = append(s.requests, got)
	answer := s.answer
	s.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(got) //nolint:errcheck // the client may have gone away
}

type tapKey struct{}

// tap keeps what was read from a connection: net/http changes the spelling of
// header names and their order, and both matter for what a gateway let through.
type tap struct {
	net.Conn

	mu   sync.Mutex
	read []byte
}

type tapListener struct{ net.Listener }

func (l tapListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tap{Conn: c}, nil
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if room := maxHead - len(c.read); room > 0 {
		c.read = append(c.read, p[:min(n, room)]...)
	}
	return n, err
}

// head is the header of the present request, one line each.
func (c *tap) head() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	head, _, _ := bytes.Cut(c.read, []byte("\r\n\r\n"))
	lines := strings.Split(string(head), "\r\n")
	return lines[1:]
}

// forget makes room for the next request: a client sends it only after the
// answer to this one.
func (c *tap) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = nil
}
