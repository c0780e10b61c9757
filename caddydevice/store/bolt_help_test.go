// This file holds what the bolt store's tests from inside share.

package store

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
