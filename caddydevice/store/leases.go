// This file holds leases for a store that is all in one process.

package store

import "time"

// leases are by name. Their store guards them.
type leases struct {
	all   map[string]lease
	swept time.Time
}

type lease struct {
	holder string
	until  time.Time
}

func newLeases() leases { return leases{all: map[string]lease{}, swept: time.Now()} }

// take is [Store.Lease].
func (l *leases) take(name, holder string, life time.Duration) bool {
	l.sweep()
	now := time.Now()
	if held, ok := l.all[name]; ok && held.holder != holder && now.Before(held.until) {
		return false
	}
	l.all[name] = lease{holder: holder, until: now.Add(life)}
	return true
}

// release is [Store.Release].
func (l *leases) release(name, holder string) {
	if l.all[name].holder == holder {
		delete(l.all, name)
	}
}

// sweep drops those that have lapsed, now and then.
func (l *leases) sweep() {
	now := time.Now()
	if now.Sub(l.swept) < sweepEvery {
		return
	}
	l.swept = now
	for name, held := range l.all {
		if !now.Before(held.until) {
			delete(l.all, name)
		}
	}
}
