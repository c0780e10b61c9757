// The device flow from both sides: approved, declined, expired, polled too
// soon, and what the tokens say.

package idp

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

func TestApprove(t *testing.T) {
	users := []struct {
		name, password, fullName, email string
		groups                          []string
	}{
		{"alice", "alice-demo", "Alice Example", "alice@example.com", []string{"staff", "admins"}},
		{"bob", "bob-demo", "Bob Example", "bob@example.com", []string{"staff"}},
	}
	for _, u := range users {
		t.Run(u.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newServer(t)
				f := begin(t, c)
				f.wantPoll(t, "authorization_pending")

				h := newHuman(t, c)
				h.reachApproval(t, f, u.name, u.password)
				for _, words := range []string{f.userCode, "Demo gateway", u.fullName, "see your e-mail address", "10 more minutes"} {
					h.wantPage(t, http.StatusOK, words)
				}
				h.decide(t, "approve")
				h.wantPage(t, http.StatusOK, "Signed in")

				a, failure := f.poll(t)
				if failure != "" {
					t.Fatalf("poll after approval: %s", a.body)
				}
				if got := a.Header.Get("Cache-Control"); got != "no-store" {
					t.Errorf("Cache-Control of tokens: %q", got)
				}
				tokens := a.json(t)
				if tokens["expires_in"] != 3600.0 || tokens["refresh_token"] == nil {
					t.Errorf("tokens: expires_in %v, refresh token there: %v", tokens["expires_in"], tokens["refresh_token"] != nil)
				}
				got := verify(t, c, tokens["id_token"])
				if got.PreferredUsername != u.name || got.Name != u.fullName || got.Email != u.email ||
					!got.EmailVerified || !slices.Equal(got.Groups, u.groups) {
					t.Errorf("claims: %+v", got)
				}
				// A device code is good for one answer.
				f.wantPoll(t, "invalid_grant")
			})
		})
	}
}

type idClaims struct {
	Subject           string   `json:"sub"`
	PreferredUsername string   `json:"preferred_username"`
	Name              string   `json:"name"`
	Email             string   `json:"email"`
	EmailVerified     bool     `json:"email_verified"`
	Groups            []string `json:"groups"`
}

// verify checks an ID token as a relying party does: discovery, key set,
// signature, issuer, audience, expiry.
func verify(t *testing.T, c *http.Client, idToken any) idClaims {
	t.Helper()
	raw, _ := idToken.(string)
	ctx := oidc.ClientContext(context.Background(), c)
	provider, err := oidc.NewProvider(ctx, testIssuer)
	if err != nil {
		t.Fatal(err)
	}
	token, err := provider.Verifier(&oidc.Config{ClientID: "demo"}).Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	if life := time.Until(token.Expiry); life != time.Hour {
		t.Errorf("ID token life: %s", life)
	}
	var claims idClaims
	if err := token.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if claims.Subject == "" || claims.Subject == claims.PreferredUsername {
		t.Errorf("subject %q, user name %q", claims.Subject, claims.PreferredUsername)
	}
	return claims
}

func TestDecline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newServer(t)
		f := begin(t, c)
		h := newHuman(t, c)
		h.reachApproval(t, f, "alice", "alice-demo")
		approval := h.page
		h.decide(t, "decline")
		h.wantPage(t, http.StatusOK, "Declined")
		f.wantPoll(t, "access_denied")

		// The first answer stands, also against a page that is still open.
		h.page = approval
		h.decide(t, "approve")
		h.wantPage(t, http.StatusBadRequest, "answered already")
		f.wantPoll(t, "access_denied")
	})
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newServer(t)
		f := begin(t, c)
		h := newHuman(t, c)
		h.reachApproval(t, f, "alice", "alice-demo")

		time.Sleep(10*time.Minute - time.Nanosecond)
		f.wantPoll(t, "authorization_pending")
		time.Sleep(time.Nanosecond)
		f.wantPoll(t, "expired_token")

		h.decide(t, "approve")
		h.wantPage(t, http.StatusBadRequest, "has expired")
		f.wantPoll(t, "expired_token")
	})
}

