// This file holds PKCE (RFC 7636) for the device grant. RFC 8628 does not know
// it, but Keycloak and Dex do: the challenge goes with the device authorization
// request, the verifier with each poll, so a device code that leaks is of no
// use to anybody else.

package idp

import (
	"net/url"
	"slices"

	"golang.org/x/oauth2"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// pkceMethod is the only one that is used: plain would send the verifier itself.
const pkceMethod = "S256"

// PKCEModes are the values of Config.PKCE: "auto" is on where discovery names
// S256 (RFC 8414 §2).
var PKCEModes = []string{"auto", "on", "off"}

func (c *Client) usesPKCE(md *metadata) bool {
	switch c.cfg.PKCE {
	case "on":
		return true
	case "off":
		return false
	}
	return slices.Contains(md.ChallengeMethods, pkceMethod)
}

// challenge adds a fresh code challenge to a device authorization request
// (RFC 7636 §4.3) and returns its verifier; "" where PKCE is not used.
func (c *Client) challenge(md *metadata, form url.Values) secret.String {
	if !c.usesPKCE(md) {
		return ""
	}
	verifier := oauth2.GenerateVerifier()
	form.Set("code_challenge", oauth2.S256ChallengeFromVerifier(verifier))
	form.Set("code_challenge_method", pkceMethod)
	return secret.String(verifier)
}
