// This file holds the tests of logout tokens (OpenID Connect Back-Channel
// Logout 1.0 §2.4, §2.6).

package idp

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func verifyLogout(c *Client, token string) (*Logout, error) {
	return c.VerifyLogout(context.Background(), token)
}

// usualLogout are the claims of a good logout token with both names.
func usualLogout() map[string]any {
	return map[string]any{
		"iss": issuer, "aud": "gate", "sub": "sub-alice", "sid": "s-1", "jti": "id-1",
		"iat": time.Now().Unix(), "exp": time.Now().Add(2 * time.Hour).Unix(), "events": raw(`{"` + logoutEvent + `":{}}`),
	}
}

func raw(text string) json.RawMessage { return json.RawMessage(text) }

var logoutJWT = map[jose.HeaderKey]any{"typ": "logout+jwt"}

func wantNoLogout(t *testing.T, name string, out *Logout, err error) {
	t.Helper()
	if err == nil || out != nil {
		t.Errorf("%s: passes as %+v", name, out)
	} else if errors.Is(err, ErrTemporary) {
		t.Errorf("%s: may pass later: %v", name, err)
	} else if len(err.Error()) > 600 || strings.Contains(err.Error(), "canary") {
		t.Errorf("%s: the error is %q", name, err)
	}
}

func TestLogoutClaims(t *testing.T) {
	at := func(d time.Duration) func() any { return func() any { return time.Now().Add(d).Unix() } }
	is := func(v any) func() any { return func() any { return v } }
	missing := is(nil)
	for _, c := range []struct {
		claim, name string
		value       func() any
		good        bool
	}{
		{"iss", "another", is("https://other.example"), false},
		{"iss", "with a slash", is(issuer + "/"), false},
		{"iss", "array", is([]string{issuer}), false},
		{"iss", "missing", missing, false},
		{"aud", "another", is("other"), false},
		{"aud", "missing", missing, false},
		{"aud", "null", is(raw("null")), false},
		{"aud", "empty array", is([]string{}), false},
		{"aud", "array of others", is([]string{"other", "more"}), false},
		{"aud", "array of ours", is([]string{"gate"}), true},
		{"aud", "several", is([]string{"other", "gate"}), true},
		{"aud", "several, not all strings", is(raw(`["gate",5]`)), false},
		{"aud", "object", is(raw(`{"gate":1}`)), false},
		{"azp", "another", is("other"), true}, // §2.6 has no rule for it
		{"iat", "missing", missing, false},
		{"iat", "null", is(raw("null")), false},
		{"iat", "string", is("1"), false},
		{"iat", "inside the leeway", at(29 * time.Second), true},
		{"iat", "in the future", at(35 * time.Second), false},
		{"iat", "24 h ago", at(-maxLogoutAge), true},
		{"iat", "longer ago", at(-maxLogoutAge - 31*time.Second), false},
		{"exp", "missing", missing, false},
		{"exp", "null", is(raw("null")), false},
		{"exp", "string", is("9999999999"), false},
		{"exp", "1e400", is(raw("1e400")), false},
		{"exp", "inside the leeway", at(-29 * time.Second), true},
		{"exp", "past", at(-31 * time.Second), false},
		{"nbf", "in the future", at(35 * time.Second), false},
		{"jti", "missing", missing, false},
		{"jti", "empty", is(""), false},
		{"jti", "number", is(5), false},
		{"jti", "null", is(raw("null")), false},
		{"jti", "too long", is(strings.Repeat("j", maxSubject+1)), false},
		{"jti", "control", is("a\nb"), false},
		{"events", "missing", missing, false},
		{"events", "null", is(raw("null")), false},
		{"events", "string", is(logoutEvent), false},
		{"events", "array", is([]string{logoutEvent}), false},
		{"events", "empty", is(raw("{}")), false},
		{"events", "another event", is(raw(`{"http://schemas.openid.net/event/frontchannel-logout":{}}`)), false},
		{"events", "https", is(raw(`{"https://schemas.openid.net/event/backchannel-logout":{}}`)), false},
		{"events", "in capitals", is(raw(`{"HTTP://schemas.openid.net/event/backchannel-logout":{}}`)), false},
		{"events", "the event is null", is(raw(`{"` + logoutEvent + `":null}`)), false},
		{"events", "the event is a string", is(raw(`{"` + logoutEvent + `":""}`)), false},
		{"events", "the event is an array", is(raw(`{"` + logoutEvent + `":[]}`)), false},
		{"events", "the event is true", is(raw(`{"` + logoutEvent + `":true}`)), false},
		{"events", "the event has members", is(raw(`{"` + logoutEvent + `":{"x":1}}`)), true},
		{"events", "more events", is(raw(`{"` + logoutEvent + `":{},"revoke_offline_access":true}`)), true}, // Keycloak's
		{"Events", "like events", is(raw(`{"` + logoutEvent + `":{}}`)), false},
		{"nonce", "there", is("n"), false},
		{"nonce", "empty", is(""), false},
		{"nonce", "null", is(raw("null")), false},
		{"sub", "missing", missing, true}, // sid is there
		{"sub", "empty", is(""), false},
		{"sub", "null", is(raw("null")), false},
		{"sub", "number", is(42), false},
		{"sub", "too long", is(strings.Repeat("s", maxSubject+1)), false},
		{"sub", "255 bytes", is(strings.Repeat("s", maxSubject)), true},
		{"sub", "bidi", is("a\u202eb"), false},
		{"SUB", "like sub", is("sub-mallory"), false},
		{"sid", "missing", missing, true}, // sub is there
		{"sid", "empty", is(""), false},
		{"sid", "null", is(raw("null")), false},
		{"sid", "number", is(42), false},
		{"sid", "too long", is(strings.Repeat("s", maxSubject+1)), false},
		{"sid", "control", is("a\x1b[2Jb"), false},
		{"ſid", "like sid", is("s-2"), false},
		{"typ", "Logout", is("Logout"), true}, // Keycloak's
		{"typ", "ID", is("ID"), false},
		{"typ", "Bearer", is("Bearer"), false},
		{"typ", "empty", is(""), false},
		{"typ", "null", is(raw("null")), false},
		{"typ", "number", is(1), false},
		{"trace", "anything", is(raw("[]")), true},
	} {
		t.Run(c.claim+" "+c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				claims := changed(usualLogout(), map[string]any{c.claim: c.value()})
				out, err := verifyLogout(newClient(t, p), p.Sign(rawPayload(claims), logoutJWT))
				if !c.good {
					wantNoLogout(t, "token", out, err)
					return
				}
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				sub, _ := claims["sub"].(string)
				sid, _ := claims["sid"].(string)
				if want := (Logout{issuer, sub, sid, "id-1", time.Unix(claims["iat"].(int64), 0), time.Unix(claims["exp"].(int64), 0)}); *out != want {
					t.Errorf("%+v, want %+v", *out, want)
				}
			})
		})
	}
}

func TestLogoutHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		header map[jose.HeaderKey]any
		good   bool
	}{
		"no type": {nil, true}, "JWT": {map[jose.HeaderKey]any{"typ": "JWT"}, true}, "logout+jwt": {logoutJWT, true},
		"Logout+JWT": {map[jose.HeaderKey]any{"typ": "Logout+JWT"}, true}, "application/logout+jwt": {map[jose.HeaderKey]any{"typ": "application/logout+jwt"}, true},
		"at+jwt": {map[jose.HeaderKey]any{"typ": "at+jwt"}, false}, "secevent+jwt": {map[jose.HeaderKey]any{"typ": "secevent+jwt"}, false},
		"with a tail": {map[jose.HeaderKey]any{"typ": "logout+jwt;x"}, false}, "number": {map[jose.HeaderKey]any{"typ": 1}, false},
		"crit": {map[jose.HeaderKey]any{"typ": "logout+jwt", "crit": []string{"x"}, "x": 1}, false}, "cty": {map[jose.HeaderKey]any{"cty": "JWT"}, false},
		"an unknown member": {map[jose.HeaderKey]any{"x": 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				out, err := verifyLogout(newClient(t, p), p.Sign(rawPayload(usualLogout()), c.header))
				if c.good && err != nil {
					t.Errorf("refused: %v", err)
				} else if !c.good {
					wantNoLogout(t, "token", out, err)
				}
			})
		})
	}
}

