// This file shows that the end of a session reaches its open requests: none
// outlives it by more than two seconds, whatever ends it, over any version of
// HTTP.
package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/record"
	"github.com/caddydevice/device-auth/e2e/internal/websocket"
)

const (
	// cutWithin is how long an open request may outlive its session.
	cutWithin = 2 * time.Second
	// backendGap is how often an open answer grows.
	backendGap = 50 * time.Millisecond
)

// endsSites are a gate over TLS, for all versions of HTTP, and the same gate
// without it: the provider trusts no certificate of Caddy's own.
func endsSites(lines ...string) string {
	gate := deviceAuth("", append(lines, manyStarts)...)
	return "localhost:{$GATE_PORT} {\ntls internal\n" + gate +
		"reverse_proxy /app/flushed/* {$BACKEND} {\nflush_interval -1\n}\nreverse_proxy /app/* {$BACKEND}\nreverse_proxy {$UPSTREAM}\n}\n" +
		"http://localhost:{$GATE_PORT_2} {\n" + gate + "reverse_proxy {$UPSTREAM}\n}\n"
}

// ending is one way in which a session ends.
type ending struct {
	name   string
	lines  []string
	plan   plan
	reason string
	// end ends the session and says when that was.
	end func(t *testing.T, e *ended) time.Time
	all bool // no session is spared
}

// ended is a gate with a session whose end is near.
type ended struct {
	*passage
	person *idpserver.Person
	begun  time.Time // of the session, at the latest
	token  string    // hash of its first refresh token
}

const (
	endsLifetime = 20 * time.Second
	endsTokens   = 20 * time.Second
)

var endings = []ending{
	{name: "sign-out", reason: "signed_out", end: func(t *testing.T, e *ended) time.Time {
		resp := do(t, e.clients["HTTP/2.0"], e.request(t, http.MethodPost, "/.device/logout", nil, e.key))
		if resp.StatusCode != http.StatusNoContent {
			t.Fatalf("sign-out: %s", resp.Status)
		}
		return time.Now()
	}},
	{name: "back-channel logout", reason: "logged_out", end: func(t *testing.T, e *ended) time.Time {
		if err := e.person.SignOut(e.ctx, e.rec.URL()+"/session/end"); err != nil {
			t.Fatal(err)
		}
		return time.Now()
	}},
	{name: "an operator", reason: "revoked", end: func(t *testing.T, e *ended) time.Time {
		id := record.Hash(e.key) // a session's id is the hash of its key
		got := runCaddy(t, e.gate.Home, "device-auth", "sessions", "end", id, "--address", "unix/"+e.gate.AdminSocket())
		if got.code != 0 {
			t.Fatalf("%+v", got)
		}
		return time.Now()
	}},
	{name: "lifetime", lines: []string{"session {\nlifetime " + endsLifetime.String() + "\n}"}, reason: "lifetime", all: true, end: func(_ *testing.T, e *ended) time.Time {
		return e.begun.Add(endsLifetime)
	}},
	{name: "a refused refresh", plan: plan{tokenLife: endsTokens}, reason: "refused", end: func(t *testing.T, e *ended) time.Time {
		e.rec.RewriteWith(func(r *http.Request) *record.Answer {
			if record.Hash(r.PostForm.Get("refresh_token")) != e.token || !isRefresh(r) {
				return nil
			}
			return &record.Answer{Status: http.StatusBadRequest, Body: []byte(`{"error":"invalid_grant"}`)}
		})
		e.await(t, "a refresh", func() bool { return len(e.rec.PresentationsOf(e.token)) > 0 })
		return time.Now()
	}},
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for _, row := range endings {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.plan.caddyfile = endsSites(row.lines...)
			e := &ended{passage: newPassage(t, row.plan), person: idpserver.NewPerson(t)}
			e.tellLogouts(t)
			open := e.serveOpen()
			spared := e.signIn(t, idpserver.NewPerson(t))
			e.key = spared.Session
			bystander := e.openOne(t, "HTTP/1.1", "WebSocket")
			a := e.signIn(t, e.person)
			e.begun, e.key, e.token = time.Now(), a.Session, e.refreshedBy(t, a).token
			streams := e.openAll(t)
			e.await(t, "all requests at the backend", func() bool { return int(open.Load()) == len(streams)+1 })
			for _, o := range streams {
				o.wantOpen(t)
			}
			at := row.end(t, e)
			e.letPass(time.Until(at))
			for _, o := range streams {
				o.goOn()
				o.wantClosed(t, at)
			}
			e.wantEnd(t, row.reason)
			if row.all {
				return
			}
			if n := open.Load(); n != 1 {
				t.Errorf("the backend has %d open requests, want 1", n)
			}
			bystander.wantOpen(t)
		})
	}
}

// tellLogouts has the provider send its logout tokens to the gate.
func (e *ended) tellLogouts(t *testing.T) {
	t.Helper()
	e.idp.Stop(t)
	e.idp.BackchannelLogoutURI = "http://localhost:" + e.gate.Port2() + "/.device/backchannel-logout"
	e.idp.StartAgain(t)
}

