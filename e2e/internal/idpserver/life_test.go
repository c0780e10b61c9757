// This file tests what the provider does with refresh tokens, and that it tells
// its clients of a sign-out.
package idpserver_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

// signedIn is a person who has approved, and the tokens.
func (c client) signedIn(ctx context.Context, t *testing.T) (*idpserver.Person, answer) {
	t.Helper()
	a, person := c.start(ctx, t), idpserver.NewPerson(t)
	if err := person.Approve(ctx, a.complete(), idpserver.Alice, idpserver.AlicePassword); err != nil {
		t.Fatal(err)
	}
	return person, c.outcome(ctx, t, a.DeviceCode)
}

func (c client) refresh(ctx context.Context, t *testing.T, token string) answer {
	t.Helper()
	return c.post(ctx, t, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func TestRefreshTokenOnce(t *testing.T) {
	ctx, idp, rec := stage(t, idpserver.Options{})
	for _, id := range []string{idpserver.PublicClient, idpserver.BasicClient} {
		c := client{base: rec.URL(), id: id, secret: idp.Secret}
		_, first := c.signedIn(ctx, t)
		second := c.refresh(ctx, t, first.RefreshToken)
		if second.RefreshToken == "" || second.RefreshToken == first.RefreshToken {
			t.Errorf("%s: no new refresh token; error %q", id, second.Error)
		}
		for i, token := range []string{first.RefreshToken, second.RefreshToken} { // the used one takes the other back
			if again := c.refresh(ctx, t, token); again.Error != "invalid_grant" {
				t.Errorf("%s: token %d got error %q", id, i, again.Error)
			}
		}
	}
}

func TestKeepRefreshToken(t *testing.T) {
	ctx, _, rec := stage(t, idpserver.Options{KeepRefreshToken: true})
	c := client{base: rec.URL(), id: idpserver.PublicClient}
	_, first := c.signedIn(ctx, t)
	for range 2 {
		if got := c.refresh(ctx, t, first.RefreshToken); got.AccessToken == "" || got.RefreshToken != first.RefreshToken {
			t.Errorf("error %q", got.Error)
		}
	}
}

func TestSignOut(t *testing.T) {
	ctx, idp, rec := stage(t, idpserver.Options{})
	told := make(chan string, 1)
	listener := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		told <- r.FormValue("logout_token")
	}))
	t.Cleanup(listener.Close)
	idp.Stop(t)
	idp.BackchannelLogoutURI = listener.URL
	idp.StartAgain(t)
	c := client{base: rec.URL(), id: idpserver.PublicClient}
	person, tokens := c.signedIn(ctx, t)
	if err := person.SignOut(ctx, rec.URL()+"/session/end"); err != nil {
		t.Fatal(err)
	}
	select {
	case token := <-told:
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token+"..", ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(payload, &got); err != nil {
			t.Fatalf("no logout token: %v", err)
		}
		if sid := claims(t, tokens)["sid"]; sid == nil || got["sid"] != sid || fmt.Sprint(got["aud"]) != c.id {
			t.Errorf("the logout token has %v, the ID token sid %v", got, sid)
		}
	case <-ctx.Done():
		t.Fatal("nobody was told of the sign-out")
	}
}
