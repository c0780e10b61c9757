// This file holds the bolt store's tests from inside: shared syncs, contexts,
// the sweep, and bytes that are damaged.

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

func newBolt(t *testing.T) *Bolt {
	t.Helper()
	b := NewBolt(filepath.Join(t.TempDir(), "sessions.db"))
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func testRecord(id string, life time.Duration, indexes ...Index) Record {
	return Record{ID: id, Kind: "browser", Version: 1, State: "active", Until: time.Now().Add(life), Indexes: indexes, Body: []byte("body of " + id)}
}

// inside runs a transaction of the test's own.
func (b *Bolt) inside(t *testing.T, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	file, err := b.open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := file.db.Update(fn); err != nil {
		t.Fatal(err)
	}
}

// transactions is how many were committed; each costs the same two syncs.
func (b *Bolt) transactions(t *testing.T) (n int) {
	t.Helper()
	file, err := b.open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := file.db.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// count is how many entries each bucket holds.
func (b *Bolt) count(t *testing.T) map[string]int {
	t.Helper()
	n := map[string]int{}
	file, err := b.open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	_ = file.db.View(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			n[string(name)] = tx.Bucket(name).Stats().KeyN
		}
		return nil
	})
	return n
}

// held keeps the queue's goroutine busy, as a slow disk does, until release is
// called.
func (b *Bolt) held(t *testing.T) (release func()) {
	t.Helper()
	busy, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	stop := b.Watch(func(string, uint64) {
		once.Do(func() { close(busy) })
		<-free
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Put(context.Background(), testRecord("held", time.Hour)); err != nil {
			t.Error(err)
		}
	})
	<-busy
	return sync.OnceFunc(func() {
		close(free)
		wg.Wait()
		stop()
	})
}

