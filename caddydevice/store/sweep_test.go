// This file holds the test that the memory store frees what is past its life.

package store

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, m := context.Background(), NewMemory()
		for i := range 100 {
			life := time.Second
			if i == 0 {
				life = time.Hour
			}
			name := fmt.Sprint(i)
			ix := NewIndex("sub", name)
			err := m.Put(ctx, Record{ID: name, Version: 1, Until: time.Now().Add(life), Indexes: []Index{ix}})
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Mark(ctx, ix, life); err != nil {
				t.Fatal(err)
			}
			if ok, err := m.Lease(ctx, name, "h", life); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		for _, write := range []struct {
			name string
			do   func()
		}{
			{"put", func() { _ = m.Put(ctx, Record{ID: "late", Version: 1, Until: time.Now()}) }},
			{"mark", func() { _ = m.Mark(ctx, "late", 0) }},
			{"lease", func() { _, _ = m.Lease(ctx, "late", "h", 0) }},
		} {
			time.Sleep(sweepEvery)
			write.do()
			m.mu.Lock()
			n := []int{len(m.records), len(m.indexes), len(m.marks), len(m.leases.all)}
			m.mu.Unlock()
			for _, kept := range n {
				if kept < 1 || kept > 2 { // the long one, and perhaps the late one
					t.Errorf("after %s: records, indexes, marks, leases: %v", write.name, n)
				}
			}
		}
	})
}
