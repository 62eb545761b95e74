package scenario

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
)

// rpm is the other package's life, on Debian with rpm's own program: its scriptlets run, and leave nothing.
func (c *coreRun) rpm(ctx context.Context, before machine.Snapshot) error {
	if _, err := exec.LookPath("rpm"); err != nil {
		c.Report("rpm: not in this image", 0, "", "")
		return nil
	}
	// Its database knows nothing of what dpkg installed.
	run := func(args ...string) (string, error) {
		out, err := machine.Run(ctx, "rpm", args...)
		c.Log.Info("rpm", "args", args, "says", out)
		return out, err
	}
	if _, err := run("-i", "--nodeps", filepath.Join(machine.Share, machine.OldRPM)); err != nil {
		return err
	}
	active, enabled := c.state(ctx)
	c.yes("rpm: its installation starts nothing", active != "active", active+", "+enabled)
	out, err := run("-V", "--nodeps", machine.PackageName)
	c.yes("rpm: rpm -V has nothing to say", err == nil && out == "", fmt.Sprint(out, err))
	if err := c.StartDaemon(ctx); err != nil {
		return err
	}
	if err := c.Policy(ctx, packagePolicy); err != nil {
		return err
	}
	if err := c.startFromHere(); err != nil {
		return err
	}
	began := time.Now()
	was, err := c.DaemonPID(ctx)
	if err != nil {
		return err
	}
	if _, err := run("-U", "--nodeps", filepath.Join(machine.Share, machine.NewRPM)); err != nil {
		return err
	}
	is, err := c.DaemonPID(ctx)
	if err != nil {
		return err
	}
	c.yes("rpm: an upgrade restarts it", is != 0 && is != was, fmt.Sprintf("pid %d, then %d", was, is))
	last, err := c.logins(ctx, 4)
	if err != nil {
		return err
	}
	left, why, err := c.drain(ctx, last)
	if err != nil {
		return err
	}
	if err := c.leftByUpgrade(ctx, "dying left but the pinned, with the rpm", began, left, why); err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "scopereapctl", "cron", "guard"); err != nil {
		return err
	}
	if _, err := run("-e", machine.PackageName); err != nil {
		return err
	}
	active, _ = c.state(ctx)
	c.yes("rpm: erasing stops it", active != "active", active)
	c.yes("rpm: erasing ends linger", !lingers()["bob"], "")
	// rpm keeps a changed configuration file aside, as it does with every package's.
	if _, err := machine.Run(ctx, "rm", "-r", "/etc/scopereap"); err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "rm", "-rf", "/var/lib/scopereap"); err != nil {
		return err
	}
	// Directories that many packages use belong to none of them here, but to "filesystem" where rpm is at home.
	return c.same("rpm: files that differ after erasing", before, machine.EmptyDir)
}
