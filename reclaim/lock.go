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

// Lock keeps a second reaper off the machine: two would take each other's
// shields for the administrator's values. It is a flock(2), so it ends with
// the process, however that ends. Remove the file, then close it, to give it
// back.
func Lock(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("take the reaper's lock: %w", err)
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("take the reaper's lock: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if err == unix.EWOULDBLOCK {
				return nil, ErrLocked
			}
			return nil, fmt.Errorf("take the reaper's lock %s: %w", path, err)
		}
		// Whoever had it may have removed the file at its end, after we
		// opened it: then the lock we hold is one that nobody else sees.
		ours, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("take the reaper's lock: %w", err)
		}
		if now, err := os.Stat(path); err == nil && os.SameFile(ours, now) {
			return f, nil
		}
		f.Close()
	}
}
