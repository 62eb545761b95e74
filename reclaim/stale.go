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
// many the kernel scans no more than these shifted right by the priority, which
// begins at 12 (get_scan_count, mm/vmscan.c, 5.10 and 6.1): nothing down to 6.
const refreshMargin = 1<<6 - 1

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
const refreshSlice = time.Second

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
// With the multi-generational LRU, which scans by other rules, the pass is one with
// memory.low raised. That ends what memory.min left.
//
// done is false where there is nothing to end, or nothing to end it with; an error
// says that it is to be tried again. Call it on the thread.
func (r *reaper) refresh(ancestor string) (done bool, err error) {
	if r.tree.Tellable(ancestor) != MayReap || r.tree.deserted(ancestor) {
		return false, nil
	}
	if r.squeezesOwn(ancestor) {
		usage, err := r.tree.limit(ancestor, "memory.current")
		if err != nil || usage < ownPart*baitPass {
			return false, ignoreGone(err) // of our own slice: too little to lower its memory.high by so much
		}
	}
	if r.busy(ancestor) {
		return false, errors.New("the living grow, or reclaim at their own limits")
	}
	s := newShield(r.tree, r.journal, "memory.low", r.pagesize)
	defer func() {
		err = errors.Join(ignoreGone(err), s.lower())
		r.bait.take()
	}()
	if err := r.bait.lay(ancestor, refreshBait, false); errors.Is(err, errNoBait) {
		return false, nil
	} else if err != nil {
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
		n, err := r.bite(ancestor)
		switch {
		case err != nil:
			return false, err
		case n > 0 && r.multiGen:
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
	if err := s.uncover(refreshMargin * r.pagesize); err != nil {
		return false, err
	}
	n, err := r.bite(ancestor)
	if err == nil && n == 0 {
		err = errors.New("the kernel took nothing of a bait of our own")
	}
	return err == nil, err
}

// bite asks for what one pass takes of a bait, and returns how many bytes it gave.
func (r *reaper) bite(ancestor string) (int64, error) {
	before, err := r.bait.left()
	if err != nil {
		return 0, err
	}
	if before < baitPart*baitPass {
		return 0, errors.New("the bait is used up")
	}
	if _, err := r.write(ancestor, baitPass, refreshSlice); err != nil {
		return 0, err
	}
	after, err := r.bait.left()
	return before - after, err
}

// uncover lowers what covers each child to margin bytes below its usage, but not
// below what it was. Values that somebody else has set meanwhile stay.
func (s *shield) uncover(margin int64) error {
	var changes []change
	for _, cgroup := range s.order {
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
	return s.apply(changes)
}

// multiGen reports whether the multi-generational LRU is on
// (Documentation/admin-guide/mm/multigen_lru.rst).
func multiGen() bool {
	b, err := os.ReadFile("/sys/kernel/mm/lru_gen/enabled")
	if err != nil {
		return false // the kernel has none
	}
	bits, err := strconv.ParseUint(strings.TrimSpace(string(b)), 0, 64)
	return err != nil || bits != 0
}

// Between the tries of a refresh: the first is so long after a turn that turns in
// a row share one, each further one twice as long after the one before.
const (
	refreshAfter = time.Second
	refreshMost  = 8 // tries; the last is some four minutes after the turn
)

// refreshEnd bounds what is done at a stop.
const refreshEnd = time.Second

// refreshSoon plans the refresh that a turn below ancestor has made necessary.
func (e *Engine) refreshSoon(ancestor string) {
	if e.reap.stale[ancestor] && !e.refreshes[ancestor] {
		e.refreshLater(ancestor, 0)
	}
}

func (e *Engine) refreshLater(ancestor string, try int) {
	e.refreshes[ancestor] = true
	time.AfterFunc(refreshAfter<<try, func() {
		e.post(func(time.Time) {
			if _, err := e.refresh(ancestor); err != nil && try+1 < refreshMost {
				e.refreshLater(ancestor, try+1)
				return
			}
			delete(e.refreshes, ancestor)
		})
	})
}

// refresh is charged to the budget, and done whatever the policy says of reaping.
func (e *Engine) refresh(ancestor string) (done bool, err error) {
	began := e.thread.CPU()
	done, err = e.reap.refresh(ancestor)
	e.budget.Spend(e.thread.CPU()-began, time.Now())
	e.log.Debug("refresh", "ancestor", ancestor, "done", done, "err", err)
	if err == nil {
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
// does so whatever the policy says of reaping: who was harmed may have switched
// that off.
func (e *Engine) heal() {
	if !e.opts.Hierarchy.Mode.V2() || e.opts.Abilities.FreshProtection.OK() {
		return
	}
	names, err := e.tree.Children("/")
	if err != nil {
		e.log.Warn("an earlier version's protection may still be in force", "err", err)
		return
	}
	var healed []string
	var next func(time.Time)
	next = func(time.Time) {
		if len(names) == 0 {
			if slices.Sort(healed); len(healed) > 0 {
				e.log.Info("this kernel keeps stale protection: ended what an earlier version may have left", "below", healed)
			}
			return
		}
		top := path.Join("/", names[0])
		names = names[1:]
		if ignore := e.config().Ignore; ignore == nil || !ignore(top) {
			e.reap.stale[top] = true
			done, err := e.refresh(top)
			if err != nil {
				e.refreshLater(top, 0)
			}
			if done {
				healed = append(healed, top)
			}
		}
		e.post(next)
	}
	e.post(next)
}
