// This file holds the identity providers that nobody can sign in at by the
// device flow: Kanidm, Amazon Cognito and AWS IAM Identity Center.

package idptest

import (
	"net/http"
	"time"
)

// Kanidm has a document for each client, and no device endpoint in it.
func Kanidm() *Replay {
	const issuer = "https://idm.example.com/oauth2/openid/gate"
	return &Replay{
		Name: "Kanidm", Issuer: issuer, ClientID: "gate", ClientSecret: "kanidm-canary-secret",
		Document: Page{issuer + "/.well-known/openid-configuration", `{"issuer":"` + issuer + `","authorization_endpoint":"https://idm.example.com/ui/oauth2",` +
			`"token_endpoint":"https://idm.example.com/oauth2/token","userinfo_endpoint":"` + issuer + `/userinfo","jwks_uri":"` + issuer + `/public_key.jwk",` +
			`"scopes_supported":["openid","profile","groups"],"grant_types_supported":["authorization_code"],"id_token_signing_alg_values_supported":["ES256"],` +
			`"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"],"code_challenge_methods_supported":["S256"]}`},
		Where: Addresses{Token: "https://idm.example.com/oauth2/token", Keys: issuer + "/public_key.jwk"},
	}
}

// KanidmDevelopment is a build with the feature that nobody ships: it hands out
// codes, and they are pending for ever.
func KanidmDevelopment() *Replay {
	r := Kanidm()
	r.Name = "Kanidm, development build"
	r.Where.Device = "https://idm.example.com/oauth2/device"
	r.Document.Body = `{"device_authorization_endpoint":"` + r.Where.Device + `",` + without(r.Document.Body, "{")
	r.Codes = Codes{
		Answer: `{"device_code":"$device_code","user_code":"$user_code","verification_uri":"https://idm.example.com/ui/oauth2/device","expires_in":300,"interval":5}`,
		Code:   "a2FuaWRtLWRldmljZQ", UserCodes: []string{"123-456-789"}, Life: 300 * time.Second,
	}
	r.Polls = Polls{
		Order:   []Check{func(r *Replay, _ *code, _ time.Time) *Reply { return &r.Polls.Pending }},
		Pending: Raw(http.StatusBadRequest, `{"error":"authorization_pending"}`),
	}
	return r
}

// Cognito is a user pool.
func Cognito() *Replay {
	const issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Example"
	const domain = "https://example.auth.eu-west-1.amazoncognito.com"
	return &Replay{
		Name: "Amazon Cognito", Issuer: issuer, ClientID: "gate",
		Document: Page{issuer + "/.well-known/openid-configuration", `{"authorization_endpoint":"` + domain + `/oauth2/authorize","id_token_signing_alg_values_supported":["RS256"],` +
			`"issuer":"` + issuer + `","jwks_uri":"` + issuer + `/.well-known/jwks.json","response_types_supported":["code","token"],` +
			`"revocation_endpoint":"` + domain + `/oauth2/revoke","scopes_supported":["openid","email","phone","profile"],` +
			`"token_endpoint":"` + domain + `/oauth2/token","token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"]}`},
		Where: Addresses{Token: domain + "/oauth2/token", Keys: issuer + "/.well-known/jwks.json"},
	}
}

// AWS is IAM Identity Center, which is no OpenID provider: there is no
// discovery document, and its device endpoint takes JSON in names of its own.
func AWS() *Replay {
	const base = "https://oidc.eu-west-1.amazonaws.com"
	malformed := Raw(http.StatusBadRequest, `{"error":"invalid_request","error_description":"Missing startUrl"}`)
	return &Replay{
		Name: "AWS IAM Identity Center", Issuer: base, ClientID: "gate", ClientSecret: "aws-canary-secret",
		Where: Addresses{Device: base + "/device_authorization", Token: base + "/token", Keys: base + "/jwks"},
		Refusals: []Refusal{
			{DeviceCode, isNot("application/json"), malformed},
			{DeviceCode, lacks("startUrl"), malformed},
		},
		Codes: Codes{
			Answer: `{"deviceCode":"$device_code","userCode":"$user_code","verificationUri":"https://device.sso.eu-west-1.amazonaws.com/",` +
				`"verificationUriComplete":"https://device.sso.eu-west-1.amazonaws.com/?user_code=$user_code","expiresIn":600,"interval":1}`,
			Code: "aws-device", UserCodes: []string{"LTFM-QZKD"}, Life: 600 * time.Second,
		},
	}
}
