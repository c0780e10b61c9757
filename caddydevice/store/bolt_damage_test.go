// This file tests the bolt store on bytes that are not what was written.

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// TestBoltDamagedRecord: its session is over, and nobody else's. It cannot be
// written over, so that no end is undone, until its time has come.
func TestBoltDamagedRecord(t *testing.T) {
	for name, damage := range map[string]func(raw, other []byte) []byte{
		"a bit":             func(raw, _ []byte) []byte { raw[len(raw)-1] ^= 1; return raw },
		"truncated":         func(raw, _ []byte) []byte { return raw[:len(raw)/2] },
		"nothing":           func(_, _ []byte) []byte { return nil },
		"another's":         func(_, other []byte) []byte { return other },
		"a later format":    func(raw, _ []byte) []byte { raw[0]++; return raw },
		"something at last": func(raw, _ []byte) []byte { return seal(append(raw, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, ctx, ix := newBolt(t), context.Background(), NewIndex("sub", "u")
				if err := errors.Join(b.Put(ctx, testRecord("a", time.Hour, ix)), b.Put(ctx, testRecord("b", 2*time.Hour, ix)), b.Mark(ctx, "x", time.Hour)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // a damaged mark is of now, not of then
				b.inside(t, func(tx *bbolt.Tx) error {
					records, marks := tx.Bucket(recordBucket), tx.Bucket(markBucket)
					raw, other := bytes.Clone(records.Get([]byte("a"))), bytes.Clone(records.Get([]byte("b")))
					mark := bytes.Clone(marks.Get(markKey("x")))
					return errors.Join(records.Put([]byte("a"), damage(raw, other)), marks.Put(markKey("x"), damage(mark, []byte("other"))))
				})
				if rec, err := b.Get(ctx, "a"); !errors.Is(err, ErrDamaged) || !errors.Is(err, ErrNotFound) || !reflect.DeepEqual(rec, Record{}) {
					t.Errorf("%+v, %v", rec, err)
				}
				if rec, err := b.Get(ctx, "b"); err != nil || rec.ID != "b" {
					t.Errorf("the other one: %+v, %v", rec, err)
				}
				if ids, err := b.Find(ctx, ix); err != nil || len(ids) != 1 || ids[0] != "b" {
					t.Errorf("found %v, %v", ids, err)
				}
				for version := range uint64(3) {
					rec := testRecord("a", time.Hour)
					if rec.Version = version; !errors.Is(b.Put(ctx, rec), ErrConflict) {
						t.Errorf("version %d was written over it", version)
					}
				}
				if page, err := b.List(ctx, "", 1); err != nil || len(page) != 1 || page[0].ID != "b" {
					t.Errorf("listed %v, %v", page, err)
				}
				if at, err := b.Marked(ctx, "x"); !at.Equal(time.Now()) || err != nil {
					t.Errorf("the mark: %v, %v, want one of now", at, err)
				}
				time.Sleep(time.Hour)
				if err := b.Delete(ctx, "no such"); err != nil { // and a sweep
					t.Fatal(err)
				}
				synctest.Wait()
				if at, err := b.Marked(ctx, "x"); !at.IsZero() || err != nil {
					t.Errorf("the mark after its end: %v, %v", at, err)
				}
				if err := b.Put(ctx, testRecord("a", time.Hour)); err != nil {
					t.Errorf("after its end: %v", err)
				}
			})
		})
	}
}

