// This file holds the administrator: realms, clients and keys, by Keycloak's
// admin REST API.
package keycloak

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// What examples/keycloak/realm.json has.
const (
	ConfidentialClient = "my-gateway"
	Secret             = "change-this-secret"
	PublicClient       = "my-gateway-public"
	Alice              = "alice"
	AlicePassword      = "alice-password"
	Bob                = "bob"
	BobPassword        = "bob-password"
)

// Realm is one realm, made from the example's file under a name of its own.
type Realm struct {
	Name   string
	Server *Server
	// Consent is for one person at a time: Keycloak stores two consents of the
	// same user to the same client where they come at once, and from then on
	// answers each with 500.
	Consent sync.Mutex
}

// Client is a client as Keycloak's REST API writes it.
type Client map[string]any

// Attributes are the client's settings that have no member of their own.
func (c Client) Attributes() map[string]any {
	attributes, ok := c["attributes"].(map[string]any)
	if !ok {
		attributes = map[string]any{}
		c["attributes"] = attributes
	}
	return attributes
}

// Mapper is the configuration of one of the client's protocol mappers, by name.
func (c Client) Mapper(t testing.TB, name string) map[string]any {
	t.Helper()
	mappers, _ := c["protocolMappers"].([]any)
	for _, m := range mappers {
		mapper, _ := m.(map[string]any)
		if config, ok := mapper["config"].(map[string]any); ok && mapper["name"] == name {
			return config
		}
	}
	t.Fatalf("the client has no mapper %q", name)
	return nil
}

// NewRealm imports examples/keycloak/realm.json.
func (s *Server) NewRealm(ctx context.Context, t testing.TB) *Realm {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "examples", "keycloak", "realm.json"))
	if err != nil {
		t.Fatal(err)
	}
	var realm map[string]any
	if err := json.Unmarshal(raw, &realm); err != nil {
		t.Fatal(err)
	}
	r := &Realm{Name: "my-realm-" + strings.ToLower(rand.Text()[:8]), Server: s}
	realm["realm"] = r.Name
	s.importing.Lock() // several at once only slow each other down
	defer s.importing.Unlock()
	s.call(ctx, t, http.MethodPost, "/admin/realms", realm, nil)
	return r
}

// NewClient adds a client.
func (r *Realm) NewClient(ctx context.Context, t testing.TB, c Client) {
	t.Helper()
	r.call(ctx, t, http.MethodPost, "/clients", c, nil)
}

// ChangeClient changes a client's settings.
func (r *Realm) ChangeClient(ctx context.Context, t testing.TB, clientID string, change func(Client)) {
	t.Helper()
	var found []Client
	r.call(ctx, t, http.MethodGet, "/clients?clientId="+url.QueryEscape(clientID), nil, &found)
	if len(found) != 1 {
		t.Fatalf("%d clients are named %s", len(found), clientID)
	}
	change(found[0])
	r.call(ctx, t, http.MethodPut, "/clients/"+fmt.Sprint(found[0]["id"]), found[0], nil)
}

// Change sets some of the realm's settings.
func (r *Realm) Change(ctx context.Context, t testing.TB, settings map[string]any) {
	t.Helper()
	r.call(ctx, t, http.MethodPut, "", settings, nil)
}

// SwitchRole gives a realm role to a user, or takes it away.
func (r *Realm) SwitchRole(ctx context.Context, t testing.TB, user, role string, on bool) {
	t.Helper()
	var found map[string]any
	r.call(ctx, t, http.MethodGet, "/roles/"+role, nil, &found)
	method := http.MethodDelete
	if on {
		method = http.MethodPost
	}
	r.call(ctx, t, method, "/users/"+r.userID(ctx, t, user)+"/role-mappings/realm", []any{found}, nil)
}

// SignOut ends all that a user is signed in to, as the console's button does.
func (r *Realm) SignOut(ctx context.Context, t testing.TB, user string) {
	t.Helper()
	r.call(ctx, t, http.MethodPost, "/users/"+r.userID(ctx, t, user)+"/logout", nil, nil)
}

// SignOutAll does so for all users.
func (r *Realm) SignOutAll(ctx context.Context, t testing.TB) {
	t.Helper()
	r.call(ctx, t, http.MethodPost, "/logout-all", nil, nil)
}

func (r *Realm) userID(ctx context.Context, t testing.TB, user string) string {
	t.Helper()
	var found []map[string]any
	r.call(ctx, t, http.MethodGet, "/users?exact=true&username="+url.QueryEscape(user), nil, &found)
	if len(found) != 1 {
		t.Fatalf("%d users are named %s", len(found), user)
	}
	return fmt.Sprint(found[0]["id"])
}

// SwitchGrant turns the device grant on or off for a client.
func (r *Realm) SwitchGrant(ctx context.Context, t testing.TB, clientID string, on bool) {
	t.Helper()
	r.ChangeClient(ctx, t, clientID, func(c Client) {
		c.Attributes()["oauth2.device.authorization.grant.enabled"] = fmt.Sprint(on)
	})
}

// RotateKeys makes a new signing key and takes the old ones back.
func (r *Realm) RotateKeys(ctx context.Context, t testing.TB) {
	t.Helper()
	const keyProvider = "org.keycloak.keys.KeyProvider"
	var old []map[string]any
	r.call(ctx, t, http.MethodGet, "/components?type="+keyProvider, nil, &old)
	r.call(ctx, t, http.MethodPost, "/components", map[string]any{
		"name": "new-key", "providerId": "rsa-generated", "providerType": keyProvider,
		"config": map[string]any{"priority": []string{"200"}, "algorithm": []string{"RS256"}, "keySize": []string{"2048"}},
	}, nil)
	removed := 0
	for _, component := range old {
		if component["providerId"] != "rsa-generated" {
			continue
		}
		r.call(ctx, t, http.MethodDelete, "/components/"+fmt.Sprint(component["id"]), nil, nil)
		removed++
	}
	if removed == 0 {
		t.Fatal("the realm had no RSA key to take back")
	}
}

func (r *Realm) call(ctx context.Context, t testing.TB, method, path string, body, into any) {
	t.Helper()
	r.Server.call(ctx, t, method, "/admin/realms/"+r.Name+path, body, into)
}

// call makes one request of the admin API and reads its answer.
func (s *Server) call(ctx context.Context, t testing.TB, method, path string, body, into any) {
	t.Helper()
	var sent io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		sent = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL()+path, sent)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.adminToken(ctx, t))
	if err := s.do(req, into); err != nil {
		t.Fatal(err)
	}
}

// adminToken is the administrator's access token; Keycloak's lives a minute.
type adminToken struct {
	mu    sync.Mutex
	value string
	until time.Time
}

func (s *Server) adminToken(ctx context.Context, t testing.TB) string {
	t.Helper()
	s.token.mu.Lock()
	defer s.token.mu.Unlock()
	if time.Now().Before(s.token.until) {
		return s.token.value
	}
	form := url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {adminUser}, "password": {s.password}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/realms/master/protocol/openid-connect/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := s.do(req, &answer); err != nil {
		t.Fatal(err)
	}
	s.token.value, s.token.until = answer.AccessToken, time.Now().Add(30*time.Second)
	return answer.AccessToken
}

func (s *Server) do(req *http.Request, into any) error {
	resp, err := s.admin.Do(req)
	if err != nil {
		return fmt.Errorf("asking Keycloak's administration: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("asking Keycloak's administration: %w", err)
	}
	if resp.StatusCode > 299 {
		return fmt.Errorf("asking Keycloak's administration: %s %s: status %d: %s", req.Method, req.URL.Path, resp.StatusCode, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}
