// This file holds the tests of what refreshed tokens must say (OpenID Connect
// Core §12.2).

package idp

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// alice is who signed in before the refreshes of these tests.
func alice() Identity {
	claims := usual()
	maps.Copy(claims, map[string]any{"sid": "s-1", "auth_time": json.Number("1800000000"), "groups": []any{"admins"}})
	return Identity{Issuer: issuer, Subject: "sub-alice", SessionID: "s-1", Claims: claims, Expiry: time.Now()}
}

// refreshedClaims are those of a usual ID token of a refresh.
func refreshedClaims(change map[string]any) map[string]any {
	claims := usual()
	maps.Copy(claims, map[string]any{"sid": "s-1", "auth_time": 1800000000})
	return changed(claims, change)
}

func verifyRefreshed(c *Client, idToken string, was Identity) (*Identity, error) {
	return c.VerifyRefreshed(context.Background(), Tokens{Access: "access-canary", ID: secret.String(idToken)}, was)
}

func TestVerifyRefreshed(t *testing.T) {
	const (
		good    = iota
		other   // another identity
		refused // any other mistake
	)
	nobody := func(was *Identity) { was.Subject = "" }
	noSession := func(was *Identity) { was.SessionID = "" }
	for name, c := range map[string]struct {
		change map[string]any
		was    func(*Identity)
		want   int
	}{
		"as before":                  {nil, nil, good},
		"other groups":               {map[string]any{"groups": []string{"staff"}}, nil, good},
		"sub is another":             {map[string]any{"sub": "sub-mallory"}, nil, other},
		"sub in capitals":            {map[string]any{"sub": "SUB-ALICE"}, nil, other},
		"sub missing":                {map[string]any{"sub": nil}, nil, other},
		"sub missing before as well": {map[string]any{"sub": nil}, nobody, other},
		"sub empty in both":          {map[string]any{"sub": ""}, nobody, refused},
		"sub missing before":         {nil, nobody, other},
		"iss is another":             {map[string]any{"iss": "https://other.example"}, nil, other},
		"iss with a slash":           {map[string]any{"iss": issuer + "/"}, nil, other},
		"iss was another":            {nil, func(was *Identity) { was.Issuer = "https://other.example" }, other},
		"aud is another":             {map[string]any{"aud": "other"}, nil, other},
		"aud is an array of others":  {map[string]any{"aud": []string{"other", "more"}}, nil, other},
		"aud missing":                {map[string]any{"aud": nil}, nil, other},
		"aud as an array":            {map[string]any{"aud": []string{"gate"}}, nil, good},
		"azp is ours":                {map[string]any{"azp": "gate"}, nil, good},
		"azp is another":             {map[string]any{"azp": "other"}, nil, other},
		"several aud, azp another":   {map[string]any{"aud": []string{"gate", "other"}, "azp": "other"}, nil, other},
		"several aud and no azp":     {map[string]any{"aud": []string{"gate", "other"}}, nil, refused},
		"expired":                    {map[string]any{"exp": 1}, nil, refused},
		"of the future":              {map[string]any{"iat": 1 << 39}, nil, refused},
		"a logout token":             {map[string]any{"events": map[string]any{}}, nil, refused},
		"at_hash of another":         {map[string]any{"at_hash": b64("0123456789abcdef")}, nil, refused},

		"auth_time is another, in the same session": {map[string]any{"auth_time": 1800000001}, nil, good},
		"auth_time is another, in another session":  {map[string]any{"auth_time": 1800000001, "sid": "s-2"}, nil, other},
		"auth_time is another, in no session":       {map[string]any{"auth_time": 1800000001, "sid": nil}, noSession, other},
		"auth_time is earlier, in no session":       {map[string]any{"auth_time": 1799999999, "sid": nil}, noSession, other},
		"auth_time is gone":                         {map[string]any{"auth_time": nil, "sid": nil}, nil, good},
		"auth_time is new":                          {nil, func(was *Identity) { was.SessionID, was.Claims = "", nil }, good},
		"auth_time was a float":                     {map[string]any{"sid": nil}, func(was *Identity) { was.Claims = map[string]any{"auth_time": 1.8e9} }, good},
		"another session":                           {map[string]any{"sid": "s-2"}, nil, good},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider()
				was := alice()
				if c.was != nil {
					c.was(&was)
				}
				claims := refreshedClaims(c.change)
				who, err := verifyRefreshed(newClient(t, p), p.Sign(payload(claims), nil), was)
				if c.want != good {
					wantInvalid(t, "token", who, err)
					if errors.Is(err, ErrOtherIdentity) != (c.want == other) {
						t.Errorf("another identity: %v", err)
					}
					return
				}
				if err != nil || who.Subject != "sub-alice" || who.Issuer != issuer || who.Expiry.Unix() != claims["exp"] {
					t.Fatalf("%+v, %v", who, err)
				}
				if _, had := who.Claims["groups"]; had != (c.change["groups"] != nil) {
					t.Errorf("claims of the old token: %v", who.Claims)
				}
			})
		})
	}
}