// TestBoltDamagedFile: whatever the disk makes of the file, the process lives,
// and every answer is what was put, or none, or an error.
func TestBoltDamagedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sessions.db")
	b, ctx := NewBolt(path), context.Background()
	until := time.Now().Add(time.Hour)
	want := map[string]Record{}
	for i := range 150 {
		rec := testRecord(fmt.Sprintf("id-%03d", i), 0, NewIndex("sub", "u"))
		rec.Until, rec.Body = until, bytes.Repeat([]byte{byte(i)}, 100)
		want[rec.ID] = rec
		if err := b.Put(ctx, rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	intact, failed := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		raw := bytes.Clone(whole)
		at := 2*page + r.IntN(len(raw)-2*page)
		switch seed % 3 {
		case 0: // a bit
			raw[at] ^= 1 << r.IntN(8)
		case 1: // a page that was never written
			clear(raw[at/page*page : at/page*page+page])
		case 2: // the head of a page
			for i := range 16 {
				raw[at/page*page+i] = byte(r.Uint32())
			}
		}
		path := filepath.Join(dir, fmt.Sprint(seed))
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		b := NewBolt(path)
		for id, put := range want {
			got, err := b.Get(ctx, id)
			switch {
			case err == nil && got.ID == put.ID && got.Until.Equal(put.Until) && bytes.Equal(got.Body, put.Body):
				intact++
			case err == nil:
				t.Errorf("seed %d, %s: got %+v", seed, id, got)
			default:
				failed++
			}
		}
		_ = b.Put(ctx, testRecord("new", time.Hour))
		_ = b.Delete(ctx, "id-001")
		_ = b.Mark(ctx, "x", time.Hour)
		_, _ = b.Find(ctx, NewIndex("sub", "u"))
		_, _ = b.List(ctx, "", len(want))
		_ = b.Close() // it may say what it met
	}
	if intact == 0 || failed == 0 {
		t.Errorf("%d records were intact and %d were not: the damage is none, or all", intact, failed)
	}
}

