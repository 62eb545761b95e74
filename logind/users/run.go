package users

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	maxAnswer   = 1 << 20  // bytes of a getent or id; a group with 50,000 members has less
	maxDatabase = 16 << 20 // bytes of /etc/passwd and /etc/group
)

// getentNotFound is the exit code of getent(1) for "no such key".
const getentNotFound = 2

// run runs a program of the user database and returns what it writes. It gets no environment, no
// input, and no more time and output than is good.
func (db *DB) run(ctx context.Context, name string, args ...string) (string, error) {
	program, err := trustedProgram(db.opts.Programs, name)
	if err != nil {
		return "", err
	}
	what := name + " " + strings.Join(args, " ")
	limited, cancel := context.WithTimeout(ctx, db.opts.Timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, program, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	out := &bounded{room: maxAnswer, full: cancel}
	cmd.Stdout = out
	// In a process group of its own, so that what it started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = db.opts.Timeout / 5 // a grandchild that left the group may hold the pipe
	err = cmd.Run()
	switch {
	case out.over:
		return "", fmt.Errorf("%s: wrote more than %d bytes and was stopped", what, maxAnswer)
	case err != nil && ctx.Err() != nil:
		return "", fmt.Errorf("%s: %w", what, ctx.Err())
	case errors.Is(limited.Err(), context.DeadlineExceeded) && ctx.Err() == nil:
		return "", fmt.Errorf("%s: no answer within %v; is the directory service (SSSD, LDAP) up?", what, db.opts.Timeout)
	case err != nil:
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return out.buf.String(), nil
}

// isNotFound reports whether getent answered that there is no such entry.
func isNotFound(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == getentNotFound
}

// bounded takes output up to a bound and calls full beyond.
type bounded struct {
	buf  bytes.Buffer
	room int
	over bool
	full func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > b.room {
		b.over = true
		b.full()
		return 0, io.ErrShortWrite
	}
	return b.buf.Write(p)
}

// trustedProgram finds a program that nobody but root (or ourselves) can have put there.
func trustedProgram(dirs []string, name string) (string, error) {
	var faults []error
	for _, dir := range dirs {
		p := filepath.Join(dir, name)
		st, err := os.Stat(p)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			faults = append(faults, err)
			continue
		}
		sys, _ := st.Sys().(*syscall.Stat_t)
		switch {
		case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
			faults = append(faults, fmt.Errorf("%s is not a program", p))
		case st.Mode()&0o022 != 0:
			faults = append(faults, fmt.Errorf("%s can be written by others than its owner and is not run", p))
		case sys == nil || sys.Uid != 0 && int(sys.Uid) != os.Geteuid():
			faults = append(faults, fmt.Errorf("%s is not root's and is not run", p))
		default:
			return p, nil
		}
	}
	return "", errors.Join(append(faults, fmt.Errorf("no %s found in %s", name, strings.Join(dirs, ", ")))...)
}