// queued waits until n writes wait for the one under way.
func (b *Bolt) queued(n int) {
	for {
		b.mu.Lock()
		waiting := len(b.queue)
		b.mu.Unlock()
		if waiting == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

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
		if err := errors.Join(b.Delete(ctx, "never there"), b.Mark(ctx, "x", time.Minute)); err != nil {
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
	try("good", &write{change: put(rec, encodeRecord(rec)), id: rec.ID})
	try("error", &write{change: put(long, encodeRecord(long)), id: long.ID})
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
		if ok, err := b.Marked(ctx, "x"); !ok || err != nil {
			t.Error(ok, err)
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
			if ok, _ := b.Marked(ctx, "x"); ok {
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
	})
}

// TestBoltDamagedRecord: its session is over, and nobody else's. It cannot be
// written over, so that no end is undone, until its time has come.
func TestBoltDamagedRecord(t *testing.T) {
	for name, damage := range map[string]func(raw, other []byte) []byte{
		"a bit":             func(raw, _ []byte) []byte { raw[len(raw)-1] ^= 1; return raw },
		"truncated":         func(raw, _ []byte) []byte { return raw[:len(raw)/2] },
		"nothing":           func(_, _ []byte) []byte { return nil },
		"another's":         func(_, other []byte) []byte { return other },
		"a later format":    func(raw, _ []byte) []byte { raw[0]++; return raw },
		"something at last": func(raw, _ []byte) []byte { return seal(append(raw, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, ctx, ix := newBolt(t), context.Background(), NewIndex("sub", "u")
				if err := errors.Join(b.Put(ctx, testRecord("a", time.Hour, ix)), b.Put(ctx, testRecord("b", 2*time.Hour, ix)), b.Mark(ctx, "x", time.Hour)); err != nil {
					t.Fatal(err)
				}
				b.inside(t, func(tx *bbolt.Tx) error {
					records, marks := tx.Bucket(recordBucket), tx.Bucket(markBucket)
					raw, other := bytes.Clone(records.Get([]byte("a"))), bytes.Clone(records.Get([]byte("b")))
					mark := bytes.Clone(marks.Get(markKey("x")))
					return errors.Join(records.Put([]byte("a"), damage(raw, other)), marks.Put(markKey("x"), damage(mark, []byte("other"))))
				})
				if rec, err := b.Get(ctx, "a"); !errors.Is(err, ErrDamaged) || !errors.Is(err, ErrNotFound) || !reflect.DeepEqual(rec, Record{}) {
					t.Errorf("%+v, %v", rec, err)
				}
				if rec, err := b.Get(ctx, "b"); err != nil || rec.ID != "b" {
					t.Errorf("the other one: %+v, %v", rec, err)
				}
				if ids, err := b.Find(ctx, ix); err != nil || len(ids) != 1 || ids[0] != "b" {
					t.Errorf("found %v, %v", ids, err)
				}
				for version := range uint64(3) {
					rec := testRecord("a", time.Hour)
					if rec.Version = version; !errors.Is(b.Put(ctx, rec), ErrConflict) {
						t.Errorf("version %d was written over it", version)
					}
				}
				if ok, err := b.Marked(ctx, "x"); !ok || err != nil {
					t.Errorf("the mark: %t, %v", ok, err)
				}
				time.Sleep(time.Hour)
				if err := b.Delete(ctx, "no such"); err != nil { // and a sweep
					t.Fatal(err)
				}
				synctest.Wait()
				if ok, err := b.Marked(ctx, "x"); ok || err != nil {
					t.Errorf("the mark after its end: %t, %v", ok, err)
				}
				if err := b.Put(ctx, testRecord("a", time.Hour)); err != nil {
					t.Errorf("after its end: %v", err)
				}
			})
		})
	}
}

// TestBoltDamagedFile: whatever the disk makes of the file, the process lives,
// and every answer is what was put, or none, or an error.
func TestBoltDamagedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sessions.db")
	b, ctx := NewBolt(path), context.Background()
	until := time.Now().Add(time.Hour)
	want := map[string]Record{}
	for i := range 150 {
		rec := testRecord(fmt.Sprintf("id-%03d", i), 0, NewIndex("sub", "u"))
		rec.Until, rec.Body = until, bytes.Repeat([]byte{byte(i)}, 100)
		want[rec.ID] = rec
		if err := b.Put(ctx, rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	intact, failed := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		raw := bytes.Clone(whole)
		at := 2*page + r.IntN(len(raw)-2*page)
		switch seed % 3 {
		case 0: // a bit
			raw[at] ^= 1 << r.IntN(8)
		case 1: // a page that was never written
			clear(raw[at/page*page : at/page*page+page])
		case 2: // the head of a page
			for i := range 16 {
				raw[at/page*page+i] = byte(r.Uint32())
			}
		}
		path := filepath.Join(dir, fmt.Sprint(seed))
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		b := NewBolt(path)
		for id, put := range want {
			got, err := b.Get(ctx, id)
			switch {
			case err == nil && got.ID == put.ID && got.Until.Equal(put.Until) && bytes.Equal(got.Body, put.Body):
				intact++
			case err == nil:
				t.Errorf("seed %d, %s: got %+v", seed, id, got)
			default:
				failed++
			}
		}
		_ = b.Put(ctx, testRecord("new", time.Hour))
		_ = b.Delete(ctx, "id-001")
		_ = b.Mark(ctx, "x", time.Hour)
		_, _ = b.Find(ctx, NewIndex("sub", "u"))
		_ = b.Close() // it may say what it met
	}
	if intact == 0 || failed == 0 {
		t.Errorf("%d records were intact and %d were not: the damage is none, or all", intact, failed)
	}
}

// TestBoltLosesItsFile: it is cut short under a running process. That is an
// error, and the process lives.
func TestBoltLosesItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ctx := NewBolt(filepath.Join(t.TempDir(), "sessions.db")), context.Background()
		for i := range 100 {
			if err := b.Put(ctx, testRecord(fmt.Sprint(i), time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Truncate(b.path, 0); err != nil {
			t.Skip("not possible here: ", err) // Windows: it is mapped
		}
		for _, call := range []func() error{
			func() error { _, err := b.Get(ctx, "1"); return err },
			func() error { return b.Put(ctx, testRecord("new", time.Hour)) },
		} {
			if err := call(); err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("%v", err)
			}
		}
		time.Sleep(openEvery)
		if err := b.Put(ctx, testRecord("new", time.Hour)); err == nil || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("no remedy: %v", err)
		}
		if err := os.Remove(b.path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(openEvery)
		if err := b.Put(ctx, testRecord("new", time.Hour)); err != nil {
			t.Errorf("once it is away: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzDecodeRecord: no bytes make it panic, and what it accepts is what it
// would write.
func FuzzDecodeRecord(f *testing.F) {
	full := testRecord("a", time.Hour, "x", "")
	full.Created = time.Unix(-1, 1)
	for _, rec := range []Record{full, {ID: "a"}, {}} {
		f.Add("a", encodeRecord(rec)[headerLen:])
	}
	f.Add("a", []byte{})
	f.Add("", bytes.Repeat([]byte{0xff}, 20))
	f.Add("", append(bytes.Repeat([]byte{0}, 7+3*timeLen+1), 0xff, 0xff, 0xff, 0xff, 0x0f)) // a count that is not there
	f.Fuzz(func(t *testing.T, id string, raw []byte) {
		_, _ = decodeRecord(id, raw)
		// behind a good checksum, where chance does not get
		rec, err := decodeRecord(id, seal(append(make([]byte, headerLen), raw...)))
		if err != nil {
			if !errors.Is(err, ErrDamaged) || !reflect.DeepEqual(rec, Record{}) {
				t.Errorf("%+v, %v", rec, err)
			}
			return
		}
		again, err := decodeRecord(id, encodeRecord(rec))
		if err != nil || !reflect.DeepEqual(again, rec) {
			t.Errorf("%+v became %+v, %v", rec, again, err)
		}
	})
}
