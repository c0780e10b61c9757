// This file tests requests that would rather wait.

package caddydevice

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

func TestPreferredWait(t *testing.T) {
	for _, row := range []struct {
		name   string
		fields []string
		want   time.Duration
	}{
		{"nothing", nil, 0},
		{"seconds", []string{"wait=30"}, 30 * time.Second},
		{"capitals and blanks", []string{" Wait = 30 "}, 30 * time.Second},
		{"among others", []string{"respond-async, wait=10, handling=lenient"}, 10 * time.Second},
		{"in another field", []string{"respond-async", "wait=10"}, 10 * time.Second},
		{"quoted", []string{`wait="10"`}, 10 * time.Second},
		{"with a parameter", []string{"wait=10; x=y"}, 10 * time.Second},
		{"the first counts", []string{"wait=10, wait=20"}, 10 * time.Second},
		{"too long", []string{"wait=1000000"}, 300 * time.Second},
		{"longer than any number", []string{"wait=99999999999999999999"}, 0},
		{"none", []string{"wait=0"}, 0},
		{"negative", []string{"wait=-5"}, 0},
		{"no number", []string{"wait=soon"}, 0},
		{"no value", []string{"wait"}, 0},
		{"something else", []string{"waiting=10"}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Header["Prefer"] = row.fields
			if got, ok := preferredWait(r); got != row.want || ok != (row.want > 0) {
				t.Errorf("%v, %t, want %v", got, ok, row.want)
			}
		})
	}
}

// TestHeld: a request that waits goes on as if it had come when the sign-in was
// decided.
func TestHeld(t *testing.T) {
	for _, row := range []struct {
		name   string
		begin  map[string]string
		decide func(g *gate, key string)
		status int
		passes bool
		body   string
	}{
		{"approved", curlHeaders, func(g *gate, key string) { g.approve(key, nil) }, 200, true, "upstream"},
		{"declined", curlHeaders, func(g *gate, key string) { g.end(key, session.Denied, session.Declined) }, 401, false, "was declined"},
		{"given up", curlHeaders, func(g *gate, key string) { g.end(key, session.Ended, session.CrowdedOut) }, 401, false, "was given up"},
		{"approved, a browser's fetch", browserHeaders, func(g *gate, key string) { g.approve(key, nil) }, 401, false, "Load this page"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGate(t, nil)
			key := g.begun(row.begin)
			header := bearer(key)
			if row.begin["Sec-Fetch-Dest"] != "" {
				header = g.cookieOf(fetchHeaders, key)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				g.awaitWait()
				row.decide(g, key)
			}()
			resp := g.do(request{method: "DELETE", target: "/x", header: with(header, "Prefer", "wait=60")})
			<-done
			if resp.StatusCode != row.status || (g.upstream != nil) != row.passes || !strings.Contains(g.body, row.body) {
				t.Errorf("%d, upstream %t: %s", resp.StatusCode, g.upstream != nil, g.body)
			}
			if row.passes && g.upstream.Method != "DELETE" {
				t.Errorf("as %s", g.upstream.Method)
			}
			if n := g.app.waits.Load(); n != 0 {
				t.Errorf("%d waits are left", n)
			}
		})
	}
}

// awaitWait returns once a request waits.
func (g *gate) awaitWait() {
	for g.app.waits.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
}

