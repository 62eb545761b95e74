package reclaim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrLocked means that another process reaps on this machine.
var ErrLocked = errors.New("another scopereap is reaping on this machine")

// DefaultLock is the lock's file. It is the same whatever directory a daemon
// keeps its sockets and journals in, because what it guards is the machine.
const DefaultLock = "/run/scopereap/lock"

// Lock keeps a second reaper off the machine: two would take each other's
// shields for the administrator's values. It is a flock(2), so it ends with
// the process, however that ends. Remove the file, then close it, to give it
// back. Everybody who may open the file may take the lock, so only root may.
func Lock(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("take the reaper's lock: %w", err)
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("take the reaper's lock: %w", err)
		}
		ours, err := lockOpened(f, path)
		if ours {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// lockOpened takes the lock of an open file. It is not ours where the file at
// path is another one by then: whoever had the lock may have removed the file at
// its end, after we opened it, and a lock of that one nobody else sees.
func lockOpened(f *os.File, path string) (ours bool, err error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			return false, ErrLocked
		}
		return false, fmt.Errorf("take the reaper's lock %s: %w", path, err)
	}
	opened, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("take the reaper's lock: %w", err)
	}
	now, err := os.Lstat(path)
	return err == nil && os.SameFile(opened, now), nil
}
