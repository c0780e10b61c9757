// This file holds Microsoft Entra ID, Okta, Auth0 and Google, read in their
// documentation.

package idptest

import (
	"net/http"
	"strings"
	"time"
)

const entraTenant = "6babcaad-604b-40ac-a9d7-9fd97c0b779f"

// Entra is one tenant of Entra ID, and a public client: that must send no
// secret. [U] its discovery document does not name the device endpoint here.
func Entra() *Replay {
	const base = "https://login.microsoftonline.com/" + entraTenant
	const issuer = base + "/v2.0"
	const client = "6731de76-14a6-49ae-97bc-6eba6914391e"
	return &Replay{
		Name: "Microsoft Entra ID", Issuer: issuer, ClientID: client,
		Document: Page{issuer + "/.well-known/openid-configuration", `{"token_endpoint":"` + base + `/oauth2/v2.0/token",` +
			`"token_endpoint_auth_methods_supported":["client_secret_post","private_key_jwt","client_secret_basic"],"jwks_uri":"` + base + `/discovery/v2.0/keys",` +
			`"id_token_signing_alg_values_supported":["RS256"],"scopes_supported":["openid","profile","email","offline_access"],` +
			`"issuer":"` + issuer + `","userinfo_endpoint":"https://graph.microsoft.com/oidc/userinfo",` +
			`"authorization_endpoint":"` + base + `/oauth2/v2.0/authorize","end_session_endpoint":"` + base + `/oauth2/v2.0/logout"}`},
		Where: Addresses{Device: base + "/oauth2/v2.0/devicecode", Token: base + "/oauth2/v2.0/token", Keys: base + "/discovery/v2.0/keys"},
		Auth: Auth{
			At:       []Endpoint{DeviceCode, Poll, Refresh},
			Bad:      entraError(http.StatusUnauthorized, "unauthorized_client", "AADSTS700016: Application was not found in the directory", "700016"),
			Unwanted: entraError(http.StatusUnauthorized, "invalid_client", "AADSTS700025: Client is public so neither 'client_assertion' nor 'client_secret' should be presented.", "700025"),
		},
		Refusals: []Refusal{{DeviceCode, lacks("scope"), entraError(http.StatusBadRequest, "invalid_request", "AADSTS900144: The request body must contain the following parameter: 'scope'.", "900144")}},
		Codes: Codes{
			Answer: `{"user_code":"$user_code","device_code":"$device_code","verification_uri":"https://microsoft.com/devicelogin","expires_in":900,"interval":5,` +
				`"message":"Um sich anzumelden, öffnen Sie in einem Webbrowser die Seite https://microsoft.com/devicelogin, und geben Sie den Code $user_code ein."}`,
			Code: "GMMhmHCXhWEzkobqIHGG_EnNYYsAkukHspeYUk9E8", UserCodes: []string{"EWPU7M86B"}, Life: 900 * time.Second,
		},
		Polls: Polls{
			Order:       []Check{expired, denied, pending},
			PolledFirst: true,
			Pending:     entraError(http.StatusBadRequest, "authorization_pending", "AADSTS70016: OAuth 2.0 device flow error. Authorization is pending. Continue polling.", "70016"),
			Denied:      entraError(http.StatusBadRequest, "authorization_declined", "AADSTS70018: User declined the request.", "70018"),
			Expired:     entraError(http.StatusBadRequest, "expired_token", "AADSTS70020: The provided value for the input parameter 'device_code' is not valid. This device code has expired.", "70020"),
			Unknown:     entraError(http.StatusBadRequest, "bad_verification_code", "AADSTS70019: Verification code is not valid.", "70019"),
			Reused:      entraError(http.StatusBadRequest, "invalid_grant", "AADSTS54005: OAuth2 Authorization code was already redeemed.", "54005"),
		},
		Tokens: Tokens{
			Answer: `{"token_type":"Bearer","scope":"$scope","expires_in":4035,"ext_expires_in":4035,"access_token":"$access_token","refresh_token":"$refresh_token","id_token":"$id_token"}`,
			Life:   4035 * time.Second,
			Access: "EwB-opaque-to-the-client-",
			IDClaims: `{"ver":"2.0","iss":"` + issuer + `","sub":"AAAAAGraph-alice","aud":"$client_id","exp":$exp,"iat":$now,"nbf":$now,"name":"Alice",` +
				`"preferred_username":"alice@example.com","oid":"00000000-0000-0000-66f3-3332eca7ea81","tid":"` + entraTenant + `","groups":["1c6a2a1e-1d57-4b0c-9c1f-6a1f2d5f3b7a"]}`,
			RefreshScopes: []string{"offline_access"},
			Key:           Key{PublishedID: "nOo3ZDrODXEK1jKWhXslHR_KXEg", TokenID: "nOo3ZDrODXEK1jKWhXslHR_KXEg"},
		},
		Refreshes: Refreshes{Spent: entraError(http.StatusBadRequest, "invalid_grant", "AADSTS9002313: Invalid request.", "9002313")},
		BadGrant:  entraError(http.StatusBadRequest, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.", "70003"),
	}
}

func entraError(status int, word, description, number string) Reply {
	return Raw(status, `{"error":"`+word+`","error_description":"`+description+` Trace ID: 0f6d Correlation ID: 1a2b Timestamp: 2000-01-01 00:00:00Z",`+
		`"error_codes":[`+number+`],"timestamp":"2000-01-01 00:00:00Z","trace_id":"0f6d","correlation_id":"1a2b"}`)
}

// EntraText is Entra as its old endpoints answer. [U] numbers as text, and the
// address under its name of before.
func EntraText() *Replay {
	r := Entra()
	r.Name = "Microsoft Entra ID, numbers as text"
	r.Codes.Answer = `{"user_code":"$user_code","device_code":"$device_code","verification_url":"https://microsoft.com/devicelogin","expires_in":"900","interval":"5","message":"…"}`
	r.Tokens.Answer = strings.ReplaceAll(r.Tokens.Answer, `4035,`, `"4035",`)
	return r
}

// EntraOverage is Entra for somebody who is in too many groups: a place to ask
// stands where they would be.
func EntraOverage() *Replay {
	r := Entra()
	r.Name = "Microsoft Entra ID, too many groups"
	r.Tokens.IDClaims = strings.Replace(r.Tokens.IDClaims, `"groups":["1c6a2a1e-1d57-4b0c-9c1f-6a1f2d5f3b7a"]`,
		`"_claim_names":{"groups":"src1"},"_claim_sources":{"src1":{"endpoint":"https://graph.windows.net/users/alice/getMemberObjects"}}`, 1)
	return r
}

// EntraMany is Entra for accounts of more than one tenant: its document has a
// placeholder where the issuer should be.
func EntraMany(tenants string) *Replay {
	r := Entra()
	r.Name = "Microsoft Entra ID, " + tenants
	r.Document = Page{
		"https://login.microsoftonline.com/" + tenants + "/v2.0/.well-known/openid-configuration",
		strings.ReplaceAll(strings.Replace(r.Document.Body, r.Issuer, "https://login.microsoftonline.com/{tenantid}/v2.0", 1), entraTenant, tenants),
	}
	return r
}

// Okta is a custom authorization server and a native application. [U] neither
// its document nor its answers name what is not documented.
func Okta() *Replay {
	const issuer = "https://example.okta.com/oauth2/default"
	return &Replay{
		Name: "Okta", Issuer: issuer, ClientID: "0oa2hl2inow5Uqc6c357",
		Document: Page{issuer + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","authorization_endpoint":"` + issuer + `/v1/authorize",` +
			`"token_endpoint":"` + issuer + `/v1/token","userinfo_endpoint":"` + issuer + `/v1/userinfo","jwks_uri":"` + issuer + `/v1/keys",` +
			`"revocation_endpoint":"` + issuer + `/v1/revoke","scopes_supported":["openid","profile","email","address","phone","offline_access","device_sso"],` +
			`"id_token_signing_alg_values_supported":["RS256"],"code_challenge_methods_supported":["S256"],` +
			`"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post","client_secret_jwt","private_key_jwt","none"]}`},
		Where: Addresses{
			Device: issuer + "/v1/device/authorize", Token: issuer + "/v1/token", Keys: issuer + "/v1/keys",
			UserInfo: issuer + "/v1/userinfo", Revocation: issuer + "/v1/revoke",
		},
		Auth: Auth{
			At:       []Endpoint{DeviceCode, Poll, Refresh, Revocation},
			Bad:      refused(http.StatusUnauthorized, "invalid_client", "The client specified is invalid."),
			Unwanted: refused(http.StatusUnauthorized, "invalid_client", "The client secret is not allowed."),
		},
		Refusals: []Refusal{{DeviceCode, namesOther, refused(http.StatusUnauthorized, "invalid_client", "Invalid value for 'client_id' parameter.")}},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"https://example.okta.com/activate","interval":5,"expires_in":600}`,
			Code:   "1a521d9f-0922-4e6d-8db9-8b654297435a", UserCodes: []string{"GDLMZQCT"}, Life: 600 * time.Second,
		},
		Polls: Polls{
			Order:    []Check{expired, tooFast, denied, pending},
			Pace:     Pace{Every: 5 * time.Second, Moves: true}, // [U]
			Pending:  refused(http.StatusBadRequest, "authorization_pending", "The device authorization is pending. Please try again later."),
			SlowDown: refused(http.StatusBadRequest, "slow_down", "Polling too fast."),
			Denied:   refused(http.StatusBadRequest, "access_denied", "The resource owner or authorization server denied the request."),
			Expired:  refused(http.StatusBadRequest, "expired_token", "The device code is expired."),
			Unknown:  refused(http.StatusBadRequest, "invalid_grant", "The device code is invalid or has expired."),
			Reused:   refused(http.StatusBadRequest, "invalid_grant", "The device code is invalid or has expired."),
		},
		Tokens: Tokens{
			Answer:        `{"token_type":"Bearer","expires_in":3600,"access_token":"$access_token","scope":"$scope","refresh_token":"$refresh_token","id_token":"$id_token"}`,
			Life:          time.Hour,
			AccessClaims:  `{"ver":1,"jti":"AT.1","iss":"` + issuer + `","aud":"api://default","iat":$now,"exp":$exp,"cid":"$client_id","uid":"00u1alice","scp":["openid"],"sub":"alice@example.com"}`,
			IDClaims:      `{"sub":"00u1alice","ver":1,"iss":"` + issuer + `","aud":"$client_id","iat":$now,"exp":$exp,"jti":"ID.1","amr":["pwd"],"idp":"00o1","auth_time":$auth_time,"at_hash":"$at_hash","preferred_username":"alice@example.com","groups":["Everyone","staff"]}`,
			RefreshScopes: []string{"offline_access"},
			Key:           Key{PublishedID: "U5R8cHbGw445Qbq8zVO1PcCpXL8yG6IcovVa3laCoxM", TokenID: "U5R8cHbGw445Qbq8zVO1PcCpXL8yG6IcovVa3laCoxM"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: refused(http.StatusBadRequest, "invalid_grant", "The refresh token is invalid or expired.")},
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", "The authorization grant type is not supported by the authorization server."),
	}
}

// Auth0 is a native application. Its issuer ends in a slash, and any secret at
// all is refused. [U] its document does not name the device endpoint here.
func Auth0() *Replay {
	const base = "https://example.eu.auth0.com"
	const issuer = base + "/"
	gone := refused(http.StatusForbidden, "invalid_grant", "Invalid or expired device code.")
	return &Replay{
		Name: "Auth0", Issuer: issuer, ClientID: "nAj0zxN5pTq7gate",
		Document: Page{base + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","authorization_endpoint":"` + base + `/authorize",` +
			`"token_endpoint":"` + base + `/oauth/token","userinfo_endpoint":"` + base + `/userinfo","revocation_endpoint":"` + base + `/oauth/revoke",` +
			`"jwks_uri":"` + base + `/.well-known/jwks.json","scopes_supported":["openid","profile","offline_access","name","nickname","email"],` +
			`"code_challenge_methods_supported":["S256","plain"],"id_token_signing_alg_values_supported":["HS256","RS256","PS256"],` +
			`"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post","private_key_jwt","none"]}`},
		Where: Addresses{
			Device: base + "/oauth/device/code", Token: base + "/oauth/token", Keys: base + "/.well-known/jwks.json",
			UserInfo: base + "/userinfo", Revocation: base + "/oauth/revoke",
		},
		Auth: Auth{
			At:       []Endpoint{DeviceCode, Poll, Refresh, Revocation},
			Bad:      refused(http.StatusForbidden, "unauthorized_client", "Unknown or invalid client."),
			Unwanted: refused(http.StatusForbidden, "unauthorized_client", "Unknown or invalid client."),
		},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + base + `/activate","expires_in":900,"interval":5,` +
				`"verification_uri_complete":"` + base + `/activate?user_code=$user_code"}`,
			Code: "Ag_EE0Vd8BEUVEvqkQUIr5xG", UserCodes: []string{"QTZL-MCBW"}, Life: 900 * time.Second,
		},
		Polls: Polls{
			Order:    []Check{expired, tooFast, denied, pending},
			Pace:     Pace{Every: 5 * time.Second, Moves: true}, // [U] whether it moves
			Once:     true,
			Pending:  refused(http.StatusForbidden, "authorization_pending", "User has yet to authorize device code."),
			SlowDown: refused(http.StatusTooManyRequests, "slow_down", "You are polling faster than the specified interval of 5 seconds."),
			Denied:   refused(http.StatusForbidden, "access_denied", "User cancelled the confirmation prompt."),
			Expired:  refused(http.StatusForbidden, "expired_token", "The device_code is expired."),
			Unknown:  gone,
			Reused:   gone,
		},
		Tokens: Tokens{
			Answer:        `{"access_token":"$access_token","refresh_token":"$refresh_token","id_token":"$id_token","scope":"$scope","expires_in":86400,"token_type":"Bearer"}`,
			Life:          24 * time.Hour,
			IDClaims:      `{"nickname":"alice","name":"Alice","email":"alice@example.com","email_verified":true,"iss":"` + issuer + `","aud":"$client_id","sub":"auth0|alice","iat":$now,"exp":$exp,"https://example.com/roles":["staff","admin"]}`,
			RefreshScopes: []string{"offline_access"},
			Key:           Key{PublishedID: "NjVBRjY5MDlCMUIwNzU4RTA2QzZFMDQ4QzQ2MDAyQjVDNjk1RTM2Qg", TokenID: "NjVBRjY5MDlCMUIwNzU4RTA2QzZFMDQ4QzQ2MDAyQjVDNjk1RTM2Qg"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: refused(http.StatusForbidden, "invalid_grant", "Unknown or invalid refresh token.")},
		BadGrant:  refused(http.StatusForbidden, "unauthorized_client", "Grant type not allowed for the client."),
	}
}

