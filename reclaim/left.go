package reclaim

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"
)

// Left is what teardowns left dying below one ancestor, counted before
// anything was done about it. Which of them left how many the kernel does not
// tell.
//
// On cgroup v2 it is the growth of the ancestor's direct dying since the last
// look. On v1 the kernel has no such count: there it is told for held
// directories only, one at a time, and counts what even the hold could not
// save.
type Left struct {
	Ancestor string
	Cgroups  []string // torn down; not empty
	Dying    int64
}

// leftWait is how long after a teardown the dying are counted where nothing is
// reaped: a memcg that held nothing goes within an RCU grace period and a
// kernel worker's turn, and one whose pages were re-parented (Linux 7.1) within
// a second or two.
const leftWait = 2 * time.Second

// learnKnown counts what is dying already, so that it is not laid to the next
// teardown.
func (e *Engine) learnKnown(ctx context.Context) {
	if !e.opts.Hierarchy.Mode.V2() {
		return
	}
	_, list, err := e.tree.censusAtOnce(ctx, "/")
	if err != nil {
		return // the first teardown below an ancestor gets too much
	}
	now := time.Now()
	for _, a := range list {
		e.known[a.Path] = known{a.Direct, a.id, now}
	}
}

// known is how many were dying right below a cgroup of this ID.
type known struct {
	dying int64
	id    uint64
	at    time.Time // when they were counted
}

// tellLeft takes in a look at an ancestor and tells what the teardowns that
// led to it left.
func (e *Engine) tellLeft(en *entry, direct int64) {
	before := int64(0)
	if k := e.known[en.path]; k.id == en.id {
		before = k.dying
	}
	if len(en.torn) > 0 {
		before += e.inherit(en.torn)
	}
	if direct == 0 {
		delete(e.known, en.path)
	} else {
		e.known[en.path] = known{direct, en.id, time.Now()}
	}
	if len(en.torn) == 0 {
		return
	}
	e.opts.OnLeft(Left{Ancestor: en.path, Cgroups: en.torn, Dying: max(direct-before, 0)})
	en.torn, en.waited = nil, false
}

// inherit forgets cgroups that were torn down, and what was below them, and
// returns how many were known to be dying there: they are their ancestor's now.
func (e *Engine) inherit(torn []string) (n int64) {
	set := make(map[string]bool, len(torn))
	for _, cgroup := range torn {
		set[cgroup] = true
	}
	below := func(cgroup string) bool {
		for end := len(cgroup); end > 0; end = strings.LastIndexByte(cgroup[:end], '/') {
			if set[cgroup[:end]] {
				return true
			}
		}
		return false
	}
	for p, k := range e.known {
		if below(p) && !e.stands(p, k.id) {
			n += k.dying
			delete(e.known, p)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for p, pin := range e.pinned {
		if below(p) && !e.stands(p, pin.id) {
			delete(e.pinned, p)
		}
	}
	return n
}

// stands reports whether a cgroup is there, and not another one of its path.
func (e *Engine) stands(cgroup string, id uint64) bool {
	is, err := e.tree.ID(cgroup)
	return err == nil && is == id
}

// identify looks which cgroup it is that an entry is about. Where it is another
// one than the last time, what was counted there is its ancestor's now.
func (e *Engine) identify(en *entry) {
	id, err := e.tree.ID(en.path)
	if err != nil || id == en.id {
		return
	}
	if en.id != 0 {
		en.counted, en.confirmed, en.rest = false, false, nil
		en.evicted, en.evictLeft, en.deep = false, nil, false
	}
	en.id = id
}

// forgetGone takes in a census at or below a cgroup: what it did not find has
// nothing dying any more, or is gone.
func (e *Engine) forgetGone(under string, list []found, began time.Time) {
	by := make(map[string]*found, len(list))
	for i := range list {
		by[list[i].Path] = &list[i]
	}
	// What was noted while it was under way it may have missed.
	stale := func(cgroup string, id uint64, at time.Time) bool {
		a := by[cgroup]
		return (a == nil || a.id != id) && at.Before(began) && Within(cgroup, under)
	}
	for p, k := range e.known {
		if !stale(p, k.id, k.at) {
			continue
		}
		delete(e.known, p)
		if e.stands(p, k.id) {
			continue
		}
		// Those that are left are its ancestor's.
		up := e.tree.NearestLive(path.Dir(p))
		if a := by[up]; a != nil {
			of := e.known[up]
			e.known[up] = known{min(of.dying+k.dying, max(a.Direct, of.dying)), a.id, time.Now()}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for p, pin := range e.pinned {
		if stale(p, pin.id, pin.at) {
			delete(e.pinned, p)
		} else if a := by[p]; a != nil && a.Direct < pin.Dying && pin.at.Before(began) {
			pin.Dying = a.Direct
			e.pinned[p] = pin
		}
	}
	e.queue.forgetOwners()
}

// v1PinsEvery is how often forgetFreedV1 counts, which reads every directory.
const v1PinsEvery = 5 * time.Minute

// forgetFreedV1 forgets what was pinned of held directories and is gone by now.
// They are removed, and v1 does not count the dying by cgroup: there are never
// more than are dying on the machine, and the oldest are taken for the first to
// go.
func (e *Engine) forgetFreedV1(now time.Time) {
	e.mu.Lock()
	all := make([]pinned, 0, len(e.pinned))
	for _, p := range e.pinned {
		all = append(all, p)
	}
	e.mu.Unlock()
	if e.opts.Hierarchy.Mode.V2() || len(all) == 0 || now.Before(e.nextV1Pins) {
		return
	}
	e.nextV1Pins = now.Add(v1PinsEvery)
	dying, err := e.dying()
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ancestor := range beyond(all, dying) {
		delete(e.pinned, ancestor)
	}
}

// beyond are the ancestors of the oldest that are more than are dying.
func beyond(all []pinned, dying int64) (gone []string) {
	slices.SortFunc(all, func(a, b pinned) int { return a.at.Compare(b.at) })
	sum := int64(0)
	for _, p := range slices.Backward(all) {
		if sum = plus(sum, p.Dying); sum > dying {
			gone = append(gone, p.Ancestor)
		}
	}
	return gone
}
