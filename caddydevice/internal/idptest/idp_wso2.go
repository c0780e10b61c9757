// This file holds WSO2 Identity Server, read in its source (mid 2026), and its
// old releases, read in reports.

package idptest

import (
	"net/http"
	"time"
)

// WSO2 is the server as it is today. Its issuer is the address of its token
// endpoint. A poll at exactly the interval is too early, counts as the last one
// all the same, and the first is measured from the device authorization on.
func WSO2() *Replay {
	const base = "https://is.example.com:9443"
	const issuer = base + "/oauth2/token"
	slow := refused(http.StatusBadRequest, "slow_down", "Forbidden")
	return &Replay{
		Name: "WSO2 Identity Server", Issuer: issuer, ClientID: "gate", ClientSecret: "wso2-canary-secret",
		Document: Page{issuer + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","authorization_endpoint":"` + base + `/oauth2/authorize",` +
			`"token_endpoint":"` + base + `/oauth2/token","userinfo_endpoint":"` + base + `/oauth2/userinfo","jwks_uri":"` + base + `/oauth2/jwks",` +
			`"revocation_endpoint":"` + base + `/oauth2/revoke","device_authorization_endpoint":"` + base + `/oauth2/device_authorize",` +
			`"scopes_supported":["address","phone","openid","profile","groups","email"],` +
			`"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"],` +
			`"grant_types_supported":["refresh_token","authorization_code","urn:ietf:params:oauth:grant-type:device_code"],` +
			`"id_token_signing_alg_values_supported":["RS256"],"code_challenge_methods_supported":["plain","S256"],` +
			`"backchannel_logout_supported":true,"backchannel_logout_session_supported":true}`},
		Where: Addresses{
			Device: base + "/oauth2/device_authorize", Token: base + "/oauth2/token", Keys: base + "/oauth2/jwks",
			UserInfo: base + "/oauth2/userinfo", Revocation: base + "/oauth2/revoke",
		},
		Auth: Auth{
			At: []Endpoint{DeviceCode, Poll, Refresh, Revocation}, Methods: []string{"basic", "post"}, Decoded: true,
			Bad: refused(http.StatusUnauthorized, "invalid_client", "Client Authentication failed."),
		},
		Refusals: []Refusal{
			{DeviceCode, sendsTwice, refused(http.StatusBadRequest, "invalid_request", "Invalid request with repeated parameters.")},
			{DeviceCode, all(not(usesBasic), lacks("client_id")), refused(http.StatusUnauthorized, "invalid_request", "Missing parameters: client_id")},
		},
		Codes: Codes{
			Answer: `{"user_code":"$user_code","device_code":"$device_code","interval":5,"verification_uri":"` + base + `/authenticationendpoint/device.do",` +
				`"verification_uri_complete":"` + base + `/authenticationendpoint/device.do?user_code=$user_code","expires_in":600}`,
			Code: "3ea3ee9c-8b57-4f0e-9a52-1c1a6b0a7a4f", UserCodes: []string{"bWnQ7k", "Rzx4Vt"}, Life: 600 * time.Second,
		},
		Polls: Polls{
			// its expiry is looked at for approved codes only
			Order:      []Check{unapproved(tooFast), pending, expired},
			Pace:       Pace{Every: 5 * time.Second, Strict: true, Moves: true, FromStart: true},
			Undeniable: true,
			Pending:    refused(http.StatusBadRequest, "authorization_pending", "Precondition required"),
			SlowDown:   slow,
			Expired:    refused(http.StatusBadRequest, "expired_token", "Forbidden"),
			Unknown:    refused(http.StatusBadRequest, "invalid_request", "Invalid device code"),
			Reused:     slow,
		},
		Tokens: Tokens{
			Answer: `{"access_token":"$access_token","refresh_token":"$refresh_token","scope":"$scope","id_token":"$id_token","token_type":"Bearer","expires_in":3600}`,
			Life:   time.Hour,
			Access: "6f2b7b0e-opaque-",
			IDClaims: `{"iss":"` + issuer + `","sub":"4b1c-alice","aud":["$client_id","https://api.example.com"],"azp":"$client_id","exp":$exp,"nbf":$now,"iat":$now,` +
				`"at_hash":"$at_hash","amr":["BasicAuthenticator"],"isk":"a1b2","org_id":"10084a8d","org_name":"Super","username":"alice"}`,
			ByScope: map[string]string{"groups": `,"groups":["staff","admin"]`},
			Key:     Key{PublishedID: "MTk5NjA3YjRkNGRmZmI4NTYyMzEzZWFhZDM1YzAyOGM5NTYy_RS256", TokenID: "MTk5NjA3YjRkNGRmZmI4NTYyMzEzZWFhZDM1YzAyOGM5NTYy_RS256"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: refused(http.StatusBadRequest, "invalid_grant", "Persisted access token data not found")},
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", "Unsupported grant_type value"),
	}
}

// WSO2Old is the server of 5.10, 5.11 and 7.1.0-m1, which answers a code that
// nobody has approved yet like one that it does not know.
func WSO2Old() *Replay {
	r := WSO2()
	r.Name = "WSO2 Identity Server, old"
	r.Polls.Pending = refused(http.StatusBadRequest, "invalid_grant", "Error occurred while retrieving subject identifier")
	return r
}
