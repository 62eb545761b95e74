package reclaim

import (
	"slices"
	"time"
)

// queue is what is to be done: one entry an ancestor, however many teardowns
// were seen below it. It decides only; nothing in it reads or writes a cgroup.
type queue struct {
	entries map[string]*entry
}

// entry is one ancestor that waits for a turn, or for the kernel to free what
// a turn has emptied.
type entry struct {
	path  string
	due   time.Time
	phase phase
	// fresh: a teardown asked for it, so it goes before what a sweep found
	// and may use the budget's burst.
	fresh bool
	// events are the times of the teardowns that wait to be told freed.
	events []time.Time
	// torn are the cgroups torn down whose remains have not been counted yet.
	torn   []string
	waited bool // monitor only: the kernel has had its time to free them

	tries     int           // turns in a row that got stuck
	look      time.Duration // how long the next settling look waits
	confirmed bool          // a turn after settling found nothing to reclaim
	overhead  time.Duration // of its last turn, see turnShare
	rest      *rest         // what its last turn left unmeasured
	// reclaiming is the CPU time inside the writes of the turn under way.
	reclaiming time.Duration

	counted bool      // dying holds a count
	baited  time.Time // when its last turn took a bait away
	dying   int64     // direct dying at the last look
	lowest  int64     // the fewest of all looks
	out     Outcome
	told    Outcome // what the engine's totals have of out
}

type phase int

const (
	phaseTurn   phase = iota // wants a turn
	phaseSettle              // waits for the kernel to free
	phaseHeld                // v1: a held directory to be emptied and removed
	phaseForce               // v1: a live ancestor to be force_emptied
	phases                   // how many there are
)

// maxEvents bounds the teardown times an entry remembers. Beyond it latencies
// are of the first ones only; the reaping itself needs none of them.
const maxEvents = 4096

func newQueue() *queue { return &queue{entries: map[string]*entry{}} }

// teardown adds a teardown seen below ancestor. It is due debounce after the
// first one, not the last: a stream of logouts must not put it off for ever.
func (q *queue) teardown(ancestor string, at, now time.Time, debounce time.Duration) *entry {
	e := q.entries[ancestor]
	if e == nil {
		e = &entry{path: ancestor, due: now.Add(debounce)}
		q.entries[ancestor] = e
	}
	if len(e.events) < maxEvents {
		e.events = append(e.events, at)
	}
	// What is new has its own backoff: under a stream of teardowns an old
	// one's dirty pages would soon use up all the tries there are.
	e.fresh, e.confirmed, e.tries = true, false, 0
	// One that settles, or waits for writeback, has something new to do.
	if due := now.Add(debounce); e.phase == phaseSettle || e.due.After(due) {
		if e.due.After(due) || e.phase == phaseSettle {
			e.due = due
		}
		e.phase = phaseTurn
	}
	return e
}

// sweep adds an ancestor that a census found. One that is there already keeps
// its time.
func (q *queue) sweep(ancestor string, now time.Time) *entry {
	e := q.entries[ancestor]
	if e == nil {
		e = &entry{path: ancestor, due: now}
		q.entries[ancestor] = e
	}
	return e
}

// finishHeld adds a held directory whose unit has ended.
func (q *queue) finishHeld(cgroup string, at, now time.Time, debounce time.Duration) {
	if q.entries[cgroup] != nil {
		return
	}
	q.entries[cgroup] = &entry{
		path: cgroup, phase: phaseHeld, fresh: true,
		due: now.Add(debounce), events: []time.Time{at},
	}
}

// forceEmpty adds a v1 ancestor that a sweep may empty.
func (q *queue) forceEmpty(cgroup string, now time.Time) {
	if q.entries[cgroup] == nil {
		q.entries[cgroup] = &entry{path: cgroup, phase: phaseForce, due: now}
	}
}

// next is the entry to take now: of those that are due, a fresh one before one
// of a sweep, a look at what a sweep's turn did before the next turn, or else
// nothing would be seen to go before all ancestors have had theirs, then the one
// that waits longest. The time is that of the first one that will be due and need
// not wait for it: a fresh one, or where none is due, any (zero: there is none).
func (q *queue) next(now time.Time) (*entry, time.Time) {
	var best *entry
	var first, firstFresh time.Time
	sooner := func(due, than time.Time) bool { return than.IsZero() || due.Before(than) }
	for _, e := range q.entries {
		if e.due.After(now) {
			if sooner(e.due, first) {
				first = e.due
			}
			if e.fresh && sooner(e.due, firstFresh) {
				firstFresh = e.due
			}
			continue
		}
		if best == nil || e.before(best) {
			best = e
		}
	}
	if best != nil {
		return best, firstFresh
	}
	return nil, first
}

