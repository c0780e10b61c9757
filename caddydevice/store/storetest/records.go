// This file holds the tests of records: put, get, delete, find, life.

package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

// parallel is how many calls race in a test.
const parallel = 16

func getReturnsAll(s suite) {
	want := s.record("a", store.NewIndex("sub", "i", "u"), store.NewIndex("sid", "i", "s"))
	s.put(want)
	got := s.get("a")
	if got.ID != want.ID || got.Kind != want.Kind || got.Site != want.Site || got.Provider != want.Provider ||
		got.Version != want.Version || got.State != want.State || got.Reason != want.Reason || got.Subject != want.Subject {
		s.Errorf("got %+v, want %+v", got, want)
	}
	if !got.Created.Equal(want.Created) || !got.Changed.Equal(want.Changed) {
		s.Errorf("times: got %v and %v, want %v and %v to the nanosecond", got.Created, got.Changed, want.Created, want.Changed)
	}
	if d := got.Until.Sub(want.Until).Abs(); d > time.Millisecond {
		s.Errorf("until is off by %v", d)
	}
	if !slices.Equal(got.Indexes, want.Indexes) || !slices.Equal(got.Body, want.Body) {
		s.Errorf("got %v %v, want %v %v", got.Indexes, got.Body, want.Indexes, want.Body)
	}

	tombstone := store.Record{ID: "bare", Version: 1, State: "ended", Until: time.Now().Add(s.life)}
	s.put(tombstone)
	if got := s.get("bare"); len(got.Body) != 0 || len(got.Indexes) != 0 || got.State != "ended" {
		s.Errorf("a tombstone came back as %+v", got)
	}
}

func getNothing(s suite) {
	s.wantMissing("none")
	s.wantMissing("")
	s.wantFound(store.NewIndex("sub", "none"))
}

func versions(s suite) {
	ctx := context.Background()
	try := func(step string, version uint64, body string, want error) {
		s.Helper()
		rec := s.record("a")
		rec.Version, rec.Body = version, []byte(body)
		if err := s.Put(ctx, rec); !errors.Is(err, want) {
			s.Errorf("%s: %v, want %v", step, err, want)
		}
	}
	try("version 0", 0, "x", store.ErrConflict)
	try("a first version that is not 1", 2, "x", store.ErrConflict)
	s.wantMissing("a")
	try("the first", 1, "one", nil)
	try("the first again", 1, "x", store.ErrConflict)
	try("version 0 over the first", 0, "x", store.ErrConflict)
	try("one left out", 3, "x", store.ErrConflict)
	try("the second", 2, "two", nil)
	try("the second again", 2, "x", store.ErrConflict)
	try("the first after the second", 1, "x", store.ErrConflict)
	if rec := s.get("a"); rec.Version != 2 || string(rec.Body) != "two" {
		s.Errorf("a refused put changed the record: %+v", rec)
	}
	if err := s.Delete(ctx, "a"); err != nil {
		s.Fatal(err)
	}
	try("the third after a removal", 3, "x", store.ErrConflict)
	try("the first after a removal", 1, "new", nil)
}

func parallelPuts(s suite) {
	s.put(s.record("a"))
	errs := make([]error, parallel)
	var wg sync.WaitGroup
	for i := range parallel {
		wg.Go(func() {
			rec := s.record("a")
			rec.Version, rec.Body = 2, []byte{byte(i)}
			errs[i] = s.Put(context.Background(), rec)
		})
	}
	wg.Wait()
	winner := slices.Index(errs, nil)
	if winner < 0 {
		s.Fatalf("nobody won: %v", errs)
	}
	for i, err := range errs {
		if i != winner && !errors.Is(err, store.ErrConflict) {
			s.Errorf("put %d beside the winner: %v, want ErrConflict", i, err)
		}
	}
	if rec := s.get("a"); rec.Version != 2 || !slices.Equal(rec.Body, []byte{byte(winner)}) {
		s.Errorf("put %d won, but the record is %+v", winner, rec)
	}
}

func lifeEnds(s suite) {
	ix := store.NewIndex("sub", "u")
	rec := s.record("a", ix)
	rec.Until = time.Now().Add(s.life)
	s.put(rec)
	time.Sleep(s.life / 2)
	s.get("a")
	s.wantFound(ix, "a")
	time.Sleep(s.life)
	s.wantMissing("a")
	s.wantFound(ix)
	next := s.record("a")
	next.Version = 2
	if err := s.Put(context.Background(), next); !errors.Is(err, store.ErrConflict) {
		s.Errorf("the second version of what has ended: %v, want ErrConflict", err)
	}
	s.put(s.record("a"))
	s.wantFound(ix)
}

func lifeChanges(s suite) {
	for id, until := range map[string]time.Duration{"longer": 4 * s.life, "shorter": s.life / 2} {
		rec := s.record(id)
		rec.Until = time.Now().Add(s.life)
		s.put(rec)
		rec.Version, rec.Until = 2, time.Now().Add(until)
		s.put(rec)
	}
	time.Sleep(s.life * 3 / 4)
	s.wantMissing("shorter")
	time.Sleep(s.life * 3 / 4)
	s.get("longer")
}

