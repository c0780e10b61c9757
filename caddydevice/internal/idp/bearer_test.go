// This file holds the tests of what an access token must say that a client
// brings itself.

package idp

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

var (
	atJWT  = map[jose.HeaderKey]any{"typ": "at+jwt"}
	forAPI = Bearer{Audiences: []string{"api", "https://api.example/"}}
)

// usualAccess are the claims of a good access token (RFC 9068 §2.2).
func usualAccess() map[string]any {
	claims := usual()
	claims["aud"], claims["client_id"], claims["jti"], claims["scope"] = "api", "cli", "j-1", "openid"
	return claims
}

func verifyAccess(c *Client, token string, b Bearer) (*Identity, error) {
	return c.VerifyAccess(context.Background(), token, b)
}

// wantVerdict expects that a token passes, or that it is refused for good.
func wantVerdict(t *testing.T, name string, good bool, who *Identity, err error) {
	t.Helper()
	switch {
	case !good:
		wantInvalid(t, name, who, err)
	case err != nil || who == nil:
		t.Errorf("%s: refused: %v", name, err)
	}
}

func TestAccessClaims(t *testing.T) {
	now := func(d time.Duration) func() any { return func() any { return time.Now().Add(d).Unix() } }
	raw := func(text string) func() any { return func() any { return json.RawMessage(text) } }
	is := func(v any) func() any { return func() any { return v } }
	missing := func() any { return nil }
	for _, c := range []struct {
		claim, name string
		value       func() any
		good        bool
	}{
		{"iss", "ours", is(issuer), true},
		{"iss", "with a slash", is(issuer + "/"), false},
		{"iss", "in capitals", is("https://IDP.example"), false},
		{"iss", "other tenant", is(issuer + "/t2"), false},
		{"iss", "look-alike", is("https://idр.example"), false},
		{"iss", "array", is([]string{issuer}), false},
		{"iss", "object", raw(`{"` + issuer + `":1}`), false},
		{"iss", "null", raw("null"), false},
		{"iss", "missing", missing, false},
		{"iss", "empty", is(""), false},
		{"aud", "the other of ours", is("https://api.example/"), true},
		{"aud", "array with ours", is([]string{"account", "api"}), true},
		{"aud", "array with ours first", is([]string{"api", "account"}), true},
		{"aud", "array without", is([]string{"account"}), false},
		{"aud", "empty array", is([]string{}), false},
		{"aud", "array with a number", raw(`["api",5]`), false},
		{"aud", "nested", raw(`[["api"]]`), false},
		{"aud", "number", is(5), false},
		{"aud", "object", raw(`{"api":1}`), false},
		{"aud", "null", raw("null"), false},
		{"aud", "missing", missing, false},
		{"aud", "empty", is(""), false},
		{"aud", "longer", is("api2"), false},
		{"aud", "shorter", is("ap"), false},
		{"aud", "in capitals", is("API"), false},
		{"aud", "several in one", is("account api"), false},
		{"aud", "this gateway's client", is("gate"), false},
		{"exp", "missing", missing, false},
		{"exp", "string", func() any { return fmt.Sprint(time.Now().Add(time.Hour).Unix()) }, false},
		{"exp", "fraction", func() any { return float64(time.Now().Add(time.Hour).Unix()) + 0.5 }, true},
		{"exp", "1e308", raw("1e308"), false},
		{"exp", "1e400", raw("1e400"), false},
		{"exp", "2^63", raw("9223372036854775808"), false},
		{"exp", "-1", is(-1), false},
		{"exp", "0", is(0), false},
		{"exp", "true", is(true), false},
		{"exp", "null", raw("null"), false},
		{"exp", "array", raw("[]"), false},
		{"exp", "now", now(0), true},
		{"exp", "inside the leeway", now(-29 * time.Second), true},
		{"exp", "at the leeway", now(-30 * time.Second), false},
		{"exp", "past the leeway", now(-31 * time.Second), false},
		{"nbf", "inside the leeway", now(29 * time.Second), true},
		{"nbf", "past the leeway", now(35 * time.Second), false},
		{"nbf", "string", is("1"), false},
		{"nbf", "null", raw("null"), false},
		{"iat", "inside the leeway", now(29 * time.Second), true},
		{"iat", "past the leeway", now(35 * time.Second), false},
		{"iat", "object", raw("{}"), false},
		{"iat", "missing", missing, true},
		{"sub", "missing", missing, false},
		{"sub", "empty", is(""), false},
		{"sub", "number", is(42), false},
		{"sub", "array", raw(`["a"]`), false},
		{"sub", "10 kB", is(strings.Repeat("s", 10_000)), false},
		{"sub", "control", is("a\x1b[2Jb"), false},
		{"sub", "bidi", is("a\u202eb"), false},
		{"sub", "null", raw("null"), false},
		{"SUB", "like sub", is("mallory"), false},
		{"Aud", "like aud", is("api"), false},
		{"EXP", "like exp", is(1 << 40), false},
		{"Iss", "like iss", is(issuer), false},
		{"Typ", "like typ", is("Bearer"), false},
		{"sid", "number", is(1), false},
		{"cnf", "DPoP", raw(`{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}`), false},
		{"cnf", "mutual TLS", raw(`{"x5t#S256":"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}`), false},
		{"cnf", "empty", raw("{}"), false},
		{"cnf", "null", raw("null"), false},
		{"events", "of a logout token", raw(`{"http://schemas.openid.net/event/backchannel-logout":{}}`), false},
		{"events", "null", raw("null"), false},
		{"at_hash", "of an ID token", is("x"), false},
		{"c_hash", "of an ID token", is("x"), false},
		{"nonce", "of an old Keycloak", is("n"), true},
		{"client_id", "not compared", is(5), true},
		{"name", "anything", is("Zoë \x1b"), true},
	} {
		t.Run(c.claim+" "+c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				claims := usualAccess()
				if claims[c.claim] = c.value(); claims[c.claim] == nil {
					delete(claims, c.claim)
				}
				who, err := verifyAccess(newClient(t, p), p.Sign(rawPayload(claims), atJWT), forAPI)
				wantVerdict(t, "token", c.good, who, err)
			})
		})
	}
}

func TestAccessIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		claims := usualAccess()
		maps.Copy(claims, map[string]any{"sid": "s-1", "groups": []string{"staff"}, "big": json.RawMessage("12345678901234567890")})
		who, err := verifyAccess(newClient(t, p), p.Sign(payload(claims), atJWT), forAPI)
		if err != nil {
			t.Fatal(err)
		}
		if who.Issuer != issuer || who.Subject != "sub-alice" || who.SessionID != "s-1" || who.Expiry.Unix() != time.Now().Add(time.Hour).Unix() ||
			fmt.Sprint(who.Claims["big"]) != "12345678901234567890" || fmt.Sprint(who.Claims["groups"]) != "[staff]" {
			t.Errorf("%+v", who)
		}
	})
}

// TestAccessParties: each list that is set must hold.
func TestAccessParties(t *testing.T) {
	api, cli := []string{"api"}, []string{"cli", "web"}
	for name, c := range map[string]struct {
		b      Bearer
		claims map[string]any // nil takes a claim away
		good   bool
	}{
		"client_id":                   {Bearer{AuthorizedParties: cli}, nil, true},
		"azp":                         {Bearer{AuthorizedParties: cli}, map[string]any{"client_id": nil, "azp": "web"}, true},
		"both":                        {Bearer{AuthorizedParties: cli}, map[string]any{"azp": "cli"}, true},
		"both, of two":                {Bearer{AuthorizedParties: cli}, map[string]any{"azp": "web"}, true},
		"azp of another":              {Bearer{AuthorizedParties: cli}, map[string]any{"azp": "other"}, false},
		"client_id of another":        {Bearer{AuthorizedParties: cli}, map[string]any{"azp": "cli", "client_id": "other"}, false},
		"neither":                     {Bearer{AuthorizedParties: cli}, map[string]any{"client_id": nil}, false},
		"longer":                      {Bearer{AuthorizedParties: cli}, map[string]any{"client_id": "cli2"}, false},
		"in capitals":                 {Bearer{AuthorizedParties: cli}, map[string]any{"client_id": "CLI"}, false},
		"empty":                       {Bearer{AuthorizedParties: cli}, map[string]any{"client_id": ""}, false},
		"azp null":                    {Bearer{AuthorizedParties: cli}, map[string]any{"azp": json.RawMessage("null")}, false},
		"azp array":                   {Bearer{AuthorizedParties: cli}, map[string]any{"azp": []string{"cli"}}, false},
		"client_id number":            {Bearer{AuthorizedParties: cli}, map[string]any{"client_id": 5}, false},
		"by another name":             {Bearer{AuthorizedParties: cli}, map[string]any{"client_id": nil, "Client_ID": "cli", "clientId": "cli"}, false},
		"party without an audience":   {Bearer{AuthorizedParties: cli}, map[string]any{"aud": nil}, true},
		"party for another audience":  {Bearer{AuthorizedParties: cli}, map[string]any{"aud": "other"}, true},
		"audience of any party":       {Bearer{Audiences: api}, map[string]any{"client_id": "other", "azp": "another"}, true},
		"audience without a party":    {Bearer{Audiences: api}, map[string]any{"client_id": nil}, true},
		"two lists":                   {Bearer{Audiences: api, AuthorizedParties: cli}, nil, true},
		"two lists, another audience": {Bearer{Audiences: api, AuthorizedParties: cli}, map[string]any{"aud": "other"}, false},
		"two lists, no audience":      {Bearer{Audiences: api, AuthorizedParties: cli}, map[string]any{"aud": nil}, false},
		"two lists, another party":    {Bearer{Audiences: api, AuthorizedParties: cli}, map[string]any{"client_id": "other"}, false},
		"two lists, no party":         {Bearer{Audiences: api, AuthorizedParties: cli}, map[string]any{"client_id": nil}, false},
		"no list":                     {Bearer{}, nil, false},
		"an empty list of audiences":  {Bearer{Audiences: []string{}}, nil, false},
		"an empty list of parties":    {Bearer{AuthorizedParties: []string{}}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				who, err := verifyAccess(newClient(t, p), p.Sign(payload(changed(usualAccess(), c.claims)), atJWT), c.b)
				wantVerdict(t, "token", c.good, who, err)
			})
		})
	}
}

