// This file tests the metrics: what is counted, and that a reload loses none.

package caddydevice

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/idptest"
	"github.com/caddydevice/device-auth/caddydevice/internal/keeper"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// sample reads one series of a registry: its value, or how much a histogram
// has observed. labels are like "issuer=https://…". ok is false where there is
// no such series.
func sample(t *testing.T, registry *prometheus.Registry, name string, labels ...string) (value float64, ok bool) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(labels)
	for _, family := range families {
		if family.GetName() != "caddy_device_auth_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			var has []string
			for _, pair := range m.GetLabel() {
				has = append(has, pair.GetName()+"="+pair.GetValue())
			}
			if slices.Equal(has, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()), true
			}
		}
	}
	return 0, false
}

// scrape reads a series as a configuration's registry has it.
func scrape(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	for range 2 { // also where they are registered already
		if err := metrics.register(registry); err != nil {
			t.Fatal(err)
		}
	}
	value, _ := sample(t, registry, name, labels...)
	return value
}

// decisions are the decisions about this gate's requests so far. They are read
// from their own collector: all series of all tests take a while to gather.
func (g *gate) decisions() map[string]float64 {
	g.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(metrics.requests); err != nil {
		g.t.Fatal(err)
	}
	all := map[string]float64{}
	for _, name := range decisionNames {
		if n, _ := sample(g.t.(*testing.T), registry, "requests_total", "issuer="+g.engine.issuer, "decision="+name); n > 0 {
			all[name] = n
		}
	}
	return all
}

// TestDecisions: every request is counted once, as what it came to.
func TestDecisions(t *testing.T) {
	g := newGate(t, map[string]any{
		"match":   []any{map[string]any{"path": []string{"/hello*", "/.device/*"}}},
		"limits":  map[string]any{"starts": map[string]any{"count": 5, "per": "1h"}},
		"require": []any{map[string]any{"claim": "preferred_username", "values": []string{"alice"}}},
	})
	alice, pending, ended, bob := g.terminal(), g.begun(curlHeaders), g.begun(curlHeaders), g.begun(curlHeaders)
	g.end(ended, session.Denied, session.Declined)
	g.approve(bob, map[string]any{"preferred_username": "bob"})
	kiosk := g.begun(browserHeaders)
	g.approve(kiosk, nil)
	here := t.Context()
	hungUp, hangUp := context.WithCancel(here)
	hangUp()
	for _, row := range []struct {
		name string
		req  request
		ctx  context.Context
		want string
	}{
		{"a stream", request{target: "/.device/login", header: bearer(pending)}, hungUp, "instructions"},
		{"held", request{target: "/hello", header: with(bearer(pending), "Prefer", "wait=9")}, hungUp, "gone"},
		{"signed in", request{target: "/hello", header: bearer(alice)}, here, "let_through"},
		{"not protected", request{target: "/other", header: curlHeaders}, here, "not_protected"},
		{"a sign-in under way", request{target: "/hello", header: bearer(pending)}, here, "instructions"},
		{"its QR code", request{target: "/.device/qr.svg", header: bearer(pending)}, here, "answered"},
		{"a wait", request{target: "/.device/wait?timeout=0", header: bearer(pending)}, here, "instructions"},
		{"a key that is over", request{target: "/hello", header: bearer(ended)}, here, "refused"},
		{"a wait for it", request{target: "/.device/wait", header: bearer(ended)}, here, "answered"},
		{"may not start", request{method: http.MethodHead, target: "/hello", header: curlHeaders}, here, "refused"},
		{"not for him", request{target: "/hello", header: bearer(bob)}, here, "forbidden"},
		{"too many", request{target: "/hello", header: curlHeaders}, here, "limited"},
		{"no such path", request{target: "/.device/nothing", header: curlHeaders}, here, "invalid"},
		{"the claim", request{target: "/hello", header: g.cookieOf(browserHeaders, kiosk)}, here, "answered"},
		{"who is it", request{target: "/.device/session", header: bearer(alice)}, here, "answered"},
		{"the key for a tool", request{target: "/.device/session?format=curl", header: bearer(alice)}, here, "answered"},
		{"sign-out", request{method: http.MethodPost, target: "/.device/logout", header: bearer(alice)}, here, "answered"},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := g.decisions()
			g.doIn(row.ctx, row.req)
			after := g.decisions()
			for name := range after {
				after[name] -= before[name]
				if after[name] == 0 {
					delete(after, name)
				}
			}
			if len(after) != 1 || after[row.want] != 1 {
				t.Errorf("counted as %v, want %s", after, row.want)
			}
		})
	}
	if n := scrape(t, "limited_total", "issuer="+g.engine.issuer, "limit=client"); n != 1 {
		t.Errorf("%v held up by the client's limit, want 1", n)
	}
}

