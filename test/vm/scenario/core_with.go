package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/figure"
	"github.com/scopereap/scopereap/test/vm/machine"
)

const (
	// reapWithin is how long after the last logout nothing may be left: dirty pages are written back only
	// after vm.dirty_expire_centisecs, 30 s by default, or sooner by a journal commit.
	reapWithin = 30 * time.Second
	maxRSS     = 20 << 20 // bytes
)

// with is the second half of phase 2: the same logins as in phase 1, with the daemon.
func (c *coreRun) with(ctx context.Context) error {
	before, err := c.cache(ctx)
	if err != nil {
		return err
	}
	use0, err := c.DaemonUsage(ctx)
	if err != nil {
		return err
	}
	freed0, err := c.Status(ctx)
	if err != nil {
		return err
	}
	found, err := c.Dying()
	if err != nil {
		return err
	}
	// What the start sweep could not evict stays, or goes any time: it is not these logins'.
	if err := c.startFromHere(); err != nil {
		return err
	}
	sampler := c.StartSampler()
	logout, err := c.logins(ctx, c.Params.Logins)
	if err != nil {
		return err
	}
	left, why, err := c.drain(ctx, logout)
	if err != nil {
		return err
	}
	samples, err := sampler.Stop("with")
	if err != nil {
		return err
	}
	last := samples[len(samples)-1].Dying
	c.Report("most dying at once, with the daemon", float64(machine.Peak(samples)), "", fmt.Sprintf("%d before", found))
	c.Report("dying left with the daemon", float64(last), "", "pinned ones too")
	c.Require("…less those pinned by shmem, swap or ext4's journal", float64(left), "", why, "0", left == 0)
	c.Report("…of those, where the journal has pages", float64(c.byJournal), "", "it gives them back with its checkpoint")
	c.Report("…of those, without any page", float64(c.pageless), "", "kept by kernel objects")
	c.Report("time from last logout to that", machine.Reached(samples, logout, last).Seconds(), "s", "bob's slice stays for 10 s")
	if err := c.lost(ctx, "logins", before); err != nil {
		return err
	}

	use, err := c.DaemonUsage(ctx)
	if err != nil {
		return err
	}
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	// What would have leaked is what phase 1 leaked; the daemon's own count is shown beside it.
	cpu := use.CPU - use0.CPU
	c.Report("CPU a reaped memcg", float64(cpu)/1e6/float64(max(1, c.leaked)), "ms", fmt.Sprintf("daemon counts %d", st.Freed-freed0.Freed))
	c.Report("teardown to freed, p50", float64(st.P50)/1e6, "ms", fmt.Sprintf("of %d", st.Events))
	c.Report("teardown to freed, p99", float64(st.P99)/1e6, "ms", "")
	return nil
}

// drain waits until everything that can go has gone, at most reapWithin after the last logout, and returns how many
// dying memcgs are left without an excuse, and which pages keep those.
func (c *coreRun) drain(ctx context.Context, logout time.Time) (left int64, why string, err error) {
	for {
		late := time.Since(logout) > reapWithin
		left, _, err := c.unexcused(false)
		if err != nil {
			return 0, "", err
		}
		done := left == 0 && machine.Gone(c.UnitPath(bobSlice))
		if done || late {
			left, leaks, err := c.unexcused(true)
			if err != nil {
				return 0, "", err
			}
			if left == 0 || late {
				return left, c.explain(leaks), nil
			}
		}
		if err := machine.Sleep(ctx, time.Second); err != nil {
			return 0, "", err
		}
	}
}

// explain logs what is left and returns the pages of what has no excuse.
func (c *coreRun) explain(leaks []machine.Leak) string {
	var why []string
	for _, l := range leaks {
		c.Log.Info("left", "leak", l.String(), "unexcused", l.Unexcused())
		if l.Unexcused()+l.Pageless()+l.ByJournal() > 0 && l.Pages != nil {
			why = append(why, fmt.Sprintf("%s: %d × [%s]", l.Cgroup, l.Direct, l.Pages))
		}
	}
	return strings.Join(why, ", ")
}

// unexcused returns how many dying memcgs have no pinned page that explains them, and all leaks. The exact verdict
// counts pages; the other goes by memory.stat.
func (c *coreRun) unexcused(exact bool) (int64, []machine.Leak, error) {
	look := c.Leaks
	if exact {
		look = c.ExactLeaks
	}
	leaks, err := look()
	if err != nil {
		return 0, nil, err
	}
	var left int64
	c.byJournal, c.pageless = 0, 0
	if !c.V1 {
		for _, l := range leaks {
			left += l.Unexcused()
			c.byJournal += l.ByJournal()
			c.pageless += l.Pageless()
		}
		return left, leaks, nil
	}
	now, err := c.v1Left(leaks)
	if err != nil {
		return 0, nil, err
	}
	left = now.dying - c.v1Before.dying
	if now.reclaimable <= c.v1Before.reclaimable && left <= now.pinned-c.v1Before.pinned {
		left = 0
	}
	return max(left, 0), leaks, nil // what was there before may go meanwhile
}

// startFromHere has what is dead now not count any more, on v1.
func (c *coreRun) startFromHere() error {
	if !c.V1 {
		return nil
	}
	_, leaks, err := c.unexcused(true)
	if err != nil {
		return err
	}
	c.v1Before, err = c.v1Left(leaks)
	return err
}

// v1Left is what is dead on a v1 machine as a whole: the kernel does not count by ancestor there.
type v1Left struct {
	dying       int64
	reclaimable int64 // bytes
	pinned      int64 // pages
}

