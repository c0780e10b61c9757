// This file holds the tests of marks, leases, watches and of stores that are
// closed.

package storetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

func (s suite) mark(ix store.Index, life time.Duration) {
	s.Helper()
	if err := s.Mark(context.Background(), ix, life); err != nil {
		s.Fatalf("mark: %v", err)
	}
}

func (s suite) wantMarked(ix store.Index, want bool) {
	s.Helper()
	if at, err := s.Marked(context.Background(), ix); err != nil || at.IsZero() == want {
		s.Errorf("marked: %v %v, want %v", at, err, want)
	}
}

// markedAt is the time of a mark that must be there.
func (s suite) markedAt(ix store.Index) time.Time {
	s.Helper()
	at, err := s.Marked(context.Background(), ix)
	if err != nil || at.IsZero() {
		s.Fatalf("marked: %v %v", at, err)
	}
	return at
}

func marks(s suite) {
	alice, bob := store.NewIndex("sub", "alice"), store.NewIndex("sub", "bob")
	s.wantMarked(alice, false)
	s.mark(alice, s.life)
	s.wantMarked(alice, true)
	s.wantMarked(bob, false)
	s.wantFound(alice) // a mark is no record
	time.Sleep(s.life / 2)
	s.wantMarked(alice, true)
	time.Sleep(s.life)
	s.wantMarked(alice, false)
	s.mark(alice, s.life)
	s.wantMarked(alice, true)
}

func longerMark(s suite) {
	up, down := store.NewIndex("sub", "up"), store.NewIndex("sub", "down")
	s.mark(up, s.life/2)
	s.mark(up, 3*s.life)
	s.mark(down, 3*s.life)
	s.mark(down, s.life/2)
	time.Sleep(s.life)
	s.wantMarked(up, true)
	s.wantMarked(down, true)
}

// markTime: it is the latest mark's, also where an earlier one lives longer, and
// of nobody else's.
func markTime(s suite) {
	alice, bob := store.NewIndex("sub", "alice"), store.NewIndex("sub", "bob")
	s.mark(alice, 3*s.life)
	s.mark(bob, 3*s.life)
	first := s.markedAt(alice)
	time.Sleep(s.life / 2)
	if again := s.markedAt(alice); !again.Equal(first) {
		s.Errorf("the time of a mark went from %v to %v", first, again)
	}
	s.mark(alice, s.life/2)
	second := s.markedAt(alice)
	// somebody else's clock need not count what a sleep of ours does
	if passed := second.Sub(first); passed < s.life/4 || passed > s.life {
		s.Errorf("the time went from %v to %v with a mark half a life (%v) later", first, second, s.life)
	}
	time.Sleep(s.life)
	if at := s.markedAt(alice); !at.Equal(second) {
		s.Errorf("the time went from %v back to %v", second, at)
	}
	if at := s.markedAt(bob); at.Sub(first).Abs() > s.life/4 {
		s.Errorf("a mark of another index moved from %v to %v", first, at)
	}
	time.Sleep(2 * s.life)
	s.wantMarked(alice, false)
}

func (s suite) wantLease(name, holder string, want bool) {
	s.Helper()
	if got, err := s.Lease(context.Background(), name, holder, s.life); err != nil || got != want {
		s.Errorf("lease of %s by %s: %v %v, want %v", name, holder, got, err, want)
	}
}

func (s suite) release(name, holder string) {
	s.Helper()
	if err := s.Release(context.Background(), name, holder); err != nil {
		s.Errorf("release of %s by %s: %v", name, holder, err)
	}
}

func leases(s suite) {
	s.wantLease("n", "one", true)
	s.wantLease("n", "two", false)
	s.wantLease("other", "two", true)
	s.release("n", "two") // not its own
	s.wantLease("n", "two", false)
	s.release("n", "one")
	s.release("n", "one")
	s.release("never taken", "one")
	s.wantLease("n", "two", true)
	s.wantLease("n", "one", false)
	time.Sleep(s.life * 3 / 2)
	s.wantLease("n", "one", true) // two's has lapsed
	s.wantLease("n", "two", false)
	s.release("n", "two")
	s.wantLease("n", "two", false)
}

func leaseRenewed(s suite) {
	s.wantLease("n", "one", true)
	for range 3 {
		time.Sleep(s.life * 2 / 3)
		s.wantLease("n", "one", true)
		s.wantLease("n", "two", false) // and a refusal takes nothing
	}
	time.Sleep(s.life * 2 / 3)
	s.wantLease("n", "two", false)
	time.Sleep(s.life * 2 / 3)
	s.wantLease("n", "two", true)
}

