package reclaim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"time"
)

// Config is what a policy decides. The zero value is not useful: see
// DefaultConfig.
type Config struct {
	Reap      bool          // off: count, never reclaim
	Debounce  time.Duration // from a teardown to its reclaim
	Batch     int64         // bytes a write asks for
	Slice     time.Duration // longest single write
	RetryMax  time.Duration // longest wait before dirty or mapped pages are tried again
	NearLimit bool          // reclaim near a memory limit too, behind memory.low
	Ignore    func(cgroup string) bool
	Monitor   Monitor

	Share    float64       // of one CPU, over any minute
	Burst    time.Duration // CPU time
	Idle     bool          // SCHED_IDLE
	Pressure PressureLimits

	SweepEvery     time.Duration // 0: never
	SweepThreshold int64         // dying memcgs that start a sweep; 0: never
	V1ForceEmpty   bool          // let a sweep force_empty live ancestors on v1
	DropCaches     int64         // dying memcgs above which a fruitless sweep drops caches; 0: never
}

// Monitor says when to count only.
type Monitor int

const (
	MonitorAuto   Monitor = iota // where the kernel re-parents by itself
	MonitorAlways                // count only
	MonitorNever                 // reclaim even where the kernel re-parents
)

// DefaultConfig is the built-in policy.
func DefaultConfig() Config {
	return Config{
		Reap:           true,
		Debounce:       250 * time.Millisecond,
		Batch:          1 << 20,
		Slice:          50 * time.Millisecond,
		RetryMax:       10 * time.Minute,
		Ignore:         func(string) bool { return false },
		Share:          0.05,
		Burst:          250 * time.Millisecond,
		Pressure:       PressureLimits{Memory: 20, IO: 60},
		SweepEvery:     5 * time.Minute,
		SweepThreshold: 1000,
	}
}

// Outcome is how the reaping of one ancestor ended.
type Outcome struct {
	Ancestor    string        `json:"ancestor"`
	Verdict     Verdict       `json:"verdict"`
	DyingBefore int64         `json:"dying_before"`
	DyingAfter  int64         `json:"dying_after"`
	Freed       int64         `json:"freed"`
	Bytes       int64         `json:"bytes"` // of page cache
	Pins        []Pin         `json:"pins,omitempty"`
	Turns       int           `json:"turns"`
	Batches     int           `json:"batches"`
	CPU         time.Duration `json:"cpu_ns"`
	Wall        time.Duration `json:"wall_ns"`
	// Latency is, for every teardown that led here and was freed, how long
	// after it its memcg was gone.
	Latency []time.Duration `json:"-"`

	began time.Time
}

// EngineOptions are what an engine is made of.
type EngineOptions struct {
	Hierarchy Hierarchy
	FS        *FS
	Abilities Abilities
	Config    Config
	Journal   string // path of the shield journal
	Hold      *Hold  // v1 and hybrid; nil holds nothing
	Pressure  Pressure
	Logger    *slog.Logger
	// OnOutcome is called from the engine's own goroutine; it must not block.
	OnOutcome func(Outcome)
}

// Engine reaps: it owns the queue, the budget and the reaping thread.
type Engine struct {
	opts   EngineOptions
	tree   *Tree
	log    *slog.Logger
	onEnd  func(Outcome)
	budget *Budget

	// Only the goroutine of Run touches these.
	queue     *queue
	thread    *Thread
	reap      *reaper
	sweeps    []*sweepJob
	gate      pressureGate
	nextSweep time.Time // zero: never
	sweptAt   int64     // dying memcgs the last sweep left
	dropped   time.Time // when the last resort was last used
	holdFull  bool      // said once

	mu      sync.Mutex
	inbox   []func(now time.Time)
	wake    chan struct{}
	stopped chan struct{} // closed when Run returns
	cfg     Config
	totals  Totals
	pinned  map[string]Pinned
}

// Totals are what an engine has done since it began.
type Totals struct {
	Freed    int64         `json:"freed"`     // dying memcgs seen to go
	Bytes    int64         `json:"bytes"`     // page cache given back
	Turns    int64         `json:"turns"`     //
	Batches  int64         `json:"batches"`   // writes that reclaim
	CPU      time.Duration `json:"cpu_ns"`    // of the reaping thread
	Events   int64         `json:"teardowns"` // teardowns taken in
	Sweeps   int64         `json:"sweeps"`
	Latency  Latency       `json:"teardown_to_freed"`
	LastReap time.Time     `json:"last_reap"`
}

