package reclaim

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// EngineOptions are what an engine is made of.
type EngineOptions struct {
	Hierarchy Hierarchy
	FS        *FS
	Abilities Abilities
	Config    Config
	Journal   string // path of the shield journal
	Hold      *Hold  // v1 and hybrid; nil holds nothing
	// HoldUnits says which units are held as soon as their directory is made,
	// see [Hold.Watch]; nil leaves that to Engine.Started.
	HoldUnits func(unit string) bool
	Pressure  Pressure
	// Evicter reaches what reclaim cannot; nil leaves that.
	Evicter Evicter
	Logger  *slog.Logger
	// OnOutcome is called from the engine's own goroutine; it must not block.
	OnOutcome func(Outcome)
	// OnLeft is told what teardowns left dying, also where nothing is reaped.
	// Called from the engine's own goroutine; it must not block.
	OnLeft func(Left)
	// OnSweep is told of each timed sweep that begins below a cgroup, and
	// returns what is told how it goes and how it ended. All are called from
	// the engine's own goroutine and must not block. It may be nil.
	OnSweep func(under string) (progress func(SweepProgress), ended func(SweepResult, error))
	// OnWrite is told how long each write that reclaims took in the kernel.
	// Called from the thread that wrote; it must not block. It may be nil.
	OnWrite func(time.Duration)
}

// Engine reaps: it owns the queue, the budget and the reaping thread.
type Engine struct {
	opts   EngineOptions
	tree   *Tree
	log    *slog.Logger
	onEnd  func(Outcome)
	budget *Budget

	emptier v1Emptier // of what a sweep empties
	evict   evicting

	// Only Run touches these, on the reaping thread.
	queue     *queue
	thread    *Thread
	reap      *reaper
	sweeps    []*sweepJob
	pace      pace                  // of sweeps
	took      [phases]time.Duration // CPU time that a sweep's work took of late, see expect
	beside    time.Duration         // of that, a turn's beside its writes, on average
	last      spending              // when the last work ended, and the process's CPU time then
	going     bool                  // the last step has worked
	gate      pressureGate
	part      float64          // of the budget that reaping has, by the gate's last look
	nextSweep time.Time        // zero: never
	nextCount time.Time        // see countNow
	sweptAt   int64            // dying memcgs the last sweep left
	counted   int64            // v1: dying memcgs at the last count
	dropped   time.Time        // when the last resort was last used
	drop      string           // the kernel's switch for that, see dropCaches
	known     map[string]known // see left.go

	ctx        context.Context  // of Run
	censuses   []*entry         // that are queued
	censusID   int              // of the last one
	looking    bool             // one of them is a look
	rationed   map[owner]string // the last ancestor that a sweep took, see ration
	nextV1Pins time.Time        // see forgetFreedV1
	passedOver PassedOver       // by the last sweep, as it was logged
	refreshes  map[string]bool  // planned

	holdFull    atomic.Bool   // said once
	holdTrouble atomic.Uint32 // what holds fail for, said once: 1 plus the errno; 0 for nothing

	mu      sync.Mutex
	inbox   []func(now time.Time)
	wake    chan struct{}
	started chan struct{} // closed when what an earlier run held is known
	stopped chan struct{} // closed when Run returns
	cfg     Config
	totals  Totals
	pinned  map[string]pinned
	// lookUnder is where a look is asked for, or "".
	lookUnder string

	made    time.Time
	reloads atomic.Int64  // until when systemd is taken to reload, in ns since then
	pulse   atomic.Uint64 // see Alive
	alive   atomic.Uint64
}

// NewEngine makes an engine. Nothing happens before Run.
func NewEngine(o EngineOptions) *Engine {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnOutcome == nil {
		o.OnOutcome = func(Outcome) {}
	}
	if o.OnLeft == nil {
		o.OnLeft = func(Left) {}
	}
	e := &Engine{
		opts: o,
		made: time.Now(),
		drop: dropCaches,
		tree: &Tree{
			FS:            o.FS,
			Subsys:        o.Abilities.DyingMemory.OK(),
			RecursiveProt: o.Hierarchy.RecursiveProt,
			Coarse:        o.Abilities.Coarse(),
		},
		log:       o.Logger,
		onEnd:     o.OnOutcome,
		budget:    NewBudget(o.Config.Share, o.Config.Burst, time.Now()),
		queue:     newQueue(),
		gate:      pressureGate{pressure: o.Pressure, log: o.Logger, part: 1},
		part:      1,
		wake:      make(chan struct{}, 1),
		started:   make(chan struct{}),
		stopped:   make(chan struct{}),
		cfg:       o.Config,
		pinned:    map[string]pinned{},
		known:     map[string]known{},
		refreshes: map[string]bool{},
		ctx:       context.Background(),
	}
	e.tree.pulse = &e.pulse
	e.alive.Store(math.MaxUint64)
	return e
}

// post runs fn between two steps of Run. It never blocks, so neither does
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
		e.setBudget(c, now)
		e.applyScheduler()
		if next := e.planSweep(now); e.nextSweep.IsZero() || e.nextSweep.After(next) {
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
			if !e.holdLeave(cgroup, at, now) { // what was not held is out of reclaim's reach there
				e.evictTorn(cgroup, now)
			}
			return
		}
		// Where it still stands, it is about to go: its parent is next.
		e.queue.teardown(e.tree.NearestLive(path.Dir(cgroup)), at, now, e.config().Debounce).tore(cgroup)
	})
}

