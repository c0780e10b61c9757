// This file holds the tests of what tells who signed in, where that is not the
// ID token alone.

package idp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

func withUserinfo(md map[string]any) { md["userinfo_endpoint"] = issuer + "/userinfo" }

// TestUserinfo: what the endpoint says counts beside the ID token, if it is about
// the same sub, but nothing that only a token can say (OpenID Connect Core
// §5.3.2).
func TestUserinfo(t *testing.T) {
	says := func(body string) idptest.Reply { return idptest.Reply{Status: 200, Body: body} }
	for _, c := range []struct {
		name  string
		reply idptest.Reply
		want  string // part of the error; "" is good, "later" may pass
	}{
		{"the same sub", says(`{"sub":"sub-alice","groups":["board"],"level":12345678901234567890}`), ""},
		{"as text", idptest.Reply{Status: 200, Body: `{"sub":"sub-alice","groups":["board"],"level":12345678901234567890}`, Header: http.Header{"Content-Type": {"text/plain"}}}, ""},
		{"claims of a token", says(`{"sub":"sub-alice","groups":["board"],"level":12345678901234567890,"sid":"s-9","iss":"https://evil.example","aud":"x","exp":1,"azp":"evil","auth_time":1,"typ":"Logout"}`), ""},
		{"another sub", says(`{"sub":"sub-mallory"}`), "sub is not the ID token's"},
		{"sub in capitals", says(`{"sub":"SUB-ALICE"}`), "sub is not the ID token's"},
		{"no sub", says(`{"groups":["board"]}`), "sub is missing"},
		{"sub is a number", says(`{"sub":7}`), "sub is missing"},
		{"sub twice, by case", says(`{"sub":"sub-alice","Sub":"sub-mallory"}`), "too like sub"},
		{"an array", says(`["sub-alice"]`), "not a JSON object"},
		{"a page", says("<html>access-canary</html>"), "not a JSON object"},
		{"nothing", says(""), "not a JSON object"},
		{"signed", idptest.Reply{Status: 200, Body: "a.b.c", Header: http.Header{"Content-Type": {"application/jwt; charset=utf-8"}}}, "plain JSON"},
		{"refused", idptest.Error(401, "invalid_token access-canary"), "status 401: is openid among the scopes"},
		{"not there", idptest.Reply{Status: 404}, "status 404"},
		{"elsewhere", idptest.Reply{Status: 302, Header: http.Header{"Location": {issuer + "/token"}}}, "status 302"},
		{"too large", says(`{"sub":"` + strings.Repeat("a", maxBody) + `"}`), "larger than"},
		{"larger than a token", says(`{"sub":"sub-alice","about":"` + strings.Repeat("a", maxToken) + `"}`), "larger than 65536"},
		{"away", idptest.Reply{Status: 503}, "later"},
		{"throttled", idptest.Reply{Status: 429}, "later"},
		{"cut off", idptest.Reply{Err: errors.New("reset access-canary")}, "later"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(func(p *idptest.Provider) { p.Metadata = withUserinfo })
				client := newClient(t, p, func(cfg *Config) { cfg.Identity = "userinfo" })
				p.Always("/userinfo", c.reply)
				token := p.IDToken(func(claims map[string]any) { claims["sid"] = "s-1" })
				who, err := verify(client, token)
				switch {
				case c.want == "later":
					if !errors.Is(err, ErrTemporary) || strings.Contains(err.Error(), "canary") {
						t.Errorf("%v", err)
					}
				case c.want != "":
					wantInvalid(t, c.name, who, err)
					if err != nil && !strings.Contains(err.Error(), c.want) {
						t.Errorf("%v, want %q", err, c.want)
					}
				case err != nil:
					t.Error(err)
				default:
					groups, _ := who.Claims["groups"].([]any)
					if who.Issuer != issuer || who.Subject != "sub-alice" || who.SessionID != "s-1" || who.Expiry.IsZero() ||
						who.Claims["iss"] != issuer || who.Claims["sid"] != "s-1" || who.Claims["aud"] != "gate" || who.Claims["azp"] != nil || who.Claims["auth_time"] != nil || who.Claims["typ"] != nil ||
						who.Claims["preferred_username"] != "alice" || len(groups) != 1 || groups[0] != "board" || who.Claims["level"] != json.Number("12345678901234567890") {
						t.Errorf("%+v", who)
					}
				}
				if n := len(p.Calls("/token")); n != 0 {
					t.Errorf("the token went elsewhere %d times", n)
				}
			})
		})
	}
}

