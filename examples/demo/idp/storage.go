// What the OpenID Connect library asks for beside devices and tokens: the
// signing key, clients, claims, and the flows that are not offered here.

package idp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

var (
	_ op.Storage                    = (*storage)(nil)
	_ op.DeviceAuthorizationStorage = (*storage)(nil)
	_ op.CanSetUserinfoFromRequest  = (*storage)(nil)
)

var errNotOffered = errors.New("this flow is not offered here")

// storage implements op.Storage; devices and tokens bring their share of it.
type storage struct {
	*devices
	*tokens
	dir *directory
	key signingKey
}

func newStorage(set settings, dir *directory) (*storage, error) {
	key, err := newSigningKey()
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	for _, c := range dir.clients {
		c.tokenLife = set.tokenLife
	}
	return &storage{devices: newDevices(set), tokens: newTokens(set), dir: dir, key: key}, nil
}

func knownScope(scope string) bool { return slices.Contains(supportedScopes, scope) }

// A signingKey is the key pair of this process, for ES256.
type signingKey struct {
	id   string
	pair *ecdsa.PrivateKey
}

func newSigningKey() (signingKey, error) {
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signingKey{}, err
	}
	return signingKey{id: rand.Text(), pair: pair}, nil
}

func (k signingKey) ID() string                                  { return k.id }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k signingKey) Key() any                                    { return k.pair }

// A publicKey is the half that the key set shows.
type publicKey struct{ signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k publicKey) Use() string                        { return oidc.KeyUseSignature }
func (k publicKey) Key() any                           { return &k.pair.PublicKey }

func (s *storage) SigningKey(context.Context) (op.SigningKey, error) { return s.key, nil }

func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (s *storage) KeySet(context.Context) ([]op.Key, error) { return []op.Key{publicKey{s.key}}, nil }

func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if c := s.dir.client(id); c != nil {
		return c, nil
	}
	return nil, oidc.ErrInvalidClient().WithDescription("unknown client")
}

func (s *storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if s.dir.clientSecretIs(id, secret) {
		return nil
	}
	return errors.New("wrong client secret")
}

// SetUserinfoFromRequest implements op.CanSetUserinfoFromRequest: the claims of
// an ID token.
func (s *storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, req op.IDTokenRequest, scopes []string) error {
	return s.claims(info, req.GetSubject(), scopes)
}

// SetUserinfoFromToken implements op.OPStorage: the userinfo answer.
func (s *storage) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, id, subject, _ string) error {
	g, err := s.lookup(id, subject)
	if err != nil {
		return err
	}
	return s.claims(info, g.subject, g.scopes)
}

// claims fills info with what the scopes open (OpenID Connect Core §5.4).
// Groups have no scope of their own there; they come with the profile.
func (s *storage) claims(info *oidc.UserInfo, subject string, scopes []string) error {
	u := s.dir.user(subject)
	if u == nil {
		return errors.New("user is gone")
	}
	info.Subject = u.subject
	if slices.Contains(scopes, oidc.ScopeProfile) {
		info.PreferredUsername = u.name
		info.Name = u.fullName
		info.AppendClaims("groups", u.groups)
	}
	if slices.Contains(scopes, oidc.ScopeEmail) {
		info.Email = u.email
		info.EmailVerified = true
	}
	return nil
}

// SetUserinfoFromScopes is the older form of SetUserinfoFromRequest; the
// library asks for both and wants this one empty.
func (s *storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

func (s *storage) Health(context.Context) error { return nil }

// The rest is never reached: it belongs to flows that have no endpoint here.

func (s *storage) CreateAuthRequest(context.Context, *oidc.AuthRequest, string) (op.AuthRequest, error) {
	return nil, errNotOffered
}

func (s *storage) AuthRequestByID(context.Context, string) (op.AuthRequest, error) {
	return nil, errNotOffered
}

func (s *storage) AuthRequestByCode(context.Context, string) (op.AuthRequest, error) {
	return nil, errNotOffered
}

func (s *storage) SaveAuthCode(context.Context, string, string) error { return errNotOffered }

func (s *storage) DeleteAuthRequest(context.Context, string) error { return errNotOffered }

func (s *storage) TerminateSession(context.Context, string, string) error { return errNotOffered }

func (s *storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errNotOffered
}

func (s *storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, errNotOffered
}

func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNotOffered
}

func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errNotOffered
}
