// This file holds what tells who signed in: the ID token, the userinfo endpoint or
// the access token.

package idp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Identities are the values of Config.Identity: what tells who signed in.
// "auto" is the ID token or, in a dialect that has none, the userinfo endpoint.
// "userinfo" adds what that endpoint says to the ID token, where there is one:
// both must be about the same sub. "access_token" is for servers that issue no
// ID token in the device grant, but signed access tokens.
var Identities = []string{"auto", "id_token", "access_token", "userinfo"}

// source is Config.Identity without "auto".
func (cfg *Config) source() string {
	switch {
	case cfg.Identity != "auto":
		return cfg.Identity
	case dialects[cfg.Dialect].noOpenID:
		return "userinfo"
	}
	return "id_token"
}

// before is who it was, without what the userinfo endpoint is asked about anew:
// a claim that it leaves out now must not live on. What the last ID token said
// stays; it was verified when it came.
func (c *Client) before(was Identity) *Identity {
	was.Expiry = time.Time{}
	if c.cfg.source() != "userinfo" {
		return &was
	}
	was.Claims = nil
	if payload, ok := unverifiedPayload(was.IDToken.Reveal()); ok && !c.dialect.noOpenID {
		if cs, err := readClaims(payload); err == nil {
			was.Claims = cs.all
		}
	}
	return &was
}

// verifyAccessOfOurs is who a signed access token is about that the token
// endpoint itself has sent. It must be for this client, and the rules for
// bearers hold, but for the mark of its kind: it came as access_token.
func (c *Client) verifyAccessOfOurs(ctx context.Context, raw string) (*Identity, error) {
	if strings.Count(raw, ".") != 2 {
		return nil, errors.New("it is not a signed JWT: have the identity provider issue such access tokens, or use another identity")
	}
	head, err := readHeader(raw)
	switch {
	case err != nil:
		return nil, err
	case head.nested:
		return nil, errors.New("nested tokens are not supported")
	case !slices.Contains([]string{"", "jwt", "at+jwt"}, head.typ):
		return nil, fmt.Errorf("its type is %q", words(head.typ))
	}
	if _, err := parseSigned(raw, c.cfg.Algorithms); err != nil {
		return nil, c.unsupported(raw, err)
	}
	md, err := c.metadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemporary, err)
	}
	payload, err := md.keys.VerifySignature(ctx, raw)
	if err != nil {
		return nil, err
	}
	cs, err := readClaims(payload)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(c.checkIssuer(cs.all), checkNoOtherKind(cs), c.checkForUs(cs.all)); err != nil {
		return nil, err
	}
	return c.identity(cs)
}

// checkForUs refuses an access token that was made for another client: one of
// aud, azp and client_id must name this one, and the latter two no other.
func (c *Client) checkForUs(claims map[string]any) error {
	ours := Bearer{AuthorizedParties: []string{c.cfg.ClientID}}
	_, azp := claims["azp"]
	_, id := claims["client_id"]
	if azp || id {
		return ours.checkParties(claims)
	}
	return c.checkAudience(claims)
}