// TestUserinfoEmail: an address counts as verified only if whoever says it says
// that too. One half from the ID token would vouch for another address.
func TestUserinfoEmail(t *testing.T) {
	for name, c := range map[string]struct {
		userinfo        map[string]any
		email, verified any
	}{
		"nothing about it":     {map[string]any{}, "alice@example.com", true},
		"another address":      {map[string]any{"email": "boss@example.com"}, "boss@example.com", nil},
		"the same, both":       {map[string]any{"email": "alice@example.com", "email_verified": true}, "alice@example.com", true},
		"another, unverified":  {map[string]any{"email": "boss@example.com", "email_verified": false}, "boss@example.com", false},
		"verified, but no one": {map[string]any{"email_verified": true}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(func(p *idptest.Provider) { p.Metadata = withUserinfo })
				client := newClient(t, p, func(cfg *Config) { cfg.Identity = "userinfo" })
				c.userinfo["sub"] = "sub-alice"
				p.Always("/userinfo", idptest.JSON(200, c.userinfo))
				who, err := verify(client, p.IDToken(func(claims map[string]any) {
					claims["email"], claims["email_verified"] = "alice@example.com", true
				}))
				if err != nil || who.Claims["email"] != c.email || who.Claims["email_verified"] != c.verified {
					t.Errorf("%+v, %v", who, err)
				}
			})
		})
	}
}

// TestUserinfoNotAsked: not for an ID token that is bad, nor where that is all
// that counts, nor where there is no such endpoint.
func TestUserinfoNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(func(p *idptest.Provider) { p.Metadata = withUserinfo })
		asking := newClient(t, p, func(cfg *Config) { cfg.Identity = "userinfo" })
		who, err := verify(asking, p.IDToken(func(claims map[string]any) { claims["aud"] = "other" }))
		wantInvalid(t, "an ID token for another", who, err)
		if _, err := verify(newClient(t, p), p.IDToken(nil)); err != nil {
			t.Error(err)
		}
		if n := len(p.Calls("/userinfo")); n != 0 {
			t.Errorf("asked %d times", n)
		}
		none := newProvider()
		who, err = verify(newClient(t, none, func(cfg *Config) { cfg.Identity = "userinfo" }), none.IDToken(nil))
		if who != nil || err == nil || !strings.Contains(err.Error(), "set endpoints userinfo") {
			t.Errorf("%+v, %v", who, err)
		}
	})
}

