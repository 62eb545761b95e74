package reclaim

import (
	"container/heap"
	"maps"
	"slices"
	"time"
)

// queue is what is to be done: one entry an ancestor, however many teardowns
// were seen below it. It decides only; nothing in it reads or writes a cgroup.
//
// Each entry is in one list: of those that are not due yet, or of those that are.
// Whoever changes an entry's due, phase or fresh calls update.
type queue struct {
	entries map[string]*entry
	waiting [2]list // not due when last looked at; the fresh ones apart
	fresh   list    // due, of teardowns
	first   list    // due, of a sweep, before its turns: looks at what they did
	turns   shares  // due, of a sweep: the owners that have some
	owners  map[owner]*ownerTurns
	// served is the CPU time of the owner that was served last: one that comes
	// anew begins there.
	served time.Duration
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

	evicted   bool          // it has been tried since the last teardown
	evictLeft *EvictedBelow // what that left; nil: not known
	row       int           // evictions since its last turn
	deep      bool          // and a turn for what inodes keep

	owner  owner   // of what a sweep found
	census *census // of phaseCensus
	id     uint64  // of the ancestor when last worked on, see FS.ID

	in *list // that it is in, and where
	at int

	awaits time.Time // since when its turn has waited for systemd to end a reload

	counted bool      // dying holds a count
	baited  time.Time // when its last turn took a bait away
	baits   int       // how many that turn had laid
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
	phaseCensus              // a census to be taken, a slice at a time
	phaseEvict               // v2: waits for an eviction
	phases                   // how many there are
)

// maxEvents bounds the teardown times an entry remembers. Beyond it latencies
// are of the first ones only; the reaping itself needs none of them.
const maxEvents = 4096

func newQueue() *queue { return &queue{entries: map[string]*entry{}, owners: map[owner]*ownerTurns{}} }

// add puts a new entry in.
func (q *queue) add(e *entry) *entry {
	q.entries[e.path] = e
	q.update(e)
	return e
}

// refreshed notes that a bait of a refresh may be among an ancestor's dying for a
// moment.
func (q *queue) refreshed(ancestor string, at time.Time) {
	e := q.entries[ancestor]
	if e == nil {
		return // it is gone when a new entry's debounce is over
	}
	if at.Sub(e.baited) >= baitGone {
		e.baits = 0
	}
	e.baited, e.baits = at, e.baits+1
}

// teardown adds a teardown seen below ancestor. It is due debounce after the
// first one, not the last: a stream of logouts must not put it off for ever.
func (q *queue) teardown(ancestor string, at, now time.Time, debounce time.Duration) *entry {
	e := q.entries[ancestor]
	if e == nil {
		e = q.add(&entry{path: ancestor, due: now.Add(debounce)})
	}
	if len(e.events) < maxEvents {
		e.events = append(e.events, at)
	}
	// What is new has its own backoff: under a stream of teardowns an old
	// one's dirty pages would soon use up all the tries there are.
	e.fresh, e.confirmed, e.tries = true, false, 0
	e.evicted, e.evictLeft, e.deep = false, nil, false
	// One that settles, or waits for writeback, has something new to do.
	if due := now.Add(debounce); e.phase == phaseSettle || e.due.After(due) {
		if e.due.After(due) || e.phase == phaseSettle {
			e.due = due
		}
		e.phase = phaseTurn
	}
	q.update(e)
	return e
}

// sweep adds an ancestor that a census found. One that is there already keeps
// its time.
func (q *queue) sweep(ancestor string, now time.Time) *entry {
	e := q.entries[ancestor]
	if e == nil {
		e = q.add(&entry{path: ancestor, due: now})
	}
	return e
}

// finishHeld adds a held directory whose unit has ended.
func (q *queue) finishHeld(cgroup string, at, now time.Time, debounce time.Duration) {
	if q.entries[cgroup] != nil {
		return
	}
	q.add(&entry{
		path: cgroup, phase: phaseHeld, fresh: true,
		due: now.Add(debounce), events: []time.Time{at},
	})
}

// forceEmpty adds a v1 ancestor that a sweep may empty.
func (q *queue) forceEmpty(cgroup string, now time.Time) {
	if q.entries[cgroup] == nil {
		q.add(&entry{path: cgroup, phase: phaseForce, due: now})
	}
}

// next is the entry to take now: of those that are due, a fresh one before one
// of a sweep, a look at what a sweep's turn did before the next turn, or else
// nothing would be seen to go before all ancestors have had theirs, then one of
// the owner that sweeps have served least (censuses have one of their own), its one
// that waits longest. The time
// is that of the first one that will be due and need not wait for it: a fresh
// one, or where none is due, any (zero: there is none).
func (q *queue) next(now time.Time) (*entry, time.Time) {
	q.arrive(now)
	firstFresh := q.waiting[ofFresh].due()
	switch {
	case len(q.fresh.all) > 0:
		return q.fresh.all[0], firstFresh
	case len(q.first.all) > 0:
		return q.first.all[0], firstFresh
	case len(q.turns) > 0:
		return q.turns[0].all[0], firstFresh
	}
	first := q.waiting[ofSweeps].due()
	if first.IsZero() || !firstFresh.IsZero() && firstFresh.Before(first) {
		first = firstFresh
	}
	return nil, first
}

