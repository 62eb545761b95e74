package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Unit is the daemon's systemd unit.
const Unit = "scopereapd.service"

// Systemctl does one verb with units.
func (m *Machine) Systemctl(ctx context.Context, args ...string) error {
	_, err := Run(ctx, "systemctl", args...)
	return err
}

// Property returns one property of a unit.
func (m *Machine) Property(ctx context.Context, unit, name string) (string, error) {
	return Run(ctx, "systemctl", "show", "--value", "-p", name, unit)
}

// policyFile is the main policy file.
const policyFile = "/etc/scopereap/policy.toml"

// Policy writes the policy and, where the daemon runs, has it reloaded. An empty text removes it.
func (m *Machine) Policy(ctx context.Context, text string) error {
	err := os.MkdirAll(filepath.Dir(policyFile), 0o755)
	if text == "" {
		err = os.Remove(policyFile)
	} else if err == nil {
		err = os.WriteFile(policyFile, []byte(text), 0o644)
	}
	if err != nil {
		return err
	}
	if pid, err := m.DaemonPID(ctx); pid == 0 || err != nil {
		return err
	}
	return m.Systemctl(ctx, "reload", Unit)
}

// Ctl runs one of scopereapctl's verbs and decodes its JSON.
func (m *Machine) Ctl(ctx context.Context, into any, args ...string) error {
	out, err := exec.CommandContext(ctx, "scopereapctl", append(args, "--json")...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return fmt.Errorf("scopereapctl %s: %w", strings.Join(args, " "), err)
	}
	return json.Unmarshal(out, into)
}

// StartDaemon starts the daemon and returns when it has said that it is ready.
func (m *Machine) StartDaemon(ctx context.Context) error {
	return m.Systemctl(ctx, "start", Unit)
}

// StopDaemon stops it.
func (m *Machine) StopDaemon(ctx context.Context) error {
	return m.Systemctl(ctx, "stop", Unit)
}

// DaemonPID returns the daemon's process, or 0 if none runs.
func (m *Machine) DaemonPID(ctx context.Context) (int, error) {
	s, err := m.Property(ctx, Unit, "MainPID")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(s)
}

// Usage is what the daemon has used since its start.
type Usage struct {
	CPU      time.Duration
	RSS, HWM int64 // bytes
	Switches int64 // voluntary context switches of all its living threads: how often it woke up
}

// ProcessCPU is a process's CPU time, in units of 10 ms.
func ProcessCPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	ticks, err := parseStatTicks(string(b))
	const userHz = 100 // fixed in the ABI of amd64
	return time.Duration(ticks) * time.Second / userHz, err
}

// DaemonUsage reads the daemon's usage from /proc.
func (m *Machine) DaemonUsage(ctx context.Context) (Usage, error) {
	pid, err := m.DaemonPID(ctx)
	if err != nil {
		return Usage{}, err
	}
	if pid == 0 {
		return Usage{}, errors.New("the daemon does not run")
	}
	proc := fmt.Sprintf("/proc/%d", pid)
	cpu, err := ProcessCPU(pid)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{CPU: cpu}
	b, err := os.ReadFile(proc + "/status")
	if err != nil {
		return Usage{}, err
	}
	st := parseStatus(string(b))
	u.RSS, u.HWM = st["VmRSS"]<<10, st["VmHWM"]<<10
	tasks, err := filepath.Glob(proc + "/task/*/status")
	if err != nil {
		return Usage{}, err
	}
	for _, t := range tasks {
		if b, err := os.ReadFile(t); err == nil { // a thread may just have ended
			u.Switches += parseStatus(string(b))["voluntary_ctxt_switches"]
		}
	}
	return u, nil
}

// ReapingCPU is the CPU time of the daemon's reaping thread, the one of the lowest priority.
func (m *Machine) ReapingCPU(ctx context.Context) (time.Duration, error) {
	pid, err := m.DaemonPID(ctx)
	if err != nil {
		return 0, err
	}
	var spent time.Duration
	_, err = Wait(ctx, time.Second, "a thread of the daemon with nice 19", func() (found bool, err error) {
		spent, found, err = niceThreadCPU(pid)
		return found, err
	})
	return spent, err
}

// niceThreadCPU finds the thread by its nice value, which it does not have while it is in a hurry.
func niceThreadCPU(pid int) (spent time.Duration, found bool, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return 0, false, err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(filepath.Base(t))
		if err != nil {
			return 0, false, err
		}
		// getpriority(2) itself, without the C library, tells 20 less the nice value.
		if prio, err := unix.Getpriority(unix.PRIO_PROCESS, tid); err != nil || 20-prio != 19 {
			continue // or it has just ended
		}
		b, err := os.ReadFile(t + "/schedstat")
		if err != nil {
			return 0, false, err
		}
		var ns int64
		if _, err := fmt.Sscan(string(b), &ns); err != nil {
			return 0, false, fmt.Errorf("%s/schedstat: %q: %w", t, b, err)
		}
		return time.Duration(ns), true, nil
	}
	return 0, false, nil
}