// Run reaps until ctx ends. Every shield is down when it returns.
func (e *Engine) Run(ctx context.Context) error {
	defer func() {
		e.stopSweeps()
		e.emptier.end()
		close(e.stopped)
	}()
	if err := e.start(ctx); err != nil {
		return err
	}
	defer func() {
		if err := errors.Join(e.reap.journal.settle(e.opts.FS), e.reap.journal.Close()); err != nil {
			e.log.Error("the next start, or scopereapd --restore, has something to put back", "err", err,
				message.ShieldStays.Attr())
		}
	}()
	var watch sync.WaitGroup
	defer watch.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch.Go(func() { e.holdWatch(ctx) })
	e.ctx = ctx
	e.thread.Do(ctx, func() { e.loop(ctx) })
	return nil
}

// loop is all of Run that waits and works. It runs on the reaping thread: a
// goroutine of its own, which hands each step over, cost as much CPU time as
// many a step (waking a thread, and Go's runtime beside it).
func (e *Engine) loop(ctx context.Context) {
	defer e.reap.bait.stop()
	e.heal()
	e.measured(func() { e.learnKnown(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	e.nextCount = time.Now().Add(countEvery)
	e.nextSweep = e.firstSweep(time.Now())
	for ctx.Err() == nil {
		var wait time.Duration
		e.measured(func() { wait = e.round(ctx) })
		if wait <= 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-e.wake:
		case <-timer.C:
		}
	}
	e.refreshAll()
}

// round is all that is done between two waits, and returns how long the next
// one is.
func (e *Engine) round(ctx context.Context) time.Duration {
	now := time.Now()
	e.pulse.Add(1)
	for _, fn := range e.takeInbox() {
		fn(now)
		e.pulse.Add(1)
	}
	if !e.nextSweep.IsZero() && !now.Before(e.nextSweep) {
		e.timedSweep(ctx, now)
		e.nextSweep = e.planSweep(now)
	}
	if !now.Before(e.nextCount) {
		e.countNow(ctx, now)
		e.holdEnded(now)
		e.forgetFreedV1(now)
		e.nextCount = now.Add(countEvery)
	}
	e.evictNow(ctx, now)
	wait := e.step(ctx, now)
	for i, at := range []time.Time{e.nextSweep, e.nextCount, e.evict.due} {
		if !at.IsZero() && (i < 2 || !e.evict.busy) {
			wait = min(wait, time.Until(at))
		}
	}
	if e.evict.busy && len(e.sweeps) > 0 { // the kernel frees while the answer is still to come
		e.sweepProgress()
		wait = min(wait, evictProgress)
	}
	return wait
}

// start starts the thread and opens the journal. What an earlier run left in
// the journal must have been restored before.
func (e *Engine) start(ctx context.Context) error {
	journal, err := OpenJournal(e.opts.Journal)
	if err != nil {
		return err
	}
	if err := journal.hasRoom(); err != nil {
		e.log.Error("nothing can be reclaimed while the shield journal cannot be written; make room in its file system",
			"err", err)
	}
	thread, err := StartThread(ctx)
	if err != nil {
		e.log.Warn("reaping runs at normal priority", "err", err)
	}
	e.thread = thread
	e.thread.onWrite = e.opts.OnWrite
	e.reap = newReaper(e.tree, thread, journal, e.opts.Abilities, e.log)
	e.reap.reloading = func() bool { return e.reloading(time.Now()) > 0 }
	e.applyScheduler()
	e.recoverHeld(time.Now())
	close(e.started)
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

// step takes one entry that is due, if the budget lets it, which is smaller under
// pressure, and returns how long to wait for the next.
func (e *Engine) step(ctx context.Context, now time.Time) time.Duration {
	cfg := e.config()
	going := e.going
	e.going = false
	if len(e.queue.entries) > 0 {
		e.lookAtPressure(cfg, now)
	}
	cfg.Share, cfg.Burst = e.given(cfg)
	en, grant, wait := e.plan(cfg, going, now)
	if wait > 0 {
		return wait
	}
	began, cpu, phase := time.Now(), processCPU(), en.phase
	e.work(ctx, en, cfg, grant)
	e.worked(en, phase, spending{began: began, end: time.Now()}, cpu, processCPU())
	e.going = true
	return 0
}

func (e *Engine) lookAtPressure(cfg Config, now time.Time) {
	if part := e.gate.look(cfg.Pressure, now); part != e.part {
		e.part = part
		e.setBudget(cfg, now)
	}
}

// given are the share and the burst that reaping has now, see pressureGate. While
// an eviction is under way half of it is that process's.
func (e *Engine) given(c Config) (share float64, burst time.Duration) {
	part := e.part
	if e.evict.busy {
		part /= 2
	}
	return c.Share * part, time.Duration(float64(c.Burst) * part)
}

func (e *Engine) setBudget(c Config, now time.Time) {
	share, burst := e.given(c)
	e.budget.Set(share, burst, now)
}

// measured takes the CPU time of fn from the budget: all that the reaping thread
// does, planning too.
func (e *Engine) measured(fn func()) {
	began := e.thread.CPU()
	fn()
	used := e.thread.CPU() - began
	e.budget.Spend(used, time.Now())
	e.mu.Lock()
	e.totals.CPU += used
	e.mu.Unlock()
}