// TestApprovedTooLate: an approval does not outlive its code.
func TestApprovedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newServer(t, WithCodeLife(time.Minute))
		f := begin(t, c)
		h := newHuman(t, c)
		h.reachApproval(t, f, "alice", "alice-demo")
		h.decide(t, "approve")
		time.Sleep(time.Minute)
		f.wantPoll(t, "expired_token")
	})
}

func TestSlowDown(t *testing.T) {
	steps := []struct {
		wait time.Duration
		want string
	}{
		{0, "authorization_pending"},
		{5 * time.Second, "authorization_pending"},
		{5*time.Second - 1, "slow_down"},
		{10*time.Second - 1, "slow_down"}, // 10 s from here on, and now 15 s
		{15 * time.Second, "authorization_pending"},
	}
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, newServer(t))
		for i, s := range steps {
			time.Sleep(s.wait)
			if a, got := f.poll(t); got != s.want {
				t.Fatalf("poll %d: got %q, want %q: %s", i, got, s.want, a.body)
			}
		}
	})
}

// TestPollOfOthers: a device code is of use to the client it was made for only.
func TestPollOfOthers(t *testing.T) {
	c := newServer(t)
	f := begin(t, c)
	thief := f
	thief.client = url.Values{"client_id": {"demo-confidential"}, "client_secret": {"demo-secret"}}
	thief.wantPoll(t, "invalid_grant")
	f.wantPoll(t, "authorization_pending")
	f.deviceCode = "guessed"
	f.wantPoll(t, "invalid_grant")
}

func TestRefreshUserinfoRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newServer(t)
		f := begin(t, c)
		h := newHuman(t, c)
		h.reachApproval(t, f, "bob", "bob-demo")
		h.decide(t, "approve")
		a, _ := f.poll(t)
		first := a.json(t)
		wantUserinfo(t, c, first["access_token"], http.StatusOK)

		time.Sleep(time.Hour)
		wantUserinfo(t, c, first["access_token"], http.StatusUnauthorized)

		a = refresh(t, c, first["refresh_token"])
		second := a.json(t)
		if a.StatusCode != http.StatusOK || second["refresh_token"] == first["refresh_token"] {
			t.Fatalf("refresh: %d, same token again: %v", a.StatusCode, second["refresh_token"] == first["refresh_token"])
		}
		if got := verify(t, c, second["id_token"]); got.PreferredUsername != "bob" {
			t.Errorf("ID token after refresh: %+v", got)
		}
		wantUserinfo(t, c, second["access_token"], http.StatusOK)
		if a = refresh(t, c, first["refresh_token"]); a.json(t)["error"] != "invalid_grant" {
			t.Errorf("a used refresh token: %d %s", a.StatusCode, a.body)
		}

		a = post(t, c, pathRevoke, url.Values{"client_id": {"demo"}, "token": {second["refresh_token"].(string)}})
		if a.StatusCode != http.StatusOK {
			t.Fatalf("revoke: %d %s", a.StatusCode, a.body)
		}
		wantUserinfo(t, c, second["access_token"], http.StatusUnauthorized)
		if a = refresh(t, c, second["refresh_token"]); a.json(t)["error"] != "invalid_grant" {
			t.Errorf("a revoked refresh token: %d %s", a.StatusCode, a.body)
		}
	})
}

func refresh(t *testing.T, c *http.Client, token any) answer {
	t.Helper()
	value, _ := token.(string)
	return post(t, c, pathToken, url.Values{
		"grant_type": {"refresh_token"}, "client_id": {"demo"}, "refresh_token": {value},
	})
}

func wantUserinfo(t *testing.T, c *http.Client, token any, status int) {
	t.Helper()
	value, _ := token.(string)
	req, err := http.NewRequest(http.MethodGet, testIssuer+pathUserinfo, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+value)
	resp, err := c.Do(req)
	a := read(t, resp, err)
	if a.StatusCode != status {
		t.Fatalf("userinfo: got %d, want %d: %s", a.StatusCode, status, a.body)
	}
	if status == http.StatusUnauthorized && !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") {
		t.Errorf("userinfo: WWW-Authenticate %q", a.Header.Get("WWW-Authenticate"))
	}
	if status == http.StatusOK && a.json(t)["groups"] == nil {
		t.Errorf("userinfo without groups: %s", a.body)
	}
}
