package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// crash has the daemon die in the middle of a shield, again and again until each way to die has hit one.
func crash() Scenario {
	return Scenario{
		Name:  "crash",
		About: "killed, aborted, crashed or hung during a shield or squeeze: systemd restarts it, and every memory.min and memory.high comes back",
		Runs:  func(s suite.Suite) bool { return !s.V1 && s.Name != "forky" && !s.Broker },
		Short: []string{"trixie"}, // limits kills it in mid-shield everywhere
		Limit: 25 * time.Minute,
		Guest: runCrash,
	}
}

const (
	crashTree     = "/vmcrash" // outside user.slice and system.slice: nobody else writes there
	crashDying    = 400
	crashPages    = 80 // of each dying memcg: 5.10's memory.stat does not see the first 31 on each CPU
	crashTries    = 6
	crashLeft     = 40               // of crashDying: what a sweep after the restart may leave, a tenth
	restoreWithin = 40 * time.Second // ExecStopPost and Restart= on an emulated CPU
	crashWatchdog = 10 * time.Second // WatchdogSec= here: an emulated CPU must be able to keep it
)

// death is a way in which the daemon ends without having been asked to.
type death struct {
	name   string
	signal syscall.Signal
	within time.Duration // until everything is restored and another daemon runs
}

// deaths are those that systemd must restart it after. Go ends with exit status 2 in all but the first.
var deaths = []death{
	{"SIGKILL", syscall.SIGKILL, restoreWithin},
	{"SIGABRT", syscall.SIGABRT, restoreWithin},
	{"SIGSEGV", syscall.SIGSEGV, restoreWithin}, // a fatal error, as a panic is
	// Hung: it does not ping, so systemd's watchdog sends SIGABRT, and SIGCONT.
	{"SIGSTOP until the watchdog", syscall.SIGSTOP, crashWatchdog + restoreWithin},
}

// die has the process die that way, and returns once it is dead, or, where it only hangs, once it stands still.
func (d death) die(pid int) error {
	if err := syscall.Kill(pid, d.signal); err != nil {
		return err
	}
	for end := time.Now().Add(d.within); ; time.Sleep(time.Millisecond) {
		switch s := processState(pid); {
		case s == 0, s == 'Z', s == 'X', d.signal == syscall.SIGSTOP && s == 'T':
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %s it went on for %v", d.name, d.within)
		}
	}
}

// shortWatchdog makes systemd's watchdog bite within a test's time.
func (r *Run) shortWatchdog(ctx context.Context) error {
	dir := "/run/systemd/system/" + machine.Unit + ".d"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("[Service]\nWatchdogSec=%ds\n", int(crashWatchdog.Seconds()))
	if err := os.WriteFile(filepath.Join(dir, "watchdog.conf"), []byte(text), 0o644); err != nil {
		return err
	}
	return r.Systemctl(ctx, "daemon-reload")
}

// stale tells whether the suite's kernel keeps stale protection, so that eviction goes first there.
func (r *Run) stale() bool {
	return !r.V1 && (strings.HasPrefix(r.Params.Suite, "bookworm") || strings.HasPrefix(r.Params.Suite, "bullseye"))
}

// noEviction is for scenarios that are about the shield, before which eviction goes where the kernel keeps stale
// protection.
const noEviction = "[evict]\nenabled = \"no\"\n"

// limits are the values a shield or squeeze changes, by file.
type limits map[string]string

func readLimits(dirs []string) (limits, error) {
	out := limits{}
	for _, d := range dirs {
		for _, f := range []string{"memory.min", "memory.low", "memory.high", "memory.max"} {
			p := filepath.Join(d, f)
			b, err := os.ReadFile(p)
			if err != nil {
				return nil, err
			}
			out[p] = string(b)
		}
	}
	return out, nil
}

// changed returns the files whose value is another than in was.
func (l limits) changed(was limits) []string {
	var out []string
	for p, v := range l {
		if was[p] != v {
			out = append(out, fmt.Sprintf("%s: %q was %q", p, v, was[p]))
		}
	}
	slices.Sort(out)
	return out
}

// administered adds three live cgroups, each with so much cache, and sets limits as an administrator would: those must come
// back too, not just zero.
func administered(tree *tree, bytes int64) (dirs []string, err error) {
	for i := range 3 {
		d, err := tree.AddLive(fmt.Sprintf("live%d", i), bytes)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, d)
	}
	for f, v := range map[string]string{dirs[0] + "/memory.min": "4194304", dirs[1] + "/memory.high": "1073741824", dirs[1] + "/memory.low": "1048576"} {
		if err := machine.WriteFile(f, v); err != nil {
			return nil, err
		}
	}
	return dirs, nil
}

