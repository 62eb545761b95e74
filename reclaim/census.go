package reclaim

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
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

	pulse *atomic.Uint64 // counts what was looked at, see Engine.Alive; may be nil
}

// Ancestor is a live cgroup with dying memcgs that hang right below it.
type Ancestor struct {
	Path string `json:"path"`
	// Direct dying: those whose nearest live ancestor is this one.
	Direct int64 `json:"direct_dying"`
	// Total dying below it, its live children's among them.
	Total int64 `json:"total_dying"`
}

// found is an ancestor as the engine takes it from a census.
type found struct {
	Ancestor
	id    uint64 // see FS.ID
	owner owner
}

// Census is one pass over the live tree.
type Census struct {
	Dying     int64      // dying below where the census began
	Live      int64      // live cgroups there, the first one among them
	Visited   int        // cgroups looked at; the rest was pruned
	Ancestors []Ancestor // those with direct dying, most first
	// PassedOver is what it went on without.
	PassedOver PassedOver
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

// each is FS.each, counted as progress of the engine that this tree is of.
func (t *Tree) each(cgroup string, fn func(*child)) error {
	return t.FS.eachPulsing(cgroup, t.pulse, fn)
}

// Census finds every ancestor with direct dying memcgs at or below under. It
// reads cgroup.stat once a cgroup and goes into no subtree whose count is 0: a
// machine without dying memcgs costs one read. Cgroups that vanish on the way
// are no error. What cannot be read, and what lies deeper than PATH_MAX, is
// passed over and counted (see Census.PassedOver). Losing the first one is an
// error.
func (t *Tree) Census(ctx context.Context, under string) (Census, error) {
	c, list, err := t.censusAtOnce(ctx, under)
	for _, f := range list {
		c.Ancestors = append(c.Ancestors, f.Ancestor)
	}
	return c, err
}

// censusAtOnce is a census with its ancestors apart.
func (t *Tree) censusAtOnce(ctx context.Context, under string) (Census, []found, error) {
	w, err := t.census(under)
	if err != nil {
		return Census{}, nil, err
	}
	defer w.close()
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return Census{}, nil, err
		}
		if more, err = w.next(); err != nil {
			return Census{}, nil, err
		}
	}
	return w.c, w.result(), nil
}

// censusWalk is a census under way, which can be taken a directory at a time.
type censusWalk struct {
	walk
	tree  *Tree
	c     Census // but for its ancestors
	found []found
	names map[owner]int // bytes of the paths found of each
	buf   []byte
	first bool // the first directory has been listed
}

// namesMost bounds the paths that a census lists of one owner, in bytes: some
// 10,000 of usual ones, but each may take 4,095, and the kernel allows 65,535.
const namesMost = 1 << 20

// census begins one. Close it.
func (t *Tree) census(under string) (*censusWalk, error) {
	st, buf, err := t.stat(under, nil)
	if err != nil {
		return nil, err
	}
	w := &censusWalk{tree: t, buf: buf, names: map[owner]int{}, c: Census{Dying: t.dyingCount(st), Live: st.descendants + 1, Visited: 1}}
	w.fs, w.over, w.longest = t.FS, &w.c.PassedOver, pathMax-1
	if w.c.Dying > 0 {
		if under, err = CleanPath(under); err == nil {
			err = w.start(under, w.c.Dying)
		}
	}
	return w, err
}

// next lists one directory, or reports that there is none left.
func (w *censusWalk) next() (more bool, err error) {
	if more = !w.first && len(w.levels) > 0; !more {
		if more, err = w.walk.next(); err != nil || !more {
			return false, err
		}
	}
	w.first = true
	w.look()
	return true, nil
}

// look lists the directory the walk is in and reads the count of each below it.
func (w *censusWalk) look() {
	t, at := w.tree, w.here()
	var id uint64
	at.owner, id = ownerOf(at.fd, at.owner, w.path)
	direct, unknown := at.dying, false
	err := w.each(t.pulse, func(c *child) {
		st, buf, err := t.statOf(c, w.buf)
		if w.buf = buf; err != nil {
			if !gone(err) {
				w.over.add(c.path(), shortly(err), 0)
				unknown = true
			}
			return
		}
		w.c.Visited++
		dying := t.dyingCount(st)
		direct = minus(direct, dying)
		if dying > 0 {
			w.enter(c.name, dying)
		}
	})
	if err != nil { // else what it has dying is its parent's now
		at.todo = nil
		if !gone(err) {
			w.over.add(w.path(), shortly(err), at.dying)
		}
		return
	}
	switch {
	case direct <= 0:
	case unknown: // the dying may be those of a child that could not be read
		w.c.PassedOver.Dying = plus(w.c.PassedOver.Dying, direct)
	default:
		w.note(found{Ancestor{Path: w.path(), Direct: direct, Total: at.dying}, id, at.owner})
	}
}

// note lists an ancestor, or passes over one of an owner who has too many.
func (w *censusWalk) note(a found) {
	if w.names[a.owner] += len(a.Path); a.owner != "" && w.names[a.owner] > namesMost {
		w.over.add(a.Path, "its owner has more of them than are listed at once", a.Direct)
		return
	}
	w.found = append(w.found, a)
}

// result is what it has found, most direct dying first.
func (w *censusWalk) result() []found {
	slices.SortFunc(w.found, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.Direct, a.Direct), cmp.Compare(a.Path, b.Path))
	})
	return w.found
}
