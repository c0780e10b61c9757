// This file holds what the bolt store does inside a transaction: its buckets
// and their keys, and each write.

package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// The buckets.
var (
	// recordBucket holds records by id.
	recordBucket = []byte("records")
	// indexBucket holds an empty value for each index of each record; see
	// indexKey.
	indexBucket = []byte("indexes")
	// markBucket holds marks by index.
	markBucket = []byte("marks")
	// endBucket holds an empty value for each record and each mark, in the
	// order in which their lives end; see endKey.
	endBucket = []byte("ends")

	buckets = [][]byte{recordBucket, indexBucket, markBucket, endBucket}
)

// What an entry of endBucket is about.
const (
	endOfRecord = 'r'
	endOfMark   = 'm'
)

// indexKey is an index, with its length before it so that none runs into the
// id, and the id.
func indexKey(ix Index, id string) []byte {
	return append(appendBytes(nil, string(ix)), id...)
}

// endKey sorts by time: the milliseconds since 1970, rounded up so that nothing
// ends early, with the sign turned so that what is before 1970 comes first.
func endKey(until time.Time, of byte, name string) []byte {
	key := binary.BigEndian.AppendUint64(nil, sortable(until.Add(time.Millisecond-1)))
	return append(append(key, of), name...)
}

func sortable(t time.Time) uint64 { return uint64(t.UnixMilli()) ^ 1<<63 }

// living returns the record, or ErrNotFound, or ErrDamaged.
func living(tx *bbolt.Tx, id string) (Record, error) {
	raw := tx.Bucket(recordBucket).Get([]byte(id))
	if raw == nil {
		return Record{}, ErrNotFound
	}
	rec, err := decodeRecord(id, raw)
	if err == nil && !time.Now().Before(rec.Until) {
		return Record{}, ErrNotFound
	}
	return rec, err
}

// find returns the living records of an index.
func find(tx *bbolt.Tx, index Index) []string {
	var ids []string
	prefix := indexKey(index, "")
	c := tx.Bucket(indexBucket).Cursor()
	for key, _ := c.Seek(prefix); bytes.HasPrefix(key, prefix); key, _ = c.Next() {
		id := string(key[len(prefix):])
		if _, err := living(tx, id); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// list is [Store.List]. It holds up no write, but a transaction that reads
// keeps the file from using pages anew, so that it ends with its caller.
func list(ctx context.Context, tx *bbolt.Tx, after string, limit int) ([]Record, error) {
	var page []Record
	c := tx.Bucket(recordBucket).Cursor()
	for key, raw := c.Seek([]byte(after)); key != nil && len(page) < limit; key, raw = c.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		id := string(key)
		rec, err := decodeRecord(id, raw)
		if id == after || err != nil || !time.Now().Before(rec.Until) {
			continue
		}
		rec.Body = nil
		page = append(page, rec)
	}
	return page, nil
}

// marked returns when the index was marked. A mark that is damaged counts as
// made now until its end in endBucket: it must not let somebody in who has
// signed out.
func marked(tx *bbolt.Tx, index Index) time.Time {
	raw := tx.Bucket(markBucket).Get(markKey(index))
	if raw == nil {
		return time.Time{}
	}
	m, ok := decodeMark(raw)
	if !ok {
		return time.Now()
	}
	return m.now()
}

// markKey is the index with a byte before it, since a key cannot be empty.
func markKey(index Index) []byte { return append([]byte{endOfMark}, index...) }

func encodeMark(m markSpan) []byte {
	return seal(appendTime(appendTime(make([]byte, headerLen), m.at), m.until))
}

func decodeMark(raw []byte) (m markSpan, ok bool) {
	if len(raw) != headerLen+2*timeLen || !bytes.Equal(raw, seal(slices.Clone(raw))) {
		return markSpan{}, false
	}
	r := reader{rest: raw[headerLen:]}
	return markSpan{at: r.time(), until: r.time()}, true
}

// A change is made in a transaction. It reports whether it wrote anything; one
// that ends with ErrConflict has not. After any other error the transaction is
// not to be committed.
type change func(tx *bbolt.Tx) (wrote bool, err error)

// put is [Store.Put]. All that the change needs of what the caller keeps is
// taken now: it is made when the caller may have gone on.
func put(rec Record) change {
	raw, keys := encodeRecord(rec), make([][]byte, 0, len(rec.Indexes))
	for _, ix := range rec.Indexes {
		keys = append(keys, indexKey(ix, rec.ID))
	}
	return func(tx *bbolt.Tx) (bool, error) {
		old, err := living(tx, rec.ID)
		if errors.Is(err, ErrDamaged) || rec.Version == 0 || old.Version != rec.Version-1 {
			return false, ErrConflict
		}
		if err := remove(tx, rec.ID); err != nil {
			return false, err
		}
		for _, key := range keys {
			if err := tx.Bucket(indexBucket).Put(key, nil); err != nil {
				return false, err
			}
		}
		if err := tx.Bucket(endBucket).Put(endKey(rec.Until, endOfRecord, rec.ID), nil); err != nil {
			return false, err
		}
		return true, tx.Bucket(recordBucket).Put([]byte(rec.ID), raw)
	}
}

// del is [Store.Delete].
func del(id string) change {
	return func(tx *bbolt.Tx) (bool, error) {
		if tx.Bucket(recordBucket).Get([]byte(id)) == nil {
			return false, nil
		}
		return true, remove(tx, id)
	}
}

// remove takes a record out of all buckets, if it is there. Of one that is
// damaged nobody knows where else it stands: find looks past what is left, and
// the sweep takes its end.
func remove(tx *bbolt.Tx, id string) error {
	records := tx.Bucket(recordBucket)
	raw := records.Get([]byte(id))
	if raw == nil {
		return nil
	}
	if rec, err := decodeRecord(id, raw); err == nil {
		for _, ix := range rec.Indexes {
			if err := tx.Bucket(indexBucket).Delete(indexKey(ix, id)); err != nil {
				return err
			}
		}
		if err := tx.Bucket(endBucket).Delete(endKey(rec.Until, endOfRecord, id)); err != nil {
			return err
		}
	}
	return records.Delete([]byte(id))
}

// mark is [Store.Mark].
func mark(index Index, made markSpan) change {
	return func(tx *bbolt.Tx) (bool, error) {
		marks, ends, next := tx.Bucket(markBucket), tx.Bucket(endBucket), made
		if raw := marks.Get(markKey(index)); raw != nil {
			old, ok := decodeMark(raw)
			if ok {
				next = old.with(made)
				if err := ends.Delete(endKey(old.until, endOfMark, string(index))); err != nil {
					return false, err
				}
			}
		}
		if err := ends.Put(endKey(next.until, endOfMark, string(index)), nil); err != nil {
			return false, err
		}
		return true, marks.Put(markKey(index), encodeMark(next))
	}
}