// changed sets claims, and takes away those whose value is nil.
func changed(claims, by map[string]any) map[string]any {
	maps.Copy(claims, by)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// TestAccessTypes: what is no access token by its header or by its claims does
// not pass for one.
func TestAccessTypes(t *testing.T) {
	h := func(name jose.HeaderKey, v any) map[jose.HeaderKey]any {
		return changedHeader(map[jose.HeaderKey]any{"typ": "at+jwt"}, name, v)
	}
	keycloak := map[string]any{"typ": "Bearer", "azp": "cli", "client_id": nil}
	typ := func(v any) map[string]any { return map[string]any{"typ": v} }
	for name, c := range map[string]struct {
		header map[jose.HeaderKey]any
		claims map[string]any
		good   bool
	}{
		"at+jwt":                          {h("typ", "at+jwt"), nil, true},
		"application/at+jwt":              {h("typ", "application/at+jwt"), nil, true},
		"AT+JWT":                          {h("typ", "AT+JWT"), nil, true},
		"Application/At+Jwt":              {h("typ", "Application/At+Jwt"), nil, true},
		"at+jwt with a parameter":         {h("typ", "at+jwt;x"), keycloak, false},
		"at+jwt with a space":             {h("typ", "at+jwt "), keycloak, false},
		"at+jwt twice prefixed":           {h("typ", "application/application/at+jwt"), keycloak, false},
		"text/at+jwt":                     {h("typ", "text/at+jwt"), keycloak, false},
		"logout+jwt":                      {h("typ", "logout+jwt"), keycloak, false},
		"dpop+jwt":                        {h("typ", "dpop+jwt"), keycloak, false},
		"secevent+jwt":                    {h("typ", "secevent+jwt"), keycloak, false},
		"JOSE":                            {h("typ", "JOSE"), keycloak, false},
		"typ number":                      {h("typ", 1), keycloak, false},
		"typ array":                       {h("typ", []string{"at+jwt"}), keycloak, false},
		"TYP":                             {map[jose.HeaderKey]any{"TYP": "at+jwt"}, nil, false},
		"JWT without a mark":              {h("typ", "JWT"), nil, false},
		"nothing without a mark":          {nil, nil, false},
		"null without a mark":             {h("typ", nil), nil, false},
		"JWT with Keycloak's mark":        {h("typ", "JWT"), keycloak, true},
		"application/jwt with Keycloak's": {h("typ", "application/jwt"), keycloak, true},
		"nothing with Keycloak's":         {nil, keycloak, true},
		"at+jwt with Keycloak's":          {h("typ", "at+jwt"), keycloak, true},
		"an old Keycloak's with a nonce":  {h("typ", "JWT"), changed(map[string]any{"nonce": "n"}, keycloak), true},
		"the mark in lower case":          {h("typ", "JWT"), typ("bearer"), false},
		"the mark in an array":            {h("typ", "JWT"), typ([]string{"Bearer"}), false},
		"another mark":                    {h("typ", "JWT"), typ("JWT"), false},
		"the mark in the header":          {h("typ", "Bearer"), nil, false},
		"payload ID":                      {h("typ", "at+jwt"), typ("ID"), false},
		"payload id":                      {h("typ", "at+jwt"), typ("id"), false},
		"payload Serialized-ID":           {h("typ", "at+jwt"), typ("Serialized-ID"), false},
		"payload Refresh":                 {h("typ", "at+jwt"), typ("Refresh"), false},
		"payload Offline":                 {h("typ", "at+jwt"), typ("Offline"), false},
		"payload Logout":                  {h("typ", "at+jwt"), typ("Logout"), false},
		"payload number":                  {h("typ", "at+jwt"), typ(5), false},
		"the mark beside at_hash":         {h("typ", "JWT"), changed(map[string]any{"at_hash": "x"}, keycloak), false},
		"the mark on a DPoP token":        {h("typ", "JWT"), changed(map[string]any{"cnf": map[string]any{"jkt": "x"}}, keycloak), false},
		"crit":                            {changedHeader(h("crit", []string{"x"}), "x", 1), nil, false},
		"crit empty":                      {h("crit", []string{}), nil, false},
		"crit of nothing":                 {h("crit", []string{"absent"}), nil, false},
		"crit null":                       {h("crit", nil), nil, false},
		"crit b64":                        {changedHeader(h("crit", []string{"b64"}), "b64", false), nil, false},
		"b64 without crit":                {h("b64", true), nil, false},
		"nested":                          {h("cty", "JWT"), nil, false},
		"nested by another name":          {h("cty", "application/jwt"), nil, false},
		"an unknown member":               {h("x", 1), nil, true},
		"zip, which is of JWE":            {h("zip", "DEF"), nil, true},
		"Crit":                            {h("Crit", []string{"x"}), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				who, err := verifyAccess(newClient(t, p), p.Sign(payload(changed(usualAccess(), c.claims)), c.header), forAPI)
				wantVerdict(t, "token", c.good, who, err)
			})
		})
	}
}

