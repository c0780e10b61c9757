// This file tests the bolt store under a umask that takes everything away.

//go:build unix

package store_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestBoltUmask(t *testing.T) {
	for _, umask := range []int{0, 0o777} {
		dir := filepath.Join(t.TempDir(), "a")
		path := filepath.Join(dir, "sessions.db")
		old := syscall.Umask(umask)
		put(t, openOnce(t, path), record("a", 1))
		syscall.Umask(old)
		for name, want := range map[string]os.FileMode{dir: 0o700, path: 0o600} {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
				t.Errorf("umask %o, %s: %v, %v, want %v", umask, filepath.Base(name), info.Mode().Perm(), err, want)
			}
		}
	}
}
