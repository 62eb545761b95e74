package reclaim

import (
	"context"
	"errors"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// Started tells that a unit's cgroup was seen to live. On v1 and hybrid the
// hold goes into its directory: not on the reaping thread, whose low priority
// the shortest sessions would not outlive.
func (e *Engine) Started(cgroup string) {
	if e.opts.Hold == nil {
		return
	}
	go func() {
		select {
		case <-e.started: // what an earlier run held comes first
			e.holdEnter(cgroup, 0)
		case <-e.stopped:
		}
	}()
}

// holdAgain is when a directory that was not there yet is tried again:
// systemd announces a unit before it makes its cgroup. A unit that has none by
// the last of them has no memory accounting.
var holdAgain = [...]time.Duration{
	2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second,
}

func (e *Engine) holdEnter(cgroup string, try int) {
	select {
	case <-e.stopped:
		return
	default:
	}
	err := e.opts.Hold.Enter(cgroup)
	switch {
	case err == nil:
		if e.holdTrouble.Swap(0) != 0 {
			e.log.Info("units are held again", "cgroup", cgroup)
		}
	case errors.Is(err, ErrHoldNotThere) && try < len(holdAgain):
		time.AfterFunc(holdAgain[try], func() { e.holdEnter(cgroup, try+1) })
	case errors.Is(err, ErrHoldNotThere):
		e.log.Debug("nothing to hold", "cgroup", cgroup)
	case errors.Is(err, ErrHoldFull):
		if !e.holdFull.Swap(true) {
			e.log.Warn("ending units leak until fewer are live", "err", err, message.HoldFailed.Attr())
		}
	default:
		// Once for as long as it lasts, not for each unit that comes.
		trouble := uint32(1)
		if errno := unix.Errno(0); errors.As(err, &errno) {
			trouble += uint32(errno)
		}
		if e.holdTrouble.Swap(trouble) != trouble {
			e.log.Warn("cannot hold units' memory cgroups; what ends meanwhile leaks", "cgroup", cgroup, "err", err,
				message.HoldFailed.Attr())
		}
	}
}

// holdLeave takes in a teardown on v1 and hybrid: a held directory is now ours
// to finish.
// It reports whether it was held.
func (e *Engine) holdLeave(cgroup string, at, now time.Time) bool {
	if e.opts.Hold == nil || !e.opts.Hold.Leave(cgroup) {
		return false
	}
	e.queue.finishHeld(cgroup, at, now, e.config().Debounce)
	return true
}

// holdWatch holds units as soon as their directories are made, until ctx ends.
func (e *Engine) holdWatch(ctx context.Context) {
	if e.opts.Hold == nil || e.opts.HoldUnits == nil {
		return
	}
	if err := e.opts.Hold.Watch(ctx, e.opts.HoldUnits); err != nil {
		e.log.Warn("units are held when systemd reports them, too late for the shortest", "err", err,
			message.HoldFailed.Attr())
	}
}

// holdEnded takes in the teardowns that nobody told of: of what exited by
// itself, without a job, before systemd could confirm that it lived.
func (e *Engine) holdEnded(now time.Time) {
	if e.opts.Hold == nil {
		return
	}
	for _, cgroup := range e.opts.Hold.Ended() {
		e.holdLeave(cgroup, now, now)
	}
}

// recoverHeld queues the directories that an earlier run has left behind.
func (e *Engine) recoverHeld(now time.Time) {
	if e.opts.Hold == nil {
		return
	}
	left, err := e.opts.Hold.Recover()
	if err != nil {
		e.log.Warn("the journal of holds cannot be read or written; a crash would leave directories behind", "err", err,
			message.HoldFailed.Attr())
	}
	for _, cgroup := range left {
		e.queue.finishHeld(cgroup, now, now, 0)
	}
}

// finishHeld gives a held directory one try.
func (e *Engine) finishHeld(ctx context.Context, en *entry, cfg Config) {
	out, err := e.opts.Hold.Finish(ctx, e.thread, en.path, cfg.Slice)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrHoldNotHeld) {
		e.log.Error("cannot finish a held directory", "cgroup", en.path, "err", err, message.HoldNotEmptied.Attr())
	}
	en.out.Turns++
	en.out.Verdict = MayReap
	en.out.Batches++
	en.out.Bytes += out.Freed
	if err == nil && !out.Done {
		en.due = time.Now().Add(out.RetryAfter)
		return
	}
	if out.Done && out.Removed {
		en.counted, en.dying = true, 0
		en.out.DyingBefore, en.out.Freed, en.out.DyingAfter = 1, 1, 0
		if len(out.Pins) > 0 {
			en.out.Freed, en.out.DyingAfter, en.out.Pins = 0, 1, out.Pins
			en.dying = 1
		}
		e.opts.OnLeft(Left{Ancestor: path.Dir(en.path), Cgroups: []string{en.path}, Dying: en.dying})
	} else {
		en.events = nil // it lives again, or was not ours
	}
	e.finish(en)
	for _, parent := range out.Parents {
		e.queue.finishHeld(parent, time.Now(), time.Now(), 0)
	}
}

