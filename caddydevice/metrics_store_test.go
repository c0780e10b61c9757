// This file tests that the store's calls are counted and timed.

package caddydevice

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddydevice/device-auth/caddydevice/store"
	"github.com/caddydevice/device-auth/caddydevice/store/storetest"
)

// TestMeasuredStore: it is a store like any other, and each of its calls is
// counted by what came of it.
func TestMeasuredStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return measuredStore{store.NewMemory()} })
	for _, call := range []string{"get", "put", "delete", "find", "list", "mark", "marked", "lease", "release"} {
		for _, outcome := range []string{"ok", "closed"} {
			if n := scrape(t, "store_call_duration_seconds", "call="+call, "outcome="+outcome); n == 0 {
				t.Errorf("no %s is counted as %s", call, outcome)
			}
		}
	}
}

func TestStoreOutcomes(t *testing.T) {
	for want, err := range map[string]error{
		"ok": nil, "damaged": store.ErrDamaged, "not_found": store.ErrNotFound, "conflict": fmt.Errorf("put: %w", store.ErrConflict),
		"closed": store.ErrClosed, "canceled": context.Canceled, "timeout": context.DeadlineExceeded, "failed": errors.New("disk"),
	} {
		if got := storeOutcome(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}

// TestStoreCallTime: a call is timed, not only counted.
func TestStoreCallTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sum := func() float64 {
			registry := prometheus.NewPedanticRegistry()
			registry.MustRegister(metrics.storeCalls)
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			total := 0.
			for _, family := range families {
				for _, m := range family.GetMetric() {
					if strings.Contains(m.String(), `"find"`) {
						total += m.GetHistogram().GetSampleSum()
					}
				}
			}
			return total
		}
		before := sum()
		if _, err := (measuredStore{lateStore{}}).Find(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if took := sum() - before; took < 1.9 || took > 2.1 {
			t.Errorf("it took %v s", took)
		}
	})
}

// lateStore takes its time.
type lateStore struct{ store.Store }

func (lateStore) Find(context.Context, store.Index) ([]string, error) {
	time.Sleep(2 * time.Second)
	return nil, nil
}
