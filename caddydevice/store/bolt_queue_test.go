// This file tests the bolt store's writes: shared syncs, contexts, a disk that
// refuses or hangs, and the end.

package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// TestBoltWritesShareSyncs: writes that come while one is on its way to the
// disk go there together.
func TestBoltWritesShareSyncs(t *testing.T) {
	b := newBolt(t)
	release := b.held(t)
	before := b.transactions(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if err := b.Put(context.Background(), testRecord(fmt.Sprint(i), time.Hour)); err != nil {
				t.Error(err)
			}
		})
	}
	b.queued(200)
	release()
	wg.Wait()
	if n := b.transactions(t) - before; n != 1 {
		t.Errorf("200 writes took %d transactions, want 1", n)
	}
	if n := b.count(t)["records"]; n != 201 {
		t.Errorf("%d records, want 201", n)
	}
}

// TestBoltOneWriteWaitsForNobody, and what changes nothing costs no sync.
func TestBoltOneWriteWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ctx := newBolt(t), context.Background()
		begin := time.Now()
		if err := errors.Join(b.Put(ctx, testRecord("a", time.Hour)), b.Mark(ctx, "x", time.Hour)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d != 0 { // the clock stands still while the disk works
			t.Errorf("slept for %v", d)
		}
		before := b.transactions(t)
		if err := b.Put(ctx, testRecord("a", time.Hour)); !errors.Is(err, ErrConflict) {
			t.Error(err)
		}
		if err := b.Delete(ctx, "never there"); err != nil {
			t.Error(err)
		}
		if n := b.transactions(t) - before; n != 0 {
			t.Errorf("nothing took %d transactions", n)
		}
	})
}

// TestBoltOneBadWrite does not fail those that it shares a transaction with.
func TestBoltOneBadWrite(t *testing.T) {
	b, ctx := newBolt(t), context.Background()
	release := b.held(t)
	var wg sync.WaitGroup
	results := map[string]error{}
	var mu sync.Mutex
	try := func(name string, w *write) {
		wg.Go(func() {
			err := b.write(ctx, w)
			mu.Lock()
			results[name] = err
			mu.Unlock()
		})
	}
	rec := testRecord("a", time.Hour)
	long := testRecord(strings.Repeat("x", bbolt.MaxKeySize+1), time.Hour)
	try("good", &write{change: put(rec), id: rec.ID})
	try("error", &write{change: put(long), id: long.ID})
	try("panic", &write{change: func(tx *bbolt.Tx) (bool, error) {
		_ = tx.Bucket(recordBucket).Put([]byte("half"), []byte("done"))
		panic("as bbolt does")
	}})
	b.queued(3)
	release()
	wg.Wait()
	if results["good"] != nil || results["error"] == nil || results["panic"] == nil {
		t.Errorf("%v", results)
	}
	if n := b.count(t)["records"]; n != 2 {
		t.Errorf("%d records, want 2: a failed write left some behind", n)
	}
	if err := b.Put(ctx, testRecord("b", time.Hour)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestBoltDoubt: a transaction that failed may be on the disk all the same. A
// write that was in it and is a conflict now is told, so that nobody keeps what
// was there before.
func TestBoltDoubt(t *testing.T) {
	b := newBolt(t)
	release := b.held(t)
	var wg sync.WaitGroup
	tries := 0
	wg.Go(func() {
		err := b.write(context.Background(), &write{id: "a", version: 2, change: func(*bbolt.Tx) (bool, error) {
			if tries++; tries > 1 {
				return false, ErrConflict // with itself
			}
			return true, nil
		}})
		if !errors.Is(err, ErrConflict) {
			t.Error(err)
		}
	})
	b.queued(1)
	wg.Go(func() {
		_ = b.write(context.Background(), &write{change: func(*bbolt.Tx) (bool, error) { return false, errors.New("fails") }})
	})
	b.queued(2)
	told := false
	stop := b.Watch(func(id string, version uint64) { told = told || id == "a" && version == 2 })
	release()
	wg.Wait()
	stop()
	if !told {
		t.Error("not told")
	}
}

// TestBoltContext: a write that is given up returns at once; one that was on
// its way happens, one that was not does not.
func TestBoltContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBolt(t)
		release := b.held(t)
		defer release()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begin := time.Now()
		err := b.Put(ctx, testRecord("a", time.Hour))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		if _, err := b.Get(context.Background(), "held"); err != nil {
			t.Errorf("reading what is committed, while its writer is busy: %v", err)
		}
		release()
		if err := b.Put(context.Background(), testRecord("b", time.Hour)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Get(context.Background(), "a"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a write that nobody waited for any more: %v", err)
		}
	})
}

