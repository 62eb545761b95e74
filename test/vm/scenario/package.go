package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// packages shows the package's life: installed, upgraded under load, removed and purged, as a user would.
func packages() Scenario {
	return Scenario{
		Name:  "package",
		About: "the packages: install, upgrade during logins with a changed policy, remove, purge: the machine is as before",
		Runs: func(s suite.Suite) bool {
			return s.Default && !s.Broker // what differs with dbus-broker, api has: it installs the package too
		},
		Short: []string{"trixie"},
		Limit: 15 * time.Minute,
		Guest: runPackages,
	}
}

// upgradeLogins come and go during an upgrade, which takes as long as some six of them.
const upgradeLogins = 8

// packagePolicy is the user's: linger for one user, so that there is something to undo.
const packagePolicy = "# mine\n[linger]\nusers = [\"bob\"]\n"

const (
	policyPath = "/etc/scopereap/policy.toml"
	cronPAM    = "/etc/pam.d/cron"
)

func runPackages(ctx context.Context, r *Run) error {
	c := &coreRun{Run: r}
	// The image's dpkg leaves documentation out, and dpkg -V would miss it.
	if err := os.Remove("/etc/dpkg/dpkg.cfg.d/99mmdebstrap"); err != nil {
		return err
	}
	if err := cronWithSessions(); err != nil {
		return err
	}
	before, err := machine.TakeSnapshot()
	if err != nil {
		return err
	}
	for _, phase := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"install", c.debInstall},
		{"upgrade", c.debUpgrade},
		{"again", c.debAgain},
		{"remove", c.debRemove},
		{"purge", func(ctx context.Context) error { return c.debPurge(ctx, before) }},
		{"rpm", func(ctx context.Context) error { return c.rpm(ctx, before) }},
	} {
		r.Log.Info("phase " + phase.name)
		if err := phase.do(ctx); err != nil {
			return fmt.Errorf("phase %s: %w", phase.name, err)
		}
	}
	return nil
}

