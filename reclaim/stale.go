package reclaim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// refreshMargin is by how many pages a child's memory.low is below its usage when a
// pass computes its effective value anew. Of a cgroup that is protected but for so
// many the kernel scans, with rounding, one more shifted right by the priority,
// which begins at 12 (get_scan_count, mm/vmscan.c, 5.10 and 6.1): nothing down to 6.
const refreshMargin = 1<<6 - 2

// refreshGrowth is by how many pages more a child's usage may be above that when the
// pass begins: still nothing at the first two priorities.
const refreshGrowth = 1 << 10

// refreshBait is what a pass finds of a bait, in bytes. Of a dead memcg with less
// than 256 pages each priority takes 32, of one with 512 each of the first four; a
// larger one would give a page or two at the third.
const refreshBait = 2 << 20

// Until the kernel knows a bait for dead, which takes a grace period of RCU and a
// work item, passes go on to lower priorities. Then each takes the same of it, 32
// pages, or a part of that where there is swap and so also anonymous memory to look
// at; before, what one takes falls with what is left (63, 53, 46, 39 … of 512). What
// others dead give at the same time makes it less, so little says nothing.
const (
	refreshTries = 6
	refreshWait  = 20 * time.Millisecond
	refreshKnown = baitPass / 2
)

// refreshSlice is the longest write of a refresh; one takes some ms.
const refreshSlice = 100 * time.Millisecond

// refresh ends the protection that is in force for the living below ancestor where
// the kernel keeps stale protection: there it computes that anew only for what is
// below the cgroup at which reclaim begins.
//
// What a shield of memory.low leaves harms nobody, but each reclaim at such a
// cgroup's own limit would begin with a pass over all priorities that takes
// nothing: reading through the limit took 1.13 to 1.19 times as long (5.10, 6.1).
// What versions before 1.1.0 left, which raised memory.min there as well, gets a
// cgroup killed at its own limit. Either ends with a pass at which everybody's
// memory.low is a little below usage. A bait that the kernel knows for dead gives
// that pass what it wants at the first priorities, at which the living have nothing
// to give.
//
// Only what has a limit of its own, or something below it that has, is uncovered:
// it is reclaimed by that anyway. Nothing else needs to be. Where scans follow other
// rules (see roughScan) the pass is one with memory.low raised, which ends what
// memory.min left.
//
// done is false where there is nothing to end. An error says that it is to be tried
// again, but for errNoBait. Call it on the thread.
func (r *reaper) refresh(ancestor string) (done bool, err error) {
	if r.tree.Tellable(ancestor) != MayReap || r.tree.deserted(ancestor) {
		return false, nil
	}
	if r.reloading() {
		return false, errShieldGone
	}
	limited, err := r.limited(ancestor, r.inodesKeep())
	if err != nil || len(limited) == 0 && !r.stale[ancestor] {
		return false, ignoreGone(err)
	}
	if few, err := r.fewOfOurs(ancestor); few || err != nil {
		return false, ignoreGone(err)
	}
	if r.busy(ancestor) {
		return false, errors.New("the living grow, or reclaim at their own limits")
	}
	rough := r.rough()
	s := newShield(r.tree, r.journal, r.thread, "memory.low", r.pagesize)
	defer func() {
		r.quiet()
		err = errors.Join(ignoreGone(err), s.lower())
		r.bait.take()
	}()
	if err := r.bait.lay(ancestor, refreshBait, baitInactive); err != nil {
		// A pass from further up, where root alone rules, computes all below anew.
		if up := path.Dir(ancestor); errors.Is(err, errNoBait) && up != "/" {
			return r.refresh(up)
		}
		return false, err
	}
	var took []int64
	for known := false; !known; {
		if len(took) == refreshTries {
			return false, fmt.Errorf("the kernel takes a bait of our own for a live cgroup: it gave %d", took)
		}
		if err := s.raise(ancestor, time.Now()); err != nil {
			return false, err
		}
		n, err := r.bite(ancestor, s)
		switch {
		case err != nil:
			return false, err
		case n > 0 && rough:
			return true, nil
		}
		if took = append(took, n); n == 0 { // a squeeze's first write may only bring home what CPUs have in stock
			continue
		}
		known = len(took) > 1 && n >= refreshKnown && n == took[len(took)-2]
		if !known {
			time.Sleep(refreshWait)
		}
	}
	if err := s.uncover(limited, refreshMargin*r.pagesize, refreshGrowth*r.pagesize); err != nil {
		return false, err
	}
	n, err := r.bite(ancestor, s)
	if err == nil && n == 0 {
		err = errors.New("the kernel took nothing of a bait of our own")
	}
	return err == nil, err
}

