package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// crashV1 has the daemon die while it holds scopes.
func crashV1() Scenario {
	return Scenario{
		Name:  "crash-v1",
		About: "killed, aborted, crashed or hung while scopes are held (v1): no directory stays behind once the sessions have ended",
		Runs:  func(s suite.Suite) bool { return s.V1 },
		Limit: 25 * time.Minute,
		Guest: runCrashV1,
	}
}

func runCrashV1(ctx context.Context, r *Run) error {
	if err := r.Install(ctx); err != nil {
		return err
	}
	if err := r.shortWatchdog(ctx); err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	for _, d := range deaths {
		if err := r.dieHolding(ctx, d); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return nil
}

// dieHolding has the daemon die while it holds the scopes of two live sessions and of two that have just ended.
func (r *Run) dieHolding(ctx context.Context, d death) error {
	write := func(i int) string {
		return fmt.Sprintf("dd if=/dev/urandom of=$HOME/c.%d bs=64k count=4 status=none", i)
	}
	var open []*machine.Session
	defer func() {
		for _, s := range open {
			s.Close()
		}
	}()
	for i, user := range []string{"alice", "bob", "alice", "bob"} {
		s, err := r.Open(ctx, user, write(i))
		if err != nil {
			return err
		}
		open = append(open, s)
	}
	var st machine.Status
	_, err := machine.Wait(ctx, 15*time.Second, "the daemon to hold the sessions' scopes", func() (bool, error) {
		var err error
		st, err = r.Status(ctx)
		return st.Held >= len(open), err
	})
	if err != nil {
		return fmt.Errorf("%w (it holds %d)", err, st.Held)
	}
	// Two sessions end just before the kill, so that directories of ended units are held, too.
	open[2].Close()
	open[3].Close()
	if _, err := machine.Wait(ctx, 15*time.Second, "systemd to have removed an ended session's scope", func() (bool, error) {
		return machine.Gone(r.UnitPath(open[2].Cgroup)), nil
	}); err != nil {
		return err
	}
	pid, err := r.DaemonPID(ctx)
	if err != nil || pid == 0 {
		return errors.Join(err, errors.New("the daemon does not run"))
	}
	if err := d.die(pid); err != nil {
		return err
	}
	held, err := r.Held()
	if err != nil {
		return err
	}
	r.Report("directories held at "+d.name+", of ended units", float64(len(held)), "", "")
	took, err := r.restarted(ctx, pid, d.within)
	if err != nil {
		return err
	}
	r.Report("daemon restarted after "+d.name, took.Seconds(), "s", "")
	open[0].Close()
	open[1].Close()
	_, err = machine.Wait(ctx, time.Minute, "all of the sessions' directories to go", func() (bool, error) {
		for _, s := range open {
			if !machine.Gone(r.MemPath(s.Cgroup)) || !machine.Gone(r.UnitPath(s.Cgroup)) {
				return false, nil
			}
		}
		held, err = r.Held()
		return len(held) == 0, err
	})
	note := ""
	if err != nil {
		note = err.Error()
	}
	r.Require("held directories left after "+d.name, float64(len(held)), "", note, "0", err == nil && len(held) == 0)
	return nil
}