// TestDecisionsInTrouble: what is nobody's fault in front of the gate.
func TestDecisionsInTrouble(t *testing.T) {
	for name, row := range map[string]struct {
		reply   idptest.Reply
		outcome string
	}{
		"refuses this client": {idptest.Error(http.StatusUnauthorized, "invalid_client"), "refused"},
		"does not work":       {idptest.Reply{Status: http.StatusInternalServerError}, "unavailable"},
		"wants to be alone":   {idptest.Reply{Status: http.StatusTooManyRequests}, "busy"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, nil)
			g.idp.Device = func(int) idptest.Reply { return row.reply }
			g.do(request{target: "/hello", header: curlHeaders})
			if got := g.decisions(); len(got) != 1 || got["unavailable"] != 1 {
				t.Errorf("counted as %v", got)
			}
			if n := scrape(t, "authorization_duration_seconds", "issuer="+g.engine.issuer, "outcome="+row.outcome); n != 1 {
				t.Errorf("%v requests that came to %s", n, row.outcome)
			}
			if n := scrape(t, "sign_ins_started_total", "issuer="+g.engine.issuer); n != 0 {
				t.Errorf("%v sign-ins started", n)
			}
		})
	}
}

// TestLimitNames: each limit is counted under its own name.
func TestLimitNames(t *testing.T) {
	one := map[string]any{"count": 1, "per": "1h"}
	for name, row := range map[string]struct {
		cfg, app map[string]any
		want     limit
	}{
		"of a client":        {map[string]any{"limits": map[string]any{"starts": one}}, nil, clientLimit},
		"of all":             {nil, map[string]any{"limits": map[string]any{"starts": one}}, allLimit},
		"sign-ins in all":    {nil, map[string]any{"limits": map[string]any{"pending": 1}}, pendingLimit},
		"waits in all":       {nil, map[string]any{"limits": map[string]any{"waits": 1}}, waitsLimit},
		"waits of a session": {nil, nil, waitsLimit},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, nil)
			cfg := map[string]any{"issuer": g.Issuer, "client_id": "other"}
			for k, v := range row.cfg {
				cfg[k] = v
			}
			g.Handler = provision(t, cfg, row.app)
			key := g.begun(curlHeaders)
			if row.want == waitsLimit {
				end, ok := g.beginWatch(nil, g.session(key))
				for i := 1; ok && i < mostWaits && row.app == nil; i++ {
					var more func()
					more, ok = g.beginWatch(nil, g.session(key))
					defer more()
				}
				if !ok {
					t.Fatal("cannot wait at all")
				}
				defer end()
				if n := scrape(t, "waits_open"); n < 1 {
					t.Errorf("%v waits are open", n)
				}
			}
			before := scrape(t, "limited_total", "issuer="+g.engine.issuer, "limit="+string(row.want))
			path := map[bool]string{true: "/.device/wait", false: "/hello"}[row.want == waitsLimit]
			header := map[bool]map[string]string{true: bearer(key), false: curlHeaders}[row.want == waitsLimit]
			if resp := g.do(request{target: path, header: header}); resp.StatusCode != http.StatusTooManyRequests {
				t.Fatalf("status %d: %s", resp.StatusCode, g.body)
			}
			if n := scrape(t, "limited_total", "issuer="+g.engine.issuer, "limit="+string(row.want)) - before; n != 1 {
				t.Errorf("%v counted for %s", n, row.want)
			}
		})
	}
}

// TestSignInOutcomes: what became of a sign-in is told by its state and reason,
// and is not counted where another node has decided it.
func TestSignInOutcomes(t *testing.T) {
	for _, row := range []struct {
		name    string
		state   session.State
		reason  session.Reason
		by      idp.Outcome
		outcome string // "" where it is not counted
	}{
		{"approved", session.Active, "", idp.Approved, "approved"},
		{"approved, by another node", session.Active, "", idp.Transient, ""},
		{"declined", session.Denied, session.Declined, idp.Denied, "declined"},
		{"declined, by another node", session.Denied, session.Declined, idp.Transient, ""},
		{"wrong account", session.Denied, session.WrongAccount, idp.Denied, "wrong_account"},
		{"expired", session.Expired, session.CodeExpired, idp.Expired, "code_expired"},
		{"the provider", session.Failed, session.ProviderError, idp.Failed, "failed"},
		{"forgotten", session.Failed, session.Forgotten, idp.Invalid, "forgotten"},
		{"bad tokens", session.Failed, session.BadTokens, idp.Failed, "bad_tokens"},
		{"another code", session.Ended, session.Replaced, idp.Transient, "given_up"},
		{"sign-out", session.Ended, session.SignedOut, idp.Transient, "given_up"},
		{"crowded out", session.Ended, session.CrowdedOut, idp.Expired, "crowded_out"},
		{"record is gone", session.Pending, "", idp.Transient, "lost"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGate(t, nil)
			key := g.begun(curlHeaders)
			s := g.session(key)
			switch row.state {
			case session.Pending:
			case session.Active:
				g.approve(key, nil)
			default:
				if err := s.End(t.Context(), row.state, row.reason); err != nil {
					t.Fatal(err)
				}
			}
			g.engine.settled(s, keeper.Result{Outcome: row.by, Err: errors.New("why")})
			counted := ""
			for _, o := range signInEnds {
				if scrape(t, "sign_ins_ended_total", "issuer="+g.engine.issuer, "outcome="+o.outcome) > 0 {
					counted = o.outcome
				}
			}
			if counted != row.outcome {
				t.Errorf("counted as %q, want %q", counted, row.outcome)
			}
		})
	}
}

