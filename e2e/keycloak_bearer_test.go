// This file shows which of the tokens around Keycloak are good at the gate, and
// what the others cost.
package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/keycloak"
)

// wantOnlyAccessTokens: Keycloak signs ID tokens and access tokens with one
// key, for one audience; refresh tokens are JWTs as well.
func (s apiStage) wantOnlyAccessTokens(t *testing.T) {
	tokens := s.alice.tokens(t)
	if claims := payload(t, tokens.ID); claims["azp"] != cliClient || !strings.Contains(fmt.Sprint(claims["aud"]), cliAPI) {
		t.Fatalf("the ID token is not for the API: %v", claims["aud"])
	}
	for name, token := range map[string]string{"ID token": tokens.ID, "refresh token": tokens.Refresh} {
		t.Run(name, func(t *testing.T) { s.wantRefusedAtBoth(t, token) })
	}
}

func (s apiStage) wantRefusedAtBoth(t *testing.T, token string) {
	t.Helper()
	for _, site := range s.clients() {
		wantInvalidToken(t, site.get(t, "/", "-H", bearer(token), "-H", asJSON), "token")
	}
}

// wantAudience: a token of the program for another API is not for this one, but
// passes where it is the program alone that counts.
func (s apiStage) wantAudience(t *testing.T) {
	forAPI := func(name string) {
		s.realm.ChangeClient(s.ctx, t, cliClient, func(c keycloak.Client) {
			c.Mapper(t, "the API")["included.custom.audience"] = name
		})
		s.alice.want(t, "refresh", 0, "Refreshed.")
	}
	forAPI("https://other.example.com")
	token := s.alice.tokens(t).Access
	wantInvalidToken(t, s.get(t, "/", "-H", bearer(token), "-H", asJSON), "token")
	wantStatus(t, s.clients()["public"].get(t, "/", "-H", bearer(token)), 200)
	forAPI(cliAPI)
	s.alice.want(t, "whoami", 0, keycloak.Alice)
}

// wantParty: a token that another client of the realm got is good at neither
// site.
func (s apiStage) wantParty(t *testing.T) {
	s.signInAlice(t)
	theirs := 0
	for _, token := range s.rec.Secrets()["access token"] {
		if payload(t, token)["azp"] == keycloak.ConfidentialClient {
			theirs++
			s.wantRefusedAtBoth(t, token)
		}
	}
	if theirs == 0 {
		t.Error("Keycloak made no token for another client")
	}
}

// wantHandedOn: the upstream gets the program's own token where that is asked
// for.
func (s apiStage) wantHandedOn(t *testing.T) {
	token := s.alice.tokens(t).Access
	got := s.clients()["public"].get(t, "/handed-on", "-H", bearer(token))
	wantStatus(t, got, 200)
	seen := echo(t, got.Body)
	wantHeader(t, seen, "Remote-User", keycloak.Alice)
	if seen.Header.Get("Authorization") != "Bearer "+token { // not printed
		t.Error("the upstream did not get the token")
	}
}

// keyCooldown is the least time between two fetches of the keys.
const keyCooldown = 30 * time.Second

// wantFewFetches: whoever sends tokens that nobody made costs Keycloak nothing.
func (s apiStage) wantFewFetches(t *testing.T) {
	for name, token := range forgeries(t, s.alice.tokens(t).Access) {
		t.Run(name, func(t *testing.T) { s.wantRefusedAtBoth(t, token) })
	}
	fetches := s.line.keyFetches()
	if len(fetches) == 0 {
		t.Fatal("the keys were never fetched: this is not their address")
	}
	for i := 1; i < len(fetches); i++ {
		if gap := fetches[i].Sub(fetches[i-1]); gap < keyCooldown {
			t.Errorf("the keys were fetched after %v", gap)
		}
	}
}

// wantKeysKept: once its keys are known, Keycloak may be out of reach. A token
// that was never seen before is good then too; a bad one is not.
func (s apiStage) wantKeysKept(t *testing.T) {
	s.alice.want(t, "refresh", 0, "Refreshed.")
	s.rec.Down(true)
	defer s.rec.Down(false)
	for range 2 {
		s.alice.want(t, "whoami", 0, keycloak.Alice)
	}
	before := len(s.up.Requests())
	for name, token := range forgeries(t, s.alice.tokens(t).Access) {
		if got := s.get(t, "/", "-H", bearer(token)); got.Status != 401 && got.Status != 503 {
			t.Errorf("%s: status %d", name, got.Status)
		}
	}
	if n := len(s.up.Requests()) - before; n != 0 {
		t.Errorf("%d requests with forged tokens reached the upstream", n)
	}
	s.alice.want(t, "refresh", 1, "cannot be reached")
}

// forgeries are tokens that say what a genuine one says, and more.
func forgeries(t *testing.T, genuine string) map[string]string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(genuine, ".")
	head, claims := part(t, genuine, 0), part(t, genuine, 1)
	other := maps.Clone(claims)
	other["sub"] = "somebody else"
	none := map[string]any{"alg": "none", "typ": "JWT"}
	all := map[string]string{
		"no JWT":                         "garbage",
		"no signature":                   encodePart(t, none) + "." + parts[1] + ".",
		"other claims":                   parts[0] + "." + encodePart(t, other) + "." + parts[2],
		"Keycloak's key id, another key": signWith(t, key, head, claims),
		"no key id":                      signWith(t, key, map[string]any{"alg": "RS256", "typ": "JWT"}, claims),
	}
	for i := range 5 {
		all[fmt.Sprintf("made-up key id %d", i)] = signWith(t, key, map[string]any{"alg": "RS256", "typ": "JWT", "kid": rand.Text()}, claims)
	}
	return all
}

// signWith makes a token with RS256 (RFC 7515 §7.1).
func signWith(t *testing.T, key *rsa.PrivateKey, head, claims map[string]any) string {
	t.Helper()
	signed := encodePart(t, head) + "." + encodePart(t, claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func encodePart(t *testing.T, members map[string]any) string {
	t.Helper()
	raw, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}
