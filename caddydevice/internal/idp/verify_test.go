// This file holds the tests of what an ID token must say.

package idp

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// usual are the claims of a good ID token.
func usual() map[string]any {
	return map[string]any{"iss": issuer, "aud": "gate", "sub": "sub-alice", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
}

func payload(claims map[string]any) []byte {
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return b
}

func verify(c *Client, idToken string) (*Identity, error) {
	return c.Verify(context.Background(), Tokens{Access: "access-canary", ID: secret.String(idToken)})
}

// wantInvalid expects that a token signs nobody in, for good.
func wantInvalid(t *testing.T, name string, who *Identity, err error) {
	t.Helper()
	if err == nil || who != nil {
		t.Errorf("%s: passes as %+v", name, who)
	} else if errors.Is(err, ErrTemporary) {
		t.Errorf("%s: may pass later: %v", name, err)
	} else if len(err.Error()) > 600 || strings.Contains(err.Error(), "canary") {
		t.Errorf("%s: the error is %q", name, err)
	}
}

func TestClaims(t *testing.T) {
	now := func(d time.Duration) func() any { return func() any { return time.Now().Add(d).Unix() } }
	raw := func(text string) func() any { return func() any { return json.RawMessage(text) } }
	is := func(v any) func() any { return func() any { return v } }
	missing := func() any { return nil }
	atHash := sha256.Sum256([]byte("access-canary"))
	for _, c := range []struct {
		claim, name string
		value       func() any
		good        bool
	}{
		{"iss", "with a slash", is(issuer + "/"), false},
		{"iss", "in capitals", is("https://IDP.example"), false},
		{"iss", "other tenant", is(issuer + "/t2"), false},
		{"iss", "look-alike", is("https://idр.example"), false},
		{"iss", "array", is([]string{issuer}), false},
		{"iss", "missing", missing, false},
		{"iss", "empty", is(""), false},
		{"aud", "other", is("other"), false},
		{"aud", "longer", is("gate2"), false},
		{"aud", "shorter", is("gat"), false},
		{"aud", "in capitals", is("GATE"), false},
		{"aud", "array of ours", is([]string{"gate"}), true},
		{"aud", "ours twice", is([]string{"gate", "gate"}), true},
		{"aud", "several", is([]string{"gate", "other"}), false},
		{"aud", "array without", is([]string{"other"}), false},
		{"aud", "empty array", is([]string{}), false},
		{"aud", "nested", raw(`[["gate"]]`), false},
		{"aud", "number", is(5), false},
		{"aud", "missing", missing, false},
		{"aud", "object", raw(`{"gate":1}`), false},
		{"azp", "ours", is("gate"), true},
		{"azp", "another client", is("other"), false},
		{"azp", "empty", is(""), false},
		{"azp", "number", is(1), false},
		{"exp", "missing", missing, false},
		{"exp", "string", func() any { return fmt.Sprint(time.Now().Add(time.Hour).Unix()) }, false},
		{"exp", "fraction", func() any { return float64(time.Now().Add(time.Hour).Unix()) + 0.5 }, true},
		{"exp", "1e308", raw("1e308"), false},
		{"exp", "1e400", raw("1e400"), false},
		{"exp", "2^63", raw("9223372036854775808"), false},
		{"exp", "2^53", raw("9007199254740992"), false},
		{"exp", "-1", is(-1), false},
		{"exp", "0", is(0), false},
		{"exp", "true", is(true), false},
		{"exp", "null", raw("null"), false},
		{"exp", "array", raw("[]"), false},
		{"exp", "now", now(0), true},
		{"exp", "inside the leeway", now(-29 * time.Second), true},
		{"exp", "at the leeway", now(-30 * time.Second), false},
		{"exp", "past the leeway", now(-31 * time.Second), false},
		{"nbf", "past", now(-time.Hour), true},
		{"nbf", "inside the leeway", now(29 * time.Second), true},
		{"nbf", "past the leeway", now(35 * time.Second), false},
		{"nbf", "string", is("1"), false},
		{"nbf", "null", raw("null"), false},
		{"nbf", "1e308", raw("1e308"), false},
		{"iat", "inside the leeway", now(29 * time.Second), true},
		{"iat", "past the leeway", now(35 * time.Second), false},
		{"iat", "string", is("1"), false},
		{"iat", "object", raw("{}"), false},
		{"iat", "missing", missing, true},
		{"sub", "missing", missing, false},
		{"sub", "empty", is(""), false},
		{"sub", "number", is(42), false},
		{"sub", "array", raw(`["a"]`), false},
		{"sub", "10 kB", is(strings.Repeat("s", 10_000)), false},
		{"sub", "256 bytes", is(strings.Repeat("s", 256)), false},
		{"sub", "255 bytes", is(strings.Repeat("s", 255)), true},
		{"sub", "control", is("a\x1b[2Jb"), false},
		{"sub", "newline", is("a\nb"), false},
		{"sub", "bidi", is("a\u202eb"), false},
		{"sub", "null", raw("null"), false},
		{"sub", "spaces around", is(" a "), false},
		{"sub", "not ASCII", is("zoë"), true},
		{"at_hash", "right", is(base64.RawURLEncoding.EncodeToString(atHash[:16])), true},
		{"at_hash", "of another", is(b64("0123456789abcdef")), false},
		{"at_hash", "number", is(1), false},
		{"at_hash", "padded", is(base64.URLEncoding.EncodeToString(atHash[:16])), false},
		{"sid", "string", is("s-1"), true},
		{"sid", "number", is(1), false},
		{"typ", "logout token", is("Logout"), false},
		{"typ", "ID", is("ID"), true},
		{"events", "of a logout token", raw(`{"http://schemas.openid.net/event/backchannel-logout":{}}`), false},
		{"events", "null", raw("null"), false},
		{"SUB", "like sub", is("mallory"), false},
		{"ſub", "like sub", is("mallory"), false},
		{"Aud", "like aud", is("gate"), false},
		{"EXP", "like exp", is(1 << 40), false},
		{"name", "anything", is("Zoë \x1b"), true},
		{"nonce", "not asked for", is("n"), true},
	} {
		t.Run(c.claim+" "+c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				claims := usual()
				if claims[c.claim] = c.value(); claims[c.claim] == nil {
					delete(claims, c.claim)
				}
				who, err := verify(newClient(t, p), p.Sign(rawPayload(claims), nil))
				if !c.good {
					wantInvalid(t, "token", who, err)
				} else if err != nil || who.Issuer != issuer || fmt.Sprint(claims["sub"]) != who.Subject {
					t.Errorf("refused: %v", err)
				}
			})
		})
	}
}

