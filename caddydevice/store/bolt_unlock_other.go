// This file holds how a lock on a file is given up where that happens as it is
// closed.

//go:build !unix || aix || solaris || android

package store

import "os"

// letGo closes a file that bbolt has not closed, and gives up its lock.
func letGo(f *os.File) { _ = f.Close() }