// TestBoltReadsDoNotWait for a transaction that writes.
func TestBoltReadsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ix := newBolt(t), NewIndex("sub", "u")
		if err := b.Put(t.Context(), testRecord("a", time.Hour, ix)); err != nil {
			t.Fatal(err)
		}
		tx, err := b.file.db.Begin(true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Get(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		if ids, err := b.Find(t.Context(), ix); err != nil || len(ids) != 1 {
			t.Error(ids, err)
		}
		if _, err := b.Marked(t.Context(), ix); err != nil {
			t.Error(err)
		}
		if page, err := b.List(t.Context(), "", 2); err != nil || len(page) != 1 {
			t.Error(page, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	})
}

// TestBoltQueueIsBounded: a disk that hangs does not fill the memory.
func TestBoltQueueIsBounded(t *testing.T) {
	b := newBolt(t)
	release := b.held(t)
	defer release()
	b.mu.Lock()
	for range maxQueue {
		b.queue = append(b.queue, &write{ctx: t.Context(), change: func(*bbolt.Tx) (bool, error) { return false, nil }, done: make(chan struct{})})
	}
	b.mu.Unlock()
	if err := b.Put(context.Background(), testRecord("a", time.Hour)); !errors.Is(err, errQueueFull) {
		t.Error(err)
	}
}

// TestBoltDiskRefusesWrites, as a full one does: reads go on, and who watches
// hears that the write may have happened.
func TestBoltDiskRefusesWrites(t *testing.T) {
	b, ctx := NewBolt(filepath.Join(t.TempDir(), "sessions.db")), context.Background()
	if err := b.Put(ctx, testRecord("a", time.Hour)); err != nil {
		t.Fatal(err)
	}
	var told []string
	stop := b.Watch(func(id string, version uint64) { told = append(told, fmt.Sprint(id, version)) })
	b.file.file.Close()
	if err := b.Put(ctx, testRecord("b", time.Hour)); err == nil || !strings.Contains(err.Error(), "writing the session database "+b.path) {
		t.Errorf("%v", err)
	}
	stop()
	if rec, err := b.Get(ctx, "a"); err != nil || rec.ID != "a" {
		t.Errorf("%+v, %v", rec, err)
	}
	if len(told) != 1 || told[0] != "b1" {
		t.Errorf("told %v", told)
	}
	_ = b.Close() // it has lost its file
}

// TestBoltClosedMeanwhile: a call that has found the file open and then loses
// it to Close says so.
func TestBoltClosedMeanwhile(t *testing.T) {
	b := newBolt(t)
	if err := b.Put(t.Context(), testRecord("a", time.Hour)); err != nil {
		t.Fatal(err)
	}
	file := b.file
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.closed, b.file = false, file
	if _, err := b.Get(t.Context(), "a"); !errors.Is(err, ErrClosed) {
		t.Errorf("get: %v", err)
	}
	if err := b.Delete(t.Context(), "a"); !errors.Is(err, ErrClosed) {
		t.Errorf("delete: %v", err)
	}
}

// TestBoltCloseWaits for the writes that it has accepted.
func TestBoltCloseWaits(t *testing.T) {
	b := newBolt(t)
	release := b.held(t)
	put, closed := make(chan error, 1), make(chan error, 1)
	go func() { put <- b.Put(context.Background(), testRecord("a", time.Hour)) }()
	b.queued(1)
	go func() { closed <- b.Close() }()
	for b.Release(context.Background(), "n", "h") == nil {
		time.Sleep(time.Millisecond) // until Close has begun
	}
	select {
	case err := <-closed:
		t.Errorf("closed beside a write: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	release()
	if err := errors.Join(<-put, <-closed); err != nil {
		t.Error(err)
	}
	again := NewBolt(b.path)
	if _, err := again.Get(context.Background(), "a"); err != nil {
		t.Errorf("what was accepted: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
