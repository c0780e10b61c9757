// This file holds the tests of requests that come past their session's tokens.

package caddydevice

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// stale is a signed-in terminal whose tokens ran out a moment ago.
func (g *gate) stale() string {
	g.t.Helper()
	key := g.begun(curlHeaders)
	g.approveWith(key, nil, func(id *session.Identity) {
		id.TokensSince, id.TokensUntil = time.Now().Add(-time.Minute), time.Now().Add(-time.Second)
	})
	return key
}

// refreshes are the refreshes that the identity provider was asked for.
func (g *gate) refreshes() int {
	n := 0
	for _, c := range g.idp.Calls("/token") {
		if c.Form.Get("grant_type") == "refresh_token" {
			n++
		}
	}
	return n
}

// TestStaleWaitsForOneRefresh: whoever comes meanwhile gets the upstream's
// answer, by one refresh.
func TestStaleWaitsForOneRefresh(t *testing.T) {
	g := newGate(t, nil)
	asked, answer := make(chan struct{}), make(chan struct{})
	g.idp.Refresh = func(int, string) idptest.Reply {
		close(asked)
		<-answer
		return g.idp.Tokens(nil)
	}
	key := g.stale()
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	})
	const clients = 200
	var statuses [clients]int
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			w := httptest.NewRecorder()
			r := newRequest(t, "/", bearer(key))
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
			if err := g.ServeHTTP(w, r, next); err != nil {
				t.Error(err)
			}
			statuses[i] = w.Code
		})
	}
	<-asked
	close(answer)
	wg.Wait()
	for i, status := range statuses {
		if status != http.StatusTeapot {
			t.Fatalf("client %d: %d", i, status)
		}
	}
	if n := g.refreshes(); n != 1 {
		t.Errorf("%d refreshes", n)
	}
}

// TestStaleWithoutARefresh: what the client is told.
func TestStaleWithoutARefresh(t *testing.T) {
	for name, c := range map[string]struct {
		reply  idptest.Reply
		status int
		says   string
		over   bool
	}{
		"outage":  {idptest.Reply{Status: 502}, 503, "Nobody is signed out by this.", false},
		"busy":    {idptest.Reply{Status: 429, Header: http.Header{"Retry-After": {"120"}}}, 503, "temporarily_unavailable", false},
		"refused": {idptest.Error(400, "invalid_grant"), 401, "no longer renews this sign-in", true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, nil)
			g.idp.Refresh = func(int, string) idptest.Reply { return c.reply }
			key := g.stale()
			for range 3 {
				header := with(jsonHeaders, "Authorization", "Bearer "+key)
				resp := g.do(request{target: "/", header: header})
				if resp.StatusCode != c.status || !strings.Contains(g.body, c.says) || g.upstream != nil {
					t.Errorf("%d %s", resp.StatusCode, g.body)
				}
				if resp.Header.Get("Set-Cookie") != "" {
					t.Error("a cookie was touched")
				}
				if after, _ := strconv.Atoi(resp.Header.Get("Retry-After")); (after > 0) == c.over || name == "busy" && after < 100 {
					t.Errorf("Retry-After: %d", after)
				}
			}
			if n := g.refreshes(); n != 1 {
				t.Errorf("%d refreshes", n)
			}
			if got := g.session(key).Now().State.Over(); got != c.over {
				t.Errorf("over: %t", got)
			}
		})
	}
}

// TestStaleWaitsNoLonger than a request to the identity provider may take; the
// refresh goes on without its client.
func TestStaleWaitsNoLonger(t *testing.T) {
	g := newGate(t, map[string]any{"idp_timeout": "100ms"})
	answer := make(chan struct{})
	g.idp.Refresh = func(int, string) idptest.Reply {
		<-answer
		return g.idp.Tokens(nil)
	}
	key := g.stale()
	resp := g.do(request{target: "/", header: bearer(key)})
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", resp.StatusCode, g.body)
	}
	next := g.session(key).Now().Next()
	close(answer)
	<-next
	if resp := g.do(request{target: "/", header: bearer(key)}); resp.StatusCode != http.StatusOK || g.refreshes() != 1 {
		t.Errorf("%d after %d refreshes", resp.StatusCode, g.refreshes())
	}
}

// TestRoleTakenAway: the route is closed with the refresh that says so.
func TestRoleTakenAway(t *testing.T) {
	g := newGate(t, map[string]any{"require": []any{map[string]any{"claim": "groups", "values": []any{"admins"}}}})
	g.idp.Claims = map[string]any{"groups": []string{"staff"}}
	key := g.stale()
	if resp := g.do(request{target: "/", header: bearer(key)}); resp.StatusCode != http.StatusForbidden || g.upstream != nil {
		t.Errorf("%d %s", resp.StatusCode, g.body)
	}
}

// TestAwaySaysSo: a sign-in that waits for the identity provider, in each form.
func TestAwaySaysSo(t *testing.T) {
	g := newGate(t, nil)
	for name, header := range map[string]map[string]string{"text": curlHeaders, "JSON": jsonHeaders, "HTML": browserHeaders} {
		key := g.begun(header)
		g.session(key).Away(time.Now().Add(time.Minute))
		resp := g.do(request{target: "/", header: g.cookieOf(maps.Clone(header), key)})
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(g.body, "does not answer at the moment") || !strings.Contains(g.body, "WDJB-") {
			t.Errorf("%s: %d %s", name, resp.StatusCode, g.body)
		}
		g.session(key).Away(time.Time{})
		g.do(request{target: "/", header: g.cookieOf(maps.Clone(header), key)})
		if strings.Contains(g.body, "does not answer") {
			t.Errorf("%s, once it answers again: %s", name, g.body)
		}
	}
}
