// This file holds the sessions that this process has open: those whose client
// has shown its key since they were last in doubt.

package session

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

// ErrUnknown is the error of a key that opens no session here: there is no
// record, it is of another site or provider, or it was tampered with.
var ErrUnknown = errors.New("no such session")

// shardCount spreads the sessions over locks; look-ups only ever read-lock.
const shardCount = 64

// keepAgain is how long nothing new is begun after the store did not take a
// session.
const keepAgain = 5 * time.Second

// sweepAtOnce is how many sessions a sweep writes down side by side: a store may
// make one write to the disk of them.
const sweepAtOnce = 32

// Table holds the sessions of one provider (an issuer and a client id) in one
// store.
type Table struct {
	store    store.Store
	provider string
	shards   [shardCount]shard
	damaged  atomic.Int64
	// lastUnkept is nil while the store takes what it is given.
	lastUnkept atomic.Pointer[unkept]
	stopWatch  func()
	hooks      Hooks
	// life ends with the table: for what goes on beside its callers.
	life context.Context
	stop context.CancelFunc
}

// Hooks are told what becomes of sessions here. They must be quick, and take
// no lock that is held while the table is called.
type Hooks struct {
	// Opened is called with each active session that the table begins to hold.
	Opened func(*Session)
	// Ended is called when an active or approved session, as it was, has ended
	// by a write of this table.
	Ended func(s *Session, was, now *Snapshot)
}

type shard struct {
	mu       sync.RWMutex
	sessions map[ID]*Session
	// changes counts what may have made a record that is being read stale.
	changes uint64
}

// NewTable returns an empty table. Close it to stop hearing from the store.
func NewTable(st store.Store, provider string) *Table {
	t := &Table{store: st, provider: provider}
	t.life, t.stop = context.WithCancel(context.Background())
	for i := range t.shards {
		t.shards[i].sessions = map[ID]*Session{}
	}
	t.stopWatch = st.Watch(t.changed)
	return t
}

// Notify sets the hooks. It is for calling before the table is used.
func (t *Table) Notify(h Hooks) { t.hooks = h }

// tell calls the hooks after a write.
func (t *Table) tell(s *Session, was, now *Snapshot) {
	switch {
	case was.State != Active && now.State == Active && t.hooks.Opened != nil:
		t.hooks.Opened(s)
	case was.Identity != nil && now.State == Ended && t.hooks.Ended != nil:
		t.hooks.Ended(s, was, now)
	}
}

// Close stops listening to the store, which stays open. Requests that are open
// still end: nobody would tell them of their session's end.
func (t *Table) Close() {
	t.stopWatch()
	t.stop()
	for i := range t.shards {
		t.shards[i].close()
	}
}

// Damaged counts the records that a key should have opened, but did not.
func (t *Table) Damaged() int64 { return t.damaged.Load() }

func (t *Table) shard(id ID) *shard { return &t.shards[id[0]%shardCount] }

// New says what session to make.
type New struct {
	Kind  Kind
	Site  string
	Login Login
	// Params go with each further device authorization request as well.
	Params []Param
	// Renewals are those that came before, where this is the next code of a page
	// whose last one ran out before it could be renewed.
	Renewals int
	// Confirm makes an approval wait for [Session.Confirm].
	Confirm bool
	// Idle and Lifetime bound the session once it is active.
	Idle, Lifetime time.Duration
}

// unkept is a session that the store did not take: a full disk can be read, so
// that only a write shows it.
type unkept struct {
	err error
	at  time.Time
}

