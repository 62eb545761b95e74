package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// bus takes the daemon's bus connection, subscription and logind away while sessions come and go.
func bus() Scenario {
	return Scenario{
		Name:  "bus",
		About: "systemd reloads and re-executes, logind and dbus restart while sessions come and go: nothing is lost",
		Runs:  func(s suite.Suite) bool { return s.Name == "bookworm" },
		Limit: 12 * time.Minute,
		Guest: runBus,
	}
}

func runBus(ctx context.Context, r *Run) error {
	if err := r.Install(ctx); err != nil {
		return err
	}
	if err := r.Policy(ctx, emulatedBudget); err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	if _, err := r.settled(ctx); err != nil {
		return err
	}
	c := &coreRun{Run: r}
	for _, step := range []struct {
		name string
		args []string
	}{
		{"daemon-reload", []string{"daemon-reload"}},
		{"daemon-reexec", []string{"daemon-reexec"}},
		{"logind restart", []string{"restart", "systemd-logind.service"}},
		// Last: Debian's dbus is not made to be restarted, and logind may lose sessions by it.
		{"dbus restart", []string{"restart", "dbus.service"}},
	} {
		if err := c.disturb(ctx, step.name, step.args); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// disturb runs one systemctl command in the middle of sessions and requires that nothing stays dead after it.
func (c *coreRun) disturb(ctx context.Context, name string, args []string) error {
	c.Log.Info("disturb", "by", name)
	over, err := c.Open(ctx, "alice", fmt.Sprintf("dd if=/dev/urandom of=$HOME/over.%d bs=64k count=4 status=none", c.file))
	if err != nil {
		return err
	}
	defer over.Close()
	done := make(chan error, 1)
	go func() {
		_, err := c.logins(ctx, 4)
		done <- err
	}()
	if err := machine.Sleep(ctx, time.Second); err != nil {
		return err
	}
	if err := c.Systemctl(ctx, args...); err != nil {
		c.Log.Warn("systemctl", "args", args, "err", err)
	}
	if err := <-done; err != nil {
		// A login may fail while logind restarts: that is not the daemon's doing.
		c.Log.Warn("a login failed", "err", err)
	}
	over.Close()
	last, err := c.loginsAgain(ctx, 2)
	if err != nil {
		return err
	}
	left, why, err := c.drain(ctx, last)
	if err != nil {
		return err
	}
	c.Require("dying left but the pinned, after "+name, float64(left), "", why, "0", left == 0)
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	c.Require("bus connected after "+name, boolFigure(st.Connected), "", fmt.Sprintf("%d reconnects", st.Reconnects), "1", st.Connected)
	return nil
}

// loginsAgain is logins once the machine lets users in again: after a restart of dbus, pam_systemd may wait for its
// timeout and sshd refuse, for as long as logind is not back.
func (c *coreRun) loginsAgain(ctx context.Context, n int) (last time.Time, err error) {
	refused, why := 0, ""
	_, waitErr := machine.Wait(ctx, 2*time.Minute, "logins to work again", func() (bool, error) {
		if last, err = c.logins(ctx, n); err != nil {
			refused, why = refused+1, err.Error()
			c.Log.Warn("a login failed", "err", err)
		}
		return err == nil, ctx.Err()
	})
	if refused > 0 {
		c.Report("logins refused after it", float64(refused), "", why)
	}
	return last, errors.Join(waitErr, err)
}

func boolFigure(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
