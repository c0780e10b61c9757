// This file shows an identity provider that the gateway's own Caddy serves: it
// cannot be there before the gateway is.
package e2e

import (
	"strings"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

func TestProviderInSameCaddy(t *testing.T) {
	t.Parallel()
	s := emptyStage(t)
	const issuer = "http://localhost:{$GATE_PORT_2}"
	site := strings.Replace(oneSite(deviceAuth("", manyStarts)), "{$ISSUER}", issuer, 1) + issuer + " {\nreverse_proxy {$IDP}\n}\n"
	s.watchAnswers(plan{})
	s.open(t, site, map[string]string{"IDP": strings.TrimPrefix(s.rec.URL(), "http://")})

	// Caddy has started, and there is no provider behind its other site yet.
	got := s.get(t, "/", "-H", asJSON)
	s.wantWait(t, got)
	if a := readJSON(t, got, 503); a.Status != "unavailable" || a.UserCode != "" {
		t.Errorf("%+v", a)
	}
	s.idp = idpserver.Start(t, idpserver.Options{Issuer: "http://localhost:" + s.gate.Port2()})
	s.rec.SetTarget(t, s.idp.URL())
	s.await(t, "a sign-in at the provider", func() bool { return s.get(t, "/").Status == 401 })
	active, pending := s.signInTyped(t), s.startJSON(t, "/pending")

	// A reload takes the provider's site down and up with the gate's.
	s.gate.Reload(t, strings.Replace(site, "log\n", "log\nheader X-Change one\n", 1))
	wantStatus(t, s.get(t, "/", "-H", bearer(active)), 200)
	s.startSoon(t)
	s.approveTyped(t, pending)

	// From nothing, with the provider there: the first request may come before
	// its site does.
	s.gate.Stop(t)
	s.gate.StartAgain(t)
	s.startSoon(t)
	wantStatus(t, s.get(t, "/", "-H", bearer(active)), 200)
	s.signInTyped(t)
}

func (s *stage) signInTyped(t *testing.T) string {
	t.Helper()
	a := s.startJSON(t, "/")
	s.approveTyped(t, a)
	return a.Session
}

// approveTyped is a person who types the code: the other address has it, and is
// one of this Caddy's own here, which logs it.
func (s *stage) approveTyped(t *testing.T, a answer) {
	t.Helper()
	must(t, idpserver.NewPerson(t).Approve(s.ctx, idpserver.Device{URI: a.URI, Code: a.UserCode}, idpserver.Alice, idpserver.AlicePassword))
	s.wantActive(t, a.Session)
}

// startSoon starts a sign-in; until that works the answer is 503.
func (s *stage) startSoon(t *testing.T) {
	t.Helper()
	s.await(t, "a sign-in", func() bool {
		got := s.get(t, "/", "-H", asJSON)
		if got.Status == 401 {
			return true
		}
		s.wantWait(t, got)
		return false
	})
}