// turnDue reports whether a turn of a sweep is due.
func (q *queue) turnDue(now time.Time) bool {
	for _, e := range q.entries {
		if !e.fresh && e.phase == phaseTurn && !e.due.After(now) {
			return true
		}
	}
	return false
}

func (e *entry) before(o *entry) bool {
	switch {
	case e.fresh != o.fresh:
		return e.fresh
	case !e.fresh && (e.phase == phaseSettle) != (o.phase == phaseSettle):
		return e.phase == phaseSettle
	case !e.due.Equal(o.due):
		return e.due.Before(o.due)
	}
	return e.path < o.path
}

func (q *queue) remove(e *entry) {
	if q.entries[e.path] == e {
		delete(q.entries, e.path)
	}
}

// move gives an entry whose ancestor has vanished to the next live one.
func (q *queue) move(e *entry, ancestor string, now time.Time, debounce time.Duration) {
	q.remove(e)
	if len(e.events) == 0 {
		q.sweep(ancestor, now)
		return
	}
	for _, at := range e.events {
		q.teardown(ancestor, at, now, debounce)
	}
	q.entries[ancestor].tore(e.torn...)
}

// tore notes cgroups that were torn down.
func (e *entry) tore(cgroups ...string) {
	e.torn = append(e.torn, cgroups[:min(len(cgroups), maxEvents-len(e.torn))]...)
}

// Settling: the kernel frees an emptied memcg after RCU grace periods and on a
// kernel worker; at once for a few, seconds for 100,000. A look costs one file
// a live child, so looks become rarer while nothing changes.
//
// From lookPinned on (some 350 ms after the turn) what stays is taken for
// pinned, until a later look finds it gone after all.
//
// After a sweep's turn, for which nobody waits as for a teardown, the first
// look comes later, when most are gone: what it finds unchanged is pinned.
const (
	lookFirst  = 50 * time.Millisecond
	lookSwept  = 500 * time.Millisecond
	lookPinned = 400 * time.Millisecond
	lookLast   = 2 * time.Second
)

// saw takes in a look's count and reports whether it is the lowest so far: churn
// that goes up and down must not keep the looks going.
func (e *entry) saw(direct int64) (lower bool) {
	switch {
	case !e.counted:
		e.out.DyingBefore, e.lowest = direct, direct
	case direct < e.dying:
		e.out.Freed += e.dying - direct
	}
	lower = direct < e.lowest
	e.counted, e.dying, e.out.DyingAfter = true, direct, direct
	e.lowest = min(e.lowest, direct)
	return lower
}

// baitGone is how long the kernel may take to free a bait's memcg, which has no
// page any more: RCU grace periods and a kernel worker, on a busy machine.
const baitGone = 2 * time.Second

// less is a count of direct dying without a bait that is about to go.
func (e *entry) less(direct int64, now time.Time) int64 {
	if e.counted && direct > e.dying && now.Sub(e.baited) < baitGone {
		return direct - 1
	}
	return direct
}

// settle starts the looks that follow a turn.
func (e *entry) settle(now time.Time) {
	e.phase, e.look, e.lowest = phaseSettle, lookSwept, e.dying
	if e.fresh {
		e.look = lookFirst
	}
	e.due = now.Add(e.look)
}

// lookAgain plans the next look, or reports that there have been enough.
func (e *entry) lookAgain(freed bool, now time.Time) bool {
	if !freed {
		e.look *= 2
	}
	if e.look > lookLast {
		return false
	}
	e.due = now.Add(e.look)
	return true
}

// Backoff of a turn that got stuck: from retryFirst it doubles up to the
// policy's longest. Dirty pages go as soon as they are written back, within
// some 35 s where nothing hastens it (vm.dirty_expire_centisecs and a round of
// the flusher, which looks every 5 s), so for a minute they are tried at that
// pace.
const (
	retryFirst      = 500 * time.Millisecond
	retryDirtyMost  = 5 * time.Second
	retryDirtyTries = 15
)

// retry plans the next try after a stuck turn, or reports that the longest
// wait has been reached: then it is left to the sweep.
func (e *entry) retry(now time.Time, dirty bool, longest time.Duration) bool {
	wait := retryFirst << min(e.tries, 20)
	if dirty && e.tries < retryDirtyTries {
		wait = min(wait, retryDirtyMost)
	}
	e.tries++
	if wait > longest {
		return false
	}
	e.phase, e.due = phaseTurn, now.Add(wait)
	return true
}

// resolve takes the events whose memcgs are gone, oldest first. Of the direct
// dying, baseline were there before and are pinned; each of the others may be
// one of the events', so that many events are still waiting.
func (e *entry) resolve(baseline int64) (freed []time.Time) {
	if !e.counted {
		return nil
	}
	waiting := max(e.dying-baseline, 0)
	n := max(len(e.events)-int(waiting), 0)
	freed = e.events[:n]
	e.events = slices.Clone(e.events[n:])
	return freed
}
