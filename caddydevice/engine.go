// This file holds the engine of one identity provider: its session table and
// its keeper, pooled so that a reload finds them as they were.

package caddydevice

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
	"github.com/caddydevice/device-auth/caddydevice/internal/keeper"
	"github.com/caddydevice/device-auth/caddydevice/internal/session"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

var (
	stores  = caddy.NewUsagePool() // by StoreOpener.StoreKey
	engines = caddy.NewUsagePool() // by engineKey
)

// engineKey is what makes two gates share their sign-ins.
type engineKey struct{ store, issuer, clientID string }

// provider is how records name the identity provider and the client.
func (k engineKey) provider() string { return k.issuer + " " + k.clientID }

type engine struct {
	store  store.Store
	table  *session.Table
	keeper *keeper.Keeper
	issuer string // as a label
	traces traces
	logger atomic.Pointer[zap.Logger]

	// bindings are the configurations that use the engine, the newest last:
	// its client and its logger are the engine's. While one is replaced there
	// are two, and where the new one fails to start the old one goes on.
	mu       sync.Mutex
	bindings []binding

	storeKey string
	// resting is until when the identity provider asked to be left alone,
	// Unix nanoseconds.
	resting atomic.Int64
	trouble *rate.Sometimes // how often the log tells of it
}

// binding is what of a configuration can change without a new engine.
type binding struct {
	app    *App
	cfg    idp.Config
	client *idp.Client
	logger *zap.Logger
}

// bind puts a configuration's client and logger in place. One that is equal to
// the client in use is left out, so that a reload does not lose what that has
// learned of the identity provider.
func (e *engine) bind(b binding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.bindings); n > 0 && len(differingFields(e.bindings[n-1].cfg, b.cfg)) == 0 {
		b.client = e.bindings[n-1].client
	}
	e.bindings = append(e.bindings, b)
	e.useNewest()
}

// unbind takes a configuration's away, if it was bound, and lets go of its
// connections, unless its client is still in use.
func (e *engine) unbind(app *App) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := slices.Clone(e.bindings)
	e.bindings = slices.DeleteFunc(e.bindings, func(b binding) bool { return b.app == app })
	e.useNewest()
	for _, b := range was {
		if b.app == app && b.client != e.keeper.Client() {
			b.client.Close()
		}
	}
}

// useNewest leaves the last one in place where there is none: requests that
// are under way go on.
func (e *engine) useNewest() {
	if n := len(e.bindings); n > 0 {
		e.keeper.Use(e.bindings[n-1].client)
		e.logger.Store(e.bindings[n-1].logger)
	}
}

// pooledStore closes a store with its last user.
type pooledStore struct{ store.Store }

func (p pooledStore) Destruct() error { return p.Close() }

// acquireEngine returns the pooled engine, making it first where there is
// none. The maker opens nothing that others could notice.
func acquireEngine(key engineKey, client *idp.Client, opener StoreOpener) (*engine, error) {
	val, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		st, _, err := stores.LoadOrNew(key.store, func() (caddy.Destructor, error) {
			st, err := opener.OpenStore()
			return pooledStore{measuredStore{st}}, err
		})
		if err != nil {
			return nil, err
		}
		return newEngine(key, client, st.(pooledStore).Store), nil
	})
	if err != nil {
		return nil, err
	}
	return val.(*engine), nil
}

func releaseEngine(key engineKey) error {
	_, err := engines.Delete(key)
	return err
}

func newEngine(key engineKey, client *idp.Client, st store.Store) *engine {
	e := &engine{storeKey: key.store, issuer: labelOf(key.issuer), traces: newTraces(), store: st, table: session.NewTable(st, key.provider())}
	metrics.prepare(e.issuer)
	e.logger.Store(zap.NewNop()) // until a configuration has started
	e.trouble = &rate.Sometimes{First: 3, Interval: troubleEvery}
	e.keeper = keeper.New(client, keeper.Config{
		Table: e.table, Store: st, Polled: e.polled, Settled: e.settled, Refreshed: e.refreshed, Ended: e.ended, Revoked: e.revoked,
	})
	return e
}

// Destruct implements caddy.Destructor.
func (e *engine) Destruct() error {
	e.keeper.Close()
	e.keeper.Client().Close()
	e.table.Close()
	_, err := stores.Delete(e.storeKey)
	return err
}

// mostRest bounds what an identity provider can ask for: one client's request
// that something in between did not like must not keep everybody out for a day.
const mostRest = 10 * time.Minute

// rest stops new sign-ins until the identity provider wants to be asked again.
func (e *engine) rest(d time.Duration) {
	e.resting.Store(time.Now().Add(min(d, mostRest)).UnixNano())
}

// restLeft is for how long no sign-in can be started.
func (e *engine) restLeft() time.Duration {
	return max(0, time.Duration(e.resting.Load()-time.Now().UnixNano()))
}

// unaskedFor is for how long nobody must have asked about a sign-in before it
// is given up for another one.
const unaskedFor = time.Minute

// roomTries bounds how often makeRoom looks for another sign-in where somebody
// else was faster.
const roomTries = 4

// makeRoom gives up the oldest sign-in of the process that nobody asks about,
// and reports whether there was one.
func makeRoom(ctx context.Context) bool {
	for range roomTries {
		owner, oldest := oldestUnasked()
		if oldest == nil {
			return false
		}
		if owner.keeper.GiveUp(ctx, oldest) {
			return true
		}
	}
	return false
}

func roomCanBeMade() bool {
	_, oldest := oldestUnasked()
	return oldest != nil
}

// oldestUnasked is the oldest sign-in of the process that nobody asks about, and
// whose it is; nil where there is none.
func oldestUnasked() (owner *engine, oldest *session.Session) {
	engines.Range(func(_, val any) bool {
		e := val.(*engine)
		if s := e.keeper.Oldest(unaskedFor); s != nil && (oldest == nil || s.Created().Before(oldest.Created())) {
			owner, oldest = e, s
		}
		return true
	})
	return owner, oldest
}

// signInsUnderWay counts them over all engines of the process.
func signInsUnderWay() int {
	n := 0
	engines.Range(func(_, val any) bool {
		n += val.(*engine).keeper.Pending()
		return true
	})
	return n
}
