// This file holds how the bolt store opens its file: when, with which
// permissions, and in which words it says why it cannot.

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	// lockWait is how long the first call waits for another process to let go
	// of the file: one that is being replaced by this one.
	lockWait = 2 * time.Second
	// lockTry is for every later attempt: requests must not queue up.
	lockTry = time.Millisecond
	// openEvery is how often an open that has failed is tried again. In
	// between, calls fail with the error that it had.
	openEvery = time.Second
)

// opening is an attempt to open the file; done is closed at its end.
type opening struct {
	done chan struct{}
	file *boltFile
	err  error
}

// open returns the open file. The first call opens it, also for those that come
// meanwhile.
func (b *Bolt) open(ctx context.Context) (*boltFile, error) {
	b.mu.Lock()
	try := b.opening
	switch {
	case b.closed:
		b.mu.Unlock()
		return nil, ErrClosed
	case b.file != nil:
		defer b.mu.Unlock()
		return b.file, nil
	case try == nil && b.failed != nil && time.Since(b.failedAt) < openEvery:
		defer b.mu.Unlock()
		return nil, b.failed
	case try == nil:
		try = &opening{done: make(chan struct{})}
		b.opening = try
		go b.tryOpen(try, b.failed, b.hopeless)
	}
	b.mu.Unlock()
	select {
	case <-try.done:
		return try.file, try.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// tryOpen opens the file, unless the last attempt has shown that this is of no
// use before somebody has changed it.
func (b *Bolt) tryOpen(try *opening, failed error, hopeless os.FileInfo) {
	wait := lockWait
	if failed != nil {
		wait = lockTry
	}
	if hopeless != nil && unchanged(b.path, hopeless) {
		try.err = failed
	} else {
		try.file, try.err = openBolt(b.path, wait)
		hopeless = hopelessFile(b.path, try.err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opening, b.file = nil, try.file
	b.failed, b.failedAt, b.hopeless = try.err, time.Now(), hopeless
	close(try.done)
}

// giveUp parts with a file that no further transaction can be made on: its
// locks are held for good, or it is not mapped any more. A later call opens it
// anew.
func (b *Bolt) giveUp(f *boltFile, err error) {
	hopeless := hopelessFile(b.path, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == f {
		close(f.gone)
		letGo(f.file) // reads under way need no more than the mapping
		b.file, b.failed, b.failedAt, b.hopeless = nil, err, time.Now(), hopeless
	}
}

// hopelessFile describes a file that made bbolt panic. It is not opened again
// as it is: bbolt unmaps nothing when it panics, so that each attempt costs
// address space for good.
func hopelessFile(path string, err error) os.FileInfo {
	if _, ok := errors.AsType[*panicError](err); !ok {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

func unchanged(path string, then os.FileInfo) bool {
	now, err := os.Stat(path)
	return err == nil && os.SameFile(now, then) && now.Size() == then.Size() && now.ModTime().Equal(then.ModTime())
}

// openBolt opens the file, and makes it where there is none.
func openBolt(path string, wait time.Duration) (*boltFile, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, openError(path, err)
	}
	f := &boltFile{gone: make(chan struct{})}
	err := attempt(func() (err error) {
		f.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: wait, FreelistType: bbolt.FreelistMapType,
			OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
				f.file, f.fresh, err = openRegular(name, flag, mode)
				return f.file, err
			},
		})
		return err
	})
	if err != nil {
		if f.file != nil {
			if f.fresh && !errors.Is(err, berrors.ErrTimeout) {
				emptyAgain(path)
			}
			letGo(f.file) // bbolt leaves it open where it panics
		}
		return nil, openError(path, err)
	}
	spoiled, err := f.prepare()
	if err == nil {
		err = f.makePrivate() // not before it is known to be ours
	}
	if err == nil {
		return f, nil
	}
	if spoiled {
		letGo(f.file)
	} else {
		_ = f.db.Close()
	}
	return nil, openError(path, err)
}

// makeDir makes the directory and those above it for this user alone, whatever
// the umask. One that exists is somebody's who knows what it is for.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			_, err = os.ReadDir(dir) // made meanwhile, or no directory
		}
		return err
	}
	return os.Chmod(dir, 0o700) //nolint:gosec // G302: a directory is of no use without x
}

// openRegular opens or makes a file, and nothing else that may have a path.
func openRegular(name string, flag int, mode os.FileMode) (file *os.File, empty bool, err error) {
	f, err := os.OpenFile(name, flag, mode)
	if err != nil {
		return nil, false, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		_ = f.Close()
		return nil, false, err
	}
	return f, info.Size() == 0, nil
}

// makePrivate leaves the file to this user alone: wider permissions of one that
// exists are taken back, whatever the umask or whoever made it. Where that is
// not possible (somebody else's file), it is not used. On Windows they mean
// nothing.
func (f *boltFile) makePrivate() error {
	info, err := f.file.Stat()
	if err != nil || info.Mode().Perm() == 0o600 {
		return err
	}
	return f.file.Chmod(0o600)
}

// emptyAgain undoes what bbolt has written of a new file's first pages before
// the disk was full: once there is space, half of them would count as damage.
func emptyAgain(path string) {
	if info, err := os.Stat(path); err == nil && info.Size() < int64(4*os.Getpagesize()) {
		_ = os.Truncate(path, 0)
	}
}

// openError says what an operator can do.
func openError(path string, err error) error {
	_, panicked := errors.AsType[*panicError](err)
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("the session database %s is in use by another process: only one Caddy can use it; stop the other one, or give this one its own path (store bolt <path>)", path)
	case panicked, errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch),
		strings.Contains(err.Error(), "file size too small"): // bbolt has no name for it
		return damaged(path, err)
	default:
		return fmt.Errorf("the session database %s cannot be opened: see that there is space and that Caddy's user may write there, or give another path (store bolt <path>): %w", path, err)
	}
}

func damaged(path string, err error) error {
	return fmt.Errorf("the session database %s is damaged: move it away, and everybody signs in anew: %w", path, err)
}
