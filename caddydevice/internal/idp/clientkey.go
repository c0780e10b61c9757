// This file holds the client's private key: how it is read, and what is wrong
// with those that are not used.

package idp

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// minRSA is what RFC 7518 §3.3 asks of an RSA key, in bits.
const minRSA = 2048

const makeKey = "make one like `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem`"

// keyParsers are how the private keys of a PEM file are read, by the words of
// its BEGIN line.
var keyParsers = map[string]func([]byte) (any, error){
	"PRIVATE KEY":     x509.ParsePKCS8PrivateKey,
	"RSA PRIVATE KEY": func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
	"EC PRIVATE KEY":  func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
}

var errEncrypted = errors.New("the private key is encrypted: decrypt it, like `openssl pkey -in key.pem -out plain.pem`, and let only Caddy's user read that")

// notKeys are what people name in place of the private key, by the words of its
// BEGIN line. Where the key is in the same file, they do not matter.
var notKeys = map[string]error{
	"ENCRYPTED PRIVATE KEY": errEncrypted,
	"PUBLIC KEY":            errors.New("this is the public key, which the identity provider needs: name the file with the private key"),
	"RSA PUBLIC KEY":        errors.New("this is the public key, which the identity provider needs: name the file with the private key"),
	"CERTIFICATE":           errors.New("this is a certificate, without its key: name the file with the private key"),
	"OPENSSH PRIVATE KEY":   errors.New("this is a key of OpenSSH, in a format of its own: " + makeKey),
}

var errNoPrivateKey = errors.New("there is no private key in it, which begins with -----BEGIN PRIVATE KEY-----: " + makeKey)

// CheckClientKey says why a PEM text holds no private key that a client can
// authenticate with. It prints nothing of the text.
func CheckClientKey(text secret.String) error {
	_, err := parseClientKey(text)
	return err
}

func parseClientKey(text secret.String) (crypto.Signer, error) {
	var key crypto.Signer
	instead := errNoPrivateKey
	for block, rest := pem.Decode([]byte(text.Reveal())); block != nil; block, rest = pem.Decode(rest) {
		parse, isKey := keyParsers[block.Type]
		switch {
		case !isKey && notKeys[block.Type] != nil:
			instead = notKeys[block.Type]
		case !isKey: // such as EC PARAMETERS
		case block.Headers["DEK-Info"] != "": // RFC 1421 §4.6.1.3
			return nil, errEncrypted
		case key != nil:
			return nil, errors.New("there are several private keys in it: keep the one that the identity provider knows")
		default:
			var err error
			if key, err = usableKey(parse(block.Bytes)); err != nil {
				return nil, err
			}
		}
	}
	if key == nil {
		return nil, instead
	}
	return key, nil
}

// usableKey refuses what cannot be read, cannot sign, or is too weak.
func usableKey(parsed any, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, errors.New("the private key cannot be read: " + makeKey)
	}
	if k, ok := parsed.(*rsa.PrivateKey); ok && k.N.BitLen() < minRSA {
		return nil, fmt.Errorf("the RSA key has %d bits, which is too short: it needs %d (RFC 7518 §3.3), or "+makeKey, k.N.BitLen(), minRSA)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok || algorithmsOf(key) == nil {
		return nil, errors.New("the key is of a kind that no assertion is signed with: it must be RSA, EC on P-256, P-384 or P-521, or Ed25519; " + makeKey)
	}
	return key, nil
}
