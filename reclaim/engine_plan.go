package reclaim

import "time"

// What runs next, how much CPU time it may take, and what it has taken: nothing
// here reads or writes a cgroup.

// quantum is the time whose share of CPU time one turn of a sweep may take, or
// rather its batches: 40 ms of the default 5 %. With what it takes beside them
// it stays below the share over paceWindow. Smaller turns are more of them, and
// each raises and lowers a shield and wakes a thread.
const quantum = 800 * time.Millisecond

// overheadPart: where an ancestor has many live children, measuring and
// shielding them costs more than a quantum, and a turn of one batch would be
// nearly all overhead. So a turn's batches may take this many times what the
// ancestor's last turn took for that, and the process beside the thread, as far
// as half of the burst allows; the first turn goes by what it has taken so far.
const overheadPart = 4

// turnShare is the CPU time the batches of a turn may take.
func turnShare(share float64, overhead, burst time.Duration) time.Duration {
	return max(min(time.Duration(share*float64(quantum)), burst), forOverhead(overhead, burst))
}

func forOverhead(overhead, burst time.Duration) time.Duration {
	return min(overheadPart*overhead, burst/2)
}

// plan picks the entry that is due and what its turn may take of the CPU, or
// says how long to wait. going: the last step did not wait.
func (e *Engine) plan(cfg Config, going bool, now time.Time) (en *entry, grant, wait time.Duration) {
	en, first := e.queue.next(now)
	if en == nil {
		if first.IsZero() {
			return nil, 0, idleWait
		}
		return nil, 0, first.Sub(now)
	}
	// A fresh teardown may use the burst; what a sweep found leaves half of
	// it to the next teardown.
	share := turnShare(cfg.Share, en.overhead, cfg.Burst)
	want, grant := share, cfg.Burst
	if !en.fresh {
		want, grant = want+cfg.Burst/2, share
	}
	wait = e.budget.Wait(want, now)
	if !en.fresh {
		wait = max(wait, e.pace.wait(cfg.Share, e.expect(en, share, going, now), now))
	}
	if wait > 0 {
		if !first.IsZero() { // a teardown that is due before that need not wait
			wait = min(wait, first.Sub(now))
		}
		return nil, 0, wait
	}
	if !en.fresh && en.unmeasured() {
		grant = min(grant, max(e.pace.room(cfg.Share, now)-e.beside, share/firstPart))
	}
	return en, min(grant, e.budget.Level(now)), 0 // what goes beyond is more than the minute's share
}

// worked takes in what an entry's work has taken: of the process's CPU time,
// with what Go's runtime does beside the thread, from before to after.
func (e *Engine) worked(en *entry, phase phase, s spending, before, after time.Duration) {
	used := after - before
	defer e.queue.update(en)
	e.queue.spend(en, used)
	beside := used - en.reclaiming
	if en.reclaiming > 0 {
		en.overhead, en.reclaiming = beside, 0
	}
	if !en.fresh {
		e.took[phase] = max(used, e.took[phase]-e.took[phase]/tookFades)
		if phase == phaseTurn {
			e.beside += (beside - e.beside) / tookFades
		}
		if s.began.Sub(e.last.end) < paceMemory {
			used = after - e.last.cpu // also being woken, and what the last work has others tell
		}
		e.pace.spend(used, s.began, s.end)
	}
	e.last = spending{cpu: after, end: s.end}
}

// tookFades: by this part what a sweep's work is expected to take becomes less
// each time that it took less. Turns differ, and the pace should hold for the
// longer ones.
const tookFades = 8

// firstPart: a turn of which nobody knows how much it will find goes on after
// other work as soon as there is room for this part of a turn's share, and takes
// what room there is. Most of a machine's ancestors have a few dying each: with
// room kept for a whole share, a sweep would take each of them a second.
const firstPart = 8

// unmeasured reports whether an entry's turn begins with a look at how much is
// there, and does not go on with what the last one left.
func (en *entry) unmeasured() bool { return en.phase == phaseTurn && en.rest == nil }

// expect is the CPU time that the next work of a sweep may take. A turn's share
// is what its writes stop at, so only a look, which has none, may take less, and
// a turn that is granted less.
//
// But it waits until there is room for a whole share, and then goes on for as
// long as there is: each wait ends with being woken, which costs as much as many
// a turn. A look that no turn follows need not.
func (e *Engine) expect(en *entry, share time.Duration, going bool, now time.Time) time.Duration {
	least := max(share, e.took[en.phase])
	switch {
	case en.phase == phaseSettle:
		least = e.took[en.phase]
	case en.unmeasured():
		least = e.beside + share/firstPart
	}
	if !going && (en.phase != phaseSettle || e.queue.turnDue(now)) {
		least = max(least, share)
	}
	return least
}
