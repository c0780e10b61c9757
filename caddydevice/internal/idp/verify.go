// This file holds the tokens of a sign-in, how long they live, the
// verification of the ID token (OpenID Connect Core §3.1.3.7), and the rules
// that hold for every signed token (RFC 7519, RFC 8725).

package idp

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

const (
	// maxToken bounds a token: what is larger would not fit any store's
	// record, nor a header.
	maxToken = 64 << 10
	// maxSubject is OpenID Connect Core §2's for sub.
	maxSubject = 255
)

// Tokens are what a sign-in or a refresh was answered with. A refresh without a
// new refresh token leaves Refresh "": the old one is good for the next (RFC
// 6749 §6).
type Tokens struct {
	Access, Refresh, ID secret.String
	// ExpiresIn is the answer's expires_in, 0 where it had no usable one.
	ExpiresIn time.Duration
	// Asked is when the request that brought them was begun, Received when
	// its answer had been read.
	Asked, Received time.Time
}

// Identity is who signed in, from a verified ID token, or whom a verified
// access token speaks for.
type Identity struct {
	Issuer, Subject string
	// SessionID is the identity provider's sid, "" where there is none.
	SessionID string
	// Claims are all claims of the token; numbers are json.Number.
	Claims map[string]any
	// Expiry is the token's exp, the zero time where a refresh brought none.
	Expiry time.Time
	// IDToken is for [Client.VerifyRefreshed] alone: the last ID token that was
	// verified, "" where there was none.
	IDToken secret.String
}

// Until returns when the tokens run out: the access token's expires_in, else
// its own exp, else the ID token's. An exp that the access token names is
// never exceeded. The zero time means that they have no life of their own.
func (t Tokens) Until(id *Identity) time.Time {
	exp := unverifiedExpiry(t.Access.Reveal())
	switch {
	case t.ExpiresIn > 0:
		until := t.Received.Add(t.ExpiresIn)
		if !exp.IsZero() && exp.Before(until) {
			return exp
		}
		return until
	case !exp.IsZero():
		return exp
	default:
		return id.Expiry
	}
}

// unverifiedExpiry reads exp from an access token, where it is a JWT. Its
// signature does not matter: the token came from the token endpoint itself,
// and exp can only shorten a session.
func unverifiedExpiry(token string) time.Time {
	var claims struct {
		Exp json.RawMessage `json:"exp"`
	}
	if !unverifiedClaims(token, &claims) {
		return time.Time{}
	}
	exp, _ := numericDate(claims.Exp)
	return exp
}

// UnverifiedIssuer is the issuer that a token says it is from; "" where it says
// none. It only chooses who verifies the token.
func UnverifiedIssuer(token string) string {
	var claims struct {
		Issuer string `json:"iss"`
	}
	if !unverifiedClaims(token, &claims) {
		return ""
	}
	return claims.Issuer
}

// unverifiedClaims reads the payload of a token that is a JWT, whoever made
// it.
func unverifiedClaims(token string, into any) bool {
	payload, ok := unverifiedPayload(token)
	return ok && json.Unmarshal(payload, into) == nil
}

func unverifiedPayload(token string) ([]byte, bool) {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return nil, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	return payload, err == nil
}

// Verify returns who signed in, as the configured identity tells it, from tokens
// that the token endpoint has just sent. An error that is [ErrTemporary] can be
// tried again; any other means that these tokens sign nobody in.
func (c *Client) Verify(ctx context.Context, t Tokens) (*Identity, error) {
	return c.identify(ctx, t, nil)
}

// identify is Verify; was is who it was before a refresh, nil at a sign-in.
func (c *Client) identify(ctx context.Context, t Tokens, was *Identity) (*Identity, error) {
	source := c.cfg.source()
	if err := t.checkSize(); err != nil {
		return nil, err
	}
	if source == "access_token" {
		who, err := c.verifyAccessOfOurs(ctx, t.Access.Reveal())
		return who, about("access token", err)
	}
	who := was
	switch {
	case t.ID != "" && !c.dialect.noOpenID:
		var err error
		if who, err = c.verifyID(ctx, t.ID.Reveal(), t.Access.Reveal()); err != nil {
			return nil, about("ID token", err)
		}
	case was != nil:
		who = c.before(*was)
	case source == "id_token":
		return nil, errors.New("the identity provider sent no ID token: is openid among the scopes of this client? Where it issues none in the device grant, set identity access_token or userinfo")
	}
	if source == "userinfo" {
		var err error
		who, err = c.askWho(ctx, t.Access.Reveal(), who)
		if _, unclear := errors.AsType[*unclearError](err); unclear && was != nil {
			err = fmt.Errorf("%w: %w", ErrTemporary, err)
		}
		return who, about("userinfo", err)
	}
	return who, nil
}

