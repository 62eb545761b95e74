// Package machine is what a scenario has in its hands inside the guest: logins, cgroups, units, the daemon.
package machine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Share is where the guest sees the host's folder.
const Share = "/lab"

// pageSize is that of amd64, the only machine the tests boot.
const pageSize = 4096

// Machine knows where this guest keeps its memory cgroups.
type Machine struct {
	V1      bool
	memRoot string // the memory hierarchy's mount
	sdRoot  string // the hierarchy systemd keeps its units in: the same one on v2
	Log     *slog.Logger
}

// New finds out the guest's cgroup mode.
func New(log *slog.Logger) (*Machine, error) {
	m := &Machine{Log: log, memRoot: "/sys/fs/cgroup", sdRoot: "/sys/fs/cgroup"}
	if exists("/sys/fs/cgroup/cgroup.controllers") {
		return m, nil
	}
	m.V1, m.memRoot = true, "/sys/fs/cgroup/memory"
	m.sdRoot = "/sys/fs/cgroup/systemd"
	if exists("/sys/fs/cgroup/unified/cgroup.controllers") {
		m.sdRoot = "/sys/fs/cgroup/unified"
	}
	for _, d := range []string{m.memRoot, m.sdRoot} {
		if !exists(d) {
			return nil, fmt.Errorf("no cgroup hierarchy at %s", d)
		}
	}
	return m, nil
}

// MemPath returns the folder of a cgroup in the memory hierarchy.
func (m *Machine) MemPath(cgroup string) string { return path.Join(m.memRoot, cgroup) }

// UnitPath returns the folder of a cgroup in systemd's own hierarchy.
func (m *Machine) UnitPath(cgroup string) string { return path.Join(m.sdRoot, cgroup) }

// Run runs a command and returns what it printed, on both streams.
func Run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	s := strings.TrimSpace(string(out))
	if err != nil {
		return s, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, s)
	}
	return s, nil
}

// Wait looks every 200 ms until cond is true, for at most limit; it returns how long it took.
func Wait(ctx context.Context, limit time.Duration, what string, cond func() (bool, error)) (time.Duration, error) {
	start := time.Now()
	for {
		ok, err := cond()
		if err != nil {
			return time.Since(start), fmt.Errorf("waiting for %s: %w", what, err)
		}
		if ok {
			return time.Since(start), nil
		}
		if time.Since(start) > limit {
			return time.Since(start), fmt.Errorf("waited %s in vain for %s", limit, what)
		}
		if err := Sleep(ctx, 200*time.Millisecond); err != nil {
			return time.Since(start), err
		}
	}
}

// Sleep sleeps, but not longer than the scenario may run.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func exists(p string) bool { _, err := os.Stat(p); return err == nil }

// Gone tells whether a cgroup folder has been removed.
func Gone(p string) bool { return !exists(p) }

// WriteFile writes a cgroup file through the system call: os.File would park the goroutine for ever on EAGAIN. No signal
// reaches it meanwhile: one for a child that ended would end a write that reclaims, too.
func WriteFile(p, s string) error {
	fd, err := unix.Open(p, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: p, Err: err}
	}
	err = withoutSignals(func() error {
		_, err := unix.Write(fd, []byte(s))
		return err
	})
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return &os.PathError{Op: "write " + strconv.Quote(s), Path: p, Err: err}
	}
	return nil
}

// withoutSignals runs do on a thread to which the kernel delivers none.
func withoutSignals(do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return err
	}
	return errors.Join(do(), unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil))
}