// cronWithSessions gives cron's jobs login sessions, as other distributions than Debian do: then there is something to
// guard.
func cronWithSessions() error {
	f, err := os.OpenFile(cronPAM, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("session optional pam_systemd.so\n")
	return errors.Join(err, f.Close())
}

// yes notes a figure that has to be 1.
func (r *Run) yes(name string, ok bool, note string) {
	r.Require(name, boolFigure(ok), "", note, "1", ok)
}

// state is a unit's, as is-active and is-enabled say it; their exit codes say the same.
func (r *Run) state(ctx context.Context) (active, enabled string) {
	active, _ = machine.Run(ctx, "systemctl", "is-active", machine.Unit)
	enabled, _ = machine.Run(ctx, "systemctl", "is-enabled", machine.Unit)
	return active, enabled
}

// same requires that nothing differs from a snapshot, but for what is excused.
func (r *Run) same(name string, before machine.Snapshot, excused ...func(path string) bool) error {
	now, err := machine.TakeSnapshot()
	if err != nil {
		return err
	}
	for p := range now {
		_, was := before[p]
		if !was && slices.ContainsFunc(excused, func(f func(string) bool) bool { return f(p) }) {
			delete(now, p)
		}
	}
	changes := before.Changes(now)
	r.Require(name, float64(len(changes)), "", strings.Join(changes[:min(len(changes), 12)], "; "), "0", len(changes) == 0)
	return nil
}

func (c *coreRun) debInstall(ctx context.Context) error {
	if err := c.Apt(ctx, "install", filepath.Join(machine.Share, machine.OldDeb)); err != nil {
		return err
	}
	active, enabled := c.state(ctx)
	c.yes("deb: started and enabled by its installation", active == "active" && enabled == "enabled", active+", "+enabled)
	out, err := machine.Run(ctx, "dpkg", "-V", machine.PackageName)
	c.yes("deb: dpkg -V has nothing to say", err == nil && out == "", fmt.Sprint(out, err))
	// A user who reads the manual, and one who types a tab.
	for _, f := range []string{"/usr/share/man/man8/scopereapd.8.gz", "/usr/share/bash-completion/completions/scopereapctl"} {
		c.yes("deb: "+f, there(f), "")
	}
	exposure, _ := machine.Run(ctx, "systemd-analyze", "security", "--no-pager", machine.Unit)
	lines := strings.Split(exposure, "\n")
	c.Log.Info("systemd-analyze security", "says", lines[len(lines)-1])
	return c.restartAlone(ctx)
}

// restartAlone measures on v1, where no sweep reaches the dead, how many memcgs a restart of the daemon leaves while
// nothing else happens: its own, which nobody is there to hold.
func (c *coreRun) restartAlone(ctx context.Context) error {
	if !c.V1 {
		return nil
	}
	before, err := c.settled(ctx)
	if err != nil {
		return err
	}
	if err := c.Systemctl(ctx, "restart", machine.Unit); err != nil {
		return err
	}
	after, err := c.settled(ctx)
	if err != nil {
		return err
	}
	c.own = max(0, after-before)
	c.Require("left by a restart of the daemon alone", float64(c.own), "", "its own memcg", "≤ 1", c.own <= 1)
	return c.startFromHere()
}

// leftByUpgrade requires that an upgrade that began at a time lost no session: on v1 it leaves what every restart does,
// and the sessions that ended while no daemon was there to hold them.
func (c *coreRun) leftByUpgrade(ctx context.Context, name string, began time.Time, left int64, why string) error {
	most := c.own
	if c.V1 {
		since := "@" + strconv.FormatInt(began.Unix(), 10)
		journal, err := machine.Run(ctx, "journalctl", "--no-pager", "--since", since, "_PID=1")
		if err != nil {
			return err
		}
		unheld := endedUnheld(journal)
		c.Log.Info("sessions ended while no daemon ran", "n", unheld)
		most += unheld
	}
	c.Require(name, float64(left), "", why, fmt.Sprintf("≤ %d", most), left <= most)
	return nil
}

// endedUnheld counts the sessions that systemd 252 or newer (v1 is tried on no other) says ended between the daemon's stop
// and its start.
func endedUnheld(journal string) (n int64) {
	down := false
	for line := range strings.Lines(journal) {
		switch {
		case strings.Contains(line, ": Stopping "+machine.Unit):
			down = true
		case strings.Contains(line, ": Started "+machine.Unit):
			down = false
		case down && strings.Contains(line, ": session-") && strings.Contains(line, ".scope: Deactivated "):
			n++
		}
	}
	return n
}

// debUpgrade upgrades while sessions come, go and stay; linger, the guard and a changed policy are there.
func (c *coreRun) debUpgrade(ctx context.Context) error {
	if err := c.Policy(ctx, packagePolicy); err != nil {
		return err
	}
	if _, err := machine.Wait(ctx, time.Minute, "bob to linger", func() (bool, error) { return lingers()["bob"], nil }); err != nil {
		return err
	}
	pam, err := os.ReadFile(cronPAM)
	if err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "scopereapctl", "cron", "guard"); err != nil {
		return err
	}
	guarded, err := os.ReadFile(cronPAM)
	c.yes("cron is guarded", err == nil && string(guarded) != string(pam), fmt.Sprint(err))
	began := time.Now()
	over, err := c.Open(ctx, "alice", "dd if=/dev/urandom of=$HOME/over bs=64k count=4 status=none")
	if err != nil {
		return err
	}
	defer over.Close()
	done := make(chan error, 1)
	go func() {
		_, err := c.logins(ctx, min(c.Params.Logins, upgradeLogins))
		done <- err
	}()
	if err := machine.Sleep(ctx, time.Second); err != nil {
		return err
	}
	was, err := c.DaemonPID(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(c.Apt(ctx, "install", filepath.Join(machine.Share, machine.NewDeb)), <-done); err != nil {
		return err
	}
	is, err := c.DaemonPID(ctx)
	if err != nil {
		return err
	}
	c.yes("deb: an upgrade restarts it", is != 0 && is != was, fmt.Sprintf("pid %d, then %d", was, is))
	over.Close()
	last, err := c.logins(ctx, 2)
	if err != nil {
		return err
	}
	left, why, err := c.drain(ctx, last)
	if err != nil {
		return err
	}
	if err := c.leftByUpgrade(ctx, "dying left but the pinned, after an upgrade during logins", began, left, why); err != nil {
		return err
	}
	return c.kept("an upgrade", string(guarded))
}

// kept requires that the user's settings are as they were.
func (c *coreRun) kept(after, guarded string) error {
	text, err := os.ReadFile(policyPath)
	c.yes("the changed policy is kept by "+after, err == nil && string(text) == packagePolicy, fmt.Sprint(err))
	c.yes("linger is kept by "+after, lingers()["bob"], "")
	text, err = os.ReadFile(cronPAM)
	c.yes("the guard is kept by "+after, err == nil && string(text) == guarded, fmt.Sprint(err))
	return nil
}

// debAgain changes the policy once more and installs once more.
func (c *coreRun) debAgain(ctx context.Context) error {
	guarded, err := os.ReadFile(cronPAM)
	if err != nil {
		return err
	}
	if err := c.Policy(ctx, packagePolicy+"[sweep]\ninterval = \"7m\"\n"); err != nil {
		return err
	}
	if err := c.Policy(ctx, packagePolicy); err != nil {
		return err
	}
	if err := c.Apt(ctx, "install", "--reinstall", filepath.Join(machine.Share, machine.NewDeb)); err != nil {
		return err
	}
	active, enabled := c.state(ctx)
	c.yes("deb: runs after the second upgrade", active == "active" && enabled == "enabled", active+", "+enabled)
	return c.kept("the second", string(guarded))
}

// debRemove removes: what it did to the machine is undone, the policy stays.
func (c *coreRun) debRemove(ctx context.Context) error {
	if err := c.Apt(ctx, "remove", machine.PackageName); err != nil {
		return err
	}
	active, _ := c.state(ctx)
	c.yes("deb: removal stops it", active != "active", active)
	text, err := os.ReadFile(cronPAM)
	c.yes("deb: removal unguards cron", err == nil && !strings.Contains(string(text), "scopereap"), fmt.Sprint(err))
	c.yes("deb: removal ends linger", !lingers()["bob"], "")
	text, err = os.ReadFile(policyPath)
	c.yes("deb: removal keeps the policy", err == nil && string(text) == packagePolicy, fmt.Sprint(err))
	return nil
}

func (c *coreRun) debPurge(ctx context.Context, before machine.Snapshot) error {
	if err := c.Apt(ctx, "purge", machine.PackageName); err != nil {
		return err
	}
	if err := c.same("deb: files that differ after the purge", before); err != nil {
		return err
	}
	c.yes("deb: nothing in /run after the purge", !there("/run/scopereap"), "")
	load, err := c.Property(ctx, machine.Unit, "LoadState")
	c.yes("deb: systemd does not know it after the purge", err == nil && load == "not-found", fmt.Sprint(load, err))
	return nil
}
