// This file holds the tests of a refresh's answers (RFC 6749 §6).

package idp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

const refreshToken = "refresh-canary-0"

func refresh(c *Client) Answer { return c.Refresh(context.Background(), refreshToken, false) }

func TestRefreshAnswers(t *testing.T) {
	raw := func(status int, body string) idptest.Reply { return idptest.Reply{Status: status, Body: body} }
	word := func(status int, word string) idptest.Reply { return idptest.Error(status, word) }
	p := newProvider()
	typed := func(kind string) idptest.Reply {
		return p.Tokens(func(m map[string]any) { m["token_type"] = kind })
	}
	plain := p.Tokens(nil)
	plain.Header = http.Header{"Content-Type": {"text/plain"}}
	for name, c := range map[string]struct {
		reply idptest.Reply
		want  Outcome
		sent  bool
	}{
		"tokens": {p.Tokens(nil), Approved, false}, "tokens as text": {plain, Approved, false}, "tokens as 201": {raw(201, p.Tokens(nil).Body), Approved, false},
		"bearer in small print": {typed("bearer"), Approved, false},

		"invalid_grant": {word(400, "invalid_grant"), Invalid, false}, "expired_token": {word(400, "expired_token"), Invalid, false},
		"token_expired": {word(401, "token_expired"), Invalid, false}, "invalid_grant as 200": {word(200, "invalid_grant"), Invalid, false},
		"invalid_grant as 500": {word(500, "invalid_grant"), Invalid, false}, "denied": {word(403, "access_denied"), Denied, false},
		"invalid_client": {word(401, "invalid_client"), Failed, false}, "unauthorized": {word(400, "unauthorized_client"), Failed, false},

		"invalid_request": {word(400, "invalid_request"), Transient, false}, "invalid_scope": {word(400, "invalid_scope"), Transient, false},
		"unsupported_grant_type": {word(400, "unsupported_grant_type"), Transient, false}, "server_error": {word(500, "server_error"), Transient, false},
		"unavailable": {word(503, "temporarily_unavailable"), Transient, false}, "slow_down": {word(429, "slow_down"), Transient, false},
		"authorization_pending": {word(400, "authorization_pending"), Transient, false}, "teapot": {word(418, "teapot"), Transient, false},
		"word in capitals": {word(400, "INVALID_GRANT"), Transient, false}, "number": {raw(400, `{"error":42}`), Transient, false},
		"a word as 200": {word(200, "teapot"), Transient, false}, "empty word": {raw(200, `{"error":""}`), Transient, false},

		"400 without a word": {raw(400, "{}"), Transient, false}, "401 without a word": {raw(401, ""), Transient, false}, "403 HTML": {raw(403, "<html>"), Transient, false},
		"404": {raw(404, "no such page"), Transient, false}, "429": {raw(429, ""), Transient, false}, "500 HTML": {raw(500, "<html>"), Transient, false},
		"502": {raw(502, ""), Transient, false}, "504": {raw(504, ""), Transient, true}, "503": {raw(503, "<html>busy"), Transient, false}, "redirect": {redirect(307, "https://canary.example/"), Transient, false},
		"tokens as 500": {raw(500, p.Tokens(nil).Body), Transient, false},

		"200 HTML": {raw(200, "<html>"), Transient, true}, "200 empty": {raw(200, ""), Transient, true}, "204": {raw(204, ""), Transient, true},
		"200 half": {raw(200, `{"access_token":"a"`), Transient, true}, "200 array": {raw(200, "[]"), Transient, true}, "200 without tokens": {raw(200, "{}"), Transient, true},
		"200 odd types": {raw(200, `{"access_token":5,"token_type":"Bearer"}`), Transient, true},
		"mac":           {typed("mac"), Transient, true}, "DPoP": {typed("DPoP"), Transient, true}, "no type": {raw(200, `{"access_token":"a"}`), Transient, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				p.Refresh = func(int, string) idptest.Reply { return c.reply }
				ans := refresh(newClient(t, p))
				if ans.Outcome != c.want || ans.Sent != c.sent {
					t.Errorf("%v, sent %v (%v), want %v, %v", ans.Outcome, ans.Sent, ans.Err, c.want, c.sent)
				}
				if (ans.Outcome == Approved) != (ans.Tokens != Tokens{}) || (ans.Outcome == Approved) == (ans.Err != nil) {
					t.Errorf("tokens and outcome do not agree: %+v", ans)
				}
			})
		})
	}
}

