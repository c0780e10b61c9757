// This file tests the replays by themselves: each refuses what its product
// refuses, and hands out tokens to a client that speaks as it wants.

package idptest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// asker is a client that says what it is told to.
type asker struct {
	t *testing.T
	r *Replay
}

// post sends a form, or JSON where the media type says so. auth is the header
// field Authorization, "" for none.
func (a asker) post(address, media, auth string, pairs ...string) (status int, body string) {
	a.t.Helper()
	form, members := url.Values{}, map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
		members[pairs[i]] = pairs[i+1]
	}
	text := form.Encode()
	if media == jsonMedia {
		b, err := json.Marshal(members)
		if err != nil {
			a.t.Fatal(err)
		}
		text = string(b)
	}
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, address, strings.NewReader(text))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {media}, "Accept": {jsonMedia}}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	return a.do(req)
}

func (a asker) do(req *http.Request) (status int, body string) {
	a.t.Helper()
	resp, err := a.r.RoundTrip(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

const (
	formMedia = "application/x-www-form-urlencoded"
	jsonMedia = "application/json"
)

func basicAuth(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

// TestReplayRefuses is what a client gets that does not know its counterpart.
func TestReplayRefuses(t *testing.T) {
	const longSecret = "canary+secret/with=%32:signs"
	for _, c := range []struct {
		name   string
		r      *Replay
		at     Endpoint
		media  string
		auth   string
		pairs  []string
		status int
		word   string
	}{
		{"TokenIDP, a form", TokenIDP(), DeviceCode, formMedia, "", []string{"client_id", "gate", "scope", "openid"}, 415, ""},
		{"TokenIDP, no scope", TokenIDP(), DeviceCode, jsonMedia, "", []string{"client_id", "gate"}, 400, ""},
		{"TokenIDP, JSON", TokenIDP(), DeviceCode, jsonMedia, "", []string{"client_id", "gate", "scope", "openid"}, 200, ""},
		{"TokenIDP, RFC 8628's grant type", TokenIDP(), Poll, formMedia, "", []string{"client_id", "gate", "grant_type", deviceGrant, "device_code", "x"}, 400, ""},
		{"TokenIDP, unknown code", TokenIDP(), Poll, formMedia, "", []string{"client_id", "gate", "grant_type", "device_code", "device_code", "x"}, 200, "invalid_grant"},
		{"TokenIDP, camelCase JSON", TokenIDP(), Poll, jsonMedia, "", []string{"clientId", "gate", "grantType", "device_code", "deviceCode", "x"}, 200, "invalid_grant"},
		{"TokenIDP, Basic and the body", TokenIDP(), Poll, formMedia, basicAuth("gate", "tokenidp-canary-secret"), []string{"client_id", "gate", "grant_type", "device_code", "client_secret", "x"}, 400, ""},
		{"TokenIDP, Basic form-encoded", TokenIDPPunctuated(), Poll, formMedia, basicAuth("gate", url.QueryEscape(longSecret)), []string{"client_id", "gate", "grant_type", "device_code", "device_code", "x"}, 401, ""},
		{"TokenIDP, Basic as it is", TokenIDPPunctuated(), Poll, formMedia, basicAuth("gate", longSecret), []string{"client_id", "gate", "grant_type", "device_code", "device_code", "x"}, 200, "invalid_grant"},
		{"Hydra, client_id in Basic only", Hydra(), DeviceCode, formMedia, basicAuth("gate", "hydra-canary-secret"), []string{"scope", "openid"}, 401, "invalid_client"},
		{"Hydra, a secret in the body", Hydra(), DeviceCode, formMedia, "", []string{"client_id", "gate", "client_secret", "hydra-canary-secret", "scope", "openid"}, 401, "invalid_client"},
		{"authentik, Basic form-encoded", AuthentikPunctuated(), Poll, formMedia, basicAuth("gate", url.QueryEscape(longSecret)), []string{"grant_type", deviceGrant, "device_code", "x"}, 400, "invalid_client"},
		{"authentik, client_id missing", Authentik(), DeviceCode, formMedia, basicAuth("gate", "x"), []string{"scope", "openid"}, 400, "invalid_client"},
		{"authentik, a refresh for less", Authentik(), Refresh, formMedia, "", []string{"client_id", "gate", "grant_type", "refresh_token", "scope", "openid"}, 400, "invalid_scope"},
		{"Keycloak, no secret", Keycloak(), DeviceCode, formMedia, "", []string{"client_id", "gate"}, 401, "unauthorized_client"},
		{"Keycloak, no challenge", KeycloakPKCE(), DeviceCode, formMedia, "", []string{"client_id", "gate"}, 400, "invalid_request"},
		{"WSO2, a parameter twice", WSO2(), DeviceCode, formMedia, basicAuth("gate", "wso2-canary-secret"), []string{"client_id", "gate", "scope", "openid", "scope", "email"}, 400, "invalid_request"},
		{"WSO2, nobody in particular", WSO2(), DeviceCode, formMedia, "", []string{"scope", "openid"}, 401, "invalid_request"},
		{"Dex, a client that nobody knows", Dex(), DeviceCode, formMedia, "", []string{"client_id", "bogus"}, 200, ""},
		{"Dex, a verifier from nowhere", begun(Dex()), Poll, formMedia, "", []string{"grant_type", deviceGrant, "device_code", Dex().Codes.Code, "code_verifier", "v"}, 400, "invalid_request"},
		{"Auth0, a secret", Auth0(), DeviceCode, formMedia, "", []string{"client_id", "nAj0zxN5pTq7gate", "client_secret", "x"}, 403, "unauthorized_client"},
		{"Entra, a secret", Entra(), DeviceCode, formMedia, "", []string{"client_id", Entra().ClientID, "client_secret", "x", "scope", "openid"}, 401, "invalid_client"},
		{"Entra, no scope", Entra(), DeviceCode, formMedia, "", []string{"client_id", Entra().ClientID}, 400, "invalid_request"},
		{"ZITADEL, a secret", Zitadel(), DeviceCode, formMedia, "", []string{"client_id", Zitadel().ClientID, "client_secret", "x"}, 401, "invalid_client"},
		{"Google, offline_access", Google(), DeviceCode, formMedia, "", []string{"client_id", Google().ClientID, "scope", "openid offline_access"}, 400, "invalid_scope"},
		{"Spring, openid", Spring(), DeviceCode, formMedia, basicAuth("gate", "spring-canary-secret"), []string{"scope", "openid profile"}, 400, "invalid_scope"},
		{"GitHub, openid", GitHub(), DeviceCode, formMedia, "", []string{"client_id", GitHub().ClientID, "scope", "openid"}, 200, "invalid_scope"},
		{"Casdoor, another client", Casdoor(), DeviceCode, formMedia, "", []string{"client_id", "other"}, 200, "invalid_client"},
		{"AWS, a form", AWS(), DeviceCode, formMedia, "", []string{"client_id", "gate"}, 400, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := c.r.Where.Token
			if c.at == DeviceCode {
				address = c.r.Where.Device
			}
			status, body := asker{t, c.r}.post(address, c.media, c.auth, c.pairs...)
			if word := errorOf(body); status != c.status || word != c.word {
				t.Errorf("%d %q, want %d %q: %s", status, word, c.status, c.word, body)
			}
		})
	}
}

// begun is a replay that has handed out a code, without a challenge.
func begun(r *Replay) *Replay {
	r.authorize(&Request{Form: url.Values{"client_id": {r.ClientID}, "client_secret": {r.ClientSecret}}, When: time.Now()})
	return r
}

// TestReplayPaces is what a replay says to polls at certain times, in seconds
// after the device authorization.
func TestReplayPaces(t *testing.T) {
	for _, c := range []struct {
		name  string
		r     *Replay
		polls []int
		want  string // of each poll: p for pending, s for slow_down
	}{
		{"Keycloak forgets a poll that was too early", KeycloakPublic(), []int{1, 3, 6}, "psp"},
		{"WSO2, from the beginning on", WSO2(), []int{3}, "s"},
		{"WSO2, exactly at the interval, for ever", WSO2(), []int{5, 10, 15, 20}, "ssss"},
		{"WSO2, a little later", WSO2(), []int{6, 12, 18}, "ppp"},
		{"Dex adds and forgives", Dex(), []int{1, 3, 10, 30, 36}, "psspp"},
		{"Authelia begins to wait anew", Authelia(), []int{1, 10, 19, 29}, "pssp"},
		{"Duende means another interval", Duende(), []int{1, 6, 14}, "psp"},
		{"GitHub adds for good", GitHub(), []int{1, 3, 10, 26}, "pssp"},
		{"authentik does not look", Authentik(), []int{1, 2, 3}, "ppp"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.r.Auth.At = nil // that is not the question here
				begun(c.r)
				start := time.Now()
				got := ""
				for _, at := range c.polls {
					time.Sleep(time.Until(start.Add(time.Duration(at) * time.Second)))
					_, body := asker{t, c.r}.post(c.r.Where.Token, formMedia, "", "grant_type", deviceGrant, "device_code", c.r.Codes.Code)
					got += map[string]string{"authorization_pending": "p", "slow_down": "s"}[errorOf(body)]
				}
				if got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
			})
		})
	}
}

