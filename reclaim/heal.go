package reclaim

import (
	"errors"
	"path"
	"slices"
	"time"
)

// heal ends the protection that an earlier version's shield has left on live
// cgroups, which raised memory.min also where the kernel keeps stale protection
// (before Linux 6.2). There the kernel computes effective protection anew only
// for what is below the cgroup that reclaim begins at. So a little is reclaimed,
// of a bait, from a cgroup right below the root: every one further down is
// looked at by that pass. Those right below the root were never shielded.
//
// done is false where there was nothing to heal, or where it may not be touched
// now. Call it on the thread.
func (r *reaper) heal(top string) (done bool, err error) {
	if r.squeezesOwn(top) || r.tree.Tellable(top) != MayReap || r.tree.deserted(top) {
		return false, nil
	}
	s := newShield(r.tree, r.journal, "memory.low", r.pagesize)
	defer func() {
		err = errors.Join(err, s.lower())
		r.bait.take()
	}()
	if err := r.bait.lay(top, baitMost, false); err != nil {
		if errors.Is(err, errBaitNear) || errors.Is(err, errNoBait) || gone(err) {
			return false, nil // near its limit it is reclaimed by itself
		}
		return false, err
	}
	if err := s.raise(top, time.Now()); err != nil {
		return false, ignoreGone(err)
	}
	// A squeeze's first writes may only bring charges home that CPUs have in
	// stock, so each asks for more.
	for ask := int64(baitLeast); ask <= baitMost/baitPart; ask *= 2 {
		before, err := r.bait.left()
		if err != nil || before < ask {
			return false, err
		}
		if _, err := r.write(top, ask, healSlice); err != nil {
			return false, ignoreGone(err)
		}
		after, err := r.bait.left()
		if err != nil {
			return false, err
		}
		if before-after >= baitPass { // the pass has been there
			_, err := r.refresh(top, s)
			return true, err
		}
	}
	return false, errors.New("the kernel took nothing of a bait of our own")
}

// healSlice is the longest write of heal; it takes some ms.
const healSlice = time.Second

// heal plans to end what an earlier version may have left in force, one cgroup
// at a time, so that nothing waits for all of it. It does so whatever the policy
// says of reaping: who was harmed may have switched that off.
func (e *Engine) heal() {
	if !e.opts.Hierarchy.Mode.V2() || e.opts.Abilities.FreshProtection.OK() {
		return
	}
	names, err := e.tree.Children("/")
	if err != nil {
		e.log.Warn("an earlier version's protection may still be in force", "err", err)
		return
	}
	var healed []string
	var next func(time.Time)
	next = func(time.Time) {
		if len(names) == 0 {
			if len(healed) > 0 {
				slices.Sort(healed)
				e.log.Info("this kernel keeps stale protection: ended what an earlier version may have left", "below", healed)
			}
			return
		}
		top := path.Join("/", names[0])
		names = names[1:]
		if ignore := e.config().Ignore; ignore == nil || !ignore(top) {
			done, err := e.reap.heal(top)
			if err != nil {
				e.log.Warn("an earlier version's protection may still be in force", "below", top, "err", err)
			}
			if done {
				healed = append(healed, top)
			}
		}
		e.post(next)
	}
	e.post(next)
}