// TestRefreshWords: what ends a session is a short list; nothing else does.
func TestRefreshWords(t *testing.T) {
	for word := range outcomeOf {
		want, over := refreshOutcomeOf[word]
		if !over {
			want = Transient
		}
		for _, status := range []int{200, 400, 401, 429, 500} {
			rep := idptest.Error(status, word)
			if got := readToken(reply{status: status, body: []byte(rep.Body)}, refreshed); got.Outcome != want || got.Sent {
				t.Errorf("%s as %d: %+v, want %v", word, status, got, want)
			}
		}
	}
}

func TestRefreshRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.Refresh = func(n int, _ string) idptest.Reply {
			r := p.Tokens(func(m map[string]any) {
				if n == 2 {
					delete(m, "refresh_token")
				}
			})
			r.Delay = 3 * time.Second
			return r
		}
		c := newClient(t, p, func(cfg *Config) { cfg.ClientSecret = "password-canary"; cfg.Scopes = []string{"openid", "email"} })
		if err := ready(c); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		tok := refresh(c).Tokens
		form := p.Calls("/token")[0].Form
		if len(form) != 3 || form.Get("grant_type") != "refresh_token" || form.Get("refresh_token") != refreshToken || form.Get("client_id") != "gate" || !p.Calls("/token")[0].Basic {
			t.Errorf("asked with %v", form)
		}
		if !tok.Asked.Equal(begun) || tok.Received.Sub(tok.Asked) != 3*time.Second || tok.Refresh == "" {
			t.Errorf("asked %v, received %v", tok.Asked, tok.Received)
		}
		if tok := refresh(c).Tokens; tok.Refresh != "" || tok.Access == "" {
			t.Error("a refresh token came out of nowhere")
		}
		p.Approve("")
		begun = time.Now()
		if tok := poll(c).Tokens; !tok.Asked.Equal(begun) {
			t.Errorf("a poll was asked for at %v", tok.Asked)
		}
	})
}

// TestRefreshRetryAfter: what the answer says of when to come back is passed on.
func TestRefreshRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		p.Always("/token", idptest.Reply{Status: 429, Header: http.Header{"Retry-After": {"7"}}})
		if ans := refresh(newClient(t, p)); ans.RetryAfter != 7*time.Second || ans.Outcome != Transient {
			t.Errorf("%+v", ans)
		}
	})
}

// TestRefreshIsPatient: it has a minute, whatever other requests have, and says
// that the token may be used up when that is over.
func TestRefreshIsPatient(t *testing.T) {
	for name, c := range map[string]struct {
		delay time.Duration
		want  Outcome
		after time.Duration
	}{
		"slow":      {RefreshTimeout - time.Second, Approved, RefreshTimeout - time.Second},
		"no answer": {time.Hour, Transient, RefreshTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				p.Refresh = func(int, string) idptest.Reply {
					r := p.Tokens(nil)
					r.Delay = c.delay
					return r
				}
				client := newClient(t, p, func(cfg *Config) { cfg.Timeout = time.Second })
				begun := time.Now()
				ans := refresh(client)
				if ans.Outcome != c.want || ans.Sent != (c.want == Transient) || time.Since(begun) != c.after {
					t.Errorf("%v, sent %v after %v", ans.Outcome, ans.Sent, time.Since(begun))
				}
			})
		})
	}
}

