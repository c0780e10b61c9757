// This file holds the bolt store's tests from outside: the contract, what is
// there after a restart, and what an operator gets to read.

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddydevice/device-auth/caddydevice/store"
	"github.com/caddydevice/device-auth/caddydevice/store/storetest"
)

func TestBolt(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, filepath.Join(t.TempDir(), "sessions.db"))
	})
}

// open returns a store that is closed with the test, before its directory goes.
func open(t testing.TB, path string) *store.Bolt {
	t.Helper()
	b := store.NewBolt(path)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func record(id string, version uint64, indexes ...store.Index) store.Record {
	return store.Record{
		ID: id, Kind: "terminal", Site: "a.example", Provider: "p", Created: time.Now(), Version: version, State: "active",
		Changed: time.Now(), Until: time.Now().Add(time.Hour), Indexes: indexes, Body: []byte("sealed"),
	}
}

func put(t testing.TB, s store.Store, recs ...store.Record) {
	t.Helper()
	for _, rec := range recs {
		if err := s.Put(context.Background(), rec); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBoltRestart: what was acknowledged is there after the process, and a life
// goes on meanwhile.
func TestBoltRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sessions.db")
	ctx := context.Background()
	alice, bob := store.NewIndex("sub", "alice"), store.NewIndex("sub", "bob")
	synctest.Test(t, func(t *testing.T) {
		b := store.NewBolt(path)
		first, short := record("a", 1, alice), record("short", 1, alice)
		second := first
		second.Version, second.State, second.Body = 2, "ended", nil
		short.Until = time.Now().Add(time.Minute)
		put(t, b, first, second, short, record("gone", 1, alice), record("b", 1, bob))
		marked := time.Now()
		if err := errors.Join(b.Delete(ctx, "gone"), b.Mark(ctx, bob, time.Hour), b.Mark(ctx, alice, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if ok, err := b.Lease(ctx, "n", "old process", time.Hour); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Minute)
		b = open(t, path)
		if rec, err := b.Get(ctx, "a"); err != nil || rec.Version != 2 || rec.State != "ended" || !rec.Created.Equal(first.Created) {
			t.Errorf("%+v, %v", rec, err)
		}
		for _, id := range []string{"gone", "short"} {
			if rec, err := b.Get(ctx, id); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%+v, %v", rec, err)
			}
		}
		if err := b.Put(ctx, second); !errors.Is(err, store.ErrConflict) {
			t.Errorf("the second version again: %v", err)
		}
		for ix, want := range map[store.Index]string{alice: "a", bob: "b"} {
			if ids, err := b.Find(ctx, ix); err != nil || !slices.Equal(ids, []string{want}) {
				t.Errorf("found %v, %v, want %s", ids, err, want)
			}
			if at, err := b.Marked(ctx, ix); err != nil || ix == bob && !at.Equal(marked) || ix == alice && !at.IsZero() {
				t.Errorf("%s is marked at %v, %v", want, at, err)
			}
		}
		if ok, err := b.Lease(ctx, "n", "new process", time.Hour); !ok || err != nil {
			t.Errorf("the lease of a process that is gone holds: %t, %v", ok, err)
		}
	})
}

// TestBoltOpensOnFirstUse: a configuration that is only looked at leaves
// nothing behind, and many first calls open once.
func TestBoltOpensOnFirstUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "sessions.db")
	idle := store.NewBolt(path)
	idle.Watch(func(string, uint64) {})()
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(filepath.Dir(path))); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}

	b := open(t, path)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			// a second open in this process would wait for the first one's lock
			if _, err := b.Get(context.Background(), "a"); !errors.Is(err, store.ErrNotFound) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestBoltGivesOutCopies: what was read stays as it was once its page is not
// mapped any more; a slice of it would be a fault.
func TestBoltGivesOutCopies(t *testing.T) {
	b, ix := open(t, filepath.Join(t.TempDir(), "sessions.db")), store.NewIndex("sub", "u")
	for i := range 100 { // more than is kept inline, which bbolt copies
		put(t, b, record(fmt.Sprint(i), 1, ix))
	}
	rec, err := b.Get(t.Context(), "50")
	ids, err2 := b.Find(t.Context(), ix)
	if err := errors.Join(err, err2, b.Close()); err != nil {
		t.Fatal(err)
	}
	if string(rec.Body) != "sealed" || rec.Site != "a.example" || rec.Indexes[0] != ix || !slices.Contains(ids, "50") {
		t.Errorf("%+v, %v", rec, ids)
	}
}

// TestBoltPermissions: the file and the directories that the store makes are
// this user's alone; a file that was not is from now on.
func TestBoltPermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permission bits mean nothing there")
	}
	for _, row := range []struct {
		name   string
		exists os.FileMode
	}{{"new", 0}, {"readable by all", 0o644}, {"writable by the group", 0o660}} {
		t.Run(row.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a")
			path := filepath.Join(dir, "b", "sessions.db")
			if row.exists != 0 {
				put(t, openOnce(t, path), record("a", 1))
				if err := os.Chmod(path, row.exists); err != nil {
					t.Fatal(err)
				}
			}
			b := open(t, path)
			put(t, b, record("new", 1))
			for name, want := range map[string]os.FileMode{dir: 0o700, filepath.Dir(path): 0o700, path: 0o600} {
				if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
					t.Errorf("%s: %v, %v, want %v", filepath.Base(name), info.Mode().Perm(), err, want)
				}
			}
		})
	}
}

// openOnce is a store that is closed before the test goes on.
func openOnce(t *testing.T, path string) store.Store {
	t.Helper()
	return closing{store.NewBolt(path)}
}

type closing struct{ *store.Bolt }

func (c closing) Put(ctx context.Context, rec store.Record) error {
	return errors.Join(c.Bolt.Put(ctx, rec), c.Bolt.Close())
}

