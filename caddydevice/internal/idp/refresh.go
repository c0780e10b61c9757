// This file holds the refresh (RFC 6749 §6), and what its tokens must say (OpenID
// Connect Core §12.2). x/oauth2 has the request, but does not tell an answer
// that was lost from one that refuses, bounds no words for the log, and sends
// no client_id beside Basic, which some servers want.

package idp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// RefreshTimeout bounds a refresh, in place of Config.Timeout: where refresh
// tokens are used once, an answer given up on may be a token lost.
const RefreshTimeout = 60 * time.Second

// Refresh asks for new tokens with a refresh token, for the scopes that it was
// given for: authentik refuses a list that lacks offline_access. again says
// that the token was presented before and the answer was lost: then idle
// connections are dropped first, since one of them may be what lost it. It
// never fails: what happened is the answer's Outcome.
func (c *Client) Refresh(ctx context.Context, token secret.String, again bool) Answer {
	md, err := c.metadata(ctx)
	if err != nil {
		return Answer{Outcome: Transient, Err: err}
	}
	if again {
		c.http.CloseIdleConnections()
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.Reveal()}}
	return c.askForTokens(ctx, c.patient, md, form, refreshed)
}

// Answers reports whether the identity provider answers at all, by a question
// that costs it nothing: for its keys.
func (c *Client) Answers(ctx context.Context) error {
	md, err := c.metadata(ctx)
	if err != nil {
		return err
	}
	// where there are no keys, a refusal is an answer as well
	where := cmp.Or(md.JWKSURI, string(md.UserinfoEndpoint))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking whether there is an answer: %s", words(withoutURL(err).Error()))
	}
	defer resp.Body.Close()
	if busy(resp.StatusCode) {
		return fmt.Errorf("asking whether there is an answer: status %d", resp.StatusCode)
	}
	return nil
}

// VerifyRefreshed checks who refreshed tokens are about and returns who is
// signed in now. Where neither an ID token came nor anything else is asked, that
// is was, but for Expiry, which is zero. An error that is [ErrTemporary] can be tried again; any other means
// that the tokens cannot be trusted, and [ErrOtherIdentity] that they are
// somebody else's.
func (c *Client) VerifyRefreshed(ctx context.Context, t Tokens, was Identity) (*Identity, error) {
	who, err := c.identify(ctx, t, &was)
	switch {
	case errors.Is(err, ErrTemporary), errors.Is(err, ErrOtherIdentity):
		return nil, err
	case err != nil && t.ID != "" && c.madeForOther(t.ID.Reveal(), was):
		return nil, fmt.Errorf("%w: %w", ErrOtherIdentity, err)
	case err != nil:
		return nil, err
	case who.Issuer != was.Issuer || who.Subject != was.Subject:
		return nil, fmt.Errorf("%w: iss or sub is another one", ErrOtherIdentity)
	case otherAuthentication(who, was):
		return nil, fmt.Errorf("%w: auth_time is another one", ErrOtherIdentity)
	}
	return who, nil
}

// madeForOther gives the reason a name why an ID token was refused: whether it
// says that it is by, of or for somebody else. Nothing else is believed of it.
func (c *Client) madeForOther(idToken string, was Identity) bool {
	var claims map[string]any
	if !unverifiedClaims(idToken, &claims) {
		return false
	}
	party, named := claims["azp"]
	return claims["iss"] != was.Issuer || claims["sub"] != was.Subject ||
		(named && party != c.cfg.ClientID) || c.checkAudience(claims) != nil
}

// otherAuthentication reports whether somebody authenticated anew: auth_time
// stays that of the original authentication. Within one session at the identity
// provider that is its own affair: Keycloak moves the auth_time of its session
// where the person gives the password again there.
func otherAuthentication(who *Identity, was Identity) bool {
	before, had := authTime(was)
	now, has := authTime(*who)
	sameSession := who.SessionID != "" && who.SessionID == was.SessionID
	return had && has && !now.Equal(before) && !sameSession
}

func authTime(id Identity) (time.Time, bool) {
	raw, err := json.Marshal(id.Claims["auth_time"])
	if err != nil {
		return time.Time{}, false
	}
	return numericDate(raw)
}