// TestBoltCutShort: a file that has lost its end is not taken for a whole one,
// wherever it was cut.
func TestBoltCutShort(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sessions.db")
	b, ctx := NewBolt(path), context.Background()
	for i := range 100 {
		if err := b.Put(ctx, testRecord(fmt.Sprintf("%03d", i), time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	var used int64
	if err := b.file.db.View(func(tx *bbolt.Tx) error { used = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := used; size >= 1; size -= int64(os.Getpagesize()) {
		path := filepath.Join(dir, fmt.Sprint(size))
		if err := os.WriteFile(path, whole[:size-1], 0o600); err != nil {
			t.Fatal(err)
		}
		b := NewBolt(path)
		if _, err := b.Get(ctx, "no such"); size > 1 && (err == nil || !strings.Contains(err.Error(), "is damaged")) {
			t.Errorf("%d of %d bytes: %v", size-1, used, err)
		}
		_ = b.Close() // it may say what it met
	}
}

// TestBoltLosesItsFile: it is cut short under a running process. That is an
// error, and the process lives.
func TestBoltLosesItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ctx := NewBolt(filepath.Join(t.TempDir(), "sessions.db")), context.Background()
		for i := range 100 {
			if err := b.Put(ctx, testRecord(fmt.Sprint(i), time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Truncate(b.path, 0); err != nil {
			t.Skip("not possible here: ", err) // Windows: it is mapped
		}
		for _, call := range []func() error{
			func() error { _, err := b.Get(ctx, "1"); return err },
			func() error { return b.Put(ctx, testRecord("new", time.Hour)) },
		} {
			if err := call(); err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("%v", err)
			}
		}
		time.Sleep(openEvery)
		if err := b.Put(ctx, testRecord("new", time.Hour)); err == nil || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("no remedy: %v", err)
		}
		if err := os.Remove(b.path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(openEvery)
		if err := b.Put(ctx, testRecord("new", time.Hour)); err != nil {
			t.Errorf("once it is away: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestBoltLosesItsFileInUse: bbolt panics with its locks taken, and whatever
// write comes next, or waits meanwhile, must not wait for them for good.
func TestBoltLosesItsFileInUse(t *testing.T) {
	for name, meet := range map[string]func(t *testing.T, b *Bolt, cut func()){
		"by several writes at once": func(t *testing.T, b *Bolt, cut func()) {
			release := b.held(t)
			var writes sync.WaitGroup
			for _, id := range []string{"one", "two"} {
				writes.Go(func() { wantFailed(t, b.Put(context.Background(), testRecord(id, time.Hour))) })
			}
			b.queued(2)
			cut()
			release()
			writes.Wait()
		},
		"by a write that the sweep follows": func(t *testing.T, b *Bolt, cut func()) {
			b.running.Wait()
			b.swept = time.Time{} // a minute has passed
			cut()
			wantFailed(t, b.Put(context.Background(), testRecord("one", time.Hour)))
		},
		"by a read beside a write": func(t *testing.T, b *Bolt, cut func()) {
			file := b.file // as the queue has it
			cut()
			_, err := b.Get(context.Background(), "1")
			wantFailed(t, err)
			_, err = file.update(func(*bbolt.Tx) error { return nil })
			wantFailed(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, ctx := NewBolt(filepath.Join(t.TempDir(), "sessions.db")), t.Context()
			for i := range 100 {
				if err := b.Put(ctx, testRecord(fmt.Sprint(i), time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			meet(t, b, func() {
				if err := os.Truncate(b.path, 0); err != nil {
					t.Skip("not possible here: ", err) // Windows: it is mapped
				}
			})
			if err := os.Remove(b.path); err != nil { // as the error says
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			for b.Put(ctx, testRecord("new", time.Hour)) != nil && ctx.Err() == nil {
				time.Sleep(openEvery / 10)
			}
			if _, err := b.Get(ctx, "new"); err != nil {
				t.Errorf("once it is away: %v", err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBoltGivesUpUnderAWrite: a write that waits for a lock is not waited for
// once the file is given up.
func TestBoltGivesUpUnderAWrite(t *testing.T) {
	b := newBolt(t)
	if err := b.Put(t.Context(), testRecord("a", time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.running.Wait()
	file := b.file
	begun, release := make(chan struct{}), make(chan struct{})
	var writes sync.WaitGroup
	writes.Go(func() {
		_ = file.db.Update(func(*bbolt.Tx) error { close(begun); <-release; return errNoWrite })
	})
	<-begun
	waited := make(chan error)
	go func() {
		_, err := file.update(func(*bbolt.Tx) error { return errNoWrite })
		waited <- err
	}()
	time.Sleep(20 * time.Millisecond) // long enough to wait for the lock, and no matter if not
	b.giveUp(file, errors.New("given up by the test"))
	if err := <-waited; !errors.Is(err, errGone) {
		t.Errorf("%v", err)
	}
	close(release)
	writes.Wait()
	if err := file.db.Close(); err != nil {
		t.Log(err) // its file is closed already
	}
}

func wantFailed(t *testing.T, err error) {
	t.Helper()
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// FuzzDecodeRecord: no bytes make it panic, and what it accepts is what it
// would write.
func FuzzDecodeRecord(f *testing.F) {
	full := testRecord("a", time.Hour, "x", "")
	full.Created = time.Unix(-1, 1)
	for _, rec := range []Record{full, {ID: "a"}, {}} {
		f.Add("a", encodeRecord(rec)[headerLen:])
	}
	f.Add("a", []byte{})
	f.Add("", bytes.Repeat([]byte{0xff}, 20))
	f.Add("", []byte{0xff, 0x7f})                                                           // a length that is not there
	f.Add("", append(bytes.Repeat([]byte{0}, 7+3*timeLen+1), 0xff, 0xff, 0xff, 0xff, 0x0f)) // a count that is not there
	f.Fuzz(func(t *testing.T, id string, raw []byte) {
		_, _ = decodeRecord(id, raw)
		// behind a good checksum, where chance does not get
		rec, err := decodeRecord(id, seal(append(make([]byte, headerLen), raw...)))
		if err != nil {
			if !errors.Is(err, ErrDamaged) || !reflect.DeepEqual(rec, Record{}) {
				t.Errorf("%+v, %v", rec, err)
			}
			return
		}
		again, err := decodeRecord(id, encodeRecord(rec))
		if err != nil || !reflect.DeepEqual(again, rec) {
			t.Errorf("%+v became %+v, %v", rec, again, err)
		}
	})
}
