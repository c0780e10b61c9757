// This file holds Dex and Ory Hydra, read in their source (mid 2026).

package idptest

import (
	"net/http"
	"time"
)

// Dex takes any client at its device endpoint, and Basic counts for nothing
// there: the secret of the body is kept, and compared in the browser of whoever
// approves. Where it is wrong the person is told; the device waits on.
func Dex() *Replay {
	const issuer = "https://dex.example.com/dex"
	return &Replay{
		Name: "Dex", Issuer: issuer, ClientID: "gate", ClientSecret: "dex-canary-secret",
		Document: Page{issuer + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","authorization_endpoint":"` + issuer + `/auth",` +
			`"token_endpoint":"` + issuer + `/token","jwks_uri":"` + issuer + `/keys","userinfo_endpoint":"` + issuer + `/userinfo",` +
			`"device_authorization_endpoint":"` + issuer + `/device/code","introspection_endpoint":"` + issuer + `/token/introspect",` +
			`"grant_types_supported":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],` +
			`"id_token_signing_alg_values_supported":["RS256"],"code_challenge_methods_supported":["S256","plain"],` +
			`"scopes_supported":["openid","email","groups","profile","offline_access"],` +
			`"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"]}`},
		Where: Addresses{Device: issuer + "/device/code", Token: issuer + "/token", Keys: issuer + "/keys", UserInfo: issuer + "/userinfo"},
		Auth: Auth{
			At: []Endpoint{Refresh}, Methods: []string{"basic", "post"}, Decoded: true,
			Bad: refused(http.StatusUnauthorized, "invalid_client", "Invalid client credentials."),
		},
		Refusals: []Refusal{{Poll, verifierWithoutChallenge, refused(http.StatusBadRequest, "invalid_request", "No PKCE flow started. Cannot check code_verifier.")}},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + issuer + `/device",` +
				`"verification_uri_complete":"` + issuer + `/device?user_code=$user_code","expires_in":300,"interval":5}`,
			Code: "lfk3uyzpb2cdpgx2asq6mnoqjiw7njvzqxyuz4dr", UserCodes: []string{"BZHM-QXLT"}, Life: 300 * time.Second,
			Sound: provesInBody,
		},
		Polls: Polls{
			Order:      []Check{expired, tooFast, pending},
			Pace:       Pace{Every: 5 * time.Second, Moves: true, Adds: 5 * time.Second, Forgives: true},
			Kept:       time.Minute,
			Undeniable: true,
			SameAgain:  true,
			PKCE:       true,
			Pending:    Raw(http.StatusBadRequest, `{"error":"authorization_pending"}`),
			SlowDown:   Raw(http.StatusBadRequest, `{"error":"slow_down"}`),
			Expired:    Raw(http.StatusBadRequest, `{"error":"expired_token"}`),
			Unknown:    refused(http.StatusBadRequest, "invalid_request", "Invalid device code."),
		},
		Tokens: Tokens{
			// made when the person approved, so a little old
			Answer:        `{"access_token":"$access_token","token_type":"bearer","expires_in":86395,"refresh_token":"$refresh_token","id_token":"$id_token"}`,
			Life:          24 * time.Hour,
			AccessClaims:  `{"iss":"` + issuer + `","sub":"CgVhbGljZRIFbG9jYWw","aud":"$client_id","exp":$exp,"iat":$now}`,
			IDClaims:      `{"iss":"` + issuer + `","sub":"CgVhbGljZRIFbG9jYWw","aud":"$client_id","exp":$exp,"iat":$now,"at_hash":"$at_hash"}`,
			ByScope:       map[string]string{"groups": `,"groups":["staff","admins"]`, "profile": `,"name":"Alice","preferred_username":"alice"`},
			RefreshScopes: []string{"offline_access"},
			Key:           Key{PublishedID: "3c0a6f1d", TokenID: "3c0a6f1d"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: refused(http.StatusBadRequest, "invalid_grant", "Refresh token is invalid or has already been claimed by another client.")},
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", ""),
	}
}

