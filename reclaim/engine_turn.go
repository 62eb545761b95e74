package reclaim

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// work gives an entry what its phase asks for. It runs on the thread.
func (e *Engine) work(ctx context.Context, en *entry, cfg Config, grant time.Duration) {
	if en.phase == phaseCensus {
		e.goOnCensus(ctx, en, grant)
		return
	}
	began := e.thread.CPU()
	defer func() {
		en.out.CPU += e.thread.CPU() - began
		e.account(en)
		e.sweepProgress()
	}()
	if en.out.began.IsZero() {
		en.out.began, en.out.Ancestor = time.Now(), en.path
	}
	e.identify(en)
	switch en.phase {
	case phaseHeld:
		e.finishHeld(ctx, en, cfg)
		return
	case phaseForce:
		e.forceEmpty(ctx, en, cfg, grant)
		return
	}
	verdict := e.decide(en.path, cfg)
	if verdict == MonitorOnly && len(en.torn) > 0 && !en.waited {
		en.waited, en.due = true, time.Now().Add(leftWait)
		return
	}
	direct, err := e.tree.DirectDying(en.path)
	if err != nil {
		e.lost(en, err, cfg)
		return
	}
	direct = en.less(direct, time.Now())
	e.tellLeft(en, direct)
	if verdict != MayReap {
		en.out.Verdict = verdict
		e.finish(en)
		return
	}
	freed := en.saw(direct)
	e.fewerPinned(en, direct)
	e.tellFreed(en)
	switch {
	case direct == 0:
		en.out.Verdict = MayReap
		en.out.Pins = nil
		e.finish(en)
	case en.phase == phaseSettle:
		e.settled(en, freed)
	default:
		e.turn(ctx, en, cfg, grant)
	}
}

// monitorOnly says why nothing is reclaimed, or "".
func (e *Engine) monitorOnly(cfg Config) string {
	switch {
	case !cfg.Reap:
		return "reap.enabled = false"
	case cfg.Monitor == MonitorAlways:
		return "kernel.monitor_only = \"always\""
	case cfg.Monitor == MonitorAuto && e.opts.Abilities.Reparents.OK():
		return "this kernel re-parents a dying memcg's pages: dying memcgs go by themselves"
	}
	return ""
}

// decide says whether the policy lets an ancestor be reclaimed at all.
func (e *Engine) decide(ancestor string, cfg Config) Verdict {
	switch {
	case e.monitorOnly(cfg) != "":
		return MonitorOnly
	case cfg.Ignore != nil && cfg.Ignore(ancestor):
		return Ignored
	}
	return MayReap
}

// turn gives an entry a turn and plans what follows.
func (e *Engine) turn(ctx context.Context, en *entry, cfg Config, grant time.Duration) {
	if e.evictFirst(en, cfg) {
		return
	}
	if en.deep || e.onlyInodes(en) && !en.fresh && e.pinnedBefore(en) {
		if en.evictLeft != nil {
			en.out.Verdict, en.out.Pins = MayReap, en.pins(DeadMemory{})
		}
		e.finish(en)
		return
	}
	if e.awaitReload(en, time.Now()) {
		return
	}
	t, err := e.reclaim(ctx, en, cfg, grant)
	en.awaits = time.Time{}
	en.rest = t.Rest
	e.refreshSoon(en.path)
	if err != nil {
		if ctx.Err() == nil {
			e.log.Error("reclaim failed", "ancestor", en.path, "err", err, message.ReclaimFailed.Attr())
		}
		en.out.fail(err)
		e.finish(en)
		return
	}
	e.log.Debug("turn", "ancestor", en.path, "end", t.End, "verdict", t.Verdict, "batches", t.Batches, "asked", t.Asked,
		"reclaiming", t.reclaiming, "overhead", t.Overhead,
		"reclaimable_before", t.Before.Reclaimable(), "reclaimable_after", t.After.Reclaimable(), "dirty", t.After.Dirty,
		"writeback", t.After.Writeback, "mapped", t.After.Mapped, "shmem", t.After.Shmem, "kernel", t.After.Kernel)
	en.reclaiming = t.reclaiming
	en.out.Batches += t.Batches
	en.out.Bytes += max(t.Before.Reclaimable()-t.After.Reclaimable(), 0)
	en.out.Verdict, en.out.Error, en.out.Pins = t.Verdict, "", nil
	if t.End != TurnSkipped {
		en.out.Turns++
		en.out.Pins = en.pins(t.After)
	}
	now := time.Now()
	if t.Baits > 0 {
		en.baited, en.baits = now, t.Baits
	} else if t.End != TurnMore { // the next turn begins with the count
		if direct, err := e.tree.DirectDying(en.path); err == nil {
			e.tellLeft(en, direct)
			en.saw(direct)
			e.tellFreed(en)
		}
	}
	switch t.End {
	case TurnSkipped:
		if t.Verdict == Vanished {
			e.lost(en, nil, cfg)
			return
		}
		if e.evictInstead(en, t.Verdict, cfg) {
			return
		}
		if en.evictLeft.dirty() && en.retry(now, true, cfg.RetryMax) {
			en.evicted, en.row = false, 0 // once more, when it is written back
			return
		}
		if l := en.evictLeft; l != nil && (t.Verdict == AtRoot || t.Verdict == NoController) {
			en.out.Verdict, en.out.Pins = MayReap, evictPins(l.After, l.Left)
		}
		e.finish(en)
	case TurnMore:
		en.due, en.tries = now, 0
	case TurnClean:
		if t.Batches == 0 && (en.confirmed || e.pinnedBefore(en)) {
			e.finish(en)
			return
		}
		if t.Batches > 0 {
			en.tries = 0
		}
		en.settle(now)
	case TurnStuck:
		if progress(t.Before.Reclaimable(), t.After.Reclaimable()) {
			en.tries = 0
		}
		if en.tries == drainAfter {
			drainStocks()
		}
		// A coarse memory.stat does not report dirty pages, a page walk does: without one some may be.
		dirty := t.After.Dirty+t.After.Writeback > 0 || t.After.Coarse && en.evictLeft == nil
		switch l := en.evictLeft; {
		case l == nil:
		case l.dirty() || dirty && !e.onlyInodes(en):
			dirty, en.evicted = true, false // once more, when it is written back
		case e.onlyInodes(en) && (t.Batches > 0 || t.never):
			en.deep = true
			en.settle(now)
			return
		default:
			dirty = false
		}
		if !en.retry(now, dirty, cfg.RetryMax) {
			e.finish(en)
		}
	}
}