func parallelLeases(s suite) {
	var got atomic.Int32
	var wg sync.WaitGroup
	for i := range parallel {
		wg.Go(func() {
			if ok, err := s.Lease(context.Background(), "n", string(rune('a'+i)), s.life); err != nil {
				s.Errorf("lease: %v", err)
			} else if ok {
				got.Add(1)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		s.Errorf("%d hold the lease, want 1", got.Load())
	}
}

type change struct {
	id      string
	version uint64
}

// next waits for a change of id. Others may come in between, as an id "" may.
func (s suite) next(changes <-chan change, want change) {
	s.Helper()
	late := time.After(20 * s.life)
	for {
		select {
		case got := <-changes:
			if got == want {
				return
			}
			if got.id == want.id {
				s.Fatalf("told of %+v, want %+v", got, want)
			}
		case <-late:
			s.Fatalf("never told of %+v", want)
		}
	}
}

func watches(s suite) {
	ctx := context.Background()
	changes, others := make(chan change, 100), make(chan change, 100)
	defer s.Watch(func(id string, version uint64) { changes <- change{id, version} })()
	defer s.Watch(func(id string, version uint64) { others <- change{id, version} })()
	rec := s.record("a")
	s.put(rec)
	s.next(changes, change{"a", 1})
	rec.Version = 2
	s.put(rec)
	s.next(changes, change{"a", 2})
	if err := s.Put(ctx, rec); !errors.Is(err, store.ErrConflict) {
		s.Fatal(err)
	}
	s.put(s.record("b"))
	s.next(changes, change{"b", 1})
	if err := s.Delete(ctx, "a"); err != nil {
		s.Fatal(err)
	}
	s.next(changes, change{"a", 0}) // and not a second time version 2
	s.next(others, change{"a", 1})
	s.next(others, change{"a", 2})
	s.next(others, change{"b", 1})
	s.next(others, change{"a", 0})
}

func watchEnds(s suite) {
	var stopped atomic.Bool
	stop := s.Watch(func(string, uint64) {
		if stopped.Load() {
			s.Error("told after stop")
		}
	})
	others := make(chan change, 100)
	defer s.Watch(func(id string, version uint64) { others <- change{id, version} })()
	s.put(s.record("a"))
	s.next(others, change{"a", 1})
	stop()
	stopped.Store(true)
	s.put(s.record("b"))
	s.next(others, change{"b", 1})
	time.Sleep(s.life / 2)
}

// watchOnlyChanges: a put that is refused, the removal of what is not there and
// the end of a life are no changes.
func watchOnlyChanges(s suite) {
	ctx := context.Background()
	ended := s.record("ends")
	ended.Until = time.Now().Add(s.life)
	s.put(ended)
	var mu sync.Mutex
	var told []change
	stop := s.Watch(func(id string, version uint64) {
		mu.Lock()
		defer mu.Unlock()
		if id != "" {
			told = append(told, change{id, version})
		}
	})
	rec := s.record("new")
	rec.Version = 2
	if err := s.Put(ctx, rec); !errors.Is(err, store.ErrConflict) {
		s.Error(err)
	}
	if err := s.Delete(ctx, "never there"); err != nil {
		s.Error(err)
	}
	s.mark(store.NewIndex("sub", "u"), s.life)
	for range 3 { // long enough for a sweep in between
		time.Sleep(s.life * 3 / 2)
		s.put(s.record("writes"))
		if err := s.Delete(ctx, "writes"); err != nil {
			s.Error(err)
		}
	}
	time.Sleep(s.life / 2)
	stop()
	for _, c := range told {
		if c.id != "writes" {
			s.Errorf("told of %+v", c)
		}
	}
	s.wantMissing("ends")
}

// everyCall is each method that can fail.
func (s suite) everyCall(ctx context.Context) map[string]error {
	errs := map[string]error{}
	_, errs["get"] = s.Get(ctx, "a")
	errs["put"] = s.Put(ctx, s.record("new"))
	errs["delete"] = s.Delete(ctx, "a")
	_, errs["find"] = s.Find(ctx, store.NewIndex("sub", "u"))
	_, errs["list"] = s.List(ctx, "", 1)
	errs["mark"] = s.Mark(ctx, store.NewIndex("sub", "u"), s.life)
	_, errs["marked"] = s.Marked(ctx, store.NewIndex("sub", "u"))
	_, errs["lease"] = s.Lease(ctx, "n", "h", s.life)
	errs["release"] = s.Release(ctx, "n", "h")
	return errs
}

func cancelled(s suite) {
	s.put(s.record("a"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for call, err := range s.everyCall(ctx) {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s: %v, want the context's error", call, err)
		}
	}
}

func pastDeadline(s suite) {
	s.put(s.record("a"))
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	for call, err := range s.everyCall(ctx) {
		if !errors.Is(err, context.DeadlineExceeded) {
			s.Errorf("%s: %v, want the context's error", call, err)
		}
	}
}

// closedInUse: a call that races with the end does its work or says so.
func closedInUse(s suite) {
	var wg sync.WaitGroup
	for i := range parallel {
		wg.Go(func() {
			id := string(rune('a' + i))
			if err := s.Put(context.Background(), s.record(id)); err != nil && !errors.Is(err, store.ErrClosed) {
				s.Errorf("put: %v", err)
			}
			_, err := s.Get(context.Background(), id)
			if err != nil && !errors.Is(err, store.ErrClosed) && !errors.Is(err, store.ErrNotFound) {
				s.Errorf("get: %v", err)
			}
		})
		if i == parallel/2 {
			wg.Go(func() {
				if err := s.Close(); err != nil {
					s.Errorf("close: %v", err)
				}
			})
		}
	}
	wg.Wait()
}

func closed(s suite) {
	s.put(s.record("a"))
	stop := s.Watch(func(string, uint64) {})
	for range 2 {
		if err := s.Close(); err != nil {
			s.Errorf("close: %v", err)
		}
	}
	for call, err := range s.everyCall(context.Background()) {
		if !errors.Is(err, store.ErrClosed) {
			s.Errorf("%s: %v, want ErrClosed", call, err)
		}
	}
	stop()
}
