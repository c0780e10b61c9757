// This file holds the fuzz targets: every answer of an identity provider, and
// every token of a client.

package idp

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
)

func FuzzDeviceAnswer(f *testing.F) {
	f.Add(200, []byte(device(func(map[string]any) {}).Body))
	f.Add(400, []byte(`{"error":"invalid_client","error_description":"\u001b[2J"}`))
	f.Add(200, []byte(`{"device_code":"d","user_code":"u","verification_url":"https://i","expires_in":"5","interval":{}}`))
	p := newProvider()
	c := newClient(f, p)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		p.Always("/device", idptest.Reply{Status: status, Body: string(body)})
		da, err := c.Authorize(context.Background())
		if err != nil {
			if strings.ContainsFunc(err.Error(), unicode.IsControl) || len(err.Error()) > 1000 {
				t.Errorf("error %q", err)
			}
			return
		}
		shown := da.UserCode + da.VerificationURI + da.VerificationURIComplete
		if status > 299 || da.Interval < minInterval || da.ExpiresIn <= 0 || da.DeviceCode == "" || strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%d %q passes as %+v", status, body, da)
		}
		for _, uri := range []string{da.VerificationURI, da.VerificationURIComplete} {
			if low := strings.ToLower(uri); uri != "" && !strings.HasPrefix(low, "https://") && !strings.HasPrefix(low, "http://") {
				t.Errorf("URI %q passes", uri)
			}
		}
	})
}

func FuzzTokenAnswer(f *testing.F) {
	f.Add(200, []byte(newProvider().Tokens(nil).Body))
	for _, body := range []string{`{"error":"slow_down","interval":1e400}`, `{"error":null}`, `{"error":[]}`, `{"access_token":"a","token_type":"bearer","expires_in":"x"}`, ``, `null`} {
		f.Add(400, []byte(body))
		f.Add(200, []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		ans := readToken(reply{status: status, body: body}, polled)
		if (ans.Outcome == Approved) != (ans.Tokens.Access != "") || (ans.Outcome == Approved) == (ans.Err != nil) || ans.Interval < 0 || ans.Tokens.ExpiresIn < 0 {
			t.Errorf("%+v", ans)
		}
		if ans.Outcome == Approved {
			if status < 200 || status > 299 {
				t.Errorf("status %d approves", status)
			}
			ans.Tokens.Until(&Identity{})
		} else if strings.ContainsFunc(ans.Err.Error(), unicode.IsControl) {
			t.Errorf("error %q", ans.Err)
		}
	})
}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","use":"sig","key_ops":["verify"]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := parseKeys(body)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		for i := range keys {
			if !keys[i].IsPublic() || keys[i].Use == "enc" {
				t.Errorf("key %+v is used", keys[i])
			}
			for _, alg := range Algorithms {
				fits(&keys[i], alg)
			}
		}
	})
}

// FuzzVerifyAccess sends any token, and any claims in a token that is signed.
// Only what the identity provider signed passes, and only what it says.
func FuzzVerifyAccess(f *testing.F) {
	p := newProvider()
	c := newClient(f, p)
	claims := changed(usualAccess(), map[string]any{"exp": time.Now().Add(1000 * time.Hour).Unix()})
	good := p.Sign(payload(claims), atJWT)
	parts := strings.Split(good, ".")
	f.Add(good, payload(claims))
	f.Add(b64(`{"alg":"none","typ":"at+jwt"}`)+"."+parts[1]+".", payload(changed(claims, map[string]any{"aud": []string{"api", "x"}, "azp": "cli"})))
	f.Add(b64(`{"alg":"HS256","typ":"at+jwt","kid":"key-1"}`)+"."+parts[1]+"."+parts[2], payload(changed(claims, map[string]any{"cnf": map[string]any{}})))
	f.Add(b64(`{"alg":"ES256","typ":"at+jwt","crit":["b64"],"b64":false}`)+"."+parts[1]+"."+parts[2], []byte(`{"iss":null,"aud":[[]],"exp":1e400}`))
	f.Add("....", []byte(`[]`))
	f.Fuzz(func(t *testing.T, token string, claims []byte) {
		who, err := verifyAccess(c, token, forAPI)
		checkFuzzed(t, who == nil, err)
		if err == nil && !sameParts(token, good) {
			t.Errorf("%q passes, and nobody signed it", token)
		}
		who, err = verifyAccess(c, p.Sign(claims, atJWT), forAPI)
		checkFuzzed(t, who == nil, err)
		if _, bound := claimOf(who, "cnf"); err == nil && (bound || who.Claims["iss"] != issuer || who.Subject == "" || who.Expiry.Before(time.Now().Add(-time.Minute))) {
			t.Errorf("%q passes as %+v", claims, who)
		}
		if who, err = verifyAccess(c, p.Sign(claims, nil), Bearer{Audiences: []string{"api"}}); err == nil && who.Claims["typ"] != "Bearer" {
			t.Errorf("%q passes without a type", claims)
		}
	})
}

