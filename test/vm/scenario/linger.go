package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// linger shows that a policy takes the trigger away from logins: linger and no memcgs below users' slices.
func linger() Scenario {
	return Scenario{
		Name:  "linger",
		About: "50 logins with the policy linger + per-user and reclaim switched off; auto linger; all of it undone",
		Runs:  func(s suite.Suite) bool { return s.Name == "bookworm" || s.Name == "trixie" },
		Short: []string{"trixie"},
		Limit: 20 * time.Minute,
		Guest: runLinger,
	}
}

const (
	lingerDir = "/var/lib/systemd/linger"
	memcgFree = "/run/systemd/system/user-.slice.d/50-scopereap-memcg.conf"

	// reclaimOff leaves everything to what the policy says besides.
	reclaimOff = "[reap]\nenabled = false\n"
)

// lingers are those who linger by logind's own files.
func lingers() map[string]bool {
	out := map[string]bool{}
	files, _ := filepath.Glob(lingerDir + "/*")
	for _, f := range files {
		out[filepath.Base(f)] = true
	}
	return out
}

func there(p string) bool { _, err := os.Stat(p); return err == nil }

// installUndelayed is Install on a logind that ends a user's slice with the last session: the 10 s which that takes
// otherwise are not what is looked at.
func (r *Run) installUndelayed(ctx context.Context) error {
	const dropIn = "/etc/systemd/logind.conf.d/vm.conf"
	if err := r.Install(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(dropIn, []byte("[Login]\nUserStopDelaySec=0\n"), 0o644); err != nil {
		return err
	}
	return r.Systemctl(ctx, "restart", "systemd-logind.service")
}

func runLinger(ctx context.Context, r *Run) error {
	c := &coreRun{Run: r}
	if err := r.installUndelayed(ctx); err != nil {
		return err
	}
	for _, phase := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"without", c.lingerWithout},
		{"linger + per-user", c.lingerPerUser},
		{"undone", c.lingerUndone},
		{"boot", c.lingerBoot},
		{"auto", c.lingerAuto},
	} {
		r.Log.Info("phase " + phase.name)
		if err := phase.do(ctx); err != nil {
			return fmt.Errorf("phase %s: %w", phase.name, err)
		}
	}
	return nil
}

// gained logs in so many times and returns how many more are dying once that has settled.
func (c *coreRun) gained(ctx context.Context, n int) (int64, error) {
	before, err := c.settled(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := c.logins(ctx, n); err != nil {
		return 0, err
	}
	after, err := c.settled(ctx)
	return after - before, err
}

func (c *coreRun) lingerWithout(ctx context.Context) error {
	n, err := c.gained(ctx, c.Params.Logins)
	c.Report("dying after the logins, no daemon", float64(n), "", fmt.Sprintf("%d logins", c.Params.Logins))
	return err
}

// usersAt waits until both users' managers run, or neither has a slice.
func (c *coreRun) usersAt(ctx context.Context, lingering bool) error {
	_, err := machine.Wait(ctx, 2*time.Minute, fmt.Sprintf("both users lingering: %t", lingering), func() (bool, error) {
		for _, uid := range []string{"1000", "1001"} {
			if lingering {
				if s, err := c.Property(ctx, "user@"+uid+".service", "ActiveState"); err != nil || s != "active" {
					return false, err
				}
			} else if !machine.Gone(c.UnitPath("/user.slice/user-" + uid + ".slice")) {
				return false, nil
			}
		}
		return true, nil
	})
	return err
}

func (c *coreRun) lingerPerUser(ctx context.Context) error {
	if err := c.Policy(ctx, reclaimOff+"[linger]\nusers = [\"alice\", \"1001\"]\n[sessions]\nmemcg = \"per-user\"\n"); err != nil {
		return err
	}
	if err := c.StartDaemon(ctx); err != nil {
		return err
	}
	if err := c.usersAt(ctx, true); err != nil {
		return err
	}
	out, err := machine.Run(ctx, "sh", "-c", "scopereapctl doctor || true") // it exits 10 where it found something
	if err != nil {
		return err
	}
	c.Log.Info("doctor", "says", out)
	n, err := c.gained(ctx, c.Params.Logins)
	if err != nil {
		return err
	}
	c.Require("dying gained by as many logins, linger + per-user, reclaim off", float64(n), "", "", "0", n <= 0)
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	c.Require("reclaim was off", boolFigure(st.Freed == 0 && st.MonitorOnly != ""), "", st.MonitorOnly, "1", st.Freed == 0 && st.MonitorOnly != "")
	var list struct {
		Users []struct {
			Name  string `json:"user"`
			SetBy string `json:"set_by"`
			Rule  string
		}
	}
	if err := c.Ctl(ctx, &list, "linger", "list"); err != nil {
		return err
	}
	ours := 0
	for _, u := range list.Users {
		if u.SetBy == "scopereap" && (u.Name == "alice" && u.Rule == "alice" || u.Name == "bob" && u.Rule == "1001") {
			ours++
		}
	}
	c.Require("users listed with the rule that made them linger", float64(ours), "", fmt.Sprint(list.Users), "2", ours == 2)
	return nil
}

func (c *coreRun) lingerUndone(ctx context.Context) error {
	if err := c.Policy(ctx, reclaimOff); err != nil {
		return err
	}
	_, err := machine.Wait(ctx, time.Minute, "linger and the drop-in to be undone", func() (bool, error) {
		return len(lingers()) == 0 && !there(memcgFree), nil
	})
	undone := boolFigure(err == nil)
	c.Require("linger and drop-in gone with their rules", undone, "", fmt.Sprint(lingers()), "1", err == nil)
	if err != nil {
		return nil
	}
	if err := c.usersAt(ctx, false); err != nil {
		return err
	}
	n, err := c.gained(ctx, 4)
	c.Report("dying gained by 4 logins after that", float64(n), "", "")
	return err
}

// lingerBoot: after a boot the generator has the drop-in there before logind starts the managers of lingering users,
// and the daemon takes over. A reload of systemd runs the generators as a boot does.
func (c *coreRun) lingerBoot(ctx context.Context) error {
	const mark = "/run/scopereap.sessions"
	const generated = "/run/systemd/generator/user-.slice.d/50-scopereap-memcg.conf"
	if err := c.StopDaemon(ctx); err != nil {
		return err
	}
	if err := os.Remove(mark); err != nil {
		return err
	}
	if err := c.Policy(ctx, reclaimOff+"[sessions]\nmemcg = \"per-user\"\n"); err != nil {
		return err
	}
	if err := c.Systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "loginctl", "enable-linger", "alice"); err != nil {
		return err
	}
	if _, err := machine.Wait(ctx, time.Minute, "alice's manager", func() (bool, error) {
		s, err := c.Property(ctx, "user@1000.service", "ActiveState")
		return s == "active", err
	}); err != nil {
		return err
	}
	b, err := os.ReadFile(c.MemPath("/user.slice/user-1000.slice") + "/cgroup.subtree_control")
	if err != nil {
		return err
	}
	free := there(generated) && !strings.Contains(string(b), "memory")
	c.Require("per-user: in effect from the boot on, without the daemon", boolFigure(free), "", strings.TrimSpace(string(b)), "1", free)
	if _, err := machine.Run(ctx, "loginctl", "disable-linger", "alice"); err != nil {
		return err
	}
	if err := c.Policy(ctx, reclaimOff); err != nil {
		return err
	}
	if err := c.StartDaemon(ctx); err != nil {
		return err
	}
	_, err = machine.Wait(ctx, time.Minute, "the generator's drop-in to go", func() (bool, error) { return !there(generated), nil })
	c.Require("per-user: what the generator made goes with the rule", boolFigure(err == nil), "", "", "1", err == nil)
	return nil
}

