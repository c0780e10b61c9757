// This file holds the removal of what is past its life from the bolt store.

package store

import (
	"bytes"
	"encoding/binary"
	"time"

	"go.etcd.io/bbolt"
)

// sweepPortion bounds what one transaction removes: writes wait behind it. It
// is no less than a transaction can add (maxBatch), so the sweep keeps up.
const sweepPortion = maxBatch

// sweep removes a portion of what is past its life. It reports whether there
// was some, and whether there may be more.
func sweep(tx *bbolt.Tx) (some, more bool, err error) {
	ends := tx.Bucket(endBucket)
	limit := binary.BigEndian.AppendUint64(nil, sortable(time.Now()))
	var over [][]byte
	c := ends.Cursor()
	for key, _ := c.First(); key != nil && len(over) < sweepPortion; key, _ = c.Next() {
		if len(key) > len(limit) && bytes.Compare(key[:len(limit)], limit) > 0 {
			break
		}
		over = append(over, bytes.Clone(key)) // removing under a cursor skips some
	}
	for _, key := range over {
		if err := sweepOne(tx, key); err != nil {
			return false, false, err
		}
		if err := ends.Delete(key); err != nil {
			return false, false, err
		}
	}
	return len(over) > 0, len(over) == sweepPortion, nil
}

// sweepOne removes what an entry of endBucket is about, unless that itself says
// that it lives longer: then the entry is what was damaged.
func sweepOne(tx *bbolt.Tx, key []byte) error {
	if len(key) < 9 {
		return nil
	}
	of, name := key[8], string(key[9:])
	switch of {
	case endOfRecord:
		if _, err := living(tx, name); err == nil {
			return nil
		}
		return remove(tx, name)
	case endOfMark:
		if m, ok := decodeMark(tx.Bucket(markBucket).Get(markKey(Index(name)))); ok && time.Now().Before(m.until) {
			return nil
		}
		return tx.Bucket(markBucket).Delete(markKey(Index(name)))
	}
	return nil
}
