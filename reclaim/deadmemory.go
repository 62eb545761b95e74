package reclaim

import "errors"

// DeadMemory is what the direct dying memcgs of an ancestor still hold, line
// by line of memory.stat: the ancestor's (which is hierarchical) less its live
// children's.
//
// The files are not read at one moment, and a child that grows in between
// looks like dead memory. Behind a shield that only makes a request too large,
// which costs the living nothing.
type DeadMemory struct {
	MemoryStat
	Children int  `json:"live_children"`
	Coarse   bool `json:"coarse,omitempty"` // see Tree.Coarse
}

// Reclaimable is the page cache that reclaim may free, in bytes. What is on
// the file LRU lists is the better figure, but pages wait in per-CPU batches
// before they get there, so cache that is neither shmem nor unevictable counts
// too.
//
// Where memory.stat is coarse, all that is charged counts, kernel memory among
// it: the charge is exact, and only trying tells how much of it goes.
func (d DeadMemory) Reclaimable() int64 {
	if d.Coarse {
		return max(d.Charged, 0)
	}
	return max(minus(d.File-d.Shmem, d.Unevictable), plus(d.InactiveFile, d.ActiveFile), 0)
}

// Clean is what of it looks as if it could go at once, in bytes: not dirty, not
// under writeback, not mapped.
func (d DeadMemory) Clean() int64 {
	return max(minus(minus(d.Reclaimable(), plus(d.Dirty, d.Writeback)), max(d.Mapped-d.Shmem, 0)), 0)
}

// memoryStat reads a cgroup's memory.stat and swap usage. A cgroup without the
// memory controller has neither and reads as an error for which gone is true.
func (t *Tree) memoryStat(cgroup string, buf []byte) (MemoryStat, []byte, error) {
	return t.memoryStatOf(at{t.FS, cgroup}, buf)
}

func (t *Tree) memoryStatOf(p place, buf []byte) (MemoryStat, []byte, error) {
	data, err := p.read("memory.stat", buf)
	if err != nil {
		return MemoryStat{}, buf, err
	}
	m, err := parseMemoryStat(data)
	if err != nil {
		return m, data, t.errorf("parse", p.path(), "memory.stat", err)
	}
	// No such file without swap accounting (swapaccount=0) or at the root.
	if m.Swap, err = t.limitOf(p, "memory.swap.current", data); err != nil && !gone(err) {
		return m, data, err
	}
	if t.Coarse {
		if m.Charged, err = t.limitOf(p, "memory.current", data); err != nil {
			return m, data, err
		}
	}
	return m, data, nil
}

// flushStats makes the kernel bring a cgroup's memory.stat up to date.
// Reading memory.stat itself flushes only after more than 64 changes a CPU
// (memcg_vmstats_needs_flush, mm/memcontrol.c), else up to 2 s later; cpu.stat
// flushes all of the subtree's counters at once (up to Linux 6.15, where
// controllers got trees of their own).
func (t *Tree) flushStats(cgroup string, buf []byte) []byte {
	if data, err := t.Read(cgroup, "cpu.stat", buf); err == nil {
		return data
	}
	return buf
}

// DeadMemory measures what the direct dying memcgs of an ancestor hold. It
// means something only where [Tree.Tellable] says so.
func (t *Tree) DeadMemory(ancestor string) (DeadMemory, error) {
	buf := t.flushStats(ancestor, nil)
	stat, buf, err := t.memoryStat(ancestor, buf)
	if err != nil {
		return DeadMemory{}, err
	}
	d := DeadMemory{MemoryStat: stat, Coarse: t.Coarse}
	var failed error
	var m MemoryStat // one for all: it escapes
	err = t.each(ancestor, func(c *child) {
		if failed != nil {
			return
		}
		// One that vanished meanwhile is dead memory now; one that cannot
		// be read is alive, and must not be taken for dead.
		if m, buf, failed = t.memoryStatOf(c, buf); failed == nil {
			d.sub(&m)
			d.Children++
		}
		failed = ignoreGone(failed)
	})
	if err = errors.Join(failed, err); err != nil {
		return DeadMemory{}, err
	}
	d.floor()
	return d, nil
}
