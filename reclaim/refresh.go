package reclaim

import (
	"errors"
	"os"
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

// Looking whether the kernel knows a bait for dead, which takes a grace period of
// RCU and a work item. Until it does, passes go on to lower priorities.
const (
	refreshTries = 6
	refreshWait  = 20 * time.Millisecond
)

// refresh ends the protection that a shield of memory.low leaves in force where the
// kernel keeps stale protection. That harms nobody, but each reclaim at such a
// cgroup's own limit would begin with a pass over all priorities that takes
// nothing: reading through the limit took 1.13 to 1.19 times as long (5.10, 6.1).
//
// So, last in a turn, everybody's memory.low goes a little below usage, and a few
// pages are asked for. A bait that the kernel knows for dead gives them at the
// first priority, at which the living have nothing to give. With the
// multi-generational LRU, which scans by other rules, nothing is done, nor while
// the living grow beside a squeeze. It returns how many baits it laid.
//
// Call it with s raised, before it is lowered.
func (r *reaper) refresh(ancestor string, s *shield) (baits int, err error) {
	if r.abil.FreshProtection.OK() || r.multiGen || s.file != "memory.low" || len(s.order) == 0 || r.busy(ancestor) {
		return 0, nil
	}
	if err := r.bait.lay(ancestor, refreshBait, false); err != nil {
		return 0, err
	}
	known := false
	for try := 0; try < refreshTries && !known; try++ {
		if err := s.raise(ancestor, time.Now()); err != nil {
			return 1, err
		}
		took, err := r.bite(ancestor)
		if err != nil {
			return 1, err
		}
		if took == 0 {
			continue // a squeeze's first write may only bring home what CPUs have in stock
		}
		if known = took <= baitPass; !known {
			time.Sleep(refreshWait)
		}
	}
	// Where there is swap a pass divides what it takes between anonymous pages and
	// files, so that what a bait gave says little. The tries took long enough.
	if !known && !hasSwap() {
		return 1, errors.New("the kernel takes a bait of our own for a live cgroup")
	}
	if err := s.uncover(refreshMargin * r.pagesize); err != nil {
		return 1, err
	}
	_, err = r.bite(ancestor)
	return 1, err
}

// bite asks for what one pass takes of a bait, and returns how many bytes it gave.
func (r *reaper) bite(ancestor string) (int64, error) {
	before, err := r.bait.left()
	if err != nil {
		return 0, err
	}
	usage, err := r.tree.limit(ancestor, "memory.current")
	if err != nil {
		return 0, err
	}
	if before < baitPart*baitPass || r.squeezesOwn(ancestor) && usage < ownPart*baitPass {
		return 0, errors.New("nothing can be asked for beside the bait")
	}
	if _, err := r.write(ancestor, baitPass, healSlice); err != nil {
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

// hasSwap reports whether there is swap space (proc(5), /proc/swaps: a line each,
// after one with titles).
func hasSwap() bool {
	b, err := os.ReadFile("/proc/swaps")
	return err != nil || strings.Count(string(b), "\n") > 1
}
