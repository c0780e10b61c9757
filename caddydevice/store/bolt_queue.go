// This file holds the bolt store's writes: those that come while one is being
// synced to disk share the next transaction, so that many at once cost few
// syncs, and one alone waits for nobody.

package store

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/bbolt"
)

const (
	// maxBatch bounds how many writes share a transaction.
	maxBatch = 256
	// maxQueue bounds how many writes wait for a disk that does not keep up.
	maxQueue = 8192
)

var (
	errQueueFull = errors.New("too many writes wait for the disk of the session database")
	errNoWrite   = errors.New("nothing to write") // ends a transaction without a sync
)

// write is a change on its way.
type write struct {
	ctx    context.Context
	change change
	// id and version are what watchers are told; id "" for nothing.
	id      string
	version uint64

	wrote bool // in the last transaction that it was in
	doubt bool // whether it is on disk, of a transaction that failed
	err   error
	done  chan struct{}
}

// outcome is what became of a write in a transaction.
type outcome struct {
	wrote bool
	err   error
}

// write queues a change and waits for it. There is a goroutine for the queue
// only while there are writes.
func (b *Bolt) write(ctx context.Context, w *write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := b.open(ctx); err != nil {
		return err
	}
	w.ctx, w.done = ctx, make(chan struct{})
	b.mu.Lock()
	switch {
	case b.closed:
		b.mu.Unlock()
		return ErrClosed
	case len(b.queue) >= maxQueue:
		b.mu.Unlock()
		return errQueueFull
	}
	b.queue = append(b.queue, w)
	if !b.writing {
		b.writing = true
		b.running.Go(b.writeQueue)
	}
	b.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeQueue commits what is queued, and now and then a portion of the sweep,
// until there is nothing left.
func (b *Bolt) writeQueue() {
	for {
		b.mu.Lock()
		file, failed := b.file, b.failed
		batch := b.queue
		if len(batch) > maxBatch {
			batch = batch[:maxBatch:maxBatch]
		}
		b.queue = b.queue[len(batch):]
		if len(batch) == 0 {
			b.queue, b.writing = nil, false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		if file == nil {
			answer(batch, failed) // given up since these were queued
			continue
		}
		b.commit(file, batch)
		b.sweepNowAndThen(file)
	}
}

// commit makes a batch of changes, or each for itself where they cannot be made
// together: what is wrong with one must not fail the others.
func (b *Bolt) commit(file *boltFile, batch []*write) {
	outcomes, err := b.try(file, batch)
	for i, w := range batch {
		if outcomes == nil { // it may still be made
			w.doubt = true
			continue
		}
		w.wrote, w.err = outcomes[i].wrote, outcomes[i].err
	}
	switch {
	case err == nil, errors.Is(err, errNoWrite):
		b.settle(batch, nil)
	case len(batch) == 1:
		b.settle(batch, err)
	default:
		for i := range batch {
			batch[i].doubt = batch[i].doubt || batch[i].wrote
			b.commit(file, batch[i:i+1])
		}
	}
}

// try makes a batch of changes in one transaction. There are no outcomes where
// that was not waited for to its end.
func (b *Bolt) try(file *boltFile, batch []*write) ([]outcome, error) {
	outcomes := make([]outcome, len(batch))
	err := b.update(file, func(tx *bbolt.Tx) error {
		wrote := false
		for i, w := range batch {
			var err error
			if outcomes[i], err = w.apply(tx); err != nil {
				return err
			}
			wrote = wrote || outcomes[i].wrote
		}
		if !wrote {
			return errNoWrite
		}
		return nil
	})
	if errors.Is(err, errGone) {
		return nil, err
	}
	return outcomes, err
}

// apply makes the change in a transaction. One that nobody waits for any more is
// left out. After an error the transaction is not to be committed.
func (w *write) apply(tx *bbolt.Tx) (outcome, error) {
	if err := w.ctx.Err(); err != nil {
		return outcome{err: err}, nil
	}
	wrote, err := w.change(tx)
	if errors.Is(err, ErrConflict) {
		return outcome{err: err}, nil
	}
	return outcome{wrote, err}, err
}

// settle tells the watchers, then answers. Of a transaction that failed nobody
// knows whether it is on disk (a sync can fail after the last page was written),
// so they are told as well: being told too often is no harm.
func (b *Bolt) settle(batch []*write, err error) {
	for _, w := range batch {
		if err != nil {
			w.err = err
		}
		if w.id != "" && (w.wrote || w.doubt) {
			b.watchers.tell(w.id, w.version)
		}
		close(w.done)
	}
}

// answer fails a batch that was not tried.
func answer(batch []*write, err error) {
	for _, w := range batch {
		w.err = err
		close(w.done)
	}
}

// update runs a transaction, and gives the file up where that spoils it.
func (b *Bolt) update(file *boltFile, fn func(*bbolt.Tx) error) error {
	spoiled, err := file.update(fn)
	if err == nil || errors.Is(err, errNoWrite) {
		return err
	}
	return b.explain(file, spoiled, "writing", err)
}

// sweepNowAndThen removes a portion of what is past its life, once a minute or
// as long as there is more. Nobody waits for it, and where it fails it fails
// alone.
func (b *Bolt) sweepNowAndThen(file *boltFile) {
	if time.Since(b.swept) < sweepEvery {
		return
	}
	more := false
	err := b.update(file, func(tx *bbolt.Tx) (err error) {
		var some bool
		if some, more, err = sweep(tx); err == nil && !some {
			return errNoWrite
		}
		return err
	})
	if err != nil || !more {
		b.swept = time.Now()
	}
}
