// This file sets up what a scenario plays on: provider, recording proxy,
// upstream and gateway, and looks at all of them once more at its end.
package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddydevice/device-auth/e2e/internal/gate"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
	"github.com/caddydevice/device-auth/e2e/internal/record"
	"github.com/caddydevice/device-auth/e2e/internal/secrecy"
	"github.com/caddydevice/device-auth/e2e/internal/upstream"
)

const (
	// sceneTime bounds a scenario; the machine may be busy with others, and parts
	// of a scenario that run in parallel wait for their turn.
	sceneTime = 12 * time.Minute
	// look is how often something is looked at that nobody announces.
	look = 20 * time.Millisecond
)

// manyStarts is for scenarios with more sign-ins than one client may start.
const manyStarts = "limits {\nstarts 1000 1m\n}"

// plan is what differs between scenarios; the zero value is one site on
// localhost, a public client, and polls every second.
type plan struct {
	caddyfile string
	secret    string            // of the client; the right one unless set
	interval  int               // seconds, put into the provider's answers; 1 unless set
	asItIs    bool              // the provider's answers are not changed: its interval is the default, 5 s
	expiresIn int               // seconds, put into the provider's answers if set
	codeLife  time.Duration     // of the provider's device codes
	tokenLife time.Duration     // of the provider's access tokens
	keepToken bool              // the provider gives no new refresh token for an old one
	keys      []jose.JSONWebKey // that a client of the provider may sign with
	noPKCE    bool              // discovery does not know PKCE
	lineDown  bool              // the provider is out of reach when Caddy starts
	// crowded: there are too many secrets to look for each of them in the log;
	// other scenarios do that.
	crowded bool
	home    string            // of the gateway; a new one unless set
	env     map[string]string // for the Caddyfile, besides ISSUER, SECRET and UPSTREAM
	tokens  func()            // is told of each answer with tokens, before it leaves
	// answer changes the nth answer to a device authorization request, from 1.
	answer func(n int, answer map[string]any)
	// refresh changes the answers to refreshes.
	refresh func(answer map[string]any)
}

// code is one device authorization as the provider answered it.
type code struct {
	complete string // verification_uri_complete
	hash     string // of the device code
	answered time.Time
}

type stage struct {
	ctx      context.Context
	rec      *record.Recorder
	idp      *idpserver.Server // nil where another provider is behind rec
	up       *upstream.Server
	gate     *gate.Gate
	home     string // of the gateway, if set
	url      string // of the site that is asked
	canaries *secrecy.Canaries
	interval time.Duration
	codes    *codes
	crowded  bool
	afterEnd int // polls after an end that are as they should be

	tokenLife time.Duration // of an access token, if set
}

// codes are the device authorizations so far, by user code.
type codes struct {
	mu sync.Mutex
	of map[string]code
}

// deviceAuth is the directive with the least that works, and more lines.
func deviceAuth(matcher string, lines ...string) string {
	return "device_auth " + matcher + " {\nissuer {$ISSUER}\nclient_id " + idpserver.PublicClient + "\n" + strings.Join(lines, "\n") + "\n}\n"
}

// oneSite is a site on the first port with that directive before the upstream.
func oneSite(directive string) string {
	return "http://localhost:{$GATE_PORT} {\nlog\n" + directive + "reverse_proxy {$UPSTREAM}\n}\n"
}

func newStage(t *testing.T, p plan) *stage {
	t.Helper()
	s := emptyStage(t)
	s.idp = idpserver.Start(t, idpserver.Options{
		Issuer: s.rec.URL(), DeviceCodeLife: p.codeLife, AccessTokenLife: p.tokenLife, KeepRefreshToken: p.keepToken, ClientKeys: p.keys,
	})
	s.tokenLife = p.tokenLife
	s.rec.SetTarget(t, s.idp.URL())
	s.watchAnswers(p)
	s.rec.Down(p.lineDown)
	if p.caddyfile == "" {
		p.caddyfile = oneSite(deviceAuth("", manyStarts))
	}
	if p.secret == "" {
		p.secret = s.idp.Secret
	}
	env := map[string]string{"ISSUER": s.rec.URL(), "SECRET": p.secret}
	maps.Copy(env, p.env)
	s.home = p.home
	s.open(t, p.caddyfile, env)
	return s
}

// emptyStage has a recorder, but neither provider nor gateway yet.
func emptyStage(t *testing.T) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sceneTime)
	t.Cleanup(cancel)
	return &stage{ctx: ctx, canaries: secrecy.New(), codes: &codes{of: map[string]code{}}, rec: record.Start(t)}
}

// open starts the upstream, and the gateway in front of it.
func (s *stage) open(t *testing.T, caddyfile string, env map[string]string) {
	t.Helper()
	s.up = upstream.Start(t)
	t.Cleanup(func() { s.lastLook(t) }) // runs after the gateway has ended
	env["UPSTREAM"] = s.up.Addr()
	s.gate = gate.Start(t, gate.Options{Caddyfile: caddyfile, Env: env, Home: s.home})
	s.url = s.gate.URL()
}

