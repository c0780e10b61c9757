// This file tests which private keys a client can authenticate with, and what
// is said of all others.

package idp

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// newKeys makes a key for each name; it is a test's own.
func newKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	keys := map[string]crypto.Signer{}
	must := func(key crypto.Signer, err error) crypto.Signer {
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	for name, curve := range map[string]elliptic.Curve{"P-224": elliptic.P224(), "P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		keys[name] = must(ecdsa.GenerateKey(curve, rand.Reader))
	}
	keys["RSA"] = must(rsa.GenerateKey(rand.Reader, 2048))
	keys["short RSA"] = must(rsa.GenerateKey(rand.Reader, 1024)) //nolint:gosec // to be refused
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	keys["Ed25519"] = must(ed, err)
	return keys
}

// inPEM is a key in PKCS #8, the usual form.
func inPEM(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PRIVATE KEY", der)
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestClientKey(t *testing.T) {
	keys := newKeys(t)
	ec := keys["P-256"].(*ecdsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	forAgreement, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, _ := idptest.NewAuthority().Issue("gateway")
	rsaKey := x509.MarshalPKCS1PrivateKey(keys["RSA"].(*rsa.PrivateKey))
	legacy := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: rsaKey})
	good := inPEM(t, ec)
	for name, row := range map[string]struct{ text, words string }{
		"EC":                        {good, ""},
		"RSA":                       {inPEM(t, keys["RSA"]), ""},
		"Ed25519":                   {inPEM(t, keys["Ed25519"]), ""},
		"RSA, PKCS #1":              {pemOf("RSA PRIVATE KEY", rsaKey), ""},
		"EC, SEC 1":                 {pemOf("EC PRIVATE KEY", sec1), ""},
		"EC with its parameters":    {pemOf("EC PARAMETERS", []byte{6, 0}) + pemOf("EC PRIVATE KEY", sec1), ""},
		"with its certificate":      {string(certificate) + good, ""},
		"with its public key":       {good + pemOf("PUBLIC KEY", public), ""},
		"with words before it":      {"Bag Attributes\n" + good, ""},
		"nothing":                   {"", "there is no private key in it, which begins with -----BEGIN PRIVATE KEY-----: make one like `openssl"},
		"a JWK":                     {`{"kty":"EC","d":"canary"}`, "there is no private key in it"},
		"a secret":                  {"canary", "there is no private key in it"},
		"public":                    {pemOf("PUBLIC KEY", public), "this is the public key, which the identity provider needs: name the file with the private key"},
		"public RSA":                {pemOf("RSA PUBLIC KEY", public), "this is the public key"},
		"a certificate":             {string(certificate), "this is a certificate, without its key: name the file with the private key"},
		"encrypted":                 {pemOf("ENCRYPTED PRIVATE KEY", sec1), "the private key is encrypted: decrypt it, like `openssl pkey"},
		"encrypted the old way":     {string(legacy), "the private key is encrypted"},
		"of OpenSSH":                {pemOf("OPENSSH PRIVATE KEY", sec1), "a key of OpenSSH, in a format of its own: make one"},
		"short":                     {inPEM(t, keys["short RSA"]), "the RSA key has 1024 bits, which is too short: it needs 2048"},
		"a curve that JWTs lack":    {inPEM(t, keys["P-224"]), "it must be RSA, EC on P-256, P-384 or P-521, or Ed25519"},
		"a key that does not sign":  {inPEM(t, forAgreement), "of a kind that no assertion is signed with"},
		"two":                       {good + inPEM(t, keys["RSA"]), "there are several private keys in it: keep the one"},
		"torn":                      {pemOf("PRIVATE KEY", []byte("canary")), "the private key cannot be read: make one"},
		"PKCS #1 in the wrong name": {pemOf("PRIVATE KEY", rsaKey), "the private key cannot be read"},
	} {
		err := CheckClientKey(secret.String(row.text))
		switch {
		case row.words == "" && err != nil, row.words != "" && (err == nil || !strings.Contains(err.Error(), row.words)):
			t.Errorf("%s: %v, want %q", name, err, row.words)
		case err != nil && strings.Contains(err.Error(), "canary"):
			t.Errorf("%s: the file is printed: %v", name, err)
		}
	}
}
