package reclaim

import (
	"errors"
	"fmt"
	"path"
	"time"
)

// unstale makes the kernel forget the protection that a shield below
// ancestor's parent has given ancestor.
//
// The kernel computes effective protection only for what is below the cgroup
// where reclaim begins. What it computed for a cgroup in an earlier reclaim
// from above stays in force when reclaim begins at that cgroup itself, however
// long its memory.min has been back at 0: its own pages and slab are skipped
// (measured on 5.10 and 6.1; gone with "mm: memcg: fix stale protection of
// reclaim target memcg", Linux 6.2). An ancestor's own pages are few, but the
// dead's dentries and inodes are charged to it once they are dead, and before
// Linux 5.14 each inode that a memcg has dirtied keeps that memcg
// (inode->i_wb): of 20 such memcgs 10 went when 10 of their files were removed,
// and none by any reclaim that began at the ancestor.
//
// So a little is reclaimed from the parent, behind a shield of its own, with
// ancestor's memory.min at what lives below it and not more: that is computed
// anew, covers the living, and leaves out the dead.
func (r *reaper) unstale(ancestor string, ask int64, slice time.Duration) (err error) {
	parent := path.Dir(ancestor)
	if r.squeezesOwn(parent) || r.tree.Tellable(parent) != MayReap {
		return nil // no shield was ever raised there
	}
	if near, err := r.tree.NearLimit(parent); near || err != nil {
		return ignoreGone(err)
	}
	live, err := r.liveBelow(ancestor)
	if err != nil {
		return ignoreGone(err)
	}
	usage, err := r.tree.limit(ancestor, "memory.current")
	if err != nil {
		return ignoreGone(err)
	}
	dead := usage - live
	if dead < r.pagesize {
		return nil
	}
	s := newShield(r.tree, r.journal, "memory.min", r.pagesize)
	// Half of what is dead is room for the living to grow into meanwhile.
	s.exact = map[string]int64{ancestor: (live + dead/2) / r.pagesize * r.pagesize}
	defer func() { err = errors.Join(err, s.lower()) }()
	if err := s.raise(parent, time.Now()); err != nil {
		if errors.Is(err, errNestedNearLimit) {
			return nil
		}
		return err
	}
	if _, err := r.write(parent, ask, slice); err != nil && !gone(err) {
		return fmt.Errorf("renew the protection of %s: %w", ancestor, err)
	}
	return nil
}

// liveBelow is what the live children of a cgroup use, in bytes.
func (r *reaper) liveBelow(cgroup string) (sum int64, err error) {
	var failed error
	err = r.tree.eachChild(cgroup, func(name string) {
		n, err := r.tree.limit(path.Join(cgroup, name), "memory.current")
		sum += n
		failed = errors.Join(failed, ignoreGone(err))
	})
	return sum, errors.Join(failed, err)
}