// Pinned is what stays below an ancestor although it was reclaimed.
type Pinned struct {
	Ancestor string    `json:"ancestor"`
	Dying    int64     `json:"dying"`
	Pins     []Pin     `json:"pins"`
	Since    time.Time `json:"since"`
}

// NewEngine makes an engine. Nothing happens before Run.
func NewEngine(o EngineOptions) *Engine {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnOutcome == nil {
		o.OnOutcome = func(Outcome) {}
	}
	return &Engine{
		opts: o,
		tree: &Tree{
			FS:            o.FS,
			Subsys:        o.Abilities.DyingMemory.OK(),
			RecursiveProt: o.Hierarchy.RecursiveProt,
			Coarse:        o.Abilities.Coarse(),
		},
		log:     o.Logger,
		onEnd:   o.OnOutcome,
		budget:  NewBudget(o.Config.Share, o.Config.Burst, time.Now()),
		queue:   newQueue(),
		gate:    pressureGate{pressure: o.Pressure, log: o.Logger},
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
		cfg:     o.Config,
		pinned:  map[string]Pinned{},
	}
}

// post runs fn on the engine's goroutine. It never blocks, so neither does
// whoever listens to the bus.
func (e *Engine) post(fn func(now time.Time)) {
	e.mu.Lock()
	e.inbox = append(e.inbox, fn)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *Engine) config() Config {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cfg
}

// SetConfig puts a new policy in force.
func (e *Engine) SetConfig(c Config) {
	e.mu.Lock()
	e.cfg = c
	e.mu.Unlock()
	e.post(func(now time.Time) {
		e.budget.Set(c.Share, c.Burst, now)
		e.applyScheduler()
		if next := e.planSweep(now); next.IsZero() || e.nextSweep.IsZero() || e.nextSweep.After(next) {
			e.nextSweep = next
		}
	})
}

// Teardown tells that a unit's cgroup is gone or about to go. at is when that
// was seen.
func (e *Engine) Teardown(cgroup string, at time.Time) {
	e.post(func(now time.Time) {
		e.mu.Lock()
		e.totals.Events++
		e.mu.Unlock()
		if !e.opts.Hierarchy.Mode.V2() {
			e.holdLeave(cgroup, at, now) // what was not held is out of reach there
			return
		}
		// Where it still stands, it is about to go: its parent is next.
		e.queue.teardown(e.tree.NearestLive(path.Dir(cgroup)), at, now, e.config().Debounce)
	})
}

