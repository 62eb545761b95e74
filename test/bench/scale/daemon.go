package main

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

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/reclaim"
)

// quietPolicy is the built-in one but for this: no sweep that nobody asked for, and no directory held.
const quietPolicy = `[sweep]
interval = "0"
threshold = 0

[hold]
enabled = false

[log]
level = "warn"
`

// daemon is a scopereapd of our own, with a run directory and a policy of its own and no bus.
type daemon struct {
	cmd    *exec.Cmd
	socket string
	share  float64 // of one CPU, that the policy lets it have
	ended  chan error
}

// noBus is nowhere: no session of this machine is to be reaped.
const noBus = "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent/scopereap-scale"

const daemonWait = 20 * time.Second // for its start, and for its end

func (b *bench) startDaemon(ctx context.Context) (*daemon, error) {
	root := filepath.Join(b.dir, "root")
	conf := filepath.Join(root, "etc/scopereap/policy.toml")
	if err := os.MkdirAll(filepath.Dir(conf), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(conf, []byte(quietPolicy), 0o644); err != nil {
		return nil, err
	}
	loaded, err := policy.Load(policy.Dirs{Root: root})
	if err != nil {
		return nil, err
	}
	if loaded.Policy.Sweep.Interval != 0 { // or it would sweep all
		return nil, fmt.Errorf("%s was not read", conf)
	}
	run := filepath.Join(b.dir, "run")
	if err := os.MkdirAll(run, 0o755); err != nil {
		return nil, err
	}
	d := &daemon{socket: filepath.Join(run, control.SocketName), share: loaded.Policy.Engine().Share, ended: make(chan error, 1)}
	d.cmd = exec.Command(b.daemon, "--run-dir", run, "--state-dir", filepath.Join(b.dir, "state"), "--policy-root", root)
	d.cmd.Env = append(os.Environ(), noBus)
	d.cmd.Stderr = os.Stderr
	d.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM} // Ctrl-C is for us
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { d.ended <- d.cmd.Wait() }()
	for began := time.Now(); ; {
		var st control.Status
		err := control.Call(ctx, d.socket, control.VerbStatus, nil, &st, nil)
		if err == nil {
			return d, nil
		}
		if time.Since(began) > daemonWait || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("%s does not answer: %w", b.daemon, err), d.stop())
		}
		select {
		case err := <-d.ended:
			return nil, fmt.Errorf("%s ended: %w", b.daemon, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// sweep has it sweep below a cgroup, and returns when it says that it has.
func (d *daemon) sweep(ctx context.Context, cgroup string) error {
	var r reclaim.SweepResult
	err := control.Call(ctx, d.socket, control.VerbSweep, control.SweepArgs{Under: cgroup}, &r, func(json.RawMessage) {})
	if err != nil {
		return fmt.Errorf("sweep %s: %w", cgroup, err)
	}
	for _, o := range r.Outcomes {
		if o.Error != "" || o.Verdict != reclaim.MayReap {
			return fmt.Errorf("sweep %s: %s: %s %s", cgroup, o.Ancestor, o.Verdict, o.Error)
		}
	}
	return nil
}

// cpu is the CPU time that it has used, all threads together, and the process that evicts for it, if there is one: each
// one's own clock (clock_getcpuclockid(3)).
func (d *daemon) cpu() (sum time.Duration, err error) {
	pids := []int{d.cmd.Process.Pid}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[0])) // each thread has its own
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		children, _ := os.ReadFile(task) // a thread may end
		for _, child := range strings.Fields(string(children)) {
			pid, err := strconv.Atoi(child)
			if err != nil {
				return 0, err
			}
			pids = append(pids, pid)
		}
	}
	for i, pid := range pids {
		const sched = 2 // CPUCLOCK_SCHED, include/linux/posix-timers.h
		var ts unix.Timespec
		err := unix.ClockGettime(int32(^pid<<3|sched), &ts)
		if err != nil && (i == 0 || !errors.Is(err, unix.EINVAL)) { // a child that has just ended
			return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// stop ends it. That it had ended before is an error.
func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(unix.SIGTERM)
	select {
	case err := <-d.ended:
		if err != nil {
			return fmt.Errorf("scopereapd: %w", err)
		}
		return nil
	case <-time.After(daemonWait):
		_ = d.cmd.Process.Kill()
		return errors.Join(errors.New("scopereapd did not stop"), <-d.ended)
	}
}
