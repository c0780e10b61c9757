// This file holds the tests of logouts: the client's own, and those that the
// identity provider tells of.

package caddydevice

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

var formHeaders = map[string]string{"Content-Type": "application/x-www-form-urlencoded"}

// logoutToken posts a token as an identity provider does.
func (g *gate) logoutToken(tokens ...string) *http.Response {
	g.t.Helper()
	form := url.Values{"logout_token": tokens}
	return g.do(request{method: http.MethodPost, target: "/.device/backchannel-logout", header: formHeaders, body: form.Encode()})
}

// signedIn is a signed-in terminal of that person, in a session of theirs at the
// identity provider.
func (g *gate) signedIn(sub, sid string) string {
	g.t.Helper()
	key := g.begun(curlHeaders)
	g.approveWith(key, map[string]any{"sub": sub}, func(id *session.Identity) { id.Subject, id.SessionID = sub, sid })
	return key
}

// TestBackchannelLogout: whose sessions end.
func TestBackchannelLogout(t *testing.T) {
	for name, c := range map[string]struct {
		claims map[string]any
		ends   []string
	}{
		"by sid":         {map[string]any{"sid": "one", "sub": nil}, []string{"alice one"}},
		"by sid and sub": {map[string]any{"sid": "one", "sub": "alice"}, []string{"alice one"}},
		// her ID token had none: it may have been this one
		"by sid and sub, no sid known": {map[string]any{"sid": "one", "sub": "dora"}, []string{"alice one", "dora "}},
		"by sub":                       {map[string]any{"sub": "alice"}, []string{"alice one", "alice two"}},
		"unknown sid":                  {map[string]any{"sid": "three", "sub": "alice"}, nil},
		"unknown sub":                  {map[string]any{"sub": "carol"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, nil)
			keys := map[string]string{}
			for _, who := range []string{"alice one", "alice two", "bob four", "dora "} {
				sub, sid, _ := strings.Cut(who, " ")
				keys[who] = g.signedIn(sub, sid)
			}
			token := g.idp.LogoutToken(func(claims map[string]any) {
				for name, value := range c.claims {
					if claims[name] = value; value == nil {
						delete(claims, name)
					}
				}
			})
			if resp := g.logoutToken(token); resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%d %s", resp.StatusCode, g.body)
			}
			for who, key := range keys {
				resp := g.do(request{target: "/", header: bearer(key)})
				if ended := slices.Contains(c.ends, who); ended != (resp.StatusCode == http.StatusUnauthorized) {
					t.Errorf("%s: %d", who, resp.StatusCode)
				} else if ended && !strings.Contains(g.body, "ended at the identity provider") {
					t.Errorf("%s is told %s", who, g.body)
				}
			}
		})
	}
}

// TestBackchannelLogoutRefused: what is no logout token of ours ends nothing.
// What makes one is tested where it is verified.
func TestBackchannelLogoutRefused(t *testing.T) {
	g := newGate(t, nil)
	key := g.signedIn("alice", "one")
	good := func() string {
		return g.idp.LogoutToken(func(claims map[string]any) { claims["sub"], claims["sid"] = "alice", "one" })
	}
	post := func(contentType, body string) *http.Response {
		return g.do(request{method: http.MethodPost, target: "/.device/backchannel-logout", header: map[string]string{"Content-Type": contentType}, body: body})
	}
	for name, send := range map[string]func() *http.Response{
		"none":        func() *http.Response { return g.logoutToken() },
		"two":         func() *http.Response { return g.logoutToken(good(), good()) },
		"an ID token": func() *http.Response { return g.logoutToken(g.idp.IDToken(nil)) },
		"of another client": func() *http.Response {
			return g.logoutToken(g.idp.LogoutToken(func(c map[string]any) { c["aud"] = "other" }))
		},
		"nothing of a token": func() *http.Response { return g.logoutToken("x") },
		"as JSON":            func() *http.Response { return post("application/json", `{"logout_token":"`+good()+`"}`) },
		"in the query": func() *http.Response {
			return g.do(request{method: http.MethodPost, target: "/.device/backchannel-logout?logout_token=" + good(), header: formHeaders})
		},
	} {
		resp := send()
		if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", name, resp.StatusCode, resp.Header)
		}
	}
	if resp := g.do(request{target: "/.device/backchannel-logout"}); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %d %v", resp.StatusCode, resp.Header)
	}
	if resp := g.do(request{target: "/", header: bearer(key)}); resp.StatusCode != http.StatusOK {
		t.Errorf("the session: %d", resp.StatusCode)
	}
}

