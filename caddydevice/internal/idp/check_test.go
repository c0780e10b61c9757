// This file holds the tests of what a check makes of trouble.

package idp

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// TestCheckFindings: each trouble is found, with what to do, and is wrong only
// where nobody can sign in.
func TestCheckFindings(t *testing.T) {
	metadata := func(name string, value any) func(*idptest.Provider) {
		return func(p *idptest.Provider) {
			p.Metadata = func(md map[string]any) {
				if md[name] = value; value == nil {
					delete(md, name)
				}
			}
		}
	}
	always := func(path string, r idptest.Reply) func(*idptest.Provider) {
		return func(p *idptest.Provider) { p.Always(path, r) }
	}
	dated := func(ago time.Duration) func(*idptest.Provider) {
		return func(p *idptest.Provider) {
			p.Answer(wellKnown, func() (idptest.Reply, bool) {
				r := document(nil)()
				r.Header = http.Header{"Date": {time.Now().Add(-ago).UTC().Format(http.TimeFormat)}}
				return r, true
			})
		}
	}
	device := func(name string, value any) func(*idptest.Provider) {
		return func(p *idptest.Provider) {
			p.Device = func(n int) idptest.Reply {
				answer := idptest.Device(issuer, n)
				if answer[name] = value; value == nil {
					delete(answer, name)
				}
				return idptest.JSON(200, answer)
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*idptest.Provider)
		level  Level
		want   string // in the text of a finding of that level
	}{
		{"all is well", func(*idptest.Provider) {}, OK, "gate is let in (client_auth none)"},
		{"unreachable", func(p *idptest.Provider) { p.Unreachable(wellKnown, errors.New("connection refused")) }, Wrong, "connection refused. Check that it runs"},
		{"no document", always(wellKnown, idptest.Reply{Status: 404}), Wrong, "there is none at https://idp.example/.well-known/openid-configuration: status 404"},
		{"a page", always(wellKnown, idptest.Reply{Status: 200, Body: "<html>"}), Wrong, "not a JSON object"},
		{"another issuer", metadata("issuer", issuer+"/"), Wrong, "calls itself"},
		{"many tenants", metadata("issuer", "https://idp.example/{tenantid}/v2.0"), Wrong, "write the issuer of one, with its tenant id"},
		{"no device grant", metadata("device_authorization_endpoint", nil), Wrong, "the README names those that do"},
		{"a relative endpoint", metadata("token_endpoint", "/token"), Wrong, "Set the endpoint in question"},
		{"clocks agree", dated(10 * time.Second), OK, "the two clocks are 10s apart"},
		{"our clock is ahead", dated(5 * time.Minute), Wrong, "the two clocks are 5m0s apart, and clock_skew allows 30s. Set both clocks by NTP"},
		{"our clock is behind", dated(-5 * time.Minute), Wrong, "the two clocks are 5m0s apart"},
		{"no keys", always("/jwks", idptest.Reply{Status: 404}), Wrong, "jwks_uri"},
		{"an empty key set", always("/jwks", idptest.JSON(200, map[string]any{})), Wrong, "no key that can verify a signature"},
		{"MAC only", metadata("id_token_signing_alg_values_supported", []string{"HS256"}), Wrong, "signed with HS256"},
		{"grant off", always("/device", idptest.Error(400, "unauthorized_client")), Wrong, "Allow the device authorization grant"},
		{"throttled", always("/device", idptest.Error(429, "slow_down")), Wrong, "Wait a while"},
		{"scope refused", always("/device", idptest.Error(400, "invalid_scope")), Wrong, "Set scopes to what the client gate may ask for"},
		{"no such endpoint", always("/device", idptest.Reply{Status: 404}), Wrong, "status 404. Not every"},
		{"another word", always("/device", idptest.Error(400, "teapot")), Wrong, "Look at its log"},
		{"a code for a minute", device("expires_in", 60), Note, "a code works for 1m0s only"},
		{"no complete URI", device("verification_uri_complete", nil), Note, "which people have to type"},
		{"client refused at the token endpoint", func(p *idptest.Provider) { p.Decide("", idptest.Error(401, "invalid_client")) }, Wrong, "Either it knows no client gate, or that one has a secret"},
		{"invalid_grant while pending", func(p *idptest.Provider) { p.Decide("", idptest.Error(400, "invalid_grant")) }, Wrong, "dialect wso2_old"},
		{"500 while pending", func(p *idptest.Provider) { p.Decide("", idptest.Reply{Status: 500}) }, Wrong, "dialect tokenidp"},
		{"no answer to the poll", func(p *idptest.Provider) { p.Unreachable("/token", errors.New("connection refused")) }, Wrong, "connection refused. Check that it runs"},
		{"approved by nobody", func(p *idptest.Provider) { p.Decide("", p.Tokens(nil)) }, Wrong, "is answered with tokens"},
		{"too fast", func(p *idptest.Provider) { p.Decide("", idptest.Error(400, "slow_down")) }, OK, "is let in"},
		{"no refresh", metadata("scopes_supported", []string{"openid"}), Note, "Sessions end with the access token"},
		{"no revocation", metadata("revocation_endpoint", nil), Note, "no revocation endpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(c.change)
				begun := time.Now()
				found, wrong, there := newClient(t, p).Check(context.Background()), false, false
				for _, f := range found {
					wrong = wrong || f.Level == Wrong
					there = there || f.Level == c.level && strings.Contains(f.Text, c.want)
				}
				if !there || wrong != (c.level == Wrong) {
					t.Errorf("%q is not in %v", c.want, found)
				}
				for i, poll := range p.Calls("/token") {
					if i > 0 || poll.Start.Sub(begun) < 5*time.Second {
						t.Errorf("poll %d after %s", i+1, poll.Start.Sub(begun))
					}
				}
			})
		})
	}
}

// TestCheckByAuthentication: a client that is refused hears of what it has shown.
func TestCheckByAuthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(func(p *idptest.Provider) { p.Always("/device", idptest.Error(401, "invalid_client")) })
		for _, c := range []struct {
			change func(*Config)
			want   string
		}{
			{func(*Config) {}, "No secret is sent."},
			{func(cfg *Config) { cfg.ClientSecret = "secret-canary" }, "Check client_id and client_secret"},
			{func(cfg *Config) {
				cfg.ClientAuth, cfg.ClientKey = "private_key_jwt", secret.String(inPEM(t, newKeys(t)["P-256"]))
			}, "the public half of the key that client_auth names"},
		} {
			found := newClient(t, p, c.change).Check(context.Background())
			if text := found[len(found)-4].Text; !strings.Contains(text, c.want) || strings.Contains(text, "canary") {
				t.Errorf("%q is not in %v", c.want, found)
			}
		}
	})
}

// TestCheckIsStopped: whoever gives up does not wait for the poll.
func TestCheckIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p, begun := newProvider(), time.Now()
		newClient(t, p).Check(ctx)
		if took := time.Since(begun); took > time.Second || len(p.Calls("/token")) > 0 {
			t.Errorf("it went on for %s", took)
		}
	})
}
