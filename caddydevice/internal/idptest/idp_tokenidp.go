// This file holds TokenIDP, read in its source (an alpha of 2026).

package idptest

import (
	"net/http"
	"strings"
	"time"
)

// tokenIDPError is how its errors read: the OAuth word is lost on the way.
func tokenIDPError(status int, text string) Reply {
	return Raw(status, `{"isSuccess":false,"error":{"code":"","error":"`+text+`","timestamp":"2000-01-01T00:00:00Z"}}`)
}

// TokenIDP is the server as it is today: JSON at the device endpoint, a grant
// type of its own, answers in an envelope, and a pending sign-in answered with
// 500. Pending, too fast, denied, expired and used up all look like that.
func TokenIDP() *Replay {
	const host = "https://tokenidp.example.com"
	broken := tokenIDPError(http.StatusInternalServerError, "An unexpected error occurred.")
	forgotten := Raw(http.StatusOK, `{"isSuccess":true,"value":{"isSuccess":false,"errorCode":"invalid_grant"}}`)
	return &Replay{
		Name: "TokenIDP", Issuer: host, ClientID: "gate", ClientSecret: "tokenidp-canary-secret", CamelCase: true,
		Document: Page{host + "/.well-known/openid-configuration", `{"issuer":"` + host + `","authorization_endpoint":"` + host + `/authorize",` +
			`"token_endpoint":"` + host + `/token","userinfo_endpoint":"` + host + `/userinfo","jwks_uri":"` + host + `/.well-known/jwks.json",` +
			`"device_authorization_endpoint":"` + host + `/device_authorization","introspect_endpoint":"` + host + `/introspect",` +
			`"revoke_token_endpoint":"` + host + `/revoke","scopes_supported":["openid","profile","email","offline_access"],` +
			`"grant_types_supported":["authorization_code","client_credentials","refresh_token","device_code"],"id_token_signing_alg_values_supported":["RS256"]}`},
		Where: Addresses{Device: host + "/device_authorization", Token: host + "/token", Keys: host + "/.well-known/jwks.json", Revocation: host + "/revoke"},
		Auth: Auth{
			At: []Endpoint{Poll, Refresh}, Methods: []string{"basic", "post", "none"},
			Bad:      tokenIDPError(http.StatusUnauthorized, "Client authentication failed."),
			Unwanted: tokenIDPError(http.StatusUnauthorized, "Client authentication failed."),
		},
		Refusals: []Refusal{
			{DeviceCode, isNot("application/json"), Reply{Status: http.StatusUnsupportedMediaType}},
			{DeviceCode, namesOther, tokenIDPError(http.StatusBadRequest, "Invalid client.")},
			{DeviceCode, lacks("scope"), tokenIDPError(http.StatusBadRequest, "The scope is required.")},
			{DeviceCode, asksBeyond("openid", "profile", "email", "offline_access"), tokenIDPError(http.StatusBadRequest, "The scope is not allowed.")},
			{Poll, all(usesBasic, sends("client_secret")), tokenIDPError(http.StatusBadRequest, "Several ways of client authentication.")},
			{Refresh, all(usesBasic, sends("client_secret")), tokenIDPError(http.StatusBadRequest, "Several ways of client authentication.")},
		},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + host + `/device",` +
				`"verification_uri_complete":"` + host + `/device?user_code=$user_code","expires_in":600,"interval":5}`,
			Code: "Zk3mVw9rTq1xYb7nHc5sLd2gJf8pKa4eUi6oR0tQyWs", UserCodes: []string{"K7QP-M2XD"}, Life: 600 * time.Second,
		},
		Polls: Polls{
			Grant: "device_code", Order: []Check{expired, denied, pending},
			Pending: broken, SlowDown: broken, Denied: broken, Expired: broken, Reused: broken, Unknown: forgotten,
		},
		Tokens: Tokens{
			// expires_in is minutes
			Answer: `{"isSuccess":true,"value":{"access_token":"$access_token","token_type":"Bearer","expires_in":60,"expireAt":"$expDate",` +
				`"isSuccess":true,"userId":"1234","id_token":"$id_token","refresh_token":"$refresh_token"}}`,
			Life: time.Hour,
			AccessClaims: `{"iss":"` + host + `","sub":"usr:1234","client_id":"$client_id","tenant_id":"1","tenant_key":"main","user_id":"1234","jti":"9d2e",` +
				`"scope":"$scope","unique_name":"alice","role":["Admin","Staff"],"exp":$exp,"nbf":$now,"iat":$now}`,
			IDClaims: `{"iss":"` + host + `","aud":"$client_id","sub":"usr:1234","unique_name":"alice","email":"alice@example.com","email_verified":"true",` +
				`"role":["Admin","Staff"],"exp":$exp,"nbf":$now,"iat":$now}`,
			IDAlways:      true,
			RefreshScopes: []string{"offline_access"},
			// the one is made of the key, the other of its certificate
			Key: Key{PublishedID: "qN3a8wYh1fT0uVv0bXkJ8dZ5sRr7mL2cPq9eGi4oHtE", TokenID: "6F1B0C22E6A3D7B94C0F5A8D1E2B3C4D5E6F7A8B"},
		},
		Refreshes: Refreshes{Rotates: true, SpentRevokes: true, Spent: tokenIDPError(http.StatusBadRequest, "The refresh token is invalid.")},
		RevokeBy:  http.MethodDelete,
		BadGrant:  tokenIDPError(http.StatusBadRequest, "unsupported_grant_type"),
	}
}

// TokenIDPPlain is an older build, whose answers have no envelope.
func TokenIDPPlain() *Replay {
	r := TokenIDP()
	r.Name = "TokenIDP, plain answers"
	r.Tokens.Answer = `{"access_token":"$access_token","token_type":"Bearer","expires_in":60,"expireAt":"$expDate",` +
		`"id_token":"$id_token","refresh_token":"$refresh_token"}`
	return r
}

// TokenIDPCamel writes its members as ASP.NET does by default. [U] of answers:
// the names are only known to be taken in both cases.
func TokenIDPCamel() *Replay {
	r := TokenIDP()
	r.Name = "TokenIDP, camelCase answers"
	camel := strings.NewReplacer(`"device_code":`, `"deviceCode":`, `"user_code":`, `"userCode":`, `"verification_uri":`, `"verificationUri":`,
		`"verification_uri_complete":`, `"verificationUriComplete":`, `"expires_in":`, `"expiresIn":`, `"access_token":`, `"accessToken":`,
		`"token_type":`, `"tokenType":`, `"id_token":`, `"idToken":`, `"refresh_token":`, `"refreshToken":`)
	r.Codes.Answer, r.Tokens.Answer = camel.Replace(r.Codes.Answer), camel.Replace(r.Tokens.Answer)
	return r
}

// TokenIDPCookie delivers the refresh token in a cookie only.
func TokenIDPCookie() *Replay {
	r := TokenIDP()
	r.Name = "TokenIDP, refresh token as a cookie"
	r.Tokens.Answer = without(r.Tokens.Answer, `,"refresh_token":"$refresh_token"`)
	r.Tokens.Header = http.Header{"Set-Cookie": {"refresh_token=refresh-canary-1; path=/token; secure; samesite=strict; httponly"}}
	return r
}

// TokenIDPPunctuated has a secret that form-encoding changes: Basic is not
// decoded there.
func TokenIDPPunctuated() *Replay {
	r := TokenIDP()
	r.Name, r.ClientSecret = "TokenIDP, secret with punctuation", "canary+secret/with=%32:signs"
	return r
}
