// This file holds the verification of access tokens that clients bring
// themselves (RFC 9068 §4, and the dialect of those who came before it).

package idp

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bearer says which access tokens of clients are accepted. Every list that is
// set must hold, and one must be set: else any token of the issuer would do,
// those for other APIs included.
type Bearer struct {
	// Audiences are for whom a token may be: its aud must name one of them,
	// exactly. Empty: not compared.
	Audiences []string
	// AuthorizedParties are the clients that a token may have been made for:
	// of azp and client_id one must be there, and each that is must be one of
	// them. Empty: not compared.
	AuthorizedParties []string
}

// accessMarks are how identity providers tell an access token from their other
// tokens where its header does not say at+jwt (RFC 9068 §2.1): a claim that
// only they set, and its value. Without such a mark an ID token would pass for
// an access token.
var accessMarks = []struct{ provider, claim, value string }{
	{"Keycloak", "typ", "Bearer"},
}

// otherTypes are the values of the claim typ that no access token has:
// Keycloak's names for its ID, refresh and logout tokens.
var otherTypes = []string{"ID", "Serialized-ID", "Refresh", "Offline", "Logout"}

// notForBearers are claims that a plain bearer token never has, and why.
//
// nonce is not among them: Keycloak's access tokens had one for years. An ID
// token is told by the missing mark, with or without it.
var notForBearers = []struct{ claim, why string }{
	{"cnf", "it is bound to a key that cannot be checked here (RFC 7800 §3.1, RFC 9449 §7.2)"},
	{"at_hash", "it is an ID token, made for an access token (OpenID Connect Core §3.1.3.6)"},
	{"c_hash", "it is an ID token, made for a code (OpenID Connect Core §3.3.2.11)"},
}

// VerifyAccess checks an access token that a client brought with a request. An
// error that is [ErrTemporary] means that it cannot be checked now; any other
// that the token is refused, for good. The text of either is for the log.
func (c *Client) VerifyAccess(ctx context.Context, token string, b Bearer) (*Identity, error) {
	who, err := c.verifyAccess(ctx, token, b)
	return who, about("access token", err)
}

// KeysVersion is another one when the identity provider's keys are others; ok
// is false while there are none that count. Whoever keeps a verdict of
// [Client.VerifyAccess] reads it before that call, keeps both, and drops the
// verdict when one of them has changed. Keys that are old are asked for again
// in the background, and count meanwhile. It never blocks.
func (c *Client) KeysVersion() (version uint64, ok bool) {
	md := c.discovery.good.Load()
	if md == nil {
		return 0, false
	}
	return md.keys.version()
}

func (c *Client) verifyAccess(ctx context.Context, token string, b Bearer) (*Identity, error) {
	head, err := readAccessHeader(token, b)
	if err != nil {
		return nil, err
	}
	jws, err := parseSigned(token, c.cfg.Algorithms)
	if err != nil {
		return nil, errors.New(words(err.Error()))
	}
	md, err := c.metadataAtHand(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemporary, err)
	}
	payload, err := md.keys.verifyOwn(ctx, jws)
	if err != nil {
		return nil, err
	}
	cs, err := readClaims(payload)
	if err != nil {
		return nil, err
	}
	err = cmp.Or(c.checkIssuer(cs.all), checkAccessType(head, cs), b.checkAudience(cs.all), b.checkParties(cs.all))
	if err != nil {
		return nil, err
	}
	return c.identity(cs)
}

// readAccessHeader refuses by what costs nothing: neither keys nor claims.
func readAccessHeader(token string, b Bearer) (header, error) {
	switch {
	case len(b.Audiences) == 0 && len(b.AuthorizedParties) == 0:
		return header{}, errors.New("there is neither an audience nor an authorized party to compare with")
	case len(token) > maxToken:
		return header{}, fmt.Errorf("larger than %d bytes", maxToken)
	case !canonical(token):
		return header{}, errors.New("malformed")
	}
	head, err := readHeader(token)
	switch {
	case err != nil:
		return header{}, err
	case head.nested:
		return header{}, errors.New("nested tokens are not supported")
	case head.typ != "" && head.typ != "jwt" && head.typ != "at+jwt":
		return header{}, fmt.Errorf("its type is %q", words(head.typ))
	}
	return head, nil
}

// canonical reports whether the token is written as every encoder writes it
// (RFC 4648 §3.5): other spellings of one token would be many to whoever
// remembers them.
func canonical(token string) bool {
	if strings.Count(token, ".") != 2 {
		return false
	}
	for part := range strings.SplitSeq(token, ".") {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return false
		}
	}
	return !strings.ContainsAny(token, "\r\n") // which the decoder passes over
}

// checkIssuer compares byte for byte (RFC 9068 §4).
func (c *Client) checkIssuer(claims map[string]any) error {
	if claims["iss"] != c.cfg.Issuer {
		return errors.New("iss is another issuer")
	}
	return nil
}

// checkAccessType refuses what is another kind of token, whatever its header
// says, and what is not marked as an access token (RFC 8725 §3.11, §3.12).
func checkAccessType(head header, cs claimSet) error {
	if err := checkNoOtherKind(cs); err != nil || head.typ == "at+jwt" {
		return err
	}
	for _, mark := range accessMarks {
		if cs.all[mark.claim] == mark.value {
			return nil
		}
	}
	return fmt.Errorf("its header typ is %q, not at+jwt (RFC 9068 §2.1), and no known mark says that it is an access token", words(head.typ))
}

// checkNoOtherKind refuses a token that its claims say is of another kind.
func checkNoOtherKind(cs claimSet) error {
	if slices.ContainsFunc(otherTypes, func(typ string) bool { return strings.EqualFold(typ, cs.Type) }) {
		return fmt.Errorf("its claim typ is %q", words(cs.Type))
	}
	for _, no := range notForBearers {
		if _, ok := cs.all[no.claim]; ok {
			return fmt.Errorf("%s is there: %s", no.claim, no.why)
		}
	}
	return nil
}

// checkAudience looks for one of ours among those that the token is for (RFC
// 7519 §4.1.3): a string or an array of them.
func (b Bearer) checkAudience(claims map[string]any) error {
	if len(b.Audiences) == 0 {
		return nil
	}
	several, ok := claims["aud"].([]any)
	if !ok {
		several = []any{claims["aud"]}
	}
	found := false
	for _, aud := range several {
		name, ok := aud.(string)
		if !ok {
			return errors.New("aud is missing or no string")
		}
		found = found || slices.Contains(b.Audiences, name)
	}
	if !found {
		return errors.New("aud names none of the audiences that are accepted")
	}
	return nil
}

// checkAudience looks for this client among those that a token is for.
func (c *Client) checkAudience(claims map[string]any) error {
	return Bearer{Audiences: []string{c.cfg.ClientID}}.checkAudience(claims)
}

// checkParties compares the client that the token was made for, by both its
// names: azp (OpenID Connect Core §2) and client_id (RFC 9068 §2.2).
func (b Bearer) checkParties(claims map[string]any) error {
	if len(b.AuthorizedParties) == 0 {
		return nil
	}
	found := false
	for _, claim := range []string{"azp", "client_id"} {
		party, ok := claims[claim]
		if !ok {
			continue
		}
		name, ok := party.(string)
		if !ok || !slices.Contains(b.AuthorizedParties, name) {
			return fmt.Errorf("%s is none of the authorized parties", claim)
		}
		found = true
	}
	if !found {
		return errors.New("neither azp nor client_id says for whom it was made")
	}
	return nil
}