// fewOfOurs reports whether an ancestor of this process has too little to lower its
// memory.high by what a bite asks for.
func (r *reaper) fewOfOurs(ancestor string) (bool, error) {
	if !r.squeezesOwn(ancestor) {
		return false, nil
	}
	usage, err := r.tree.limit(ancestor, "memory.current")
	return usage < ownPart*baitPass, err
}

// nowStale notes that what a write behind memory.low leaves in force is to be ended.
func (r *reaper) nowStale(ancestor string, rough bool) {
	if !r.shielded(ancestor) && !r.abil.FreshProtection.OK() && !rough {
		r.stale[ancestor] = false
	}
}

// shielded reports whether there has been a shield below ancestor, and no refresh since.
func (r *reaper) shielded(ancestor string) bool { _, is := r.stale[ancestor]; return is }

var errShieldGone = errors.New("systemd, or somebody else, has reset what the shield raised")

// bite asks for what one pass takes of a bait, and returns how many bytes it gave.
func (r *reaper) bite(ancestor string, s *shield) (int64, error) {
	before, err := r.bait.left()
	if err != nil {
		return 0, err
	}
	if before < baitPart*baitPass {
		return 0, errors.New("the bait is used up")
	}
	if r.reloading() || !s.holds() {
		return 0, errShieldGone
	}
	if _, err := r.write(ancestor, baitPass, refreshSlice); err != nil {
		return 0, err
	}
	after, err := r.bait.left()
	return before - after, err
}

// limited finds ancestor's children that have a memory limit of their own, or
// something below that has. With inner, each one below which something can die is
// among them: what has covered itself when reclaim began further up stays in force when
// it begins there, and the kernel passes over its slab caches, where the inodes are
// that keep the dead.
func (r *reaper) limited(ancestor string, inner bool) (found map[string]bool, err error) {
	found = map[string]bool{}
	look := limitLook{tree: r.tree, most: limitedMost}
	err = r.tree.each(ancestor, func(p *child) {
		cgroup := p.path()
		if look.anyLimit(p, cgroup, 0) || inner && r.tree.Tellable(cgroup) == MayReap {
			found[cgroup] = true
		}
	})
	return found, err
}

// Whoever has a delegated cgroup can fill it, so a look for limits goes into no more
// than limitedMost cgroups, some 50 ms, and limitedDeep deep. What lies beyond counts
// as limited: of the living there the pass may take a few pages.
const (
	limitedMost = 2000
	limitedDeep = 32
)

// limitLook is a look for limits below an ancestor.
type limitLook struct {
	tree *Tree
	most int // that it may still go into
}

// below reports whether anything below a cgroup has a limit.
func (l *limitLook) below(cgroup string, deep int) bool {
	if l.tree.Tellable(cgroup) != MayReap { // nothing below has a memcg
		return false
	}
	if l.most--; l.most < 0 || deep == limitedDeep {
		return true
	}
	any := false
	_ = l.tree.each(cgroup, func(p *child) { any = any || l.anyLimit(p, p.path(), deep+1) })
	return any
}

// anyLimit passes over what it cannot read: it stays covered.
func (l *limitLook) anyLimit(p place, cgroup string, deep int) bool {
	var buf [limitBuf]byte
	for _, file := range []string{"memory.max", "memory.high"} {
		if v, err := l.tree.limitOf(p, file, buf[:0]); err != nil {
			return false
		} else if v < Unlimited {
			return true
		}
	}
	return l.below(cgroup, deep)
}

// uncover lowers what covers some children to margin bytes below their usage, but
// not below what it was. Values that somebody else has set meanwhile stay. One that
// grows beyond growth is an error.
func (s *shield) uncover(which map[string]bool, margin, growth int64) error {
	var changes []change
	for _, cgroup := range s.order {
		if !which[cgroup] {
			continue
		}
		r := s.raised[cgroup]
		usage, err := s.tree.limit(cgroup, "memory.current")
		if gone(err) {
			continue
		} else if err != nil {
			return err
		}
		now, err := s.tree.limit(cgroup, s.file)
		if gone(err) {
			continue
		} else if err != nil {
			return err
		}
		want := max(r.before, (usage-margin)/s.pagesize*s.pagesize, 0)
		if slices.Contains(r.ours, now) && want < now {
			changes = append(changes, change{id: r.id, cgroup: cgroup, file: s.file, before: now, after: want})
		}
	}
	if err := s.apply(changes); err != nil {
		return err
	}
	for _, c := range changes {
		if usage, err := s.tree.limit(c.cgroup, "memory.current"); err == nil && usage-c.after > margin+growth {
			return fmt.Errorf("%s grows", c.cgroup)
		}
	}
	return nil
}

