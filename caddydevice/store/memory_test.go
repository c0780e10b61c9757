// This file holds the memory store's tests: the contract, the exact moment at
// which a life ends, and the sweep.

package store_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
	"github.com/caddydevice/device-auth/caddydevice/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		m := store.NewMemory()
		t.Cleanup(func() { m.Close() })
		return m
	})
}

func TestLivesAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, m := context.Background(), store.NewMemory()
		ix := store.NewIndex("sub", "u")
		until := time.Now().Add(time.Second)
		if err := m.Put(ctx, store.Record{ID: "a", Version: 1, Until: until}); err != nil {
			t.Fatal(err)
		}
		if err := m.Mark(ctx, ix, time.Second); err != nil {
			t.Fatal(err)
		}
		if ok, err := m.Lease(ctx, "n", "one", time.Second); !ok || err != nil {
			t.Fatal(ok, err)
		}
		alive := func() (n int) {
			if _, err := m.Get(ctx, "a"); err == nil {
				n++
			}
			if at, _ := m.Marked(ctx, ix); !at.IsZero() {
				n++
			}
			if ok, _ := m.Lease(ctx, "n", "two", time.Nanosecond); !ok {
				n++
			}
			return n
		}
		time.Sleep(time.Second - time.Nanosecond)
		if n := alive(); n != 3 {
			t.Errorf("%d of 3 live a nanosecond before their end", n)
		}
		time.Sleep(time.Nanosecond)
		if n := alive(); n != 0 {
			t.Errorf("%d of 3 live at their end", n)
		}
	})
}

func TestIndexPartsDoNotRunTogether(t *testing.T) {
	seen := map[store.Index][]string{}
	for _, parts := range [][]string{
		{"sub"},
		{"sub", ""},
		{"sub", "", ""},
		{"sub", "ab", "c"},
		{"sub", "a", "bc"},
		{"sub", "abc"},
		{"sid", "ab", "c"},
		{"sub", "a\x00b", "c"},
		{"suba", "b", "c"},
	} {
		ix := store.NewIndex(parts[0], parts[1:]...)
		if other, ok := seen[ix]; ok {
			t.Errorf("%q and %q have the same index", parts, other)
		}
		seen[ix] = parts
	}
}
