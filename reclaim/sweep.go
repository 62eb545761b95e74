package reclaim

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// SweepRequest asks for a census and for the reaping of all it finds.
type SweepRequest struct {
	Under    string // cgroup path; "/" for all
	Progress func(SweepProgress)
}

// SweepProgress is told after every piece of work of a sweep.
type SweepProgress struct {
	Ancestors int   `json:"ancestors"` // found by the census
	Done      int   `json:"done"`      // of them, those that are finished
	Dying     int64 `json:"dying"`     // below Under, at the beginning
	Freed     int64 `json:"freed"`     // up to now
	// GivingWay is the pressure it meets, or nil.
	GivingWay *GivingWay `json:"giving_way,omitempty"`
}

// SweepResult is what a sweep did.
type SweepResult struct {
	Under       string        `json:"under"`
	DyingBefore int64         `json:"dying_before"`
	DyingAfter  int64         `json:"dying_after"`
	Live        int64         `json:"live"`
	Freed       int64         `json:"freed"`
	Bytes       int64         `json:"bytes"`
	CPU         time.Duration `json:"cpu_ns"`
	Wall        time.Duration `json:"wall_ns"`
	Outcomes    []Outcome     `json:"outcomes"`
	// PassedOver is what the census could not look into.
	PassedOver PassedOver `json:"passed_over,omitzero"`
	// Later is how many ancestors are left to the next sweeps, since one owner
	// has more than a sweep takes of one.
	Later int64 `json:"later,omitempty"`
	// GivingWay is the pressure that it met at the end, or nil.
	GivingWay *GivingWay `json:"giving_way,omitempty"`
}

// sweepJob follows the ancestors that one sweep has found until the last of
// them is finished.
type sweepJob struct {
	ctx     context.Context // of whoever asked
	req     SweepRequest
	began   time.Time
	total   int
	pending map[string]bool
	freed   int64 // up to now, below those that are pending as well
	evicted bool  // v1: result has the walk's counts
	answers int   // v1: of so many evictions
	machine int64 // v1: memcgs of the machine when it began, dying and live
	result  SweepResult
	end     func(SweepResult, error)
}

// moved follows an ancestor that vanished to the one that has its dying now.
func (j *sweepJob) moved(from, to string) {
	if j.pending[from] {
		delete(j.pending, from)
		j.pending[to] = true
	}
}

// ErrV1Sweep: on cgroup v1 dying memcgs cannot be reached without the living.
var ErrV1Sweep = errors.New("on cgroup v1 a sweep costs the living their cache (memory.force_empty on a live ancestor); set sweep.v1_force_empty = true to allow it")

// errStopped means that the engine stopped before a sweep began.
var errStopped = errors.New("scopereap is stopping")

// Sweep takes a census and reaps what it finds, within the budget. It returns
// when every ancestor found is finished; ones that wait for writeback are
// given the policy's longest backoff. When ctx ends first, it returns what was
// done so far with ctx's error.
func (e *Engine) Sweep(ctx context.Context, req SweepRequest) (SweepResult, error) {
	type reply struct {
		r   SweepResult
		err error
	}
	done := make(chan reply, 1)
	end := func(r SweepResult, err error) { done <- reply{r, err} }
	e.post(func(now time.Time) { e.beginSweep(ctx, req, now, end) })
	// Whoever asked has gone: what is queued goes on, but nobody waits.
	stop := context.AfterFunc(ctx, func() {
		e.post(func(time.Time) { e.abandonSweeps() })
	})
	defer stop()
	select {
	case r := <-done:
		return r.r, r.err
	case <-e.stopped:
		select {
		case r := <-done:
			return r.r, r.err
		default:
			return SweepResult{}, errStopped
		}
	}
}

// beginSweep runs on the reaping thread; end is called from there too.
func (e *Engine) beginSweep(ctx context.Context, req SweepRequest, now time.Time, end func(SweepResult, error)) {
	var err error
	if req.Under, err = CleanPath(req.Under); err != nil {
		end(SweepResult{}, err)
		return
	}
	if !e.opts.Hierarchy.Mode.V2() {
		e.sweepV1(ctx, req, now, end)
		return
	}
	e.takeCensus(&census{ctx: ctx, under: func() string { return req.Under }, then: func(c Census, list []found, err error) {
		if err != nil {
			end(SweepResult{}, err)
			return
		}
		e.sweepFound(&sweepJob{ctx: ctx, req: req, began: now, pending: map[string]bool{}, end: end}, c, list)
	}}, now)
}

