package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// kills has the daemon die a hundred times, at whatever moment that is.
func kills() Scenario {
	return Scenario{
		Name:  "kills",
		About: "killed, aborted or hung again and again at random moments of a shield, a squeeze or a hold: nothing stays changed or behind",
		Runs:  func(s suite.Suite) bool { return s.Name != "forky" && !s.Broker },
		Named: true, // it is what crash and crash-v1 test, for as long as one likes
		Limit: time.Hour,
		Guest: runKills,
	}
}

const (
	killWatchdog = 4 * time.Second
	killDying    = 60                     // a leak: what a shield or squeeze has to do
	killMoment   = 10 * time.Millisecond  // after a limit is seen to differ, at most
	killLater    = 500 * time.Millisecond // after a restart, where there is nothing to be seen, at most
	killEnd      = 2 * time.Minute        // until a last daemon has put all in order
	killSpare    = 5 * time.Minute        // of the scenario's time, for its end
)

// killWays are how it dies, in turn.
var killWays = []death{
	{"SIGKILL", syscall.SIGKILL, restoreWithin},
	{"SIGABRT", syscall.SIGABRT, restoreWithin},
	{"SIGSTOP", syscall.SIGSTOP, killWatchdog + restoreWithin},
}

// killRun counts what came of the kills.
type killRun struct {
	*Run
	of       map[string]int
	during   int // of them, while something was changed, or held beyond its unit's end
	notAgain int // after which no daemon ran in time
	changed  []string
}

func runKills(ctx context.Context, r *Run) error {
	if err := r.Install(ctx); err != nil {
		return err
	}
	dir := "/run/systemd/system/" + machine.Unit + ".d"
	text := fmt.Sprintf("[Service]\nRestartSec=100ms\nWatchdogSec=%ds\n", int(killWatchdog.Seconds()))
	err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "kills.conf"), []byte(text), 0o644))
	if err != nil {
		return err
	}
	policy := noEviction + emulatedBudget // or each start would spend what the turn after it needs
	if err := errors.Join(r.Policy(ctx, policy), r.Systemctl(ctx, "daemon-reload"), r.StartDaemon(ctx)); err != nil {
		return err
	}
	k := &killRun{Run: r, of: map[string]int{}}
	if r.V1 {
		err = k.holding(ctx)
	} else {
		err = k.shielding(ctx)
	}
	for _, d := range killWays {
		r.Report("kills by "+d.name, float64(k.of[d.name]), "", "")
	}
	r.Report("kills in the middle of it", float64(k.during), "", "")
	r.Require("kills after which no daemon ran again", float64(k.notAgain), "", "", "0", k.notAgain == 0)
	return err
}

// each kills the daemon so often. moment waits for the next one, and tells whether it is in the middle of something;
// after is done once another daemon runs.
func (k *killRun) each(ctx context.Context, moment func() (bool, error), after func(death) error) error {
	limit, bounded := ctx.Deadline()
	for i := range k.Params.Kills {
		if bounded && time.Until(limit) < killSpare {
			k.Log.Warn("no time for more", "kills", i)
			return nil
		}
		d := killWays[i%len(killWays)]
		pid, err := k.DaemonPID(ctx)
		if err != nil || pid == 0 {
			return errors.Join(err, fmt.Errorf("kill %d: the daemon does not run", i))
		}
		during, err := moment()
		if err != nil {
			return err
		}
		if err := d.die(pid); errors.Is(err, syscall.ESRCH) {
			k.Log.Warn("it had died by itself", "kill", i) // a watchdog that this CPU could not keep
		} else if err != nil {
			return err
		}
		k.of[d.name]++
		if during {
			k.during++
		}
		if _, err := k.restarted(ctx, pid, d.within); err != nil {
			k.notAgain++
			return fmt.Errorf("kill %d, %s: %w", i, d.name, err)
		}
		if err := after(d); err != nil {
			return err
		}
		if i%10 == 9 {
			k.Log.Info("killed", "times", i+1, "in the middle", k.during)
		}
	}
	return nil
}

