package reclaim

import (
	"context"
	"errors"
	"time"
)

// Started tells that a unit's cgroup was seen to live. On v1 and hybrid the
// hold goes into its directory.
func (e *Engine) Started(cgroup string) {
	if e.opts.Hold == nil {
		return
	}
	e.post(func(now time.Time) { e.holdEnter(cgroup, 0) })
}

// holdAgain is when a directory that was not there yet is tried again:
// systemd announces a unit before it makes its cgroup. A unit that has none by
// the last of them has no memory accounting.
var holdAgain = [...]time.Duration{
	2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second,
}

func (e *Engine) holdEnter(cgroup string, try int) {
	err := e.opts.Hold.Enter(cgroup)
	switch {
	case err == nil:
	case errors.Is(err, ErrHoldNotThere) && try < len(holdAgain):
		time.AfterFunc(holdAgain[try], func() {
			e.post(func(time.Time) { e.holdEnter(cgroup, try+1) })
		})
	case errors.Is(err, ErrHoldNotThere):
		e.log.Debug("nothing to hold", "cgroup", cgroup)
	case errors.Is(err, ErrHoldFull):
		if !e.holdFull {
			e.holdFull = true
			e.log.Warn("ending units leak until fewer are live", "err", err)
		}
	default:
		e.log.Warn("cannot hold a unit's memory cgroup", "cgroup", cgroup, "err", err)
	}
}

// holdLeave takes in a teardown on v1 and hybrid: a held directory is now ours
// to finish.
func (e *Engine) holdLeave(cgroup string, at, now time.Time) {
	if e.opts.Hold == nil || !e.opts.Hold.Leave(cgroup) {
		return
	}
	e.queue.finishHeld(cgroup, at, now, e.config().Debounce)
}

// recoverHeld queues the directories that an earlier run has left behind.
func (e *Engine) recoverHeld(now time.Time) {
	if e.opts.Hold == nil {
		return
	}
	left, err := e.opts.Hold.Recover()
	if err != nil {
		e.log.Warn("directories held by an earlier run may be left behind", "err", err)
	}
	for _, cgroup := range left {
		e.queue.finishHeld(cgroup, now, now, 0)
	}
}

// finishHeld gives a held directory one try.
func (e *Engine) finishHeld(ctx context.Context, en *entry, cfg Config) {
	out, err := e.opts.Hold.Finish(ctx, e.thread, en.path, cfg.Slice)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrHoldNotHeld) {
		e.log.Error("cannot finish a held directory", "cgroup", en.path, "err", err)
	}
	en.out.Turns++
	en.out.Verdict = MayReap
	en.out.Batches++
	en.out.Bytes += out.Freed
	if err == nil && !out.Done {
		en.due = time.Now().Add(max(out.RetryAfter, betweenAncestors))
		return
	}
	if out.Done && out.Removed {
		en.counted, en.dying = true, 0
		en.out.DyingBefore, en.out.Freed, en.out.DyingAfter = 1, 1, 0
		if len(out.Pins) > 0 {
			en.out.Freed, en.out.DyingAfter, en.out.Pins = 0, 1, out.Pins
			en.dying = 1
		}
	} else {
		en.events = nil // it lives again, or was not ours
	}
	e.finish(en)
	for _, parent := range out.Parents {
		e.queue.finishHeld(parent, time.Now(), time.Now(), 0)
	}
}

// sweepV1 force_empties the top of the tree, where the policy lets it.
func (e *Engine) sweepV1(ctx context.Context, req SweepRequest, now time.Time, end func(SweepResult, error)) {
	cfg := e.config()
	if !cfg.V1ForceEmpty {
		end(SweepResult{}, ErrV1Sweep)
		return
	}
	r := SweepResult{Under: req.Under}
	var failed error
	e.onThread(ctx, func() {
		began := e.thread.CPU()
		before, err := V1Census(e.tree.FS)
		if err != nil {
			failed = err
			return
		}
		r.DyingBefore, r.Live = before.Dying, before.Directories
		targets := []string{req.Under}
		if req.Under == "/" { // the root has no force_empty
			targets = targets[:0]
			failed = e.tree.eachChild("/", func(name string) { targets = append(targets, "/"+name) })
		}
		for _, target := range targets {
			// One slice each: what it interrupts, the next sweep goes on with.
			if _, err := V1ForceEmpty(e.thread, e.tree.FS, target, cfg.Slice); err != nil && !gone(err) {
				failed = errors.Join(failed, err)
			}
		}
		if after, err := V1Census(e.tree.FS); err == nil {
			r.DyingAfter = after.Dying
			r.Freed = max(before.Dying-after.Dying, 0)
		}
		r.CPU = e.thread.CPU() - began
	})
	r.Wall = time.Since(now)
	e.mu.Lock()
	e.totals.Sweeps++
	e.totals.Freed += r.Freed
	e.mu.Unlock()
	end(r, failed)
}
