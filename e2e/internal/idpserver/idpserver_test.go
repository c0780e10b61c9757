// This file tests the provider and the person against each other, with a small
// client in the gateway's place and the recorder between.
package idpserver_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/record"
	"github.com/caddydevice/device-auth/e2e/internal/secrecy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage starts a provider behind a recorder.
func stage(t *testing.T, o idpserver.Options) (context.Context, *idpserver.Server, *record.Recorder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	rec := record.Start(t)
	o.Issuer = rec.URL()
	idp := idpserver.Start(t, o)
	rec.SetTarget(t, idp.URL())
	return ctx, idp, rec
}

func TestApprove(t *testing.T) {
	ctx, idp, rec := stage(t, idpserver.Options{})
	for _, id := range []string{idpserver.PublicClient, idpserver.BasicClient, idpserver.PostClient} {
		for name, device := range map[string]func(answer) idpserver.Device{"complete": answer.complete, "typed": answer.typed} {
			t.Run(id+" "+name, func(t *testing.T) {
				c := client{base: rec.URL(), id: id, secret: idp.Secret}
				a := c.start(ctx, t)
				if p := c.poll(ctx, t, a.DeviceCode); p.Error != "authorization_pending" {
					t.Fatalf("first poll: error %q", p.Error)
				}
				person := idpserver.NewPerson(t)
				if err := person.Approve(ctx, device(a), idpserver.Alice, idpserver.AlicePassword); err != nil {
					t.Fatal(err)
				}
				tokens := c.outcome(ctx, t, a.DeviceCode)
				got := claims(t, tokens)
				want := map[string]string{
					"iss": rec.URL(), "aud": id, "sub": "id-of-alice", "preferred_username": "alice",
					"name": "Alice Example", "email": "alice@example.com", "groups": "[admins staff]",
				}
				for claim, value := range want {
					if fmt.Sprint(got[claim]) != value {
						t.Errorf("claim %s is %v, want %s", claim, got[claim], value)
					}
				}
				again := c.post(ctx, t, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.RefreshToken}})
				if again.AccessToken == "" {
					t.Errorf("refresh: error %q", again.Error)
				}
			})
		}
	}
	if n := len(rec.Refreshes()); n != 6 {
		t.Errorf("the record holds %d refreshes, want 6", n)
	}
	if n := rec.AfterTerminal(); n != 0 {
		t.Errorf("%d polls after the end", n)
	}
	canaries := secrecy.New()
	canaries.AddRecord(t, rec)
	// Three clients, each twice: 6 device codes, user codes and ID tokens at
	// least, and their access and refresh tokens before and after the refresh.
	if n := canaries.Len(); n < 30 || len(canaries.Search("secret="+idp.Secret)) != 1 {
		t.Errorf("the recorder kept %d secrets, or not the client's", n)
	}
}

func TestApproveTwiceInOneBrowser(t *testing.T) {
	ctx, _, rec := stage(t, idpserver.Options{})
	c := client{base: rec.URL(), id: idpserver.PublicClient}
	person := idpserver.NewPerson(t)
	for range 2 {
		a := c.start(ctx, t)
		if err := person.Approve(ctx, a.complete(), idpserver.Bob, idpserver.BobPassword); err != nil {
			t.Fatal(err)
		}
		if got := claims(t, c.outcome(ctx, t, a.DeviceCode)); got["preferred_username"] != "bob" {
			t.Errorf("signed in as %v", got["preferred_username"])
		}
	}
}

func TestDeny(t *testing.T) {
	ctx, _, rec := stage(t, idpserver.Options{})
	c := client{base: rec.URL(), id: idpserver.PublicClient}
	ways := map[string]func(*idpserver.Person, answer) error{
		"at once": func(p *idpserver.Person, a answer) error {
			return p.Deny(ctx, a.complete(), idpserver.Alice, idpserver.AlicePassword)
		},
		"at once, code typed": func(p *idpserver.Person, a answer) error {
			return p.Deny(ctx, a.typed(), idpserver.Alice, idpserver.AlicePassword)
		},
		"after sign-in": func(p *idpserver.Person, a answer) error {
			return p.DenyAfterSignIn(ctx, a.complete(), idpserver.Alice, idpserver.AlicePassword)
		},
	}
	for name, deny := range ways {
		t.Run(name, func(t *testing.T) {
			a := c.start(ctx, t)
			if err := deny(idpserver.NewPerson(t), a); err != nil {
				t.Fatal(err)
			}
			if got := c.outcome(ctx, t, a.DeviceCode); got.Error != "access_denied" {
				t.Errorf("error %q", got.Error)
			}
		})
	}
}