// TestReplayReuses is what a code brings that brought tokens before.
func TestReplayReuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		r      *Replay
		status int
		word   string
		dead   bool
	}{
		{"node oidc-provider", OIDCProvider(), 400, "invalid_grant", true},
		{"Logto", Logto(), 400, "invalid_grant", true},
		{"Authelia", Authelia(), 500, "server_error", false},
		{"Dex", Dex(), 200, "", false},
		{"ZITADEL", Zitadel(), 400, "access_denied", false},
		{"Casdoor", Casdoor(), 400, "access_denied", false},
		{"TokenIDP", TokenIDP(), 500, "", false},
		{"WSO2", WSO2(), 400, "slow_down", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			begun(c.r)
			c.r.Approve()
			q := &Request{Form: url.Values{"grant_type": {deviceGrant}, "device_code": {c.r.Codes.Code}}, When: time.Now()}
			if c.r.Polls.Grant != "" {
				q.Form.Set("grant_type", c.r.Polls.Grant)
			}
			first := c.r.poll(q)
			again := c.r.poll(q)
			if first.Status != 200 || errorOf(first.Body) != "" {
				t.Errorf("first: %d %s", first.Status, first.Body)
			}
			if again.Status != c.status || errorOf(again.Body) != c.word || c.r.Dead() != c.dead {
				t.Errorf("again: %d %s, taken back %t", again.Status, again.Body, c.r.Dead())
			}
		})
	}
}

// TestGitHubSpeaksForms: without being asked for JSON it answers as a form.
func TestGitHubSpeaksForms(t *testing.T) {
	r := GitHub()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.Where.Device, strings.NewReader("client_id="+r.ClientID))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", formMedia)
	if _, body := (asker{t, r}).do(req); !strings.Contains(body, "=") || strings.Contains(body, "{") {
		t.Errorf("got %s", body)
	}
}