func (t Tokens) checkSize() error {
	if max(len(t.Access), len(t.Refresh), len(t.ID)) > maxToken {
		return fmt.Errorf("a token is larger than %d bytes", maxToken)
	}
	return nil
}

// about says which token an error is about.
func about(token string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", token, err)
}

func (c *Client) verifyID(ctx context.Context, raw, access string) (*Identity, error) {
	head, err := readHeader(raw)
	switch {
	case err != nil:
		return nil, err
	case head.typ != "" && head.typ != "jwt":
		return nil, fmt.Errorf("its type is %q", words(head.typ))
	}
	md, err := c.metadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemporary, err)
	}
	keys := &erringKeys{keySet: md.keys}
	tok, err := oidc.NewVerifier(c.cfg.Issuer, keys, &oidc.Config{
		ClientID:             c.cfg.ClientID,
		SupportedSigningAlgs: c.cfg.Algorithms,
		// go-oidc has no leeway for exp of its own
		Now: func() time.Time { return time.Now().Add(-c.cfg.ClockSkew) },
	}).Verify(ctx, raw)
	switch {
	case errors.Is(keys.err, ErrTemporary):
		return nil, keys.err
	case err != nil:
		return nil, c.unsupported(raw, err)
	case tok.AccessTokenHash != "" && tok.VerifyAccessToken(access) != nil:
		return nil, errors.New("at_hash is of another access token")
	}
	var payload json.RawMessage
	if err := tok.Claims(&payload); err != nil {
		return nil, errors.New("claims cannot be read")
	}
	cs, err := readClaims(payload)
	if err != nil {
		return nil, err
	}
	if err := c.checkAuthorizedParty(cs); err != nil {
		return nil, err
	}
	return c.identity(cs)
}

// unsupported says what to do about a token that is signed with the client's
// secret; any other error is as it is.
func (c *Client) unsupported(raw string, err error) error {
	head, _, _ := strings.Cut(raw, ".")
	var h struct {
		Alg string `json:"alg"`
	}
	decoded, _ := base64.RawURLEncoding.DecodeString(head)
	if json.Unmarshal(decoded, &h) == nil && strings.HasPrefix(h.Alg, "HS") {
		return fmt.Errorf("it is signed with %s, so whoever can check it could make one: have the identity provider sign with a key of its own, like RS256 (authentik: set a Signing Key at the provider)", words(h.Alg))
	}
	return errors.New(words(err.Error()))
}

// erringKeys keeps the key set's error, which go-oidc passes on as text only.
type erringKeys struct {
	*keySet
	err error
}

func (e *erringKeys) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := e.keySet.VerifySignature(ctx, jwt)
	e.err = err
	return payload, err
}

// header is what the protected header says beside algorithm and key.
type header struct {
	// typ is the media type in lower case, without the application/ that it
	// may come with (RFC 7515 §4.1.9); "" where there is none.
	typ string
	// nested is set where the payload is said to be a type of its own.
	nested bool
}

// readHeader refuses what is no signed token in compact form, and what go-jose
// lets pass: extensions that must be understood (RFC 7515 §4.1.11) or that
// change what is signed (RFC 7797 §3). We know none of them.
func readHeader(raw string) (header, error) {
	malformed := errors.New("malformed")
	switch strings.Count(raw, ".") {
	case 2:
	case 4: // RFC 7516 §3.1
		return header{}, errors.New("it is encrypted, which is not supported: switch the encryption of tokens off for this client at the identity provider (authentik: no Encryption Key)")
	default:
		return header{}, malformed
	}
	head, _, _ := strings.Cut(raw, ".")
	decoded, err := base64.RawURLEncoding.DecodeString(head)
	var h map[string]json.RawMessage // not a struct: names count to the letter
	if err != nil || json.Unmarshal(decoded, &h) != nil {
		return header{}, malformed
	}
	var named string
	if raw, ok := h["typ"]; ok && json.Unmarshal(raw, &named) != nil {
		return header{}, malformed
	}
	for _, extension := range []string{"crit", "b64"} {
		if _, ok := h[extension]; ok {
			return header{}, errors.New("critical header extensions are not supported")
		}
	}
	_, nested := h["cty"]
	return header{typ: strings.TrimPrefix(strings.ToLower(named), "application/"), nested: nested}, nil
}

