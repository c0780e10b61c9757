// This file holds the app: what all gates of a Caddy share, and what outlives
// a reload.

package caddydevice

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App owns what the device_auth handlers share: the store, identity providers
// for use by name, and the limits on all handlers together. It needs no
// configuration.
type App struct {
	// Where sessions are kept. Default: bolt, a file in Caddy's data
	// directory.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=device_auth.stores inline_key=store"`

	// Identity providers for use by name: a handler's key provider. One that
	// no handler uses is checked all the same.
	Providers map[string]*Provider `json:"providers,omitempty"`

	// Bounds for all clients together.
	Limits *AppLimits `json:"limits,omitempty"`

	named  map[string]resolvedProvider
	ctx    caddy.Context // of the configuration, not of any request
	store  StoreOpener
	logger *zap.Logger
	events *emitter

	starts *rate.Limiter
	begun  atomic.Int64 // starts that wait for the identity provider
	waits  atomic.Int64 // open waits and streams

	mu      sync.Mutex
	engines map[engineKey]*boundEngine
	open    []openGate
}

// boundEngine is a pooled engine with this configuration's client for it.
type boundEngine struct {
	*engine
	provider resolvedProvider
	client   *idp.Client
	at       string // its first handler
}

// AppLimits bound all clients together.
type AppLimits struct {
	// Sign-ins under way. Default: 10000.
	Pending int `json:"pending,omitempty"`

	// New sign-ins, and codes that pages are renewed by. Default: 50 in 1s.
	Starts *Rate `json:"starts,omitempty"`

	// Open streams and waits. Default: 5000.
	Waits int `json:"waits,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "device_auth",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets up the app. Nothing is opened, and nobody asked.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.logger = ctx.Logger()
	a.engines = map[engineKey]*boundEngine{}
	if a.Limits == nil {
		a.Limits = new(AppLimits)
	}
	if a.Limits.Starts == nil {
		a.Limits.Starts = &Rate{Count: 50, Per: caddy.Duration(time.Second)}
	}
	defaultTo(&a.Limits.Pending, 10000)
	defaultTo(&a.Limits.Waits, 5000)
	if err := a.Limits.check(); err != nil {
		return fmt.Errorf("device_auth: limits %w", err)
	}
	if err := a.provisionProviders(); err != nil {
		return err
	}
	if err := metrics.register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	var err error
	if a.events, err = newEmitter(ctx, a.logger); err != nil {
		return err
	}
	a.starts = rate.NewLimiter(a.Limits.Starts.limit(), a.Limits.Starts.Count)
	return a.loadStore(ctx)
}

func (a *App) loadStore(ctx caddy.Context) error {
	var mod any
	var err error
	if a.StoreRaw == nil {
		mod, err = ctx.LoadModuleByID("device_auth.stores.bolt", nil)
	} else {
		mod, err = ctx.LoadModule(a, "StoreRaw")
	}
	if err != nil {
		return fmt.Errorf("device_auth: loading store: %w", err)
	}
	a.store = mod.(StoreOpener)
	return nil
}

func (l *AppLimits) check() error {
	switch {
	case l.Pending < 1:
		return fmt.Errorf("pending %d: must be at least 1", l.Pending)
	case l.Waits < 1:
		return fmt.Errorf("waits %d: must be at least 1", l.Waits)
	}
	if err := l.Starts.check(); err != nil {
		return fmt.Errorf("starts %w", err)
	}
	return nil
}

// engineFor returns the engine for an identity provider. Handlers that name
// the same issuer and client id share it, and so must agree on the rest. at is
// where the handler is, for the message to the next one.
func (a *App) engineFor(p resolvedProvider, at string) (*engine, error) {
	client, err := idp.New(p.Config)
	if err != nil {
		return nil, err
	}
	key := engineKey{store: a.store.StoreKey(), issuer: p.Issuer, clientID: p.ClientID}
	a.mu.Lock()
	defer a.mu.Unlock()
	if b, ok := a.engines[key]; ok {
		if differ := b.provider.differences(&p); len(differ) > 0 {
			return nil, fmt.Errorf("the gate%s has the same issuer %q and client_id %q, but another %s: they share their sign-ins, so make these lines equal, or let both name one provider of the global option",
				b.at, p.Issuer, p.ClientID, strings.Join(differ, ", "))
		}
		return b.engine, nil
	}
	e, err := acquireEngine(key, client, a.store)
	if err != nil {
		return nil, err
	}
	a.engines[key] = &boundEngine{engine: e, provider: p, client: client, at: at}
	return e, nil
}

// Start puts this configuration's clients in place of the previous one's, and
// says what an operator should know.
func (a *App) Start() error {
	if httpApp, err := a.ctx.AppIfConfigured("http"); err == nil {
		gates := allGates(httpApp.(*caddyhttp.App))
		if err := checkSites(gates); err != nil {
			return err
		}
		learnStripped(gates)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, b := range a.engines {
		b.bind(binding{app: a, cfg: b.provider.Config, client: b.client, logger: a.logger})
		a.logger.Info("gate is ready",
			zap.String("issuer", key.issuer), zap.String("client_id", key.clientID), zap.String("store", key.store),
			zap.String("session_ends", "where the identity provider gives no refresh token, with its access token; else it is refreshed"))
	}
	for _, gate := range a.open {
		gate.log(a.logger)
	}
	if len(a.engines) > 0 {
		if _, ok := a.store.(*MemoryStore); ok {
			a.logger.Warn("sessions are kept in memory: they end when Caddy stops")
		}
	}
	a.events.start()
	return nil
}

// Stop ends the configuration's events. Requests that are under way go on.
func (a *App) Stop() error {
	a.events.stop()
	return nil
}

// Cleanup lets go of the engines. They live on where another configuration has
// them too; where this one has failed to start, that goes on as before.
func (a *App) Cleanup() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	errs := make([]error, 0, len(a.engines))
	for key, b := range a.engines {
		b.unbind(a)
		errs = append(errs, releaseEngine(key))
	}
	a.engines = nil
	return errors.Join(errs...)
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
