// This file holds how a lock on a file is given up where bbolt takes it with
// flock(2): it belongs to all that have the file open, and a mapping that bbolt
// leaves behind when it panics is one of them.

//go:build unix && !aix && !solaris && !android

package store

import (
	"os"
	"syscall"
)

// letGo closes a file that bbolt has not closed, and gives up its lock.
func letGo(f *os.File) {
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	_ = f.Close()
}
