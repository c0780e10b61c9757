// This file holds client authentication by a signed assertion: private_key_jwt
// (RFC 7523 §2.2, OpenID Connect Core §9).

package idp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// assertionLife is as long as Keycloak lets one live, unless it is told
	// otherwise. Each is for one request.
	assertionLife = time.Minute
)

// assertion says who the client is, to one audience, for one request. The
// audience is one string, and no list: RFC 7523bis §4 wants a sole value, and
// FAPI 2.0 that form of it.
type assertion struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	ID       string `json:"jti"`
	IssuedAt int64  `json:"iat"`
	Expiry   int64  `json:"exp"`
}

// assert adds a fresh assertion to a request's form.
func (c *Client) assert(md *metadata, form url.Values, audience string) error {
	now := time.Now()
	payload, err := json.Marshal(assertion{
		Issuer: c.cfg.ClientID, Subject: c.cfg.ClientID, Audience: audience, ID: rand.Text(),
		IssuedAt: now.Unix(), Expiry: now.Add(assertionLife).Unix(),
	})
	if err != nil {
		return fmt.Errorf("making a client assertion: %w", err)
	}
	// typ is JWT and not the explicit one of RFC 7523bis: Spring's decoder
	// takes no other, and nobody insists on that
	options := (&jose.SignerOptions{}).WithType("JWT")
	if c.cfg.ClientKeyID != "" {
		options.WithHeader("kid", c.cfg.ClientKeyID)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithmFor(c.clientKey, md.TokenAuthAlgorithms), Key: c.clientKey}, options)
	if err != nil {
		return fmt.Errorf("signing a client assertion: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return fmt.Errorf("signing a client assertion: %w", err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return fmt.Errorf("signing a client assertion: %w", err)
	}
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", text)
	return nil
}

// algorithmFor is the first of the key's algorithms that the identity provider
// lists. Where it lists none of them, the first of all is tried: lists are not
// always complete.
func algorithmFor(key crypto.Signer, listed []string) jose.SignatureAlgorithm {
	fitting := algorithmsOf(key)
	for _, alg := range fitting {
		if slices.Contains(listed, string(alg)) {
			return alg
		}
	}
	return fitting[0]
}

// algorithmsOf are the algorithms that a key can sign with, the one that a
// client is registered for most often first; nil for a key that is not used.
func algorithmsOf(key crypto.Signer) []jose.SignatureAlgorithm {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.RS384, jose.PS384, jose.RS512, jose.PS512}
	case *ecdsa.PrivateKey:
		return ecAlgorithms[k.Curve.Params().Name]
	case ed25519.PrivateKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}
	}
	return nil
}

var ecAlgorithms = map[string][]jose.SignatureAlgorithm{"P-256": {jose.ES256}, "P-384": {jose.ES384}, "P-521": {jose.ES512}}

// An assertion names the issuer as its audience, as RFC 7523bis §4 demands: the
// issuer is configured here, and no identity provider can make it another's
// (CVE-2025-27370). Keycloak, node oidc-provider, ZITADEL, WSO2, Auth0 and Duende
// take it. Ory Hydra takes only its token endpoint, and old servers may, so one
// that refuses the client is asked once more with that, if it cannot be
// another's either: it is configured, or lies below the issuer. What worked last
// is tried first from then on. A refused client has used up no code and no
// token.
func (c *Client) postAsserted(send func(audience string) (reply, error), md *metadata) (reply, error) {
	audiences := []string{c.cfg.Issuer}
	if other := c.tokenAudience(md); other != "" {
		audiences = append(audiences, other)
	}
	if c.endpointIsAudience.Load() {
		slices.Reverse(audiences)
	}
	var rep reply
	var err error
	for _, audience := range audiences {
		if rep, err = send(audience); err != nil {
			return rep, err
		}
		if !rep.refusesClient() {
			c.endpointIsAudience.Store(audience != c.cfg.Issuer)
			break
		}
	}
	return rep, nil
}

// tokenAudience is the token endpoint as an audience, "" where it is none that
// is safe.
func (c *Client) tokenAudience(md *metadata) string {
	endpoint := md.TokenEndpoint
	below := strings.HasPrefix(endpoint, strings.TrimSuffix(c.cfg.Issuer, "/")+"/")
	if endpoint == c.cfg.Issuer || !below && endpoint != c.cfg.Endpoints.Token {
		return ""
	}
	return endpoint
}

// refusesClient reports whether the answer is about who asks (RFC 6749 §5.2).
func (r reply) refusesClient() bool {
	var answer tokenAnswer
	return r.status == http.StatusUnauthorized || r.object(&answer) == nil && errorWord(answer.Error) == "invalid_client"
}
