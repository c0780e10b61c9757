// This file holds Spring Authorization Server, Duende IdentityServer and
// Casdoor, read in their source, and Ping, read in its documentation.

package idptest

import (
	"net/http"
	"time"
)

// Spring never makes an ID token in the device flow. From 1.5.3 on it refuses
// the scope openid there (its pull request 2177). Its access token is a JWT
// whose audience is the client.
func Spring() *Replay {
	const issuer = "https://spring.example.com"
	return &Replay{
		Name: "Spring Authorization Server", Issuer: issuer, ClientID: "gate", ClientSecret: "spring-canary-secret",
		Document: Page{issuer + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","authorization_endpoint":"` + issuer + `/oauth2/authorize",` +
			`"device_authorization_endpoint":"` + issuer + `/oauth2/device_authorization","token_endpoint":"` + issuer + `/oauth2/token",` +
			`"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post","client_secret_jwt","private_key_jwt"],` +
			`"jwks_uri":"` + issuer + `/oauth2/jwks","userinfo_endpoint":"` + issuer + `/userinfo","end_session_endpoint":"` + issuer + `/connect/logout",` +
			`"grant_types_supported":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],` +
			`"revocation_endpoint":"` + issuer + `/oauth2/revoke","code_challenge_methods_supported":["S256"],` +
			`"id_token_signing_alg_values_supported":["RS256"],"scopes_supported":["openid"]}`},
		Where: Addresses{
			Device: issuer + "/oauth2/device_authorization", Token: issuer + "/oauth2/token", Keys: issuer + "/oauth2/jwks",
			UserInfo: issuer + "/userinfo", Revocation: issuer + "/oauth2/revoke",
		},
		Auth: Auth{
			At: []Endpoint{DeviceCode, Poll, Refresh, Revocation}, Methods: []string{"basic", "post"}, Decoded: true,
			Bad: Raw(http.StatusUnauthorized, `{"error":"invalid_client"}`),
		},
		Refusals: []Refusal{{DeviceCode, asksBeyond("profile", "message.read"), refused(http.StatusBadRequest, "invalid_scope", "OAuth 2.0 Parameter: scope")}},
		Codes: Codes{
			Answer: `{"user_code":"$user_code","device_code":"$device_code","verification_uri_complete":"` + issuer + `/activate?user_code=$user_code",` +
				`"verification_uri":"` + issuer + `/activate","expires_in":300}`,
			Code: "FNGtzUYRmkKRJzs3W-zXTYZj0nmVKnCb", UserCodes: []string{"BZJW-PTSH"}, Life: 300 * time.Second,
		},
		Polls: Polls{
			Order:   []Check{pending, denied, expired},
			Pending: Raw(http.StatusBadRequest, `{"error":"authorization_pending","error_uri":"https://datatracker.ietf.org/doc/html/rfc8628#section-3.5"}`),
			Denied:  Raw(http.StatusBadRequest, `{"error":"access_denied","error_uri":"https://datatracker.ietf.org/doc/html/rfc8628#section-3.5"}`),
			Expired: Raw(http.StatusBadRequest, `{"error":"expired_token","error_uri":"https://datatracker.ietf.org/doc/html/rfc8628#section-3.5"}`),
			Unknown: Raw(http.StatusBadRequest, `{"error":"invalid_grant"}`),
			Reused:  Raw(http.StatusBadRequest, `{"error":"access_denied"}`),
		},
		Tokens: Tokens{
			Answer:       `{"access_token":"$access_token","refresh_token":"$refresh_token","scope":"$scope","token_type":"Bearer","expires_in":299}`,
			Life:         300 * time.Second,
			AccessClaims: `{"sub":"alice","aud":"$client_id","nbf":$now,"scope":["profile"],"roles":["staff","admin"],"iss":"` + issuer + `","exp":$exp,"iat":$now,"jti":"d0f6"}`,
			Key:          Key{PublishedID: "12a86d3c-9f6c-4d0b-9c21-52f1e1a3c6d5", TokenID: "12a86d3c-9f6c-4d0b-9c21-52f1e1a3c6d5"},
		},
		Refreshes: Refreshes{Spent: Raw(http.StatusBadRequest, `{"error":"invalid_grant"}`)},
		BadGrant:  Raw(http.StatusBadRequest, `{"error":"unsupported_grant_type"}`),
	}
}

