package reclaim

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"
)

// Evicter frees dying memcgs without touching a cgroup: it finds the pages that
// they hold and drops exactly those. That takes capabilities that the daemon does
// not have, so another process does it (package pages).
type Evicter interface {
	// Evict serves one request. Its error is an *EvictOffError where this machine
	// does not allow it.
	Evict(ctx context.Context, r EvictRequest) (Evicted, error)
}

// EvictRequest says what to evict.
type EvictRequest struct {
	Under string // a live cgroup; "/" for all
	// Share is how much of one CPU it may take on average.
	Share float64
	// Ignore are globs of ancestors' paths whose dying memcgs are left alone.
	Ignore []string
	// Look has the answer wait for what the kernel frees, up to some seconds: on v1 the
	// kernel keeps no count that says it. Each look is a walk.
	Look bool
	// Write has it begin to write back what is dirty (v1). On v2 that is not enough:
	// an inode that is dirty keeps the memcg though its pages are clean.
	Write bool
}

// Evicted is what came of it. Sizes are in bytes.
type Evicted struct {
	Before int64 `json:"before"` // dying, by the first walk
	After  int64 `json:"after"`  // by the last one
	// Freed are those of the first walk that were gone by the last one. Without
	// Look that is too soon for most.
	Freed int64 `json:"freed"`
	Asked int64 `json:"asked"` // asked to go
	Gone  int64 `json:"gone"`  // of those
	// Left is what those of the last walk hold, by reason. With More nobody has looked.
	Left map[EvictLeft]int64 `json:"left,omitempty"`
	// Below has the same of each live ancestor, of EvictedMost at most, or of none where
	// there was no time to look at all.
	Below map[string]EvictedBelow `json:"below,omitempty"`
	// More: there was no time for all that is dying. The next request for the same
	// cgroup goes on from there.
	More bool          `json:"more,omitempty"`
	CPU  time.Duration `json:"-"` // of that process since its last answer
}

// EvictedBelow is what came of it right below one live ancestor.
type EvictedBelow struct {
	After int64               `json:"after"`
	Gone  int64               `json:"gone"`
	Left  map[EvictLeft]int64 `json:"left,omitempty"`
}

func (b *EvictedBelow) dirty() bool { return b != nil && b.Left[LeftDirty]+b.Left[LeftWriteback] > 0 }

// EvictedMost bounds the ancestors of an answer: more than have dying memcgs at
// once on any machine seen.
const EvictedMost = 1000

// EvictLeft is why memory of the dead stays. It is a code that stays the same
// between versions.
type EvictLeft string

const (
	LeftDirty       EvictLeft = "dirty"
	LeftWriteback   EvictLeft = "writeback"
	LeftMapped      EvictLeft = "mapped"
	LeftShmem       EvictLeft = "shmem" // tmpfs and huge pages too
	LeftAnon        EvictLeft = "anon"
	LeftSwap        EvictLeft = "swap"
	LeftUnevictable EvictLeft = "unevictable"
	LeftBlock       EvictLeft = "block-device"
	LeftKernel      EvictLeft = "kernel"
	// LeftUnreachable: of a file that cannot be opened, or must not be (network).
	LeftUnreachable EvictLeft = "unreachable"
	// LeftInUse: clean, and still there.
	LeftInUse EvictLeft = "in-use"
)

// pins are what stays as the engine names it everywhere, most lasting first.
func evictPins(after int64, l map[EvictLeft]int64) (pins []Pin) {
	if after == 0 {
		return nil
	}
	for _, p := range []Pin{
		{PinnedShmem, l[LeftShmem]}, {PinnedSwap, l[LeftSwap]}, {PinnedUnevictable, l[LeftUnevictable]}, {PinnedAnon, l[LeftAnon]},
		{PinnedDirty, plus(l[LeftDirty], l[LeftWriteback])}, {PinnedMapped, l[LeftMapped]}, {PinnedKernel, l[LeftKernel]},
	} {
		if p.Bytes > 0 {
			pins = append(pins, p)
		}
	}
	if len(pins) == 0 {
		pins = []Pin{{Reason: PinnedUnknown}}
	}
	return pins
}