// Google is a client of the kind "TVs and Limited Input devices", whose secret
// counts at the token endpoint. All statuses are [U].
func Google() *Replay {
	const issuer = "https://accounts.google.com"
	const oauth = "https://oauth2.googleapis.com"
	scope := refused(http.StatusBadRequest, "invalid_scope", "Invalid device flow scope: offline_access")
	return &Replay{
		Name: "Google", Issuer: issuer, ClientID: "1234-gate.apps.googleusercontent.com", ClientSecret: "GOCSPX-canary-secret",
		// [U] whether it names the device endpoint
		Document: Page{issuer + "/.well-known/openid-configuration", `{"issuer": "` + issuer + `", "authorization_endpoint": "` + issuer + `/o/oauth2/v2/auth",` +
			` "token_endpoint": "` + oauth + `/token", "userinfo_endpoint": "https://openidconnect.googleapis.com/v1/userinfo", "revocation_endpoint": "` + oauth + `/revoke",` +
			` "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs", "id_token_signing_alg_values_supported": ["RS256"], "scopes_supported": ["openid", "email", "profile"],` +
			` "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"], "code_challenge_methods_supported": ["plain", "S256"]}`},
		Where: Addresses{
			Device: oauth + "/device/code", Token: oauth + "/token", Keys: "https://www.googleapis.com/oauth2/v3/certs", Revocation: oauth + "/revoke",
		},
		Auth: Auth{
			At: []Endpoint{Poll, Refresh}, Methods: []string{"basic", "post"}, Decoded: true,
			Bad: refused(http.StatusUnauthorized, "invalid_client", "Unauthorized"),
		},
		Refusals: []Refusal{
			{DeviceCode, namesOther, refused(http.StatusUnauthorized, "invalid_client", "The OAuth client was not found.")},
			{DeviceCode, asksBeyond("openid", "email", "profile"), scope},
		},
		Codes: Codes{
			Answer: `{"device_code": "$device_code", "user_code": "$user_code", "expires_in": 1800, "interval": 5, "verification_url": "https://www.google.com/device"}`,
			Code:   "AH-1Ng3tQzHk8sVw2pXc5mLr", UserCodes: []string{"GQVQ-JKEC-WMwm"}, Life: 1800 * time.Second,
		},
		Polls: Polls{
			Order:    []Check{expired, tooFast, denied, pending},
			Pace:     Pace{Every: 5 * time.Second, Moves: true},
			Pending:  refused(http.StatusPreconditionRequired, "authorization_pending", "Precondition Required"),
			SlowDown: refused(http.StatusForbidden, "slow_down", "Forbidden"),
			Denied:   refused(http.StatusForbidden, "access_denied", "Forbidden"),
			Expired:  refused(http.StatusForbidden, "expired_token", "Expired"),
			Unknown:  refused(http.StatusBadRequest, "invalid_grant", "Malformed auth code."),
			Reused:   refused(http.StatusBadRequest, "invalid_grant", "Bad Request"),
		},
		Tokens: Tokens{
			Answer: `{"access_token": "$access_token", "expires_in": 3599, "refresh_token":"$refresh_token", "scope": "openid https://www.googleapis.com/auth/userinfo.email", "token_type": "Bearer","id_token":"$id_token"}`,
			Life:   time.Hour,
			Access: "ya29.",
			// [U] the issuer with or without https://
			IDClaims: `{"iss":"accounts.google.com","azp":"$client_id","aud":"$client_id","sub":"110248495921238986420","hd":"example.com","email":"alice@example.com","email_verified":true,"at_hash":"$at_hash","iat":$now,"exp":$exp}`,
			Key:      Key{PublishedID: "c3afe7a9bda46bae6ef97e46c95cda48912e5979", TokenID: "c3afe7a9bda46bae6ef97e46c95cda48912e5979"},
		},
		Refreshes: Refreshes{
			Answer: `{"access_token": "$access_token", "expires_in": 3599, "scope": "openid https://www.googleapis.com/auth/userinfo.email", "token_type": "Bearer","id_token":"$id_token"}`,
			Spent:  refused(http.StatusBadRequest, "invalid_grant", "Token has been expired or revoked."),
		},
		BadGrant: refused(http.StatusBadRequest, "unsupported_grant_type", "Invalid grant_type"),
	}
}
