// This file holds the events: what handlers of Caddy's events app can hear of
// sign-ins and sessions, and the queue that keeps slow ones from holding up
// anybody.

package caddydevice

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// The events. Their data holds no codes, keys or tokens, and nothing of an
// identity provider's own words: Caddy logs it at debug level.
const (
	startedEvent   = "device_auth_started"   // session, kind, issuer, site, client_ip
	approvedEvent  = "device_auth_approved"  // session, kind, issuer, subject
	deniedEvent    = "device_auth_denied"    // session, kind, issuer, reason
	expiredEvent   = "device_auth_expired"   // session, kind, issuer, reason
	failedEvent    = "device_auth_failed"    // session, kind, issuer, reason
	claimedEvent   = "device_auth_claimed"   // session, kind, issuer, before: the session id that it had
	refreshedEvent = "device_auth_refreshed" // session, kind, issuer, subject
	endedEvent     = "device_auth_ended"     // session, kind, issuer, reason; subject, where somebody was signed in
	limitedEvent   = "device_auth_limited"   // issuer, limit, site, client_ip
)

const (
	// eventsWaiting is how many events may wait for their handlers.
	eventsWaiting = 1024
	// eventsGrace is how long the end of a configuration waits for them.
	eventsGrace = 5 * time.Second
)

// emitter emits the events of one configuration, in order, from a goroutine of
// its own: Caddy calls their handlers before Emit returns.
type emitter struct {
	ctx     caddy.Context
	events  *caddyevents.App
	logger  *zap.Logger
	drops   *rate.Sometimes
	queue   chan event
	once    sync.Once
	started chan struct{} // closed when all apps of the configuration have started
	closing chan struct{}
	done    chan struct{}
}

type event struct {
	name string
	data map[string]any
}

// newEmitter prepares an emitter; it emits from start to stop.
func newEmitter(ctx caddy.Context, logger *zap.Logger) (*emitter, error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, fmt.Errorf("getting events app: %w", err)
	}
	e := &emitter{
		ctx: ctx, events: app.(*caddyevents.App), logger: logger, drops: &rate.Sometimes{First: 1, Interval: troubleEvery},
		queue: make(chan event, eventsWaiting), started: make(chan struct{}), closing: make(chan struct{}), done: make(chan struct{}),
	}
	return e, e.events.On("started", e)
}

// Handle implements caddyevents.Handler, for Caddy's own event "started". Apps
// start in any order, and the events app takes no events before it has.
func (e *emitter) Handle(context.Context, caddy.Event) error {
	e.once.Do(func() { close(e.started) })
	return nil
}

func (e *emitter) start() { go e.run() }

// stop returns when all that was sent is emitted, or after a while: then the
// handler that is at work is the last.
func (e *emitter) stop() {
	close(e.closing)
	late := time.NewTimer(eventsGrace)
	defer late.Stop()
	select {
	case <-e.done:
	case <-late.C:
		e.logger.Warn("events are lost: their handlers are too slow", zap.Int("events", len(e.queue)))
	}
}

// send hands over an event. It never waits.
func (e *emitter) send(ev event) {
	select {
	case e.queue <- ev:
	default:
		metrics.eventsDropped.Inc()
		e.drops.Do(func() { e.logger.Warn("an event is lost: handlers are too slow", zap.String("event", ev.name)) })
	}
}

func (e *emitter) run() {
	defer close(e.done)
	select {
	case <-e.started:
	case <-e.closing:
		if !e.hasStarted() {
			return // another app of the configuration has failed to
		}
	}
	for {
		select {
		case ev := <-e.queue:
			e.emit(ev)
		case <-e.closing:
			e.drain()
			return
		}
	}
}

func (e *emitter) hasStarted() bool {
	select {
	case <-e.started:
		return true
	default:
		return false
	}
}

// drain emits what is left. After its context, a configuration emits nothing.
func (e *emitter) drain() {
	for e.ctx.Err() == nil {
		select {
		case ev := <-e.queue:
			e.emit(ev)
		default:
			return
		}
	}
}

func (e *emitter) emit(ev event) { e.events.Emit(e.ctx, ev.name, ev.data) }

// emit sends an event by the newest configuration of the engine, which may
// outlive several. Without one, nobody is there to hear it.
func (e *engine) emit(name string, data map[string]any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.bindings); n > 0 {
		e.bindings[n-1].app.events.send(event{name, data})
	}
}

// emitAbout is emit for an event about a session; more may have another id.
func (e *engine) emitAbout(name string, s *session.Session, more map[string]any) {
	data := map[string]any{"session": s.ID().Short(), "kind": string(s.Kind()), "site": s.Site(), "issuer": e.issuer}
	maps.Copy(data, more)
	e.emit(name, data)
}

// Interface guard
var _ caddyevents.Handler = (*emitter)(nil)
