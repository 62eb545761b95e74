package reclaim

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// Tree reads a cgroup v2 memory hierarchy.
type Tree struct {
	*FS
	// Subsys: cgroup.stat counts dying memory cgroups by themselves
	// (nr_dying_subsys_memory, Linux 6.12). Without it the count is of
	// whole cgroups, which other controllers may hold as well.
	Subsys bool
	// RecursiveProt: see Hierarchy.
	RecursiveProt bool
	// Coarse: memory.stat leaves out up to 32 pages a CPU and line of every
	// memcg, for good once it is dead (before Linux 5.13, which sums up by
	// rstat). Some hundred dying memcgs of a few pages each read as nothing.
	Coarse bool
}

// Ancestor is a live cgroup with dying memcgs that hang right below it.
type Ancestor struct {
	Path string `json:"path"`
	// Direct dying: those whose nearest live ancestor is this one.
	Direct int64 `json:"direct_dying"`
	// Total dying below it, its live children's among them.
	Total int64 `json:"total_dying"`
}

// Census is one pass over the live tree.
type Census struct {
	Dying     int64      // dying below where the census began
	Live      int64      // live cgroups there, the first one among them
	Visited   int        // cgroups looked at; the rest was pruned
	Ancestors []Ancestor // those with direct dying, most first
}

// cgroupStat is what is used of cgroup.stat.
type cgroupStat struct {
	descendants    int64 // nr_descendants
	dying          int64 // nr_dying_descendants
	dyingMemory    int64 // nr_dying_subsys_memory
	hasDyingMemory bool
}

func parseCgroupStat(data []byte) (cgroupStat, error) {
	var st cgroupStat
	counted := false
	err := eachKeyed("cgroup.stat", data, func(key []byte, v int64) {
		switch string(key) {
		case "nr_descendants":
			st.descendants = v
		case "nr_dying_descendants":
			st.dying, counted = v, true
		case "nr_dying_subsys_memory":
			st.dyingMemory, st.hasDyingMemory = v, true
		}
	})
	if err == nil && !counted {
		// It is the second line since 4.14, before all that may be missing.
		err = parseError("cgroup.stat", nil, "no \"nr_dying_descendants\"")
	}
	if err != nil {
		return cgroupStat{}, err
	}
	return st, nil
}

// dyingCount is how many dying memcgs a cgroup.stat tells of. Where the kernel
// counts memory by itself, a cgroup without that line has no memory controller
// and so no dying memcg below it.
func (t *Tree) dyingCount(st cgroupStat) int64 {
	if t.Subsys {
		return st.dyingMemory
	}
	return st.dying
}

func (t *Tree) stat(cgroup string, buf []byte) (cgroupStat, []byte, error) {
	return t.statOf(at{t.FS, cgroup}, buf)
}

func (t *Tree) statOf(p place, buf []byte) (cgroupStat, []byte, error) {
	data, err := p.read("cgroup.stat", buf)
	if err != nil {
		return cgroupStat{}, buf, err
	}
	st, err := parseCgroupStat(data)
	if err != nil {
		return st, data, t.errorf("parse", p.path(), "cgroup.stat", err)
	}
	return st, data, nil
}

// Dying is how many dying memcgs there are below a cgroup: one file read.
func (t *Tree) Dying(cgroup string) (int64, error) {
	st, _, err := t.stat(cgroup, nil)
	return t.dyingCount(st), err
}

// DirectDying is how many dying memcgs hang right below a cgroup: its count
// less its live children's. The counts are not read at one moment, so a
// teardown in between can make the difference too small; it is never negative.
func (t *Tree) DirectDying(cgroup string) (int64, error) {
	st, buf, err := t.stat(cgroup, nil)
	if err != nil {
		return 0, err
	}
	direct := t.dyingCount(st)
	if direct == 0 {
		return 0, nil
	}
	var failed error
	err = t.each(cgroup, func(c *child) {
		if failed != nil {
			return
		}
		var cst cgroupStat
		// One that vanished here has joined the dying: it counts no more.
		if cst, buf, failed = t.statOf(c, buf); failed == nil {
			direct = minus(direct, t.dyingCount(cst))
		}
		failed = ignoreGone(failed)
	})
	if err = errors.Join(failed, err); err != nil {
		return 0, err
	}
	return max(direct, 0), nil
}

// Census finds every ancestor with direct dying memcgs at or below under. It
// reads cgroup.stat once a cgroup and goes into no subtree whose count is 0: a
// machine without dying memcgs costs one read. Cgroups that vanish on the way
// are passed over; losing the first one is an error, and so is a file that
// does not read as it should.
func (t *Tree) Census(ctx context.Context, under string) (Census, error) {
	st, buf, err := t.stat(under, nil)
	if err != nil {
		return Census{}, err
	}
	c := Census{Dying: t.dyingCount(st), Live: st.descendants + 1, Visited: 1}
	type node struct {
		path  string
		dying int64
	}
	todo := []node{{under, c.Dying}}
	var list listing
	for len(todo) > 0 {
		if err := ctx.Err(); err != nil {
			return Census{}, err
		}
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n.dying == 0 {
			continue
		}
		direct := n.dying
		var failed error
		err := list.each(t.FS, n.path, func(at *child) {
			if failed != nil {
				return
			}
			var cst cgroupStat
			if cst, buf, failed = t.statOf(at, buf); failed != nil {
				failed = ignoreGone(failed)
				return
			}
			c.Visited++
			dying := t.dyingCount(cst)
			direct = minus(direct, dying)
			if dying > 0 {
				todo = append(todo, node{at.path(), dying})
			}
		})
		if failed = errors.Join(failed, ignoreGone(err)); failed != nil {
			return Census{}, failed
		}
		if err == nil && direct > 0 {
			c.Ancestors = append(c.Ancestors, Ancestor{Path: n.path, Direct: direct, Total: n.dying})
		}
	}
	slices.SortFunc(c.Ancestors, func(a, b Ancestor) int {
		return cmp.Or(cmp.Compare(b.Direct, a.Direct), cmp.Compare(a.Path, b.Path))
	})
	return c, nil
}
