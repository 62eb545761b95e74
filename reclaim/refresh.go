package reclaim

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// refreshMargin is by how much a child's memory.low is below its usage, in bytes,
// when a pass computes its effective value anew. It is more than the charges that
// CPUs keep in stock, also of what is nested, and small enough for the pass to take
// nothing: of a cgroup that is protected but for that much the kernel scans no more
// than its pages shifted right by the priority, 12 (get_scan_count, mm/vmscan.c,
// 5.10 and 6.1): 1024 >> 12 is 0, and so it is at priority 11.
const refreshMargin = 4 << 20

// Looking whether the kernel knows a bait for dead, which takes a grace period of
// RCU and a work item. Until it does, passes go on to lower priorities.
const (
	refreshTries = 8
	refreshWait  = 10 * time.Millisecond
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
	if err := r.bait.lay(ancestor, baitMost, false); err != nil {
		return 0, err
	}
	ask, known := int64(baitPass), false
	for try := 0; try < refreshTries && !known; try++ {
		if err := s.raise(ancestor, time.Now()); err != nil {
			return 1, err
		}
		took, err := r.bite(ancestor, ask)
		if err != nil {
			return 1, err
		}
		if took == 0 {
			ask *= 2 // a squeeze's first writes may only bring home what CPUs have in stock
			continue
		}
		if known = took <= ask; !known {
			time.Sleep(refreshWait)
		}
	}
	// Where there is swap a pass divides what it takes between anonymous pages and
	// files, so that what a bait gave says little. The tries took long enough.
	if !known && !hasSwap() {
		return 1, errors.New("the kernel takes a bait of our own for a live cgroup")
	}
	if err := s.uncover(refreshMargin); err != nil {
		return 1, err
	}
	_, err = r.bite(ancestor, ask)
	return 1, err
}

// bite asks for some bytes, and returns how many of them the bait gave.
func (r *reaper) bite(ancestor string, ask int64) (int64, error) {
	before, err := r.bait.left()
	if err != nil {
		return 0, err
	}
	usage, err := r.tree.limit(ancestor, "memory.current")
	if err != nil {
		return 0, err
	}
	if before < squeezePart*ask || r.squeezesOwn(ancestor) && usage < ownPart*ask {
		return 0, errors.New("nothing can be asked for beside the bait")
	}
	if _, err := r.write(ancestor, ask, healSlice); err != nil {
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
