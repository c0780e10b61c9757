// The endpoints that programs talk to, as the OpenID Connect library serves
// them, and where this server says more exactly what the RFCs ask for.

package idp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The paths of the endpoints; discovery names them all.
const (
	pathDevice   = "/device_authorization"
	pathToken    = "/token"
	pathKeys     = "/keys"
	pathUserinfo = "/userinfo"
	pathRevoke   = "/revoke"
)

var supportedScopes = []string{
	oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeEmail, oidc.ScopeOfflineAccess,
}

var supportedClaims = []string{
	"sub", "iss", "aud", "exp", "iat", "auth_time", "amr", "azp", "at_hash",
	"preferred_username", "name", "email", "email_verified", "groups",
}

// newProtocol builds the handler of the endpoints above and of discovery.
func newProtocol(set settings, store *storage) (http.Handler, error) {
	// Requests that fail are the client's business and would only fill a log.
	quiet := slog.New(slog.DiscardHandler)
	config := &op.Config{
		AuthMethodPost:        true,
		GrantTypeRefreshToken: true,
		SupportedScopes:       supportedScopes,
		SupportedClaims:       supportedClaims,
		DeviceAuthorization: op.DeviceAuthorizationConfig{
			Lifetime:     set.codeLife,
			PollInterval: set.interval,
			UserFormPath: pathPages,
			UserCode:     op.UserCodeBase20, // RFC 8628 §6.1
		},
	}
	rand.Read(config.CryptoKey[:])
	provider, err := op.NewProvider(config, store, op.StaticIssuer(set.issuer),
		op.WithAllowInsecure(), op.WithCORSOptions(nil), op.WithLogger(quiet))
	if err != nil {
		return nil, fmt.Errorf("identity provider: %w", err)
	}

	endpoints := op.Endpoints{
		DeviceAuthorization: op.NewEndpoint(pathDevice),
		Token:               op.NewEndpoint(pathToken),
		JwksURI:             op.NewEndpoint(pathKeys),
		Userinfo:            op.NewEndpoint(pathUserinfo),
		Revocation:          op.NewEndpoint(pathRevoke),
	}
	server := &protocol{LegacyServer: op.NewLegacyServer(provider, endpoints), store: store}
	issuer := op.NewIssuerInterceptor(provider.IssuerFromRequest)
	return answerHeaders(op.RegisterServer(server, endpoints,
		op.WithFallbackLogger(quiet), op.WithServerCORSOptions(nil), op.WithHTTPMiddleware(issuer.Handler))), nil
}

// protocol is the library's server with four answers put right.
type protocol struct {
	*op.LegacyServer
	store *storage
}

// Discovery names only what is there: the library lists grants and response
// types of flows that have no endpoint here (RFC 8414 §2).
func (p *protocol) Discovery(ctx context.Context, r *op.Request[struct{}]) (*op.Response, error) {
	resp, err := p.LegacyServer.Discovery(ctx, r)
	if err != nil {
		return nil, err
	}
	doc, ok := resp.Data.(*oidc.DiscoveryConfiguration)
	if !ok {
		return nil, errors.New("discovery: unexpected document")
	}
	doc.GrantTypesSupported = []oidc.GrantType{oidc.GrantTypeDeviceCode, oidc.GrantTypeRefreshToken}
	doc.ResponseTypesSupported = nil
	doc.IntrospectionEndpointAuthMethodsSupported = nil
	doc.IntrospectionEndpointAuthSigningAlgValuesSupported = nil
	doc.RevocationEndpointAuthMethodsSupported = doc.TokenEndpointAuthMethodsSupported
	doc.RevocationEndpointAuthSigningAlgValuesSupported = nil
	return resp, nil
}

// VerifyClient answers 401 where a client is unknown or its secret is wrong;
// the library would say 400 (RFC 6749 §5.2).
func (p *protocol) VerifyClient(ctx context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	c, err := p.LegacyServer.VerifyClient(ctx, r)
	var failure *oidc.Error
	if errors.As(err, &failure) && failure.ErrorType == oidc.InvalidClient {
		return nil, op.NewStatusError(failure, http.StatusUnauthorized)
	}
	return c, err
}

// DeviceToken is one poll (RFC 8628 §3.4). The library's own would answer an
// unknown code with access_denied, never slow_down, and a used one again.
func (p *protocol) DeviceToken(ctx context.Context, r *op.ClientRequest[oidc.DeviceAccessTokenRequest]) (*op.Response, error) {
	state, err := p.store.GetDeviceAuthorizatonState(ctx, r.Client.GetID(), r.Data.DeviceCode)
	if err != nil {
		return nil, err
	}
	tokens, err := op.CreateDeviceTokenResponse(ctx, state, p.Provider(), r.Client)
	if err != nil {
		return nil, err
	}
	return op.NewResponse(tokens), nil
}

// UserInfo answers 401 to a token that is over, so that a client knows to get a
// new one; the library would say 403 (RFC 6750 §3.1).
func (p *protocol) UserInfo(ctx context.Context, r *op.Request[oidc.UserInfoRequest]) (*op.Response, error) {
	resp, err := p.LegacyServer.UserInfo(ctx, r)
	if err != nil {
		return nil, op.NewStatusError(&oidc.Error{
			ErrorType: "invalid_token", Description: "the access token is unknown or over",
		}, http.StatusUnauthorized)
	}
	return resp, nil
}

// answerHeaders adds what the RFCs want on an answer and the library leaves
// out: no caching of tokens (RFC 6749 §5.1) and a challenge with every 401
// (RFC 9110 §15.5.2).
func answerHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		scheme := "Basic"
		if r.URL.Path == pathUserinfo {
			scheme = "Bearer"
		}
		next.ServeHTTP(&challenger{ResponseWriter: w, scheme: scheme}, r)
	})
}

type challenger struct {
	http.ResponseWriter
	scheme string
}

func (c *challenger) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		c.Header().Set("WWW-Authenticate", c.scheme+` realm="demo"`)
	}
	c.ResponseWriter.WriteHeader(status)
}

// expired is how every table here reads its own times.
func expired(now, until time.Time) bool { return !now.Before(until) }
