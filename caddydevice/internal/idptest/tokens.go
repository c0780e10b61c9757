// This file holds the tokens of the scripted identity provider, and the key that
// it signs them with.

package idptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Tokens makes a successful token answer; change may alter its members.
func (p *Provider) Tokens(change func(map[string]any)) Reply {
	answer := map[string]any{
		"access_token": "access-canary-" + rand.Text(), "token_type": "Bearer", "expires_in": 3600,
		"refresh_token": "refresh-canary-" + rand.Text(), "id_token": p.IDToken(nil),
	}
	if change != nil {
		change(answer)
	}
	return JSON(http.StatusOK, answer)
}

// IDToken makes a signed ID token; change may alter its claims.
func (p *Provider) IDToken(change func(map[string]any)) string {
	claims := map[string]any{
		"iss": p.Issuer, "aud": p.ClientID, "sub": p.Subject,
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"preferred_username": "alice", "groups": []string{"staff", "admins"},
	}
	maps.Copy(claims, p.Claims)
	if change != nil {
		change(claims)
	}
	return p.Sign(encode(claims), nil)
}

// LogoutToken makes a signed logout token (OpenID Connect Back-Channel Logout
// §2.4) about the subject; change may alter its claims.
func (p *Provider) LogoutToken(change func(map[string]any)) string {
	claims := map[string]any{
		"iss": p.Issuer, "aud": p.ClientID, "sub": p.Subject, "jti": rand.Text(),
		"iat": time.Now().Unix(), "exp": time.Now().Add(2 * time.Minute).Unix(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	if change != nil {
		change(claims)
	}
	return p.Sign(encode(claims), map[jose.HeaderKey]any{"typ": "logout+jwt"})
}

func encode(claims map[string]any) []byte {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return payload
}

// Sign signs a payload with the current key; header adds to the protected one.
func (p *Provider) Sign(payload []byte, header map[jose.HeaderKey]any) string {
	p.mu.Lock()
	key, keyID := p.key, p.keyID
	p.mu.Unlock()
	opts := (&jose.SignerOptions{}).WithHeader("kid", keyID)
	for k, v := range header {
		opts = opts.WithHeader(k, v)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, opts)
	if err != nil {
		panic(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}

// Rotate makes a new signing key the only one.
func (p *Provider) Rotate(keyID string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key, p.keyID = key, keyID
}

// Keys is the usual answer with the current key set.
func (p *Provider) Keys() Reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	return JSON(http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: p.keyID, Use: "sig", Algorithm: "ES256"}}})
}