// Run reaps until ctx ends. Every shield is down when it returns.
func (e *Engine) Run(ctx context.Context) error {
	defer func() {
		e.stopSweeps()
		close(e.stopped)
	}()
	if err := e.start(ctx); err != nil {
		return err
	}
	defer func() {
		if err := errors.Join(e.reap.journal.settle(e.opts.FS), e.reap.journal.Close()); err != nil {
			e.log.Error("the next start, or scopereapd --restore, has something to put back", "err", err)
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	nextCount := time.Now().Add(countEvery)
	e.nextSweep = e.firstSweep(time.Now())
	for {
		now := time.Now()
		for _, fn := range e.takeInbox() {
			fn(now)
		}
		if !e.nextSweep.IsZero() && !now.Before(e.nextSweep) {
			e.timedSweep(ctx, now)
			e.nextSweep = e.planSweep(now)
		}
		if !now.Before(nextCount) {
			e.countNow(ctx, now)
			nextCount = now.Add(countEvery)
		}
		wait := e.step(ctx, now)
		for _, at := range []time.Time{e.nextSweep, nextCount} {
			if !at.IsZero() {
				wait = min(wait, time.Until(at))
			}
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-timer.C:
		}
	}
}

// start starts the thread and opens the journal. What an earlier run left in
// the journal must have been restored before.
func (e *Engine) start(ctx context.Context) error {
	journal, err := OpenJournal(e.opts.Journal)
	if err != nil {
		return err
	}
	thread, err := StartThread(ctx)
	if err != nil {
		e.log.Warn("reaping runs at normal priority", "err", err)
	}
	e.thread = thread
	e.reap = newReaper(e.tree, thread, journal, e.opts.Abilities, e.log)
	e.applyScheduler()
	e.recoverHeld(time.Now())
	return nil
}

func (e *Engine) applyScheduler() {
	if err := e.thread.SetIdle(e.config().Idle); err != nil {
		e.log.Warn("scheduler unchanged", "err", err)
	}
}

func (e *Engine) takeInbox() []func(time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	in := e.inbox
	e.inbox = nil
	return in
}

// idleWait is how long the engine sleeps with nothing planned.
const idleWait = time.Hour

// quantum is the CPU time one turn of a sweep may take. It keeps the share
// over any one second near the share over a minute.
const quantum = 20 * time.Millisecond

// step takes one entry that is due, if the budget and the machine's pressure
// let it, and returns how long to wait for the next.
func (e *Engine) step(ctx context.Context, now time.Time) time.Duration {
	en, first := e.queue.next(now)
	if en == nil {
		if first.IsZero() {
			return idleWait
		}
		return first.Sub(now)
	}
	cfg := e.config()
	// A fresh teardown may use the burst; what a sweep found leaves half of
	// it to the next teardown.
	want, grant := min(quantum, cfg.Burst), cfg.Burst
	if !en.fresh {
		want, grant = want+cfg.Burst/2, quantum
	}
	if wait := e.budget.Wait(want, now); wait > 0 {
		return wait
	}
	grant = min(grant, e.budget.Level(now)) // what goes beyond is more than the minute's share
	if wait := e.gate.closed(cfg.Pressure, now); wait > 0 {
		return wait
	}
	if !e.onThread(ctx, func() { e.work(ctx, en, cfg, grant) }) {
		return idleWait
	}
	return betweenAncestors
}

// betweenAncestors is the pause after each piece of work, in which others get
// the CPU and the locks.
const betweenAncestors = time.Millisecond

// onThread runs fn on the reaping thread and takes its CPU time from the
// budget.
func (e *Engine) onThread(ctx context.Context, fn func()) bool {
	var used time.Duration
	ok := e.thread.Do(ctx, func() {
		began := e.thread.CPU()
		fn()
		used = e.thread.CPU() - began
	})
	e.budget.Spend(used, time.Now())
	e.mu.Lock()
	e.totals.CPU += used
	e.mu.Unlock()
	return ok
}

// work gives an entry what its phase asks for. It runs on the thread.
func (e *Engine) work(ctx context.Context, en *entry, cfg Config, grant time.Duration) {
	began := e.thread.CPU()
	defer func() {
		en.out.CPU += e.thread.CPU() - began
		e.account(en)
		e.sweepProgress(en)
	}()
	if en.out.began.IsZero() {
		en.out.began, en.out.Ancestor = time.Now(), en.path
	}
	switch en.phase {
	case phaseHeld:
		e.finishHeld(ctx, en, cfg)
		return
	case phaseForce:
		e.forceEmpty(en, cfg)
		return
	}
	if verdict := e.decide(en.path, cfg); verdict != MayReap {
		en.out.Verdict = verdict
		e.finish(en)
		return
	}
	direct, err := e.tree.DirectDying(en.path)
	if err != nil {
		e.lost(en, err, cfg)
		return
	}
	freed := en.saw(direct)
	e.fewerPinned(en.path, direct)
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
	t, err := e.reap.turn(ctx, en.path, turnOptions{grant: grant, batch: cfg.Batch, slice: cfg.Slice, nearOK: cfg.NearLimit})
	if err != nil {
		if ctx.Err() == nil {
			e.log.Error("reclaim failed", "ancestor", en.path, "err", err)
		}
		en.out.Verdict = Verdict(fmt.Sprint("failed: ", err))
		e.finish(en)
		return
	}
	e.log.Debug("turn", "ancestor", en.path, "end", t.End, "verdict", t.Verdict, "batches", t.Batches, "asked", t.Asked,
		"reclaimable_before", t.Before.Reclaimable(), "reclaimable_after", t.After.Reclaimable(), "dirty", t.After.Dirty,
		"writeback", t.After.Writeback, "mapped", t.After.Mapped, "shmem", t.After.Shmem, "kernel", t.After.Kernel)
	en.out.Batches += t.Batches
	en.out.Bytes += max(t.Before.Reclaimable()-t.After.Reclaimable(), 0)
	en.out.Verdict, en.out.Pins = t.Verdict, nil
	if t.End != TurnSkipped {
		en.out.Turns++
		en.out.Pins = t.After.Pins()
	}
	now := time.Now()
	if direct, err := e.tree.DirectDying(en.path); err == nil {
		en.saw(direct)
		e.tellFreed(en)
	}
	switch t.End {
	case TurnSkipped:
		if t.Verdict == Vanished {
			e.lost(en, nil, cfg)
			return
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
		if !en.retry(now, t.After.Dirty+t.After.Writeback > 0, cfg.RetryMax) {
			e.finish(en)
		}
	}
}

// drainAfter is how many fruitless turns show that what stays may have no page
// at all (a coarse memory.stat does not tell).
const drainAfter = 2

// settled follows a look that still saw dying memcgs.
func (e *Engine) settled(en *entry, freed bool) {
	now := time.Now()
	if en.lookAgain(freed, now) {
		if en.look >= lookPinned {
			// Nothing reclaimable, and nothing freed for a while: these
			// are pinned. Known now, and not only when the entry ends,
			// they do not keep later teardowns from being told freed.
			e.notePinned(en, now)
			en.events = nil
		}
		return
	}
	drainStocks()
	// Time enough for the kernel to free what was emptied and to bring
	// memory.stat up to date (2 s): look once more for something to reclaim.
	en.phase, en.due, en.confirmed = phaseTurn, now, true
}

// lost passes an entry whose ancestor is gone to the nearest live one.
func (e *Engine) lost(en *entry, err error, cfg Config) {
	if err != nil && !gone(err) {
		e.log.Error("cannot read a cgroup", "ancestor", en.path, "err", err)
		en.out.Verdict = Verdict(fmt.Sprint("failed: ", err))
		e.finish(en)
		return
	}
	en.out.Verdict = Vanished
	ancestor := e.tree.NearestLive(path.Dir(en.path))
	e.queue.move(en, ancestor, time.Now(), cfg.Debounce)
	for _, job := range e.sweeps {
		job.moved(en.path, ancestor)
	}
	e.forgetPinned(en.path)
}

// tellFreed records the latencies of teardowns whose memcgs are gone.
func (e *Engine) tellFreed(en *entry) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, at := range en.resolve(e.pinned[en.path].Dying) {
		d := now.Sub(at)
		en.out.Latency = append(en.out.Latency, d)
		e.totals.Latency.add(d)
	}
}

// account adds what an entry has done since the last time to the totals.
func (e *Engine) account(en *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.totals.Freed += en.out.Freed - en.told.Freed
	e.totals.Bytes += en.out.Bytes - en.told.Bytes
	e.totals.Batches += int64(en.out.Batches - en.told.Batches)
	if turns := int64(en.out.Turns - en.told.Turns); turns > 0 {
		e.totals.Turns += turns
		e.totals.LastReap = time.Now()
	}
	en.told = en.out
}

// finish ends an entry and tells its outcome.
func (e *Engine) finish(en *entry) {
	now := time.Now()
	e.tellFreed(en)
	e.queue.remove(en)
	out := en.out
	out.Wall = now.Sub(out.began)
	e.account(en)
	if out.DyingAfter == 0 || out.Turns > 0 {
		e.notePinned(en, now)
	}
	e.onEnd(out)
	e.sweepEnded(en.path, out)
}

// notePinned notes that what is dying below an entry's ancestor is pinned.
func (e *Engine) notePinned(en *entry, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if en.out.DyingAfter == 0 {
		delete(e.pinned, en.path)
		return
	}
	since := now
	if old, ok := e.pinned[en.path]; ok {
		since = old.Since
	}
	e.pinned[en.path] = Pinned{en.path, en.out.DyingAfter, en.out.Pins, since}
}

// fewerPinned notes that no more than direct can be pinned.
func (e *Engine) fewerPinned(ancestor string, direct int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p, ok := e.pinned[ancestor]; ok && direct < p.Dying {
		if p.Dying = direct; direct == 0 {
			delete(e.pinned, ancestor)
			return
		}
		e.pinned[ancestor] = p
	}
}

// pinnedBefore reports whether an entry's dying are those that were found
// pinned already.
func (e *Engine) pinnedBefore(en *entry) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(en.events) == 0 && e.pinned[en.path].Dying == en.dying
}

func (e *Engine) forgetPinned(ancestor string) {
	e.mu.Lock()
	delete(e.pinned, ancestor)
	e.mu.Unlock()
}
