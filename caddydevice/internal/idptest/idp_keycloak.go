// This file holds Keycloak, read in its source (of about version 20 to 26).

package idptest

import (
	"net/http"
	"time"
)

// Keycloak is a realm whose client is confidential, with PKCE known, and groups
// mapped as paths.
func Keycloak() *Replay {
	const realm = "https://keycloak.example.com/realms/demo"
	return &Replay{
		Name: "Keycloak", Issuer: realm, ClientID: "gate", ClientSecret: "keycloak-canary-secret",
		Document: Page{realm + "/.well-known/openid-configuration", keycloakDocument(realm, realm)},
		Where:    keycloakAddresses(realm, realm),
		Auth: Auth{
			At: []Endpoint{DeviceCode, Poll, Refresh, Revocation}, Methods: []string{"basic", "post"}, Decoded: true,
			// [U] whether it is this word or invalid_client
			Bad: Raw(http.StatusUnauthorized, `{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}`),
		},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + realm + `/device",` +
				`"verification_uri_complete":"` + realm + `/device?user_code=$user_code","expires_in":600,"interval":5}`,
			Code: "cHVibGljIGJ1dCBsb25nIGFuZCByYW5kb20gZW5vdWdo", UserCodes: []string{"OIWD-BMJH"}, Life: 600 * time.Second,
		},
		Polls: Polls{
			Order: []Check{expired, tooFast, denied, pending},
			Pace:  Pace{Every: 5 * time.Second},
			Kept:  15 * time.Second, // the interval, and ten seconds
			PKCE:  true,

			Pending:  refused(http.StatusBadRequest, "authorization_pending", "The authorization request is still pending"),
			SlowDown: refused(http.StatusBadRequest, "slow_down", "Slow down"),
			Denied:   refused(http.StatusBadRequest, "access_denied", "The end user denied the authorization request"),
			Expired:  refused(http.StatusBadRequest, "expired_token", "Device code is expired"),
			Unknown:  refused(http.StatusBadRequest, "invalid_grant", "Device code not valid"),
			Reused:   refused(http.StatusBadRequest, "invalid_grant", "Device code not valid"),
		},
		Tokens: Tokens{
			Answer: `{"access_token":"$access_token","expires_in":300,"refresh_expires_in":0,"refresh_token":"$refresh_token","token_type":"Bearer",` +
				`"id_token":"$id_token","not-before-policy":0,"session_state":"3b3e7d3f-5d70-4a0e-9d0b-7c36a1c5b2f1","scope":"$scope"}`,
			Life: 300 * time.Second,
			// the client is no audience of its own token
			AccessClaims: `{"exp":$exp,"iat":$now,"jti":"5d6b","iss":"` + realm + `","aud":"account","sub":"f3c9-alice","typ":"Bearer","azp":"$client_id",` +
				`"sid":"3b3e7d3f","realm_access":{"roles":["admin"]},"scope":"$scope"}`,
			IDClaims: `{"exp":$exp,"iat":$now,"jti":"0b1f","iss":"` + realm + `","aud":"$client_id","sub":"f3c9-alice","typ":"ID","azp":"$client_id",` +
				`"sid":"3b3e7d3f","at_hash":"$at_hash","nonce":"$nonce","preferred_username":"alice","groups":["/staff","/staff/admins"]}`,
			Key: Key{PublishedID: "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE", TokenID: "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: refused(http.StatusBadRequest, "invalid_grant", "Token is not active")},
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", "Unsupported grant_type"),
	}
}

// keycloakDocument lists every algorithm that there is an implementation of,
// HS256 among them: no list to take on trust.
func keycloakDocument(front, back string) string {
	return `{"issuer":"` + front + `","authorization_endpoint":"` + front + `/protocol/openid-connect/auth",` +
		`"token_endpoint":"` + back + `/protocol/openid-connect/token","userinfo_endpoint":"` + back + `/protocol/openid-connect/userinfo",` +
		`"end_session_endpoint":"` + front + `/protocol/openid-connect/logout","jwks_uri":"` + back + `/protocol/openid-connect/certs",` +
		`"grant_types_supported":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],` +
		`"id_token_signing_alg_values_supported":["PS384","RS384","EdDSA","ES384","HS256","HS512","ES256","RS256","HS384","ES512","PS256","PS512","RS512"],` +
		`"token_endpoint_auth_methods_supported":["private_key_jwt","client_secret_basic","client_secret_post","tls_client_auth","client_secret_jwt"],` +
		`"scopes_supported":["openid","email","acr","phone","microprofile-jwt","profile","offline_access","address","roles","web-origins"],` +
		`"code_challenge_methods_supported":["plain","S256"],"revocation_endpoint":"` + front + `/protocol/openid-connect/revoke",` +
		`"backchannel_logout_supported":true,"backchannel_logout_session_supported":true,` +
		`"device_authorization_endpoint":"` + front + `/protocol/openid-connect/auth/device"}`
}

func keycloakAddresses(front, back string) Addresses {
	return Addresses{
		Device: front + "/protocol/openid-connect/auth/device", Token: back + "/protocol/openid-connect/token",
		Keys: back + "/protocol/openid-connect/certs", UserInfo: back + "/protocol/openid-connect/userinfo",
		Revocation: front + "/protocol/openid-connect/revoke",
	}
}

// KeycloakPublic is Keycloak for a client without a secret.
func KeycloakPublic() *Replay {
	r := Keycloak()
	r.Name, r.ClientSecret = "Keycloak, public client", ""
	return r
}

// KeycloakPKCE is Keycloak for a client that has to send a code challenge.
func KeycloakPKCE() *Replay {
	r := KeycloakPublic()
	r.Name = "Keycloak, PKCE demanded"
	missing := refused(http.StatusBadRequest, "invalid_request", "Missing parameter: code_challenge_method")
	r.Refusals = []Refusal{{DeviceCode, lacks("code_challenge_method"), missing}, {DeviceCode, lacks("code_challenge"), missing}}
	return r
}

// KeycloakWithoutPKCE is Keycloak as if it had never heard of PKCE.
func KeycloakWithoutPKCE() *Replay {
	r := Keycloak()
	r.Name, r.Polls.PKCE = "Keycloak, PKCE unknown", false
	r.Document.Body = without(r.Document.Body, `"code_challenge_methods_supported":["plain","S256"],`)
	return r
}

// KeycloakSplit is Keycloak whose endpoints are partly behind another name than
// its issuer, as hostname-backchannel-dynamic makes it.
func KeycloakSplit() *Replay {
	r := Keycloak()
	back := "https://keycloak.internal.example.com/realms/demo"
	r.Name = "Keycloak, split host names"
	r.Document.Body, r.Where = keycloakDocument(r.Issuer, back), keycloakAddresses(r.Issuer, back)
	return r
}

// KeycloakGrantOff is Keycloak for a client whose device grant is switched off.
func KeycloakGrantOff() *Replay {
	r := Keycloak()
	r.Name = "Keycloak, grant off"
	off := refused(http.StatusBadRequest, "invalid_grant", "Client not allowed for OAuth 2.0 Device Authorization Grant")
	r.Refusals = []Refusal{{DeviceCode, always, off}, {Poll, always, off}}
	return r
}
