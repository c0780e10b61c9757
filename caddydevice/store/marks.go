// This file holds what a store knows of a mark.

package store

import "time"

// markSpan is when an index was last marked, and the end of its longest life.
// The zero value is no mark.
type markSpan struct{ at, until time.Time }

// with returns the mark after a further one.
func (m markSpan) with(next markSpan) markSpan {
	if m.at.After(next.at) {
		next.at = m.at
	}
	if m.until.After(next.until) {
		next.until = m.until
	}
	return next
}

// now is [Store.Marked].
func (m markSpan) now() time.Time {
	if !time.Now().Before(m.until) {
		return time.Time{}
	}
	return m.at
}
