// This file tests the events: what is told when, in order, over reloads, and
// that a slow handler holds up nobody.

package caddydevice

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	_ "github.com/caddyserver/caddy/v2/modules/caddyevents/eventsconfig" // the global option

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/keeper"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

func init() {
	caddy.RegisterModule(hearEvents{})
}

// hearEvents is an event handler that remembers what it hears.
type hearEvents struct{}

// heard is what any hearEvents has heard.
var heard eventLog

type eventLog struct {
	mu     sync.Mutex
	events []string
	more   chan struct{}
}

func (hearEvents) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.device_auth_test", New: func() caddy.Module { return new(hearEvents) }}
}

func (hearEvents) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (hearEvents) Handle(_ context.Context, e caddy.Event) error {
	if !strings.HasPrefix(e.Name(), "device_auth") {
		return nil
	}
	if e.Origin() == nil || e.Origin().CaddyModule().ID != "device_auth" {
		return fmt.Errorf("an event of %v", e.Origin())
	}
	heard.add(e.Name(), e.Data)
	return nil
}

func (l *eventLog) add(name string, data map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	words := []string{name}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		words = append(words, fmt.Sprintf("%s=%v", key, data[key]))
	}
	l.events = append(l.events, strings.Join(words, " "))
	if l.more != nil {
		l.more <- struct{}{}
	}
}

// reset forgets what was heard; more is sent something for each event from now
// on.
func (l *eventLog) reset() (more chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events, l.more = nil, make(chan struct{}, eventsWaiting)
	return l.more
}