// TestRefreshDripping: headers at once and then a byte a second for ever.
func TestRefreshDripping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		ans := refresh(newClient(t, slowFor(newProvider(), "/token", false)))
		if ans.Outcome != Transient || !ans.Sent || time.Since(begun) != RefreshTimeout {
			t.Errorf("%v, sent %v after %v", ans.Outcome, ans.Sent, time.Since(begun))
		}
	})
}

func TestRefreshEndlessAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var read atomic.Int64
		ans := refresh(newClient(t, endless(newProvider(), "/token", &read)))
		if n := read.Load(); ans.Outcome != Transient || !ans.Sent || n == 0 || n > maxBody+1 {
			t.Errorf("%v, sent %v, %d bytes read", ans.Outcome, ans.Sent, n)
		}
	})
}

// TestRefreshUnsent: where nothing can have arrived, the token is as good as
// before.
func TestRefreshUnsent(t *testing.T) {
	dial := errors.New("connection refused")
	for name, c := range map[string]struct {
		change func(*idptest.Provider)
		sent   bool
	}{
		"cannot be dialled":       {func(p *idptest.Provider) { p.Unreachable("/token", dial) }, false},
		"discovery not to be had": {func(p *idptest.Provider) { p.Unreachable(wellKnown, dial) }, false},
		"discovery fails":         {func(p *idptest.Provider) { p.Always(wellKnown, idptest.Reply{Status: 500}) }, false},
		"the connection breaks":   {func(p *idptest.Provider) { p.Always("/token", idptest.Reply{Err: errors.New("reset")}) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ans := refresh(newClient(t, newProvider(c.change)))
				if ans.Outcome != Transient || ans.Sent != c.sent || ans.Err == nil {
					t.Errorf("%v, sent %v, want sent %v: %v", ans.Outcome, ans.Sent, c.sent, ans.Err)
				}
			})
		})
	}
}

// TestSecretsSaidBack: some servers say in their errors what they were sent.
func TestSecretsSaidBack(t *testing.T) {
	const password = "password/canary&<" // escaped in JSON, by PHP and by Go
	long := strings.Repeat("x", maxWords-10)
	for _, row := range []struct{ method, description string }{
		{"post", "%s is unknown"}, {"post", long + "%s"}, {"post", "%s %s"}, {"basic", "%s is unknown"}, {"basic", "%s %s"},
	} {
		description := row.description
		synctest.Test(t, func(t *testing.T) {
			p := newProvider()
			c := newClient(t, p, func(cfg *Config) { cfg.ClientAuth, cfg.ClientSecret = row.method, secret.String(password) })
			say := func(path, token string) {
				text := strings.ReplaceAll(description, "%s", token)
				sent := ""
				if row.method == "basic" {
					sent = base64.StdEncoding.EncodeToString([]byte("gate:" + url.QueryEscape(password)))
				}
				php := strings.ReplaceAll(password, "/", `\/`)
				answer := idptest.JSON(400, map[string]any{"error": token, "error_description": text + password + " PHP " + sent})
				answer.Body = strings.Replace(answer.Body, "PHP", php, 1)
				p.Always(path, answer)
			}
			say("/token", refreshToken)
			errs := []error{refresh(c).Err}
			say("/token", "device-canary-1")
			errs = append(errs, poll(c).Err)
			say("/revoke", refreshToken)
			errs = append(errs, c.Revoke(t.Context(), refreshToken, "refresh_token"))
			say("/device", password)
			_, err := c.Authorize(t.Context())
			for _, err := range append(errs, err) {
				if text := fmt.Sprint(err); err == nil || strings.Contains(text, "canary") || strings.Contains(text, "Z2F0ZTpw") || !strings.Contains(text, "REDACTED") || len(text) > 600 {
					t.Errorf("the error is %q", text)
				}
			}
		})
	}
}
