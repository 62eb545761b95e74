package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/scopereap/scopereap/test/vm/suite"
)

// reparent shows that the daemon keeps its hands off a kernel that frees dying memcgs by itself.
func reparent() Scenario {
	return Scenario{
		Name:  "reparent",
		About: "a kernel that moves a dying memcg's pages to its parent (7.1): the probe says so, the daemon only monitors",
		Runs:  func(s suite.Suite) bool { return s.Name == "forky" },
		Limit: 8 * time.Minute,
		Guest: runReparent,
	}
}

func runReparent(ctx context.Context, r *Run) error {
	if err := r.Install(ctx); err != nil {
		return err
	}
	before, err := r.Dying()
	if err != nil {
		return err
	}
	c := &coreRun{Run: r}
	n := min(10, r.Params.Logins)
	if _, err := c.logins(ctx, n); err != nil {
		return err
	}
	if err := c.bobGone(ctx); err != nil {
		return err
	}
	after, err := c.settled(ctx)
	if err != nil {
		return err
	}
	r.Report("dying after the logins, no daemon", float64(after-before), "", fmt.Sprintf("%d logins", n))
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	st, err := r.Status(ctx)
	if err != nil {
		return err
	}
	r.Require("probe: the kernel re-parents", boolFigure(st.Reparents == "yes"), "", st.Reparents, "1", st.Reparents == "yes")
	r.Require("daemon only monitors", boolFigure(st.MonitorOnly != ""), "", st.MonitorOnly, "1", st.MonitorOnly != "")
	return nil
}