// EvictOffError says why there is no eviction on this machine.
type EvictOffError struct {
	Reason string `json:"reason"`          // a code: a reason of package pagewalk, or "not-running"
	Why    string `json:"why"`             // for people, with what to do
	Again  bool   `json:"again,omitempty"` // another try may find otherwise
}

func (e *EvictOffError) Error() string { return e.Why }

const (
	// evictEvery is from the end of one walk to the next: a machine on which units
	// end all the time has one of them for what ended meanwhile.
	evictEvery = time.Second
	// evictLookAgain: how long there is to wait for the budget is computed again after
	// that time, as pressure may be over.
	evictLookAgain = 5 * time.Second
	// evictProgress is how often whoever waits for a sweep hears of an eviction.
	evictProgress = 2 * time.Second
	// evictTimeout ends one that does not answer. It evicts for two minutes at most,
	// looks for some seconds, and counts what is left for two minutes at most.
	evictTimeout = 5 * time.Minute
	// evictOffAgain is how long it is not asked again once it has said that it
	// cannot; a sysctl, or an installed unit, may change that.
	evictOffAgain = time.Hour
	// evictFailedAgain likewise, after any other failure.
	evictFailedAgain = time.Minute
	// evictWritten is when dirty pages may have been written back which an eviction
	// has begun to write, evictDirtyAgain when the others have, by themselves
	// (vm.dirty_expire_centisecs, 30 s, and a round of the flusher, 5 s);
	// evictDirtyTries is how often either is hoped for after a teardown (v1).
	evictWritten    = 2 * time.Second
	evictDirtyAgain = 40 * time.Second
	evictDirtyTries = 3
)

// evicting is what waits for the Evicter. Only Run touches it, but for ability.
type evicting struct {
	due     time.Time   // of the next walk; zero: none is wanted
	under   string      // what ended since the last walk is below it; "": nothing
	entries []string    // v2: ancestors that wait
	jobs    []*sweepJob // v1: sweeps that wait, each for a walk below its own cgroup
	busy    bool
	began   time.Time     // the last walk, or the one under way
	ended   time.Time     // the last walk
	took    time.Duration // its CPU time, which the next one is expected to take as well
	off     time.Time     // not asked before that
	tries   int           // for dirty pages
	nudged  time.Time     // see Engine.nudge
	ability Ability       // as the last answer has it; guarded by Engine.mu
}

// evictBatch is what one walk serves.
type evictBatch struct {
	under   string
	entries []string
	jobs    []*sweepJob
}

// evictPending stands among a v1 sweep's pending for the walk. It is no path.
const evictPending = "eviction"

// mayEvict reports whether what is out of reach of reclaim is evicted.
func (e *Engine) mayEvict(cfg Config, now time.Time) bool {
	return e.opts.Evicter != nil && cfg.Evict && e.monitorOnly(cfg) == "" && !now.Before(e.evict.off)
}

// evictBelow asks for a walk below a cgroup in which something has ended.
func (e *Engine) evictBelow(under string, now time.Time, wait time.Duration) {
	e.evict.under = common(e.evict.under, under)
	e.evictAt(now.Add(wait))
}

// evictAt has the next walk at that time, or sooner if that is planned.
func (e *Engine) evictAt(at time.Time) {
	v := &e.evict
	if floor := v.ended.Add(evictEvery); at.Before(floor) {
		at = floor
	}
	if v.due.IsZero() || at.Before(v.due) {
		v.due = at
	}
}

// evictTorn takes in a teardown on v1 that no hold has caught.
func (e *Engine) evictTorn(cgroup string, now time.Time) {
	if cfg := e.config(); !e.opts.Hierarchy.Mode.V2() && e.mayEvict(cfg, now) {
		e.evict.tries = 0
		e.evictBelow(path.Dir(cgroup), now, cfg.Debounce)
	}
}

