package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog/message"
	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// operator is a day of somebody who watches: figures, the live view, a new policy.
func operator() Scenario {
	return Scenario{
		Name:  "operator",
		About: "metrics, ledger and journal agree over 50 logins; top in a terminal; the policy reloaded during a sweep",
		Runs:  func(s suite.Suite) bool { return s.Name == "bookworm" || s.Name == "trixie" },
		Short: []string{"trixie"},
		Limit: 15 * time.Minute,
		Guest: runOperator,
	}
}

func runOperator(ctx context.Context, r *Run) error {
	c := &coreRun{Run: r}
	if err := c.Install(ctx); err != nil {
		return err
	}
	// What waits for writeback is told when it is done, which may take as long as this.
	if err := c.Policy(ctx, "[reap]\nretry_max = \"5s\"\n"); err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	for _, phase := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"figures", c.figuresAgree},
		{"catalog", c.catalog},
		{"top", c.topInTerminal},
		{"reload", c.reloadInSweep},
	} {
		r.Log.Info("phase " + phase.name)
		if err := phase.do(ctx); err != nil {
			return fmt.Errorf("phase %s: %w", phase.name, err)
		}
	}
	return nil
}

// figures are the same things as four places tell them.
type figures struct {
	metrics  machine.Metrics
	status   machine.Status
	sessions float64 // the ledger's, of all users
	reaped   int64   // the journal's
}

func (c *coreRun) figures(ctx context.Context) (f figures, err error) {
	if f.metrics, err = c.Metrics(ctx); err != nil {
		return f, err
	}
	if f.status, err = c.Status(ctx); err != nil {
		return f, err
	}
	var leaks struct {
		Rows []struct {
			Kind  string
			Total struct{ Sessions float64 }
		}
	}
	if err := c.Ctl(ctx, &leaks, "leaks", "--by", "user", "--limit", "0"); err != nil {
		return f, err
	}
	for _, r := range leaks.Rows {
		f.sessions += r.Total.Sessions
	}
	entries, err := c.Journal(ctx, "MESSAGE_ID="+string(message.Reaped))
	for _, e := range entries {
		n, bad := e.Int("SCOPEREAP_COUNT")
		f.reaped, err = f.reaped+n, errors.Join(err, bad)
	}
	return f, err
}

// figuresAtRest waits until the figures come to agree. A scrape may be answered from a census of up to 15 s before, and
// what is reaped below an ancestor is told when the daemon has done with it: where something stays, after its tries,
// a minute and more. What does not agree by then is returned as it is.
func (c *coreRun) figuresAtRest(ctx context.Context) (f figures, dying int64, err error) {
	if _, err := machine.Run(ctx, "sync"); err != nil {
		return f, 0, err
	}
	for end := time.Now().Add(3 * time.Minute); ; {
		if err := machine.Sleep(ctx, 5*time.Second); err != nil {
			return f, 0, err
		}
		if f, err = c.figures(ctx); err != nil {
			return f, 0, err
		}
		if dying, err = c.Dying(); err != nil {
			return f, 0, err
		}
		told := f.reaped == f.status.Freed && f.metrics[reapedTotal] == float64(f.reaped) &&
			f.metrics.Sum(reapedByAncestor) == float64(f.reaped)
		if told && f.metrics[dyingNow] == float64(dying) || time.Now().After(end) {
			return f, dying, nil
		}
	}
}

// Metrics that are held against other figures.
const (
	reapedTotal      = "scopereap_reaped_memcgs_total"
	reapedByAncestor = "scopereap_ancestor_reaped_memcgs_total"
	dyingNow         = "scopereap_dying_memcgs"
)

// figuresAgree logs in so many times and adds up.
func (c *coreRun) figuresAgree(ctx context.Context) error {
	if _, err := c.settled(ctx); err != nil {
		return err
	}
	before, err := c.figures(ctx)
	if err != nil {
		return err
	}
	last, err := c.logins(ctx, c.Params.Logins)
	if err != nil {
		return err
	}
	if _, _, err := c.drain(ctx, last); err != nil {
		return err
	}
	after, dying, err := c.figuresAtRest(ctx)
	if err != nil {
		return err
	}
	want := float64(c.Params.Logins)
	sessions := func(f figures) float64 { return f.metrics[`scopereap_ledger_sessions_total{kind="user"}`] }
	got := sessions(after) - sessions(before)
	c.Require("sessions, by the metrics", got, "", "", fmt.Sprint(want), got == want)
	c.Require("sessions, by the ledger", after.sessions-before.sessions, "", "", fmt.Sprint(want), after.sessions-before.sessions == want)
	removed, err := c.Journal(ctx, "-t", "systemd-logind", "MESSAGE_ID=3354939424b4456d9802ca8333ed424a") // SD_MESSAGE_SESSION_STOP
	if err != nil {
		return err
	}
	c.Report("sessions, by logind's journal", float64(len(removed)), "", "since the boot")

	freed := after.metrics[reapedTotal]
	c.Require("reaped, by the metrics", freed, "", "the status' figure", fmt.Sprint(after.status.Freed), freed == float64(after.status.Freed) && freed > want)
	c.Require("reaped, by ancestor", after.metrics.Sum(reapedByAncestor), "", "", fmt.Sprint(freed),
		after.metrics.Sum(reapedByAncestor) == freed)
	c.Require("reaped, by the journal's entries", float64(after.reaped), "", "", fmt.Sprint(freed), float64(after.reaped) == freed)
	shown := after.metrics[dyingNow]
	c.Require("dying, by the metrics", shown, "", "cgroup.stat's figure", fmt.Sprint(dying), shown == float64(dying))
	byAncestor := after.metrics.Sum("scopereap_ancestor_dying_memcgs")
	c.Require("dying, by ancestor", byAncestor, "", "", fmt.Sprint(shown), byAncestor == shown)
	return nil
}

// catalog: journalctl explains our entries.
func (c *coreRun) catalog(ctx context.Context) error {
	text, err := machine.Run(ctx, "journalctl", "-b", "-x", "-n", "1", "--no-pager", "MESSAGE_ID="+string(message.Reaped))
	c.Log.Info("journalctl -x", "says", text)
	ok := err == nil && strings.Contains(text, "░░ Subject:") && !strings.Contains(text, "@")
	c.Require("journalctl -x explains an entry", boolFigure(ok), "", fmt.Sprint(err), "1", ok)
	return nil
}