// TestUserinfoRefreshed: a refresh without an ID token asks as well, and what it
// is told is about the same person.
func TestUserinfoRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(func(p *idptest.Provider) { p.Metadata = withUserinfo })
		c := newClient(t, p, func(cfg *Config) { cfg.Identity = "userinfo" })
		p.Always("/userinfo", idptest.JSON(200, map[string]any{"sub": "sub-alice", "groups": []string{"board"}}))
		was, err := verify(c, p.IDToken(func(claims map[string]any) { claims["sid"] = "s-1" }))
		if err != nil {
			t.Fatal(err)
		}
		p.Always("/userinfo", idptest.JSON(200, map[string]any{"sub": "sub-alice", "groups": []string{}}))
		who, err := c.VerifyRefreshed(context.Background(), Tokens{Access: "second"}, *was)
		if groups, _ := who.Claims["groups"].([]any); err != nil || who.SessionID != "s-1" || len(groups) != 0 || !who.Expiry.IsZero() {
			t.Errorf("%+v, %v", who, err)
		}
		if groups, _ := was.Claims["groups"].([]any); len(groups) != 1 {
			t.Error("the old one was changed")
		}
		p.Always("/userinfo", idptest.JSON(200, map[string]any{"sub": "sub-mallory"}))
		if _, err := c.VerifyRefreshed(context.Background(), Tokens{Access: "third"}, *was); !errors.Is(err, ErrOtherIdentity) {
			t.Errorf("%v", err)
		}
		for _, elsewhere := range []idptest.Reply{{Status: 500}, {Status: 404}, {Status: 403}, {Status: 302}, {Status: 200, Body: "<html>maintenance</html>"}} {
			p.Always("/userinfo", elsewhere) // nobody is signed out for it
			if _, err := c.VerifyRefreshed(context.Background(), Tokens{Access: "third"}, *was); !errors.Is(err, ErrTemporary) {
				t.Errorf("%d %s: %v", elsewhere.Status, elsewhere.Body, err)
			}
		}
		p.Always("/userinfo", idptest.Error(401, "invalid_token"))
		if _, err := c.VerifyRefreshed(context.Background(), Tokens{Access: "third"}, *was); err == nil || errors.Is(err, ErrTemporary) {
			t.Errorf("a token that is taken back: %v", err)
		}
	})
}

// TestIdentityOfAccessToken: a signed access token tells who signed in where that is
// configured, if it was made for this client and is nothing else.
func TestIdentityOfAccessToken(t *testing.T) {
	for _, c := range []struct {
		name   string
		change map[string]any
		want   string
	}{
		{"for us", map[string]any{"aud": "gate"}, ""},
		{"for us and others", map[string]any{"aud": []string{"api", "gate"}}, ""},
		{"made for us, for an API", map[string]any{"aud": "api", "azp": "gate"}, ""},
		{"made for us, by client_id", map[string]any{"aud": nil, "client_id": "gate"}, ""},
		{"for an API", map[string]any{"aud": "api"}, "aud names none"},
		{"no aud", map[string]any{"aud": nil}, "aud is missing"},
		{"made for another", map[string]any{"aud": "gate", "azp": "other"}, "azp is none"},
		{"made for another, by client_id", map[string]any{"aud": "gate", "client_id": "other"}, "client_id is none"},
		{"iss is another", map[string]any{"iss": issuer + "/"}, "iss is another"},
		{"expired", map[string]any{"exp": 1}, "exp is not"},
		{"no sub", map[string]any{"sub": nil}, "sub is missing"},
		{"Keycloak's ID token", map[string]any{"typ": "ID"}, "its claim typ"},
		{"bound to a key", map[string]any{"cnf": map[string]any{"jkt": "x"}}, "cnf is there"},
		{"a logout token", map[string]any{"events": map[string]any{}}, "logout token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				client := newClient(t, p, func(cfg *Config) { cfg.Identity = "access_token" })
				claims := usual()
				for name, value := range c.change {
					if claims[name] = value; value == nil {
						delete(claims, name)
					}
				}
				who, err := client.Verify(context.Background(), Tokens{Access: secret.String(p.Sign(payload(claims), nil))})
				if c.want == "" {
					if err != nil || who.Subject != "sub-alice" || who.Expiry.IsZero() {
						t.Fatalf("%+v, %v", who, err)
					}
					refreshed, err := client.VerifyRefreshed(context.Background(), Tokens{Access: secret.String(p.Sign(payload(claims), nil))}, *who)
					if err != nil || refreshed.Subject != who.Subject {
						t.Errorf("refreshed: %+v, %v", refreshed, err)
					}
					claims["sub"] = "sub-mallory"
					if _, err = client.VerifyRefreshed(context.Background(), Tokens{Access: secret.String(p.Sign(payload(claims), nil))}, *who); !errors.Is(err, ErrOtherIdentity) {
						t.Errorf("refreshed by another: %v", err)
					}
					return
				}
				wantInvalid(t, c.name, who, err)
				if err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			})
		})
	}
}