// turnDue reports whether a turn of a sweep is due.
func (q *queue) turnDue(now time.Time) bool {
	q.arrive(now)
	return len(q.turns) > 0
}

// Where queue.waiting has what.
const (
	ofSweeps = iota
	ofFresh
)

// arrive moves what has become due.
func (q *queue) arrive(now time.Time) {
	for i := range q.waiting {
		for w := &q.waiting[i]; len(w.all) > 0 && !w.all[0].due.After(now); {
			e := w.all[0]
			q.unlist(e)
			switch {
			case e.fresh:
				q.fresh.put(e)
			case e.phase == phaseSettle:
				q.first.put(e)
			default:
				q.putTurn(e)
			}
		}
	}
}

// update takes in that an entry's due, phase or fresh has changed.
func (q *queue) update(e *entry) {
	if q.entries[e.path] != e {
		return
	}
	q.unlist(e)
	if e.fresh {
		q.waiting[ofFresh].put(e)
	} else {
		q.waiting[ofSweeps].put(e)
	}
}

func (q *queue) unlist(e *entry) {
	if e.in == nil {
		return
	}
	of := e.in.of
	e.in.take(e)
	if of == nil {
		return
	}
	if len(of.all) == 0 {
		heap.Remove(&q.turns, of.at)
	} else {
		heap.Fix(&q.turns, of.at)
	}
}

// putTurn lists a sweep's turn with those of its owner.
func (q *queue) putTurn(e *entry) {
	o := q.owners[e.owner]
	if o == nil {
		o = &ownerTurns{}
		o.of = o
		q.owners[e.owner] = o
	}
	if o.put(e); len(o.all) > 1 {
		heap.Fix(&q.turns, o.at)
		return
	}
	o.used = max(o.used, q.served)
	heap.Push(&q.turns, o)
}

// spend notes the CPU time of a sweep's work with its owner.
func (q *queue) spend(e *entry, cpu time.Duration) {
	o := q.owners[e.owner]
	if o == nil || e.fresh {
		return
	}
	q.served = max(q.served, o.used)
	if o.used += cpu; len(o.all) > 0 {
		heap.Fix(&q.turns, o.at)
	}
}

// forgetOwners drops those that have nothing to do and no CPU time in advance.
func (q *queue) forgetOwners() {
	maps.DeleteFunc(q.owners, func(_ owner, o *ownerTurns) bool { return len(o.all) == 0 && o.used <= q.served })
}

// list is a heap of entries, the one that waits longest first.
type list struct {
	all []*entry
	of  *ownerTurns // whose turns they are; nil elsewhere
}

// due is when the first of them is, or zero.
func (l *list) due() time.Time {
	if len(l.all) == 0 {
		return time.Time{}
	}
	return l.all[0].due
}

func (l *list) put(e *entry)  { heap.Push(l, e) }
func (l *list) take(e *entry) { heap.Remove(l, e.at) }

func (l *list) Len() int           { return len(l.all) }
func (l *list) Less(i, j int) bool { return l.all[i].before(l.all[j]) }

func (l *list) Swap(i, j int) {
	l.all[i], l.all[j] = l.all[j], l.all[i]
	l.all[i].at, l.all[j].at = i, j
}

func (l *list) Push(x any) {
	e := x.(*entry)
	e.in, e.at = l, len(l.all)
	l.all = append(l.all, e)
}

func (l *list) Pop() any {
	n := len(l.all) - 1
	e := l.all[n]
	l.all[n] = nil
	l.all = l.all[:n]
	e.in = nil
	return e
}

func (e *entry) before(o *entry) bool {
	if !e.due.Equal(o.due) {
		return e.due.Before(o.due)
	}
	return e.path < o.path
}

// ownerTurns are the due turns of one owner's ancestors.
type ownerTurns struct {
	list
	used time.Duration // CPU time that sweeps have used for it
	at   int           // in shares
}

// shares is a heap of owners, the one that has used least first.
type shares []*ownerTurns

func (s shares) Len() int { return len(s) }

func (s shares) Less(i, j int) bool {
	if s[i].used != s[j].used {
		return s[i].used < s[j].used
	}
	return s[i].all[0].before(s[j].all[0])
}

func (s shares) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].at, s[j].at = i, j
}

func (s *shares) Push(x any) {
	o := x.(*ownerTurns)
	o.at = len(*s)
	*s = append(*s, o)
}

func (s *shares) Pop() any {
	n := len(*s) - 1
	o := (*s)[n]
	(*s)[n] = nil
	*s = (*s)[:n]
	return o
}

func (q *queue) remove(e *entry) {
	if q.entries[e.path] == e {
		delete(q.entries, e.path)
		q.unlist(e)
	}
}

// move gives an entry whose ancestor has vanished to the next live one.
func (q *queue) move(e *entry, ancestor string, now time.Time, debounce time.Duration) {
	q.remove(e)
	if len(e.events) == 0 {
		if q.entries[ancestor] == nil {
			q.sweep(ancestor, now).owner = e.owner
		}
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

// less is a count of direct dying without baits that are about to go.
func (e *entry) less(direct int64, now time.Time) int64 {
	if !e.counted || now.Sub(e.baited) >= baitGone {
		return direct
	}
	return direct - min(max(direct-e.dying, 0), int64(e.baits))
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