// evictInstead has an ancestor wait for an eviction, where no shield can cover the
// living (v2). It reports whether it does.
func (e *Engine) evictInstead(en *entry, why Verdict, cfg Config) bool {
	return why.Evicts() && e.awaitEviction(en, cfg)
}

// evictFirst likewise, before a shield is raised where the kernel keeps stale
// protection: eviction touches no living cgroup.
func (e *Engine) evictFirst(en *entry, cfg Config) bool {
	return !e.opts.Abilities.FreshProtection.OK() && e.awaitEviction(en, cfg)
}

// evictRow is how many evictions an entry has in a row: under a stream of teardowns
// each asks for one, and what that leaves would never have its turn.
const evictRow = 8

func (e *Engine) awaitEviction(en *entry, cfg Config) bool {
	now := time.Now()
	switch {
	case !e.mayEvict(cfg, now):
		en.evictLeft = nil
		return false
	case en.evicted:
		return false
	case en.row >= evictRow:
		en.row, en.evicted, en.evictLeft = 0, true, nil
		return false
	}
	en.phase, en.due = phaseEvict, now.Add(evictTimeout+time.Minute) // should no answer come
	en.awaits = time.Time{}                                          // a reload after it is another one
	if !slices.Contains(e.evict.entries, en.path) {
		e.evict.entries = append(e.evict.entries, en.path)
	}
	en.row++
	e.evictBelow(en.path, now, 0)
	return true
}

// evictNow begins a walk that is due.
func (e *Engine) evictNow(ctx context.Context, now time.Time) {
	v, cfg := &e.evict, e.config()
	due := !v.due.IsZero() && !now.Before(v.due)
	if v.busy || due {
		e.lookAtPressure(cfg, now)
	}
	if v.busy || !due {
		return
	}
	if wait := e.budget.Wait(min(cfg.Burst/2, v.took), now); wait > 0 {
		v.due = now.Add(min(wait, evictLookAgain))
		return
	}
	b := evictBatch{under: v.under}
	if len(v.jobs) > 0 { // whose counts are those of its own walk
		b.under = v.jobs[0].req.Under
		for _, job := range v.jobs {
			if job.req.Under == b.under {
				b.jobs = append(b.jobs, job)
			}
		}
		v.jobs = slices.DeleteFunc(v.jobs, func(job *sweepJob) bool { return job.req.Under == b.under })
	}
	if Within(v.under, b.under) {
		b.entries, v.entries, v.under = v.entries, nil, ""
	}
	if v.due = (time.Time{}); v.under != "" || len(v.jobs) > 0 {
		v.due = now.Add(evictEvery)
	}
	if !e.mayEvict(cfg, now) {
		e.evicted(b, Evicted{}, e.whyNotEvict(), now)
		return
	}
	v.busy, v.began = true, now
	e.setBudget(cfg, now)
	share, _ := e.given(cfg) // the other half is the other process's
	v1 := !e.opts.Hierarchy.Mode.V2()
	r := EvictRequest{Under: e.tree.NearestLive(b.under), Share: share, Ignore: cfg.IgnoreGlobs, Look: v1, Write: v1}
	go func() { // not here: it may take minutes, or never answer
		ctx, cancel := context.WithTimeout(ctx, evictTimeout)
		defer cancel()
		got, err := e.opts.Evicter.Evict(ctx, r)
		e.post(func(now time.Time) {
			v.busy = false
			e.setBudget(e.config(), now)
			e.budget.Spend(lately(got.CPU, now.Sub(v.began)), now)
			e.mu.Lock()
			e.totals.CPU += got.CPU
			e.mu.Unlock()
			if err != nil && !e.tree.Exists(r.Under) { // it has ended meanwhile: once more from what is above it
				v.ended, v.took = now, got.CPU
				v.entries, v.jobs = append(v.entries, b.entries...), append(v.jobs, b.jobs...)
				e.evictBelow(path.Dir(r.Under), now, evictEvery)
				return
			}
			e.evicted(b, got, err, now)
		})
	}()
}

