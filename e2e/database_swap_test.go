// This file shows what becomes of sessions whose records somebody has changed
// in the database: they are over, and nobody else notices.
package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
)

// idOf is the key of a session's record: SHA-256 of its session key.
func idOf(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return []byte(hex.EncodeToString(sum[:]))
}

// forge changes records in a database; change gets the value that a session
// key's record has and what reads the others, and returns a new one.
func forge(t *testing.T, file string, changes map[string]func(value []byte, of func(key string) []byte) []byte) {
	t.Helper()
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		records := tx.Bucket([]byte("records"))
		of := func(key string) []byte { return slices.Clone(records.Get(idOf(key))) }
		forged := map[string][]byte{}
		for key, change := range changes {
			old := of(key)
			if old == nil {
				t.Fatal("a session is not in the database")
			}
			forged[key] = change(slices.Clone(old), of)
			if bytes.Equal(forged[key], old) {
				t.Fatal("a record was not changed")
			}
		}
		for key, value := range forged {
			if err := records.Put(idOf(key), value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checked puts the checksum of a record right: it finds what a disk did, and
// keeps nobody from writing.
func checked(value []byte) []byte {
	const header = 5 // the format, and the checksum
	binary.BigEndian.PutUint32(value[1:], crc32.Checksum(value[header:], crc32.MakeTable(crc32.Castagnoli)))
	return value
}

// renamed makes the record of one session say that it is another's.
func renamed(value []byte, from, to string) []byte {
	return checked(bytes.Replace(value, idOf(from), idOf(to), 1))
}

// restartOn kills the gateway, lets change work on a copy of the database, and
// starts the gateway on that.
func (s *stage) restartOn(t *testing.T, change func(file string)) {
	t.Helper()
	file := s.copyDatabase(t)
	s.gate.Kill()
	change(file)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.databaseOf(), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s.gate.StartAgain(t)
}

// wantRefused fails unless a key is nothing to the gateway any more, wherever
// it is shown.
func (s *stage) wantRefused(t *testing.T, name, key string) {
	t.Helper()
	seen := len(s.up.Requests())
	for _, path := range []string{"/", "/.device/session", "/.device/wait?timeout=1"} {
		got := s.get(t, path, "-H", bearer(key), "-H", asJSON)
		if a := readJSON(t, got, 401); a.Reason != "unknown" || a.User != "" || a.UserCode != "" {
			t.Errorf("%s at %s: %+v", name, path, a)
		}
	}
	// As a cookie it is no better than none: a new sign-in begins.
	if a := s.json(t, 401, "/", "-b", cookie(key)); a.Status != "pending" || a.User != "" || a.Session == "" || a.Session == key {
		t.Errorf("%s as the cookie: %s %s", name, a.Status, a.User)
	}
	if len(s.up.Requests()) != seen {
		t.Errorf("%s reached the upstream", name)
	}
}

func TestDatabaseForged(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	alice, bob, untouched := s.signIn(t), s.signInBob(t), s.signIn(t)
	ended := s.signIn(t)
	pending := s.startJSON(t, "/pending")
	w := s.signedInWindow(t, "/page")

	// Each has the other's record.
	s.restartOn(t, func(file string) {
		forge(t, file, map[string]func([]byte, func(string) []byte) []byte{
			alice: func(_ []byte, of func(string) []byte) []byte { return of(bob) },
			bob:   func(_ []byte, of func(string) []byte) []byte { return of(alice) },
		})
	})
	s.wantRefused(t, "alice's key", alice)
	s.wantRefused(t, "bob's key", bob)
	s.wantLiving(t, untouched, pending, w)

	// The same, and the records say that they are whose they are not.
	alice, bob = s.signIn(t), s.signInBob(t)
	s.restartOn(t, func(file string) {
		forge(t, file, map[string]func([]byte, func(string) []byte) []byte{
			alice: func(_ []byte, of func(string) []byte) []byte { return renamed(of(bob), bob, alice) },
			bob:   func(_ []byte, of func(string) []byte) []byte { return renamed(of(alice), alice, bob) },
		})
	})
	s.wantRefused(t, "alice's key, renamed", alice)
	s.wantRefused(t, "bob's key, renamed", bob)
	s.wantLiving(t, untouched, pending, w)

	// One that is over says that it is not.
	wantStatus(t, s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(ended)), 204)
	s.restartOn(t, func(file string) {
		forge(t, file, map[string]func([]byte, func(string) []byte) []byte{
			ended: func(value []byte, _ func(string) []byte) []byte {
				return checked(bytes.Replace(value, []byte("\x05ended"), []byte("\x06active"), 1)) // with its length
			},
		})
	})
	s.wantRefused(t, "a key that was signed out", ended)
	s.wantLiving(t, untouched, pending, w)
}

// wantLiving fails unless those sessions are as they were whose records nobody
// has touched.
func (s *stage) wantLiving(t *testing.T, active string, pending answer, w *window) {
	t.Helper()
	got := s.get(t, "/", "-H", bearer(active))
	wantStatus(t, got, 200)
	wantAlice(t, echo(t, got.Body))
	if a := s.json(t, 401, "/pending", "-H", bearer(pending.Session)); a.UserCode != pending.UserCode {
		t.Errorf("the code of a pending sign-in is another: %+v", a)
	}
	w.open(t, "/page", browser.Typed)
	w.want(t, 200)
	wantAlice(t, echo(t, w.page.Body))
}

// TestDatabaseDamaged: what a disk did to one record is that one's trouble.
func TestDatabaseDamaged(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	untouched, pending, w := s.signIn(t), s.startJSON(t, "/pending"), s.signedInWindow(t, "/page")
	damage := map[string]func([]byte) []byte{
		"cut short":           func(b []byte) []byte { return b[:len(b)/2] },
		"cut to its header":   func(b []byte) []byte { return b[:5] },
		"empty":               func([]byte) []byte { return []byte{} },
		"a bit in the middle": func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"a bit of the format": func(b []byte) []byte { b[0] ^= 4; return b },
		// a thief would put the checksum right; the seal is what finds it
		"a bit of the sealed part": func(b []byte) []byte { b[len(b)-20] ^= 4; return checked(b) },
		"a bit of the version":     func(b []byte) []byte { b[versionAt(t, b)] ^= 4; return checked(b) },
	}
	keys, changes := map[string]string{}, map[string]func([]byte, func(string) []byte) []byte{}
	for name, f := range damage {
		keys[name] = s.signIn(t)
		changes[keys[name]] = func(b []byte, _ func(string) []byte) []byte { return f(b) }
	}
	s.restartOn(t, func(file string) { forge(t, file, changes) })
	for name, key := range keys {
		s.wantRefused(t, name, key)
	}
	s.wantLiving(t, untouched, pending, w)
	// nothing that a damaged record stands for keeps others from signing in
	s.signIn(t)
}

// versionAt is where a record's version stands: behind seven texts with their
// lengths before them, and three times.
func versionAt(t *testing.T, value []byte) int {
	t.Helper()
	at := 5
	for range 7 {
		length, n := binary.Uvarint(value[at:])
		if n <= 0 {
			t.Fatal("this is no record")
		}
		at += n + int(length)
	}
	return at + 3*12
}
