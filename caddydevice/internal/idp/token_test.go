// This file holds the tests of polls' answers and of tokens' lives.

package idp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// approved is a token answer as Poll gives it.
func approved(p *idptest.Provider, change func(map[string]any)) Tokens {
	return readToken(reply{status: 200, body: []byte(p.Tokens(change).Body)}, polled).Tokens
}

func TestPollAnswers(t *testing.T) {
	raw := func(status int, body string) idptest.Reply { return idptest.Reply{Status: status, Body: body} }
	word := func(status int, word string) idptest.Reply { return idptest.Error(status, word) }
	p := newProvider()
	withError := p.Tokens(func(m map[string]any) { m["error"] = "access_denied" })
	typed := func(kind any) idptest.Reply {
		return p.Tokens(func(m map[string]any) {
			m["token_type"] = kind
			if kind == nil {
				delete(m, "token_type")
			}
		})
	}
	plain := idptest.Pending()
	plain.Header = http.Header{"Content-Type": {"text/plain"}}
	cases := map[string]struct {
		reply idptest.Reply
		want  Outcome
	}{
		"slow_down 429": {word(429, "slow_down"), SlowDown}, "slow_down 403": {word(403, "slow_down"), SlowDown},
		"denied 403": {word(403, "access_denied"), Denied}, "declined": {word(400, "authorization_declined"), Denied},
		"denied 500": {word(500, "access_denied"), Denied},
		"expired":    {word(400, "expired_token"), Expired}, "other spelling": {word(400, "token_expired"), Expired},
		"invalid_grant": {word(400, "invalid_grant"), Invalid}, "bad code": {word(400, "bad_verification_code"), Invalid},
		"invalid_client": {word(401, "invalid_client"), Failed}, "unauthorized": {word(400, "unauthorized_client"), Failed},
		"grant type": {word(400, "unsupported_grant_type"), Failed}, "unknown word": {word(400, "teapot"), Failed},
		"word in capitals": {word(400, "AUTHORIZATION_PENDING"), Failed}, "number": {raw(400, `{"error":42}`), Failed},
		"object": {raw(400, `{"error":{}}`), Failed}, "empty word": {raw(400, `{"error":""}`), Failed},
		"server_error": {word(500, "server_error"), Transient}, "unavailable": {word(503, "temporarily_unavailable"), Transient},
		"429 in its own words": {word(429, "rate_limit_exceeded"), Transient}, "503 in its own words": {word(503, "overloaded"), Transient},
		"502 HTML": {raw(502, "<html>bad gateway"), Transient}, "200 empty": {raw(200, ""), Transient},
		"200 text": {raw(200, "OK"), Transient}, "204": {raw(204, ""), Transient}, "array": {raw(200, "[]"), Transient},
		"null": {raw(200, "null"), Transient}, "half JSON": {raw(200, `{"access_token":"a"`), Transient},
		"two objects": {raw(200, `{}{}`), Transient}, "200 without tokens": {raw(200, "{}"), Transient},
		"400 without a word": {raw(400, "{}"), Transient}, "400 HTML": {raw(400, "<html>"), Transient},
		"401 without a word": {raw(401, ""), Failed}, "403 HTML": {raw(403, "<html>"), Failed}, "404": {raw(404, "x"), Transient},
		"tokens of odd types": {raw(200, `{"access_token":5,"token_type":"Bearer"}`), Transient},
		"tokens":              {p.Tokens(nil), Approved}, "tokens and an error": {withError, Denied},
		"tokens with error null": {p.Tokens(func(m map[string]any) { m["error"] = nil }), Approved},
		"tokens as 500":          {idptest.Reply{Status: 500, Body: p.Tokens(nil).Body}, Transient},
		"bearer":                 {typed("bearer"), Approved}, "BEARER": {typed("BEARER"), Approved},
		"mac": {typed("mac"), Failed}, "DPoP": {typed("DPoP"), Failed}, "N_A": {typed("N_A"), Failed}, "no type": {typed(nil), Failed},
		"pending as text/plain": {plain, Pending},
	}
	for _, status := range []int{200, 400, 401, 403, 428, 500, 503} {
		cases[fmt.Sprint("pending ", status)] = struct {
			reply idptest.Reply
			want  Outcome
		}{word(status, "authorization_pending"), Pending}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				p.Always("/token", c.reply)
				ans := poll(newClient(t, p))
				if ans.Outcome != c.want {
					t.Errorf("%v (%v), want %v", ans.Outcome, ans.Err, c.want)
				}
				if (ans.Outcome == Approved) != (ans.Tokens != Tokens{}) || (ans.Outcome == Approved) == (ans.Err != nil) {
					t.Errorf("tokens and outcome do not agree: %+v", ans)
				}
				form := p.Calls("/token")[0].Form
				if form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:device_code" || form.Get("device_code") != "device-canary-1" {
					t.Errorf("asked with %v", form)
				}
			})
		})
	}
}