// watchAnswers changes what the plan says and notes which codes there are.
func (s *stage) watchAnswers(p plan) {
	if p.interval == 0 {
		p.interval = 1
	}
	s.crowded = p.crowded
	s.interval = time.Duration(p.interval) * time.Second
	if p.asItIs {
		s.interval = 5 * time.Second // RFC 8628 §3.2
	}
	var n atomic.Int32
	s.rec.RewriteAnswer(func(r *http.Request, answer map[string]any) {
		if p.refresh != nil && isRefresh(r) {
			p.refresh(answer)
		}
		if p.noPKCE {
			delete(answer, "code_challenge_methods_supported")
		}
		if p.tokens != nil && answer["access_token"] != nil {
			p.tokens()
		}
		userCode, _ := answer["user_code"].(string)
		if userCode == "" {
			return
		}
		if !p.asItIs {
			answer["interval"] = p.interval
		}
		if p.expiresIn > 0 {
			answer["expires_in"] = p.expiresIn
		}
		if p.answer != nil {
			p.answer(int(n.Add(1)), answer)
		}
		complete, _ := answer["verification_uri_complete"].(string)
		deviceCode, _ := answer["device_code"].(string)
		s.codes.mu.Lock()
		defer s.codes.mu.Unlock()
		s.codes.of[userCode] = code{complete: complete, hash: record.Hash(deviceCode), answered: time.Now()}
	})
}

// code is what the provider said when it made the user code.
func (s *stage) code(t *testing.T, userCode string) code {
	t.Helper()
	s.codes.mu.Lock()
	defer s.codes.mu.Unlock()
	c, ok := s.codes.of[userCode]
	if !ok {
		t.Fatal("the provider knows nothing of the user code that is shown")
	}
	return c
}

// polls are the polls for a user code so far.
func (s *stage) polls(t *testing.T, userCode string) []record.Entry {
	t.Helper()
	return s.rec.PollsOf(s.code(t, userCode).hash)
}

// awaitPolls waits until there were n polls for a user code.
func (s *stage) awaitPolls(t *testing.T, userCode string, n int) []record.Entry {
	t.Helper()
	var polls []record.Entry
	s.await(t, "polls", func() bool {
		polls = s.polls(t, userCode)
		return len(polls) >= n
	})
	return polls
}

func (s *stage) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			t.Fatalf("waiting for %s: %v", what, s.ctx.Err())
		}
	}
}

// passTime lets as much time pass as n polls take: another sign-in is the
// clock.
func (s *stage) passTime(t *testing.T, n int) {
	t.Helper()
	s.awaitPolls(t, s.startJSON(t, "/clock").UserCode, n)
}

// approve is what the person does who scanned the QR code.
func (s *stage) approve(t *testing.T, complete string) {
	t.Helper()
	s.approveWith(t, idpserver.NewPerson(t), idpserver.Alice, complete)
}

// approveWith is the same for a person who is known, and may be signed in.
func (s *stage) approveWith(t *testing.T, p *idpserver.Person, user, complete string) {
	t.Helper()
	if err := p.Approve(s.ctx, idpserver.Device{Complete: complete}, user, user+"-password"); err != nil {
		t.Fatal(err)
	}
}

// upstreamSaw are the requests to one path that reached the upstream.
func (s *stage) upstreamSaw(path string) []upstream.Request {
	var seen []upstream.Request
	for _, r := range s.up.Requests() {
		if at, _, _ := strings.Cut(r.URI, "?"); at == path {
			seen = append(seen, r)
		}
	}
	return seen
}

// echo reads the upstream's answer.
func echo(t *testing.T, body string) upstream.Request {
	t.Helper()
	var r upstream.Request
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("this is not the upstream's answer: %v\n%s", err, body)
	}
	return r
}

// wantAlice fails unless the upstream was told that it is Alice, and in one
// line each.
func wantAlice(t *testing.T, r upstream.Request) {
	t.Helper()
	wantHeader(t, r, "Remote-User", "alice")
	wantHeader(t, r, "Remote-Groups", "admins,staff")
}

// wantHeader fails unless the upstream saw the field once, with that value,
// and under no other spelling.
func wantHeader(t *testing.T, r upstream.Request, name, value string) {
	t.Helper()
	if got := spellings(r, name); len(got) != 1 || got[0] != name+": "+value {
		t.Errorf("the upstream saw %q, want one %s: %s", got, name, value)
	}
}

// spellings are the lines that some server would take for the field.
func spellings(r upstream.Request, name string) []string {
	var lines []string
	plain := strings.NewReplacer("_", "-", ".", "-")
	for _, line := range r.RawHeader {
		field, _, _ := strings.Cut(line, ":")
		if strings.EqualFold(plain.Replace(strings.TrimSpace(field)), name) {
			lines = append(lines, line)
		}
	}
	return lines
}

// lastLook holds for every scenario: polls kept their distance, none came
// after an end, and no secret is in the log or went upstream.
func (s *stage) lastLook(t *testing.T) {
	t.Helper()
	for userCode, c := range s.codes.of {
		if gap, n := s.rec.MinGap(c.hash); n > 0 && gap < s.interval {
			t.Errorf("two polls for %s were %v apart, the interval is %v", userCode, gap, s.interval)
		}
	}
	if n := s.rec.AfterTerminal(); n != s.afterEnd {
		t.Errorf("%d polls came after a terminal answer", n)
	}
	for _, r := range s.up.Requests() {
		if strings.Contains(strings.Join(r.RawHeader, "\n")+r.URI, "dvc_") {
			t.Errorf("a session key reached the upstream at %s", r.URI)
		}
	}
	if s.gate == nil {
		return
	}
	if s.crowded {
		if sessionKey.MatchString(s.gate.LogText()) {
			t.Error("a session key is in the log")
		}
		return
	}
	s.canaries.AddRecord(t, s.rec)
	s.canaries.Check(t, "the gateway", s.gate.LogText())
}
