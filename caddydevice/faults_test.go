// This file tests that a fault never opens the gate and never signs anybody
// out.

package caddydevice

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// brokenStore fails every call while broken is set.
type brokenStore struct {
	store.Store
	broken bool
}

var errBroken = errors.New("store is broken: canary-of-the-store")

func (b *brokenStore) Get(ctx context.Context, id string) (store.Record, error) {
	if b.broken {
		return store.Record{}, errBroken
	}
	return b.Store.Get(ctx, id)
}

func (b *brokenStore) Put(ctx context.Context, rec store.Record) error {
	if b.broken {
		return errBroken
	}
	return b.Store.Put(ctx, rec)
}

// onBrokenStore puts a gate on a store that can be broken.
func onBrokenStore(t *testing.T) (*gate, *brokenStore) {
	g := newGate(t, nil)
	st := &brokenStore{Store: store.NewMemory()}
	key := engineKey{store: "broken", issuer: g.Issuer, clientID: g.ClientID}
	e := newEngine(key, g.engine.keeper.Client(), st)
	e.logger.Store(g.logger)
	t.Cleanup(func() { e.keeper.Close(); e.table.Close() })
	g.engine = e
	return g, st
}

// fault checks an answer that says nothing but "not now".
func (g *gate) fault(resp *http.Response) {
	g.t.Helper()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || resp.Header["Set-Cookie"] != nil || g.upstream != nil {
		g.t.Errorf("%d, Retry-After %q, Set-Cookie %q, upstream %t: %s", resp.StatusCode, resp.Header.Get("Retry-After"), resp.Header["Set-Cookie"], g.upstream != nil, g.body)
	}
	if strings.Contains(g.body, "canary") {
		g.t.Errorf("the fault's words are shown: %s", g.body)
	}
}

func TestStoreFault(t *testing.T) {
	g, st := onBrokenStore(t)
	open := g.terminal()
	closed := g.terminal()
	g.engine.table.Sweep(t.Context())
	fresh := newEngine(engineKey{store: "broken", issuer: g.Issuer, clientID: g.ClientID}, g.engine.keeper.Client(), st)
	fresh.logger.Store(g.logger)
	t.Cleanup(func() { fresh.keeper.Close(); fresh.table.Close() })

	st.broken = true
	if resp := g.do(request{target: "/", header: bearer(open)}); resp.StatusCode != http.StatusOK {
		t.Errorf("a session that is open here: %d", resp.StatusCode)
	}
	g.engine = fresh // as after a restart: nothing is open
	before := g.starts()
	for name, header := range map[string]map[string]string{
		"bearer": bearer(closed), "jar": g.cookieOf(curlHeaders, closed), "browser": g.cookieOf(browserHeaders, session.NewKey().Reveal()), "fetch": g.cookieOf(fetchHeaders, closed),
		"new terminal": curlHeaders, "new browser": browserHeaders,
	} {
		t.Run(name, func(t *testing.T) { g.fault(g.do(request{target: "/", header: header})) })
	}
	for _, target := range []string{"/.device/login", "/.device/session", "/.device/wait", "/.device/qr.svg"} {
		t.Run(target, func(t *testing.T) { g.fault(g.do(request{target: target, header: g.cookieOf(browserHeaders, closed)})) })
	}
	g.fault(g.do(request{method: "POST", target: "/.device/logout", header: bearer(closed)}))
	if g.starts() != before {
		t.Errorf("%d sign-ins were started", g.starts()-before)
	}
	g.fault(g.do(request{target: "/", header: curlHeaders})) // a new sign-in cannot be kept
	st.broken = false
	if resp := g.do(request{target: "/", header: bearer(closed)}); resp.StatusCode != http.StatusOK {
		t.Errorf("once the store is back: %d", resp.StatusCode)
	}
}

