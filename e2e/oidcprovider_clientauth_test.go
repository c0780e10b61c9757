// This file shows how a client proves who it is: by a signed assertion, by a
// certificate, and by a secret in a file; and that a wrong one is none.
package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/pki"
)

// clientOf is the directive for a client of the provider, with more lines.
func clientOf(id string, lines ...string) string {
	return strings.Replace(deviceAuth("", append(lines, manyStarts)...), idpserver.PublicClient, id, 1)
}

// TestPrivateKeyJWT: the assertion is taken at every endpoint, also for the
// refreshes and at the end.
func TestPrivateKeyJWT(t *testing.T) {
	t.Parallel()
	var pairs []*pki.Pair
	var keys []jose.JSONWebKey
	for _, kind := range []string{pki.RSA, pki.EC, pki.Ed25519} {
		pair := pki.New(t, kind, kind, nil)
		pairs, keys = append(pairs, pair), append(keys, pair.JWK())
	}
	for _, pair := range pairs {
		t.Run(pair.Name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, plan{
				keys: keys, tokenLife: 10 * time.Second,
				caddyfile: oneSite(clientOf(idpserver.KeyClient, "client_auth private_key_jwt {$KEY} "+pair.Name)),
				env:       map[string]string{"KEY": pair.KeyFile},
			})
			r := s.signInShort(t)
			r.wantGoesOn(t)
			if got := s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(r.key)); got.Status != 204 {
				t.Errorf("signing out: %d", got.Status)
			}
			s.await(t, "the revocation", func() bool { return len(s.rec.Revocations()) > 0 })
			for _, e := range s.rec.Entries() {
				if e.Error != "" && e.Error != "authorization_pending" {
					t.Errorf("%s: %d %s", e.Path, e.Status, e.Error)
				}
			}
		})
	}
	t.Run("a key that it does not know", func(t *testing.T) {
		t.Parallel()
		stranger := pki.New(t, pki.EC, pki.EC, nil)
		s := newStage(t, plan{
			keys: keys, caddyfile: oneSite(clientOf(idpserver.KeyClient, "client_auth private_key_jwt {$KEY}")), env: map[string]string{"KEY": stranger.KeyFile},
		})
		wantStatus(t, s.get(t, "/"), 502)
		if starts := s.rec.Starts(); len(starts) == 0 || starts[0].Error != "invalid_client" || !strings.Contains(s.gate.LogText(), "invalid_client") {
			t.Errorf("%+v", starts)
		}
	})
}

// TestOwnAuthority: the provider's certificate is of an authority that only the
// configuration trusts, and the client's is what it is known by.
func TestOwnAuthority(t *testing.T) {
	t.Parallel()
	authority := pki.New(t, pki.EC, "authority", nil)
	gateway := pki.New(t, pki.EC, "gateway", authority, idpserver.ClientHost)
	selfSigned := pki.New(t, pki.RSA, "self-signed", nil)
	idp := idpserver.Start(t, idpserver.Options{
		ClientKeys: []jose.JSONWebKey{selfSigned.JWK()},
		TLS:        &idpserver.TLS{Pair: pki.New(t, pki.EC, "provider", authority, "127.0.0.1"), ClientCA: authority},
	})
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte(idp.Secret+"\n"), 0o600))
	certificate := func(pair *pki.Pair) string { return fmt.Sprintf("tls_client_auth %s %s", pair.CertFile, pair.KeyFile) }
	for name, row := range map[string]struct {
		client string
		lines  string // of the directive
		more   string // lines of the transport
		status int    // of the first request
	}{
		"public":                        {idpserver.PublicClient, "", "", 401},
		"not trusted":                   {idpserver.PublicClient, "", "tls_trust_pool file " + selfSigned.CertFile, 503},
		"secret in a file":              {idpserver.PostClient, "client_auth post\nclient_secret_file " + secret, "", 401},
		"assertion":                     {idpserver.KeyClient, "client_auth private_key_jwt " + selfSigned.KeyFile, "", 401},
		"certificate":                   {idpserver.CertificateClient, "client_auth tls", certificate(gateway), 401},
		"certificate of another name":   {idpserver.CertificateClient, "client_auth tls", certificate(pki.New(t, pki.EC, "other", authority, "other.example.com")), 502},
		"certificate of nobody":         {idpserver.CertificateClient, "client_auth tls", certificate(pki.New(t, pki.EC, "other", nil, idpserver.ClientHost)), 502},
		"self-signed certificate":       {idpserver.SelfSignedClient, "client_auth tls", certificate(selfSigned), 401},
		"another one, also self-signed": {idpserver.SelfSignedClient, "client_auth tls", certificate(pki.New(t, pki.RSA, "self-signed", nil)), 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trust := "tls_trust_pool file " + authority.CertFile
			if strings.Contains(row.more, "tls_trust_pool") {
				trust = ""
			}
			s := emptyStage(t)
			s.canaries.Add(t, "client secret", idp.Secret)
			s.open(t, oneSite(clientOf(row.client, row.lines, "transport {\n"+trust+"\n"+row.more+"\n}")), map[string]string{"ISSUER": idp.URL()})
			if row.status != 401 {
				wantStatus(t, s.get(t, "/"), row.status)
				if why := map[int]string{502: "invalid_client", 503: "x509: certificate signed by unknown authority"}[row.status]; !strings.Contains(s.gate.LogText(), why) {
					t.Errorf("%q is not in the log", why)
				}
				return
			}
			a := s.startJSON(t, "/")
			must(t, idpserver.NewPerson(t, authority).Approve(s.ctx, idpserver.Device{Complete: a.Complete}, idpserver.Alice, idpserver.AlicePassword))
			s.wantActive(t, a.Session)
			wantAlice(t, echo(t, s.get(t, "/in", "-H", bearer(a.Session)).Body))
		})
	}
}

// TestProxyOfTheEnvironment: one that the configuration does not name does not
// count.
func TestProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	proxy, asked := countedListener(t)
	s := emptyStage(t)
	s.canaries.Add(t, "nothing", "there is no secret in this scenario")
	env := map[string]string{"ISSUER": "https://idp.invalid"}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		env[name] = proxy
	}
	s.open(t, oneSite(clientOf(idpserver.PublicClient)), env)
	wantStatus(t, s.get(t, "/"), 503)
	if n := asked.Load(); n != 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
}
