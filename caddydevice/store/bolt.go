// This file holds the store in a file of this machine.

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Bolt is a [Store] in a bbolt file: what it holds survives the process. One
// process at a time can use the file; leases are in memory for that reason.
//
// A record whose bytes are damaged is not found ([ErrDamaged]): its session is
// over, all others are as they were, and nothing can be written in its place.
// Where the file's own structure is damaged, calls that meet the damage fail,
// as they do for any other trouble with the disk: nothing is known then.
type Bolt struct {
	path     string
	watchers watchers
	running  sync.WaitGroup // the goroutine of the queue
	closing  sync.Once
	closeErr error

	mu       sync.Mutex // of what follows; never held while the disk is waited for
	closed   bool
	file     *boltFile // nil while it is not open
	opening  *opening  // the attempt under way
	failed   error     // of the last attempt
	failedAt time.Time
	hopeless os.FileInfo // see hopelessFile
	queue    []*write
	writing  bool // the goroutine of the queue runs
	leases   leases

	swept time.Time // of the goroutine of the queue alone
}

var _ Store = (*Bolt)(nil)

// NewBolt returns the store at path. It is opened by the first call that needs
// it, with the directory and the file where they are missing, for this user
// alone. Wider permissions of a file that exists are taken back.
func NewBolt(path string) *Bolt {
	return &Bolt{path: path, leases: newLeases()}
}

// Get implements [Store].
func (b *Bolt) Get(ctx context.Context, id string) (Record, error) {
	return read(ctx, b, func(tx *bbolt.Tx) (Record, error) { return living(tx, id) })
}

// Find implements [Store].
func (b *Bolt) Find(ctx context.Context, index Index) ([]string, error) {
	return read(ctx, b, func(tx *bbolt.Tx) ([]string, error) { return find(tx, index), nil })
}

// List implements [Store].
func (b *Bolt) List(ctx context.Context, after string, limit int) ([]Record, error) {
	if limit < 1 {
		return nil, errLimit
	}
	return read(ctx, b, func(tx *bbolt.Tx) ([]Record, error) { return list(ctx, tx, after, limit) })
}

// Marked implements [Store].
func (b *Bolt) Marked(ctx context.Context, index Index) (time.Time, error) {
	return read(ctx, b, func(tx *bbolt.Tx) (time.Time, error) { return marked(tx, index), nil })
}

// read runs fn in a transaction that sees what is committed and waits for no
// write. It has a goroutine of its own, so that its caller need not wait for a
// disk that hangs. Nothing that fn returns may be part of the file's pages.
func read[T any](ctx context.Context, b *Bolt, fn func(*bbolt.Tx) (T, error)) (T, error) {
	type result struct {
		val T
		err error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	file, err := b.open(ctx)
	if err != nil {
		return none, err
	}
	done := make(chan result, 1)
	go func() {
		var r result
		spoiled, err := file.view(func(tx *bbolt.Tx) (err error) {
			r.val, err = fn(tx)
			return err
		})
		if r.err = err; err != nil && !errors.Is(err, ErrNotFound) {
			r.err = b.explain(file, spoiled, "reading", err)
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.val, r.err
	case <-file.gone:
		return none, b.explain(file, false, "reading", errGone)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// explain gives an error of a transaction words for the log, and parts with a
// file that is spoiled.
func (b *Bolt) explain(file *boltFile, spoiled bool, doing string, err error) error {
	switch _, panicked := errors.AsType[*panicError](err); {
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return ErrClosed // meanwhile
	case panicked:
		err = damaged(b.path, err)
	default:
		err = fmt.Errorf("%s the session database %s: %w", doing, b.path, err)
	}
	if spoiled {
		b.giveUp(file, err)
	}
	return err
}

// Put implements [Store].
func (b *Bolt) Put(ctx context.Context, rec Record) error {
	return b.write(ctx, &write{change: put(rec), id: rec.ID, version: rec.Version})
}

// Delete implements [Store].
func (b *Bolt) Delete(ctx context.Context, id string) error {
	return b.write(ctx, &write{change: del(id), id: id})
}

// Mark implements [Store].
func (b *Bolt) Mark(ctx context.Context, index Index, life time.Duration) error {
	now := time.Now()
	return b.write(ctx, &write{change: mark(index, markSpan{at: now, until: now.Add(life)})})
}

// Lease implements [Store]. It needs the file: who has that open is the only
// one who gives leases out.
func (b *Bolt) Lease(ctx context.Context, name, holder string, life time.Duration) (bool, error) {
	if err := b.begin(ctx); err != nil {
		return false, err
	}
	defer b.mu.Unlock()
	return b.leases.take(name, holder, life), nil
}

// Release implements [Store].
func (b *Bolt) Release(ctx context.Context, name, holder string) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	defer b.mu.Unlock()
	b.leases.release(name, holder)
	return nil
}

// begin opens the file and locks the store; the caller unlocks where it
// succeeds.
func (b *Bolt) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := b.open(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// Watch implements [Store].
func (b *Bolt) Watch(changed func(id string, version uint64)) (stop func()) {
	return b.watchers.add(changed)
}

// Close implements [Store]. It waits for what is under way: an attempt to open
// the file, writes that are queued, and transactions.
func (b *Bolt) Close() error {
	b.closing.Do(func() {
		b.mu.Lock()
		b.closed = true
		try := b.opening
		b.mu.Unlock()
		if try != nil {
			<-try.done
		}
		b.running.Wait()
		b.mu.Lock()
		file := b.file
		b.file = nil
		b.mu.Unlock()
		if file != nil {
			b.closeErr = attempt(file.db.Close)
		}
	})
	return b.closeErr
}