// SpringOther is Spring after another client has presented the code, which
// invalidates it.
func SpringOther() *Replay {
	r := Spring()
	r.Name = "Spring Authorization Server, code presented by another client"
	r.Polls.Unknown = Raw(http.StatusBadRequest, `{"error":"access_denied"}`)
	return r
}

// Duende looks at the pace before it looks at anything else, and by an interval
// of the client's that is longer than the one it told of. Its errors all come
// with 400.
func Duende() *Replay {
	const issuer = "https://duende.example.com"
	return &Replay{
		Name: "Duende IdentityServer", Issuer: issuer, ClientID: "gate", ClientSecret: "duende-canary-secret",
		// [U] whether it names the device endpoint
		Document: Page{issuer + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","jwks_uri":"` + issuer + `/.well-known/openid-configuration/jwks",` +
			`"authorization_endpoint":"` + issuer + `/connect/authorize","token_endpoint":"` + issuer + `/connect/token","userinfo_endpoint":"` + issuer + `/connect/userinfo",` +
			`"revocation_endpoint":"` + issuer + `/connect/revocation","scopes_supported":["openid","profile","roles","offline_access"],` +
			`"id_token_signing_alg_values_supported":["RS256"],"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"],` +
			`"code_challenge_methods_supported":["plain","S256"],"backchannel_logout_supported":true}`},
		Where: Addresses{
			Device: issuer + "/connect/deviceauthorization", Token: issuer + "/connect/token", Keys: issuer + "/.well-known/openid-configuration/jwks",
			UserInfo: issuer + "/connect/userinfo", Revocation: issuer + "/connect/revocation",
		},
		Auth: Auth{
			At: []Endpoint{DeviceCode, Poll, Refresh, Revocation}, Methods: []string{"basic", "post"}, Decoded: true,
			Bad: Raw(http.StatusBadRequest, `{"error":"invalid_client"}`),
		},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + issuer + `/device",` +
				`"verification_uri_complete":"` + issuer + `/device?userCode=$user_code","expires_in":300,"interval":5}`,
			Code: "2B9D1E5A7C3F48600D8A5E17BB63AC04-1", UserCodes: []string{"412345678"}, Life: 300 * time.Second,
		},
		Polls: Polls{
			Order:    []Check{tooFast, expired, denied, pending},
			Pace:     Pace{Every: 8 * time.Second, Moves: true},
			Pending:  Raw(http.StatusBadRequest, `{"error":"authorization_pending"}`),
			SlowDown: Raw(http.StatusBadRequest, `{"error":"slow_down"}`),
			Denied:   Raw(http.StatusBadRequest, `{"error":"access_denied"}`),
			Expired:  Raw(http.StatusBadRequest, `{"error":"expired_token"}`),
			Unknown:  Raw(http.StatusBadRequest, `{"error":"invalid_grant"}`),
			Reused:   Raw(http.StatusBadRequest, `{"error":"invalid_grant"}`),
		},
		Tokens: Tokens{
			Answer: `{"id_token":"$id_token","access_token":"$access_token","expires_in":3600,"token_type":"Bearer","refresh_token":"$refresh_token","scope":"$scope"}`,
			Life:   time.Hour,
			AccessClaims: `{"iss":"` + issuer + `","nbf":$now,"iat":$now,"exp":$exp,"aud":"` + issuer + `/resources","scope":["openid"],"amr":["pwd"],` +
				`"client_id":"$client_id","sub":"818727","auth_time":$auth_time,"idp":"local","sid":"A1","jti":"B2"}`,
			AccessType:    "at+jwt",
			IDClaims:      `{"iss":"` + issuer + `","nbf":$now,"iat":$now,"exp":$exp,"aud":"$client_id","amr":["pwd"],"at_hash":"$at_hash","sid":"A1","sub":"818727","auth_time":$auth_time,"idp":"local","preferred_username":"alice","role":["staff","admin"]}`,
			RefreshScopes: []string{"offline_access"},
			Key:           Key{PublishedID: "F1C2AF9E7D3B4A60", TokenID: "F1C2AF9E7D3B4A60"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: Raw(http.StatusBadRequest, `{"error":"invalid_grant"}`)},
		BadGrant:  Raw(http.StatusBadRequest, `{"error":"unsupported_grant_type"}`),
	}
}