// rawPayload encodes also numbers that encoding/json would refuse to.
func rawPayload(claims map[string]any) []byte {
	parts := []string{}
	for name, value := range claims {
		key, _ := json.Marshal(name)
		text, ok := value.(json.RawMessage)
		if !ok {
			text, _ = json.Marshal(value)
		}
		parts = append(parts, string(key)+":"+string(text))
	}
	return []byte("{" + strings.Join(parts, ",") + "}")
}

func TestIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		claims := usual()
		maps.Copy(claims, map[string]any{"sid": "s-1", "aud": []string{"other", "gate"}, "azp": "gate", "big": json.RawMessage("12345678901234567890")})
		who, err := verify(newClient(t, p), p.Sign(payload(claims), nil))
		if err != nil {
			t.Fatal(err)
		}
		if who.Subject != "sub-alice" || who.SessionID != "s-1" || fmt.Sprint(who.Claims["big"]) != "12345678901234567890" || who.Expiry.Unix() != time.Now().Add(time.Hour).Unix() {
			t.Errorf("%+v", who)
		}
	})
}

func TestHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		header map[jose.HeaderKey]any
		good   bool
	}{
		"nothing more": {nil, true}, "typ JWT": {map[jose.HeaderKey]any{"typ": "JWT"}, true}, "typ jwt": {map[jose.HeaderKey]any{"typ": "jwt"}, true},
		"typ application/jwt": {map[jose.HeaderKey]any{"typ": "application/jwt"}, true}, "an unknown member": {map[jose.HeaderKey]any{"x": 1}, true},
		"access token": {map[jose.HeaderKey]any{"typ": "at+jwt"}, false}, "application/at+jwt": {map[jose.HeaderKey]any{"typ": "application/at+jwt"}, false},
		"AT+JWT": {map[jose.HeaderKey]any{"typ": "AT+JWT"}, false}, "logout token": {map[jose.HeaderKey]any{"typ": "logout+jwt"}, false},
		"JWT with a tail": {map[jose.HeaderKey]any{"typ": "JWT;x"}, false}, "typ number": {map[jose.HeaderKey]any{"typ": 1}, false},
		"typ twice": {map[jose.HeaderKey]any{"typ": "at+jwt", "TYP": "JWT"}, false},
		"crit":      {map[jose.HeaderKey]any{"crit": []string{"x"}, "x": 1}, false}, "crit empty": {map[jose.HeaderKey]any{"crit": []string{}}, false},
		"crit of nothing": {map[jose.HeaderKey]any{"crit": []string{"absent"}}, false}, "crit null": {map[jose.HeaderKey]any{"crit": nil}, false},
		"b64": {map[jose.HeaderKey]any{"b64": false, "crit": []string{"b64"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				who, err := verify(newClient(t, p), p.Sign(payload(usual()), c.header))
				if c.good && err != nil {
					t.Errorf("refused: %v", err)
				} else if !c.good {
					wantInvalid(t, "token", who, err)
				}
			})
		})
	}
}

