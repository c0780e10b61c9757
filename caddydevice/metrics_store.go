// This file holds the store as the engine has it: every call is counted and
// timed.

package caddydevice

import (
	"context"
	"errors"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

// measuredStore is a store whose calls are metrics. Watch and Close, which wait
// for nobody, pass through.
type measuredStore struct{ store.Store }

// storeOutcomes name what a store said; the first that fits counts.
var storeOutcomes = []struct {
	err  error
	name string
}{
	{store.ErrDamaged, "damaged"}, // which is an ErrNotFound
	{store.ErrNotFound, "not_found"},
	{store.ErrConflict, "conflict"},
	{store.ErrClosed, "closed"},
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "timeout"},
}

func storeOutcome(err error) string {
	if err == nil {
		return "ok"
	}
	for _, row := range storeOutcomes {
		if errors.Is(err, row.err) {
			return row.name
		}
	}
	return "failed"
}

func noteStoreCall(call string, begun time.Time, err error) {
	metrics.storeCalls.WithLabelValues(call, storeOutcome(err)).Observe(time.Since(begun).Seconds())
}

// Get implements store.Store, as do the others.
func (m measuredStore) Get(ctx context.Context, id string) (store.Record, error) {
	begun := time.Now()
	rec, err := m.Store.Get(ctx, id)
	noteStoreCall("get", begun, err)
	return rec, err
}

func (m measuredStore) Put(ctx context.Context, rec store.Record) error {
	begun := time.Now()
	err := m.Store.Put(ctx, rec)
	noteStoreCall("put", begun, err)
	return err
}

func (m measuredStore) Delete(ctx context.Context, id string) error {
	begun := time.Now()
	err := m.Store.Delete(ctx, id)
	noteStoreCall("delete", begun, err)
	return err
}

func (m measuredStore) Find(ctx context.Context, index store.Index) ([]string, error) {
	begun := time.Now()
	ids, err := m.Store.Find(ctx, index)
	noteStoreCall("find", begun, err)
	return ids, err
}

func (m measuredStore) List(ctx context.Context, after string, limit int) ([]store.Record, error) {
	begun := time.Now()
	records, err := m.Store.List(ctx, after, limit)
	noteStoreCall("list", begun, err)
	return records, err
}

func (m measuredStore) Mark(ctx context.Context, index store.Index, life time.Duration) error {
	begun := time.Now()
	err := m.Store.Mark(ctx, index, life)
	noteStoreCall("mark", begun, err)
	return err
}

func (m measuredStore) Marked(ctx context.Context, index store.Index) (time.Time, error) {
	begun := time.Now()
	at, err := m.Store.Marked(ctx, index)
	noteStoreCall("marked", begun, err)
	return at, err
}

func (m measuredStore) Lease(ctx context.Context, name, holder string, life time.Duration) (bool, error) {
	begun := time.Now()
	got, err := m.Store.Lease(ctx, name, holder, life)
	noteStoreCall("lease", begun, err)
	return got, err
}

func (m measuredStore) Release(ctx context.Context, name, holder string) error {
	begun := time.Now()
	err := m.Store.Release(ctx, name, holder)
	noteStoreCall("release", begun, err)
	return err
}
