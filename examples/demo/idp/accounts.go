// The accounts and clients that the demo knows.

package idp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// A user is one account. The subject is not the user name, as it should be: a
// name can change hands, a subject must not (OpenID Connect Core §5.7).
type user struct {
	subject  string
	name     string // what is typed at sign-in: preferred_username
	fullName string
	email    string
	groups   []string
	password []byte // keyed digest
}

// A client is one registered OAuth client; it is what the library asks for.
type client struct {
	id        string
	name      string
	secret    []byte // keyed digest; nil for a public client
	tokenLife time.Duration
}

// A directory holds accounts and clients. Secrets are kept as keyed digests:
// two digests have one length, so that comparing them takes the same time
// whatever was typed.
type directory struct {
	key     [32]byte
	users   []*user
	clients []*client
}

func newDirectory() *directory {
	d := &directory{}
	rand.Read(d.key[:]) // never fails: crypto/rand ends the program instead
	d.users = []*user{
		{
			subject: "u-1001", name: "alice", fullName: "Alice Example", email: "alice@example.com",
			groups: []string{"staff", "admins"}, password: d.digest("alice-demo"),
		},
		{
			subject: "u-1002", name: "bob", fullName: "Bob Example", email: "bob@example.com",
			groups: []string{"staff"}, password: d.digest("bob-demo"),
		},
	}
	d.clients = []*client{
		{id: "demo", name: "Demo gateway"},
		{id: "demo-confidential", name: "Demo gateway with a secret", secret: d.digest("demo-secret")},
	}
	return d
}

func (d *directory) digest(s string) []byte {
	mac := hmac.New(sha256.New, d.key[:])
	mac.Write([]byte(s))
	return mac.Sum(nil)
}

// signIn returns the user with that name and password, or nil. It does the
// same work for a name that is not there.
func (d *directory) signIn(name, password string) *user {
	got, name := d.digest(password), strings.ToLower(strings.TrimSpace(name))
	var found *user
	for _, u := range d.users {
		right := hmac.Equal(got, u.password)
		if u.name == name && right {
			found = u
		}
	}
	return found
}

func (d *directory) user(subject string) *user {
	for _, u := range d.users {
		if u.subject == subject {
			return u
		}
	}
	return nil
}

func (d *directory) client(id string) *client {
	for _, c := range d.clients {
		if c.id == id {
			return c
		}
	}
	return nil
}

// clientSecretIs reports whether secret is that of the confidential client id.
func (d *directory) clientSecretIs(id, secret string) bool {
	got, c := d.digest(secret), d.client(id)
	return c != nil && c.secret != nil && hmac.Equal(got, c.secret)
}

func (c *client) GetID() string { return c.id }

// AuthMethod of a client with a secret says basic; the library takes the secret
// from the form just as well (RFC 6749 §2.3.1 names both).
func (c *client) AuthMethod() oidc.AuthMethod {
	if c.secret == nil {
		return oidc.AuthMethodNone
	}
	return oidc.AuthMethodBasic
}

func (c *client) ApplicationType() op.ApplicationType {
	if c.secret == nil {
		return op.ApplicationTypeNative
	}
	return op.ApplicationTypeWeb
}

func (c *client) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeDeviceCode, oidc.GrantTypeRefreshToken}
}

func (c *client) IDTokenLifetime() time.Duration { return c.tokenLife }

// IDTokenUserinfoClaimsAssertion puts name, email and groups into the ID token
// and not into the userinfo answer alone (OpenID Connect Core §5.4).
func (c *client) IDTokenUserinfoClaimsAssertion() bool { return true }

func (c *client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeBearer }
func (c *client) IsScopeAllowed(scope string) bool    { return knownScope(scope) }
func (c *client) ClockSkew() time.Duration            { return 0 }
func (c *client) DevMode() bool                       { return false }

func (c *client) RestrictAdditionalIdTokenScopes() func([]string) []string     { return allScopes }
func (c *client) RestrictAdditionalAccessTokenScopes() func([]string) []string { return allScopes }

func allScopes(scopes []string) []string { return scopes }

// What follows belongs to flows with a redirect, which no client here has.
func (c *client) RedirectURIs() []string             { return nil }
func (c *client) PostLogoutRedirectURIs() []string   { return nil }
func (c *client) ResponseTypes() []oidc.ResponseType { return nil }
func (c *client) LoginURL(string) string             { return "" }
