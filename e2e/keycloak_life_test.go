// This file shows how a session goes on with a Keycloak that takes each refresh
// token once, what becomes of a role that is taken away there, and that a
// sign-out there is one here.
package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/curl"
	"github.com/caddydevice/device-auth/e2e/internal/keycloak"
	"github.com/caddydevice/device-auth/e2e/internal/websocket"
)

const (
	// keycloakTokens is the life of an access token, in seconds.
	keycloakTokens = "6"
	// logoutURL is the attribute of a client that says where it is told of
	// sign-outs.
	logoutURL = "backchannel.logout.url"
)

// lifeCaddyfile has a route for everyone, and one for a role. The first client
// asks for no offline access: only then a sign-out at Keycloak is one of the
// gateway's sessions, too.
const lifeCaddyfile = `{
	device_auth {
		provider keycloak {
			issuer {$ISSUER}
			client_id my-gateway
			client_secret {env.CLIENT_SECRET}
			scopes openid profile email
		}
	}
}

http://localhost:{$GATE_PORT} {
	handle /drafts/* {
		device_auth keycloak {
			require realm_access.roles editor
		}
		reverse_proxy {$UPSTREAM}
	}
	handle {
		device_auth keycloak
		reverse_proxy {$UPSTREAM}
	}
}

http://127.0.0.1:{$GATE_PORT_2} {
	device_auth {
		issuer {$ISSUER}
		client_id my-gateway-public
	}
	reverse_proxy {$UPSTREAM}
}
`

func keycloakLife(t *testing.T, realm *keycloak.Realm) {
	realm = pollEachSecond(t, realm)
	realm.Change(t.Context(), t, map[string]any{"revokeRefreshToken": true, "refreshTokenMaxReuse": 0})
	// Without them, as the example's users are, nobody may use the account console.
	realm.SwitchRole(t.Context(), t, keycloak.Alice, "default-roles-"+realm.Name, true)
	s := newStageOf(t, realm, lifeCaddyfile)
	public := s.clients()["public"]
	for client, site := range map[string]struct{ here, example string }{
		keycloak.ConfidentialClient: {s.url, "http://localhost:9080"}, keycloak.PublicClient: {public.url, "http://127.0.0.1:9081"},
	} {
		realm.ChangeClient(t.Context(), t, client, func(c keycloak.Client) {
			c.Attributes()["access.token.lifespan"] = keycloakTokens
			path, ok := strings.CutPrefix(fmt.Sprint(c.Attributes()[logoutURL]), site.example)
			if !ok {
				t.Fatalf("the example's client %s is told of sign-outs at %v", client, c.Attributes()[logoutURL])
			}
			c.Attributes()[logoutURL] = site.here + path
		})
	}
	s.up.AnswerWith(echoOrSocket)
	t.Run("several lives", func(t *testing.T) { keycloakRefreshes(t, s) })
	t.Run("several offline lives", func(t *testing.T) { keycloakRefreshes(t, public) })
	t.Run("a role taken away", func(t *testing.T) { keycloakRoleTaken(t, s) })
	for _, way := range keycloakSignOuts {
		at := s
		if way.offline {
			at = public
		}
		t.Run("signed out by "+way.name, func(t *testing.T) { way.check(t, at) })
	}
}

// echoOrSocket answers a request for a WebSocket with one.
func echoOrSocket(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		websocket.Echo(w, r)
	}
}

// keycloakSession is somebody who is signed in, with an open WebSocket.
type keycloakSession struct {
	*refreshed
	socket *openRequest
}

func (s *keycloakStage) signInWith(t *testing.T, user string) *keycloakSession {
	t.Helper()
	return s.signInBy(t, func(complete string) { s.approveAs(t, user, complete) })
}

// signInBy signs in where somebody else approves.
func (s *keycloakStage) signInBy(t *testing.T, approve func(complete string)) *keycloakSession {
	t.Helper()
	a := s.startJSON(t, "/")
	approve(a.Complete)
	readJSON(t, s.wait(t, a.Session), 200)
	k := &keycloakSession{refreshed: s.refreshedBy(t, a)}
	k.openSocket(t)
	return k
}

