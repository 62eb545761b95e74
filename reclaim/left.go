package reclaim

import (
	"context"
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
	var c Census
	var err error
	if e.measured(func() { c, err = e.tree.Census(ctx, "/") }); err != nil {
		return // the first teardown below an ancestor gets too much
	}
	for _, a := range c.Ancestors {
		e.known[a.Path] = a.Direct
	}
}

// tellLeft takes in a look at an ancestor and tells what the teardowns that
// led to it left.
func (e *Engine) tellLeft(en *entry, direct int64) {
	before := e.known[en.path]
	for _, cgroup := range en.torn {
		before += e.inherit(cgroup)
	}
	if direct == 0 {
		delete(e.known, en.path)
	} else {
		e.known[en.path] = direct
	}
	if len(en.torn) == 0 {
		return
	}
	e.opts.OnLeft(Left{Ancestor: en.path, Cgroups: en.torn, Dying: max(direct-before, 0)})
	en.torn, en.waited = nil, false
}

// inherit forgets a cgroup that was torn down, and what was below it, and
// returns how many were known to be dying there: they are its ancestor's now.
func (e *Engine) inherit(cgroup string) (n int64) {
	for p, dying := range e.known {
		if p == cgroup || strings.HasPrefix(p, cgroup+"/") {
			if _, err := e.tree.Dying(p); gone(err) {
				n += dying
				delete(e.known, p)
			}
		}
	}
	return n
}