// shielding kills it while limits are changed (v2).
func (k *killRun) shielding(ctx context.Context) error {
	tree, err := newTree(k.Machine, crashTree)
	if err != nil {
		return err
	}
	defer tree.Close()
	dirs, err := administered(tree, 4<<20)
	if err != nil {
		return err
	}
	dirs = append(dirs, k.MemPath(crashTree))
	was, err := readLimits(dirs)
	if err != nil {
		return err
	}
	var sweeps sync.WaitGroup
	defer sweeps.Wait()
	err = k.each(ctx, func() (bool, error) {
		if err := tree.Leak(ctx, killDying, crashPages); err != nil {
			return false, err
		}
		// Its daemon dies. (scopereapctl would do it by itself where none runs, and keep the next one away for so long.)
		sweeps.Go(func() {
			_, _ = machine.Run(ctx, "busctl", "--system", "call", apiName, apiPath, apiMain, "Sweep", "sb", crashTree, "false")
		})
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
			now, err := readLimits(dirs)
			if err != nil {
				return false, err
			}
			if !maps.Equal(now, was) {
				if rand.N(2) == 0 { // some last no longer than it takes to see them
					time.Sleep(rand.N(killMoment))
				}
				now, err := readLimits(dirs)
				return !maps.Equal(now, was), err
			}
		}
		return false, nil
	}, func(d death) error {
		var left []string
		_, err := machine.Wait(ctx, d.within, "the limits to be restored", func() (bool, error) {
			now, err := readLimits(dirs)
			left = now.changed(was)
			return len(left) == 0, err
		})
		if err != nil {
			k.changed = append(k.changed, fmt.Sprintf("%s: %s", d.name, left))
		}
		return nil
	})
	if err != nil {
		return err
	}
	sweeps.Wait()
	if err := k.StopDaemon(ctx); err != nil {
		return err
	}
	now, err := readLimits(dirs)
	if err != nil {
		return err
	}
	k.changed = append(k.changed, now.changed(was)...)
	k.Require("values left changed", float64(len(k.changed)), "", strings.Join(k.changed, "; "), "0", len(k.changed) == 0)
	lost, err := tree.Lost()
	if err != nil {
		return err
	}
	k.Report("live cache lost in all of it (mincore)", float64(lost), "B", "of 12 MiB")
	return nil
}

// holding kills it while scopes come, are held, and go (v1).
func (k *killRun) holding(ctx context.Context) error {
	file, err := os.CreateTemp("/var/tmp", "vmkills")
	if err != nil {
		return err
	}
	file.Close()
	churn, stop := context.WithCancel(ctx)
	var units sync.WaitGroup
	made := make([]int, 2)
	for i := range made {
		units.Go(func() {
			for churn.Err() == nil {
				name := fmt.Sprintf("run-vmkill%d-%d.scope", i, made[i])
				script := fmt.Sprintf("dd if=/dev/urandom of=%s.%d bs=4k count=8 status=none; sleep 0.%d", file.Name(), i, rand.N(9))
				_ = exec.CommandContext(churn, "systemd-run", "-q", "--scope", "--unit", name, "sh", "-c", script).Run()
				made[i]++
			}
		})
	}
	ours := func() (held []string, err error) {
		all, err := k.Held()
		for _, c := range all {
			if strings.Contains(c, "vmkill") {
				held = append(held, c)
			}
		}
		return held, err
	}
	err = k.each(ctx, func() (bool, error) {
		if err := machine.Sleep(ctx, rand.N(killLater)); err != nil {
			return false, err
		}
		held, err := ours()
		return len(held) > 0, err
	}, func(death) error { return nil })
	stop()
	units.Wait()
	if err != nil {
		return err
	}
	var left []string
	_, _ = machine.Wait(ctx, killEnd, "the held directories to go", func() (bool, error) {
		left, err = ours()
		return len(left) == 0, err
	})
	k.Report("units that came and went", float64(made[0]+made[1]), "", "")
	k.Require("directories left", float64(len(left)), "", strings.Join(left, " "), "0", err == nil && len(left) == 0)
	return err
}
