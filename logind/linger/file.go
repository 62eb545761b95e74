package linger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/files"
)

// stateFile is the state on disk. Daemon and CLI both work on it: whoever changes it holds the lock
// from reading to writing.
type stateFile struct {
	path string
	now  func() time.Time
}

const (
	lockPatience = 30 * time.Second // how long another's turn may take
	lockPause    = 20 * time.Millisecond
)

// lock waits for the lock beside the state file, which lasts until unlock is called or the process
// ends.
func (f stateFile) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	path := f.path + ".lock"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	limited, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			_ = files.Clean(filepath.Dir(f.path)) // what a killed one left does no harm
			return func() { unix.Close(fd) }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			unix.Close(fd)
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		select {
		case <-limited.Done():
		case <-time.After(lockPause):
		}
		if limited.Err() != nil {
			unix.Close(fd)
			if ctx.Err() != nil {
				return nil, fmt.Errorf("waiting for %s: %w", path, ctx.Err())
			}
			return nil, fmt.Errorf("%s: another scopereap has been changing linger for %v; try again later", path, lockPatience)
		}
	}
}

// corruptError is a state file that cannot be understood.
type corruptError struct {
	path string
	err  error
}

func (e *corruptError) Error() string {
	return fmt.Sprintf("%s cannot be understood: %v", e.path, e.err)
}

func (e *corruptError) Unwrap() error { return e.err }

// read returns the state; none is an empty one. The error can be a *corruptError, or ErrNewer
// together with what could be understood.
func (f stateFile) read() (*state, error) {
	st, err := os.Lstat(f.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return newState(), nil
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file; take it away", f.path)
	case st.Size() > maxState:
		return nil, &corruptError{f.path, fmt.Errorf("it has %d bytes, more than %d", st.Size(), maxState)}
	}
	text, err := files.ReadBounded(f.path, maxState)
	if err != nil {
		return nil, err
	}
	s, err := parseState([]byte(text))
	switch {
	case errors.Is(err, ErrNewer):
		return s, fmt.Errorf("%s: version %d, %w", f.path, s.Version, err)
	case err != nil:
		return nil, &corruptError{f.path, err}
	}
	return s, nil
}

// setAside renames a corrupt state file, so that somebody can look at it, and returns where it is.
func (f stateFile) setAside() (string, error) {
	to := f.path + ".corrupt-" + f.now().UTC().Format("20060102T150405.000Z")
	return to, os.Rename(f.path, to)
}

// write replaces the state file in one step: after a crash there is the old one or the new one. It
// keeps the old one's owner and mode.
func (f stateFile) write(s *state) error {
	text, err := s.encode()
	if err != nil {
		return fmt.Errorf("writing %s: %w", f.path, err)
	}
	if old, err := files.ReadBounded(f.path, maxState); err == nil && old == string(text) {
		return nil
	}
	o := files.Options{Mode: 0o644, Sync: files.SyncDir}
	var st unix.Stat_t
	if unix.Lstat(f.path, &st) == nil {
		o.Mode = os.FileMode(st.Mode & 0o777)
		if os.Geteuid() == 0 {
			o.Owner = &files.Owner{UID: int(st.Uid), GID: int(st.Gid)}
		}
	}
	return files.Write(f.path, text, o)
}