// TestLogoutForgeries: nothing ends anybody's session but what the identity
// provider signed.
func TestLogoutForgeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guarded{Provider: newProvider()}
		c := newClient(t, g)
		good := g.Sign(rawPayload(usualLogout()), logoutJWT)
		if _, err := verifyLogout(c, good); err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(good, ".")
		mallory := idptest.New(issuer) // the same key id, another key
		forged := map[string]string{
			"nothing": "", "not a token": "opaque", "two parts": parts[0] + "." + parts[1], "five parts": good + "..", "no signature": parts[0] + "." + parts[1] + ".",
			"another payload": parts[0] + "." + b64(string(rawPayload(changed(usualLogout(), map[string]any{"sub": "bob"})))) + "." + parts[2],
			"another key":     mallory.Sign(rawPayload(usualLogout()), logoutJWT), "larger than allowed": g.Sign(rawPayload(changed(usualLogout(), map[string]any{"pad": strings.Repeat("a", maxToken)})), logoutJWT),
			"nested": g.Sign([]byte(good), logoutJWT), "payload not an object": g.Sign([]byte(`["x"]`), logoutJWT), "line breaks": parts[0] + "\n." + parts[1] + "." + parts[2] + "x",
			"an ID token": g.IDToken(nil), "an ID token with a sid": g.IDToken(func(m map[string]any) { m["sid"], m["jti"] = "s-1", "id-1" }),
			"an access token": g.Sign(payload(usualAccess()), atJWT),
		}
		for _, alg := range []string{"none", "None", "", "HS256", "HS512", "RS256", "ES384", "ES256K"} {
			head := b64(`{"alg":"` + alg + `","kid":"key-1","typ":"logout+jwt"}`)
			forged["alg "+alg+", kept signature"] = head + "." + parts[1] + "." + parts[2]
			forged["alg "+alg+", no signature"] = head + "." + parts[1] + "."
		}
		for name, token := range forged {
			time.Sleep(keyCooldown) // so that keys are asked for each time, and "later" is ruled out
			out, err := verifyLogout(c, token)
			wantNoLogout(t, name, out, err)
		}
		if g.strays.Load() != 0 {
			t.Error("somebody else was asked")
		}
	})
}

func TestLogoutAlgorithms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p, func(cfg *Config) { cfg.Algorithms = []string{"RS256"} })
		out, err := verifyLogout(c, p.LogoutToken(nil))
		wantNoLogout(t, "ES256", out, err)
	})
}

// TestLogoutLater: where the keys cannot be had, or may be newer, the identity
// provider may send the token again.
func TestLogoutLater(t *testing.T) {
	down := errors.New("down")
	for name, path := range map[string]string{"no discovery": wellKnown, "no keys": "/jwks"} {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider()
			c := newClient(t, p)
			p.Unreachable(path, down)
			token := p.LogoutToken(nil)
			if out, err := verifyLogout(c, token); out != nil || !errors.Is(err, ErrTemporary) {
				t.Errorf("%s: %+v, %v", name, out, err)
			}
			p.Unreachable(path, nil)
			time.Sleep(keyCooldown)
			if out, err := verifyLogout(c, token); err != nil || out.Subject != "sub-alice" || out.ID == "" {
				t.Errorf("%s: %+v, %v", name, out, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		if _, err := verifyLogout(c, p.LogoutToken(nil)); err != nil {
			t.Fatal(err)
		}
		p.Rotate("key-2")
		if out, err := verifyLogout(c, p.LogoutToken(nil)); out != nil || !errors.Is(err, ErrTemporary) {
			t.Errorf("a new key: %+v, %v", out, err)
		}
		time.Sleep(keyCooldown)
		if _, err := verifyLogout(c, p.LogoutToken(nil)); err != nil {
			t.Errorf("a new key, later: %v", err)
		}
	})
}

// TestLogoutFlood: made-up key ids cost the identity provider one request a
// cooldown.
func TestLogoutFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		mallory := idptest.New(issuer)
		for range 100 {
			mallory.Rotate("made-up-" + time.Now().String())
			if out, err := verifyLogout(c, mallory.LogoutToken(nil)); err == nil {
				t.Fatalf("passes as %+v", out)
			}
			time.Sleep(time.Millisecond)
		}
		if n := len(p.Calls("/jwks")); n != 1 {
			t.Errorf("the keys were asked for %d times", n)
		}
	})
}
