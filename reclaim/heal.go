package reclaim

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"
)

// heal ends the protection that an earlier version's shield has left on live
// cgroups, which raised memory.min also where the kernel keeps stale protection
// (before Linux 6.2). There the kernel computes effective protection anew only
// for what is below the cgroup that reclaim begins at. So a little is reclaimed,
// of a bait, from each cgroup right below the root: every one further down is
// looked at by that pass. Those right below the root were never shielded.
//
// It returns the cgroups it reclaimed from. Call it on the thread.
func (r *reaper) heal(ctx context.Context) (healed []string, err error) {
	if r.abil.FreshProtection.OK() {
		return nil, nil
	}
	names, err := r.tree.Children("/")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		top := path.Join("/", name)
		done, herr := r.healBelow(top)
		if herr != nil && !gone(herr) {
			err = errors.Join(err, fmt.Errorf("end stale protection below %s: %w", top, herr))
		}
		if done {
			healed = append(healed, top)
		}
	}
	return healed, err
}

// healTries is how many small requests heal makes: a squeeze's first may only
// bring charges home that CPUs have in stock.
const healTries = 4

func (r *reaper) healBelow(top string) (done bool, err error) {
	if r.squeezesOwn(top) || r.tree.Tellable(top) != MayReap || r.tree.deserted(top) {
		return false, nil
	}
	if near, err := r.tree.NearLimit(top); near || err != nil {
		return false, err
	}
	s := newShield(r.tree, r.journal, "memory.low", r.pagesize)
	defer func() {
		err = errors.Join(err, s.lower())
		r.bait.take()
	}()
	laid := int64(baitMost)
	if err := r.bait.lay(top, laid); err != nil {
		return false, err
	}
	if err := s.raise(top, time.Now()); err != nil {
		return false, err
	}
	for range healTries {
		if _, err := r.write(top, baitLeast, healSlice); err != nil {
			return false, err
		}
		if r.bait.left() < laid {
			return true, nil // the pass has been there
		}
	}
	return false, errors.New("the kernel took nothing of a bait of our own")
}

// healSlice is the longest write of heal; it takes some ms.
const healSlice = time.Second
