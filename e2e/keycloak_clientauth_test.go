// This file shows a Keycloak client with the authenticator "Signed JWT".
package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/e2e/internal/keycloak"
	"github.com/caddydevice/device-auth/e2e/internal/pki"
)

// keycloakSignedJWT is with each kind of key, from the sign-in to its end.
func keycloakSignedJWT(t *testing.T, shared *keycloak.Realm) {
	for _, kind := range []string{pki.RSA, pki.EC, pki.Ed25519} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			pair := pki.New(t, kind, kind, nil)
			keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{pair.JWK()}})
			must(t, err)
			realm := shared.Server.NewRealm(t.Context(), t)
			realm.ChangeClient(t.Context(), t, keycloak.ConfidentialClient, func(c keycloak.Client) {
				c["clientAuthenticatorType"] = "client-jwt"
				c.Attributes()["use.jwks.string"], c.Attributes()["jwks.string"] = "true", string(keys)
			})
			s := newKeycloakStage(t, realm, keycloakPlan{change: func(caddyfile string) string {
				return strings.Replace(caddyfile, "client_secret {env.CLIENT_SECRET}", "client_auth private_key_jwt "+pair.KeyFile+" "+kind, 1)
			}})
			key := s.signInAlice(t)
			wantKeycloakAlice(t, echo(t, s.get(t, "/", "-H", bearer(key)).Body))
			wantStatus(t, s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(key)), 204)
			s.await(t, "the revocation", func() bool { return len(s.rec.Revocations()) > 0 })
			for _, e := range s.rec.Entries() {
				if e.Error == "invalid_client" {
					t.Errorf("%s: %d %s", e.Path, e.Status, e.Error)
				}
			}
			if secrets := s.rec.Secrets(); len(secrets["client assertion"]) < 3 || len(secrets["client secret"])+len(secrets["basic credential"]) != 0 {
				t.Errorf("%d assertions", len(secrets["client assertion"]))
			}
		})
	}
}