// lately is how much of another process's CPU time the budget has still to be given
// back. That process keeps to its share, so what it used before the last window was
// within it by itself: a walk of ten minutes leaves no debt for which teardowns wait.
func lately(cpu, wall time.Duration) time.Duration {
	if wall <= budgetWindow {
		return cpu
	}
	return time.Duration(float64(cpu) * float64(budgetWindow) / float64(wall))
}

// evicted takes in an answer.
func (e *Engine) evicted(b evictBatch, r Evicted, err error, now time.Time) {
	v := &e.evict
	v.ended, v.took = now, r.CPU
	if !v.due.IsZero() {
		due := v.due
		v.due = time.Time{}
		e.evictAt(due)
	}
	e.evictTrouble(err, now)
	if off := (*EvictOffError)(nil); b.under != "" && (r.More || err != nil && !errors.As(err, &off) && !errors.Is(err, ErrV1Sweep)) {
		// There is more, or it failed, perhaps as the cgroup has ended meanwhile.
		wait := evictEvery
		if err != nil {
			wait = evictFailedAgain + time.Second
		}
		e.evictBelow(b.under, now, wait)
	}
	e.log.Debug("evicted", "under", b.under, "dying_before", r.Before, "dying_after", r.After, "freed", r.Freed,
		"asked", r.Asked, "gone", r.Gone, "left", r.Left, "cpu", r.CPU, "err", err)
	if !e.opts.Hierarchy.Mode.V2() {
		e.evictedV1(b, r, err, now)
		return
	}
	settles := false
	for _, p := range b.entries {
		en := e.queue.entries[p]
		if en == nil || en.phase != phaseEvict || slices.Contains(v.entries, p) {
			continue // there is nothing to be told, or it waits for the next walk by now
		}
		below, told := r.Below[p]
		en.out.Bytes += below.Gone
		if err == nil && r.More && en.row < evictRow {
			en.row++
			v.entries = append(v.entries, p)
			continue
		}
		if err != nil {
			en.evicted, en.evictLeft = true, nil // it goes on as if there were none
			en.phase, en.due = phaseTurn, now
			e.queue.update(en)
			continue
		}
		en.evicted, en.evictLeft = true, nil
		if told && !r.More {
			en.evictLeft = &below
		}
		en.rest = nil // measured before
		en.out.Turns++
		en.out.Batches++
		en.out.CPU += r.CPU
		e.account(en)
		r.CPU = 0 // one walk for all: the first has what cannot be told apart
		switch {
		case below.dirty() && en.tries == 0: // a reclaim that meets it wakes the flusher, which nothing else does
			en.phase, en.due = phaseTurn, now
		case below.dirty() && en.retry(now, true, e.config().RetryMax):
			en.evicted, en.row = false, 0 // once more, when it is written back
		default:
			settles = true
			en.settle(now) // the kernel's own count says what went
		}
		e.queue.update(en)
	}
	if settles { // once for all of them
		drainStocks()
		e.nudge(now)
	}
}

// nudgeEvery is how often a memcg of our own dies at most.
const nudgeEvery = time.Second

// nudge has the kernel hand on the inodes of the dead, see bait.nudge.
func (e *Engine) nudge(now time.Time) {
	if now.Sub(e.evict.nudged) < nudgeEvery {
		return
	}
	e.evict.nudged = now
	if parent := e.reap.bait.nudge(); parent != "" {
		e.queue.refreshed(parent, now)
	}
}

