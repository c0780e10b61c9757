// This file tests how a gateway proves to the identity provider which client it
// is.

package caddydevice

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

// signingKey is a client's private key, and the text of its file.
type signingKey struct {
	*ecdsa.PrivateKey
	text []byte
}

func newSigningKey(t *testing.T) signingKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signingKey{key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

// signed reports whether an assertion was made with the key, and with which kid.
func (k signingKey) signed(t *testing.T, assertion string) (kid string, ok bool) {
	t.Helper()
	jws, err := jose.ParseSigned(assertion, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatalf("%q: %v", assertion, err)
	}
	_, err = jws.Verify(k.Public())
	return jws.Signatures[0].Protected.KeyID, err == nil
}

// TestPrivateKeyJWT: the key is that of the file when the configuration was
// loaded, and a new one counts after a reload.
func TestPrivateKeyJWT(t *testing.T) {
	old, fresh := newSigningKey(t), newSigningKey(t)
	file := inFile(t, old.text)
	r := startCaddy(t)
	load := func() {
		t.Helper()
		if err := r.load(fmt.Sprintf("client_auth private_key_jwt %s key-1", file)); err != nil {
			t.Fatal(err)
		}
	}
	last := func() string {
		t.Helper()
		if status, _, body := r.get("/hello", ""); status != http.StatusUnauthorized {
			t.Fatalf("%d %s", status, body)
		}
		calls := r.idp.Calls("/device")
		return calls[len(calls)-1].Form.Get("client_assertion")
	}
	load()
	overwrite(t, file, fresh.text)
	if kid, ok := old.signed(t, last()); !ok || kid != "key-1" {
		t.Errorf("kid %q, with the key: %t", kid, ok)
	}
	load()
	if _, ok := fresh.signed(t, last()); !ok {
		t.Error("the new key is not in use")
	}
}

// TestKeysOfOneClient: gates with the same issuer and client id share one
// client, so they must have the same key, which no message prints.
func TestKeysOfOneClient(t *testing.T) {
	one, two := newSigningKey(t), newSigningKey(t)
	gateWith := func(file, kid string) site {
		auth := map[string]any{"method": "private_key_jwt", "pem": file, "kid": kid}
		return site{"api.example.com", map[string]any{"issuer": "https://idp.example.com", "client_id": "gate", "client_auth": auth}}
	}
	file := inFile(t, one.text)
	if err := startSites(t, siteConfig(t, nil, gateWith(file, "a"), gateWith(inFile(t, one.text), "a"))); err != nil {
		t.Errorf("the same key: %v", err)
	}
	for name, other := range map[string]site{"another key": gateWith(inFile(t, two.text), "a"), "another id": gateWith(file, "b"), "another of both": gateWith(inFile(t, two.text), "b")} {
		err := startSites(t, siteConfig(t, nil, gateWith(file, "a"), other))
		if err == nil || !strings.Contains(err.Error(), "another client_auth:") || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestClientAuthJSON: a method alone is its name.
func TestClientAuthJSON(t *testing.T) {
	for text, want := range map[string]ClientAuth{
		`"post"`:            {Method: "post"},
		`{"method":"post"}`: {Method: "post"},
		`{"method":"private_key_jwt","pem":"/key.pem"}`:           {Method: "private_key_jwt", PEM: "/key.pem"},
		`{"method":"private_key_jwt","pem":"/key.pem","kid":"a"}`: {Method: "private_key_jwt", PEM: "/key.pem", KID: "a"},
		`5`:           {},
		`["post"]`:    {},
		`{"kid":"a"}`: {KID: "a"},
	} {
		var got ClientAuth
		err := json.Unmarshal([]byte(text), &got)
		if (err == nil) != (want != ClientAuth{}) || err == nil && got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if err != nil {
			continue
		}
		written, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Replace(text, `{"method":"post"}`, `"post"`, 1); string(written) != want {
			t.Errorf("%s is written as %s", text, written)
		}
	}
}

// TestClientSecretFile: the secret is what the file holds, but for one newline
// at its end, and nothing in it is taken for a placeholder.
func TestClientSecretFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DEVICE_AUTH_TEST_DIR", dir)
	for name, row := range map[string]struct{ content, want string }{
		"plain": {"canary", "canary"}, "newline": {"canary\n", "canary"}, "newline of Windows": {"canary\r\n", "canary"},
		"blanks": {" canary ", " canary "}, "braces": {"{env.DEVICE_AUTH_TEST_DIR}", "{env.DEVICE_AUTH_TEST_DIR}"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(row.content), 0o600); err != nil {
				t.Fatal(err)
			}
			g := newGate(t, map[string]any{"client_secret_file": "{env.DEVICE_AUTH_TEST_DIR}/secret", "client_auth": "post"})
			g.begun(curlHeaders)
			if got := g.idp.Calls("/device")[0].Form.Get("client_secret"); got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
}

// TestClientAuthTLS: the certificate is all that says who the client is, and it
// is shown where the identity provider asks for it (RFC 8705 §5).
func TestClientAuthTLS(t *testing.T) {
	authority := idptest.NewAuthority()
	server := []tls.Certificate{authority.Certificate("127.0.0.1")}
	p := startTLS(t, "127.0.0.1", &tls.Config{Certificates: server})
	alias := startTLS(t, "127.0.0.1", &tls.Config{Certificates: server, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool()})
	at := alias.Issuer
	alias.Provider = p.Provider
	p.Metadata = func(md map[string]any) {
		md["mtls_endpoint_aliases"] = map[string]string{"device_authorization_endpoint": at + "/device", "token_endpoint": at + "/token", "revocation_endpoint": at + "/revoke"}
	}
	p.Device = func(n int) idptest.Reply {
		answer := idptest.Device(p.Issuer, n)
		answer["interval"] = 1
		return idptest.JSON(http.StatusOK, answer)
	}
	p.Approve("")
	cert, key := authority.Issue("gateway.example.com")
	r := startCaddy(t)
	r.idp = p.Provider
	if err := r.load(fmt.Sprintf("client_auth tls\n transport {\n tls_trust_pool file %s\n tls_client_auth %s %s\n }", inFile(t, authority.PEM()), inFile(t, cert), inFile(t, key))); err != nil {
		t.Fatal(err)
	}
	_, answer, body := r.get("/hello", "")
	session, ok := answer["session"].(string)
	if !ok {
		t.Fatal(body)
	}
	if status, _, body := r.get("/.device/wait?timeout=30", session); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if status, _, body := r.get("/hello", session); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if asked := len(alias.shown); asked < 2 || len(p.shown) != 0 {
		t.Errorf("the certificate was shown %d times at the alias, %d elsewhere", asked, len(p.shown))
	}
	for _, shown := range alias.shown {
		if shown.Subject.CommonName != "gateway.example.com" {
			t.Errorf("the certificate of %s was shown", shown.Subject)
		}
	}
	for _, call := range p.Calls("") {
		if len(call.Form) > 0 && (call.Basic || call.Form.Get("client_id") != "gate" || call.Form.Has("client_secret") || call.Form.Has("client_assertion")) {
			t.Errorf("%s: %v", call.Path, call.Form)
		}
	}
}

// TestSecretInPlaceOfItsFile: who writes the variable that holds a secret where the
// name of a file belongs is told so, and the secret is not.
func TestSecretInPlaceOfItsFile(t *testing.T) {
	authority := idptest.NewAuthority()
	cert, key := authority.Issue("gateway")
	certFile := inFile(t, cert)
	t.Setenv("DEVICE_AUTH_TEST_SECRET", "secret-canary")
	t.Setenv("DEVICE_AUTH_TEST_KEY", string(key))
	const secretVar, keyVar = "{env.DEVICE_AUTH_TEST_SECRET}", "{env.DEVICE_AUTH_TEST_KEY}"
	for name, row := range map[string]struct {
		cfg  map[string]any
		want string
	}{
		"client_secret_file": {map[string]any{"client_secret_file": secretVar}, "client_secret_file: open " + secretVar + ": "},
		"private_key_jwt":    {map[string]any{"client_auth": map[string]any{"method": "private_key_jwt", "pem": keyVar}}, "client_auth private_key_jwt: open " + keyVar + ": "},
		"certificate's key":  {map[string]any{"transport": map[string]any{"tls_client_auth": []string{certFile, keyVar}}}, "transport: "},
		"trusted authority":  {map[string]any{"transport": map[string]any{"tls_trust_pool": map[string]any{"provider": "file", "pem_files": []string{keyVar}}}}, "transport"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := map[string]any{"issuer": "https://idp.example.com", "client_id": "gate"}
			maps.Copy(cfg, row.cfg)
			err := caddy.Validate(siteConfig(t, nil, site{"api.example.com", cfg}))
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("%v", err)
			}
		})
	}
}
