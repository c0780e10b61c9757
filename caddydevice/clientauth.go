// This file holds how a gateway proves to the identity provider which client it
// is: the settings, and the files that they name.

package caddydevice

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

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
	r.fail(key, err)
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
