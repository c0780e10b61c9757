// This file shows what goes wrong at Keycloak, and what a person sees of it.
package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
	"github.com/caddydevice/device-auth/e2e/internal/keycloak"
	"github.com/caddydevice/device-auth/e2e/internal/record"
)

// keycloakCodeLife is of the codes in keycloakExpiry. Keycloak remembers one
// for the interval and ten seconds more.
const (
	keycloakCodeLife = 12
	keycloakForgets  = (keycloakCodeLife + 5 + 10) * time.Second
)

// keycloakExpiry lets three codes run out: one by our clock, one by Keycloak's
// word for it, and one of which Keycloak knows nothing any more when it is
// asked at last.
func keycloakExpiry(t *testing.T, realm *keycloak.Realm) {
	short := realm.Server.NewRealm(t.Context(), t)
	for _, client := range []string{keycloak.ConfidentialClient, keycloak.PublicClient} {
		short.ChangeClient(t.Context(), t, client, func(c keycloak.Client) {
			c.Attributes()["oauth2.device.code.lifespan"] = keycloakCodeLife
		})
	}
	s := newKeycloakStage(t, short, keycloakPlan{
		change: func(caddyfile string) string {
			return strings.ReplaceAll(caddyfile, "device_auth {\n", "device_auth {\nidp_timeout 40s\n")
		},
		answer: func(n int, answer map[string]any) {
			if n == 3 || n == 4 { // the second of each client
				answer["expires_in"] = 60
			}
		},
	})
	var first [3]map[string]answer
	for i := range first {
		first[i] = map[string]answer{}
		for name, site := range s.clients() {
			first[i][name] = site.startJSON(t, "/")
		}
	}
	s.delayPolls(t, first[2])
	s.withBoth(t, func(t *testing.T, s *keycloakStage) {
		name := t.Name()[strings.LastIndex(t.Name(), "/")+1:]
		for i, last := range []string{"authorization_pending", "expired_token", "invalid_grant"} {
			a := first[i][name]
			end := readJSON(t, s.wait(t, a.Session), 410)
			if end.Status != "expired" || end.Error != "expired_token" {
				t.Errorf("%s: wait says %+v", last, end)
			}
			wantInvalidToken(t, s.get(t, "/", "-H", bearer(a.Session), "-H", asJSON), "code_expired")
			polls := s.polls(t, a.UserCode)
			if len(polls) == 0 || polls[len(polls)-1].Error != last {
				t.Errorf("the last answer is not %s: %+v", last, polls)
			}
		}
		// Whoever kept the cookie is told, and gets a new code.
		next := s.get(t, "/", "-b", cookie(first[1][name].Session))
		wantStatus(t, next, 401)
		if readText(t, next.Body); !strings.Contains(next.Body, "expired") {
			t.Errorf("the next request says\n%s", next.Body)
		}
	})
}

// delayPolls holds the second poll of each sign-in until Keycloak has forgotten
// its code: an answer that is late on the line.
func (s *keycloakStage) delayPolls(t *testing.T, signIns map[string]answer) {
	t.Helper()
	type held struct {
		n     atomic.Int32
		until time.Time
	}
	codes := map[string]*held{}
	for _, a := range signIns {
		c := s.code(t, a.UserCode)
		codes[c.hash] = &held{until: c.answered.Add(keycloakForgets + time.Second)}
	}
	s.rec.Rewrite(func(r *http.Request) (int, []byte, bool) {
		h := codes[record.Hash(r.PostForm.Get("device_code"))]
		if h == nil || h.n.Add(1) < 2 {
			return 0, nil, false
		}
		timer := time.NewTimer(time.Until(h.until))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
		return 0, nil, false
	})
}

// keycloakSlowDown has the gateway told to poll every second, which Keycloak
// does not like.
func keycloakSlowDown(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm, keycloakPlan{answer: func(_ int, answer map[string]any) { answer["interval"] = 1 }})
	s.interval = time.Second
	s.withBoth(t, func(t *testing.T, s *keycloakStage) {
		a := s.startJSON(t, "/")
		s.hurry(t, a.Session, func() bool { return len(s.polls(t, a.UserCode)) >= 3 })
		s.approve(t, a.Complete)
		readJSON(t, s.wait(t, a.Session), 200)
		polls := s.polls(t, a.UserCode)
		if polls[0].Error != "authorization_pending" || polls[1].Error != "slow_down" {
			t.Fatalf("Keycloak said %+v", polls)
		}
		wantGaps(t, polls[1:], 6*time.Second)
		for _, poll := range polls[2:] {
			if poll.Error == "slow_down" {
				t.Errorf("told to slow down once more: %+v", polls)
			}
		}
	})
}

