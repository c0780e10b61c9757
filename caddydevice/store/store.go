// Package store keeps sessions: the record, the contract that every store
// keeps, and the stores that need no server. Package storetest holds the
// contract as tests.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Errors of a [Store]. Any other error means that the store could not be asked
// or could not answer: nothing is known about what was asked for.
var (
	// ErrNotFound: there is no such record, or its life is over.
	ErrNotFound = errors.New("not found")
	// ErrDamaged is an ErrNotFound: there are bytes for this record, but they
	// are not what was put. It opens nothing, and cannot be written over
	// before its life is over, so that an end that was written down here is
	// not undone.
	ErrDamaged = fmt.Errorf("%w: damaged", ErrNotFound)
	// ErrConflict: the record is not at the version that the write expects.
	ErrConflict = errors.New("changed meanwhile")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
)

// errLimit is a mistake of the caller of [Store.List].
var errLimit = errors.New("a limit below 1 lists nothing")

// Record is one session as a store sees it: a clear part to find, count and
// expire sessions by, and a body that only the holder of the session key can
// open. Nothing in the clear part signs anybody in.
type Record struct {
	// ID is the session id: SHA-256 of the session key, in hex.
	ID string
	// Kind, Site, Provider, Created and Version are bound to Body as
	// associated data.
	Kind     string
	Site     string
	Provider string
	Created  time.Time
	// Version is 1 for a new record and one more with every write.
	Version uint64

	State  string
	Reason string
	// Changed is when State or Reason last changed.
	Changed time.Time
	// Until is the end of the record's life: from then on it is not found.
	Until time.Time

	// Subject is the sub of who signed in, for an operator's eyes.
	Subject string
	// Indexes are what the record is found by, as made by [NewIndex].
	Indexes []Index

	// Body is sealed; empty when the session is over.
	Body []byte
}

// Index is a value that records are found by: a hash, so that a store holds
// no more of it than is needed to compare.
type Index string

// NewIndex makes an index of a kind ("sub", "sid") from its parts. Parts
// cannot run into each other.
func NewIndex(kind string, parts ...string) Index {
	h := sha256.New()
	for _, p := range append([]string{kind}, parts...) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return Index(kind + ":" + hex.EncodeToString(h.Sum(nil)))
}

// Store keeps records. All methods are safe for concurrent use, keep no
// reference to what they are given, and return what the caller may change.
// What a method has acknowledged is seen by every later call.
//
// Every method ends when its context does, with the context's error; whether
// a write then happened is not known. After Close every method fails with
// [ErrClosed].
type Store interface {
	// Get returns the record, or ErrNotFound.
	Get(ctx context.Context, id string) (Record, error)

	// Put writes the record if the stored one's version is rec.Version-1;
	// version 1 means that there must be none. Otherwise ErrConflict. A
	// record whose life is over counts as none. Writing again what was just
	// written is a conflict too: the caller reads to see whose write won.
	Put(ctx context.Context, rec Record) error

	// Delete removes the record. Removing what is not there is no error.
	Delete(ctx context.Context, id string) error

	// Find returns the ids of the living records that have the index, in no
	// particular order.
	Find(ctx context.Context, index Index) ([]string, error)

	// List returns the living records whose ids come after the id after, in
	// the order of their ids' bytes, at most limit, without their Body. Fewer
	// than limit means that there are no more: what cannot be read is left
	// out and does not count. A limit below 1 is an error.
	List(ctx context.Context, after string, limit int) ([]Record, error)

	// Mark remembers the index for life: a sign-out of somebody whose sign-in
	// is still under way marks what the sign-in will look for. A longer life
	// wins over a shorter one; the time of the mark is always the latest.
	Mark(ctx context.Context, index Index, life time.Duration) error

	// Marked returns when the index was last marked, by the clock that counts
	// lives, and the zero time where it is not or that life is over. A mark
	// whose time cannot be read was made just now: it hides nothing that was
	// marked.
	Marked(ctx context.Context, index Index) (at time.Time, err error)

	// Lease gives holder the sole use of name for life, and reports whether
	// it got it. The holder of a lease renews it by asking again; its life
	// then starts anew.
	Lease(ctx context.Context, name, holder string, life time.Duration) (bool, error)

	// Release ends holder's lease of name. Releasing what holder does not
	// have is no error.
	Release(ctx context.Context, name, holder string) error

	// Watch calls changed after every write and removal of a record, by
	// whoever made it, with the new version (0 for a removal). id "" means
	// that changes may have been missed: whatever is cached is in doubt.
	// changed must be quick and must not call the store. Nothing is called
	// after stop has returned, and a record whose life ends is not told.
	Watch(changed func(id string, version uint64)) (stop func())

	// Close releases what the store holds. Closing twice is no error.
	Close() error
}