// Casdoor has the code in verification_uri itself. The life that it tells is a
// setting of the application's; what counts is two minutes. The document is that
// of one application, the issuer that of all.
func Casdoor() *Replay {
	const base = "https://casdoor.example.com"
	return &Replay{
		Name: "Casdoor", Issuer: base, ClientID: "gate", ClientSecret: "casdoor-canary-secret",
		Document: Page{base + "/.well-known/app-gate/openid-configuration", `{"issuer":"` + base + `","authorization_endpoint":"` + base + `/login/oauth/authorize",` +
			`"token_endpoint":"` + base + `/api/login/oauth/access_token","userinfo_endpoint":"` + base + `/api/userinfo",` +
			`"device_authorization_endpoint":"` + base + `/api/device-auth","jwks_uri":"` + base + `/.well-known/app-gate/jwks",` +
			`"scopes_supported":["openid","email","profile","address","phone","offline_access"],"id_token_signing_alg_values_supported":["RS256"],` +
			`"grant_types_supported":["authorization_code","password","refresh_token","urn:ietf:params:oauth:grant-type:device_code"]}`},
		Where: Addresses{
			Device: base + "/api/device-auth", Token: base + "/api/login/oauth/access_token", Keys: base + "/.well-known/app-gate/jwks", UserInfo: base + "/api/userinfo",
		},
		Auth: Auth{
			At: []Endpoint{Refresh}, Methods: []string{"basic", "post"}, Decoded: true,
			Bad: refused(http.StatusUnauthorized, "invalid_client", "client_id or client_secret is invalid"),
		},
		Refusals: []Refusal{
			{DeviceCode, namesOther, refused(http.StatusOK, "invalid_client", "无效的客户端")},
			{Poll, isOther, refused(http.StatusUnauthorized, "invalid_client", "client_id is invalid")},
		},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + base + `/login/oauth/device/$user_code?cancelToken=c4e1","expires_in":600,"interval":5}`,
			Code:   "9a5f4f9a-3b1d-4c59-8a39-6c2a0c1f7c11", UserCodes: []string{"k3x9qd"}, Life: 120 * time.Second,
		},
		Polls: Polls{
			Order:   []Check{expired, denied, pending},
			Pending: refused(http.StatusBadRequest, "authorization_pending", "authorization pending"),
			Denied:  refused(http.StatusBadRequest, "access_denied", "the user denied"),
			Expired: refused(http.StatusBadRequest, "expired_token", "token is expired"),
			Unknown: refused(http.StatusBadRequest, "expired_token", "token is expired"),
			Reused:  refused(http.StatusBadRequest, "access_denied", "the code was used"),
		},
		Tokens: Tokens{
			Answer:       `{"access_token":"$access_token","id_token":"$id_token","refresh_token":"$refresh_token","token_type":"Bearer","expires_in":604800,"scope":"$scope"}`,
			Life:         7 * 24 * time.Hour,
			AccessClaims: `{"owner":"built-in","name":"alice","tokenType":"access-token","iss":"` + base + `","sub":"b1c2-alice","aud":["$client_id"],"azp":"$client_id","exp":$exp,"nbf":$now,"iat":$now,"jti":"admin/1"}`,
			IDClaims:     `{"owner":"built-in","name":"alice","groups":["built-in/staff"],"iss":"` + base + `","sub":"b1c2-alice","aud":["$client_id"],"azp":"$client_id","exp":$exp,"nbf":$now,"iat":$now,"jti":"admin/1"}`,
			Key:          Key{PublishedID: "cert-built-in", TokenID: "cert-built-in"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: refused(http.StatusBadRequest, "invalid_grant", "refresh token is invalid, expired or revoked")},
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", "grant_type is not supported"),
	}
}