// TestRefreshedForgeries: a token that nobody signed is refused, whoever it
// says that it is of.
func TestRefreshedForgeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		parts := strings.Split(p.Sign(payload(refreshedClaims(nil)), nil), ".")
		for name, token := range map[string]string{
			"alg none": b64(`{"alg":"none"}`) + "." + parts[1] + ".", "no signature": parts[0] + "." + parts[1] + ".", "not a token": "opaque",
			"payload of another": parts[0] + "." + b64(string(payload(refreshedClaims(map[string]any{"sub": "sub-mallory"})))) + "." + parts[2],
			"an access token":    p.Sign(payload(refreshedClaims(nil)), atJWT), "too large": p.Sign(payload(refreshedClaims(map[string]any{"pad": strings.Repeat("a", maxToken)})), nil),
		} {
			time.Sleep(keyCooldown) // so that "later" is ruled out
			who, err := verifyRefreshed(c, token, alice())
			wantInvalid(t, name, who, err)
		}
	})
}

// TestRefreshedWithoutIDToken: who is signed in stays, but not until when.
func TestRefreshedWithoutIDToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		was := alice()
		tok := Tokens{Access: "opaque", Received: time.Now()}
		who, err := c.VerifyRefreshed(context.Background(), tok, was)
		if err != nil || who.Subject != was.Subject || who.SessionID != was.SessionID || who.Claims["groups"] == nil || !who.Expiry.IsZero() {
			t.Fatalf("%+v, %v", who, err)
		}
		if was.Expiry.IsZero() || len(p.Calls("")) != 0 {
			t.Error("the old one was changed, or somebody asked")
		}
		if until := tok.Until(who); !until.IsZero() {
			t.Errorf("good until %v", until)
		}
		tok.ExpiresIn = time.Minute
		if until := tok.Until(who); until.Sub(tok.Received) != time.Minute {
			t.Errorf("good until %v", until)
		}
		big := secret.String(strings.Repeat("a", maxToken+1))
		for name, tok := range map[string]Tokens{"access": {Access: big}, "refresh": {Access: "a", Refresh: big}} {
			who, err := c.VerifyRefreshed(context.Background(), tok, was)
			wantInvalid(t, name, who, err)
		}
	})
}

// TestVerifyRefreshedLater: without the keys nothing is said of anybody.
func TestVerifyRefreshedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		c := newClient(t, p)
		token := p.Sign(payload(refreshedClaims(nil)), nil)
		p.Unreachable("/jwks", errors.New("down"))
		if who, err := verifyRefreshed(c, token, alice()); who != nil || !errors.Is(err, ErrTemporary) || errors.Is(err, ErrOtherIdentity) {
			t.Errorf("%+v, %v", who, err)
		}
		p.Unreachable("/jwks", nil)
		time.Sleep(keyCooldown)
		if _, err := verifyRefreshed(c, token, alice()); err != nil {
			t.Error(err)
		}
	})
}
