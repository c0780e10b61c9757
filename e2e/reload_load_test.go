// This file shows that neither a reload nor a restart is noticed by a crowd.
package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/gate"
	"github.com/caddydevice/device-auth/e2e/internal/idpserver"
)

// reloads is how often the same gateway is loaded anew.
const reloads = 10

// header is a line that tells one configuration from the next.
func header(change string) string { return "log\nheader X-Change " + change + "\n" }

func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	site := crowdSite()
	s := newStage(t, plan{caddyfile: site, asItIs: true, crowded: true})
	c := s.gather(t)
	s.gate.Reload(t, strings.Replace(site, "log\n", header("first"), 1)) // what a first reload leaves for good is not a leak
	base := s.settledUsage(t, gate.Usage{})
	tr := c.work()
	for range reloads {
		s.gate.Reload(t, strings.Replace(site, "log\n", header(time.Now().Format("150405.000")), 1))
		s.letPass(time.Second)
	}
	tr.done(t)
	if now := s.settledUsage(t, base); now.Goroutines > base.Goroutines || now.Descriptors > base.Descriptors {
		t.Errorf("the gateway holds %+v after %d reloads, and held %+v before\n%s", now, reloads, base, s.gate.Goroutines(s.ctx, t))
	}
	c.wantAll(t)
	c.finish(t)
}

// TestReloadWithChanges gives the client another secret at the provider and
// then here, asks for other scopes, and changes what the upstream sees.
func TestReloadWithChanges(t *testing.T) {
	t.Parallel()
	site := strings.ReplaceAll(crowdSite("client_secret {env.SECRET}"), idpserver.PublicClient, idpserver.BasicClient)
	s := newStage(t, plan{caddyfile: site, asItIs: true, crowded: true})
	c := s.gather(t)
	tr := c.work()

	// in between the provider cannot be reached: else it would refuse the old
	// secret, and that is the end of a sign-in
	s.rec.Down(true)
	s.idp.Secret = "another-" + s.idp.Secret
	s.idp.Stop(t)
	s.idp.StartAgain(t)
	s.gate.Reload(t, strings.NewReplacer("{env.SECRET}", s.idp.Secret+"\nscopes openid profile\nclock_skew 1m", "log\n", header("changed")).Replace(site))
	s.rec.Down(false)
	s.letPass(3 * time.Second)
	tr.done(t)
	c.wantAll(t)
	got := s.startJSON(t, "/")
	if form := s.rec.Starts(); len(form) != len(c.members)+1 || got.Status != "pending" {
		t.Errorf("%d device authorizations", len(form))
	}
	c.members = append(c.members, member{kind: "pending", key: got.Session, code: got.UserCode})
	c.finish(t)
}

// TestReloadThatFails: the old configuration goes on.
func TestReloadThatFails(t *testing.T) {
	t.Parallel()
	site := crowdSite()
	s := newStage(t, plan{caddyfile: site, asItIs: true, crowded: true})
	c := s.gather(t)
	tr := c.work()
	for name, wrong := range map[string]string{
		"a header that cannot be set": strings.Replace(site, "reverse_proxy", "device_auth /x {\nissuer {$ISSUER}\nclient_id e2e-public\nupstream_headers {\nHost sub\n}\n}\nreverse_proxy", 1),
		"a gate that differs":         strings.Replace(site, "reverse_proxy", "device_auth /x {\nissuer {$ISSUER}\nclient_id e2e-public\npath_prefix /.other\n}\nreverse_proxy", 1),
		"another app that fails":      strings.Replace(site, "log\n", "log\nroot * {env.NO_SUCH}\ntls /no/such.crt /no/such.key\n", 1),
	} {
		if err := s.gate.TryReload(t, wrong); err == nil {
			t.Errorf("%s was accepted", name)
		}
		s.letPass(time.Second)
	}
	tr.done(t)
	c.wantAll(t)
	c.finish(t)
}

func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *gate.Gate){
		"SIGTERM": func(t *testing.T, g *gate.Gate) { g.Stop(t) },
		"SIGKILL": func(_ *testing.T, g *gate.Gate) { g.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, plan{caddyfile: crowdSite(), asItIs: true, crowded: true})
			c := s.gather(t)
			tr := c.work()
			s.letPass(2 * time.Second)
			tr.away.Store(true)
			end(t, s.gate)
			s.gate.StartAgain(t)
			s.letPass(time.Second)
			tr.away.Store(false)
			s.letPass(3 * time.Second)
			tr.done(t)
			c.wantAll(t)
			c.finish(t)
		})
	}
}

// letPass gives a crowd time.
func (s *stage) letPass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

// settledUsage looks until the gateway holds no more than base, or does not
// change any more; connections to the provider are kept for a while.
func (s *stage) settledUsage(t *testing.T, base gate.Usage) gate.Usage {
	t.Helper()
	const looks, patience = 100, 8
	last, same := gate.Usage{}, 0
	for range looks {
		now := s.gate.Usage(s.ctx, t)
		if now.Goroutines <= base.Goroutines && now.Descriptors <= base.Descriptors {
			return now
		}
		if same++; now != last {
			last, same = now, 0
		}
		if base == (gate.Usage{}) && same == patience {
			return now
		}
		s.letPass(time.Second)
	}
	return last
}