// TestReplayedLogout: the person may have signed in again since.
func TestReplayedLogout(t *testing.T) {
	g := newGate(t, nil)
	first := g.signedIn("alice", "one")
	token := g.idp.LogoutToken(func(claims map[string]any) { claims["sub"] = "alice" })
	g.logoutToken(token)
	if resp := g.do(request{target: "/", header: bearer(first)}); resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("the first session: %d", resp.StatusCode)
	}
	key := g.begun(curlHeaders)
	g.approveWith(key, map[string]any{"sub": "alice"}, func(id *session.Identity) {
		id.Subject, id.Asked = "alice", time.Now().Add(time.Minute) // the clock of this test does not wait
	})
	if resp := g.logoutToken(token); resp.StatusCode != http.StatusOK {
		t.Errorf("again: %d", resp.StatusCode)
	}
	if resp := g.do(request{target: "/", header: bearer(key)}); resp.StatusCode != http.StatusOK {
		t.Errorf("the second session: %d %s", resp.StatusCode, g.body)
	}
}

// TestBackchannelLogoutInAFault: it was not heeded, and may be told again.
func TestBackchannelLogoutInAFault(t *testing.T) {
	g := newGate(t, nil)
	key := g.signedIn("alice", "one")
	g.idp.Always("/jwks", idptest.Reply{Status: http.StatusBadGateway})
	token := g.idp.LogoutToken(func(claims map[string]any) { claims["sid"] = "one" })
	if resp := g.logoutToken(token); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if resp := g.do(request{target: "/", header: bearer(key)}); resp.StatusCode != http.StatusOK {
		t.Errorf("the session: %d", resp.StatusCode)
	}
}

// TestLogoutRevokes: both tokens, without the client waiting for it; and the
// page leads to the identity provider's own sign-out.
func TestLogoutRevokes(t *testing.T) {
	g := newGate(t, nil)
	g.do(request{target: "/", header: curlHeaders}) // discovery is known
	release := make(chan struct{})
	g.idp.Answer("/revoke", func() (idptest.Reply, bool) { <-release; return idptest.Reply{Status: 200}, true })
	key := g.terminal()
	if resp := g.do(request{method: http.MethodPost, target: "/.device/logout", header: bearer(key)}); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("%d %s", resp.StatusCode, g.body)
	}
	close(release)
	for deadline := time.Now().Add(10 * time.Second); len(g.idp.Calls("/revoke")) < 2; {
		if time.Now().After(deadline) {
			t.Fatalf("%d tokens were revoked", len(g.idp.Calls("/revoke")))
		}
		time.Sleep(time.Millisecond)
	}
	for i, want := range []string{"refresh-canary", "access-canary"} {
		if form := g.idp.Calls("/revoke")[i].Form; form.Get("token") != want || form.Get("token_type_hint") != want[:strings.Index(want, "-")]+"_token" {
			t.Errorf("revocation %d: %v", i, form)
		}
	}
}

func TestEndSessionLink(t *testing.T) {
	for name, has := range map[string]bool{"there": true, "missing": false} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, nil)
			g.idp.Metadata = func(md map[string]any) {
				if !has {
					delete(md, "end_session_endpoint")
				}
			}
			key := g.kiosk()
			resp := g.do(request{method: "POST", target: "/.device/logout", header: with(g.cookieOf(browserHeaders, key), "Sec-Fetch-Site", "same-origin")})
			for form, header := range map[string]map[string]string{"HTML": browserHeaders, "text": curlHeaders, "JSON": jsonHeaders} {
				after := g.do(request{target: resp.Header.Get("Location"), header: header})
				if after.StatusCode != http.StatusUnauthorized || strings.Contains(g.body, "/logout?client_id=gate") != has || !strings.Contains(g.body, "ou have signed out") {
					t.Errorf("%s: %d %s", form, after.StatusCode, g.body)
				}
			}
			g.do(request{target: "/.device/session", header: curlHeaders})
			if strings.Contains(g.body, "client_id=gate") {
				t.Error("the link is shown to who has not signed out")
			}
		})
	}
}

// TestLogoutTokenForTwoClients: that one has heeded a token is not the other's
// business, nor that its caller has hung up meanwhile.
func TestLogoutTokenForTwoClients(t *testing.T) {
	const issuer = "https://idp.example"
	st := store.NewMemory()
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	for _, clientID := range []string{"one", "two"} {
		client, err := idp.New(idp.Config{Issuer: issuer, ClientID: clientID})
		if err != nil {
			t.Fatal(err)
		}
		e := newEngine(engineKey{issuer: issuer, clientID: clientID}, client, st)
		defer e.table.Close()
		defer e.keeper.Close()
		s, _, err := e.table.Create(t.Context(), session.New{Kind: session.Terminal, Site: "api.example.com", Login: session.Login{Expires: time.Now().Add(time.Minute)}, Lifetime: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Activate(t.Context(), session.Identity{Issuer: issuer, Subject: "alice", Asked: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if err := e.logOut(gone, &idp.Logout{Issuer: issuer, Subject: "alice", ID: "jti-1"}); err != nil {
			t.Error(err)
		}
		if snap := s.Now(); snap.Reason != session.LoggedOut {
			t.Errorf("%s: %s %q", clientID, snap.State, snap.Reason)
		}
	}
}