func TestProviderFaults(t *testing.T) {
	for _, row := range []struct {
		name   string
		reply  idptest.Reply
		path   string
		status int
		body   string
	}{
		{"down", idptest.Reply{Err: errBroken}, "/device", 503, "cannot be reached"},
		{"discovery down", idptest.Reply{Status: 502}, "/.well-known/openid-configuration", 503, "cannot be reached"},
		{"no device endpoint", idptest.JSON(200, map[string]any{"issuer": "x"}), "/.well-known/openid-configuration", 503, "cannot be reached"},
		{"busy", idptest.Reply{Status: 429, Header: http.Header{"Retry-After": {"120"}}}, "/device", 503, "cannot be reached"},
		{"wrong secret", idptest.Error(401, "invalid_client"), "/device", 502, "refused to start"},
		{"grant off", idptest.Error(400, "unauthorized_client"), "/device", 502, "refused to start"},
		{"dangerous address", idptest.JSON(200, map[string]any{"device_code": "c", "user_code": "u", "verification_uri": "javascript:alert(1)", "expires_in": 600}), "/device", 502, "refused to start"},
		{"escape sequences", idptest.JSON(200, map[string]any{"device_code": "c", "user_code": "\x1b[2J", "verification_uri": "https://e.com", "expires_in": 600}), "/device", 502, "refused to start"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGate(t, nil)
			g.idp.Always(row.path, row.reply)
			for name, header := range map[string]map[string]string{"curl": curlHeaders, "browser": browserHeaders, "program": jsonHeaders} {
				resp := g.do(request{target: "/", header: header})
				if resp.StatusCode != row.status || !strings.Contains(g.body, row.body) || resp.Header.Get("Retry-After") == "" || resp.Header["Set-Cookie"] != nil || g.upstream != nil {
					t.Errorf("%s: %d %v: %s", name, resp.StatusCode, resp.Header, g.body)
				}
				for _, leak := range []string{"canary", "invalid_client", "as scripted", "javascript", "\x1b", g.Issuer} {
					if strings.Contains(g.body, leak) {
						t.Errorf("%s: the answer holds %q: %s", name, leak, g.body)
					}
				}
			}
		})
	}
}

// TestBusyProviderIsLeftAlone: a 429 at the device endpoint stops all starts
// until its Retry-After.
func TestBusyProviderIsLeftAlone(t *testing.T) {
	g := newGate(t, nil)
	g.idp.Always("/device", idptest.Reply{Status: 429, Header: http.Header{"Retry-After": {"120"}}})
	for range 5 {
		resp := g.do(request{target: "/", header: curlHeaders})
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("%d", resp.StatusCode)
		}
	}
	if n := g.starts(); n != 1 {
		t.Errorf("the identity provider was asked %d times", n)
	}
}

// TestSessionOutlivesProvider: who is signed in does not notice that the
// identity provider is away.
func TestSessionOutlivesProvider(t *testing.T) {
	g := newGate(t, nil)
	key := g.terminal()
	for _, path := range []string{"/device", "/token", "/jwks", "/.well-known/openid-configuration"} {
		g.idp.Always(path, idptest.Reply{Err: errBroken})
	}
	before := len(g.idp.Calls(""))
	if resp := g.do(request{target: "/", header: bearer(key)}); resp.StatusCode != http.StatusOK {
		t.Errorf("%d", resp.StatusCode)
	}
	if n := len(g.idp.Calls("")) - before; n != 0 {
		t.Errorf("a signed-in request asked the identity provider %d times", n)
	}
}

// TestMostRest: no answer keeps everybody out for a day.
func TestMostRest(t *testing.T) {
	g := newGate(t, nil)
	g.idp.Always("/device", idptest.Reply{Status: 429, Header: http.Header{"Retry-After": {"86400"}}})
	g.fault(g.do(request{target: "/", header: curlHeaders}))
	if left := g.engine.restLeft(); left <= 0 || left > mostRest {
		t.Errorf("no sign-in for %v, want %v at the most", left, mostRest)
	}
}
