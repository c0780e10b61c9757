// This file holds the store that lives in the process.

package store

import (
	"context"
	"slices"
	"sync"
	"time"
)

// sweepEvery is how often a store drops what is past its life. Until then it is
// invisible, but takes its space.
const sweepEvery = time.Minute

// Memory is a [Store] in the process: what it holds ends with it.
type Memory struct {
	mu       sync.Mutex
	closed   bool
	records  map[string]Record
	indexes  map[Index]map[string]struct{}
	marks    map[Index]markSpan
	leases   leases
	swept    time.Time
	watchers watchers
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		records: map[string]Record{},
		indexes: map[Index]map[string]struct{}{},
		marks:   map[Index]markSpan{},
		leases:  newLeases(),
		swept:   time.Now(),
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
	m.mu.Unlock()
	m.watchers.tell(rec.ID, rec.Version)
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
	m.mu.Unlock()
	m.watchers.tell(id, 0)
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

// List implements [Store]. It sorts what it holds anew for each page: a store
// in the process is a small one.
func (m *Memory) List(ctx context.Context, after string, limit int) ([]Record, error) {
	if limit < 1 {
		return nil, errLimit
	}
	if err := m.begin(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var ids []string
	for id := range m.records {
		if _, ok := m.living(id); ok && id > after {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	page := make([]Record, 0, min(limit, len(ids)))
	for _, id := range ids[:cap(page)] {
		rec := m.records[id]
		rec.Body = nil
		page = append(page, rec.clone())
	}
	return page, nil
}

// Mark implements [Store].
func (m *Memory) Mark(ctx context.Context, index Index, life time.Duration) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.sweep()
	now := time.Now()
	m.marks[index] = m.marks[index].with(markSpan{at: now, until: now.Add(life)})
	return nil
}

// Marked implements [Store].
func (m *Memory) Marked(ctx context.Context, index Index) (time.Time, error) {
	if err := m.begin(ctx); err != nil {
		return time.Time{}, err
	}
	defer m.mu.Unlock()
	return m.marks[index].now(), nil
}

// Lease implements [Store].
func (m *Memory) Lease(ctx context.Context, name, holder string, life time.Duration) (bool, error) {
	if err := m.begin(ctx); err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	m.sweep()
	return m.leases.take(name, holder, life), nil
}

// Release implements [Store].
func (m *Memory) Release(ctx context.Context, name, holder string) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.leases.release(name, holder)
	return nil
}

// Watch implements [Store].
func (m *Memory) Watch(changed func(id string, version uint64)) (stop func()) {
	return m.watchers.add(changed)
}

// Close implements [Store].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.records, m.indexes, m.marks, m.leases.all = nil, nil, nil, nil
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
	for ix, mark := range m.marks {
		if !now.Before(mark.until) {
			delete(m.marks, ix)
		}
	}
	m.leases.sweep()
}