// TestBoltInUse: while another process has the file, calls fail in words that
// help, the first after a short wait and the others at once; afterwards they
// work.
func TestBoltInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sessions.db")
		other, err := bbolt.Open(path, 0o600, nil) // a lock of its own, as another process has
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		b := open(t, path)
		for i, call := range []func() error{
			func() error { _, err := b.Get(t.Context(), "a"); return err },
			func() error { return b.Put(t.Context(), record("a", 1)) },
			func() error { _, err := b.Lease(t.Context(), "n", "h", time.Hour); return err },
			func() error { _, err := b.Marked(t.Context(), "x"); return err },
			func() error { _, err := b.List(t.Context(), "", 1); return err },
		} {
			begin := time.Now()
			err := call()
			if err == nil || errors.Is(err, store.ErrNotFound) {
				t.Fatalf("call %d: %v", i, err)
			}
			for _, words := range []string{path, "in use by another process", "only one Caddy", "store bolt <path>"} {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("%q is not in %q", words, err)
				}
			}
			if took := time.Since(begin); i > 0 && took > 0 || took > 2*time.Second {
				t.Errorf("call %d took %v", i, took)
			}
		}

		// a later attempt does not wait for the lock either
		time.Sleep(time.Second)
		begin := time.Now()
		if _, err := b.Get(t.Context(), "a"); err == nil || errors.Is(err, store.ErrNotFound) || time.Since(begin) > 0 {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Get(t.Context(), "a"); errors.Is(err, store.ErrNotFound) {
			t.Error("tried again within a second")
		}
		time.Sleep(time.Second)
		put(t, b, record("a", 1))
	})
}

// TestBoltWaitsForALock no longer than its caller, and finds the file once the
// other process has ended.
func TestBoltWaitsForALock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sessions.db")
		other, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		b := open(t, path)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if err := b.Put(ctx, record("a", 1)); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 100*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		time.AfterFunc(time.Second, func() { other.Close() })
		put(t, b, record("a", 1))
	})
}

func TestBoltCannotOpen(t *testing.T) {
	whole := wholeFile(t)
	file := func(content []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	broken := slices.Clone(whole)
	for i := range 64 {
		broken[i], broken[os.Getpagesize()+i] = 0xff, 0xff
	}
	sum := slices.Clone(whole)
	sum[16+40] ^= 1
	sum[os.Getpagesize()+16+40] ^= 1
	for _, row := range []struct {
		name string
		make func(t *testing.T, path string)
		want string
	}{
		{"below a file", func(t *testing.T, path string) { file(nil)(t, filepath.Dir(path)) }, "cannot be opened"},
		{"a directory", func(t *testing.T, path string) { os.MkdirAll(path, 0o700) }, "cannot be opened"},
		{"another program's file", file([]byte(strings.Repeat("something else\n", 5000))), "damaged"},
		{"a short file", file([]byte("x")), "damaged"},
		{"both heads broken", file(broken), "damaged"},
		{"both checksums wrong", file(sum), "damaged"},
		{"zeros", file(make([]byte, len(whole))), "damaged"},
		{"one page of it", file(whole[:os.Getpagesize()]), "damaged"},
		{"three pages of it", file(whole[:3*os.Getpagesize()]), "damaged"},
		{"half of it", file(whole[:len(whole)/2]), "damaged"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "d", "sessions.db")
				if row.name != "below a file" {
					if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
						t.Fatal(err)
					}
				}
				row.make(t, path)
				b := open(t, path)
				_, err := b.Get(t.Context(), "id-07")
				if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), path) {
					t.Fatalf("%v, want %q", err, row.want)
				}
				time.Sleep(time.Minute)
				if err := b.Put(t.Context(), record("a", 1)); err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("later: %v, want %q", err, row.want)
				}
				// what brings it back helps, and so does what the words say, both
				// without a restart
				if row.want == "damaged" && os.WriteFile(path, whole, 0o600) == nil {
					time.Sleep(time.Second)
					if _, err := b.Get(t.Context(), "id-07"); err != nil {
						t.Errorf("once it is whole: %v", err)
					}
					return
				}
				if err := os.Rename(filepath.Dir(path), filepath.Dir(path)+".away"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				put(t, b, record("a", 1))
			})
		})
	}
}

// wholeFile is a database with some records in it.
func wholeFile(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sessions.db")
	b := store.NewBolt(path)
	for i := range 200 {
		put(t, b, record(fmt.Sprintf("id-%02d", i), 1, store.NewIndex("sub", "u")))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func BenchmarkBoltGet(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "sessions.db"))
	put(b, s, record("a", 1))
	for b.Loop() {
		if _, err := s.Get(context.Background(), "a"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBoltPut: one at a time each waits for the disk; many share a sync.
func BenchmarkBoltPut(b *testing.B) {
	for _, parallel := range []int{1, 200} {
		b.Run(fmt.Sprintf("parallel-%d", parallel), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "sessions.db"))
			work := make(chan int)
			var wg sync.WaitGroup
			for range parallel {
				wg.Go(func() {
					for i := range work {
						if err := s.Put(context.Background(), record(fmt.Sprint(i), 1)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for i := 0; b.Loop(); i++ {
				work <- i
			}
			close(work)
			wg.Wait()
		})
	}
}

// TestBoltForeignFile: what is no session database stays as it is.
func TestBoltForeignFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.crt")
	content := bytes.Repeat([]byte("certificate "), 4000)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	b := store.NewBolt(path)
	if _, err := b.Get(context.Background(), "a"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(after, content) || runtime.GOOS != "windows" && info.Mode().Perm() != 0o644 {
		t.Errorf("it was changed: mode %v, %v", info.Mode(), err)
	}
}