// TestNotHeld are the requests that get their answer at once, or when their
// time is over.
func TestNotHeld(t *testing.T) {
	g := newGate(t, nil)
	key := g.begun(curlHeaders)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, row := range []struct {
		name    string
		request request
		status  int
		body    string
	}{
		{"nobody yet", request{target: "/x", header: with(curlHeaders, "Prefer", "wait=60")}, 401, "enter the code"},
		{"time is over", request{target: "/x", header: with(bearer(key), "Prefer", "wait=1")}, 401, "WDJB-0001"},
		{"a body", request{method: "POST", target: "/x", body: "a", header: with(bearer(key), "Prefer", "wait=60")}, 401, "again.\n\nhttps://api.example.com/.device/wait\n"},
		{"a body, JSON", request{method: "POST", target: "/x", body: "a", header: with(jsonHeaders, "Authorization", "Bearer "+key, "Prefer", "wait=60")}, 401, `"reason":"body"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			resp := g.doIn(ctx, row.request)
			if resp.StatusCode != row.status || g.upstream != nil || !strings.Contains(g.body, row.body) {
				t.Errorf("%d, upstream %t: %s", resp.StatusCode, g.upstream != nil, g.body)
			}
		})
	}
	if ctx.Err() != nil {
		t.Error("it took too long")
	}
}

// TestHeldBodies: over HTTP/2 and 3 a client that hangs up is noticed, so that
// a request with a body waits as well.
func TestHeldBodies(t *testing.T) {
	g := newGate(t, nil)
	for _, major := range []int{2, 3} {
		key := g.begun(curlHeaders)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.example.com/x", strings.NewReader("body"))
		r.ProtoMajor, r.ProtoMinor = major, 0
		for k, v := range with(bearer(key), "Prefer", "wait=60") {
			r.Header.Set(k, v)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.awaitWait()
			g.approve(key, nil)
		}()
		resp := g.send(r)
		<-done
		if resp.StatusCode != http.StatusOK || g.upstream == nil || g.upstream.ContentLength != 4 {
			t.Errorf("HTTP/%d: %d %s", major, resp.StatusCode, g.body)
		}
	}
}

// TestHeldAreBounded: a session has only so many requests that wait.
func TestHeldAreBounded(t *testing.T) {
	g := newGate(t, nil)
	key := g.begun(curlHeaders)
	for range mostWaits {
		end, ok := g.session(key).Watch(mostWaits)
		if !ok {
			t.Fatal("no room")
		}
		defer end()
	}
	resp := g.do(request{target: "/x", header: with(bearer(key), "Prefer", "wait=60")})
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || g.upstream != nil {
		t.Errorf("%d, upstream %t", resp.StatusCode, g.upstream != nil)
	}
}

// TestHeldClientIsGone: nothing is done for somebody who hung up.
func TestHeldClientIsGone(t *testing.T) {
	g := newGate(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := newRequest(t, "/x", nil).WithContext(ctx)
	err := g.hold(httptest.NewRecorder(), r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		t.Error("reached the upstream")
		return nil
	}), credential{source: fromBearer}, g.session(g.terminal()), time.Minute)
	if err != nil {
		t.Error(err)
	}
}

// TestHeldThroughReload: a new configuration does not end it.
func TestHeldThroughReload(t *testing.T) {
	g := newGate(t, nil)
	unloaded := make(chan struct{})
	g.unloaded = unloaded
	key := g.begun(curlHeaders)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.awaitWait()
		close(unloaded)
		g.approve(key, nil)
	}()
	resp := g.do(request{target: "/x", header: with(bearer(key), "Prefer", "wait=60")})
	<-done
	if resp.StatusCode != http.StatusOK || g.upstream == nil {
		t.Errorf("%d %s", resp.StatusCode, g.body)
	}
	// while nobody approves it waits until its client has had enough
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w := httptest.NewRecorder()
	r := newRequest(t, "/x", nil).WithContext(ctx)
	if err := g.hold(w, r, nil, credential{source: fromBearer}, g.session(g.begun(curlHeaders)), time.Minute); err != nil || ctx.Err() == nil || w.Body.Len() > 0 {
		t.Errorf("%v, client gone: %t, %s", err, ctx.Err() != nil, w.Body)
	}
}

// TestWriteTimeout: the server's limit for an answer does not cut a wait short,
// and holds again behind it.
func TestWriteTimeout(t *testing.T) {
	g := newGate(t, nil)
	g.writeTimeout = time.Minute
	w := &deadlines{ResponseWriter: httptest.NewRecorder()}
	end, ok := g.beginWatch(w, g.session(g.begun(curlHeaders)))
	if !ok || len(w.set) != 1 || !w.set[0].IsZero() {
		t.Fatalf("%t, %v", ok, w.set)
	}
	end()
	if left := time.Until(w.set[1]); left < 50*time.Second || left > time.Minute {
		t.Errorf("%v are left", left)
	}
}

// deadlines notes the write deadlines that it is given.
type deadlines struct {
	http.ResponseWriter
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// TestFormats: a terminal's own key in the forms that tools read, and nobody
// else's.
func TestFormats(t *testing.T) {
	for _, row := range []struct {
		name   string
		format string
		key    func(*gate) string
		asked  func(g *gate, key string) map[string]string
		status int
		want   string // {key} is the key
	}{
		{"curl -K", "curl", (*gate).terminal, asBearer, 200, "header = \"Authorization: Bearer {key}\"\n"},
		{"netrc", "netrc", (*gate).terminal, asBearer, 200, "machine api.example.com login device password {key}\n"},
		{"header", "header", (*gate).terminal, asBearer, 200, "Authorization: Bearer {key}\n"},
		{"out of a jar", "header", (*gate).terminal, func(g *gate, key string) map[string]string { return g.cookieOf(curlHeaders, key) }, 200, "Authorization: Bearer {key}\n"},
		{"for one who takes JSON", "header", (*gate).terminal, func(_ *gate, key string) map[string]string { return with(jsonHeaders, "Authorization", "Bearer "+key) }, 200, "Authorization: Bearer {key}\n"},
		{"pending", "curl", terminalPending, asBearer, 401, ""},
		{"unknown format", "xml", (*gate).terminal, asBearer, 400, ""},
		{"empty format", "", (*gate).terminal, asBearer, 400, ""},
		{"a browser's key", "header", (*gate).kiosk, func(g *gate, key string) map[string]string { return g.cookieOf(browserHeaders, key) }, 400, ""},
		{"a browser's key as bearer", "header", (*gate).kiosk, asBearer, 401, ""},
		{"a terminal's key on a browser's request", "header", (*gate).terminal, func(g *gate, key string) map[string]string { return g.cookieOf(browserHeaders, key) }, 401, ""},
		{"nobody", "curl", func(*gate) string { return "" }, func(*gate, string) map[string]string { return curlHeaders }, 401, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGate(t, nil)
			key := row.key(g)
			resp := g.do(request{target: "/.device/session?format=" + row.format, header: row.asked(g, key)})
			if resp.StatusCode != row.status {
				t.Errorf("%d %s", resp.StatusCode, g.body)
			}
			if row.want == "" {
				if key != "" && strings.Contains(g.body, key) {
					t.Errorf("the key is in %s", g.body)
				}
				return
			}
			if want := strings.ReplaceAll(row.want, "{key}", key); g.body != want || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%q, want %q; %v", g.body, want, resp.Header)
			}
		})
	}
}

func asBearer(_ *gate, key string) map[string]string { return bearer(key) }