func runCrash(ctx context.Context, r *Run) error {
	if err := r.Install(ctx); err != nil {
		return err
	}
	tree, err := newTree(r.Machine, crashTree)
	if err != nil {
		return err
	}
	defer tree.Close()
	dirs, err := administered(tree, 8<<20)
	if err != nil {
		return err
	}
	dirs = append(dirs, r.MemPath(crashTree))
	was, err := readLimits(dirs)
	if err != nil {
		return err
	}
	policy := noEviction
	if r.stale() { // its start tries more, at an emulated CPU's pace
		policy += emulatedBudget
	}
	if err := errors.Join(r.shortWatchdog(ctx), r.Policy(ctx, policy)); err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}

	for _, d := range deaths {
		var hit bool
		var tries int
		for tries = 1; tries <= crashTries && !hit; tries++ {
			if _, err := r.settled(ctx); err != nil {
				return err
			}
			if hit, err = r.dieDuringShield(ctx, d, tree, dirs, was); err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
		}
		if !hit {
			return fmt.Errorf("no %s fell into a shield in %d tries", d.name, crashTries)
		}
		r.Report("tries until a shield was hit by "+d.name, float64(tries-1), "", "")
		if err := r.goesOn(ctx, d); err != nil {
			return err
		}
	}
	if err := r.panics(ctx, tree, dirs, was); err != nil {
		return fmt.Errorf("a panic: %w", err)
	}
	// A restart that went on to shield again must have cleaned up after itself too.
	if _, err := r.settled(ctx); err != nil {
		return err
	}
	now, err := readLimits(dirs)
	if err != nil {
		return err
	}
	left := now.changed(was)
	r.Require("limits not as before, at the end", float64(len(left)), "", fmt.Sprint(left), "0", len(left) == 0)
	if err := r.StopDaemon(ctx); err != nil {
		return err
	}
	lost, err := tree.Lost()
	if err != nil {
		return err
	}
	r.Require("live cache lost in all of it (mincore)", float64(lost), "B", "of 24 MiB", "0", lost == 0)
	return nil
}

