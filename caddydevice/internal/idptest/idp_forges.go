// This file holds GitHub, read in its documentation, and GitLab, read in its
// documentation and in the source of the gem that it uses.

package idptest

import (
	"net/http"
	"time"
)

// GitHub is no OpenID provider: it has no discovery, no keys and no ID token,
// and its errors come with 200. Who somebody is says its API.
func GitHub() *Replay {
	const base = "https://github.com"
	form := Reply{Status: http.StatusOK, Body: "error=unsupported&error_description=as+a+form", Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}}}
	return &Replay{
		Name: "GitHub", Issuer: base, ClientID: "Iv1.b507a08c87ecfe98",
		Where: Addresses{Device: base + "/login/device/code", Token: base + "/login/oauth/access_token", UserInfo: "https://api.github.com/user"},
		Auth: Auth{
			At:  []Endpoint{DeviceCode, Poll},
			Bad: gitHubError("incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect."),
		},
		Refusals: []Refusal{
			{DeviceCode, not(accepts("application/json")), form},
			{Poll, not(accepts("application/json")), form},
			{DeviceCode, asksFor("openid"), gitHubError("invalid_scope", "The scopes requested are invalid: openid.")},
		},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"https://github.com/login/device","expires_in":900,"interval":5}`,
			Code:   "3584d83530557fdd1f46af8289938c8ef79f9dc5", UserCodes: []string{"WDJB-MJHT"}, Life: 900 * time.Second,
		},
		Polls: Polls{
			Order:    []Check{expired, tooFast, denied, pending},
			Pace:     Pace{Every: 5 * time.Second, Moves: true, Adds: 5 * time.Second},
			Pending:  gitHubError("authorization_pending", "The authorization request is still pending."),
			SlowDown: Raw(http.StatusOK, `{"error":"slow_down","error_description":"Too many requests have been made in the same timeframe.","error_uri":"https://docs.github.com","interval":10}`),
			Denied:   gitHubError("access_denied", "The authorization request was denied."),
			Expired:  gitHubError("token_expired", "This 'device_code' has expired."),
			Unknown:  gitHubError("incorrect_device_code", "The device_code provided is not valid."),
			Reused:   gitHubError("incorrect_device_code", "The device_code provided is not valid."),
		},
		Tokens: Tokens{
			Answer: `{"access_token":"$access_token","token_type":"bearer","scope":"read:org,user:email"}`,
			Access: "gho_", Life: 365 * 24 * time.Hour, NoRefresh: true,
		},
		Claims:   `{"login":"octocat","id":583231,"node_id":"MDQ6VXNlcjU4MzIzMQ==","type":"User","site_admin":false,"name":"The Octocat","email":null,"two_factor_authentication":true}`,
		BadGrant: gitHubError("unsupported_grant_type", "The grant type must be urn:ietf:params:oauth:grant-type:device_code"),
	}
}

func gitHubError(word, description string) Reply {
	return Raw(http.StatusOK, `{"error":"`+word+`","error_description":"`+description+`","error_uri":"https://docs.github.com/developers/apps/authorizing-oauth-apps#error-codes-for-the-device-flow"}`)
}

// GitHubOff is GitHub for an application whose device flow is not ticked.
func GitHubOff() *Replay {
	r := GitHub()
	r.Name = "GitHub, device flow off"
	r.Refusals = []Refusal{{DeviceCode, always, gitHubError("device_flow_disabled", "Device Flow must be explicitly enabled for this App")}}
	return r
}

// GitLab is GitLab from 17.2 on. [U] its document does not name the device
// endpoint here, and the device flow brings no ID token.
func GitLab() *Replay {
	const base = "https://gitlab.example.com"
	gone := refused(http.StatusBadRequest, "invalid_grant", "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.")
	return &Replay{
		Name: "GitLab", Issuer: base, ClientID: "gate", ClientSecret: "gloas-canary-secret",
		Document: Page{base + "/.well-known/openid-configuration", `{"issuer":"` + base + `","authorization_endpoint":"` + base + `/oauth/authorize",` +
			`"token_endpoint":"` + base + `/oauth/token","revocation_endpoint":"` + base + `/oauth/revoke","userinfo_endpoint":"` + base + `/oauth/userinfo",` +
			`"jwks_uri":"` + base + `/oauth/discovery/keys","scopes_supported":["api","read_api","read_user","openid","profile","email"],` +
			`"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"],"id_token_signing_alg_values_supported":["RS256"],` +
			`"code_challenge_methods_supported":["plain","S256"]}`},
		Where: Addresses{
			Device: base + "/oauth/authorize_device", Token: base + "/oauth/token", Keys: base + "/oauth/discovery/keys",
			UserInfo: base + "/oauth/userinfo", Revocation: base + "/oauth/revoke",
		},
		Auth: Auth{
			At: []Endpoint{Poll, Refresh, Revocation}, Methods: []string{"basic", "post"}, Decoded: true,
			Bad: refused(http.StatusUnauthorized, "invalid_client", "Client authentication failed due to unknown client, no client authentication included, or unsupported authentication method."),
		},
		Refusals: []Refusal{{DeviceCode, namesOther, refused(http.StatusUnauthorized, "invalid_client", "Client authentication failed due to unknown client.")}},
		Codes: Codes{
			Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"` + base + `/oauth/device",` +
				`"verification_uri_complete":"` + base + `/oauth/device?user_code=$user_code","expires_in":300,"interval":5}`,
			Code: "TXVFGMFV8h7cUvYQeKm2sRb4", UserCodes: []string{"0O1I8B5S"}, Life: 300 * time.Second,
		},
		Polls: Polls{
			Order:    []Check{expired, tooFast, denied, pending},
			Pace:     Pace{Every: 5 * time.Second},
			Once:     true,
			Pending:  refused(http.StatusForbidden, "authorization_pending", "The authorization request is still pending."), // [U] the status
			SlowDown: refused(http.StatusForbidden, "slow_down", "The polling interval must be increased."),
			Denied:   refused(http.StatusForbidden, "access_denied", "The resource owner or authorization server denied the request."),
			Expired:  refused(http.StatusForbidden, "expired_token", "The device_code has expired."),
			Unknown:  gone,
			Reused:   gone,
		},
		Tokens: Tokens{
			Answer: `{"access_token":"$access_token","token_type":"Bearer","expires_in":7200,"refresh_token":"$refresh_token","scope":"$scope","created_at":$now,"id_token":"$id_token"}`,
			Life:   2 * time.Hour,
			Key:    Key{PublishedID: "kewiQq9jiC84CvSsJYOB-N6A8WFLSV20Mb-y7IlWDSQ", TokenID: "kewiQq9jiC84CvSsJYOB-N6A8WFLSV20Mb-y7IlWDSQ"},
		},
		Refreshes: Refreshes{Rotates: true, Spent: gone},
		Claims:    `{"sub":"2","name":"Alice","nickname":"alice","preferred_username":"alice","profile":"` + base + `/alice","groups":["staff","staff/web"]}`,
		BadGrant:  refused(http.StatusBadRequest, "unsupported_grant_type", "The authorization grant type is not supported by the authorization server."),
	}
}

// GitLabSigned is GitLab whose device flow brings an ID token.
func GitLabSigned() *Replay {
	r := GitLab()
	r.Name = "GitLab, with an ID token"
	r.Tokens.IDClaims = `{"iss":"` + r.Issuer + `","sub":"2","aud":"$client_id","exp":$exp,"iat":$now,"auth_time":$auth_time,"preferred_username":"alice","groups_direct":["staff"]}`
	return r
}
