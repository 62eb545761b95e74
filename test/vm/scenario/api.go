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

// api shows the D-Bus interface as a user of systemd's tools would try it.
func api() Scenario {
	return Scenario{
		Name:  "api",
		About: "busctl introspects and calls every method; another user reads and is refused changes; bus activation",
		Runs:  func(s suite.Suite) bool { return s.Name == "bookworm" || s.Name == "trixie" },
		Limit: 8 * time.Minute,
		Guest: runAPI,
	}
}

const (
	apiName = "org.scopereap1"
	apiPath = "/org/scopereap1"
	apiMain = "org.scopereap1.Manager"
)

// apiFiles go where a package puts them.
var apiFiles = map[string]string{
	"org.scopereap1.conf":    "/usr/share/dbus-1/system.d",
	"org.scopereap1.service": "/usr/share/dbus-1/system-services",
	"org.scopereap1.xml":     "/usr/share/dbus-1/interfaces",
}

func runAPI(ctx context.Context, r *Run) error {
	c := &coreRun{Run: r}
	if err := r.Install(ctx); err != nil {
		return err
	}
	for name, dir := range apiFiles {
		b, err := os.ReadFile(filepath.Join(machine.Share, name))
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if err := r.Systemctl(ctx, "reload", "dbus.service"); err != nil {
		return err
	}
	// Nobody has started it: the first call does.
	version, err := c.busctl(ctx, "", "get-property", apiName, apiPath, apiMain, "Version")
	c.Require("bus activation starts the daemon", boolFigure(err == nil), "", fmt.Sprint(version, " ", err), "1", err == nil)
	if err != nil {
		return nil
	}
	text, err := c.busctl(ctx, "", "introspect", apiName, apiPath, apiMain)
	if err != nil {
		return err
	}
	c.Log.Info("introspect", "says", text)
	if _, err := c.logins(ctx, 4); err != nil {
		return err
	}
	reading := map[string][]string{
		"ListAncestors": {"su", "/", "10"},
		"GetPolicy":     nil,
	}
	private := map[string][]string{
		"ListLeakers":  {"s", ""},
		"ListSessions": nil,
		"ListLinger":   nil,
		"CronAudit":    nil,
	}
	changing := map[string][]string{
		"Sweep":        {"sb", "/", "false"},
		"AddLinger":    {"sb", "bob", "true"},
		"RemoveLinger": {"sb", "bob", "true"},
		"Reload":       nil,
	}
	count := func(user string, methods map[string][]string) (ok, refused int, note string) {
		for m, args := range methods {
			out, err := c.busctl(ctx, user, append([]string{"call", apiName, apiPath, apiMain, m}, args...)...)
			switch {
			case err == nil:
				ok++
				c.Log.Info("call", "as", user, "method", m, "says", out)
			case strings.Contains(err.Error(), "only root may"): // no polkit in these images
				refused++
			default:
				note += fmt.Sprintf("%s: %v; ", m, err)
			}
		}
		return ok, refused, note
	}
	for _, set := range []map[string][]string{reading, private, changing} {
		ok, _, note := count("", set)
		c.Require(fmt.Sprintf("root's calls answered, of %d", len(set)), float64(ok), "", note, fmt.Sprint(len(set)), ok == len(set))
	}
	ok, _, note := count("alice", reading)
	c.Require("another user's reading calls answered", float64(ok), "", note, fmt.Sprint(len(reading)), ok == len(reading))
	_, refused, note := count("alice", changing)
	c.Require("another user's changing calls refused", float64(refused), "", note, fmt.Sprint(len(changing)), refused == len(changing))
	_, refused, note = count("alice", map[string][]string{"ListLeakers": private["ListLeakers"], "ListSessions": nil})
	c.Require("another user's calls for who logs in refused", float64(refused), "", note, "2", refused == 2)
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	sweeps, err := c.busctl(ctx, "alice", "get-property", apiName, apiPath, apiMain, "Sweeps")
	c.Require("a property agrees with scopereapctl", boolFigure(sweeps == fmt.Sprintf("t %d", st.Sweeps)), "",
		fmt.Sprintf("%q, %d, %v", sweeps, st.Sweeps, err), "1", sweeps == fmt.Sprintf("t %d", st.Sweeps))
	_, err = c.busctl(ctx, "", "call", apiName, apiPath, apiMain, "Sweep", "sb", "/../etc", "false")
	c.Require("a path outside cgroupfs is refused", boolFigure(err != nil), "", fmt.Sprint(err), "1", err != nil)
	return nil
}

// busctl runs it as a user, root for "".
func (c *coreRun) busctl(ctx context.Context, user string, args ...string) (string, error) {
	args = append([]string{"busctl", "--system"}, args...)
	if user != "" {
		args = append([]string{"runuser", "-u", user, "--"}, args...)
	}
	return machine.Run(ctx, args[0], args[1:]...)
}