func keycloakWrongSecret(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm, keycloakPlan{secret: "a-secret-that-is-not-right", change: func(caddyfile string) string {
		const line = "client_id my-gateway-public\n"
		return strings.Replace(caddyfile, line, line+"client_secret {env.CLIENT_SECRET}\n", 1)
	}})
	a := s.json(t, 502, "/")
	if a.Status != "failed" || a.Error != "server_error" || a.Reason != "setup" || !strings.Contains(a.Description, "operator") {
		t.Errorf("%+v", a)
	}
	w := s.newWindow(t)
	w.open(t, "/wall", browser.Typed)
	w.want(t, 502)
	if w.page.HTML.Refresh == nil {
		t.Error("the kiosk's page does not try again by itself")
	}
	s.wantLogged(t, "Invalid client or Invalid client credentials")
	if n := len(s.rec.Polls()); n != 0 {
		t.Errorf("%d polls without a code", n)
	}
	// Keycloak asks a public client for no secret, and minds none.
	s.clients()["public"].signInAlice(t)
}

// keycloakGrantOff switches the grant off while a sign-in is pending, and on
// again.
func keycloakGrantOff(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm.Server.NewRealm(t.Context(), t), keycloakPlan{})
	ids := map[string]string{"confidential": keycloak.ConfidentialClient, "public": keycloak.PublicClient}
	for name, site := range s.clients() {
		t.Run(name, func(t *testing.T) {
			s, id := site, ids[name]
			a := s.startJSON(t, "/")
			s.realm.SwitchGrant(s.ctx, t, id, false)
			if end := readJSON(t, s.wait(t, a.Session), 410); end.Status != "failed" || end.Error != "server_error" {
				t.Errorf("the sign-in under way: %+v", end)
			}
			if next := s.json(t, 502, "/"); next.Status != "failed" || next.Reason != "setup" {
				t.Errorf("a new one: %+v", next)
			}
			s.wantLogged(t, "The flow is disabled for the client")
			s.realm.SwitchGrant(s.ctx, t, id, true)
			s.signInAlice(t)
		})
	}
}

// keycloakKeysRotated takes the signing key back under a session: it lives on,
// and the next sign-in is by the new key.
func keycloakKeysRotated(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm.Server.NewRealm(t.Context(), t), keycloakPlan{})
	keys := map[string]string{}
	for name, site := range s.clients() {
		keys[name] = site.signInAlice(t)
	}
	old := signedBy(t, s)
	s.realm.RotateKeys(s.ctx, t)
	for name, site := range s.clients() {
		wantKeycloakAlice(t, echo(t, site.get(t, "/", "-H", bearer(keys[name])).Body))
		fresh := site.signInAlice(t)
		wantKeycloakAlice(t, echo(t, site.get(t, "/", "-H", bearer(fresh)).Body))
		wantKeycloakAlice(t, echo(t, site.get(t, "/", "-H", bearer(keys[name])).Body))
	}
	if now := signedBy(t, s); len(old) != 1 || len(now) != 2 {
		t.Errorf("the ID tokens were signed by %d keys, and by %d after the rotation", len(old), len(now))
	}
}

// signedBy are the ids of the keys that the ID tokens so far were signed with.
func signedBy(t *testing.T, s *keycloakStage) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for _, token := range s.rec.Secrets()["ID token"] {
		id, _ := part(t, token, 0)["kid"].(string)
		ids[id] = true
	}
	return ids
}

// keycloakStops ends Keycloak while sign-ins are pending. It forgets their
// codes, so they cannot be approved any more; that is said, and new ones work.
func keycloakStops(t *testing.T, realm *keycloak.Realm) {
	s := newKeycloakStage(t, realm, keycloakPlan{})
	pending, keys := map[string]answer{}, map[string]string{}
	for name, site := range s.clients() {
		keys[name] = site.signInAlice(t)
		pending[name] = site.startJSON(t, "/")
		s.awaitPolls(t, pending[name].UserCode, 1)
	}
	realm.Server.Stop(t)
	for name, site := range s.clients() {
		polls := s.awaitPolls(t, pending[name].UserCode, len(s.polls(t, pending[name].UserCode))+1)
		if last := polls[len(polls)-1]; last.Status != 0 {
			t.Errorf("a stopped Keycloak answered with %d", last.Status)
		}
		if again := site.json(t, 401, "/", "-H", bearer(pending[name].Session)); again.UserCode != pending[name].UserCode {
			t.Errorf("while Keycloak is away the code changed: %+v", again)
		}
		wantKeycloakAlice(t, echo(t, site.get(t, "/", "-H", bearer(keys[name])).Body))
	}
	realm.Server.StartAgain(t)
	for name, site := range s.clients() {
		if end := readJSON(t, site.wait(t, pending[name].Session), 410); end.Status != "failed" || end.Reason != "forgotten" || !strings.Contains(end.Description, "Start again") {
			t.Errorf("wait says %+v", end)
		}
		next := site.get(t, "/", "-b", cookie(pending[name].Session))
		wantStatus(t, next, 401)
		if readText(t, next.Body).code == pending[name].UserCode {
			t.Error("the old code is shown again")
		}
		wantKeycloakAlice(t, echo(t, site.get(t, "/", "-H", bearer(keys[name])).Body))
		site.signInAlice(t)
	}
}

// payload reads a token's claims without checking it: that is the gateway's
// part.
func payload(t *testing.T, token string) map[string]any {
	t.Helper()
	return part(t, token, 1)
}

func part(t *testing.T, token string, n int) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[n])
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		t.Fatal(err)
	}
	return members
}
