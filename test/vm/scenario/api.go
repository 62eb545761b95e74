package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// api shows the D-Bus interface as a user of systemd's tools would try it.
func api() Scenario {
	return Scenario{
		Name:  "api",
		About: "bus activation; busctl and gdbus introspect, every method is called; polkit decides for another user",
		Runs:  func(s suite.Suite) bool { return s.Name == "bookworm" || s.Name == "trixie" || s.Broker },
		Short: []string{"bookworm", "trixie-broker"},
		Limit: 10 * time.Minute,
		Guest: runAPI,
	}
}

const (
	apiName = "org.scopereap1"
	apiPath = "/org/scopereap1"
	apiMain = "org.scopereap1.Manager"
)

func runAPI(ctx context.Context, r *Run) error {
	c := &coreRun{Run: r}
	which, err := r.Property(ctx, "dbus.service", "Id")
	if err != nil {
		return err
	}
	broker := strings.HasPrefix(which, "dbus-broker")
	c.Require("dbus-broker is the bus", boolFigure(broker), "", which, "", broker == strings.HasSuffix(c.Params.Suite, "-broker"))
	if err := c.Install(ctx); err != nil {
		return err
	}
	if err := c.Policy(ctx, emulatedBudget); err != nil {
		return err
	}
	// Nobody has started it: the first call does.
	version, err := c.busctl(ctx, "", "get-property", apiName, apiPath, apiMain, "Version")
	c.Require("bus activation starts the daemon", boolFigure(err == nil), "", fmt.Sprint(version, " ", err), "1", err == nil)
	if err != nil {
		return nil
	}
	for _, tool := range [][]string{
		{"busctl", "--system", "introspect", apiName, apiPath, apiMain},
		{"gdbus", "introspect", "--system", "--dest", apiName, "--object-path", apiPath},
	} {
		text, err := machine.Run(ctx, tool[0], tool[1:]...)
		ok := err == nil && strings.Contains(text, "DyingMemcgs") && strings.Contains(text, "ListAncestors")
		c.Log.Info(tool[0]+" introspect", "says", text)
		c.Require(tool[0]+" introspects", boolFigure(ok), "", fmt.Sprint(err), "1", ok)
	}
	last, err := c.logins(ctx, 4)
	if err != nil {
		return err
	}
	if err := c.apiCalls(ctx); err != nil {
		return err
	}
	left, why, err := c.drain(ctx, last)
	if err != nil {
		return err
	}
	c.Require("dying left but the pinned, after 4 logins", float64(left), "", why, "0", left == 0)
	return c.apiPolkit(ctx)
}

// apiReading, apiPrivate and apiChanging are the methods with arguments that do no harm: everybody may call the first,
// root and whom polkit lets the others.
var (
	apiReading = map[string][]string{
		"ListAncestors": {"su", "/", "10"},
		"GetPolicy":     nil,
	}
	apiPrivate = map[string][]string{
		"ListLeakers":  {"s", ""},
		"ListSessions": nil,
		"ListLinger":   nil,
		"CronAudit":    nil,
	}
	apiChanging = map[string][]string{
		"Sweep":        {"sb", "/", "false"},
		"AddLinger":    {"sb", "bob", "true"},
		"RemoveLinger": {"sb", "bob", "true"},
		"Reload":       nil,
	}
)

// call calls methods as a user and returns which were answered, which refused, and what else went wrong.
func (c *coreRun) call(ctx context.Context, user string, methods map[string][]string) (ok, refused []string, note string) {
	for m, args := range methods {
		out, err := c.busctl(ctx, user, append([]string{"call", apiName, apiPath, apiMain, m}, args...)...)
		switch {
		case err == nil:
			ok = append(ok, m)
			c.Log.Info("call", "as", user, "method", m, "says", out)
		case strings.Contains(err.Error(), "only root may"), strings.Contains(err.Error(), "polkit"),
			strings.Contains(err.Error(), "needs a password"):
			refused = append(refused, m)
			c.Log.Info("call", "as", user, "method", m, "refused", err)
		default:
			note += fmt.Sprintf("%s: %v; ", m, err)
		}
	}
	return ok, refused, note
}

// apiCalls calls every method as root, and as another user who has no rights.
func (c *coreRun) apiCalls(ctx context.Context) error {
	for _, set := range []map[string][]string{apiReading, apiPrivate, apiChanging} {
		ok, _, note := c.call(ctx, "", set)
		c.Require(fmt.Sprintf("root's calls answered, of %d", len(set)), float64(len(ok)), "", note, fmt.Sprint(len(set)), len(ok) == len(set))
	}
	ok, _, note := c.call(ctx, "alice", apiReading)
	c.Require("another user's reading calls answered", float64(len(ok)), "", note, fmt.Sprint(len(apiReading)), len(ok) == len(apiReading))
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
	return c.as(ctx, user, append([]string{"busctl", "--system"}, args...)...)
}

// as runs a command as a user, root for "".
func (c *coreRun) as(ctx context.Context, user string, args ...string) (string, error) {
	if user != "" {
		args = append([]string{"runuser", "-u", user, "--"}, args...)
	}
	return machine.Run(ctx, args[0], args[1:]...)
}
