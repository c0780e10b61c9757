// This file shows that WebSockets, events and early hints pass through, and
// that a page of another site opens no WebSocket with a browser's cookie.
package e2e

import (
	"bufio"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/websocket"
)

// opening is how a WebSocket is asked for.
type opening struct {
	name   string
	header http.Header
	status int // 101, or what refuses it
}

func (p *passage) webSocket(t *testing.T) {
	var opened atomic.Int32
	p.backend.mux.HandleFunc("/app/socket", func(w http.ResponseWriter, r *http.Request) {
		opened.Add(1)
		websocket.Echo(w, r)
	})
	own := "https://localhost"
	key := "Bearer " + p.key
	jar := "a=1; " + tlsCookie + "=" + p.browserKey(t)
	rows := []opening{
		{"our own page, by cookie", http.Header{"Cookie": {jar}, "Origin": {own}}, 101},
		{"another site's page, by cookie", http.Header{"Cookie": {jar}, "Origin": {"https://evil.example"}}, 403},
		{"another port's page, by cookie", http.Header{"Cookie": {jar}, "Origin": {own + ":1"}}, 403},
		{"a page without an origin, by cookie", http.Header{"Cookie": {jar}, "Origin": {"null"}}, 403},
		{"a program, by cookie", http.Header{"Cookie": {jar}}, 101},
		{"a program, by bearer", http.Header{"Authorization": {key}}, 101},
		{"another site's page, by bearer", http.Header{"Authorization": {key}, "Origin": {"https://evil.example"}}, 101},
		{"nobody", http.Header{}, 401},
		{"nobody's page", http.Header{"Origin": {own}}, 401},
	}
	for version := range p.clients {
		for _, row := range rows {
			t.Run(version+", "+row.name, func(t *testing.T) {
				before, starts := opened.Load(), len(p.rec.Starts())
				status, stream := p.openSocket(t, version, row.header)
				defer stream.Close()
				if status != row.status {
					t.Fatalf("status %d, want %d", status, row.status)
				}
				if status == 101 {
					wantEcho(t, stream)
				}
				if reached := opened.Load() > before; reached != (row.status == 101) {
					t.Errorf("the upstream saw it: %v", reached)
				}
				if n := len(p.rec.Starts()) - starts; n != 0 {
					t.Errorf("%d sign-ins were started", n)
				}
			})
		}
	}
}