// TestGauges: what is open is read from the engines when somebody asks.
func TestGauges(t *testing.T) {
	g := newGate(t, nil)
	issuer := "issuer=" + g.engine.issuer
	g.terminal()
	g.begun(curlHeaders)
	g.begun(curlHeaders)
	other := &gate{t: t, idp: g.idp, Handler: provision(t, map[string]any{"issuer": g.Issuer, "client_id": "other"}, nil)}
	other.begun(curlHeaders)
	g.kiosk()
	// the keeper has not noticed yet that two of them were approved, and the
	// browser has not used its new key
	if pending, sessions := scrape(t, "sign_ins_pending", issuer), scrape(t, "sessions_active", issuer); pending != 5 || sessions != 1 {
		t.Errorf("%v pending, %v active", pending, sessions)
	}
	if n := scrape(t, "sign_ins_started_total", issuer); n != 5 {
		t.Errorf("%v started", n)
	}
}

// TestRefreshesAndEnds are counted by what came of them, and why.
func TestRefreshesAndEnds(t *testing.T) {
	g := newGate(t, nil)
	s := g.session(g.terminal())
	issuer := "issuer=" + g.engine.issuer
	for _, outcome := range []string{
		keeper.Refreshed, keeper.RefreshRefused, keeper.RefreshLost, keeper.RefreshOther, keeper.RefreshUntrusted,
		keeper.RefreshFailed, keeper.RefreshBusy, keeper.RefreshNotRecorded,
	} {
		g.engine.refreshed(s, keeper.Refresh{Outcome: outcome, Took: time.Second, Err: errors.New("why")})
		if n := scrape(t, "refresh_duration_seconds", issuer, "outcome="+outcome); n != 1 {
			t.Errorf("%s: %v", outcome, n)
		}
	}
	for outcome, err := range map[string]error{revokedOutcome: nil, notRevokedOutcome: errors.New("why")} {
		before := scrape(t, "revocations_total", issuer, "outcome="+outcome)
		g.engine.revoked(err)
		if n := scrape(t, "revocations_total", issuer, "outcome="+outcome) - before; n != 1 {
			t.Errorf("%v of %s", n, outcome)
		}
	}
	if err := s.End(t.Context(), session.Ended, session.SignedOut); err != nil {
		t.Fatal(err)
	}
	if n := scrape(t, "sessions_ended_total", issuer, "reason=signed_out"); n != 1 {
		t.Errorf("%v ended", n)
	}
}

// TestIssuerThatIsNoText: a label must be UTF-8, an issuer from a file may be
// anything.
func TestIssuerThatIsNoText(t *testing.T) {
	e := newEngine(engineKey{store: "memory", issuer: "https://idp.example/\xff", clientID: "gate"}, newIDPClient(t), store.NewMemory())
	defer func() {
		e.keeper.Close()
		e.table.Close()
	}()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.started)
	if _, ok := sample(t, registry, "sign_ins_started_total", "issuer=https://idp.example/\uFFFD"); !ok {
		t.Error("it is not counted")
	}
}

func newIDPClient(t *testing.T) *idp.Client {
	t.Helper()
	c, err := idp.New(idp.Config{Issuer: "https://idp.example", ClientID: "gate"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMetricsOverReloads: each configuration has a registry of its own, and
// what was counted before is in it.
func TestMetricsOverReloads(t *testing.T) {
	r := startCaddy(t)
	issuer := "issuer=" + r.idp.Issuer
	for i := range 3 {
		r.get("/", "")
		ctx := caddy.ActiveContext()
		registry := ctx.GetMetricsRegistry()
		if n, ok := sample(t, registry, "sign_ins_started_total", issuer); !ok || n != float64(i+1) {
			t.Errorf("after %d reloads %v sign-ins were started", i, n)
		}
		if n, ok := sample(t, registry, "sign_ins_pending", issuer); !ok || n != float64(i+1) {
			t.Errorf("after %d reloads %v sign-ins are under way", i, n)
		}
		for name, label := range map[string]string{
			"sign_ins_ended_total": "outcome=approved", "limited_total": "limit=all", "sessions_ended_total": "reason=idle", "refresh_duration_seconds": "outcome=refreshed",
		} {
			if n, ok := sample(t, registry, name, issuer, label); !ok || n != 0 {
				t.Errorf("after %d reloads %s is %v, %t: it does not begin at 0", i, name, n, ok)
			}
		}
		if err := r.load(fmt.Sprintf("clock_skew %ds", i+1)); err != nil {
			t.Fatal(err)
		}
	}
}
