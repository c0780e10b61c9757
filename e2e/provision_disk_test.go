// This file shows a disk that is full: who is signed in goes on, and nothing is
// said to have happened that could not be written down.
package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddydevice/device-auth/e2e/internal/browser"
)

// smallDisk mounts a disk of half a megabyte until the test ends.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("a full disk needs one that can be filled: mounting a tmpfs takes root (user %d) and, in a container, the capability SYS_ADMIN: %v: %s", os.Geteuid(), err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmounting the small disk: %v: %s", err, out)
		}
	})
	return dir
}

// fill writes until there is no space, and returns what takes that back.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	const most = 1 << 20
	for n := 0; ; n += 512 {
		if _, err := f.Write(make([]byte, 512)); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil || n > most {
			t.Fatalf("the disk does not fill up: %d bytes, %v", n, err)
		}
	}
	return func() { must(t, os.Remove(name)) }
}

// holeFree makes the free pages of a database holes, so that each write to it
// needs space: bbolt would go on within those that the file has.
func holeFree(t *testing.T, database string) {
	t.Helper()
	whole, err := os.ReadFile(database)
	must(t, err)
	db, err := bbolt.Open(database, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: time.Second})
	must(t, err)
	defer db.Close()
	size := db.Info().PageSize
	sparse := database + ".sparse"
	f, err := os.OpenFile(sparse, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(int64(len(whole))))
	holes := 0
	must(t, db.View(func(tx *bbolt.Tx) error {
		for id := 0; (id+1)*size <= int(tx.Size()); {
			info, err := tx.Page(id)
			if err != nil || info == nil {
				return err
			}
			end := min((id+1+info.OverflowCount)*size, len(whole))
			if info.Type == "free" {
				end = (id + 1) * size
				holes++
			} else if _, err := f.WriteAt(whole[id*size:end], int64(id*size)); err != nil {
				return err
			}
			id = end / size
		}
		return nil
	}))
	if holes == 0 {
		t.Fatal("the database has no free pages")
	}
	must(t, os.Rename(sparse, database))
}

// onSmallDisk is a stage whose database is on a small disk.
func onSmallDisk(t *testing.T) (s *stage, disk, database string) {
	t.Helper()
	disk = smallDisk(t)
	database = filepath.Join(disk, "sessions.db")
	return newStage(t, plan{caddyfile: storeAt() + twoSites(), env: map[string]string{"DB": database}}), disk, database
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	s, disk, database := onSmallDisk(t)
	active, leaving := s.signIn(t), s.signIn(t)
	w := s.signedInWindow(t, "/page")
	claims := s.newWindow(t)
	claims.open(t, "/page", browser.Typed)
	s.approve(t, s.code(t, claims.code(t)).complete)
	claims.awaitEnd(t, browser.Script)
	before := claims.key(t)
	pending := s.startJSON(t, "/pending")
	s.gate.Kill()
	holeFree(t, database)
	empty := fill(t, disk)
	s.gate.StartAgain(t)

	// Who is known is served, and nobody else is shown half a sign-in.
	s.wantLiving(t, active, pending, w)
	s.wantUnavailable(t)
	s.wantWait(t, s.get(t, "/"))
	fresh := s.newWindow(t)
	fresh.open(t, "/page", browser.Typed)
	fresh.wantReload(t, "/page")
	s.wantSaidOnce(t, "request cannot be decided", "no space left on device", time.Now())

	// Neither a sign-out nor a claim can be written down, so neither happens.
	s.wantWait(t, s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(leaving)))
	wantStatus(t, s.get(t, "/", "-H", bearer(leaving)), 200)
	claims.goTo(t, "/page", browser.Reload)
	claims.wantReload(t, "/page")
	if claims.key(t) != before {
		t.Error("the cookie was touched")
	}
	s.approvedOnFullDisk(t, pending)

	empty()
	s.wantActive(t, pending.Session)
	s.startSoon(t)
	claims.page = claims.FollowRefresh(s.ctx, t, claims.page)
	claims.want(t, 303)
	claims.follow(t)
	claims.want(t, 200)
	wantStatus(t, s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(leaving)), 204)
	s.gate.Kill()
	s.gate.StartAgain(t)
	wantInvalidToken(t, s.get(t, "/", "-H", bearer(leaving), "-H", asJSON), "signed_out")
	wantStatus(t, s.get(t, "/", "-H", bearer(active)), 200)
	wantStatus(t, s.get(t, "/", "-H", bearer(pending.Session)), 200)
}

// approvedOnFullDisk: the tokens come once, so they are kept in hand; until they
// are written down nobody is signed in by them.
func (s *stage) approvedOnFullDisk(t *testing.T, pending answer) {
	t.Helper()
	s.approve(t, s.code(t, pending.UserCode).complete)
	s.await(t, "the tokens", func() bool {
		polls := s.polls(t, pending.UserCode)
		return len(polls) > 0 && polls[len(polls)-1].Status == 200
	})
	for range 5 {
		if a := s.json(t, 401, "/pending", "-H", bearer(pending.Session)); a.Status != "pending" {
			t.Errorf("what could not be written down is shown: %+v", a)
		}
	}
}

// TestDiskFillsUp: at its end some writes succeed and some do not; each answer
// says which, and a crash changes nothing about it.
func TestDiskFillsUp(t *testing.T) {
	t.Parallel()
	s, disk, _ := onSmallDisk(t)
	signedIn := []string{s.signIn(t), s.signIn(t), s.signIn(t), s.signIn(t)}
	active, pending, w := s.signIn(t), s.startJSON(t, "/pending"), s.signedInWindow(t, "/page")
	empty := fill(t, disk)
	kept := s.awaitFull(t)
	left := map[string]int{}
	for _, key := range signedIn {
		got := s.get(t, "/.device/logout", "-X", "POST", "-H", bearer(key))
		left[key] = got.Status
		if got.Status != 204 {
			s.wantWait(t, got)
		}
	}
	s.gate.Kill()
	s.gate.StartAgain(t)
	for key, status := range left {
		got := s.get(t, "/", "-H", bearer(key), "-H", asJSON)
		if status == 204 {
			wantInvalidToken(t, got, "signed_out")
		} else {
			wantStatus(t, got, 200)
		}
	}
	s.wantLiving(t, active, pending, w)
	empty()
	s.signIn(t)
	for _, a := range kept {
		if again := s.json(t, 401, "/", "-H", bearer(a.Session)); again.UserCode != a.UserCode {
			t.Errorf("a sign-in that was shown is another now: %+v", again)
		}
	}
	s.wantLiving(t, active, pending, w)
}

// awaitFull starts sign-ins until one cannot be kept.
func (s *stage) awaitFull(t *testing.T) (kept []answer) {
	t.Helper()
	for range 200 {
		got := s.get(t, "/", "-H", asJSON)
		if got.Status == 503 {
			s.wantWait(t, got)
			if a := readJSON(t, got, 503); a.UserCode != "" || a.Session != "" {
				t.Errorf("half a sign-in is shown: %+v", a)
			}
			return kept
		}
		kept = append(kept, readJSON(t, got, 401))
	}
	t.Fatal("on a full disk 200 sign-ins were kept")
	return nil
}
