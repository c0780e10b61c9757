// This file holds the tests of the configuration and of client authentication.

package idp

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

func TestConfigMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		words  string // "" where the configuration is good
	}{
		"good":                   {func(*Config) {}, ""},
		"plain http":             {func(c *Config) { c.Issuer = "http://idp.example" }, "https://"},
		"http on loopback":       {func(c *Config) { c.Issuer = "http://127.0.0.1:8080/realm" }, ""},
		"http on ::1":            {func(c *Config) { c.Issuer = "http://[::1]:8080" }, ""},
		"http on localhost":      {func(c *Config) { c.Issuer = "http://localhost:8080" }, ""},
		"http like loopback":     {func(c *Config) { c.Issuer = "http://127.0.0.1.example.com" }, "https://"},
		"http like localhost":    {func(c *Config) { c.Issuer = "http://localhost.example.com" }, "https://"},
		"another scheme":         {func(c *Config) { c.Issuer = "ftp://idp.example" }, "https://"},
		"no scheme":              {func(c *Config) { c.Issuer = "idp.example" }, "absolute"},
		"no issuer":              {func(c *Config) { c.Issuer = "" }, "issuer"},
		"user in the issuer":     {func(c *Config) { c.Issuer = "https://u:p@idp.example" }, "user"},
		"fragment in the issuer": {func(c *Config) { c.Issuer = "https://idp.example#a" }, "fragment"},
		"no client id":           {func(c *Config) { c.ClientID = "" }, "client_id"},
		"unknown method":         {func(c *Config) { c.ClientAuth = "digest" }, "digest"},
		"none with a secret":     {func(c *Config) { c.ClientAuth, c.ClientSecret = "none", "canary" }, "client_secret"},
		"basic without a secret": {func(c *Config) { c.ClientAuth = "basic" }, "client_secret"},
		"post without a secret":  {func(c *Config) { c.ClientAuth = "post" }, "client_secret"},
		"a key, but no method":   {func(c *Config) { c.ClientKey = "canary" }, "no other method takes one"},
		"a method, but no key":   {func(c *Config) { c.ClientAuth = "private_key_jwt" }, "needs the file of the client's private key"},
		"a key that is none":     {func(c *Config) { c.ClientAuth, c.ClientKey = "private_key_jwt", "canary" }, "client_auth private_key_jwt: there is no private key in it"},
		"a key and a secret":     {func(c *Config) { c.ClientAuth, c.ClientKey, c.ClientSecret = "private_key_jwt", "canary", "canary" }, "client_auth private_key_jwt sends no secret"},
		"scopes without openid":  {func(c *Config) { c.Scopes = []string{"profile"} }, "openid"},
		"negative timeout":       {func(c *Config) { c.Timeout = -1 }, "idp_timeout"},
		"negative skew":          {func(c *Config) { c.ClockSkew = -1 }, "clock_skew"},
		"skew too wide":          {func(c *Config) { c.ClockSkew = 5*time.Minute + 1 }, "clock_skew"},
	} {
		cfg := Config{Issuer: issuer, ClientID: "gate"}
		c.change(&cfg)
		_, err := New(cfg)
		switch {
		case c.words == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "canary")):
			t.Errorf("%s: %v, want a word on %s", name, err, c.words)
		}
	}
}

func TestClientAuthentication(t *testing.T) {
	const id, password = "g:a%t+e ü", `p:%+ ü&="`
	basicOnly, postOnly := []string{"client_secret_basic"}, []string{"private_key_jwt", "client_secret_post"}
	for _, c := range []struct {
		name, method string
		secret       secret.String
		listed       []string
		basic, post  bool
	}{
		{"public", "", "", nil, false, false},
		{"public, said so", "none", "", basicOnly, false, false},
		{"basic", "basic", password, postOnly, true, false},
		{"post", "post", password, basicOnly, false, true},
		{"auto, nothing listed", "auto", password, nil, true, false},
		{"auto, basic listed", "auto", password, append(basicOnly, postOnly...), true, false},
		{"auto, post listed", "", password, postOnly, false, true},
		{"auto, neither listed", "auto", password, []string{"private_key_jwt"}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(func(p *idptest.Provider) {
					p.Metadata = func(md map[string]any) {
						if c.listed != nil {
							md["token_endpoint_auth_methods_supported"] = c.listed
						}
					}
				})
				client := newClient(t, p, func(cfg *Config) { cfg.ClientID, cfg.ClientAuth, cfg.ClientSecret = id, c.method, c.secret })
				if _, err := client.Authorize(context.Background()); err != nil {
					t.Fatal(err)
				}
				poll(client)
				for _, path := range []string{"/device", "/token"} {
					call := p.Calls(path)[0]
					if call.Form.Get("client_id") != id || len(call.Form["client_id"]) != 1 {
						t.Errorf("%s: client_id %q", path, call.Form["client_id"])
					}
					// RFC 6749 §2.3.1: form-encoded before it becomes Basic
					if call.Basic != c.basic || c.basic && (call.User != "g%3Aa%25t%2Be+%C3%BC" || call.Pass != "p%3A%25%2B+%C3%BC%26%3D%22") {
						t.Errorf("%s: basic %v %q %q", path, call.Basic, call.User, call.Pass)
					}
					if sent := call.Form["client_secret"]; (len(sent) > 0) != c.post || c.post && sent[0] != password {
						t.Errorf("%s: client_secret %q", path, sent)
					}
				}
			})
		})
	}
}

func TestScopes(t *testing.T) {
	for name, c := range map[string]struct {
		supported any
		scopes    []string
		want      string
	}{
		"what is listed":       {[]string{"offline_access", "openid", "email", "profile", "phone"}, nil, "openid profile email offline_access"},
		"some of it":           {[]string{"openid", "email"}, nil, "openid email"},
		"nothing listed":       {nil, nil, "openid"},
		"as configured":        {[]string{"openid", "email"}, []string{"openid", "groups"}, "openid groups"},
		"no more than is safe": {[]string{"admin", "phone", "address"}, nil, "openid"},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider(func(p *idptest.Provider) {
				p.Metadata = func(md map[string]any) { md["scopes_supported"] = c.supported }
			})
			client := newClient(t, p, func(cfg *Config) { cfg.Scopes = c.scopes })
			if _, err := client.Authorize(context.Background()); err != nil {
				t.Fatal(err)
			}
			if got := p.Calls("/device")[0].Form.Get("scope"); got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		})
	}
}

func TestClientSaysWhatItIs(t *testing.T) {
	c := newClient(t, newProvider())
	if c.Timeout() != 10*time.Second {
		t.Error(c.Timeout())
	}
}