func (e *Engine) evictedV1(b evictBatch, r Evicted, err error, now time.Time) {
	if err != nil {
		for _, job := range b.jobs {
			e.sweepNotEvicted(job, now)
		}
		return
	}
	if dirty := r.Left[LeftDirty] + r.Left[LeftWriteback]; dirty > 0 && e.evict.tries < evictDirtyTries {
		wait := evictDirtyAgain
		if e.evict.tries == 0 {
			wait = evictWritten
		}
		e.evict.tries++
		e.evictBelow(b.under, now, wait)
	}
	out := Outcome{Ancestor: b.under, Verdict: MayReap, DyingBefore: r.Before, DyingAfter: r.After, Freed: r.Freed, Bytes: r.Gone,
		CPU: r.CPU, Wall: now.Sub(e.evict.began), Turns: 1, Batches: 1}
	if !r.More { // or else nobody has looked what they hold
		out.Pins = evictPins(r.After, r.Left)
	}
	e.mu.Lock()
	e.totals.Freed += r.Freed
	e.totals.Bytes += r.Gone
	e.totals.Turns++
	e.totals.Batches++
	e.totals.LastReap = now
	e.mu.Unlock()
	if r.Before > 0 {
		e.onEnd(out)
	}
	for _, job := range b.jobs {
		res := &job.result
		if !job.evicted {
			res.DyingBefore = r.Before
		}
		job.evicted = true
		res.DyingAfter, res.Freed, res.Bytes, res.CPU = r.After, res.Freed+r.Freed, res.Bytes+r.Gone, res.CPU+r.CPU
		job.answers++
		if !slices.Contains(e.sweeps, job) {
			continue // nobody waits any more
		}
		if r.More && job.answers < evictRow { // the next answer has more
			e.evict.jobs = append(e.evict.jobs, job)
			continue
		}
		o := out
		o.DyingBefore, o.Freed, o.Bytes, o.CPU, o.Wall = res.DyingBefore, res.Freed, res.Bytes, res.CPU, now.Sub(job.began)
		res.Outcomes = append(res.Outcomes, o)
		delete(job.pending, evictPending)
		if r.After > 0 && !r.More && e.config().V1ForceEmpty {
			e.forceSwept(job, now)
		}
	}
	e.endSweeps()
}

// sweepNotEvicted ends a v1 sweep whose walk failed, or goes on with the last
// resort.
func (e *Engine) sweepNotEvicted(job *sweepJob, now time.Time) {
	if !slices.Contains(e.sweeps, job) { // nobody waits
		return
	}
	if e.config().V1ForceEmpty {
		delete(job.pending, evictPending)
		e.forceSwept(job, now)
		e.endSweeps()
		return
	}
	e.sweeps = slices.DeleteFunc(e.sweeps, func(o *sweepJob) bool { return o == job })
	job.end(e.result(job), e.whyNotEvict())
}

// evictTrouble remembers and logs why there is no eviction, once for as long as
// it stays the same.
func (e *Engine) evictTrouble(err error, now time.Time) {
	a := Ability{State: Yes}
	var off *EvictOffError
	switch {
	case errors.Is(err, ErrV1Sweep), errors.Is(err, context.Canceled):
		return
	case errors.As(err, &off) && off.Again:
		a = Ability{Unknown, off.Why}
		e.evict.off = now.Add(evictFailedAgain)
	case errors.As(err, &off):
		a = Ability{No, off.Why}
		e.evict.off = now.Add(evictOffAgain)
	case err != nil:
		a = Ability{Unknown, err.Error()}
		e.evict.off = now.Add(evictFailedAgain)
	}
	e.mu.Lock()
	was := e.evict.ability
	e.evict.ability = a
	e.mu.Unlock()
	switch {
	case a == was:
	case a.OK():
		e.log.Info("eviction works: what reclaim cannot reach is freed page by page, and the living keep theirs")
	default:
		e.log.Warn("eviction does not work: dying memcgs that reclaim cannot reach stay", "err", err)
	}
}

// whyNotEvict is why a v1 sweep can evict nothing: an error that is ErrV1Sweep.
func (e *Engine) whyNotEvict() error {
	e.mu.Lock()
	a := e.evict.ability
	e.mu.Unlock()
	if a.Why == "" {
		return ErrV1Sweep
	}
	return fmt.Errorf("%w (eviction, which costs them nothing, does not work here: %s)", ErrV1Sweep, a.Why)
}
