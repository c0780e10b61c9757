// This file tests client authentication by a signed assertion.

package idp

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// readAssertion checks an assertion with the client's public key and returns what it
// says, beside its algorithm.
func readAssertion(t *testing.T, text string, public any) (map[string]any, jose.Header) {
	t.Helper()
	signed, err := jose.ParseSigned(text, []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(public)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims, signed.Signatures[0].Protected
}

// TestPrivateKeyJWT: each request has an assertion of its own, and no other
// credential.
func TestPrivateKeyJWT(t *testing.T) {
	keys := newKeys(t)
	for _, row := range []struct {
		key    string
		id     string
		listed []string
		alg    string
	}{
		{"RSA", "", nil, "RS256"},
		{"RSA", "key-1", []string{"PS256", "RS256", "ES256"}, "RS256"},
		{"RSA", "", []string{"ES256", "PS512", "PS256"}, "PS256"},
		{"RSA", "", []string{"RS512"}, "RS512"},
		{"RSA", "", []string{"ES256"}, "RS256"},
		{"P-256", "key-2", []string{"RS256", "ES256"}, "ES256"},
		{"P-384", "", nil, "ES384"},
		{"P-521", "", nil, "ES512"},
		{"Ed25519", "", []string{"EdDSA"}, "EdDSA"},
	} {
		t.Run(row.key+" for "+strings.Join(row.listed, " "), func(t *testing.T) {
			text := secret.String(inPEM(t, keys[row.key]))
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(func(p *idptest.Provider) {
					p.Metadata = func(md map[string]any) {
						if row.listed != nil {
							md["token_endpoint_auth_signing_alg_values_supported"] = row.listed
						}
					}
				})
				client := newClient(t, p, func(cfg *Config) {
					cfg.ClientAuth, cfg.ClientKey, cfg.ClientKeyID = "private_key_jwt", text, row.id
				})
				useEverything(t, client)
				ids := map[any]bool{}
				for _, call := range p.Calls("") {
					if len(call.Form) == 0 {
						continue // discovery
					}
					claims, header := readAssertion(t, call.Form.Get("client_assertion"), keys[row.key].Public())
					want := map[string]any{
						"iss": "gate", "sub": "gate", "aud": issuer, "jti": claims["jti"],
						"iat": float64(call.Start.Unix()), "exp": float64(call.Start.Add(time.Minute).Unix()),
					}
					if !maps.Equal(claims, want) || ids[claims["jti"]] || len(claims["jti"].(string)) < 20 {
						t.Errorf("%s: %v, want %v", call.Path, claims, want)
					}
					ids[claims["jti"]] = true
					if header.Algorithm != row.alg || header.KeyID != row.id || header.ExtraHeaders["typ"] != "JWT" {
						t.Errorf("%s: header %+v, want %s", call.Path, header, row.alg)
					}
					if call.Basic || call.Form.Has("client_secret") || call.Form.Get("client_id") != "gate" || call.Form.Get("client_assertion_type") != assertionType {
						t.Errorf("%s: %v", call.Path, call.Form)
					}
				}
				if len(ids) != 4 {
					t.Errorf("%d assertions", len(ids))
				}
			})
		})
	}
}

// useEverything makes a request to each endpoint that wants to know the client.
func useEverything(t *testing.T, client *Client) {
	t.Helper()
	if _, err := client.Authorize(context.Background()); err != nil {
		t.Fatal(err)
	}
	poll(client)
	client.Refresh(context.Background(), "refresh-canary", false)
	if err := client.Revoke(context.Background(), "refresh-canary", "refresh_token"); err != nil {
		t.Fatal(err)
	}
}

// choosy is an identity provider that takes assertions for some audiences only.
type choosy struct {
	*idptest.Provider
	takes []string
	seen  []string
}

func (c *choosy) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		return c.Provider.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	var claims struct{ Aud string }
	unverifiedClaims(form.Get("client_assertion"), &claims)
	c.seen = append(c.seen, claims.Aud)
	if !slices.Contains(c.takes, claims.Aud) {
		text := `{"error":"invalid_client","error_description":"not for us: ` + form.Get("client_assertion") + `"}`
		return &http.Response{StatusCode: http.StatusUnauthorized, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return c.Provider.RoundTrip(r)
}

// TestAssertionAudience: the issuer, and the token endpoint only where the
// issuer is refused and that cannot be another's.
func TestAssertionAudience(t *testing.T) {
	key := secret.String(inPEM(t, newKeys(t)["P-256"]))
	const own, another = issuer + "/token", "https://other.example/token"
	for name, row := range map[string]struct {
		endpoint   string // that discovery tells
		configured string
		takes      []string
		ok         bool
		seen       []string // by two device authorization requests
	}{
		"the issuer":                       {own, "", []string{issuer, own}, true, []string{issuer, issuer}},
		"the token endpoint only":          {own, "", []string{own}, true, []string{issuer, own, own}},
		"neither":                          {own, "", nil, false, []string{issuer, own, issuer, own}},
		"another's token endpoint":         {another, "", []string{another}, false, []string{issuer, issuer}},
		"another's by the same beginning":  {issuer + ".evil.example/token", "", []string{issuer + ".evil.example/token"}, false, []string{issuer, issuer}},
		"a token endpoint that is set":     {own, another, []string{another}, true, []string{issuer, another, another}},
		"the issuer is the token endpoint": {issuer, "", nil, false, []string{issuer, issuer}},
		"the same, and set":                {own, issuer, nil, false, []string{issuer, issuer}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(func(p *idptest.Provider) {
					p.Metadata = func(md map[string]any) { md["token_endpoint"] = row.endpoint }
				})
				server := &choosy{Provider: p, takes: row.takes}
				client := newClient(t, server, func(cfg *Config) {
					cfg.ClientAuth, cfg.ClientKey, cfg.Endpoints.Token = "private_key_jwt", key, row.configured
				})
				for range 2 {
					_, err := client.Authorize(context.Background())
					if (err == nil) != row.ok || err != nil && (!strings.Contains(err.Error(), "invalid_client") || strings.Contains(err.Error(), "eyJ")) {
						t.Errorf("%v", err)
					}
				}
				if !slices.Equal(server.seen, row.seen) {
					t.Errorf("%v, want %v", server.seen, row.seen)
				}
			})
		})
	}
}

// TestAudienceChanges: an identity provider that changes its mind is followed.
func TestAudienceChanges(t *testing.T) {
	key := secret.String(inPEM(t, newKeys(t)["P-256"]))
	synctest.Test(t, func(t *testing.T) {
		server := &choosy{Provider: newProvider()}
		client := newClient(t, server, func(cfg *Config) { cfg.ClientAuth, cfg.ClientKey = "private_key_jwt", key })
		for _, takes := range []string{issuer + "/token", issuer, issuer + "/token"} {
			server.takes = []string{takes}
			for range 2 {
				server.seen = nil
				if _, err := client.Authorize(context.Background()); err != nil {
					t.Errorf("%s: %v", takes, err)
				}
			}
			if !slices.Equal(server.seen, []string{takes}) {
				t.Errorf("%v, want %s at once", server.seen, takes)
			}
		}
	})
}
