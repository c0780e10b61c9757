// This file holds how a gateway proves to the identity provider which client it
// is: the settings, and the files that they name.

package caddydevice

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// ClientAuth is how the client authenticates. In JSON, a method without more is
// its name alone.
type ClientAuth struct {
	// One of auto, none, basic, post, private_key_jwt and tls. Default: auto,
	// which is none without a secret, else what the identity provider lists.
	// tls needs a `transport` with tls_client_auth (RFC 8705 §2).
	Method string `json:"method,omitempty"`

	// The file of the client's private key, in PEM and not encrypted, for
	// private_key_jwt (RFC 7523 §2.2): RSA from 2048 bits on, EC or Ed25519. It
	// is read when the configuration is loaded; `caddy reload --force` reads it
	// again. The algorithm follows from the key: ES256, ES384, ES512 or EdDSA,
	// and of RSA's the first that the identity provider lists of RS256, PS256
	// and the longer ones.
	PEM string `json:"pem,omitempty"`

	// The key's id at the identity provider, for one that cannot tell by the
	// signature. Default: none is sent.
	KID string `json:"kid,omitempty"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *ClientAuth) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &a.Method) == nil {
		return nil
	}
	type plain ClientAuth
	return caddy.StrictUnmarshalJSON(text, (*plain)(a))
}

// MarshalJSON implements json.Marshaler.
func (a ClientAuth) MarshalJSON() ([]byte, error) {
	if a.PEM == "" && a.KID == "" {
		return json.Marshal(a.Method)
	}
	type plain ClientAuth
	return json.Marshal(plain(a))
}

// clientKey reads the client's private key, and says which file is to blame
// where it does not do.
func (r *resolver) clientKey(a ClientAuth) (key secret.String, id string) {
	const setting = "client_auth private_key_jwt"
	if a.PEM == "" {
		if a.KID != "" {
			r.fail("client_auth", errors.New("kid is the id of a key: add pem, the file of that"))
		}
		return "", ""
	}
	key, id = r.file(setting, a.PEM), r.text(setting, a.KID)
	if r.err != nil {
		return "", ""
	}
	if err := idp.CheckClientKey(key); err != nil {
		r.fail(setting, fmt.Errorf("%s: %w", a.PEM, err))
	}
	return key, id
}

var errTwoSecrets = errors.New("client_secret and client_secret_file are both set: keep one")

// clientSecret is the client's secret, wherever it is kept. literal is whether
// it is written into the configuration.
func (r *resolver) clientSecret(p *Provider) (value secret.String, literal bool) {
	if p.ClientSecret != "" && p.ClientSecretFile != "" {
		r.fail("client_secret", errTwoSecrets)
	}
	if p.ClientSecretFile == "" {
		text, literal := r.secret("client_secret", p.ClientSecret)
		return secret.String(text), literal
	}
	text := r.file("client_secret_file", p.ClientSecretFile).Reveal()
	if strings.ContainsAny(text, "\r\n") {
		r.fail("client_secret_file", fmt.Errorf("%q has several lines: it must hold the secret and nothing else", p.ClientSecretFile))
	}
	return secret.String(text), false
}

// maxFile bounds the files that settings name, as Caddy bounds {file.…}.
const maxFile = 1 << 20

// file is the content of the file that a setting names, without the newline at
// its end, as {file.…} reads it.
func (r *resolver) file(key, path string) secret.String {
	content, err := readFile(r.text(key, path))
	r.fail(key, r.hide(err))
	return content
}

func readFile(path string) (secret.String, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w: name a file that Caddy's user can read", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	content = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: name a file that Caddy's user can read", err)
	case len(content) > maxFile:
		return "", fmt.Errorf("%q is larger than 1 MiB: it is another file than you mean", path)
	case len(content) == 0:
		return "", fmt.Errorf("%q is empty: write into it what belongs there, or name another file", path)
	}
	return secret.String(content), nil
}
