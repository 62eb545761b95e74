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
// the process, however that ends. Close the file to give it back.
func Lock(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("take the reaper's lock: %w", err)
	}
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
	return f, nil
}
