// This file tests how lives end in the bolt store, and its sweep.

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBoltSweep: what is past its life goes, in portions, and nothing else.
func TestBoltSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ctx := newBolt(t), context.Background()
		const many = sweepPortion + 100
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				name := fmt.Sprint(i)
				ix := NewIndex("sub", name)
				if err := errors.Join(b.Put(ctx, testRecord(name, time.Second, ix)), b.Mark(ctx, ix, time.Second)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		long := testRecord("long", time.Second, "x") // its first life ends, its second does not
		again := testRecord("long", time.Hour, "x")
		again.Version = 2
		if err := errors.Join(b.Put(ctx, long), b.Put(ctx, again), b.Mark(ctx, "x", time.Second), b.Mark(ctx, "x", time.Hour)); err != nil {
			t.Fatal(err)
		}
		if n := b.count(t); n["records"] != many+1 || n["marks"] != many+1 || n["indexes"] != many+1 || n["ends"] != 2*(many+1) {
			t.Fatalf("before: %v", n)
		}

		time.Sleep(sweepEvery)
		last := 2 * (many + 1)
		for i := range 4 {
			if err := b.Delete(ctx, "no such"); err != nil { // any write will do
				t.Fatal(err)
			}
			synctest.Wait()
			n := b.count(t)["ends"]
			if last-n > sweepPortion {
				t.Errorf("sweep %d took %d at once", i, last-n)
			}
			last = n
		}
		if n := b.count(t); n["records"] != 1 || n["marks"] != 1 || n["indexes"] != 1 || n["ends"] != 2 {
			t.Errorf("after: %v", n)
		}
		if _, err := b.Get(ctx, "long"); err != nil {
			t.Error(err)
		}
		if at, err := b.Marked(ctx, "x"); at.IsZero() || err != nil {
			t.Error(at, err)
		}
	})
}

// TestBoltLivesAreExact to the nanosecond, and the sweep takes nothing early.
func TestBoltLivesAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ctx := newBolt(t), context.Background()
		const life = time.Minute + 500*time.Microsecond
		if err := errors.Join(b.Put(ctx, testRecord("a", life)), b.Mark(ctx, "x", life)); err != nil {
			t.Fatal(err)
		}
		alive := func() (n int) {
			if _, err := b.Get(ctx, "a"); err == nil {
				n++
			}
			if at, _ := b.Marked(ctx, "x"); !at.IsZero() {
				n++
			}
			return n
		}
		time.Sleep(life - time.Nanosecond)
		if err := b.Delete(ctx, "no such"); err != nil { // and a sweep
			t.Fatal(err)
		}
		synctest.Wait()
		if n := alive(); n != 2 {
			t.Errorf("%d of 2 live a nanosecond before their end", n)
		}
		time.Sleep(time.Nanosecond)
		if n := alive(); n != 0 {
			t.Errorf("%d of 2 live at their end", n)
		}
		time.Sleep(sweepEvery)
		if err := b.Delete(ctx, "no such"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := b.count(t); n["records"]+n["marks"]+n["ends"] != 0 {
			t.Errorf("a sweep too early has forgotten them: %v", n)
		}
	})
}
