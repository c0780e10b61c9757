// This file holds the question to the userinfo endpoint (OpenID Connect Core
// §5.3).

package idp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// askWho asks the userinfo endpoint. base is what is known from elsewhere, nil
// where nothing is; its rules' claims stay, whatever the endpoint says.
func (c *Client) askWho(ctx context.Context, access string, base *Identity) (*Identity, error) {
	md, err := c.metadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemporary, err)
	}
	claims, err := c.userinfo(ctx, string(md.UserinfoEndpoint), access)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(c.dialect.rename(claims), checkNames(claims)); err != nil {
		return nil, err
	}
	subject, ok := claimSet{all: claims}.short("sub")
	switch {
	case !ok:
		return nil, errors.New("sub is missing or not a short printable string")
	case base == nil:
		base = &Identity{Issuer: c.cfg.Issuer, Subject: subject}
	case base.Subject != subject: // OpenID Connect Core §5.3.2
		return nil, fmt.Errorf("%w: sub is not the ID token's", ErrOtherIdentity)
	}
	who := *base
	who.Claims = maps.Clone(base.Claims)
	if who.Claims == nil {
		who.Claims = map[string]any{"iss": c.cfg.Issuer}
	}
	if hasAny(claims, emailClaims) { // half of it from the token would vouch for another address
		maps.DeleteFunc(who.Claims, func(name string, _ any) bool { return slices.Contains(emailClaims, name) })
	}
	for name, value := range claims {
		if name == "sub" || !slices.Contains(ofTokens, name) {
			who.Claims[name] = value
		}
	}
	return &who, nil
}

// ofTokens are the claims that only a token can have: they are about its
// making, not about the person.
var ofTokens = append([]string{"auth_time", "acr", "amr", "nonce", "jti"}, ruled...)

// emailClaims are one statement (OpenID Connect Core §5.1).
var emailClaims = []string{"email", "email_verified"}

func hasAny(claims map[string]any, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { _, ok := claims[name]; return ok })
}

func (c *Client) userinfo(ctx context.Context, endpoint, access string) (map[string]any, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+access)
	var rep reply
	rep.keep(access)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrTemporary, rep.words(withoutURL(err).Error()))
	}
	defer resp.Body.Close()
	rep.status = resp.StatusCode
	switch rep.body, err = io.ReadAll(resp.Body); {
	case errors.Is(err, errBodyTooLarge):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: reading the answer: %s", ErrTemporary, rep.words(err.Error()))
	case len(rep.body) > maxToken: // it is kept with the session, as a token is
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxToken)
	case busy(rep.status):
		return nil, fmt.Errorf("%w: status %d", ErrTemporary, rep.status)
	case rep.status == http.StatusUnauthorized:
		return nil, fmt.Errorf("status %d: is openid among the scopes, and may this client ask there?", rep.status)
	case !rep.ok():
		return nil, &unclearError{fmt.Errorf("status %d: is openid among the scopes, and may this client ask there?", rep.status)}
	case isJWT(resp.Header):
		return nil, errors.New("the answer is signed or encrypted, which is not supported: have the identity provider answer in plain JSON")
	}
	return readUserinfo(rep)
}

// unclearError is an answer that may be another server's: a page for
// maintenance, say. It signs nobody in, nor out.
type unclearError struct{ error }

// isJWT reports a signed answer (OpenID Connect Core §5.3.2).
func isJWT(h http.Header) bool {
	return strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "application/jwt")
}

func readUserinfo(rep reply) (map[string]any, error) {
	var object json.RawMessage
	if err := rep.object(&object); err != nil {
		return nil, &unclearError{errors.New(rep.words(err.Error()))}
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.UseNumber()
	claims := map[string]any{}
	if err := dec.Decode(&claims); err != nil {
		return nil, errors.New("claims cannot be read")
	}
	return claims, nil
}
