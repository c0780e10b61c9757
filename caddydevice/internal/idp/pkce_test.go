// This file holds the tests of PKCE: when it is used, and that a verifier
// belongs to one sign-in.

package idp

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"testing"
	"testing/synctest"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func TestPKCE(t *testing.T) {
	for name, c := range map[string]struct {
		mode   string
		listed any // code_challenge_methods_supported; nil leaves it out
		used   bool
	}{
		"default, S256 listed":    {"", []string{"plain", "S256"}, true},
		"auto, S256 listed":       {"auto", []string{"S256"}, true},
		"auto, only plain listed": {"auto", []string{"plain"}, false},
		"auto, nothing listed":    {"auto", nil, false},
		"auto, listed in lower":   {"auto", []string{"s256"}, false},
		"on, nothing listed":      {"on", nil, true},
		"off, S256 listed":        {"off", []string{"S256"}, false},
		"on, only plain listed":   {"on", []string{"plain"}, true},
		"default, nothing listed": {"", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(func(p *idptest.Provider) {
					p.Metadata = func(md map[string]any) {
						if c.listed != nil {
							md["code_challenge_methods_supported"] = c.listed
						}
					}
				})
				client := newClient(t, p, func(cfg *Config) { cfg.PKCE = c.mode })
				da, err := client.Authorize(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				client.Poll(context.Background(), da.DeviceCode, da.CodeVerifier)
				wantPKCE(t, p, da, c.used)
			})
		})
	}
}

// wantPKCE looks at both requests as the identity provider got them.
func wantPKCE(t *testing.T, p *idptest.Provider, da DeviceAuthorization, used bool) {
	t.Helper()
	device, token := p.Calls("/device")[0].Form, p.Calls("/token")[0].Form
	if !used {
		for _, form := range []map[string][]string{device, token} {
			for _, name := range []string{"code_challenge", "code_challenge_method", "code_verifier"} {
				if _, ok := form[name]; ok {
					t.Errorf("%s is sent", name)
				}
			}
		}
		return
	}
	verifier := token.Get("code_verifier")
	sum := sha256.Sum256([]byte(verifier))
	switch {
	case len(verifier) < 43 || verifier != da.CodeVerifier.Reveal(): // RFC 7636 §4.1
		t.Errorf("a verifier of %d characters", len(verifier))
	case device.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]):
		t.Error("the challenge is not the verifier's")
	case device.Get("code_challenge_method") != "S256":
		t.Errorf("code_challenge_method %q", device.Get("code_challenge_method"))
	case device.Has("code_verifier") || token.Has("code_challenge"):
		t.Error("verifier and challenge went together")
	}
}

func TestEachSignInHasItsVerifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newClient(t, newProvider(), func(cfg *Config) { cfg.PKCE = "on" })
		seen := map[string]bool{}
		for range 10 {
			da, err := client.Authorize(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			seen[da.CodeVerifier.Reveal()] = true
		}
		if len(seen) != 10 {
			t.Errorf("%d verifiers for 10 sign-ins", len(seen))
		}
	})
}
