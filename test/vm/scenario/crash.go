package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// crash kills the daemon in the middle of a shield, again and again until it hits one.
func crash() Scenario {
	return Scenario{
		Name:  "crash",
		About: "SIGKILL during a shield or squeeze: systemd's restart puts every memory.min and memory.high back",
		Runs:  func(s suite.Suite) bool { return !s.V1 && s.Name != "forky" && !s.Broker },
		Limit: 10 * time.Minute,
		Guest: runCrash,
	}
}

const (
	crashTree     = "/vmcrash" // outside user.slice and system.slice: nobody else writes there
	crashDying    = 400
	crashPages    = 80 // of each dying memcg: 5.10's memory.stat does not see the first 31 on each CPU
	crashTries    = 6
	restoreWithin = 20 * time.Second // ExecStopPost and Restart= on an emulated CPU
)

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

func runCrash(ctx context.Context, r *Run) error {
	if err := r.Install(ctx); err != nil {
		return err
	}
	tree, err := newTree(r.Machine, crashTree)
	if err != nil {
		return err
	}
	defer tree.Close()
	var dirs []string
	for i := range 3 {
		d, err := tree.AddLive(fmt.Sprintf("live%d", i), 8<<20)
		if err != nil {
			return err
		}
		dirs = append(dirs, d)
	}
	// What an administrator has set must come back too, not just zero.
	for f, v := range map[string]string{dirs[0] + "/memory.min": "4194304", dirs[1] + "/memory.high": "1073741824", dirs[1] + "/memory.low": "1048576"} {
		if err := machine.WriteFile(f, v); err != nil {
			return err
		}
	}
	dirs = append(dirs, r.MemPath(crashTree))
	was, err := readLimits(dirs)
	if err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}

	var hit bool
	var tries int
	for tries = 1; tries <= crashTries && !hit; tries++ {
		if _, err := r.settled(ctx); err != nil {
			return err
		}
		if hit, err = r.killDuringShield(ctx, tree, dirs, was); err != nil {
			return err
		}
	}
	if !hit {
		return fmt.Errorf("no SIGKILL fell into a shield in %d tries", crashTries)
	}
	r.Report("tries until a SIGKILL hit a shield", float64(tries-1), "", "")
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

// killDuringShield makes a leak, has it reaped and kills the daemon once a limit differs. It returns whether that
// still differed right after the kill, and waits until the restarted daemon has put all back.
func (r *Run) killDuringShield(ctx context.Context, tree *tree, dirs []string, was limits) (bool, error) {
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
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return false, err
	}
	killed := time.Now()
	// The process is not dead before it leaves the kernel; then its last restore is past, too.
	for alive(pid) {
		time.Sleep(time.Millisecond)
	}
	now, err := readLimits(dirs)
	if err != nil {
		return false, err
	}
	left := now.changed(was)
	<-sweep // it fails: its daemon is dead
	if len(left) == 0 {
		r.Log.Info("the kill came after the restore, trying again")
		_, err := r.restarted(ctx, pid)
		return false, err
	}
	r.Log.Info("killed during a shield", "changed", left)
	back, err := machine.Wait(ctx, restoreWithin, "the limits to be restored", func() (bool, error) {
		now, err := readLimits(dirs)
		return err == nil && maps.Equal(now, was), err
	})
	if err != nil {
		now, _ := readLimits(dirs)
		r.Require("restored after SIGKILL during a shield", time.Since(killed).Seconds(), "s", fmt.Sprint(now.changed(was)), "within the restart", false)
		return true, nil
	}
	r.Require("restored after SIGKILL during a shield", time.Since(killed).Seconds(), "s", fmt.Sprintf("%d values", len(left)), "within the restart", true)
	r.Log.Info("restored", "polled", back)
	_, err = r.restarted(ctx, pid)
	return true, err
}

// alive tells whether a process exists and is no zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	i := slices.Index(b, ')')
	return i >= 0 && i+2 < len(b) && b[i+2] != 'Z' && b[i+2] != 'X'
}

// restarted waits until systemd runs another daemon than pid.
func (r *Run) restarted(ctx context.Context, pid int) (time.Duration, error) {
	return machine.Wait(ctx, restoreWithin, "the daemon's restart", func() (bool, error) {
		state, err := r.Property(ctx, machine.Unit, "ActiveState")
		if err != nil || state != "active" {
			return false, err
		}
		now, err := r.DaemonPID(ctx)
		return now != 0 && now != pid, err
	})
}