// ruled are the claims that decide who signs in, where and for how long.
var ruled = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "azp", "sid", "at_hash", "typ", "events"}

// checkNames refuses a claim whose name is a ruled one but for letter case:
// encoding/json would take it for that one, here and in go-oidc, and a claim
// that users may name themselves would stand in for their sub.
func checkNames(claims map[string]any) error {
	for name := range claims {
		for _, exact := range ruled {
			if name != exact && strings.EqualFold(name, exact) {
				return fmt.Errorf("the claim %q is too like %s", words(name), exact)
			}
		}
	}
	return nil
}

// claimSet are the claims with rules of their own, as they arrived: go-oidc is
// lenient about their types.
type claimSet struct {
	Exp   json.RawMessage `json:"exp"`
	Nbf   json.RawMessage `json:"nbf"`
	Iat   json.RawMessage `json:"iat"`
	Azp   *string         `json:"azp"`
	Sid   string          `json:"sid"`
	Aud   json.RawMessage `json:"aud"`
	Type  string          `json:"typ"`
	Event json.RawMessage `json:"events"`

	all map[string]any
}

// readClaims reads a payload whose signature is good.
func readClaims(payload []byte) (claimSet, error) {
	var cs claimSet
	if err := json.Unmarshal(payload, &cs); err != nil {
		return claimSet{}, errors.New("claims of unexpected types")
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	if err := dec.Decode(&cs.all); err != nil {
		return claimSet{}, errors.New("claims cannot be read")
	}
	return cs, checkNames(cs.all)
}

// identity applies the rules that ID tokens and access tokens share.
func (c *Client) identity(cs claimSet) (*Identity, error) {
	subject, ok := cs.short("sub")
	if !ok {
		return nil, errors.New("sub is missing or not a short printable string")
	}
	exp, err := c.checkTimes(cs)
	if err != nil {
		return nil, err
	}
	if cs.Event != nil || strings.EqualFold(cs.Type, "Logout") {
		return nil, errors.New("it is a logout token")
	}
	return &Identity{Issuer: c.cfg.Issuer, Subject: subject, SessionID: cs.Sid, Claims: cs.all, Expiry: exp}, nil
}

// short reads a claim that names something, as OpenID Connect Core §2 bounds
// sub: it ends up in a store, in logs and on pages.
func (cs claimSet) short(claim string) (string, bool) {
	text, ok := cs.all[claim].(string)
	return text, ok && text != "" && len(text) <= maxSubject && showable(text)
}

// checkTimes returns exp, which every token must have.
func (c *Client) checkTimes(cs claimSet) (time.Time, error) {
	exp, ok := numericDate(cs.Exp)
	if !ok || !time.Now().Before(exp.Add(c.cfg.ClockSkew)) {
		return time.Time{}, errors.New("exp is not a number of seconds in the future")
	}
	latest := time.Now().Add(c.cfg.ClockSkew)
	for _, claim := range []struct {
		name string
		raw  json.RawMessage
	}{{"nbf", cs.Nbf}, {"iat", cs.Iat}} {
		if claim.raw == nil {
			continue
		}
		if at, ok := numericDate(claim.raw); !ok || at.After(latest) {
			return time.Time{}, fmt.Errorf("%s is not a time up to now: is one of the two clocks wrong?", claim.name)
		}
	}
	return exp, nil
}

// checkAuthorizedParty refuses a token that was made for another client of the
// same issuer (OpenID Connect Core §3.1.3.7, 3 to 5).
func (c *Client) checkAuthorizedParty(cs claimSet) error {
	if cs.Azp != nil && *cs.Azp != c.cfg.ClientID {
		return errors.New("azp is another client")
	}
	var several []string
	if json.Unmarshal(cs.Aud, &several) == nil && cs.Azp == nil &&
		slices.ContainsFunc(several, func(aud string) bool { return aud != c.cfg.ClientID }) {
		return errors.New("several audiences and no azp")
	}
	return nil
}

// numericDate reads a NumericDate (RFC 7519 §2): a JSON number, no string, and
// nothing that would overflow into "never".
func numericDate(raw json.RawMessage) (time.Time, bool) {
	var f float64
	if len(raw) == 0 || raw[0] == '"' || raw[0] == 'n' || json.Unmarshal(raw, &f) != nil || f < 0 || f > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}
