// This file holds what to do about an identity provider that does not let people
// sign in: by problem, and by whose product it is, in its own words.

package idp

import (
	"cmp"
	"net/url"
	"strings"
)

// problem is one thing that keeps people from signing in.
type problem string

const (
	unreachable    problem = "unreachable"     // nobody answers
	untrusted      problem = "untrusted"       // its certificate is not
	noDocument     problem = "no document"     // no discovery document there
	otherIssuer    problem = "other issuer"    // it calls itself something else
	noDeviceGrant  problem = "no device grant" // it offers none
	badDocument    problem = "bad document"    // what it offers is no use
	grantOff       problem = "grant off"       // not for this client
	clientRefused  problem = "client refused"  // its id, its secret, or how it shows them
	scopeRefused   problem = "scope refused"
	pkceMissing    problem = "PKCE missing"
	starved        problem = "starved" // too many requests
	refused        problem = "refused" // for any other reason
	noKeys         problem = "no keys"
	macOnly        problem = "MAC only" // tokens are signed with the secret
	notPending     problem = "not pending"
	clockAside     problem = "clock aside"
	shortCodes     problem = "short codes"
	noRefresh      problem = "no refresh"
	secretRequired problem = "secret required"
	keyRefused     problem = "key refused"
	certRefused    problem = "certificate refused"
)

// trouble is an error whose problem is known.
type trouble struct {
	problem problem
	err     error
}

func (t *trouble) Error() string { return t.err.Error() }

func (t *trouble) Unwrap() error { return t.err }

// product is one that can be told by what its issuer or the path of its device
// endpoint looks like. That is for advice, and for post: there the secret goes by
// post where client_auth is auto, since it does not read Basic as RFC 6749 §2.3.1
// has it, or not at each endpoint.
type product struct {
	name, host, issuerPath, devicePath string
	post                               bool
}

var products = []product{
	{name: "Keycloak", issuerPath: "/realms/"},
	{name: "authentik", devicePath: "/application/o/device/", post: true},
	{name: "authentik", issuerPath: "/application/o/", post: true},
	{name: "WSO2", devicePath: "/oauth2/device_authorize"},
	{name: "WSO2", issuerPath: "/oauth2/token"},
	{name: "Entra", host: "login.microsoftonline.com"},
	{name: "Okta", host: ".okta.com"},
	{name: "Auth0", host: ".auth0.com"},
	{name: "Google", host: "accounts.google.com"},
	{name: "GitHub", host: "github.com"},
	{name: "GitLab", devicePath: "/oauth/authorize_device"},
	{name: "ZITADEL", devicePath: "/oauth/v2/device_authorization"},
	{name: "Authelia", devicePath: "/api/oidc/device-authorization"},
	{name: "Hydra", devicePath: "/oauth2/device/auth"},
	{name: "Spring", devicePath: "/oauth2/device_authorization"},
	{name: "Duende", devicePath: "/connect/deviceauthorization"},
	{name: "Dex", devicePath: "/device/code", post: true},
	{name: "TokenIDP", devicePath: "/device_authorization"},
}

// productOf tells the product; the zero one where it cannot.
func productOf(issuer, deviceEndpoint string) product {
	at, err := url.Parse(issuer)
	if err != nil {
		return product{}
	}
	host := strings.ToLower(at.Hostname())
	path := ""
	if device, err := url.Parse(deviceEndpoint); err == nil {
		path = device.Path
	}
	for _, p := range products {
		switch {
		case p.host != "" && (host == p.host || p.host[0] == '.' && strings.HasSuffix(host, p.host)),
			p.issuerPath != "" && strings.Contains(at.Path+"/", p.issuerPath),
			p.devicePath != "" && strings.HasSuffix(path, p.devicePath):
			return p
		}
	}
	return product{}
}

