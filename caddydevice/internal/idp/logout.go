// This file holds the verification of logout tokens, by which an identity
// provider says that a sign-in is over (OpenID Connect Back-Channel Logout 1.0
// §2.4, §2.6).

package idp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// logoutEvent is the member of events that makes a token a logout token.
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// maxLogoutAge bounds the age of a logout token, whatever its exp says.
	// Whoever remembers their ids has to remember them for so long.
	maxLogoutAge = 24 * time.Hour
)

// Logout is what a logout token asks for: the end of the session SessionID or,
// where that is "", of all sessions of Subject.
type Logout struct {
	// Subject and SessionID are sub and sid; one of them may be "".
	Issuer, Subject, SessionID string
	// ID is jti: a token with it must count once only (§2.6, 7).
	ID               string
	IssuedAt, Expiry time.Time
}

// VerifyLogout checks a logout token. An error that is [ErrTemporary] can be
// tried again; any other means that the token ends nothing. The text of either
// is for the log.
func (c *Client) VerifyLogout(ctx context.Context, raw string) (*Logout, error) {
	cs, err := c.signedLogout(ctx, raw)
	if err == nil {
		err = cmp.Or(c.checkIssuer(cs.all), c.checkAudience(cs.all), checkLogoutType(cs))
	}
	if err != nil {
		return nil, about("logout token", err)
	}
	out, err := c.logout(cs)
	return out, about("logout token", err)
}

// signedLogout reads the claims of a token that the identity provider signed.
func (c *Client) signedLogout(ctx context.Context, raw string) (claimSet, error) {
	if len(raw) > maxToken {
		return claimSet{}, fmt.Errorf("larger than %d bytes", maxToken)
	}
	head, err := readHeader(raw)
	switch {
	case err != nil:
		return claimSet{}, err
	case head.nested:
		return claimSet{}, errors.New("nested tokens are not supported")
	case !slices.Contains([]string{"", "jwt", "logout+jwt"}, head.typ):
		return claimSet{}, fmt.Errorf("its type is %q", words(head.typ))
	}
	if _, err := parseSigned(raw, c.cfg.Algorithms); err != nil {
		return claimSet{}, errors.New(words(err.Error()))
	}
	md, err := c.metadata(ctx)
	if err != nil {
		return claimSet{}, fmt.Errorf("%w: %w", ErrTemporary, err)
	}
	payload, err := md.keys.VerifySignature(ctx, raw)
	if err != nil {
		return claimSet{}, err
	}
	return readClaims(payload)
}

// checkLogoutType tells a logout token from every other kind (§2.4): an ID
// token has no such event, and may have a nonce, which is forbidden here so
// that neither passes for the other.
func checkLogoutType(cs claimSet) error {
	var events map[string]json.RawMessage
	if cs.Event == nil || json.Unmarshal(cs.Event, &events) != nil {
		return errors.New("events is missing or not an object")
	}
	var event map[string]json.RawMessage
	if json.Unmarshal(events[logoutEvent], &event) != nil || event == nil {
		return errors.New("events has no object for a back-channel logout")
	}
	if _, ok := cs.all["nonce"]; ok {
		return errors.New("nonce is there")
	}
	if typ, ok := cs.all["typ"]; ok && !strings.EqualFold(cs.Type, "Logout") {
		return fmt.Errorf("its claim typ is %q", words(fmt.Sprint(typ)))
	}
	return nil
}

// logout reads what the token is about (§2.6, 3 to 7).
func (c *Client) logout(cs claimSet) (*Logout, error) {
	exp, err := c.checkTimes(cs)
	if err != nil {
		return nil, err
	}
	iat, ok := numericDate(cs.Iat)
	if !ok || time.Since(iat) > maxLogoutAge+c.cfg.ClockSkew {
		return nil, fmt.Errorf("iat is missing or more than %s ago", maxLogoutAge)
	}
	out := &Logout{Issuer: c.cfg.Issuer, IssuedAt: iat, Expiry: exp}
	for _, named := range []struct {
		claim string
		into  *string
	}{{"jti", &out.ID}, {"sub", &out.Subject}, {"sid", &out.SessionID}} {
		if _, there := cs.all[named.claim]; !there {
			continue
		}
		if *named.into, ok = cs.short(named.claim); !ok {
			return nil, fmt.Errorf("%s is not a short printable string", named.claim)
		}
	}
	switch {
	case out.ID == "":
		return nil, errors.New("jti is missing")
	case out.Subject == "" && out.SessionID == "":
		return nil, errors.New("neither sub nor sid says whose session it is about")
	}
	return out, nil
}