func TestPersonMistakes(t *testing.T) {
	ctx, _, rec := stage(t, idpserver.Options{})
	c := client{base: rec.URL(), id: idpserver.PublicClient}
	a := c.start(ctx, t)
	if err := idpserver.NewPerson(t).Approve(ctx, a.complete(), idpserver.Alice, "wrong"); err == nil {
		t.Error("a wrong password passed")
	}
	unknown := idpserver.Device{URI: a.URI, Code: "WRONGCOD"}
	if err := idpserver.NewPerson(t).Approve(ctx, unknown, idpserver.Alice, idpserver.AlicePassword); err == nil {
		t.Error("an unknown code passed")
	}
	// The wrong password came after the code was taken: nobody else may use it.
	if p := c.poll(ctx, t, a.DeviceCode); p.Error != "authorization_pending" {
		t.Errorf("error %q", p.Error)
	}
}

func TestExpire(t *testing.T) {
	ctx, _, rec := stage(t, idpserver.Options{DeviceCodeLife: 2 * time.Second})
	c := client{base: rec.URL(), id: idpserver.PublicClient}
	a := c.start(ctx, t)
	if a.ExpiresIn != 2 {
		t.Errorf("expires_in is %d", a.ExpiresIn)
	}
	// The row is gone at the end of its life, so both words mean expired.
	if got := c.outcome(ctx, t, a.DeviceCode); got.Error != "expired_token" && got.Error != "invalid_grant" {
		t.Errorf("error %q", got.Error)
	}
	gap, gaps := rec.MinGap(record.Hash(a.DeviceCode))
	if gaps < 5 || gap <= 0 || gap > 5*pollGap {
		t.Errorf("shortest of %d gaps is %v", gaps, gap)
	}
}

func TestRestartWhilePending(t *testing.T) {
	ctx, idp, rec := stage(t, idpserver.Options{})
	c := client{base: rec.URL(), id: idpserver.PublicClient}
	a := c.start(ctx, t)
	keys := get(ctx, t, rec.URL()+"/jwks")
	idp.Stop(t)
	if _, err := c.try(ctx, "/token", url.Values{"grant_type": {deviceGrant}, "device_code": {a.DeviceCode}}); err == nil {
		t.Error("a stopped provider answered")
	}

	idp.StartAgain(t)
	if p := c.poll(ctx, t, a.DeviceCode); p.Error != "authorization_pending" {
		t.Fatalf("after the restart: error %q", p.Error)
	}
	if err := idpserver.NewPerson(t).Approve(ctx, a.typed(), idpserver.Bob, idpserver.BobPassword); err != nil {
		t.Fatal(err)
	}
	tokens := c.outcome(ctx, t, a.DeviceCode)
	if got := claims(t, tokens); got["sub"] != "id-of-bob" {
		t.Errorf("signed in as %v", got["sub"])
	}
	if get(ctx, t, rec.URL()+"/jwks") != keys {
		t.Error("the signing keys changed")
	}
}

func TestRestartWithLoss(t *testing.T) {
	ctx, idp, rec := stage(t, idpserver.Options{})
	c := client{base: rec.URL(), id: idpserver.PublicClient}
	a := c.start(ctx, t)
	keys := get(ctx, t, rec.URL()+"/jwks")
	idp.Stop(t)
	idp.LoseState(t)
	idp.LoseKeys(t)
	idp.StartAgain(t)
	if p := c.poll(ctx, t, a.DeviceCode); p.Error != "invalid_grant" {
		t.Errorf("after the loss: error %q", p.Error)
	}
	if get(ctx, t, rec.URL()+"/jwks") == keys {
		t.Error("the signing keys are the old ones")
	}
}

func get(ctx context.Context, t *testing.T, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