// advice is what to do, by product; "" is for all others. {client} is the
// client's id, {issuer} the issuer.
var advice = map[problem]map[string]string{
	unreachable: {
		"": "Check that it runs, that this machine may reach it, and that issuer (or discovery) has the right host and port.",
	},
	untrusted: {
		"": "If its certificate is signed by an authority of your own, name that: transport { tls_trust_pool file <ca.pem> }.",
	},
	noDocument: {
		"":         "Check issuer, to the last letter: its discovery document is to be at {issuer}/.well-known/openid-configuration. Where it is elsewhere, set discovery.",
		"Keycloak": "Check the realm's name in issuer, capitals included: https://<host>/realms/<realm>.",
		"authentik": "Check the slug in issuer, and that the provider has an application: https://<host>/application/o/<slug>/. Where the issuer mode is " +
			"\"same identifier\", issuer is https://<host>/ and discovery the provider's address.",
		"WSO2":   "Try issuer https://<host>:9443/oauth2/token, which is what it calls itself.",
		"GitHub": "GitHub has none: add the line `dialect github`.",
	},
	otherIssuer: {
		"":         "Write issuer just as it calls itself, and set discovery if its document is elsewhere.",
		"Keycloak": "Write issuer as it calls itself. If that is not the address that people use, set KC_HOSTNAME at Keycloak.",
	},
	noDeviceGrant: {
		"":         "Not every identity provider has this grant: the README names those that do.",
		"Keycloak": "Start Keycloak with the feature device-flow, which is on by default since 13: look for --features-disabled.",
		"WSO2":     "Allow the grant Device Code: deployment.toml, [oauth.grant_type.device_code] enable = true.",
		"GitLab":   "GitLab has it from 17.2 on. Set endpoints { device_authorization <url>/oauth/authorize_device }.",
	},
	badDocument: {"": "Set the endpoint in question with endpoints, or correct it there."},
	grantOff: { //nolint:gosec // G101: advice
		"":          "Allow the device authorization grant (RFC 8628) for the client {client} there.",
		"Keycloak":  "In the admin console: Clients, {client}, Settings, Capability config: switch on \"OAuth 2.0 Device Authorization Grant\", and save.",
		"authentik": "Check that the provider of {client} has an application.",
		"WSO2":      "In the console: Applications, the one with the client id {client}, Protocol, Allowed grant types: tick Device Code.",
		"Okta":      "Tick Device Authorization at the application, and allow it in the access policy's rule of the authorization server.",
		"Auth0":     "Applications, the one with the client id {client}, Advanced Settings, Grant Types: tick Device Code. Its type has to be Native.",
		"Entra":     "App registrations, the one with the client id {client}, Authentication: set \"Allow public client flows\" to Yes.",
		"GitHub":    "Tick \"Enable Device Flow\" in the settings of the OAuth app with the client id {client}.",
		"Hydra":     "Add urn:ietf:params:oauth:grant-type:device_code to the grant_types of the client {client}.",
		"Spring":    "Add urn:ietf:params:oauth:grant-type:device_code to the authorization-grant-types of the client {client}.",
		"Authelia":  "Add urn:ietf:params:oauth:grant-type:device_code to the grant_types of the client {client}.",
		"Duende":    "Add GrantTypes.DeviceFlow to the AllowedGrantTypes of the client {client}.",
		"ZITADEL":   "Tick Device Code at the application with the client id {client}.",
		"TokenIDP":  "Add the grant device_code to the application with the client id {client}.",
	},
	clientRefused: {
		"":          "Check client_id and client_secret: the id as it is there, the secret as it is now, without a blank at its end. If both are right, try the other client_auth (basic or post). A public client has no secret: remove client_secret.",
		"Keycloak":  "In the admin console: Clients, {client}. If \"Client authentication\" is on there, client_secret has to be what the tab Credentials shows; if it is off, remove client_secret.",
		"authentik": "Applications, Providers: compare Client ID and Client Secret. A secret with other characters than letters and digits needs client_auth post.",
		"WSO2":      "Applications, Protocol: compare the client id and secret; without a secret tick Public client there.",
		"Auth0":     "Auth0 lets no client with a secret use the device grant: remove client_secret, and set the application's type to Native.",
		"Entra":     "Remove client_secret: the device grant there is for public clients (AADSTS700025, AADSTS7000218). Set \"Allow public client flows\" to Yes.",
		"Google":    "The client has to be of the type \"TVs and Limited Input devices\", and client_secret is needed.",
		"GitHub":    "Compare client_id with the one in the settings of the OAuth app.",
		"Dex":       "Compare id and secret with staticClients, and set client_auth post: Dex reads the secret from the body alone.",
		"ZITADEL":   "A native application with the device grant has no secret: remove client_secret.",
	},
	secretRequired: {
		"":         "No secret is sent. Either it knows no client {client}, or that one has a secret: check client_id, set client_secret, or make the client a public one there.",
		"Keycloak": "No secret is sent. In the admin console: Clients, {client}. If there is none, check client_id. If \"Client authentication\" is on there, set client_secret to what the tab Credentials shows, or switch it off.",
	},
	keyRefused: {
		"":         "The client {client} has to be registered there with private_key_jwt, and with the public half of the key that client_auth names: under its key id, where client_auth has one. Both clocks have to be right.",
		"Keycloak": "In the admin console: Clients, {client}, Credentials: Client Authenticator has to be \"Signed JWT\". The tab Keys has to hold the public half of the key that client_auth names.",
	},
	certRefused: {
		"":         "The client {client} has to be registered there for mutual TLS, with the certificate of tls_client_auth. Whatever ends TLS in front of it has to ask for one, and hand it on.",
		"Keycloak": "In the admin console: Clients, {client}, Credentials: Client Authenticator has to be \"X509 Certificate\", with the subject of tls_client_auth's certificate. Keycloak has to be started with https-client-auth.",
	},
	scopeRefused: {
		"":       "Set scopes to what the client {client} may ask for there.",
		"Spring": "Spring Authorization Server refuses openid in the device grant: set identity access_token, and scopes without openid.",
	},
	pkceMissing: {"": "The client has to send a code challenge: remove the line `pkce off`, or set pkce on."},
	starved: {
		"":          "Wait a while, and check again.",
		"authentik": "authentik allows 20 sign-ins an hour from one address. Raise throttle.providers.oauth2.device there.",
	},
	refused:    {"": "What it says is all there is. Look at its log, and at the example for it."},
	noKeys:     {"": "Check that the address of its keys (jwks_uri) can be reached from here."},
	macOnly:    {"": "Have it sign with a key of its own, like RS256.", "authentik": "Set a Signing Key at the provider: without one tokens are signed with the client's secret."},
	notPending: {"": "If it is WSO2 Identity Server 5.10 or 5.11, add the line dialect wso2_old. If it is TokenIDP, add dialect tokenidp."},
	clockAside: {"": "Set both clocks by NTP; clock_skew allows 5m at most."},
	shortCodes: {"": "People have little time to approve: have it give codes a longer life.", "authentik": "Set Access code validity of the provider to minutes=10."},
	noRefresh:  {"": "Sessions end with the access token. Where it has refresh tokens, allow offline_access for the client.", "authentik": "Add the scope mapping offline_access to the provider."},
}

// adviceOn is what to do about a problem at this identity provider.
func (c *Client) adviceOn(p problem, deviceEndpoint string) string {
	text := cmp.Or(advice[p][productOf(c.cfg.Issuer, deviceEndpoint).name], advice[p][""])
	return strings.NewReplacer("{client}", c.cfg.ClientID, "{issuer}", strings.TrimSuffix(c.cfg.Issuer, "/")).Replace(text)
}
