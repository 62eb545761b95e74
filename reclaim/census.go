package reclaim

import (
	"context"
	"path"
	"slices"
	"strings"
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
	err := eachKeyed("cgroup.stat", data, func(key []byte, v int64) {
		switch string(key) {
		case "nr_descendants":
			st.descendants = v
		case "nr_dying_descendants":
			st.dying = v
		case "nr_dying_subsys_memory":
			st.dyingMemory, st.hasDyingMemory = v, true
		}
	})
	return st, err
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
	data, err := t.Read(cgroup, "cgroup.stat", buf)
	if err != nil {
		return cgroupStat{}, buf, err
	}
	st, err := parseCgroupStat(data)
	if err != nil {
		return st, data, t.errorf("parse", cgroup, "cgroup.stat", err)
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
	err = t.eachChild(cgroup, func(name string) {
		var cst cgroupStat
		var cerr error
		// One that vanished here has joined the dying: it counts no more.
		if cst, buf, cerr = t.stat(path.Join(cgroup, name), buf); cerr == nil {
			direct -= t.dyingCount(cst)
		}
	})
	return max(direct, 0), err
}

// Census finds every ancestor with direct dying memcgs at or below under. It
// reads cgroup.stat once a cgroup and goes into no subtree whose count is 0: a
// machine without dying memcgs costs one read. Cgroups that vanish on the way
// are passed over; only losing the first one is an error.
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
	for len(todo) > 0 && ctx.Err() == nil {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n.dying == 0 {
			continue
		}
		direct := n.dying
		err := t.eachChild(n.path, func(name string) {
			child := path.Join(n.path, name)
			var cst cgroupStat
			var cerr error
			if cst, buf, cerr = t.stat(child, buf); cerr != nil {
				return
			}
			c.Visited++
			dying := t.dyingCount(cst)
			direct -= dying
			if dying > 0 {
				todo = append(todo, node{child, dying})
			}
		})
		if err == nil && direct > 0 {
			c.Ancestors = append(c.Ancestors, Ancestor{Path: n.path, Direct: direct, Total: n.dying})
		}
	}
	slices.SortFunc(c.Ancestors, func(a, b Ancestor) int {
		if a.Direct != b.Direct {
			return int(b.Direct - a.Direct)
		}
		return strings.Compare(a.Path, b.Path)
	})
	return c, ctx.Err()
}