func (l *eventLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// TestEvents: a running Caddy's handlers hear of each sign-in, in order, also
// after reloads.
func TestEvents(t *testing.T) {
	more := heard.reset()
	r := startCaddy(t)
	r.options = "events {\n on * device_auth_test\n }"
	r.idp.Device = everySecond(r.idp)
	var want []string
	for i := range 3 {
		if err := r.load(fmt.Sprintf("clock_skew %ds", i+1)); err != nil {
			t.Fatal(err)
		}
		_, answer, _ := r.get("/", "")
		key, _ := answer["session"].(string)
		k, ok := session.ParseKey(key)
		if !ok {
			t.Fatalf("no sign-in: %v", answer)
		}
		common := " kind=terminal session=" + k.ID().Short() + " site=127.0.0.1"
		want = append(want, "device_auth_started client_ip=127.0.0.1 issuer="+r.idp.Issuer+common)
		<-more
		r.idp.Approve(fmt.Sprintf("device-canary-%d", i+1))
		want = append(want, "device_auth_approved issuer="+r.idp.Issuer+common+" subject=sub-alice")
		<-more
	}
	if got := heard.all(); !slices.Equal(got, want) {
		t.Errorf("heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestEventOfEach: what is told of each step.
func TestEventOfEach(t *testing.T) {
	ended := func(state session.State, reason session.Reason) func(*gate, *session.Session, string) {
		return func(g *gate, s *session.Session, key string) {
			g.end(key, state, reason)
			g.engine.settled(s, keeper.Result{Outcome: idp.Denied})
		}
	}
	for _, row := range []struct {
		name     string
		signedIn bool
		does     func(g *gate, s *session.Session, key string)
		event    string
		data     string // besides session, kind, site and issuer
	}{
		{"approved", true, func(g *gate, s *session.Session, _ string) {
			g.engine.settled(s, keeper.Result{Outcome: idp.Approved})
		}, approvedEvent, "subject=sub-alice"},
		{"declined", false, ended(session.Denied, session.Declined), deniedEvent, "reason=declined"},
		{"wrong account", false, ended(session.Denied, session.WrongAccount), deniedEvent, "reason=wrong_account"},
		{"expired", false, ended(session.Expired, session.CodeExpired), expiredEvent, "reason=code_expired"},
		{"forgotten", false, ended(session.Failed, session.Forgotten), failedEvent, "reason=forgotten"},
		{"bad tokens", false, ended(session.Failed, session.BadTokens), failedEvent, "reason=tokens"},
		{"refused", false, ended(session.Failed, session.ProviderError), failedEvent, "reason=provider"},
		{"another code", false, ended(session.Ended, session.Replaced), endedEvent, "reason=replaced"},
		{"signed out early", false, ended(session.Ended, session.SignedOut), endedEvent, "reason=signed_out"},
		{"crowded out", false, ended(session.Ended, session.CrowdedOut), endedEvent, "reason=crowded"},
		{"record is gone", false, func(g *gate, s *session.Session, _ string) {
			g.engine.settled(s, keeper.Result{})
		}, endedEvent, "reason="},
		{"refreshed", true, func(g *gate, s *session.Session, _ string) {
			g.engine.refreshed(s, keeper.Refresh{Outcome: "refreshed", Took: time.Second})
		}, refreshedEvent, "subject=sub-alice"},
		{"not refreshed yet", true, func(g *gate, s *session.Session, _ string) {
			g.engine.refreshed(s, keeper.Refresh{Outcome: "failed", Took: time.Second, Err: errors.New("why")})
		}, "", ""},
		{"ended", true, func(g *gate, _ *session.Session, key string) {
			g.end(key, session.Ended, session.IdleTooLong)
		}, endedEvent, "reason=idle subject=sub-alice"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g, events := newBoundGate(t)
			key := g.begun(curlHeaders)
			if row.signedIn {
				g.approve(key, nil)
			}
			row.does(g, g.session(key), key)
			about := "issuer=" + g.engine.issuer + " kind=terminal session=" + g.session(key).ID().Short() + " site=api.example.com"
			want := []string{"device_auth_started client_ip=192.0.2.1 " + about}
			if row.event != "" {
				words := strings.Split(about+" "+row.data, " ")
				slices.Sort(words)
				want = append(want, row.event+" "+strings.Join(words, " "))
			}
			if got := events(); !slices.Equal(got, want) {
				t.Errorf("heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestEventOfLimit: who is held up by one, and where.
func TestEventOfLimit(t *testing.T) {
	g, events := newBoundGate(t)
	g.begun(curlHeaders)
	g.do(request{target: "/hello", header: curlHeaders})
	want := "device_auth_limited client_ip=192.0.2.1 issuer=" + g.engine.issuer + " limit=client site=api.example.com"
	if got := events(); len(got) != 2 || got[1] != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// TestEventOfClaim: a browser's session can be followed over the change of its
// key, which is told once however often the new one is given.
func TestEventOfClaim(t *testing.T) {
	g, events := newBoundGate(t)
	old := g.begun(browserHeaders)
	g.approve(old, nil)
	before := g.session(old).ID().Short()
	var key string
	for range 2 {
		key = g.setCookie(g.do(request{target: "/hello", header: g.cookieOf(browserHeaders, old)}))
	}
	want := "device_auth_claimed before=" + before + " issuer=" + g.engine.issuer + " kind=browser session=" + g.session(key).ID().Short() + " site=api.example.com"
	if got := events(); len(got) != 2 || got[1] != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// TestNewestConfigurationEmits: of two that an engine serves during a reload,
// and the one before where the new one has failed.
func TestNewestConfigurationEmits(t *testing.T) {
	g, _ := newBoundGate(t)
	first := g.engine.bindings[0].app.events
	second := &App{events: newTestEmitter(t, func(caddy.Event) {})}
	g.engine.bind(binding{app: second, client: g.engine.keeper.Client(), logger: zap.NewNop()})
	g.engine.emit(limitedEvent, nil)
	if len(first.queue) != 0 || len(second.events.queue) != 1 {
		t.Error("the newest does not emit")
	}
	g.engine.unbind(second)
	g.engine.emit(limitedEvent, nil)
	if len(first.queue) != 1 {
		t.Error("the one before does not emit again")
	}
}

// newBoundGate is a gate that lets a client start once, in a configuration
// that emits. events ends that and returns what was heard.
func newBoundGate(t *testing.T) (g *gate, events func() []string) {
	t.Helper()
	var log eventLog
	e := newTestEmitter(t, func(ev caddy.Event) { log.add(ev.Name(), ev.Data) })
	g = newGate(t, map[string]any{"limits": map[string]any{"starts": map[string]any{"count": 1, "per": "1h"}}})
	g.engine.bind(binding{app: &App{events: e}, client: g.engine.keeper.Client(), logger: zap.NewNop()})
	return g, func() []string {
		t.Helper()
		e.start()
		if err := e.Handle(t.Context(), caddy.Event{}); err != nil {
			t.Fatal(err)
		}
		e.stop()
		return log.all()
	}
}

// newTestEmitter is one whose events that handler hears. It is neither started
// nor told that all apps are.
func newTestEmitter(t *testing.T, handle handlerFunc) *emitter {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Logging: quiet, Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(ctx)
	t.Cleanup(cancel)
	app, err := ctx.App("events")
	if err != nil {
		t.Fatal(err)
	}
	if err := app.(*caddyevents.App).On("", handle); err != nil {
		t.Fatal(err)
	}
	e, err := newEmitter(ctx, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

type handlerFunc func(caddy.Event)

func (f handlerFunc) Handle(_ context.Context, e caddy.Event) error {
	f(e)
	return nil
}

// TestEventsWaitForTheirHandlers: none is emitted before the events app has
// started, which it may do last.
func TestEventsWaitForTheirHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := 0
		e := newTestEmitter(t, func(caddy.Event) { heard++ })
		e.start()
		e.send(event{name: startedEvent})
		synctest.Wait()
		if heard != 0 {
			t.Error("emitted before all apps have started")
		}
		for range 2 { // a second word changes nothing
			if err := e.Handle(t.Context(), caddy.Event{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if heard != 1 {
			t.Errorf("%d events after that", heard)
		}
		e.stop()
	})
}

// TestSlowHandler holds up nobody: what is too much is dropped and counted, and
// the end of the configuration waits for a while only.
func TestSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		var names []string
		e := newTestEmitter(t, func(ev caddy.Event) {
			<-slow
			names = append(names, ev.Name())
		})
		e.start()
		if err := e.Handle(t.Context(), caddy.Event{}); err != nil {
			t.Fatal(err)
		}
		before, begun := scrape(t, "events_dropped_total"), time.Now()
		for i := range eventsWaiting + 8 {
			e.send(event{name: fmt.Sprint("event_", i)})
			if i == 0 {
				synctest.Wait() // the handler has it
			}
		}
		if n := scrape(t, "events_dropped_total") - before; n != 7 {
			t.Errorf("%v dropped, want 7", n)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("sending took %v", took)
		}
		e.stop()
		if took := time.Since(begun); took != eventsGrace {
			t.Errorf("the end took %v", took)
		}
		close(slow)
		<-e.done
		for i, name := range names {
			if name != fmt.Sprint("event_", i) {
				t.Fatalf("%s in place %d", name, i)
			}
		}
		if len(names) != eventsWaiting+1 {
			t.Errorf("%d heard", len(names))
		}
	})
}

// TestEventsEndWithTheirConfiguration: nothing is emitted after its end, and
// one that never quite started ends too.
func TestEventsEndWithTheirConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := 0
		slow := make(chan struct{})
		e := newTestEmitter(t, func(caddy.Event) {
			<-slow
			heard++
		})
		ctx, cancel := caddy.NewContext(e.ctx)
		e.ctx = ctx
		e.start()
		if err := e.Handle(t.Context(), caddy.Event{}); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			e.send(event{name: startedEvent})
		}
		e.stop()
		cancel()
		close(slow)
		<-e.done
		if heard != 1 {
			t.Errorf("%d heard, want only the one that was at work", heard)
		}
		never := newTestEmitter(t, func(caddy.Event) { t.Error("emitted") })
		never.start()
		never.send(event{name: startedEvent})
		never.stop()
		<-never.done
	})
}