// sweepFound begins a sweep of what its census has found.
func (e *Engine) sweepFound(job *sweepJob, c Census, list []found) {
	list, later := e.ration(list)
	job.total = len(list)
	job.result = SweepResult{
		Under: job.req.Under, DyingBefore: c.Dying, DyingAfter: c.Dying, Live: c.Live,
		PassedOver: c.PassedOver, Later: later,
	}
	e.queueSwept(list, time.Now())
	for _, a := range list {
		job.pending[a.Path] = true
	}
	e.startSweep(job)
}

// sweeping reports whether a sweep is under way, or about to begin.
func (e *Engine) sweeping() bool {
	return len(e.sweeps) > 0 || len(e.censuses) > 1 || len(e.censuses) > 0 && !e.looking
}

func (e *Engine) startSweep(job *sweepJob) {
	e.mu.Lock()
	e.totals.Sweeps++
	e.totals.LastSweep = time.Now()
	e.mu.Unlock()
	e.sweeps = append(e.sweeps, job)
	e.endSweeps()
}

// abandonSweeps ends the sweeps whose caller has gone with what they have done
// so far.
func (e *Engine) abandonSweeps() {
	e.abandonCensuses()
	e.sweeps = slices.DeleteFunc(e.sweeps, func(job *sweepJob) bool {
		if job.ctx.Err() == nil {
			return false
		}
		job.end(e.result(job), job.ctx.Err())
		return true
	})
}

// stopSweeps ends all sweeps when the engine stops.
func (e *Engine) stopSweeps() {
	e.stopCensuses()
	for _, job := range e.sweeps {
		job.end(e.result(job), errStopped)
	}
	e.sweeps = nil
}

// result is what a sweep has done up to now.
func (e *Engine) result(job *sweepJob) SweepResult {
	r := job.result
	if job.evicted && len(r.Outcomes) <= 1 { // no force_empty since
		r.Wall = time.Since(job.began)
		return r
	}
	if n, err := e.dyingBelow(r.Under); err == nil {
		r.DyingAfter = n
	}
	if !e.opts.Hierarchy.Mode.V2() {
		r.Freed = max(r.DyingBefore-r.DyingAfter, 0) // v1 tells no more
	}
	r.Wall = time.Since(job.began)
	r.GivingWay = e.gate.givingWay(time.Now())
	return r
}

// sweepEnded takes one ancestor's outcome into the sweeps that wait for it.
func (e *Engine) sweepEnded(ancestor string, out Outcome) {
	for _, job := range e.sweeps {
		if !job.pending[ancestor] {
			continue
		}
		delete(job.pending, ancestor)
		r := &job.result
		r.Outcomes = append(r.Outcomes, out)
		r.Freed += out.Freed
		r.Bytes += out.Bytes
		r.CPU += out.CPU
	}
	e.endSweeps()
}

// sweepProgress tells the sweeps how far they are, after each piece of work.
func (e *Engine) sweepProgress() {
	for _, job := range e.sweeps {
		if job.req.Progress != nil {
			job.req.Progress(SweepProgress{
				Ancestors: job.total,
				Done:      job.total - len(job.pending),
				Dying:     job.result.DyingBefore,
				Freed:     e.freed(job),
				GivingWay: e.gate.givingWay(time.Now()),
			})
		}
	}
}

// freed is how many have gone since a sweep began. v1 counts none by ancestor:
// there it is what the kernel has fewer than then, with as many live ones.
func (e *Engine) freed(job *sweepJob) int64 {
	if e.opts.Hierarchy.Mode.V2() {
		return job.freed
	}
	row, err := v1ReadRow()
	if err != nil {
		return 0
	}
	return max(job.machine-row.Cgroups, 0)
}

// endSweeps ends the sweeps that have nothing pending.
func (e *Engine) endSweeps() {
	e.sweeps = slices.DeleteFunc(e.sweeps, func(job *sweepJob) bool {
		if len(job.pending) > 0 {
			return false
		}
		job.end(e.result(job), nil)
		return true
	})
}

// countEvery is how often the dying count is compared with the policy's
// threshold: one file read, two wake-ups a minute.
const countEvery = 30 * time.Second

func (e *Engine) firstSweep(now time.Time) time.Time {
	if e.config().SweepEvery == 0 {
		return time.Time{}
	}
	return now
}

func (e *Engine) planSweep(now time.Time) time.Time {
	if every := e.config().SweepEvery; every > 0 {
		return now.Add(every)
	}
	return time.Time{}
}