// CasdoorOff is Casdoor for an application without the sign-in method "Device
// login". The words are in the language of whoever asks, and come with 200.
func CasdoorOff() *Replay {
	r := Casdoor()
	r.Name = "Casdoor, device login off"
	r.Refusals = []Refusal{{DeviceCode, always, refused(http.StatusOK, "unauthorized_client", "应用不支持设备登录")}}
	return r
}

// PingFederate has endpoints of its own names. [U] its document does not name
// the device endpoint here, and its answers are no more than what is shown in
// the documentation.
func PingFederate() *Replay {
	const base = "https://ping.example.com"
	return pingReplay("PingFederate", base, base+"/as/device_authz.oauth2", base+"/as/token.oauth2", base+"/pf/JWKS", base+"/as/user_authz.oauth2")
}

// PingOne is the same by another address, and knows two parameters only.
func PingOne() *Replay {
	const as = "https://auth.pingone.eu/20b1f0b6-7f4b-4f0b-8a0e-7c1b7a0e1f11/as"
	return pingReplay("PingOne", as, as+"/device_authorization", as+"/token", as+"/jwks", "https://auth.pingone.eu/activate")
}

func pingReplay(name, issuer, device, token, keys, activate string) *Replay {
	return &Replay{
		Name: name, Issuer: issuer, ClientID: "gate",
		Document: Page{issuer + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","authorization_endpoint":"` + issuer + `/authorize",` +
			`"token_endpoint":"` + token + `","jwks_uri":"` + keys + `","scopes_supported":["openid","profile","email"],"id_token_signing_alg_values_supported":["RS256"]}`},
		Where: Addresses{Device: device, Token: token, Keys: keys},
		Auth: Auth{
			At:  []Endpoint{DeviceCode, Poll, Refresh},
			Bad: refused(http.StatusUnauthorized, "invalid_client", "Invalid client or client credentials."),
		},
		Codes: Codes{
			Answer: `{"user_code":"$user_code","device_code":"$device_code","interval":5,"verification_uri":"` + activate + `","expires_in":600}`,
			Code:   "RK4FBzm8hSyTpCdW", UserCodes: []string{"YYD6-CD4T"}, Life: 600 * time.Second,
		},
		Polls: Polls{
			Order:    []Check{expired, tooFast, denied, pending},
			Pace:     Pace{Every: 5 * time.Second, Moves: true},
			Pending:  Raw(http.StatusBadRequest, `{"error":"authorization_pending"}`),
			SlowDown: Raw(http.StatusBadRequest, `{"error":"slow_down"}`),
			Denied:   Raw(http.StatusBadRequest, `{"error":"access_denied"}`),
			Expired:  Raw(http.StatusBadRequest, `{"error":"expired_token"}`),
			Unknown:  Raw(http.StatusBadRequest, `{"error":"invalid_grant"}`),
			Reused:   Raw(http.StatusBadRequest, `{"error":"invalid_grant"}`),
		},
		Tokens: Tokens{
			Answer:    `{"access_token":"$access_token","id_token":"$id_token","token_type":"Bearer","expires_in":7199}`,
			Life:      2 * time.Hour,
			IDClaims:  `{"sub":"alice","aud":"$client_id","jti":"q1","iss":"` + issuer + `","iat":$now,"exp":$exp,"preferred_username":"alice","groups":["staff"]}`,
			NoRefresh: true,
			Key:       Key{PublishedID: "ping-1", TokenID: "ping-1"},
		},
		BadGrant: Raw(http.StatusBadRequest, `{"error":"unsupported_grant_type"}`),
	}
}