// lingerAuto: bob churns, alice does not, carol's linger is an administrator's.
func (c *coreRun) lingerAuto(ctx context.Context) error {
	if _, err := machine.Run(ctx, "useradd", "-m", "carol"); err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "loginctl", "enable-linger", "carol"); err != nil {
		return err
	}
	if err := c.StopDaemon(ctx); err != nil {
		return err
	}
	// What the logins before have earned is not what is looked at.
	if _, err := machine.Run(ctx, "scopereapctl", "linger", "reset"); err != nil {
		return err
	}
	if err := c.Policy(ctx, reclaimOff+"[linger.auto]\nteardowns_per_hour = 3\n"); err != nil {
		return err
	}
	if err := c.StartDaemon(ctx); err != nil {
		return err
	}
	for i := range 5 {
		users := []string{"bob"}
		if i == 0 {
			users = append(users, "alice")
		}
		for _, u := range users {
			if _, err := c.Login(ctx, u, "true"); err != nil {
				return err
			}
			uid := map[string]string{"alice": "1000", "bob": "1001"}[u]
			if _, err := machine.Wait(ctx, time.Minute, u+"'s slice to go", func() (bool, error) {
				return machine.Gone(c.UnitPath("/user.slice/user-"+uid+".slice")) || lingers()[u], nil
			}); err != nil {
				return err
			}
		}
	}
	_, err := machine.Wait(ctx, time.Minute, "bob to earn linger", func() (bool, error) { return lingers()["bob"], nil })
	now := lingers()
	c.Require("auto: the churning user lingers, the quiet one does not, the administrator's stays",
		boolFigure(now["bob"] && !now["alice"] && now["carol"]), "", fmt.Sprint(now, err), "1", now["bob"] && !now["alice"] && now["carol"])
	if err := c.Policy(ctx, reclaimOff); err != nil {
		return err
	}
	_, err = machine.Wait(ctx, time.Minute, "bob's linger to go with the rule", func() (bool, error) { return !lingers()["bob"], nil })
	now = lingers()
	c.Require("auto: removing the rule undoes it, the administrator's stays",
		boolFigure(!now["bob"] && now["carol"]), "", fmt.Sprint(now, err), "1", !now["bob"] && now["carol"])
	if err := c.StopDaemon(ctx); err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "scopereapctl", "linger", "reset"); err != nil {
		return err
	}
	c.Require("reset leaves the administrator's linger", boolFigure(lingers()["carol"]), "", "", "1", lingers()["carol"])
	return nil
}
