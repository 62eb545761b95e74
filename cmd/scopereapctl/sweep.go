package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/reclaim"
)

func newSweep(a *app) *cobra.Command {
	var asJSON, dryRun bool
	cmd := &cobra.Command{
		Use:   "sweep [PATH]",
		Short: "Find and free dying memory cgroups now",
		Long: `sweep takes a census and frees what the dying memory cgroups at or below PATH
hold (all of the machine without one). PATH is a cgroup such as /user.slice, or
its directory such as /sys/fs/cgroup/user.slice.

Where scopereapd runs it does the work, else sweep does it itself, by the same
policy, and leaves nothing behind. The living lose nothing, except on cgroup v1
where the policy allows memory.force_empty on live cgroups. It keeps to the
policy's budget. Pages that wait for writeback, or that the living have mapped,
are tried again for half a minute; scopereapd, where it runs, goes on after that.
Ctrl-C ends it cleanly. It needs root, or a running scopereapd and polkit's leave
(org.scopereap1.sweep); --dry-run, which only says what would be done, does not.

JSON of a sweep: {under, dying_before, dying_after, live, freed, bytes, cpu_ns,
wall_ns, outcomes: [{ancestor, verdict, error, dying_before, dying_after, freed,
bytes, pins: [{reason, bytes}], turns, batches, cpu_ns, wall_ns}], unfinished};
where unfinished is true it was not waited for the rest, and there are no
outcomes. passed_over: {cgroups, dying, first, why} is what could not be looked
into, later how many ancestors are left to the next sweep, since one user or
delegated cgroup has more than a sweep takes of one, and giving_way the pressure
that it met (see status). verdict is "reap", or why not: "at-root", "no-controller",
"near-limit", "ignored", "unreadable", "vanished", "monitor-only", or "failed"
with an error. reason is "shmem", "swap", "unevictable", "mapped", "dirty",
"anon", "kernel" or "unknown".

JSON of a dry run: {mode, under, dying, live, method, monitor_only, ancestors:
[{path, direct_dying, total_dying, verdict, reclaimable, dead_memory, pins,
action: "reclaim", "nothing" or "skip", ask, why}]}; on cgroup v1 {…, v1_targets,
v1_ancestors: [{path, reclaimable, dead_memory}], why}.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeCgroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := openMachine()
			if err != nil {
				return err
			}
			defer m.close()
			under := "/"
			if len(args) == 1 {
				if under, err = m.cgroupArg(args[0]); err != nil {
					return err
				}
			}
			p := a.printer(cmd)
			if dryRun {
				plan, err := a.plan(cmd.Context(), m, under)
				if err != nil {
					return err
				}
				if asJSON {
					return p.json(plan)
				}
				plan.text(p)
				return nil
			}
			return a.sweep(cmd, m, under, asJSON)
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "say what would be done, and do nothing")
	return cmd
}

// sweepReport is what `sweep --json` writes.
type sweepReport struct {
	reclaim.SweepResult
	// Unfinished: it was not waited for what cannot go yet.
	Unfinished bool `json:"unfinished"`
	// byDaemon: scopereapd does the work, and goes on with the rest.
	byDaemon bool
	now      time.Time
	uring    []reclaim.UringUser
}

// sweep frees, through the daemon or itself, and says what came of it.
func (a *app) sweep(cmd *cobra.Command, m *machine, under string, asJSON bool) error {
	ctx := cmd.Context()
	bar := newBar(cmd.ErrOrStderr())
	watched, stop := context.WithCancel(ctx)
	once := sync.Once{}
	say := func(g reclaim.GivingWay) {
		once.Do(func() { bar.note("scopereapctl: " + pressureWords(g, a.uringUsers(ctx, &g), time.Now())) })
	}
	go a.watchPressure(watched, say)
	r, err := a.sweepAnyhow(ctx, m, under, func(p reclaim.SweepProgress) {
		if p.GivingWay != nil {
			say(*p.GivingWay)
		}
		bar.show(p)
	}, errorsTo(cmd), true)
	stop()
	if err == nil && !m.Mode.V2() {
		settleV1(ctx, m.fs, &r.SweepResult)
	}
	bar.end()
	p := a.printer(cmd)
	switch {
	case errors.Is(err, errNeedsRoot):
		return needRoot(cmd, "freeing memory of other users' cgroups needs root; --dry-run does not")
	case err != nil && ctx.Err() != nil:
		return interrupted(bar.last, r.byDaemon)
	case isRefused(err):
		return tryAsRoot(cmd, err)
	case err != nil:
		return denied(err)
	case asJSON:
		return p.json(r)
	}
	r.now, r.uring = time.Now(), a.uringUsers(ctx, r.GivingWay)
	sweptText(p, r)
	return nil
}

// A daemon that has crashed is back after RestartSec=2s. Whoever swept by himself meanwhile
// would have its lock, and keep it away for so long.
const (
	restartSoon = 5 * time.Second
	restartLook = 250 * time.Millisecond
)

// crashed reports whether a daemon has left its socket: it has not ended by itself.
func (a *app) crashed() bool {
	_, err := os.Lstat(a.socket())
	return err == nil
}

// errNeedsRoot: no daemon runs that could be asked, and doing it oneself needs root.
var errNeedsRoot = errors.New("sweeping needs root")

// sweepAnyhow frees, through the daemon where one runs, which decides who may.
func (a *app) sweepAnyhow(ctx context.Context, m *machine, under string, show func(reclaim.SweepProgress),
	errs io.Writer, interact bool) (sweepReport, error) {
	for end := time.Now().Add(restartSoon); ; {
		r, err := patiently(ctx, under, patience, show, a.sweepByDaemon(interact))
		r.byDaemon = true
		if !errors.Is(err, control.ErrNoDaemon) {
			return r, unanswered(err)
		}
		if !a.crashed() || !time.Now().Before(end) {
			break
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(restartLook):
		}
	}
	if os.Geteuid() != 0 {
		return sweepReport{}, errNeedsRoot
	}
	return patiently(ctx, under, patience, show, func(ctx context.Context, req reclaim.SweepRequest) (reclaim.SweepResult, error) {
		return a.sweepHere(ctx, m, req, errs)
	})
}

func (a *app) sweepByDaemon(interact bool) func(context.Context, reclaim.SweepRequest) (reclaim.SweepResult, error) {
	return func(ctx context.Context, req reclaim.SweepRequest) (reclaim.SweepResult, error) {
		return ask(a, func(d daemon) (reclaim.SweepResult, error) { return d.sweep(ctx, req, interact) })
	}
}

// interrupted is what a sweep says that was ended by Ctrl-C.
func interrupted(last reclaim.SweepProgress, byDaemon bool) error {
	rest := "run it again for the rest"
	if byDaemon {
		rest = "scopereapd goes on with the rest"
	}
	if last.Dying == 0 {
		return errors.New("interrupted before anything was freed")
	}
	return fmt.Errorf("interrupted after freeing %s of %s; %s", count(last.Freed), plural(last.Dying, "dying memcg"), rest)
}
