package reclaim

// V1Dead is what the dying memcgs right below an ancestor hold on cgroup v1.
type V1Dead struct {
	Stat     V1Stat
	Children int // live children that were subtracted
}

// V1DeadMemory reads what the dying memcgs right below cgroup hold: its
// hierarchical memory.stat lines less its own lines less its live children's
// hierarchical ones.
//
// Unlike on v2, the ancestor's own pages can be told apart, because v1 prints
// them as lines of their own: an ancestor may have processes, or be the root,
// and the difference is dead memory all the same (measured on 6.18).
//
// Reclaiming it is another matter: see [V1ForceEmpty].
//
// The lines lag by some pages and up to two seconds ([V1Stat]), and the
// children are read one after another; a line that comes out negative is cut
// to 0. A child that goes away meanwhile becomes part of the dead, which it
// then is. It needs memory.use_hierarchy=1, which is the default everywhere
// systemd runs and the only setting since 5.11.
func V1DeadMemory(f *FS, cgroup string) (V1Dead, error) {
	// The ancestor first: what a live child charges between the two
	// readings is then subtracted too much, not taken for dead.
	var d V1Dead
	own, total, err := v1ReadStat(f, cgroup)
	if err != nil {
		return d, err
	}
	rest := total.sub(own)
	names, err := f.Children(cgroup)
	if err != nil {
		return d, err
	}
	for _, name := range names {
		_, child, err := v1ReadStat(f, v1Child(cgroup, name))
		if gone(err) {
			continue
		}
		if err != nil {
			return d, err
		}
		rest = rest.sub(child)
		d.Children++
	}
	d.Stat = rest.atLeastZero()
	return d, nil
}

func v1Child(cgroup, name string) string {
	if cgroup == "/" {
		return "/" + name
	}
	return cgroup + "/" + name
}
