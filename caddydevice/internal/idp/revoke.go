// This file holds how a sign-in ends at the identity provider: token revocation
// (RFC 7009), and where a person signs out (OpenID Connect RP-Initiated Logout
// 1.0).

package idp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// ErrNoRevocation says that the identity provider revokes no tokens.
var ErrNoRevocation = errors.New("the identity provider has no revocation endpoint")

// Revoke revokes a token (RFC 7009 §2.1); hint is its kind, "refresh_token" or
// "access_token". A token that is unknown there counts as revoked (§2.2). It
// fails with [ErrNoRevocation], with an [UnavailableError] where trying again
// makes sense, and with a [RefusedError] where it does not.
func (c *Client) Revoke(ctx context.Context, token secret.String, hint string) error {
	md, err := c.metadata(ctx)
	switch {
	case err != nil:
		return err
	case md.RevocationEndpoint == "":
		return ErrNoRevocation
	}
	form := url.Values{"token": {token.Reveal()}, "token_type_hint": {hint}}
	rep, err := c.postForm(ctx, c.http, md, string(md.RevocationEndpoint), form)
	switch {
	case err != nil:
		return &UnavailableError{RetryAfter: defaultInterval, Err: fmt.Errorf("revocation: %w", err)}
	case rep.ok():
		return nil
	case busy(rep.status): // the token is to be taken for good still (§2.2.1)
		u := rep.unavailable("revocation")
		u.RetryAfter = cmp.Or(u.RetryAfter, defaultInterval)
		return u
	}
	var ans tokenAnswer
	_ = rep.object(&ans) // the status says enough where there are no words
	return &RefusedError{Reason: fmt.Sprintf("revocation: status %d: %s: %s",
		rep.status, rep.words(errorWord(ans.Error)), rep.words(string(ans.ErrorDescription)))}
}

// EndSessionURL is where a person who signs out here can sign out at the
// identity provider as well (OpenID Connect RP-Initiated Logout §2), with
// client_id, and never with a token, which has no place in a URL. It asks
// nobody: "" where no address is known that is safe to show.
func (c *Client) EndSessionURL() string {
	md := c.discovery.good.Load()
	if md == nil || checkVerificationURI(string(md.EndSessionEndpoint)) != nil {
		return ""
	}
	u, err := url.Parse(string(md.EndSessionEndpoint))
	if err != nil {
		return ""
	}
	query := u.Query()
	query.Set("client_id", c.cfg.ClientID)
	u.RawQuery = query.Encode()
	return u.String()
}
