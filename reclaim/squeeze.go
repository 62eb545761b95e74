package reclaim

import (
	"time"
)

// squeeze reclaims up to bytes from an ancestor by lowering its memory.high
// for the length of one write: the kernel reclaims down to the new value
// before the write returns (memory_high_write, mm/memcontrol.c). For kernels
// without memory.reclaim.
//
// While the value is low, the living who allocate are throttled in proportion
// to how far usage is above it (mem_cgroup_handle_over_high), so a batch is
// small and the old value is back at once.
func (r *reaper) squeeze(ancestor string, bytes int64, slice time.Duration) (WriteResult, error) {
	id, err := r.tree.ID(ancestor)
	if err != nil {
		return WriteFull, err
	}
	before, err := r.tree.limit(ancestor, "memory.high")
	if err != nil {
		return WriteFull, err
	}
	usage, err := r.tree.limit(ancestor, "memory.current")
	if err != nil {
		return WriteFull, err
	}
	target := max(usage-bytes, 0) / r.pagesize * r.pagesize
	if target >= before {
		return WritePartial, nil // what limits it already is lower
	}
	defer r.thread.hurry()()
	c := change{id: id, cgroup: ancestor, file: "memory.high", before: before, after: target}
	if err := r.journal.record([]change{c}); err != nil {
		return WriteFull, err
	}
	if now, err := r.tree.limit(ancestor, "memory.high"); err != nil || now != before {
		return WritePartial, err // an administrator's value of this moment is not overwritten
	}
	if r.neverMin() { // or there is neither bait nor memory.low
		r.squeezed = ancestor
	}
	res, err := r.thread.Write(r.tree.FS, ancestor, "memory.high", formatLimit(target), slice)
	if _, perr := putBackOne(r.tree.FS, id, ancestor, "memory.high", before, []int64{target}); perr != nil {
		r.journal.owe(c)
		return res, perr
	}
	if err != nil {
		return res, err
	}
	if after, err := r.tree.limit(ancestor, "memory.current"); err == nil && after > target && res == WriteFull {
		res = WritePartial
	}
	return res, nil
}
