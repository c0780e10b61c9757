// This file holds who is told of changes.

package store

import (
	"maps"
	"slices"
	"sync"
)

// watchers are the functions to call after every change. The zero value is
// ready to use.
type watchers struct {
	mu   sync.Mutex
	next int
	all  map[int]func(string, uint64)
}

// add is [Store.Watch].
func (ws *watchers) add(changed func(id string, version uint64)) (stop func()) {
	var mu sync.Mutex // makes stop wait for a call under way
	stopped := false
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.all == nil {
		ws.all = map[int]func(string, uint64){}
	}
	n := ws.next
	ws.next++
	ws.all[n] = func(id string, version uint64) {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			changed(id, version)
		}
	}
	return func() {
		ws.mu.Lock()
		delete(ws.all, n)
		ws.mu.Unlock()
		mu.Lock()
		stopped = true
		mu.Unlock()
	}
}

// tell calls them all. The caller holds no lock: they may take their own.
func (ws *watchers) tell(id string, version uint64) {
	ws.mu.Lock()
	all := slices.Collect(maps.Values(ws.all))
	ws.mu.Unlock()
	for _, changed := range all {
		changed(id, version)
	}
}