func putAfterItsEnd(s suite) {
	rec := s.record("a")
	rec.Until = time.Now().Add(-s.life)
	_ = s.Put(context.Background(), rec) // an error or not: there is nothing afterwards
	s.wantMissing("a")
	s.put(s.record("a"))

	rec.Version = 2
	_ = s.Put(context.Background(), rec)
	time.Sleep(s.life / 2)
	if got, err := s.Get(context.Background(), "a"); err == nil && got.Version != 1 {
		s.Errorf("found %+v, which is past its end", got)
	}
}

func deletes(s suite) {
	ctx := context.Background()
	ix := store.NewIndex("sub", "u")
	s.put(s.record("a", ix))
	s.put(s.record("b", ix))
	if err := s.Delete(ctx, "a"); err != nil {
		s.Fatal(err)
	}
	s.wantMissing("a")
	s.wantFound(ix, "b")
	for _, id := range []string{"a", "never there"} {
		if err := s.Delete(ctx, id); err != nil {
			s.Errorf("removing what is not there: %v", err)
		}
	}
}

func copies(s suite) {
	ix := store.NewIndex("sub", "u")
	rec := s.record("a", ix)
	s.put(rec)
	rec.Body[0], rec.Indexes[0] = 'x', "x"
	got := s.get("a")
	if got.Body[0] == 'x' || got.Indexes[0] == "x" {
		s.Error("the store kept what it was given")
	}
	got.Body[0], got.Indexes[0] = 'y', "y"
	if again := s.get("a"); again.Body[0] == 'y' || again.Indexes[0] == "y" {
		s.Error("the store gave out what it keeps")
	}
	s.wantFound(ix, "a")
}

// anyBytes: what is a string for Go need not be UTF-8, and an empty one is not
// a missing one.
func anyBytes(s suite) {
	want := s.record("i\x00d\xff", store.Index("x\x00y\xff"))
	want.Site, want.Subject, want.State, want.Reason = "\xc3\x28", "\x00", "", "\n"
	s.put(want)
	got := s.get(want.ID)
	if got.ID != want.ID || got.Site != want.Site || got.Subject != want.Subject || got.State != "" || got.Reason != want.Reason {
		s.Errorf("got %#v, want %#v", got, want)
	}
	s.wantFound(want.Indexes[0], want.ID)
	s.mark("", s.life)
	s.wantMarked("", true)
	s.wantMarked("x", false)
}

// manyAtOnce: writes that share their way share no fate.
func manyAtOnce(s suite) {
	ix := store.NewIndex("sub", "u")
	ids := make([]string, 0, 4*parallel)
	for i := range 4 * parallel {
		ids = append(ids, string(rune('A'+i)))
	}
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			rec := s.record(id, ix)
			rec.Version = uint64(1 + i%2) // every second one is a conflict
			err := s.Put(context.Background(), rec)
			if i%2 == 0 && err != nil || i%2 == 1 && !errors.Is(err, store.ErrConflict) {
				s.Errorf("put %d: %v", i, err)
			}
			// what is acknowledged is seen
			if got, err := s.Get(context.Background(), id); i%2 == 0 && (err != nil || got.ID != id) {
				s.Errorf("get %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	var want []string
	for i, id := range ids {
		if i%2 == 0 {
			want = append(want, id)
		}
	}
	s.wantFound(ix, want...)
}

// findIsExact: an index or an id that is the beginning of another one, or the
// two of them run together, are not found for each other.
func findIsExact(s suite) {
	s.put(s.record("bc", "a"))
	s.put(s.record("c", "ab"))
	s.put(s.record("b", "a"))
	s.wantFound("a", "bc", "b")
	s.wantFound("ab", "c")
	s.wantFound("abc")
	s.wantFound("")
	if err := s.Delete(context.Background(), "b"); err != nil {
		s.Fatal(err)
	}
	s.wantFound("a", "bc")
}

func finds(s suite) {
	alice, bob := store.NewIndex("sub", "i", "alice"), store.NewIndex("sub", "i", "bob")
	sid := store.NewIndex("sid", "i", "alice")
	if alice == sid || store.NewIndex("sub", "ia", "lice") == alice {
		s.Error("two indexes are one")
	}
	s.put(s.record("a1", alice, sid))
	s.put(s.record("a2", alice))
	s.put(s.record("b", bob))
	s.put(s.record("none"))
	s.wantFound(alice, "a1", "a2")
	s.wantFound(sid, "a1")
	s.wantFound(bob, "b")
	s.wantFound(store.NewIndex("sub", "i", "carol"))
	s.wantFound("")
}

func findFollows(s suite) {
	one, two := store.NewIndex("sub", "1"), store.NewIndex("sub", "2")
	s.put(s.record("a", one))
	rec := s.record("a", two)
	rec.Version = 2
	s.put(rec)
	s.wantFound(one)
	s.wantFound(two, "a")
	rec.Version, rec.Indexes = 3, []store.Index{one, two}
	s.put(rec)
	s.wantFound(one, "a")
	s.wantFound(two, "a")
	rec.Version, rec.Indexes = 4, nil
	s.put(rec)
	s.wantFound(one)
	s.wantFound(two)

	// a put that is refused leaves the indexes alone
	rec.Indexes = []store.Index{one}
	if err := s.Put(context.Background(), rec); !errors.Is(err, store.ErrConflict) {
		s.Error(err)
	}
	s.wantFound(one)
}
