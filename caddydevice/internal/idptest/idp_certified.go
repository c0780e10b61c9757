// This file holds ZITADEL, node oidc-provider with Logto, which is made of it,
// and Authelia, read in their source (mid 2026).

package idptest

import (
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Zitadel is a native application, which has no secret and must send none.
func Zitadel() *Replay {
	const issuer = "https://zitadel.example.com"
	return &Replay{
		Name: "ZITADEL", Issuer: issuer, ClientID: "253019834987@gate",
		Document: Page{issuer + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","authorization_endpoint":"` + issuer + `/oauth/v2/authorize",` +
			`"token_endpoint":"` + issuer + `/oauth/v2/token","introspection_endpoint":"` + issuer + `/oauth/v2/introspect",` +
			`"userinfo_endpoint":"` + issuer + `/oidc/v1/userinfo","revocation_endpoint":"` + issuer + `/oauth/v2/revoke",` +
			`"device_authorization_endpoint":"` + issuer + `/oauth/v2/device_authorization","jwks_uri":"` + issuer + `/oauth/v2/keys",` +
			`"scopes_supported":["openid","profile","email","phone","address","offline_access"],"id_token_signing_alg_values_supported":["RS256"],` +
			`"token_endpoint_auth_methods_supported":["none","client_secret_basic","client_secret_post","private_key_jwt"],"code_challenge_methods_supported":["S256"]}`},
		Where: Addresses{
			Device: issuer + "/oauth/v2/device_authorization", Token: issuer + "/oauth/v2/token", Keys: issuer + "/oauth/v2/keys",
			UserInfo: issuer + "/oidc/v1/userinfo", Revocation: issuer + "/oauth/v2/revoke",
		},
		Auth: Auth{
			At: []Endpoint{DeviceCode, Poll, Refresh, Revocation}, Decoded: true,
			Bad:      refused(http.StatusUnauthorized, "invalid_client", "client not found"),
			Unwanted: refused(http.StatusUnauthorized, "invalid_client", "confidential client requires authentication"),
		},
		Codes: Codes{
			// [U] whether an interval is configured: without one the member is left out
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + issuer + `/device",` +
				`"verification_uri_complete":"` + issuer + `/device?user_code=$user_code","expires_in":300}`,
			Code: "9Uc7y2L4bXn0RdE3", UserCodes: []string{"GQWP-LTVX"}, Life: 300 * time.Second,
		},
		Polls: Polls{
			Order:    []Check{denied, expired, pending},
			Pending:  refused(http.StatusBadRequest, "authorization_pending", "The client SHOULD repeat the access token request to the token endpoint, after interval from device authorization response."),
			SlowDown: refused(http.StatusBadRequest, "slow_down", "Polling should continue, but the interval MUST be increased by 5 seconds for this and all subsequent requests."),
			Denied:   refused(http.StatusBadRequest, "access_denied", "The authorization request was denied."),
			Expired:  refused(http.StatusBadRequest, "expired_token", "The \"device_code\" has expired."),
			// whatever its storage says
			Unknown: refused(http.StatusBadRequest, "access_denied", "The authorization request was denied."),
			Reused:  refused(http.StatusBadRequest, "access_denied", "The authorization request was denied."),
		},
		Tokens: Tokens{
			Answer: `{"access_token":"$access_token","token_type":"Bearer","refresh_token":"$refresh_token","expires_in":43199,"id_token":"$id_token"}`,
			Life:   12 * time.Hour,
			IDClaims: `{"iss":"` + issuer + `","sub":"163840776835432705","aud":["$client_id","253019834000"],"azp":"$client_id","exp":$exp,"iat":$now,"auth_time":$auth_time,"amr":["pwd"],` +
				`"client_id":"$client_id","at_hash":"$at_hash","preferred_username":"alice@example.com","urn:zitadel:iam:org:project:roles":{"admin":{"253019":"example.zitadel.cloud"}}}`,
			RefreshScopes: []string{"offline_access"},
			Key:           Key{PublishedID: "276543210987", TokenID: "276543210987"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: refused(http.StatusBadRequest, "invalid_grant", "Errors.OIDCSession.RefreshTokenInvalid")},
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", "unsupported"),
	}
}

// OIDCProvider is panva's node oidc-provider. Whoever presents a code whose
// tokens were handed out loses them.
func OIDCProvider() *Replay {
	const issuer = "https://op.example.com"
	return &Replay{
		Name: "node oidc-provider", Issuer: issuer, ClientID: "gate", ClientSecret: "op-canary-secret",
		Document: Page{issuer + "/.well-known/openid-configuration", nodeDocument(issuer, "/device/auth", "/token", "RS256")},
		Where: Addresses{
			Device: issuer + "/device/auth", Token: issuer + "/token", Keys: issuer + "/jwks",
			UserInfo: issuer + "/me", Revocation: issuer + "/token/revocation",
		},
		Auth: Auth{
			At: []Endpoint{DeviceCode, Poll, Refresh, Revocation}, Methods: []string{"basic"}, Decoded: true,
			Bad: refused(http.StatusUnauthorized, "invalid_client", "client authentication failed"),
		},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + issuer + `/device",` +
				`"verification_uri_complete":"` + issuer + `/device?user_code=$user_code","expires_in":600}`,
			Code: "T8n0CjB5mKzV3qRwYxLpAh7sGdEfJuIo", UserCodes: []string{"HDWR-KXMN"}, Life: 600 * time.Second,
		},
		Polls: Polls{
			Order:        []Check{expired, denied, pending},
			Once:         true,
			ReuseRevokes: true,
			Pending:      refused(http.StatusBadRequest, "authorization_pending", "authorization request is still pending as the end-user hasn't yet completed the user interaction steps"),
			Denied:       refused(http.StatusBadRequest, "access_denied", "End-User aborted interaction"),
			Expired:      refused(http.StatusBadRequest, "expired_token", "device code is expired"),
			Unknown:      refused(http.StatusBadRequest, "invalid_grant", "grant request is invalid"),
			Reused:       refused(http.StatusBadRequest, "invalid_grant", "grant request is invalid"),
		},
		Tokens: Tokens{
			Answer: `{"access_token":"$access_token","expires_in":3600,"id_token":"$id_token","refresh_token":"$refresh_token","scope":"$scope","token_type":"Bearer"}`,
			Life:   time.Hour,
			IDClaims: `{"sub":"alice","preferred_username":"alice","groups":["staff"],"at_hash":"$at_hash","aud":"$client_id","exp":$exp,"iat":$now,` +
				`"iss":"` + issuer + `"}`,
			RefreshScopes: []string{"offline_access"},
			Key:           Key{PublishedID: "keystore-CHANGE-ME", TokenID: "keystore-CHANGE-ME"},
		},
		Refreshes: Refreshes{Rotates: true, SpentRevokes: true, Spent: refused(http.StatusBadRequest, "invalid_grant", "grant request is invalid")},
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", "unsupported grant_type requested"),
	}
}

func nodeDocument(issuer, device, token, alg string) string {
	return `{"authorization_endpoint":"` + issuer + `/auth","device_authorization_endpoint":"` + issuer + device + `",` +
		`"claims_supported":["sub","preferred_username","groups"],"code_challenge_methods_supported":["S256"],"end_session_endpoint":"` + issuer + `/session/end",` +
		`"grant_types_supported":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"issuer":"` + issuer + `",` +
		`"jwks_uri":"` + issuer + `/jwks","scopes_supported":["openid","offline_access","profile"],"id_token_signing_alg_values_supported":["` + alg + `"],` +
		`"token_endpoint":"` + issuer + token + `","token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_jwt","client_secret_post","private_key_jwt","none"],` +
		`"userinfo_endpoint":"` + issuer + `/me","revocation_endpoint":"` + issuer + `/token/revocation"}`
}

// Logto is oidc-provider for native applications, with keys on P-384.
func Logto() *Replay {
	const issuer = "https://logto.example.com/oidc" // [U]
	r := OIDCProvider()
	r.Name, r.Issuer, r.ClientID, r.ClientSecret = "Logto", issuer, "9f2hqk3gate", ""
	r.Document = Page{issuer + "/.well-known/openid-configuration", nodeDocument(issuer, "/device/auth", "/token", "ES384")}
	r.Where = Addresses{
		Device: issuer + "/device/auth", Token: issuer + "/token", Keys: issuer + "/jwks",
		UserInfo: issuer + "/me", Revocation: issuer + "/token/revocation",
	}
	r.Codes.Answer = `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"https://logto.example.com/device",` +
		`"verification_uri_complete":"https://logto.example.com/device?user_code=$user_code","expires_in":600}`
	r.Tokens.IDClaims = `{"sub":"u7x2alice","username":"alice","roles":["staff"],"at_hash":"$at_hash","aud":"$client_id","exp":$exp,"iat":$now,"iss":"` + issuer + `"}`
	r.Tokens.Key.Algorithm = jose.ES384
	return r
}

// Authelia has an interval of ten seconds, and whoever asks sooner begins to
// wait anew. A code that was used is an error of the server's.
func Authelia() *Replay {
	const issuer = "https://auth.example.org"
	return &Replay{
		Name: "Authelia", Issuer: issuer, ClientID: "gate", ClientSecret: "authelia-canary-secret",
		Document: Page{issuer + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","jwks_uri":"` + issuer + `/jwks.json",` +
			`"authorization_endpoint":"` + issuer + `/api/oidc/authorization","device_authorization_endpoint":"` + issuer + `/api/oidc/device-authorization",` +
			`"token_endpoint":"` + issuer + `/api/oidc/token","userinfo_endpoint":"` + issuer + `/api/oidc/userinfo",` +
			`"revocation_endpoint":"` + issuer + `/api/oidc/revocation","id_token_signing_alg_values_supported":["RS256","none"],` +
			`"scopes_supported":["offline_access","openid","profile","groups","email"],"code_challenge_methods_supported":["S256"],` +
			`"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post","client_secret_jwt","private_key_jwt","none"]}`},
		Where: Addresses{
			Device: issuer + "/api/oidc/device-authorization", Token: issuer + "/api/oidc/token", Keys: issuer + "/jwks.json",
			UserInfo: issuer + "/api/oidc/userinfo", Revocation: issuer + "/api/oidc/revocation",
		},
		Auth: Auth{
			At: []Endpoint{DeviceCode, Poll, Refresh, Revocation}, Methods: []string{"basic"}, Decoded: true,
			Bad: refused(http.StatusUnauthorized, "invalid_client", "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method)."),
		},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + issuer + `/consent/openid/device-authorization",` +
				`"verification_uri_complete":"` + issuer + `/consent/openid/device-authorization?user_code=$user_code","expires_in":600,"interval":10}`,
			Code: "authelia_dc_7c1Yw0Kq9uXn3ZtP", UserCodes: []string{"KLQZBMWX"}, Life: 600 * time.Second,
		},
		Polls: Polls{
			Order:    []Check{tooFast, denied, pending, expired},
			Pace:     Pace{Every: 10 * time.Second, Moves: true},
			Pending:  refused(http.StatusBadRequest, "authorization_pending", "The authorization request is still pending as the end user hasn't yet completed the user-interaction steps."),
			SlowDown: refused(http.StatusBadRequest, "slow_down", "The authorization request was rate-limited to prevent system overload."),
			Denied:   refused(http.StatusBadRequest, "access_denied", "The resource owner or authorization server denied the request."),
			Expired:  refused(http.StatusBadRequest, "expired_token", "The device_code has expired."),
			Unknown:  refused(http.StatusBadRequest, "invalid_grant", "The provided authorization grant is invalid."),
			Reused:   refused(http.StatusInternalServerError, "server_error", "The authorization server encountered an unexpected condition that prevented it from fulfilling the request."),
		},
		Tokens: Tokens{
			Answer: `{"access_token":"$access_token","expires_in":3599,"id_token":"$id_token","refresh_token":"$refresh_token","scope":"$scope","token_type":"bearer"}`,
			Life:   time.Hour,
			// of a version before the fix: nobody is its audience
			AccessClaims:  `{"iss":"` + issuer + `","sub":"5f0b-alice","aud":[],"client_id":"$client_id","scp":["openid"],"exp":$exp,"iat":$now,"jti":"e1"}`,
			AccessType:    "at+jwt",
			IDClaims:      `{"iss":"` + issuer + `","sub":"5f0b-alice","aud":["$client_id"],"azp":"$client_id","exp":$exp,"iat":$now,"auth_time":$auth_time,"at_hash":"$at_hash","amr":["pwd"],"jti":"e2"}`,
			ByScope:       map[string]string{"profile": `,"preferred_username":"alice"`, "groups": `,"groups":["staff","admins"]`},
			RefreshScopes: []string{"offline_access"},
			Key:           Key{PublishedID: "5b6d3a-rs256", TokenID: "5b6d3a-rs256"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: refused(http.StatusBadRequest, "invalid_grant", "The provided authorization grant is invalid.")},
		Claims:    `{"sub":"5f0b-alice","preferred_username":"alice","groups":["staff","admins"]}`,
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", "The authorization grant type is not supported."),
	}
}

// AutheliaBare is Authelia without a claims policy: who somebody is, beside
// sub, is in userinfo only.
func AutheliaBare() *Replay {
	r := Authelia()
	r.Name, r.Tokens.ByScope = "Authelia, claims only in userinfo", nil
	return r
}
