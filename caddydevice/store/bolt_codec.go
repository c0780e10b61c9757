// This file holds how the bolt store writes a record and a time down.

package store

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"time"
)

// recordFormat is the first byte of a record, before a checksum of the rest.
// What begins with another one was written by another version of this package.
const recordFormat = 1

// headerLen is the format and the checksum.
const headerLen = 1 + 4

// castagnoli finds what a disk or a torn write did. It is no protection from
// somebody who writes to the file: that is what a body is sealed for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeRecord writes a record down: each string and the body with its length
// before it, times to the nanosecond.
func encodeRecord(rec Record) []byte {
	b := make([]byte, headerLen, headerLen+256+len(rec.Body))
	for _, s := range []string{rec.ID, rec.Kind, rec.Site, rec.Provider, rec.State, rec.Reason, rec.Subject} {
		b = appendBytes(b, s)
	}
	for _, t := range []time.Time{rec.Created, rec.Changed, rec.Until} {
		b = appendTime(b, t)
	}
	b = binary.AppendUvarint(b, rec.Version)
	b = binary.AppendUvarint(b, uint64(len(rec.Indexes)))
	for _, ix := range rec.Indexes {
		b = appendBytes(b, string(ix))
	}
	b = appendBytes(b, string(rec.Body))
	return seal(b)
}

// seal fills the header in.
func seal(b []byte) []byte {
	b[0] = recordFormat
	binary.BigEndian.PutUint32(b[1:], crc32.Checksum(b[headerLen:], castagnoli))
	return b
}

// decodeRecord reads what was written down for id, or fails with [ErrDamaged].
// It keeps no part of raw.
func decodeRecord(id string, raw []byte) (Record, error) {
	if len(raw) < headerLen || raw[0] != recordFormat || binary.BigEndian.Uint32(raw[1:]) != crc32.Checksum(raw[headerLen:], castagnoli) {
		return Record{}, ErrDamaged
	}
	r := reader{rest: raw[headerLen:]}
	var rec Record
	for _, s := range []*string{&rec.ID, &rec.Kind, &rec.Site, &rec.Provider, &rec.State, &rec.Reason, &rec.Subject} {
		*s = string(r.bytes())
	}
	for _, t := range []*time.Time{&rec.Created, &rec.Changed, &rec.Until} {
		*t = r.time()
	}
	rec.Version = r.uvarint()
	// a count that the bytes cannot hold ends with them
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		rec.Indexes = append(rec.Indexes, Index(r.bytes()))
	}
	rec.Body = slices.Clone(r.bytes())
	if r.bad || len(r.rest) > 0 || rec.ID != id {
		return Record{}, ErrDamaged
	}
	return rec, nil
}

func appendBytes(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// timeLen is the length of a time: seconds since 1970, nanoseconds.
const timeLen = 8 + 4

func appendTime(b []byte, t time.Time) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(t.Unix()))
	return binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
}

// reader takes parts off bytes. Once one is missing, bad is set and all further
// ones are empty.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	part := r.rest[:n]
	r.rest = r.rest[n:]
	return part
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.take(uint64(n))
	return v
}

func (r *reader) bytes() []byte { return r.take(r.uvarint()) }

func (r *reader) time() time.Time {
	b := r.take(timeLen)
	if b == nil {
		return time.Time{}
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint32(b[8:]))).UTC()
}