// panics has the reaping thread panic behind a shield: what is deferred still runs then, unlike in the other deaths.
func (r *Run) panics(ctx context.Context, tree *tree, dirs []string, was limits) error {
	const program = "/usr/sbin/scopereapd"
	script := fmt.Sprintf("cp %[1]s %[1]s.real && install -m 755 %[2]s %[1]s.new && mv %[1]s.new %[1]s", program, filepath.Join(machine.Share, machine.Panics))
	if _, err := machine.Run(ctx, "sh", "-c", script); err != nil {
		return err
	}
	if err := r.Systemctl(ctx, "restart", machine.Unit); err != nil {
		return err
	}
	if _, err := r.settled(ctx); err != nil {
		return err
	}
	if err := tree.Leak(ctx, crashDying, crashPages); err != nil {
		return err
	}
	pid, err := r.DaemonPID(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(machine.PanicNow, nil, 0o644); err != nil {
		return err
	}
	go func() { _, _ = machine.Run(ctx, "scopereapctl", "sweep") }() // its daemon dies
	_, err = machine.Wait(ctx, time.Minute, "the daemon to panic", func() (bool, error) { return processState(pid) == 0, nil })
	if err := errors.Join(err, os.Remove(machine.PanicNow)); err != nil {
		return err
	}
	entries, err := r.Journal(ctx, "_PID="+fmt.Sprint(pid))
	if err != nil {
		return err
	}
	said := slices.ContainsFunc(entries, func(e machine.Entry) bool {
		s, _ := e["MESSAGE"].(string)
		return strings.HasPrefix(s, "panic: ")
	})
	if !said {
		return errors.New("it ended without a panic")
	}
	var left []string
	_, err = machine.Wait(ctx, restoreWithin, "the limits to be restored", func() (bool, error) {
		now, err := readLimits(dirs)
		left = now.changed(was)
		return len(left) == 0, err
	})
	r.Require("limits not as before, after a panic", float64(len(left)), "", fmt.Sprint(left), "0", err == nil)
	if _, err := r.restarted(ctx, pid, restoreWithin); err != nil {
		return err
	}
	return r.goesOn(ctx, death{name: "a panic"})
}

// goesOn requires that the daemon reaps what its predecessor left dying.
func (r *Run) goesOn(ctx context.Context, d death) error {
	var dying int64
	if out, err := machine.Run(ctx, "scopereapctl", "sweep", crashTree); err != nil {
		return fmt.Errorf("a sweep after the restart: %w: %s", err, out)
	}
	_, err := machine.Wait(ctx, time.Minute, "what the dead daemon left to be reaped", func() (bool, error) {
		var err error
		dying, err = r.DyingBelow(crashTree)
		return dying <= crashLeft, err
	})
	note := ""
	if err != nil {
		note = err.Error()
	}
	r.Require("dying after the sweep that followed "+d.name, float64(dying), "", note, fmt.Sprintf("at most %d", crashLeft), err == nil)
	return nil
}

// dieDuringShield makes a leak, has it reaped and has the daemon die once a limit differs. It returns whether that
// still differed when it was dead, and waits until the restarted daemon has put all back.
func (r *Run) dieDuringShield(ctx context.Context, d death, tree *tree, dirs []string, was limits) (bool, error) {
	before, err := r.Dying()
	if err != nil {
		return false, err
	}
	if err := tree.Leak(ctx, crashDying, crashPages); err != nil {
		return false, err
	}
	after, err := r.Dying()
	if err != nil {
		return false, err
	}
	r.Log.Info("leaked", "dying_before", before, "dying_after", after)
	pid, err := r.DaemonPID(ctx)
	if err != nil || pid == 0 {
		return false, errors.Join(err, errors.New("the daemon does not run"))
	}
	sweep := make(chan string, 1)
	go func() {
		out, err := machine.Run(ctx, "scopereapctl", "sweep")
		sweep <- fmt.Sprintf("%s (%v)", out, err)
	}()
	// No sleep in here: a shield may last a few milliseconds.
	for end := time.Now().Add(20 * time.Second); ; {
		now, err := readLimits(dirs)
		if err != nil {
			return false, err
		}
		if len(now.changed(was)) > 0 {
			break
		}
		if time.Now().After(end) {
			told := "it has not ended"
			select {
			case told = <-sweep:
			default:
			}
			leaks, err := r.Leaks()
			return false, errors.Join(err, fmt.Errorf("a sweep of %d dying memcgs changed no limit within 20 s: %s; dead now: %v", after, told, leaks))
		}
	}
	killed := time.Now()
	// The process is not dead before it leaves the kernel; then its last restore is past, too.
	if err := d.die(pid); err != nil {
		return false, err
	}
	now, err := readLimits(dirs)
	if err != nil {
		return false, err
	}
	left := now.changed(was)
	if d.signal != syscall.SIGSTOP {
		<-sweep // it fails: its daemon is dead
	}
	if len(left) == 0 {
		r.Log.Info("it died after the restore, trying again", "of", d.name)
		_, err := r.restarted(ctx, pid, d.within)
		return false, err
	}
	r.Log.Info("died during a shield", "of", d.name, "changed", left)
	back, err := machine.Wait(ctx, d.within, "the limits to be restored", func() (bool, error) {
		now, err := readLimits(dirs)
		return err == nil && maps.Equal(now, was), err
	})
	if err != nil {
		now, _ := readLimits(dirs)
		r.Require("restored after "+d.name+" during a shield", time.Since(killed).Seconds(), "s", fmt.Sprint(now.changed(was)), "within the restart", false)
		return true, nil
	}
	r.Require("restored after "+d.name+" during a shield", time.Since(killed).Seconds(), "s", fmt.Sprintf("%d values", len(left)), "within the restart", true)
	r.Log.Info("restored", "polled", back)
	_, err = r.restarted(ctx, pid, d.within)
	return true, err
}

// processState is the state's letter in /proc/PID/stat, 0 for a process that does not exist.
func processState(pid int) byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	if i := bytes.LastIndexByte(b, ')'); i >= 0 && i+2 < len(b) {
		return b[i+2]
	}
	return 0
}

// restarted waits until systemd runs another daemon than pid.
func (r *Run) restarted(ctx context.Context, pid int, within time.Duration) (time.Duration, error) {
	return machine.Wait(ctx, within, "the daemon's restart", func() (bool, error) {
		// At once: an emulated CPU takes a quarter of a second for each.
		says, err := machine.Run(ctx, "systemctl", "show", "-p", "ActiveState", "-p", "MainPID", machine.Unit)
		lines := strings.Fields(says)
		return slices.Contains(lines, "ActiveState=active") && !slices.Contains(lines, "MainPID=0") &&
			!slices.Contains(lines, fmt.Sprint("MainPID=", pid)), err
	})
}