// openSocket opens a WebSocket with the session's key.
func (k *keycloakSession) openSocket(t *testing.T) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(k.ctx, "tcp", strings.TrimPrefix(k.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	req, err := http.NewRequestWithContext(k.ctx, http.MethodGet, k.url+"/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+k.key)
	status, socket := k.upgradeOn(t, conn, req)
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", status)
	}
	wantEcho(t, socket)
	k.socket = &openRequest{name: "WebSocket", closed: make(chan time.Time, 1)}
	go k.socket.watch(socket)
}

// keycloakRefreshes: the session outlives its access token several times, and
// no refresh token is used twice, which Keycloak would take for theft.
func keycloakRefreshes(t *testing.T, s *keycloakStage) {
	k := s.signInWith(t, keycloak.Alice)
	token := k.token
	for range 3 {
		next := s.awaitAnswer(t, token)
		if n := len(s.rec.PresentationsOf(token)); n != 1 {
			t.Errorf("a refresh token was presented %d times", n)
		}
		wantStatus(t, k.ask(t), 200)
		token = next.NewRefreshToken
	}
	k.socket.wantOpen(t)
}

// keycloakRoleTaken: what Keycloak says in the next refresh counts, either way.
func keycloakRoleTaken(t *testing.T, s *keycloakStage) {
	k := s.signInWith(t, keycloak.Alice)
	ask := func() curl.Result { return s.get(t, "/drafts/x", "-H", bearer(k.key)) }
	wantStatus(t, ask(), 200)
	for _, row := range []struct {
		has    bool
		status int
	}{{false, 403}, {true, 200}} {
		s.realm.SwitchRole(s.ctx, t, keycloak.Alice, "editor", row.has)
		s.await(t, "what the role comes to", func() bool { return ask().Status == row.status })
		wantStatus(t, k.ask(t), 200) // elsewhere nothing has changed
	}
	k.socket.wantOpen(t)
}

// keycloakSignOut is a way to sign Alice out at Keycloak, and the reason of the
// session's end.
type keycloakSignOut struct {
	name    string
	signOut func(t *testing.T, alice phone) // alice is where she approved
	offline bool                            // of a session with offline access
	reason  string
	all     bool // Bob is signed out, too
}

// keycloakSignOuts: Keycloak tells nobody of the end of offline access, nor that
// all were signed out. Then the next refresh finds out.
var keycloakSignOuts = []keycloakSignOut{
	{name: "the person", reason: "logged_out", signOut: personSignsOut},
	{name: "an administrator", reason: "logged_out", signOut: adminSignsOut},
	{name: "an administrator, offline", offline: true, reason: "refused", signOut: adminSignsOut},
	{name: "an administrator, all", reason: "refused", all: true, signOut: func(t *testing.T, alice phone) {
		alice.s.realm.SignOutAll(alice.s.ctx, t)
	}},
}

// personSignsOut uses Keycloak's account console, which lets Alice in by the
// sign-in with which she approved, and then no more.
func personSignsOut(t *testing.T, alice phone) {
	t.Helper()
	ctx := alice.s.ctx
	alice.do(t, alice.Open(ctx, alice.s.rec.URL()+"/realms/"+alice.s.realm.Name+"/account"))
	alice.do(t, alice.Click(ctx, "[data-testid=options-kebab-toggle]"))
	alice.do(t, alice.Click(ctx, "[data-testid=options-kebab] [role=menuitem]"))
	alice.do(t, alice.Wait(ctx, signInField))
}

func adminSignsOut(t *testing.T, alice phone) {
	t.Helper()
	alice.s.realm.SignOut(alice.s.ctx, t, keycloak.Alice)
}

func (way keycloakSignOut) check(t *testing.T, s *keycloakStage) {
	p := s.newPhone(t)
	alice := s.signInBy(t, func(complete string) { p.approve(t, complete, keycloak.Alice) })
	bob := s.signInWith(t, keycloak.Bob)
	way.signOut(t, p)
	alice.wantSignedOut(t, way.reason)
	if way.all {
		bob.wantSignedOut(t, way.reason)
		return
	}
	s.awaitAnswer(t, bob.token)
	bob.socket.wantOpen(t)
	wantStatus(t, bob.ask(t), 200)
}

// wantSignedOut fails unless the session is over and its WebSocket closed: as
// soon as Keycloak has told, or at the next refresh.
func (k *keycloakSession) wantSignedOut(t *testing.T, reason string) {
	t.Helper()
	at := time.Now()
	if reason == "refused" {
		k.askUntil(t, func(got curl.Result) bool { return got.Status == http.StatusUnauthorized })
		at = time.Now()
	}
	k.socket.wantClosed(t, at)
	k.wantOver(t, k.key, reason)
}