func (c *coreRun) v1Left(leaks []machine.Leak) (v1Left, error) {
	n, err := c.Dying()
	out := v1Left{dying: n}
	for _, l := range leaks {
		out.pinned += l.PinnedPages() + l.JournalPages()
		out.reclaimable += l.Reclaimable()
	}
	return out, err
}

// idle measures what the daemon costs when nothing happens.
func (c *coreRun) idle(ctx context.Context) error {
	span := 30 * time.Second
	if c.quick() {
		span = 10 * time.Second
	}
	var perMinute []float64
	var use machine.Usage
	for range 2 {
		from, err := c.DaemonUsage(ctx)
		if err != nil {
			return err
		}
		if err := machine.Sleep(ctx, span); err != nil {
			return err
		}
		if use, err = c.DaemonUsage(ctx); err != nil {
			return err
		}
		perMinute = append(perMinute, float64(use.Switches-from.Switches)*float64(time.Minute/span))
	}
	left, why, err := c.committed(ctx)
	if err != nil {
		return err
	}
	if c.onBullseye() {
		// 5.10 keeps the memcg that dirtied an inode (its writeback structure refers to it) until the inode is
		// evicted; from 5.14 on it is switched to the parent. Inodes that somebody still uses, such as those of a
		// home directory or an open log, drop_caches cannot evict either: see the row about it. The journal, too,
		// keeps pages for longer there.
		c.Report("…less the pinned by shmem or swap, a minute later", float64(left), "", why)
		c.Report("…without any page, a minute later", float64(c.pageless), "", "")
	} else {
		c.Require("…less the pinned by shmem or swap, a minute later", float64(left), "", why, "0", left == 0)
		c.Require("…without any page, a minute later", float64(c.pageless), "", why, "0", c.pageless == 0)
	}
	if c.V1 {
		// One whose last page the journal has is held until the policy's hold.deadline, 2 minutes.
		held, err := c.Held()
		for wait := 0; err == nil && len(held) > 0 && wait < 150; wait++ {
			if err = machine.Sleep(ctx, time.Second); err == nil {
				held, err = c.Held()
			}
		}
		if err != nil {
			return err
		}
		c.Require("held directories left after hold.deadline (v1)", float64(len(held)), "", fmt.Sprint(held), "0", len(held) == 0)
	}
	c.Report("wake-ups a minute, idle", (perMinute[0]+perMinute[1])/2, "", fmt.Sprintf("%.0f, %.0f", perMinute[0], perMinute[1]))
	c.Require("resident memory", float64(use.RSS), "B", "", "≤ 20 MiB", use.RSS <= maxRSS)
	c.Report("resident memory, peak", float64(use.HWM), "B", "")
	return nil
}

// committed returns what is left without a pinned page. The journal lets go of its pages at the first commit after they
// were written back; a machine where nobody else writes has none, so one is made here. The daemon's next try may then be
// as far off as all its tries so far, or be over: an operator's sweep has the last word.
func (c *coreRun) committed(ctx context.Context) (left int64, why string, err error) {
	swept := false
	for end := time.Now().Add(2 * time.Minute); ; {
		left, leaks, err := c.unexcused(true)
		left += c.byJournal
		if err != nil || left == 0 || left > c.byJournal || swept || c.onBullseye() {
			return left, c.explain(leaks), err
		}
		c.Log.Info("only the journal is left", "leaks", leaks)
		if _, err := machine.Run(ctx, "dd", "if=/proc/uptime", "of=/var/tmp/commit", "conv=fsync", "status=none"); err != nil {
			return 0, "", err
		}
		if time.Now().After(end) {
			swept = true
			if out, err := machine.Run(ctx, "scopereapctl", "sweep"); err != nil {
				return 0, "", fmt.Errorf("%w: %s", err, out)
			}
		}
		if err := machine.Sleep(ctx, 10*time.Second); err != nil {
			return 0, "", err
		}
	}
}

// loginTime compares logins with and without the daemon, in blocks that alternate so that a drift of the machine
// hits both alike.
func (c *coreRun) loginTime(ctx context.Context) error {
	rounds, block := 5, 3
	if c.quick() {
		rounds = 1
	}
	measure := func(daemon bool) ([]float64, error) {
		verb := c.StopDaemon
		if daemon {
			verb = c.StartDaemon
		}
		if err := verb(ctx); err != nil {
			return nil, err
		}
		if err := machine.Sleep(ctx, 2*time.Second); err != nil { // the start sweep is not what is measured
			return nil, err
		}
		var out []float64
		for range block {
			d, err := c.Login(ctx, "alice", "true")
			if err != nil {
				return nil, err
			}
			out = append(out, d.Seconds())
		}
		return out, nil
	}
	var ratios, without []float64
	for i := range rounds {
		times := map[bool][]float64{}
		for _, daemon := range []bool{i%2 == 0, i%2 != 0} {
			t, err := measure(daemon)
			if err != nil {
				return err
			}
			times[daemon] = t
		}
		for j := range block {
			ratios = append(ratios, times[true][j]/times[false][j])
			without = append(without, times[false][j])
		}
	}
	c.Report("login time with ÷ without, median", figure.Quantile(ratios, 0.5), "×",
		fmt.Sprintf("%d pairs, spread %.2f–%.2f, %.2f s without", len(ratios), figure.Quantile(ratios, 0.25), figure.Quantile(ratios, 0.75), figure.Quantile(without, 0.5)))
	return nil
}
