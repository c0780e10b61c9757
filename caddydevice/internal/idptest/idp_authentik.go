// This file holds authentik, read in its source (of about 2025.12, with the
// client authentication of 2026).

package idptest

import (
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const authentikBase = "https://auth.example.com"

// Authentik is a provider with a signing key, in the issuer mode per_provider.
func Authentik() *Replay {
	issuer := authentikBase + "/application/o/gate/"
	return &Replay{
		Name: "authentik", Issuer: issuer, ClientID: "gate", ClientSecret: "authentikCanarySecretOfLettersAndDigits0123456789",
		Document: Page{issuer + ".well-known/openid-configuration", authentikDocument(issuer, "RS256")},
		Where: Addresses{
			Device: authentikBase + "/application/o/device/", Token: authentikBase + "/application/o/token/", Keys: issuer + "jwks/",
			UserInfo: authentikBase + "/application/o/userinfo/", Revocation: authentikBase + "/application/o/revoke/",
		},
		Auth: Auth{
			At: []Endpoint{Poll, Refresh, Revocation}, Methods: []string{"basic", "post"},
			Bad: refused(http.StatusBadRequest, "invalid_client", "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method)"),
		},
		Refusals: []Refusal{
			{DeviceCode, namesOther, refused(http.StatusBadRequest, "invalid_client", "Client authentication failed")},
			{Refresh, all(sends("scope"), not(asksFor("offline_access"))), refused(http.StatusBadRequest, "invalid_scope", "The requested scope is invalid, unknown, or malformed")},
		},
		Codes: Codes{
			Answer: `{"device_code": "$device_code", "verification_uri": "` + authentikBase + `/device", ` +
				`"verification_uri_complete": "` + authentikBase + `/device?code=$user_code", "user_code": "$user_code", "expires_in": 60, "interval": 5}`,
			// 128 of letters, digits and punctuation
			Code: "a&b+c%20d#e\"f<g\\h`i=j;k/l?m@n:o,p'q$r!s(t)u*v[w]x^y{z}|~-._>" + strings.Repeat("Zz9&", 17), UserCodes: []string{"012345678", "900000017"}, Life: 60 * time.Second,
			PerHour: 20, TooMany: Raw(http.StatusTooManyRequests, `{"error": "slow_down", "error_description": "Slow down"}`),
		},
		Polls: Polls{
			Order:      []Check{pending},
			Undeniable: true,
			Pending:    refused(http.StatusBadRequest, "authorization_pending", "The authorization request is still pending"),
			Unknown:    refused(http.StatusBadRequest, "invalid_grant", "The provided authorization grant or refresh token is invalid, expired, revoked"),
			Reused:     refused(http.StatusBadRequest, "invalid_grant", "The provided authorization grant or refresh token is invalid, expired, revoked"),
		},
		Tokens: Tokens{
			Answer: `{"access_token": "$access_token", "token_type": "Bearer", "scope": "$scope", "expires_in": 300,"id_token":"$id_token","refresh_token":"$refresh_token"}`,
			Life:   300 * time.Second,
			AccessClaims: `{"iss":"` + issuer + `","sub":"7f0c-hashed-alice","aud":"$client_id","exp":$exp,"iat":$now,"auth_time":$auth_time,"azp":"$client_id","uid":"uY7x",` +
				`"sid":"9c1185a5c5e9fc54612808977ee8f548b2258d31"}`,
			IDClaims: `{"iss":"` + issuer + `","sub":"7f0c-hashed-alice","aud":"$client_id","exp":$exp,"iat":$now,"auth_time":$auth_time,"acr":"goauthentik.io/providers/oauth2/default",` +
				`"sid":"9c1185a5c5e9fc54612808977ee8f548b2258d31"}`,
			IDAlways:      true,
			ByScope:       map[string]string{"profile": `,"name":"Alice","preferred_username":"alice","groups":["staff","authentik Admins"]`},
			RefreshScopes: []string{"offline_access"},
			Key:           Key{PublishedID: "b8c1e0d3c7f54f0f", TokenID: "b8c1e0d3c7f54f0f"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: refused(http.StatusBadRequest, "invalid_grant", "The provided authorization grant or refresh token is invalid, expired, revoked")},
		Claims:    `{"sub":"7f0c-hashed-alice","name":"Alice","preferred_username":"alice","groups":["staff","authentik Admins"]}`,
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", "The authorization grant type is not supported by the authorization server."),
	}
}

func authentikDocument(issuer, alg string) string {
	const own = authentikBase + "/application/o/"
	return `{"issuer": "` + issuer + `", "authorization_endpoint": "` + own + `authorize/", "token_endpoint": "` + own + `token/", ` +
		`"userinfo_endpoint": "` + own + `userinfo/", "end_session_endpoint": "` + own + `gate/end-session/", ` +
		`"introspection_endpoint": "` + own + `introspect/", "revocation_endpoint": "` + own + `revoke/", ` +
		`"device_authorization_endpoint": "` + own + `device/", "jwks_uri": "` + own + `gate/jwks/", ` +
		`"grant_types_supported": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"], ` +
		`"id_token_signing_alg_values_supported": ["` + alg + `"], ` +
		`"token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"], ` +
		`"scopes_supported": ["openid", "email", "profile", "offline_access"], "code_challenge_methods_supported": ["plain", "S256"]}`
}

// AuthentikGlobal is authentik whose issuer is its root, which is not where its
// discovery document is.
func AuthentikGlobal() *Replay {
	r := Authentik()
	per, root := r.Issuer, authentikBase+"/"
	r.Name, r.Issuer = "authentik, global issuer", root
	r.Document.Body = authentikDocument(root, "RS256")
	r.Tokens.IDClaims = strings.Replace(r.Tokens.IDClaims, per, root, 1)
	r.Tokens.AccessClaims = strings.Replace(r.Tokens.AccessClaims, per, root, 1)
	return r
}

// AuthentikUnsigned is authentik without a signing key: tokens have HS256 with
// the client secret and no kid, and the key set has no keys member.
func AuthentikUnsigned() *Replay {
	r := Authentik()
	r.Name = "authentik, no signing key"
	r.Document.Body = authentikDocument(r.Issuer, "HS256")
	r.Tokens.Key = Key{Algorithm: jose.HS256, Document: `{}`}
	return r
}

// AuthentikEncrypted is authentik with an encryption key.
func AuthentikEncrypted() *Replay {
	r := Authentik()
	r.Name = "authentik, encryption key"
	r.Tokens.Key.Encrypts = true
	return r
}

// AuthentikBare is authentik with include_claims_in_id_token off.
func AuthentikBare() *Replay {
	r := Authentik()
	r.Name, r.Tokens.ByScope = "authentik, claims only in userinfo", nil
	return r
}

// AuthentikThreshold is authentik with a refresh token threshold: a refresh
// brings no new refresh token, and the old one goes on.
func AuthentikThreshold() *Replay {
	r := Authentik()
	r.Name, r.Refreshes.Rotates = "authentik, refresh token threshold", false
	r.Refreshes.Answer = `{"access_token": "$access_token", "token_type": "Bearer", "scope": "$scope", "expires_in": 300,"id_token":"$id_token"}`
	return r
}

// AuthentikPunctuated is authentik with a secret that form-encoding changes:
// Basic is not decoded there.
func AuthentikPunctuated() *Replay {
	r := Authentik()
	r.Name, r.ClientSecret = "authentik, secret with punctuation", "canary+secret/with=%32:signs"
	return r
}
