// The access and refresh tokens that are out.

package idp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// refreshLife is how long a refresh token is good when nobody uses it.
const refreshLife = 30 * 24 * time.Hour

var errTokenUnknown = errors.New("token is unknown or over")

// A grant is what a person approved; tokens point to it.
type grant struct {
	clientID string
	subject  string
	scopes   []string
	amr      []string
	signedIn time.Time
}

type token struct {
	*grant
	expires time.Time
}

type tokens struct {
	now  func() time.Time
	life time.Duration

	mu      sync.Mutex
	access  map[string]token // by token id
	refresh map[string]token // by the token itself
}

func newTokens(set settings) *tokens {
	return &tokens{
		now: set.now, life: set.tokenLife,
		access: make(map[string]token), refresh: make(map[string]token),
	}
}

// CreateAccessToken implements op.AuthStorage for a grant without
// offline_access.
func (t *tokens) CreateAccessToken(_ context.Context, req op.TokenRequest) (string, time.Time, error) {
	g, err := grantOf(req)
	if err != nil {
		return "", time.Time{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	id, until := t.addAccess(g)
	return id, until, nil
}

// CreateAccessAndRefreshTokens implements op.AuthStorage. A refresh token is
// good for one use (RFC 9700 §4.14.2).
func (t *tokens) CreateAccessAndRefreshTokens(_ context.Context, req op.TokenRequest, used string) (string, string, time.Time, error) {
	g, err := grantOf(req)
	if err != nil {
		return "", "", time.Time{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if used != "" {
		old, ok := t.refresh[used]
		if !ok || expired(t.now(), old.expires) {
			return "", "", time.Time{}, oidc.ErrInvalidGrant().WithParent(errTokenUnknown)
		}
		delete(t.refresh, used)
		g = old.grant // asking for fewer scopes now does not take the others away
	}
	id, until := t.addAccess(g)
	next := secret()
	t.refresh[next] = token{grant: g, expires: t.now().Add(refreshLife)}
	return id, next, until, nil
}

func (t *tokens) addAccess(g *grant) (string, time.Time) {
	now := t.now()
	for id, tok := range t.access {
		if expired(now, tok.expires) {
			delete(t.access, id)
		}
	}
	for key, tok := range t.refresh {
		if expired(now, tok.expires) {
			delete(t.refresh, key)
		}
	}
	id, until := secret(), now.Add(t.life)
	t.access[id] = token{grant: g, expires: until}
	return id, until
}

// grantOf reads the grant out of the two kinds of request that come here.
func grantOf(req op.TokenRequest) (*grant, error) {
	switch r := req.(type) {
	case *op.DeviceAuthorizationState:
		return &grant{clientID: r.ClientID, subject: r.Subject, scopes: r.Scopes, amr: r.AMR, signedIn: r.AuthTime}, nil
	case *refreshRequest:
		return r.grant, nil
	}
	return nil, oidc.ErrUnsupportedGrantType()
}

// TokenRequestByRefreshToken implements op.AuthStorage.
func (t *tokens) TokenRequestByRefreshToken(_ context.Context, refresh string) (op.RefreshTokenRequest, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tok, ok := t.refresh[refresh]
	if !ok || expired(t.now(), tok.expires) {
		return nil, op.ErrInvalidRefreshToken
	}
	return &refreshRequest{grant: tok.grant, scopes: slices.Clone(tok.scopes)}, nil
}

// GetRefreshTokenInfo implements op.AuthStorage for revocation. The token is
// its own id.
func (t *tokens) GetRefreshTokenInfo(_ context.Context, clientID, refresh string) (string, string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tok, ok := t.refresh[refresh]
	if !ok || tok.clientID != clientID {
		return "", "", op.ErrInvalidRefreshToken
	}
	return tok.subject, refresh, nil
}

// RevokeToken implements op.AuthStorage. With a refresh token all access tokens
// of its grant end (RFC 7009 §2.1); an unknown token is no error (§2.2).
func (t *tokens) RevokeToken(_ context.Context, tokenOrID, _, clientID string) *oidc.Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tok, ok := t.access[tokenOrID]; ok && tok.clientID == clientID {
		delete(t.access, tokenOrID)
		return nil
	}
	tok, ok := t.refresh[tokenOrID]
	if !ok || tok.clientID != clientID {
		return nil
	}
	delete(t.refresh, tokenOrID)
	for id, other := range t.access {
		if other.grant == tok.grant {
			delete(t.access, id)
		}
	}
	return nil
}

// lookup returns the grant behind a live access token.
func (t *tokens) lookup(id, subject string) (*grant, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tok, ok := t.access[id]
	if !ok || tok.subject != subject || expired(t.now(), tok.expires) {
		return nil, errTokenUnknown
	}
	return tok.grant, nil
}

// A refreshRequest is a grant under way to new tokens; its scopes may be fewer
// than the grant's (RFC 6749 §6).
type refreshRequest struct {
	*grant
	scopes []string
}

func (r *refreshRequest) GetAMR() []string                 { return r.amr }
func (r *refreshRequest) GetAudience() []string            { return []string{r.clientID} }
func (r *refreshRequest) GetAuthTime() time.Time           { return r.signedIn }
func (r *refreshRequest) GetClientID() string              { return r.clientID }
func (r *refreshRequest) GetScopes() []string              { return r.scopes }
func (r *refreshRequest) GetSubject() string               { return r.subject }
func (r *refreshRequest) SetCurrentScopes(scopes []string) { r.scopes = scopes }
