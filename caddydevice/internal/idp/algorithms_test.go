// This file holds the tests of which key may verify which algorithm, for ID
// tokens and access tokens alike.

package idp

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"testing"
	"testing/synctest"

	"github.com/go-jose/go-jose/v4"
)

func TestKeysAndAlgorithms(t *testing.T) {
	rsaKey, small := newRSA(t, 2048), newRSA(t, 1024)
	p256, p384 := newECDSA(elliptic.P256()), newECDSA(elliptic.P384())
	edPub, edKey, _ := ed25519.GenerateKey(rand.Reader)
	rsaDER, _ := x509.MarshalPKIXPublicKey(rsaKey.Public())
	rsaPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: rsaDER})
	rsaJWK, _ := json.Marshal(jwk(rsaKey.Public(), "k", nil))
	oct := jwk([]byte("0123456789abcdef0123456789abcdef"), "k", nil)
	// made when it is needed: a bubble has a time of its own
	of := func(alg jose.SignatureAlgorithm, key any, kid string) func(map[jose.HeaderKey]any) string {
		return func(header map[jose.HeaderKey]any) string { return signed(alg, key, kid, header) }
	}
	for name, c := range map[string]struct {
		set   []map[string]any
		token func(map[jose.HeaderKey]any) string
		good  bool
	}{
		"RS256":                     {[]map[string]any{jwk(rsaKey.Public(), "k", nil)}, of("RS256", rsaKey, "k"), true},
		"PS512":                     {[]map[string]any{jwk(rsaKey.Public(), "k", nil)}, of("PS512", rsaKey, "k"), true},
		"ES384":                     {[]map[string]any{jwk(p384.Public(), "k", nil)}, of("ES384", p384, "k"), true},
		"EdDSA":                     {[]map[string]any{jwk(edPub, "k", nil)}, of("EdDSA", edKey, "k"), true},
		"no kid in the token":       {[]map[string]any{jwk(p384.Public(), "a", nil), jwk(p256.Public(), "b", nil)}, of("ES256", p256, ""), true},
		"no kid in the set":         {[]map[string]any{jwk(p256.Public(), "", nil)}, of("ES256", p256, "k"), false},
		"same kid twice":            {[]map[string]any{jwk(newECDSA(elliptic.P256()).Public(), "k", nil), jwk(p256.Public(), "k", nil)}, of("ES256", p256, "k"), true},
		"another kid":               {[]map[string]any{jwk(p256.Public(), "other", nil)}, of("ES256", p256, "k"), false},
		"beside unknown kinds":      {[]map[string]any{{"kty": "XYZ", "kid": "x"}, {"kty": 5}, jwk(p256.Public(), "k", nil)}, of("ES256", p256, "k"), true},
		"use sig":                   {[]map[string]any{jwk(p256.Public(), "k", map[string]any{"use": "sig", "alg": "ES256", "key_ops": []string{"verify"}})}, of("ES256", p256, "k"), true},
		"key for RS256, PS256 used": {[]map[string]any{jwk(rsaKey.Public(), "k", map[string]any{"alg": "RS256"})}, of("PS256", rsaKey, "k"), false},
		"ES384 signed by hand":      {[]map[string]any{jwk(p384.Public(), "k", nil)}, func(header map[jose.HeaderKey]any) string { return signedES384(p384, "k", header) }, true},
		"P-256 key with ES384":      {[]map[string]any{jwk(p256.Public(), "k", nil)}, func(header map[jose.HeaderKey]any) string { return signedES384(p256, "k", header) }, false},
		"use enc":                   {[]map[string]any{jwk(p256.Public(), "k", map[string]any{"use": "enc"})}, of("ES256", p256, "k"), false},
		"key_ops encrypt":           {[]map[string]any{jwk(p256.Public(), "k", map[string]any{"key_ops": []string{"encrypt"}})}, of("ES256", p256, "k"), false},
		"small RSA":                 {[]map[string]any{jwk(small.Public(), "k", nil)}, of("RS256", small, "k"), false},
		"a private key in the set":  {[]map[string]any{jwk(p256, "k", nil)}, of("ES256", p256, "k"), false},
		"oct in the set":            {[]map[string]any{oct, jwk(rsaKey.Public(), "k", nil)}, of("HS256", []byte("0123456789abcdef0123456789abcdef"), "k"), false},
		"HS256 with the PEM":        {[]map[string]any{jwk(rsaKey.Public(), "k", nil)}, of("HS256", rsaPEM, "k"), false},
		"HS256 with the DER":        {[]map[string]any{jwk(rsaKey.Public(), "k", nil)}, of("HS256", rsaDER, "k"), false},
		"HS256 with the modulus":    {[]map[string]any{jwk(rsaKey.Public(), "k", nil)}, of("HS256", rsaKey.N.Bytes(), "k"), false},
		"HS256 with the JWK":        {[]map[string]any{jwk(rsaKey.Public(), "k", nil)}, of("HS256", rsaJWK, "k"), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				// a key that is always usable, so that a set is never refused as a whole
				p.Always("/jwks", keySetReply(append(c.set, jwk(newECDSA(elliptic.P521()).Public(), "spare", nil))...))
				client := newClient(t, p)
				who, err := verify(client, c.token(nil))
				wantVerdict(t, "ID token", c.good, who, err)
				who, err = client.VerifyAccess(context.Background(), c.token(atJWT), Bearer{Audiences: []string{"gate"}})
				wantVerdict(t, "access token", c.good, who, err)
			})
		})
	}
}

// signedES384 signs the usual claims with a key that is of another curve than
// the algorithm (RFC 7518 §3.4), which go-jose refuses to do.
func signedES384(key *ecdsa.PrivateKey, kid string, header map[jose.HeaderKey]any) string {
	members := map[jose.HeaderKey]any{"alg": "ES384", "kid": kid}
	maps.Copy(members, header)
	head, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	signed := b64(string(head)) + "." + b64(string(payload(usual())))
	hash := sha512.Sum384([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		panic(err)
	}
	sig := make([]byte, 96)
	r.FillBytes(sig[:48])
	s.FillBytes(sig[48:])
	return signed + "." + b64(string(sig))
}