// Hydra wants the client_id in the body beside Basic, and asks what a person
// said of a code before it asks whether that has run out.
func Hydra() *Replay {
	// [U] whether the issuer ends in a slash
	const base = "https://hydra.example.com"
	const issuer = base + "/"
	mismatch := refused(http.StatusUnauthorized, "invalid_client", "Client authentication failed. Provided client_id mismatch.")
	return &Replay{
		Name: "Ory Hydra", Issuer: issuer, ClientID: "gate", ClientSecret: "hydra-canary-secret",
		Document: Page{base + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","authorization_endpoint":"` + base + `/oauth2/auth",` +
			`"device_authorization_endpoint":"` + base + `/oauth2/device/auth","token_endpoint":"` + base + `/oauth2/token",` +
			`"jwks_uri":"` + base + `/.well-known/jwks.json","userinfo_endpoint":"` + base + `/userinfo","revocation_endpoint":"` + base + `/oauth2/revoke",` +
			`"scopes_supported":["offline_access","offline","openid"],"id_token_signing_alg_values_supported":["RS256"],` +
			`"token_endpoint_auth_methods_supported":["client_secret_post","client_secret_basic","private_key_jwt","none"],` +
			`"code_challenge_methods_supported":["plain","S256"],"backchannel_logout_supported":true,"backchannel_logout_session_supported":true}`},
		Where: Addresses{
			Device: base + "/oauth2/device/auth", Token: base + "/oauth2/token", Keys: base + "/.well-known/jwks.json",
			UserInfo: base + "/userinfo", Revocation: base + "/oauth2/revoke",
		},
		Auth: Auth{
			// the registered method only, which is Basic where nothing else is said
			At: []Endpoint{DeviceCode, Poll, Refresh, Revocation}, Methods: []string{"basic"}, Decoded: true,
			Bad: refused(http.StatusUnauthorized, "invalid_client", "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method)."),
		},
		Refusals: []Refusal{
			{DeviceCode, namesOther, mismatch},
			{DeviceCode, asksBeyond("openid", "offline", "offline_access", "profile"), refused(http.StatusBadRequest, "invalid_scope", "The requested scope is invalid, unknown, or malformed.")},
		},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + base + `/oauth2/device/verify",` +
				`"verification_uri_complete":"` + base + `/oauth2/device/verify?user_code=$user_code","expires_in":899,"interval":5}`,
			// [U] whether there are small letters among its characters
			Code: "ory_dc_wZ3vN8pQ4rT6yU1iO5aS7dF9gH2jK0lX", UserCodes: []string{"xK7TwP3d"}, Life: 900 * time.Second,
		},
		Polls: Polls{
			Order:   []Check{tooFast, denied, pending, expired},
			Pace:    Pace{Every: 5 * time.Second},
			Pending: refused(http.StatusBadRequest, "authorization_pending", "The authorization request is still pending as the end user hasn't yet completed the user-interaction steps."),
			// of the hosted one: a plain 429 from what stands in front
			SlowDown: Reply{Status: http.StatusTooManyRequests, Body: "Too Many Requests"},
			Denied:   refused(http.StatusBadRequest, "access_denied", "The resource owner or authorization server denied the request."),
			Expired:  refused(http.StatusBadRequest, "expired_token", "The device_code has expired, and the device authorization session has concluded."),
			Unknown:  refused(http.StatusBadRequest, "invalid_grant", "The provided authorization grant is invalid"),
			Reused:   refused(http.StatusBadRequest, "invalid_grant", "The provided authorization grant is invalid"),
		},
		Tokens: Tokens{
			Answer:        `{"access_token":"$access_token","expires_in":3599,"id_token":"$id_token","refresh_token":"$refresh_token","scope":"$scope","token_type":"bearer"}`,
			Life:          time.Hour,
			Access:        "ory_at_",
			IDClaims:      `{"iss":"` + issuer + `","sub":"alice@example.com","aud":["$client_id"],"exp":$exp,"iat":$now,"auth_time":$auth_time,"rat":$now,"jti":"c1","at_hash":"$at_hash","sid":"6a51","groups":["staff"]}`,
			RefreshScopes: []string{"offline", "offline_access"},
			Key:           Key{PublishedID: "hydra.openid.id-token", TokenID: "hydra.openid.id-token"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: refused(http.StatusBadRequest, "invalid_grant", "The refresh token was already used."), SpentRevokes: true},
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", "The authorization grant type is not supported"),
	}
}