// timedSweep sweeps everything, unless nothing is dying (one file read) or the
// last sweep is still under way.
func (e *Engine) timedSweep(ctx context.Context, now time.Time) {
	if e.sweeping() || !e.maySweep(e.config()) {
		return
	}
	n, err := e.dying()
	if err != nil {
		e.log.Error("cannot count the dying memcgs, so nothing is swept", "err", err, message.SweepFailed.Attr())
	}
	if n == 0 {
		if err == nil {
			e.forgetGone("/", nil, now)
		}
		return
	}
	req, ended := SweepRequest{Under: "/"}, func(SweepResult, error) {}
	if e.opts.OnSweep != nil {
		req.Progress, ended = e.opts.OnSweep(req.Under)
	}
	e.beginSweep(ctx, req, now, func(r SweepResult, err error) {
		ended(r, err)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, ErrV1Sweep) { // why there is no eviction is logged once
				e.log.Error("sweep failed", "err", err, message.SweepFailed.Attr())
			}
			return
		}
		e.log.Info("swept", "dying_before", r.DyingBefore, "dying_after", r.DyingAfter,
			"freed", r.Freed, "bytes", r.Bytes, "cpu", r.CPU, "wall", r.Wall, message.Swept.Attr())
		e.tellPassedOver(r.PassedOver)
		e.sweptAt = r.DyingAfter
		e.lastResort(r)
	})
}

// tellPassedOver logs what a sweep has passed over, once for as long as it stays
// about the same.
func (e *Engine) tellPassedOver(p PassedOver) {
	if known := e.passedOver; p.Cgroups > 0 && p.First != known.First && p.Why != known.Why {
		e.log.Warn("a sweep passes over cgroups that it cannot read", "cgroups", p.Cgroups, "dying", p.Dying, "first", p.First, "why", p.Why)
	}
	e.passedOver = p
}

// maySweep says whether the policy and the kernel let a sweep reclaim.
func (e *Engine) maySweep(cfg Config) bool {
	return e.monitorOnly(cfg) == "" && (e.opts.Hierarchy.Mode.V2() || cfg.V1ForceEmpty || e.mayEvict(cfg, time.Now()))
}

// countNow starts a sweep where the dying count has grown by the threshold
// since the last one ended. Those that a sweep could not free do not start
// another.
func (e *Engine) countNow(ctx context.Context, now time.Time) {
	cfg := e.config()
	threshold := cfg.SweepThreshold
	if threshold == 0 || e.sweeping() || !e.maySweep(cfg) {
		return
	}
	n, err := e.dying()
	if err != nil {
		return
	}
	e.evictUnseen(n, cfg, now)
	e.sweptAt = min(e.sweptAt, n)
	if n-e.sweptAt >= threshold {
		e.log.Info("dying memcgs crossed the threshold", "dying", n, "threshold", threshold, message.Threshold.Attr())
		e.sweptAt = n
		e.timedSweep(ctx, now)
	}
}

// evictUnseen has a walk where more are dying on v1 than at the last count. Most that
// end without a word to systemd (docker's and the kubelet's cgroups, with the
// cgroupfs driver) are found so within countEvery.
func (e *Engine) evictUnseen(dying int64, cfg Config, now time.Time) {
	if !e.opts.Hierarchy.Mode.V2() && dying > e.counted && e.mayEvict(cfg, now) {
		e.evict.tries = 0
		e.evictBelow("/", now, 0)
	}
	e.counted = dying
}

// dying is the machine's count of dying memcgs.
func (e *Engine) dying() (int64, error) { return e.dyingBelow("/") }

// dyingBelow is the count below a cgroup; v1 has one for the machine only.
func (e *Engine) dyingBelow(cgroup string) (int64, error) {
	if e.opts.Hierarchy.Mode.V2() {
		return e.tree.Dying(cgroup)
	}
	c, err := v1Census(e.ctx, e.tree.FS, &e.pulse)
	return c.Dying, err
}

// dropCaches is the kernel's switch, Documentation/admin-guide/sysctl/vm.rst:
// 1 page cache, 2 dentries and inodes, 3 both.
const (
	dropCaches     = "/proc/sys/vm/drop_caches"
	dropCachesBoth = "3"
)

// dropEvery keeps the last resort, which costs everyone their cache, rare.
const dropEvery = time.Hour

// lastResort drops the machine's caches where the policy allows it and a sweep
// has left more than it allows.
func (e *Engine) lastResort(r SweepResult) {
	limit := e.config().DropCaches
	if limit == 0 || r.DyingAfter <= limit || r.Freed > r.DyingAfter/2 || time.Since(e.dropped) < dropEvery {
		return
	}
	e.dropped = time.Now()
	e.log.Warn("dropping caches, as sweep.drop_caches asks", "dying", r.DyingAfter, "limit", limit,
		message.CachesDropped.Attr())
	if err := os.WriteFile(e.drop, []byte(dropCachesBoth), 0); err != nil {
		e.log.Error("drop caches", "err", err)
	}
}
