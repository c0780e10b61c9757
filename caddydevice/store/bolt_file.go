// This file holds the bolt store's open file, and transactions on it that end
// with an error where bbolt panics.

package store

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// boltFile is the open file. file is what db has open: the lock on it can be
// given up also where db cannot be closed any more.
type boltFile struct {
	db    *bbolt.DB
	file  *os.File
	fresh bool          // it was empty
	gone  chan struct{} // closed when the store has given it up
}

// prepare looks whether the file is whole, and makes the buckets of a new one.
// Nothing is written where they are there: on a full disk reads go on. spoiled
// is as of run.
func (f *boltFile) prepare() (spoiled bool, err error) {
	missing := false
	spoiled, err = f.view(func(tx *bbolt.Tx) error {
		info, err := f.file.Stat()
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("%w: %d of %d bytes are there", berrors.ErrInvalid, info.Size(), tx.Size())
		}
		for _, name := range buckets {
			missing = missing || tx.Bucket(name) == nil
		}
		return nil
	})
	if err != nil || !missing {
		return spoiled, err
	}
	return f.update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// view runs a transaction that reads.
func (f *boltFile) view(fn func(*bbolt.Tx) error) (spoiled bool, err error) {
	return f.run(f.db.View, fn)
}

// errGone is the error of a transaction on a file that was given up, before it
// or meanwhile. Nobody knows what became of one that had begun.
var errGone = errors.New("the session database was given up meanwhile")

// update runs a transaction that writes, and commits it. Where a panic in
// another transaction has left bbolt's locks taken it can never begin, so that
// nobody waits for it longer than the file is in use: fn must change nothing
// that its caller reads before update has returned without errGone.
func (f *boltFile) update(fn func(*bbolt.Tx) error) (spoiled bool, err error) {
	select {
	case <-f.gone:
		return false, errGone
	default:
	}
	type result struct {
		spoiled bool
		err     error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.spoiled, r.err = f.run(f.db.Update, fn)
		done <- r
	}()
	select {
	case r := <-done:
		return r.spoiled, r.err
	case <-f.gone:
		return false, errGone
	}
}

// run runs a transaction. spoiled reports that there can be no other one on
// this file.
func (f *boltFile) run(run func(func(*bbolt.Tx) error) error, fn func(*bbolt.Tx) error) (spoiled bool, err error) {
	var tx *bbolt.Tx
	err = attempt(func() error {
		return run(func(t *bbolt.Tx) error {
			tx = t
			return fn(t)
		})
	})
	if _, ok := errors.AsType[*panicError](err); ok {
		// one that did not begin, or could not be rolled back, holds locks
		return tx == nil || tx.DB() != nil, err
	}
	return errors.Is(err, berrors.ErrInvalidMapping), err
}

// panicError is what bbolt panicked with.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprint(e.value) }

// attempt makes an error of a panic. bbolt panics where it meets pages that
// make no sense, and to read a page that the file has lost is a fault.
func attempt(fn func() error) (err error) {
	faults := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(faults)
		if p := recover(); p != nil {
			err = &panicError{p}
		}
	}()
	return fn()
}
