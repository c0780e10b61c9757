// This file holds a request that was let through, for as long as it is open: a
// stream, a WebSocket or a download does not outlive what let it through.

package caddydevice

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

const (
	// cutAfter is how long a request that was let through has to end by itself:
	// most do, and are answered.
	cutAfter = 500 * time.Millisecond
	// cutEvery is the time between two tries to cut a request off, and cuts is
	// how many there are: together one second.
	cutEvery, cuts = 50 * time.Millisecond, 20
)

// openRequest is cut off soon after its session is over, or after the session's
// claims are no longer what a gate on its way asks for.
type openRequest struct {
	noted   session.OpenRequest
	cancel  context.CancelFunc
	writer  http.ResponseWriter
	request *http.Request
	arrived context.Context // of the request, before it could be cut

	mu     sync.Mutex
	gates  []*Handler  // those that have let it through
	first  [1]*Handler // room for the usual one
	conn   net.Conn    // where the connection was taken over by another protocol
	heard  *session.Snapshot
	cutOff bool
	end    *time.Timer // to cut it
	closed bool
}

// open notes a request of the session, and returns the writer to go on with and
// how the session is. The request gets its context in place: Caddy's
// placeholders hold the one that arrived, and {http.request.body} puts back there
// what it has read. There is none (nil) where the session has changed meanwhile:
// it must be looked up anew.
func (h *Handler) open(w http.ResponseWriter, r *http.Request, s *session.Session) (*openRequest, http.ResponseWriter, *session.Snapshot) {
	ctx, cancel := context.WithCancel(r.Context())
	o := &openRequest{cancel: cancel, writer: w, request: r, arrived: r.Context()}
	o.gates = o.first[:0]
	snap := s.Open(&o.noted, o)
	if snap == nil {
		cancel()
		return nil, w, nil
	}
	if isUpgrade(r) && r.ProtoMajor == 1 {
		w = &upgradable{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, open: o}
	}
	*r = *r.WithContext(ctx)
	return o, w, snap
}

// passed notes that a gate has let the request through for what the session's
// claims were. They may have changed since, before the gate was noted.
func (o *openRequest) passed(h *Handler) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gates = append(o.gates, h)
	if o.heard != nil && !o.mayGoOn(o.heard) {
		o.cutSoon()
	}
}

// Hear implements session.Listener.
func (o *openRequest) Hear(snap *session.Snapshot) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard = snap
	if !o.mayGoOn(snap) {
		o.cutSoon()
	}
}

// cutSoon has the request cut, unless it ends before; o.mu is held.
func (o *openRequest) cutSoon() {
	if o.end == nil && !o.closed {
		o.end = time.AfterFunc(cutAfter, o.cut)
	}
}

// mayGoOn reports whether all gates still let the request through; o.mu is held.
func (o *openRequest) mayGoOn(snap *session.Snapshot) bool {
	if snap.State != session.Active {
		return false
	}
	for _, h := range o.gates {
		if lacking(h.Require, snap.Identity.Claims) != nil || lacking(h.Expect, snap.Identity.Claims) != nil {
			return false
		}
	}
	return true
}

// cut ends the request: its context for whoever works for it, and the way to
// the client by deadlines that have passed, since not everybody heeds a context.
// Caddy sets a deadline of its own before each write, so that ours may have to
// be set once more.
func (o *openRequest) cut() {
	tick := time.NewTicker(cutEvery)
	defer tick.Stop()
	for range cuts {
		if !o.cutOnce() {
			return
		}
		<-tick.C
	}
}

// cutOnce reports whether the request may still be going on.
func (o *openRequest) cutOnce() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false // the connection may be in use for another request
	}
	o.cutOff = true
	o.cancel()
	if o.conn != nil {
		_ = o.conn.Close()
		return false
	}
	past := time.Unix(1, 0)
	_ = http.NewResponseController(bottom(o.writer)).SetWriteDeadline(past)
	_ = http.NewResponseController(o.writer).SetReadDeadline(past)
	return true
}

// bottom is the server's own writer. Caddy's that keeps the time between writes
// takes a deadline only from the goroutine that writes.
func bottom(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// close ends the notice, and gives the request back to the handlers before the
// gate as it came.
func (o *openRequest) close() {
	*o.request = *o.request.WithContext(o.arrived)
	o.noted.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.end != nil {
		o.end.Stop()
	}
	o.cancel()
}

// upgradable is the writer of a request that may take its connection over.
type upgradable struct {
	*caddyhttp.ResponseWriterWrapper
	open *openRequest
}

// Hijack implements http.Hijacker. It takes the deadlines off the connection,
// and with them a cut that came before it.
func (u *upgradable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	u.open.mu.Lock()
	defer u.open.mu.Unlock()
	conn, buffered, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return conn, buffered, err
	}
	if u.open.cutOff {
		_ = conn.Close()
		return nil, nil, net.ErrClosed
	}
	u.open.conn = conn
	return conn, buffered, nil
}
