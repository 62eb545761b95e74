package reclaim

import (
	"errors"
	"time"
)

// cover is how a turn sees to it that memory.low is not broken: by a bait where
// one can be laid, else by asking for no more than is certain.
type cover struct {
	low      bool     // memory.low is the shield
	children int      // live ones at the last look: with none there is nobody to shield
	baits    int      // laid in this turn
	none     bool     // no bait can be laid here
	kind     baitKind // active where what is left is on active lists
	fresh    bool     // nothing has been asked for since the last was laid
	first    bool     // the write under way is a bait's first
	had      int64    // what the bait had before the write under way
}

// baitTries is how many baits a turn lays before the first write: what is
// reclaimed elsewhere at the same time may take one.
const baitTries = 3

// laid lays a bait below ancestor where a turn needs one and has none, for what
// is left of the dead.
func (r *reaper) laid(c *cover, ancestor string, left int64) error {
	if !c.low || c.none || c.children == 0 {
		return nil
	}
	bytes := min(max(left*baitPart, baitLeast), baitMost)
	switch {
	case !r.abil.Reclaim.OK():
		bytes = baitMost
	case c.kind == baitActive:
		bytes = baitLeast
	}
	if n, err := r.bait.left(); err == nil && n >= r.baitEnough() {
		return nil
	}
	r.quiet()
	err := r.bait.lay(ancestor, bytes, c.kind)
	switch {
	case errors.Is(err, errNoBait):
		c.none = true
		r.log.Debug("no bait", "err", err)
		return nil
	case err != nil && !gone(err) && !errors.Is(err, errBaitNear):
		r.log.Debug("no bait this time", "err", err)
		c.none = true
		return nil
	}
	c.baits++
	c.fresh = true
	return err
}

// baitEnough is what a bait must have left, in bytes, for another write beside it.
func (r *reaper) baitEnough() int64 {
	if !r.abil.Reclaim.OK() {
		return baitMost / 2
	}
	return baitLeast / 2
}

// squeezePart: no more than this part of what a bait has is asked for by a
// squeeze. While memory.high is low, each process that charges reclaims 32 pages
// and more by itself when it returns from the kernel (mem_cgroup_handle_over_high).
// Beside a dozen services that read through their limits, a bait of 512 KiB was
// gone within one write, and idle neighbours lost 26 pages (5.10).
const squeezePart = 8

// mayAsk is how much of most may be asked for now; again: a bait is needed first.
func (r *reaper) mayAsk(c *cover, most int64, dead DeadMemory) (ask int64, again bool) {
	c.had, c.first = 0, false
	if c.children == 0 {
		return most, false
	}
	if c.none {
		return min(most, r.certain(dead)), false
	}
	left, err := r.bait.left()
	if err != nil || left < r.baitEnough() {
		return 0, c.baits < baitTries
	}
	c.had = left
	// Until a grace period of RCU has passed the kernel takes the bait for a live
	// one, and a pass goes on to lower priorities until that gives. (What a squeeze
	// asks for has to be more than CPUs have in stock.)
	c.first, c.fresh = c.fresh && r.abil.Reclaim.OK(), false
	if c.first || c.kind == baitActive && r.abil.Reclaim.OK() {
		return r.pagesize, false
	}
	if !r.abil.Reclaim.OK() {
		return min(most, left/squeezePart), false
	}
	return min(most, left/baitPart), false
}

// turnActive has the next baits be active ones, where the last write took nothing
// of the dead beside an inactive one.
func (r *reaper) turnActive(c *cover) bool {
	if c.had == 0 || c.kind == baitActive {
		return false
	}
	r.takeBait()
	c.kind = baitActive
	return true
}

// taken is how much of the bait the last write has taken.
func (r *reaper) taken(c *cover) int64 {
	left, err := r.bait.left()
	if err != nil {
		return c.had
	}
	return c.had - left
}

// clean is what there is to ask for behind memory.low: not what is dirty or
// mapped, for which a bait would be laid in vain. A coarse memory.stat does not
// tell.
func (r *reaper) clean(d DeadMemory) int64 {
	if !r.abil.ExactStat.OK() {
		return d.Reclaimable()
	}
	return d.Clean()
}

// certain is what may be asked for behind memory.low without a bait, in bytes:
// half of what looks clean, as some of that may be a journal's. It is nothing
// where that is little, or where memory.stat may be coarse.
func (r *reaper) certain(d DeadMemory) int64 {
	if n := d.Clean() / 2; n >= baitLeast && r.abil.ExactStat.OK() {
		return n
	}
	return 0
}

// takeBait takes it away once nobody needs it any more.
func (r *reaper) takeBait() {
	r.quiet()
	r.bait.take()
}

// Who has charged memory while memory.high was low reclaims by itself when it returns
// from the kernel, and may still be about it when the old value is back. Without the
// bait it would find nothing but the living, and with the shield down it would find
// them unprotected: while dpkg unpacked, idle neighbours lost 25 or 26 pages a time
// (5.10), which is SWAP_CLUSTER_MAX but for a few.
const (
	quietLook = 50 * time.Millisecond // without a page looked at
	quietMost = 300 * time.Millisecond
)

// quiet waits until nobody does, some time after a squeeze.
func (r *reaper) quiet() {
	if r.squeezed == "" {
		return
	}
	ancestor, end := r.squeezed, time.Now().Add(quietMost)
	r.squeezed = ""
	_, scanned, err := r.activity(ancestor)
	for last := int64(-1); err == nil && scanned != last && time.Now().Before(end); {
		last = scanned
		r.sleep(quietLook)
		_, scanned, err = r.activity(ancestor)
	}
}

// Bounds of a squeeze where memory.low is the shield. It goes on while usage is
// above memory.high, so what the living charge meanwhile is asked for as well.
const (
	growthLook = 5 * time.Millisecond
	growthMost = 64 << 10 // bytes within it
	growSlice  = 10 * time.Millisecond
)

// busy reports whether the living below ancestor charge so much that a squeeze
// could take from them: they grow, or reclaim at limits of their own. Squeezed
// beside services that read through their limits, idle neighbours lost 1.9 MB of
// 48 MiB (5.10).
func (r *reaper) busy(ancestor string) bool {
	if r.abil.Reclaim.OK() {
		return false
	}
	usage, scanned, err := r.activity(ancestor)
	r.sleep(growthLook)
	usage2, scanned2, err2 := r.activity(ancestor)
	return err != nil || err2 != nil || usage2-usage > growthMost || scanned2 != scanned
}

// activity is a cgroup's usage in bytes, and the pages that reclaim has looked at
// in it and below.
func (r *reaper) activity(cgroup string) (usage, scanned int64, err error) {
	if usage, err = r.tree.limit(cgroup, "memory.current"); err != nil {
		return 0, 0, err
	}
	data, err := r.tree.Read(cgroup, "memory.stat", nil)
	if err != nil {
		return 0, 0, err
	}
	err = eachKeyed("memory.stat", data, func(key []byte, v int64) {
		if string(key) == "pgscan" {
			scanned = v
		}
	})
	return usage, scanned, err
}