// roughScan reports whether reclaim scans by rules that take pages of the living
// though they are protected all but a little: with the multi-generational LRU
// (Documentation/admin-guide/mm/multigen_lru.rst), or a vm.swappiness that has a
// dead memcg give so few of its files that a pass goes on to low priorities.
func roughScan() bool {
	const equal = 100 // files and anonymous memory
	b, err := os.ReadFile("/proc/sys/vm/swappiness")
	if n, perr := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || perr != nil || n > equal {
		return true
	}
	return multiGen()
}

// multiGen reports whether the multi-generational LRU is on.
func multiGen() bool {
	b, err := os.ReadFile("/sys/kernel/mm/lru_gen/enabled")
	if err != nil {
		return false // the kernel has none
	}
	bits, err := strconv.ParseUint(strings.TrimSpace(string(b)), 0, 64)
	return err != nil || bits != 0
}

// Between the tries of a refresh: the first is so long after a turn that turns in
// a row share one, each further one twice as long after the one before, up to two
// minutes. Those go on: one calm moment is enough.
const (
	refreshAfter = time.Second
	refreshMost  = 7 // doublings
)

// refreshEnd bounds what is done at a stop.
const refreshEnd = time.Second

// refreshSoon plans the refresh that a turn below ancestor has made necessary.
func (e *Engine) refreshSoon(ancestor string) {
	if e.reap.shielded(ancestor) && !e.refreshes[ancestor] {
		e.refreshLater(ancestor, 0, refreshAfter)
	}
}

func (e *Engine) refreshLater(ancestor string, try int, after time.Duration) {
	e.refreshes[ancestor] = true
	time.AfterFunc(after, func() {
		e.post(func(now time.Time) {
			// A turn comes first, and a bait must not be in its count. Each look costs
			// as well: with none but short waits a debt would never be paid.
			wait, en := e.budget.Wait(0, now), e.queue.entries[ancestor]
			if wait > 0 || en != nil && !en.counted {
				e.refreshLater(ancestor, try, max(wait, refreshAfter))
				return
			}
			if _, err := e.refresh(ancestor); err != nil && !errors.Is(err, errNoBait) {
				try = min(try+1, refreshMost)
				e.refreshLater(ancestor, try, refreshAfter<<try)
				return
			}
			delete(e.refreshes, ancestor)
		})
	})
}

// refresh is done whatever the policy says of reaping.
func (e *Engine) refresh(ancestor string) (done bool, err error) {
	done, err = e.reap.refresh(ancestor)
	if done || err != nil {
		e.queue.refreshed(ancestor, time.Now())
	}
	e.log.Debug("refresh", "ancestor", ancestor, "done", done, "err", err)
	if err == nil || errors.Is(err, errNoBait) {
		delete(e.reap.stale, ancestor)
	}
	return done, err
}

// refreshAll is for a stop: what can be ended at once does not stay in force.
func (e *Engine) refreshAll() {
	end := time.Now().Add(refreshEnd)
	for ancestor := range e.reap.stale {
		if time.Now().Before(end) {
			_, _ = e.refresh(ancestor)
		}
	}
}

// heal plans to end what an earlier version may have left in force, below one
// cgroup at the top after another, so that nothing waits for all of it: a pass from
// there looks at every one further down. Those at the top were never shielded. It
// does so also where reap.enabled is false: who was harmed may have switched that
// off. With kernel.monitor_only = "always" nothing is touched.
func (e *Engine) heal() {
	if !e.opts.Hierarchy.Mode.V2() || e.opts.Abilities.FreshProtection.OK() || e.config().Monitor == MonitorAlways {
		return
	}
	names, err := e.tree.Children("/")
	if err != nil {
		e.log.Warn("an earlier version's protection may still be in force", "err", err)
		return
	}
	var healed, later []string
	var next func(time.Time)
	next = func(time.Time) {
		if len(names) == 0 {
			slices.Sort(healed)
			if len(healed) > 0 {
				e.log.Info("this kernel keeps stale protection: ended what an earlier version may have left", "below", healed)
			}
			if len(later) > 0 {
				e.log.Warn("this kernel keeps stale protection, and what an earlier version may have left is still in force: it is tried again", "below", later)
			}
			return
		}
		top := path.Join("/", names[0])
		names = names[1:]
		if ignore := e.config().Ignore; ignore == nil || !ignore(top) {
			e.reap.stale[top] = true
			done, err := e.refresh(top)
			switch {
			case errors.Is(err, errNoBait):
				e.log.Warn("an earlier version's protection may still be in force", "below", top, "err", err)
			case err != nil:
				later = append(later, top)
				e.refreshLater(top, 0, refreshAfter)
			case done:
				healed = append(healed, top)
			}
		}
		e.post(next)
	}
	e.post(next)
}