// TestForgeries takes a good token apart. None of it may pass, whatever the
// bytes are signed with.
func TestForgeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guarded{Provider: newProvider()}
		c := newClient(t, g)
		good := g.Sign(payload(usual()), nil)
		if _, err := verify(c, good); err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(good, ".")
		admin := usual()
		admin["sub"] = "admin"
		changed := b64(string(payload(admin)))
		forged := map[string]string{
			"changed payload": parts[0] + "." + changed + "." + parts[2], "no signature": parts[0] + "." + parts[1] + ".", "two parts": parts[0] + "." + parts[1],
			"one part": parts[0], "four parts": good + ".x", "five parts": parts[0] + "...." + parts[2], "dots": strings.Repeat(".", 15_000), "empty parts": "..",
			"signature of zeros": parts[0] + "." + parts[1] + "." + b64(strings.Repeat("\x00", 64)), "short signature": parts[0] + "." + parts[1] + "." + parts[2][:40],
			"long signature": good + "AAAA", "r and s too large": parts[0] + "." + parts[1] + "." + b64(strings.Repeat("\xff", 64)),
			"DER signature": parts[0] + "." + parts[1] + "." + b64("\x30\x06\x02\x01\x01\x02\x01\x01"), "larger than allowed": good + strings.Repeat("A", maxToken),
			"two signatures": `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"},{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`,
			"JSON form":      `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
			"not a token":    "opaque", "header not JSON": b64("x") + "." + parts[1] + "." + parts[2], "header null": b64("null") + "." + parts[1] + "." + parts[2],
			"JWE": b64(`{"alg":"dir","enc":"A256GCM"}`) + "..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA", "nested": g.Sign([]byte(good), map[jose.HeaderKey]any{"cty": "JWT"}),
			"payload not an object": g.Sign([]byte(`["x"]`), nil), "payload not JSON": g.Sign([]byte("x"), nil),
		}
		for _, alg := range []string{"none", "None", "NONE", "nOnE", "", "HS256", "es256", "ES256K", "RS256", "ES384", "dir", "PBES2-HS256+A128KW"} {
			head := b64(`{"alg":"` + alg + `","kid":"key-1"}`)
			forged["alg "+alg+" kept signature"] = head + "." + parts[1] + "." + parts[2]
			forged["alg "+alg+" no signature"] = head + "." + changed + "."
		}
		forged["no alg"] = b64(`{"kid":"key-1"}`) + "." + changed + "." + parts[2]
		for name, token := range forged {
			time.Sleep(keyCooldown) // so that keys are asked for each time, and "later" is ruled out
			who, err := verify(c, token)
			wantInvalid(t, name, who, err)
		}
		who, err := verify(c, "")
		wantInvalid(t, "none", who, err)
		if g.strays.Load() != 0 {
			t.Error("somebody else was asked")
		}
	})
}

func TestOversizeTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		big := secret.String(strings.Repeat("a", maxToken+1))
		tok := approved(p, nil)
		for name, change := range map[string]func(*Tokens){
			"access": func(t *Tokens) { t.Access = big }, "refresh": func(t *Tokens) { t.Refresh = big },
			"ID": func(t *Tokens) { t.ID = secret.String(p.IDToken(func(m map[string]any) { m["pad"] = big.Reveal() })) },
		} {
			changed := tok
			change(&changed)
			who, err := c.Verify(context.Background(), changed)
			wantInvalid(t, name, who, err)
		}
		if _, err := c.Verify(context.Background(), tok); err != nil {
			t.Error(err)
		}
	})
}

func TestVerifyWithoutDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		tok := approved(p, nil)
		up := false
		p.Metadata = func(md map[string]any) {
			if !up {
				md["issuer"] = "https://other.example"
			}
		}
		c := newClient(t, p)
		if _, err := c.Verify(context.Background(), tok); !errors.Is(err, ErrTemporary) {
			t.Errorf("%v, want ErrTemporary", err)
		}
		time.Sleep(time.Minute)
		up = true
		if _, err := c.Verify(context.Background(), tok); err != nil {
			t.Error(err)
		}
	})
}