// TestIdentityOfOpaqueToken: an opaque token says what to do, and an ID token
// beside it is of no account.
func TestIdentityOfOpaqueToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p, func(cfg *Config) { cfg.Identity = "access_token" })
		who, err := verify(c, p.IDToken(nil))
		wantInvalid(t, "opaque", who, err)
		if err == nil || !strings.Contains(err.Error(), "not a signed JWT: have the identity provider") {
			t.Error(err)
		}
	})
}

// TestDialectMistakes: what does not go together is told when it is configured.
func TestDialectMistakes(t *testing.T) {
	github := Endpoints{DeviceAuthorization: "https://ghe.example.com/login/device/code", Token: "https://ghe.example.com/login/oauth/access_token", Userinfo: "https://ghe.example.com/api/v3/user"}
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"known", Config{Issuer: "https://github.com", Dialect: "github"}, ""},
		{"another host with its endpoints", Config{Issuer: "https://ghe.example.com", Dialect: "github", Endpoints: github}, ""},
		{"another host", Config{Issuer: "https://ghe.example.com", Dialect: "github"}, "set endpoints device_authorization, token and userinfo"},
		{"a look-alike", Config{Issuer: "https://github.com/", Dialect: "github"}, "set endpoints"},
		{"unknown", Config{Issuer: issuer, Dialect: "keycloak"}, "needs none"},
		{"an ID token where there is none", Config{Issuer: "https://github.com", Dialect: "github", Identity: "id_token"}, "only opaque"},
		{"a signed token where there is none", Config{Issuer: "https://github.com", Dialect: "github", Identity: "access_token"}, "only opaque"},
		{"discovery where there is none", Config{Issuer: "https://github.com", Dialect: "github", Discovery: "https://github.com/d"}, "there is none"},
		{"no openid where none is needed", Config{Issuer: "https://github.com", Dialect: "github", Scopes: []string{"read:user"}}, ""},
		{"no openid for an access token", Config{Issuer: issuer, Identity: "access_token", Scopes: []string{"profile"}}, ""},
		{"no openid for an ID token", Config{Issuer: issuer, Scopes: []string{"profile"}}, "scopes must include openid"},
		{"unknown identity", Config{Issuer: issuer, Identity: "cookie"}, "none of auto, id_token"},
		{"userinfo without TLS", Config{Issuer: issuer, Endpoints: Endpoints{Userinfo: "http://idp.example/u"}}, "must start with https"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.ClientID = "gate"
			client, err := New(c.cfg)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if client != nil {
				client.Close()
			}
		})
	}
}

// TestScopesByIdentity: openid is for whoever wants an ID token.
func TestScopesByIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for identity, want := range map[string]string{
			"auto": "openid profile email offline_access", "id_token": "openid profile email offline_access",
			"userinfo": "openid profile email offline_access", "access_token": "profile email offline_access",
		} {
			p := newProvider(func(p *idptest.Provider) { p.Metadata = withUserinfo })
			c := newClient(t, p, func(cfg *Config) { cfg.Identity = identity })
			if got := strings.Join(c.Scopes(context.Background()), " "); got != want {
				t.Errorf("%s: %q", identity, got)
			}
		}
	})
}

// TestUnverifiable: tokens that cannot be verified here say what to change, and
// where.
func TestUnverifiable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		body := b64(string(payload(usual())))
		for token, want := range map[string]string{
			b64(`{"alg":"HS256","typ":"JWT"}`) + "." + body + ".c2ln":             "set a Signing Key",
			b64(`{"alg":"RSA-OAEP-256","enc":"A256CBC-HS512"}`) + ".a.b.c.d":      "no Encryption Key",
			b64(`{"alg":"none"}`) + "." + body + ".":                              "",
			b64(`{"alg":"hs256","typ":"JWT"}`) + "." + body + ".c2ln":             "",
			strings.Replace(p.IDToken(nil), ".", ".x", 1)[:40] + "." + body + ".": "",
		} {
			time.Sleep(keyCooldown)
			who, err := verify(c, token)
			wantInvalid(t, token[:20], who, err)
			if err != nil && want != "" && !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
	})
}