func changedHeader(header map[jose.HeaderKey]any, name jose.HeaderKey, v any) map[jose.HeaderKey]any {
	header[name] = v
	return header
}

// TestOtherTokensOfTheIssuer: ID, refresh and logout tokens open nothing, also
// where the audience that is accepted is this gateway's own client id.
func TestOtherTokensOfTheIssuer(t *testing.T) {
	event := map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}
	for name, c := range map[string]struct {
		header map[jose.HeaderKey]any
		claims map[string]any
	}{
		"ID token":                          {nil, nil},
		"ID token, typ JWT":                 {map[jose.HeaderKey]any{"typ": "JWT"}, nil},
		"ID token of a code flow":           {nil, map[string]any{"nonce": "n", "at_hash": "x", "c_hash": "y"}},
		"ID token with azp":                 {nil, map[string]any{"azp": "gate"}},
		"Keycloak's ID token":               {map[jose.HeaderKey]any{"typ": "JWT"}, map[string]any{"typ": "ID", "azp": "gate"}},
		"Keycloak's refresh token":          {map[jose.HeaderKey]any{"typ": "JWT"}, map[string]any{"typ": "Refresh", "azp": "gate"}},
		"Keycloak's offline token":          {map[jose.HeaderKey]any{"typ": "JWT"}, map[string]any{"typ": "Offline", "azp": "gate"}},
		"logout token":                      {map[jose.HeaderKey]any{"typ": "logout+jwt"}, map[string]any{"events": event, "azp": "gate"}},
		"logout token without a type":       {nil, map[string]any{"events": event, "azp": "gate"}},
		"Keycloak's logout token":           {map[jose.HeaderKey]any{"typ": "JWT"}, map[string]any{"typ": "Logout", "events": event, "azp": "gate"}},
		"logout token that says it is ours": {atJWT, map[string]any{"events": event, "azp": "gate"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				client := newClient(t, p)
				token := p.Sign(payload(changed(usual(), c.claims)), c.header)
				for _, b := range []Bearer{{Audiences: []string{"gate"}}, {AuthorizedParties: []string{"gate"}}} {
					who, err := verifyAccess(client, token, b)
					wantInvalid(t, fmt.Sprintf("%+v", b), who, err)
				}
			})
		})
	}
}