// wantEcho fails unless messages go both ways.
func wantEcho(t *testing.T, stream io.ReadWriter) {
	t.Helper()
	for _, text := range []string{"hello", "again"} {
		if err := websocket.Send(stream, text); err != nil {
			t.Fatal(err)
		}
		got, err := websocket.Receive(stream)
		if err != nil || got != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// openSocket asks for a WebSocket.
func (p *passage) openSocket(t *testing.T, version string, h http.Header) (int, io.ReadWriteCloser) {
	t.Helper()
	if version == "HTTP/1.1" {
		return p.upgrade(t, h)
	}
	return p.extendedConnect(t, version, h)
}

// upgrade asks for one as RFC 6455 has it.
func (p *passage) upgrade(t *testing.T, h http.Header) (int, io.ReadWriteCloser) {
	t.Helper()
	conn, err := (&tls.Dialer{Config: p.trust}).DialContext(p.ctx, "tcp", "127.0.0.1:"+p.gate.Port())
	if err != nil {
		t.Fatal(err)
	}
	req := p.request(t, http.MethodGet, "/app/socket", nil, "")
	for name, values := range h {
		req.Header[name] = values
	}
	return p.upgradeOn(t, conn, req)
}

// upgradeOn does so with a request, on a connection that is there.
func (s *stage) upgradeOn(t *testing.T, conn net.Conn, req *http.Request) (int, io.ReadWriteCloser) {
	t.Helper()
	if deadline, ok := s.ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", websocket.Key)
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Sec-WebSocket-Accept"); resp.StatusCode == 101 && got != websocket.Accept(websocket.Key) {
		t.Errorf("Sec-WebSocket-Accept: %q", got)
	}
	return resp.StatusCode, stream{in, conn, conn}
}

// extendedConnect asks for one as RFC 8441 and RFC 9220 have it: there 200 is
// what 101 is in HTTP/1.1.
func (p *passage) extendedConnect(t *testing.T, version string, h http.Header) (int, io.ReadWriteCloser) {
	t.Helper()
	out, in := io.Pipe()
	req := p.request(t, http.MethodConnect, "/app/socket", out, "")
	for name, values := range h {
		req.Header[name] = values
	}
	req.Header.Set("Sec-WebSocket-Version", "13")
	if version == "HTTP/2.0" {
		req.Header[":protocol"] = []string{"websocket"}
	} else {
		req.Proto = "websocket"
	}
	resp, err := p.clients[version].RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	status := resp.StatusCode
	if status == http.StatusOK {
		status = http.StatusSwitchingProtocols
	}
	return status, stream{resp.Body, in, in}
}

// stream is both directions of one.
type stream struct {
	io.Reader
	io.Writer
	io.Closer
}

// browserKey signs a browser in and returns what is in its jar.
func (p *passage) browserKey(t *testing.T) string {
	t.Helper()
	return p.signedInWindow(t, "/page", p.gate.RootCA()).Cookie(t, p.url, tlsCookie)
}

// events: the first arrives while the stream is open; encoded too.
func (p *passage) events(t *testing.T) {
	goOn := make(chan struct{})
	p.backend.mux.HandleFunc("/app/events/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 2 {
			fmt.Fprintf(w, "data: %d\n\n", n)
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-goOn:
			case <-r.Context().Done():
			}
		}
	})
	for _, path := range []string{"/app/events/plain", "/app/events/encoded"} {
		t.Run(path, func(t *testing.T) {
			p.each(t, func(t *testing.T, client http.RoundTripper) {
				req := p.request(t, http.MethodGet, path, nil, p.key)
				req.Header.Set("Accept-Encoding", "gzip")
				resp := do(t, client, req)
				body := io.Reader(resp.Body)
				if encoded := resp.Header.Get("Content-Encoding") == "gzip"; encoded != strings.HasSuffix(path, "encoded") {
					t.Fatalf("Content-Encoding: %q", resp.Header.Get("Content-Encoding"))
				} else if encoded {
					unzipped, err := gzip.NewReader(body)
					if err != nil {
						t.Fatal(err)
					}
					body = unzipped
				}
				lines := bufio.NewReader(body)
				for n := range 2 {
					line, err := lines.ReadString('\n')
					if _, end := lines.ReadString('\n'); err != nil || end != nil || line != fmt.Sprintf("data: %d\n", n) {
						t.Fatalf("%q, %v, %v", line, err, end)
					}
					select {
					case goOn <- struct{}{}:
					case <-p.ctx.Done():
						t.Fatal(p.ctx.Err())
					}
				}
				if rest := bodyOf(t, lines); rest != "" {
					t.Errorf("there is more: %q", rest)
				}
			})
		})
	}
}

// hints: an interim answer comes before the final one (RFC 8297).
func (p *passage) hints(t *testing.T) {
	p.backend.mux.HandleFunc("/app/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	p.each(t, func(t *testing.T, client http.RoundTripper) {
		var hinted string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hinted = fmt.Sprint(code, " ", h.Get("Link"))
			return nil
		}}
		req := p.request(t, http.MethodGet, "/app/hints", nil, p.key)
		resp := do(t, client, req.WithContext(httptrace.WithClientTrace(p.ctx, trace)))
		if resp.StatusCode != 200 || hinted != "103 </style.css>; rel=preload" {
			t.Errorf("status %d, the hint is %q", resp.StatusCode, hinted)
		}
	})
}