// reclaim gives an entry what a turn has for it.
func (e *Engine) reclaim(ctx context.Context, en *entry, cfg Config, grant time.Duration) (t Turn, err error) {
	en.row = 0
	if !e.onlyInodes(en) {
		t, err = e.reap.turn(ctx, en.path, turnOptions{
			grant: grant, burst: cfg.Burst, batch: cfg.Batch, slice: min(cfg.Slice, grant), nearOK: cfg.NearLimit, rest: en.rest,
			wake: en.evictLeft.dirty(), anyway: !en.awaits.IsZero(),
		})
		if err != nil || !e.reap.inodesKeep() || en.tries > 0 || en.confirmed || t.End != TurnStuck && t.End != TurnClean {
			return t, err
		}
	}
	var above []string
	for p := path.Dir(en.path); p != "/"; p = path.Dir(p) {
		above = append(above, p)
	}
	for _, p := range slices.Backward(above) { // what has covered this one itself as well
		if !e.reap.shielded(p) {
			continue
		}
		if _, err := e.refresh(p); err != nil && !errors.Is(err, errNoBait) {
			if e.onlyInodes(en) {
				t.End, t.Verdict = TurnStuck, MayReap
			}
			return t, nil
		}
	}
	i, err := e.reap.inodes(ctx, en.path)
	if e.onlyInodes(en) || err != nil {
		return i, err
	}
	t.Batches, t.Asked, t.Baits, t.reclaiming, t.Overhead =
		t.Batches+i.Batches, t.Asked+i.Asked, t.Baits+i.Baits, t.reclaiming+i.reclaiming, t.Overhead+i.Overhead
	return t, nil
}

// onlyInodes reports whether an eviction has left no page that a squeeze could take, on
// a kernel on which inodes keep what is dying then.
func (e *Engine) onlyInodes(en *entry) bool {
	l := en.evictLeft
	return l != nil && l.Left[LeftInUse]+l.Left[LeftUnreachable] == 0 && e.reap.inodesKeep()
}

// pins are what memory.stat says, or an eviction that knew it better.
func (en *entry) pins(d DeadMemory) []Pin {
	pins := d.Pins()
	if l := en.evictLeft; l != nil && (d.Coarse || len(pins) == 0 || pins[0].Reason == PinnedUnknown) {
		return evictPins(l.After, l.Left)
	}
	return pins
}

// drainAfter is how many fruitless turns show that what stays may have no page
// at all (a coarse memory.stat does not tell).
const drainAfter = 2

// settled follows a look that still saw dying memcgs.
func (e *Engine) settled(en *entry, freed bool) {
	now := time.Now()
	if en.lookAgain(freed, now) {
		switch inodes := !en.deep && e.onlyInodes(en); {
		case en.look < lookPinned || inodes && freed:
		case inodes:
			en.phase, en.due = phaseTurn, now
		default:
			// Nothing reclaimable, and nothing freed for a while: these
			// are pinned. Known now, and not only when the entry ends,
			// they do not keep later teardowns from being told freed.
			e.notePinned(en, now)
			en.events = nil
		}
		return
	}
	drainStocks()
	e.nudge(now)
	// Time enough for the kernel to free what was emptied and to bring
	// memory.stat up to date (2 s): look once more for something to reclaim.
	en.phase, en.due, en.confirmed = phaseTurn, now.Add(lookSwept), true
}

// lost passes an entry whose ancestor is gone to the nearest live one.
func (e *Engine) lost(en *entry, err error, cfg Config) {
	if err != nil && !gone(err) {
		e.log.Error("cannot read a cgroup", "ancestor", en.path, "err", err)
		en.out.fail(err)
		e.finish(en)
		return
	}
	en.out.Verdict = Vanished
	if e.account(en); en.out.Freed > 0 || en.out.Bytes > 0 { // else what the totals have would be nobody's
		out := en.out
		out.Wall = time.Since(out.began)
		out.DyingAfter, out.Pins = 0, nil // the next ancestor's now
		e.onEnd(out)
	}
	ancestor := e.tree.NearestLive(path.Dir(en.path))
	e.queue.move(en, ancestor, time.Now(), cfg.Debounce)
	for _, job := range e.sweeps {
		job.moved(en.path, ancestor)
	}
	e.forgetPinned(en.path)
}