// FuzzVerifyLogout sends any token, and any claims in a token that is signed.
// Only what the identity provider signed passes, and only as a logout.
func FuzzVerifyLogout(f *testing.F) {
	p := newProvider()
	c := newClient(f, p)
	claims := changed(usualLogout(), map[string]any{"exp": time.Now().Add(1000 * time.Hour).Unix()})
	good := p.Sign(rawPayload(claims), logoutJWT)
	parts := strings.Split(good, ".")
	f.Add(good, rawPayload(claims))
	f.Add(b64(`{"alg":"none","typ":"logout+jwt"}`)+"."+parts[1]+".", rawPayload(changed(claims, map[string]any{"nonce": "n"})))
	f.Add(b64(`{"alg":"HS256","typ":"logout+jwt","kid":"key-1"}`)+"."+parts[1]+"."+parts[2], rawPayload(changed(claims, map[string]any{"sub": nil, "aud": []string{"x", "gate"}})))
	f.Add("....", []byte(`{"iss":null,"events":[],"aud":[[]],"exp":1e400,"sid":{}}`))
	f.Fuzz(func(t *testing.T, token string, claims []byte) {
		out, err := verifyLogout(c, token)
		checkFuzzed(t, out == nil, err)
		if err == nil && !sameParts(token, good) {
			t.Errorf("%q passes, and nobody signed it", token)
		}
		out, err = verifyLogout(c, p.Sign(claims, logoutJWT))
		checkFuzzed(t, out == nil, err)
		if err != nil {
			return
		}
		var all map[string]any
		_ = json.Unmarshal(claims, &all)
		_, nonce := all["nonce"]
		_, events := all["events"].(map[string]any)
		names := out.ID + out.Subject + out.SessionID
		if out.ID == "" || out.Subject+out.SessionID == "" || strings.ContainsFunc(names, func(r rune) bool { return !unicode.IsPrint(r) }) ||
			nonce || !events || time.Since(out.IssuedAt) > 25*time.Hour {
			t.Errorf("%q passes as %+v", claims, out)
		}
	})
}

func checkFuzzed(t *testing.T, nothing bool, err error) {
	t.Helper()
	if nothing != (err != nil) {
		t.Errorf("nothing: %v, beside %v", nothing, err)
	}
	if err != nil && (strings.ContainsFunc(err.Error(), unicode.IsControl) || len(err.Error()) > 600) {
		t.Errorf("error %q", err)
	}
}

func claimOf(who *Identity, name string) (any, bool) {
	if who == nil {
		return nil, false
	}
	v, ok := who.Claims[name]
	return v, ok
}

// sameParts compares what two tokens say; one thing can be encoded in several
// ways (RFC 4648 §3.5).
func sameParts(a, b string) bool {
	return slices.EqualFunc(strings.Split(a, "."), strings.Split(b, "."), func(a, b string) bool {
		x, errX := base64.RawURLEncoding.DecodeString(a)
		y, errY := base64.RawURLEncoding.DecodeString(b)
		return errX == nil && errY == nil && bytes.Equal(x, y)
	})
}

func FuzzDiscovery(f *testing.F) {
	f.Add([]byte(`{"issuer":"` + issuer + `","jwks_uri":"` + issuer + `/j","token_endpoint":"` + issuer + `/t","device_authorization_endpoint":"` + issuer + `/d"}`))
	f.Add([]byte(`{"issuer":"` + issuer + `","scopes_supported":5}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p := newProvider()
		p.Always("/.well-known/openid-configuration", idptest.Reply{Status: 200, Body: string(body)})
		c := newClient(t, p)
		err := ready(c)
		var u *UnavailableError
		if err != nil {
			if !errors.As(err, &u) || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("error %q", err)
			}
			return
		}
		md := c.discovery.good.Load()
		for _, e := range []string{md.DeviceEndpoint, md.TokenEndpoint, md.JWKSURI} {
			if !strings.HasPrefix(strings.ToLower(e), "https://") {
				t.Errorf("endpoint %q passes", e)
			}
		}
	})
}