// serveOpen has the backend answer without an end, and counts such answers.
func (e *ended) serveOpen() *atomic.Int32 {
	open := &atomic.Int32{}
	counted := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			open.Add(1)
			defer open.Add(-1)
			h(w, r)
		}
	}
	events := counted(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		grow(w, r, "data: x\n\n")
	})
	e.backend.mux.HandleFunc("/app/socket", counted(websocket.Echo))
	e.backend.mux.HandleFunc("/app/events", events)
	e.backend.mux.HandleFunc("/app/flushed/events", events)
	e.backend.mux.HandleFunc("/app/download", counted(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(1<<40))
		size := 8 << 10
		if r.URL.RawQuery == "fast" {
			size <<= 10
		}
		grow(w, r, string(bytes.Repeat([]byte("x"), size)))
	}))
	e.backend.mux.HandleFunc("/app/held", counted(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	return open
}

// grow writes the text again and again until the client is gone.
func grow(w http.ResponseWriter, r *http.Request, text string) {
	tick := time.NewTicker(backendGap)
	defer tick.Stop()
	for {
		if _, err := io.WriteString(w, text); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// openRequest is one that was let in and has no end of its own.
type openRequest struct {
	name   string
	closed chan time.Time // when it was over
	goOn   func()         // lets a client read that had stopped
}

// openPaths are what is asked for. Nobody reads the stalled one, so that all
// writes to it wait; nothing comes of the last one, not even a header.
var openPaths = map[string]string{
	"WebSocket": "/app/socket", "events": "/app/events", "flushed events": "/app/flushed/events",
	"download": "/app/download", "stalled": "/app/download?fast", "held": "/app/held",
}

func (e *ended) openAll(t *testing.T) []*openRequest {
	t.Helper()
	var all []*openRequest
	for version := range e.clients {
		for kind := range openPaths {
			all = append(all, e.openOne(t, version, kind))
		}
	}
	return all
}

// openOne returns when the backend has it.
func (e *ended) openOne(t *testing.T, version, kind string) *openRequest {
	t.Helper()
	o := &openRequest{name: version + ", " + kind, closed: make(chan time.Time, 1), goOn: func() {}}
	if kind == "WebSocket" {
		status, socket := e.openSocket(t, version, http.Header{"Authorization": {"Bearer " + e.key}})
		if status != http.StatusSwitchingProtocols {
			t.Fatalf("%s: status %d", o.name, status)
		}
		t.Cleanup(func() { socket.Close() })
		wantEcho(t, socket)
		go o.watch(socket)
		return o
	}
	req := e.request(t, http.MethodGet, openPaths[kind], nil, e.key)
	begun, read := make(chan error, 1), make(chan struct{})
	o.goOn = sync.OnceFunc(func() { close(read) })
	t.Cleanup(o.goOn)
	if kind != "stalled" {
		o.goOn()
	}
	go func() {
		resp, err := e.clients[version].RoundTrip(req)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		begun <- err
		if err == nil {
			defer resp.Body.Close()
			<-read
			o.watch(resp.Body)
			return
		}
		if resp != nil {
			resp.Body.Close()
		}
		o.closed <- time.Now()
	}()
	if kind == "held" {
		return o
	}
	if err := <-begun; err != nil {
		t.Fatalf("%s: %v", o.name, err)
	}
	return o
}

// watch reads until there is nothing more.
func (o *openRequest) watch(from io.Reader) {
	io.Copy(io.Discard, from) //nolint:errcheck // that it ends is what counts
	o.closed <- time.Now()
}

// wantClosed fails unless it is over soon after that moment.
func (o *openRequest) wantClosed(t *testing.T, at time.Time) {
	t.Helper()
	timer := time.NewTimer(time.Until(at) + 2*cutWithin)
	defer timer.Stop()
	select {
	case closed := <-o.closed:
		if late := closed.Sub(at); late > cutWithin {
			t.Errorf("%s: it was closed %v after the session's end", o.name, late)
		}
	case <-timer.C:
		t.Errorf("%s: it is still open", o.name)
	}
}

// wantOpen fails unless it is still there.
func (o *openRequest) wantOpen(t *testing.T) {
	t.Helper()
	select {
	case <-o.closed:
		t.Errorf("%s: the request was closed", o.name)
	default:
	}
}

// wantEnd fails unless the session is refused for that reason.
func (e *ended) wantEnd(t *testing.T, reason string) {
	t.Helper()
	req := e.request(t, http.MethodGet, "/over", nil, e.key)
	req.Header.Set("Accept", "application/json")
	resp := do(t, e.clients["HTTP/1.1"], req)
	var a answer
	if err := json.Unmarshal([]byte(bodyOf(t, resp.Body)), &a); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusUnauthorized || a.Status != "ended" || a.Reason != reason {
		t.Errorf("status %d, %+v, want the reason %s", resp.StatusCode, a, reason)
	}
}
