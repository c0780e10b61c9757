// Package storetest holds the contract of package store as tests that every
// store must pass.
package storetest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/store"
)

// Run tests a store whose time is the process's own: each test runs in a
// testing/synctest bubble, so that it takes no time and every life is exact.
// open returns an empty store; what it needs for closing it registers with
// t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(suite{t, open(t), time.Minute}) })
		})
	}
}

// RunInRealTime tests a store that cannot live in a bubble, because somebody
// else keeps its time. life is a life that the store can tell from half of it:
// the tests sleep for a few of them, side by side.
func RunInRealTime(t *testing.T, open func(t *testing.T) store.Store, life time.Duration) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(suite{t, open(t), life})
		})
	}
}

// suite is one test's store. Sleeping is real or not, as its caller chose.
type suite struct {
	*testing.T
	store.Store
	life time.Duration
}

var cases = []struct {
	name string
	run  func(suite)
}{
	{"get returns all that was put", getReturnsAll},
	{"get of nothing", getNothing},
	{"versions", versions},
	{"parallel puts have one winner", parallelPuts},
	{"a life ends", lifeEnds},
	{"a later put changes the life", lifeChanges},
	{"a record put after its end", putAfterItsEnd},
	{"delete", deletes},
	{"copies are not shared", copies},
	{"any bytes", anyBytes},
	{"many at once", manyAtOnce},
	{"find", finds},
	{"find is exact", findIsExact},
	{"find follows a later put", findFollows},
	{"list", lists},
	{"list leaves out what is over", listsLiving},
	{"list while records come and go", listsMeanwhile},
	{"marks", marks},
	{"the longer mark wins", longerMark},
	{"the latest mark's time", markTime},
	{"leases", leases},
	{"a lease is renewed", leaseRenewed},
	{"parallel leases have one holder", parallelLeases},
	{"watch", watches},
	{"watch ends", watchEnds},
	{"watch tells what happened only", watchOnlyChanges},
	{"a cancelled context", cancelled},
	{"a context past its deadline", pastDeadline},
	{"a closed store", closed},
	{"closed while in use", closedInUse},
}

// record makes a record that lives for two lives.
func (s suite) record(id string, indexes ...store.Index) store.Record {
	// nanoseconds count: Created is part of what a body is sealed with
	now := time.Now().Add(123456789 * time.Nanosecond).Round(0)
	return store.Record{
		ID: id, Kind: "browser", Site: "a.example", Provider: "p", Created: now.Add(-time.Second), Version: 1,
		State: "active", Reason: "r", Changed: now, Until: time.Now().Add(2 * s.life),
		Subject: "sub-ü", Indexes: indexes, Body: []byte{0, 1, 255, '"'},
	}
}

func (s suite) put(rec store.Record) {
	s.Helper()
	if err := s.Put(context.Background(), rec); err != nil {
		s.Fatalf("put of version %d: %v", rec.Version, err)
	}
}

func (s suite) get(id string) store.Record {
	s.Helper()
	rec, err := s.Get(context.Background(), id)
	if err != nil {
		s.Fatalf("get: %v", err)
	}
	return rec
}

func (s suite) wantMissing(id string) {
	s.Helper()
	if _, err := s.Get(context.Background(), id); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("get of what is not there: %v, want ErrNotFound", err)
	}
}

func (s suite) wantFound(index store.Index, want ...string) {
	s.Helper()
	got, err := s.Find(context.Background(), index)
	if err != nil {
		s.Fatalf("find: %v", err)
	}
	seen := map[string]bool{}
	for _, id := range got {
		seen[id] = true
	}
	if len(got) != len(want) || len(seen) != len(want) {
		s.Errorf("found %v, want %v", got, want)
		return
	}
	for _, id := range want {
		if !seen[id] {
			s.Errorf("found %v, want %v", got, want)
		}
	}
}