// sweepV1 has what is dying evicted, and what that leaves force_emptied, where the
// policy lets it.
func (e *Engine) sweepV1(ctx context.Context, req SweepRequest, now time.Time, end func(SweepResult, error)) {
	evict := e.mayEvict(e.config(), now)
	if !evict && !e.config().V1ForceEmpty {
		end(SweepResult{}, e.whyNotEvict())
		return
	}
	job := &sweepJob{ctx: ctx, req: req, began: now, pending: map[string]bool{}, end: end}
	job.result = SweepResult{Under: req.Under}
	count, err := v1Census(e.ctx, e.tree.FS, &e.pulse)
	if err == nil && !e.tree.Exists(req.Under) {
		err = e.tree.errorf("sweep", req.Under, "", unix.ENOENT)
	}
	if err != nil {
		end(SweepResult{}, err)
		return
	}
	job.result.PassedOver = count.PassedOver
	job.result.DyingBefore, job.result.DyingAfter, job.result.Live = count.Dying, count.Dying, count.Directories
	job.machine = count.Dying + count.Directories
	if evict {
		job.total, job.pending[evictPending] = 1, true
		e.evict.jobs = append(e.evict.jobs, job)
		e.evictAt(now)
	} else {
		e.forceSwept(job, now)
	}
	e.startSweep(job)
}

// forceSwept queues a force_empty of the top of a sweep's tree.
func (e *Engine) forceSwept(job *sweepJob, now time.Time) {
	targets := []string{job.req.Under}
	if job.req.Under == "/" { // the root has no force_empty
		targets = targets[:0]
		if err := e.tree.eachChild("/", func(name string) { targets = append(targets, "/"+name) }); err != nil {
			e.log.Error("cannot sweep", "err", err, message.SweepFailed.Attr())
		}
	}
	job.total += len(targets)
	for _, target := range targets {
		e.queue.forceEmpty(target, now)
		job.pending[target] = true
	}
}

// forceLooks is how often a v1 ancestor is looked at, as a held directory is
// (see holdRetry: for 42 s in all), before pages that are dirty are taken for
// what the living go on writing: an older one would be under writeback by then.
const forceLooks = 10

// forceWaits reports whether pages below a v1 ancestor wait for a disk, for
// which force_empty would wait as well (see v1Emptier). It plans the next look,
// or ends the entry where there have been enough.
func (e *Engine) forceWaits(en *entry, now time.Time) bool {
	_, below, err := v1ReadStat(e.tree.FS, en.path)
	if err != nil { // force_empty says why
		return false
	}
	under := e.emptier.since(en.path) > 0
	if !under && below.Writeback == 0 && (below.Dirty == 0 || en.tries >= forceLooks) {
		return false
	}
	if en.tries++; en.tries <= 2*forceLooks {
		en.due = now.Add(holdRetry(en.tries))
		return true
	}
	en.out.Verdict = MayReap
	en.out.Pins = []Pin{{PinnedDirty, below.Dirty + below.Writeback}}
	en.out.fail(ErrV1HeldUp)
	e.log.Warn("not emptied: pages below it wait for a disk that is slow or does not answer", "ancestor", en.path,
		"dirty", below.Dirty, "writeback", below.Writeback, "err", ErrV1HeldUp, message.ReclaimFailed.Attr())
	e.finish(en)
	return true
}

// forceEmpty gives a v1 ancestor one slice of force_empty, and looks at it
// again once the kernel has had the time to free what was emptied.
func (e *Engine) forceEmpty(ctx context.Context, en *entry, cfg Config, grant time.Duration) {
	now := time.Now()
	if en.confirmed {
		e.finish(en)
		return
	}
	if e.forceWaits(en, now) {
		return
	}
	before, _ := v1ReadBytes(e.tree.FS, en.path, v1UsageFile)
	res, err := e.emptier.forceEmpty(ctx, e.thread, e.tree.FS, en.path, min(cfg.Slice, grant))
	if errors.Is(err, ErrV1HeldUp) {
		en.due = now.Add(holdRetryMost)
		return
	}
	en.out.Turns++
	en.out.Batches++
	en.out.Verdict = MayReap
	switch {
	case gone(err):
		en.out.Verdict = Vanished
		e.finish(en)
		return
	case err != nil:
		e.log.Error("force_empty failed", "cgroup", en.path, "err", err,
			message.Field("ancestor", en.path), message.ReclaimFailed.Attr())
		en.out.fail(err)
		e.finish(en)
		return
	}
	after, _ := v1ReadBytes(e.tree.FS, en.path, v1UsageFile)
	en.out.Bytes += max(before-after, 0)
	if res == WriteInterrupted && after < before {
		en.due = now // more to do, as the budget allows
		return
	}
	en.confirmed, en.due = true, now.Add(lookLast)
}