func TestPollErrorsSayLittle(t *testing.T) {
	long := strings.Repeat("x", 5000) + "\x1b[2J\u202e\n"
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		for _, r := range []idptest.Reply{
			idptest.JSON(400, map[string]any{"error": "e" + long, "error_description": long}),
			{Status: 200, Body: `{"access_token":"tok-canary","token_type":"` + strings.Repeat("y", 999) + `"}`},
			{Err: errors.New("reset")},
		} {
			p.Always("/token", r)
			text := poll(newClient(t, p)).Err.Error()
			if len(text) > 600 || strings.ContainsAny(text, "\x1b\n\u202e") || strings.Contains(text, "canary") || strings.Contains(text, issuer) {
				t.Errorf("the error is %q", text)
			}
		}
	})
}

func TestRetryAfterAndInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for value, want := range map[string]time.Duration{
			"": 0, "7": 7 * time.Second, "-7": 0, "x": 0, "99999999": 24 * time.Hour, "999999999999999999999": 0, "1.5": 0,
			time.Now().Add(time.Minute).UTC().Format(http.TimeFormat): time.Minute, "Thu, 01 Jan 1970 00:00:00 GMT": 0,
		} {
			p := newProvider()
			p.Always("/token", idptest.Reply{Status: 503, Header: http.Header{"Retry-After": {value}}})
			if got := poll(newClient(t, p)).RetryAfter; got != want {
				t.Errorf("Retry-After %q: %v, want %v", value, got, want)
			}
		}
		p := newProvider()
		p.Always("/token", idptest.JSON(400, map[string]any{"error": "slow_down", "interval": 12}))
		if ans := poll(newClient(t, p)); ans.Interval != 12*time.Second {
			t.Errorf("interval %v", ans.Interval)
		}
	})
}

func TestTokensLife(t *testing.T) {
	received := time.Unix(1_800_000_000, 0)
	idExp := received.Add(10 * time.Minute)
	jwt := func(payload string) secret.String {
		enc := base64.RawURLEncoding.EncodeToString
		return secret.String(enc([]byte("{}")) + "." + enc([]byte(payload)) + ".sig")
	}
	at := func(d time.Duration) string { return fmt.Sprintf(`{"exp":%d}`, received.Add(d).Unix()) }
	for name, c := range map[string]struct {
		access  secret.String
		expires string
		want    time.Duration
	}{
		"expires_in":                     {"opaque", "3600", time.Hour},
		"as a string":                    {"opaque", `"3600"`, time.Hour},
		"no expires_in":                  {"opaque", "null", 10 * time.Minute},
		"zero":                           {"opaque", "0", 10 * time.Minute},
		"negative":                       {"opaque", "-1", 10 * time.Minute},
		"nonsense":                       {"opaque", `{}`, 10 * time.Minute},
		"zero, exp in the token":         {jwt(at(time.Minute)), "0", time.Minute},
		"never beyond exp":               {jwt(at(time.Minute)), "1e12", time.Minute},
		"shorter than exp":               {jwt(at(time.Hour)), "60", time.Minute},
		"exp as a string":                {jwt(`{"exp":"1800000001"}`), "60", time.Minute},
		"exp that overflows":             {jwt(`{"exp":1e308}`), "0", 10 * time.Minute},
		"negative exp":                   {jwt(`{"exp":-1}`), "0", 10 * time.Minute},
		"a payload that is not JSON":     {jwt(`x`), "0", 10 * time.Minute},
		"a payload that is not base64":   {"a.!.c", "0", 10 * time.Minute},
		"huge":                           {"opaque", "1e12", 1e9 * time.Second},
		"a token of fifteen thousand .s": {secret.String(strings.Repeat(".", 15000)), "60", time.Minute},
	} {
		var s seconds
		if err := s.UnmarshalJSON([]byte(c.expires)); err != nil {
			t.Fatal(err)
		}
		tok := Tokens{Access: c.access, ExpiresIn: time.Duration(s), Received: received}
		if got := tok.Until(&Identity{Expiry: idExp}).Sub(received); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
