// This file tests which issuers are known to be open to anyone, and what that
// asks of the configuration.

package caddydevice

import (
	"maps"
	"strings"
	"testing"
)

func TestOpenTo(t *testing.T) {
	for issuer, open := range map[string]bool{
		"https://accounts.google.com":                          true,
		"https://github.com":                                   true,
		"https://gitlab.com":                                   true,
		"https://GitLab.com":                                   true,
		"https://gitlab.example.com":                           false,
		"https://notgitlab.com":                                false,
		"https://dev-1.us.auth0.com/":                          true,
		"https://auth0.com.example.org":                        false,
		"https://login.example.org/?x=.auth0.com":              false,
		"https://login.microsoftonline.com/common/v2.0":        true,
		"https://login.microsoftonline.com/Organizations/v2.0": true,
		"https://login.microsoftonline.com/consumers/v2.0":     true,
		"https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0": true,
		"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0": false,
		"https://login.microsoftonline.us/common/v2.0":                                true,
		"https://contoso.ciamlogin.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0":     true,
		"https://keycloak.example.com/realms/github.com":                              false,
		"https://idp.example.com": false,
	} {
		if got := openTo(issuer) != ""; got != open {
			t.Errorf("%s: open %t, want %t", issuer, got, open)
		}
	}
}

// TestOpenIssuers: where anyone can have an account, the configuration has to
// say who gets in.
func TestOpenIssuers(t *testing.T) {
	rule := []any{map[string]any{"claim": "email", "values": []string{"*@corp.test"}}}
	for _, row := range []struct {
		name string
		cfg  map[string]any
		ok   bool
	}{
		{"nothing", nil, false},
		{"require", map[string]any{"require": rule}, true},
		{"require any", map[string]any{"require": []any{map[string]any{"claim": "any"}}}, true},
		{"expect", map[string]any{"expect": rule}, true},
		{"expect, and clients' own tokens", map[string]any{"expect": rule, "bearer": map[string]any{"audience": []string{"api"}}}, false},
		{"clients' own tokens of another issuer", map[string]any{"issuer": "https://idp.example.com", "bearer": map[string]any{"audience": []string{"api"}, "issuer": []string{"https://accounts.google.com"}}}, false},
		{"require, and clients' own tokens", map[string]any{"require": rule, "bearer": map[string]any{"audience": []string{"api"}}}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := map[string]any{"issuer": "https://accounts.google.com", "client_id": "gate"}
			maps.Copy(cfg, row.cfg)
			_, err := tryProvision(t, cfg, nil)
			switch {
			case row.ok && err != nil:
				t.Error(err)
			case !row.ok && (err == nil || !strings.Contains(err.Error(), "anyone can have an account there (Google): add a line like")):
				t.Errorf("error: %v", err)
			}
		})
	}
	named := map[string]any{"providers": map[string]any{"hub": map[string]any{"issuer": "https://github.com", "client_id": "gate"}}}
	if _, err := tryProvision(t, map[string]any{"provider": "hub"}, named); err == nil || !strings.Contains(err.Error(), "(GitHub)") {
		t.Errorf("a named provider: %v", err)
	}
}
