package reclaim

import (
	"context"
	"errors"
	"time"
)

// deepPasses is how many passes a turn gives to what inodes keep. Each comes to all
// objects twice, and a dentry that was used since the last time stays once more, and
// then its inode does (dentry_lru_isolate, inode_lru_isolate).
const deepPasses = 3

// inodesKeep reports whether inodes keep memcgs that have no page left. That ended
// with Linux 5.14, and memory.stat became exact with 5.13, which nobody runs any more.
func (r *reaper) inodesKeep() bool { return !r.abil.ExactStat.OK() && !r.abil.Reclaim.OK() }

// inodes is a turn for what has no page left below ancestor, but inodes that refer to
// it: passes go on to where the objects of slab caches are looked at, beside a deep
// bait. How many that frees only the kernel's count says, a moment later.
func (r *reaper) inodes(ctx context.Context, ancestor string) (t Turn, err error) {
	began := r.thread.CPU()
	s := newShield(r.tree, r.journal, r.thread, "memory.low", r.pagesize)
	defer func() {
		r.takeBait() // first: lower settles the journal, which has a bait's cgroup
		err = errors.Join(err, s.lower())
		t.Overhead = r.thread.CPU() - began - t.reclaiming
	}()
	t.End, t.Verdict = TurnStuck, MayReap
	if t.never = r.rough(); t.never {
		return t, nil // a deep bait may give nothing at all
	}
	// Such a pass takes some ms, in which whoever charges reclaims, too. Beside 60 services
	// that read through their limits idle neighbours lost 9 pages of 48 MiB (5.10).
	if limited, err := r.limited(ancestor, false); err != nil || len(limited) > 0 {
		t.never = true
		return r.vanished(t, err)
	}
	// A write may only bring home what CPUs have in stock.
	for tries := 0; t.Batches < deepPasses && tries < 2*deepPasses; tries++ {
		if t.Verdict = r.tree.Tellable(ancestor); t.Verdict != MayReap {
			t.End = TurnSkipped
			return t, nil
		}
		if few, err := r.fewOfOurs(ancestor); few || err != nil || r.busy(ancestor) || ctx.Err() != nil {
			return r.vanished(t, err)
		}
		err := r.bait.lay(ancestor, baitMost, baitDeep)
		switch {
		case errors.Is(err, errBaitNear):
			t.End, t.Verdict = TurnSkipped, NearLimit
			return t, nil
		case gone(err):
			return r.vanished(t, err)
		case err != nil:
			r.log.Debug("no bait", "err", err)
			t.never = errors.Is(err, errNoBait)
			return t, nil
		}
		t.Baits++
		if err := s.raise(ancestor, time.Now()); err != nil {
			return r.vanished(t, err)
		}
		writing := r.thread.CPU()
		n, err := r.bite(ancestor, s)
		t.reclaiming += r.thread.CPU() - writing
		r.nowStale(ancestor, false)
		if err != nil {
			r.log.Debug("a bait, or the shield, is lost", "err", err)
			return t, nil
		}
		if n > 0 {
			t.Batches++
			t.Asked += baitPass
		}
		r.takeBait()
	}
	return t, nil
}