// Ready fails where the store cannot be asked, or did not take a new session a
// moment ago, so that nothing is begun that it could not keep.
func (t *Table) Ready(ctx context.Context) error {
	if last := t.lastUnkept.Load(); last != nil && time.Since(last.at) < keepAgain {
		return last.err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, err := t.store.Get(ctx, ID{}.String())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Create makes a pending session and its key.
func (t *Table) Create(ctx context.Context, n New) (*Session, Key, error) {
	key := NewKey()
	s := t.newSession(key, n.Kind, n.Site, time.Now())
	snap := &Snapshot{
		State: Pending, Version: 1, Changed: s.created, Expires: n.Login.Expires, Login: &n.Login, Params: n.Params,
		Renewals: n.Renewals, confirm: n.Confirm,
		idle: n.Idle, lifetime: n.Lifetime, attempt: true, next: make(chan struct{}),
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.write(ctx, snap); err != nil {
		if !errors.Is(err, context.Canceled) { // that is the client's doing
			t.lastUnkept.Store(&unkept{err, time.Now()})
		}
		return nil, Key{}, err
	}
	t.lastUnkept.Store(nil)
	s.now.Store(snap)
	sh := t.shard(s.id)
	sh.mu.Lock()
	sh.sessions[s.id] = s
	sh.mu.Unlock()
	return s, key, nil
}

func (t *Table) newSession(key Key, kind Kind, site string, created time.Time) *Session {
	s := &Session{table: t, id: key.ID(), key: key, kind: kind, site: site, created: created.Round(0)}
	s.Use()
	return s
}

// Lookup returns the key's session, also one that is over while it is
// remembered why. It fails with [ErrUnknown], or with the store's error: then
// nothing is known about the key.
//
// A session that is open here costs one hash and one map look-up.
func (t *Table) Lookup(ctx context.Context, key Key, site string) (*Session, error) {
	id := key.ID()
	sh := t.shard(id)
	sh.mu.RLock()
	s, ok := sh.sessions[id]
	sh.mu.RUnlock()
	if !ok {
		var err error
		if s, err = t.load(ctx, key, id); err != nil {
			return nil, err
		}
	}
	if s.site != site {
		return nil, ErrUnknown
	}
	return s, nil
}

// Current returns the session as the table has it: the same one or, where that
// was dropped because somebody else wrote it, one that was read anew.
func (t *Table) Current(ctx context.Context, s *Session) (*Session, error) {
	return t.Lookup(ctx, s.key, s.site)
}

// forget drops a session that is over.
func (t *Table) forget(s *Session) {
	sh := t.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.changes++
	if sh.sessions[s.id] == s {
		delete(sh.sessions, s.id)
	}
}

// changed hears of every write to the store. A session that somebody else
// wrote is dropped, and who waits for it wakes to look it up anew.
func (t *Table) changed(id string, version uint64) {
	if id == "" {
		for i := range t.shards {
			t.shards[i].dropAll()
		}
		return
	}
	sid, ok := parseID(id)
	if !ok {
		return
	}
	sh := t.shard(sid)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.changes++
	s, ok := sh.sessions[sid]
	if !ok {
		return
	}
	s.told.Store(max(version, s.told.Load()))
	if version == 0 || s.ahead.Load() < version {
		sh.drop(s)
	}
}

// unsure is for a write of which nobody knows whether it happened: the session
// stays as it was at version, and whatever the store tells of it from here on,
// or has told meanwhile, is somebody else's until it is read. Otherwise a
// sign-out elsewhere could pass for the write that failed.
func (t *Table) unsure(s *Session, version uint64) {
	s.ahead.Store(version)
	if s.told.Load() <= version {
		return
	}
	sh := t.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.changes++
	if sh.sessions[s.id] == s {
		sh.drop(s)
	}
}

func (sh *shard) dropAll() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.changes++
	for _, s := range sh.sessions {
		sh.drop(s)
	}
}

func (sh *shard) close() {
	var open []*OpenRequest
	sh.mu.Lock()
	for id, s := range sh.sessions {
		delete(sh.sessions, id) // whoever opens on it looks it up anew
		open = append(open, s.open.leave()...)
	}
	sh.mu.Unlock()
	hearAll(open, &Snapshot{State: Ended})
}

func (sh *shard) drop(s *Session) {
	delete(sh.sessions, s.id)
	s.wake()
	if open := s.open.leave(); len(open) > 0 {
		go s.table.follow(s, open)
	}
}

// Sweep writes down what has run out and which sessions are in use, and drops
// what is over. It is for calling now and then, more often than every minute;
// nothing that a client sees before a restart depends on it.
func (t *Table) Sweep(ctx context.Context) {
	var writes sync.WaitGroup
	defer writes.Wait()
	slots := make(chan struct{}, sweepAtOnce)
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.RLock()
		all := make([]*Session, 0, len(sh.sessions))
		for _, s := range sh.sessions {
			all = append(all, s)
		}
		sh.mu.RUnlock()
		for _, s := range all {
			settle := t.settling(s)
			if settle == nil {
				continue
			}
			if ctx.Err() != nil {
				return
			}
			slots <- struct{}{}
			writes.Go(func() {
				_ = settle(ctx)
				<-slots
			})
		}
	}
}

// settling is what has to be written down of a session, if anything: that it
// has run out, or is in use. A store that fails is tried again at the next
// sweep.
func (t *Table) settling(s *Session) func(context.Context) error {
	raw, snap := s.now.Load(), s.Now()
	switch {
	case raw.State == Superseded && time.Since(raw.Changed) >= claimLife:
		return func(ctx context.Context) error { return t.retire(ctx, s.id.String()) }
	case raw.State == Superseded:
	case snap.State.Over() && !raw.State.Over():
		return func(ctx context.Context) error { return s.End(ctx, snap.State, snap.Reason) }
	case snap.State.Over():
		t.forget(s)
	case s.useIsStale(raw):
		return func(ctx context.Context) error { return s.become(ctx, Active, func(*Snapshot) error { return nil }) }
	}
	return nil
}

// Active returns how many active sessions the table holds. It looks at each.
func (t *Table) Active() int {
	n := 0
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.RLock()
		for _, s := range sh.sessions {
			if s.Now().State == Active {
				n++
			}
		}
		sh.mu.RUnlock()
	}
	return n
}

// Len returns how many sessions are open here.
func (t *Table) Len() int {
	n := 0
	for i := range t.shards {
		t.shards[i].mu.RLock()
		n += len(t.shards[i].sessions)
		t.shards[i].mu.RUnlock()
	}
	return n
}
