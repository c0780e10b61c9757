// This file holds the store that lives in the process.

package store

import (
	"context"
	"slices"
	"sync"
	"time"
)

// sweepEvery is how often the memory store drops what is past its life. Until
// then it is invisible, but takes its space.
const sweepEvery = time.Minute

// Memory is a [Store] in the process: what it holds ends with it.
type Memory struct {
	mu       sync.Mutex
	closed   bool
	records  map[string]Record
	indexes  map[Index]map[string]struct{}
	marks    map[Index]time.Time
	leases   map[string]lease
	watchers map[int]func(string, uint64)
	nextID   int
	swept    time.Time
}

type lease struct {
	holder string
	until  time.Time
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		records:  map[string]Record{},
		indexes:  map[Index]map[string]struct{}{},
		marks:    map[Index]time.Time{},
		leases:   map[string]lease{},
		watchers: map[int]func(string, uint64){},
		swept:    time.Now(),
	}
}

// begin locks the store for a call; the caller unlocks where it succeeds.
func (m *Memory) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// Get implements [Store].
func (m *Memory) Get(ctx context.Context, id string) (Record, error) {
	if err := m.begin(ctx); err != nil {
		return Record{}, err
	}
	defer m.mu.Unlock()
	rec, ok := m.living(id)
	if !ok {
		return Record{}, ErrNotFound
	}
	return rec.clone(), nil
}

// living returns a record whose life is not over; what is past it is none,
// and so has no version either.
func (m *Memory) living(id string) (Record, bool) {
	rec, ok := m.records[id]
	if !ok || !time.Now().Before(rec.Until) {
		return Record{}, false
	}
	return rec, true
}

func (r Record) clone() Record {
	r.Indexes = slices.Clone(r.Indexes)
	r.Body = slices.Clone(r.Body)
	return r
}

// Put implements [Store].
func (m *Memory) Put(ctx context.Context, rec Record) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	old, _ := m.living(rec.ID)
	if rec.Version == 0 || old.Version != rec.Version-1 {
		m.mu.Unlock()
		return ErrConflict
	}
	m.sweep()
	m.remove(rec.ID)
	m.records[rec.ID] = rec.clone()
	for _, ix := range rec.Indexes {
		if m.indexes[ix] == nil {
			m.indexes[ix] = map[string]struct{}{}
		}
		m.indexes[ix][rec.ID] = struct{}{}
	}
	m.tellAndUnlock(rec.ID, rec.Version)
	return nil
}

// Delete implements [Store].
func (m *Memory) Delete(ctx context.Context, id string) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	if _, ok := m.records[id]; !ok {
		m.mu.Unlock()
		return nil
	}
	m.remove(id)
	m.tellAndUnlock(id, 0)
	return nil
}

// remove forgets a record and its places in the indexes.
func (m *Memory) remove(id string) {
	for _, ix := range m.records[id].Indexes {
		delete(m.indexes[ix], id)
		if len(m.indexes[ix]) == 0 {
			delete(m.indexes, ix)
		}
	}
	delete(m.records, id)
}

// tellAndUnlock calls the watchers without the lock: they may take their own.
func (m *Memory) tellAndUnlock(id string, version uint64) {
	watchers := make([]func(string, uint64), 0, len(m.watchers))
	for _, w := range m.watchers {
		watchers = append(watchers, w)
	}
	m.mu.Unlock()
	for _, w := range watchers {
		w(id, version)
	}
}

// Find implements [Store].
func (m *Memory) Find(ctx context.Context, index Index) ([]string, error) {
	if err := m.begin(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var ids []string
	for id := range m.indexes[index] {
		if _, ok := m.living(id); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Mark implements [Store].
func (m *Memory) Mark(ctx context.Context, index Index, life time.Duration) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.sweep()
	if until := time.Now().Add(life); until.After(m.marks[index]) {
		m.marks[index] = until
	}
	return nil
}

// Marked implements [Store].
func (m *Memory) Marked(ctx context.Context, index Index) (bool, error) {
	if err := m.begin(ctx); err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	return time.Now().Before(m.marks[index]), nil
}

// Lease implements [Store].
func (m *Memory) Lease(ctx context.Context, name, holder string, life time.Duration) (bool, error) {
	if err := m.begin(ctx); err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	m.sweep()
	now := time.Now()
	if l, ok := m.leases[name]; ok && l.holder != holder && now.Before(l.until) {
		return false, nil
	}
	m.leases[name] = lease{holder: holder, until: now.Add(life)}
	return true, nil
}

// Release implements [Store].
func (m *Memory) Release(ctx context.Context, name, holder string) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.leases[name].holder == holder {
		delete(m.leases, name)
	}
	return nil
}

// Watch implements [Store].
func (m *Memory) Watch(changed func(id string, version uint64)) (stop func()) {
	var mu sync.Mutex // makes stop wait for a call under way
	stopped := false
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nextID
	m.nextID++
	m.watchers[n] = func(id string, version uint64) {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			changed(id, version)
		}
	}
	return func() {
		m.mu.Lock()
		delete(m.watchers, n)
		m.mu.Unlock()
		mu.Lock()
		stopped = true
		mu.Unlock()
	}
}

// Close implements [Store].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.records, m.indexes, m.marks, m.leases = nil, nil, nil, nil
	return nil
}

// sweep drops what is past its life, now and then.
func (m *Memory) sweep() {
	now := time.Now()
	if now.Sub(m.swept) < sweepEvery {
		return
	}
	m.swept = now
	for id, rec := range m.records {
		if !now.Before(rec.Until) {
			m.remove(id)
		}
	}
	for ix, until := range m.marks {
		if !now.Before(until) {
			delete(m.marks, ix)
		}
	}
	for name, l := range m.leases {
		if !now.Before(l.until) {
			delete(m.leases, name)
		}
	}
}
