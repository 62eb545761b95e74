package reclaim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wideFixture has n cgroups below /user with one dying right below each.
func wideFixture(t *testing.T, n int) *fixture {
	x := newFixture(t)
	x.file("/", "cgroup.stat", cgroupStatText(int64(n)))
	x.cgroup("/user", int64(n), 0)
	for i := range n {
		p := fmt.Sprintf("/user/%05d", i)
		if err := x.fs.Mkdir(p); err != nil {
			t.Fatal(err)
		}
		x.file(p, "cgroup.stat", cgroupStatText(1))
		x.file(p, "cgroup.subtree_control", "\n") // nothing to be done about them
	}
	return x
}

// TestLooksFold: however many sessions were gone before anybody could ask whose
// they were, one look is pending; and one more where one is under way.
func TestLooksFold(t *testing.T) {
	t.Parallel()
	x := wideFixture(t, 20)
	e := x.engine(t, testConfig()).start()
	e.started()
	hang := make(chan struct{})
	e.Ping(func() { <-hang })
	for range 150 {
		e.Look("/user/00003")
		e.Look("/user")
	}
	e.mu.Lock()
	posted := len(e.inbox)
	e.mu.Unlock()
	if posted > 2 { // the ping itself may not have been taken in yet
		t.Errorf("%d things to do for one look", posted)
	}
	close(hang)
	for range 20 {
		if o := e.outcome(); o.Verdict != NoController {
			t.Errorf("%+v", o)
		}
	}
	censuses := make(chan int)
	e.Ping(func() { censuses <- e.censusID })
	if n := <-censuses; n != 1 {
		t.Errorf("%d censuses", n)
	}
	if s := e.Status(); s.Totals.Sweeps != 0 {
		t.Errorf("a look counts as a sweep: %+v", s.Totals)
	}
	e.Look("no cgroup path") // and does nothing
}

// drive is an engine whose steps the test takes itself.
func drive(t *testing.T, x *fixture) *engineRun {
	t.Helper()
	r := x.engine(t, testConfig())
	runtime.LockOSThread() // whose CPU time it goes by
	t.Cleanup(runtime.UnlockOSThread)
	if err := r.Engine.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLookAgain: what is asked for while a look is under way is one more, once
// that has ended. A census is taken a slice at a time.
func TestLookAgain(t *testing.T) {
	x := wideFixture(t, 20)
	r := drive(t, x)
	inbox := func() {
		for _, fn := range r.takeInbox() {
			fn(time.Now())
		}
	}
	r.Look("/user")
	inbox()
	slices := 0
	for ; len(r.censuses) > 0 && r.censusID == 1; slices++ {
		if slices == 5 {
			for range 150 {
				r.Look("/user")
				inbox()
			}
		}
		r.goOnCensus(t.Context(), r.censuses[0], 1) // a nanosecond: one directory
	}
	if slices < 20 {
		t.Errorf("a census of 21 directories was taken in %d slices of one", slices)
	}
	if r.censusID != 2 || len(r.censuses) != 1 || len(r.queue.entries) != 21 {
		t.Errorf("after the first: %d censuses, %d pending, %d queued", r.censusID, len(r.censuses), len(r.queue.entries))
	}
	r.goOnCensus(t.Context(), r.censuses[0], time.Hour)
	if r.censusID != 2 || len(r.censuses) != 0 || r.looking {
		t.Errorf("after the second: %d censuses, %d pending", r.censusID, len(r.censuses))
	}
}

// TestCensusEnds: a stop, and a caller who goes, end a census between two
// directories, and the caller is told.
func TestCensusEnds(t *testing.T) {
	x := wideFixture(t, 20)
	r := drive(t, x)
	sweep := func(ctx context.Context) chan error {
		ended := make(chan error, 1)
		r.beginSweep(ctx, SweepRequest{Under: "/"}, time.Now(), func(_ SweepResult, err error) { ended <- err })
		return ended
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone, stays := sweep(ctx), sweep(t.Context())
	r.goOnCensus(t.Context(), r.censuses[0], 1)
	r.goOnCensus(t.Context(), r.censuses[1], 1)
	cancel()
	r.goOnCensus(t.Context(), r.censuses[0], 1)
	if err := <-gone; !errors.Is(err, context.Canceled) || len(r.censuses) != 1 {
		t.Errorf("its caller has gone: %v, %d censuses", err, len(r.censuses))
	}
	stop, cancel := context.WithCancel(t.Context())
	cancel()
	r.goOnCensus(stop, r.censuses[0], time.Hour)
	if len(r.censuses) != 1 || len(stays) > 0 {
		t.Error("a census goes on though the engine stops")
	}
	r.stopSweeps()
	if err := <-stays; !errors.Is(err, errStopped) || len(r.censuses) != 0 || len(r.queue.entries) != 0 {
		t.Errorf("at the stop: %v, %d censuses, %d queued", err, len(r.censuses), len(r.queue.entries))
	}
	// One that waits for its turn, of a caller who goes.
	ctx, cancel = context.WithCancel(t.Context())
	gone = sweep(ctx)
	cancel()
	r.abandonSweeps()
	if err := <-gone; !errors.Is(err, context.Canceled) || r.sweeping() {
		t.Errorf("before its turn: %v", err)
	}
}

// TestLooksWithinBudget: looks take no more than the share, and what they find
// has its turns in between.
func TestLooksWithinBudget(t *testing.T) {
	t.Parallel()
	x := wideFixture(t, 400)
	cfg := testConfig()
	cfg.Share, cfg.Burst = 0.05, 250*time.Millisecond
	e := x.engine(t, cfg)
	var outcomes, censuses atomic.Int64
	e.opts.OnOutcome, e.onEnd = nil, func(Outcome) { outcomes.Add(1) }
	e.start().started()
	began, before := time.Now(), e.Status().Totals.CPU
	waitFor(t, "some looks, and turns between them", func() bool {
		e.Look("/user")
		e.Ping(func() { censuses.Store(int64(e.censusID)) })
		return time.Since(began) > 3*time.Second && censuses.Load() > 2 && outcomes.Load() > 2
	})
	used, wall := e.Status().Totals.CPU-before, time.Since(began)
	// What goes beyond is a slice of the work that is under way.
	if most := time.Duration(cfg.Share*float64(wall)) + cfg.Burst + 100*time.Millisecond; used > most {
		t.Errorf("%v of CPU in %v, more than %v", used, wall, most)
	}
}

// TestRation: one owner's ancestors do not fill a sweep, and each has its turn
// in one of the next.
func TestRation(t *testing.T) {
	var all []found
	add := func(o owner, n int) {
		for i := range n {
			all = append(all, found{Ancestor{Path: fmt.Sprintf("/%s/%d", o, i), Direct: int64(n - i)}, 0, o})
		}
	}
	add("", 3*ownerMost)
	add("user 1000", 2*ownerMost+500)
	add("user 1001", 10)
	e := NewEngine(EngineOptions{})
	seen := map[string]int{}
	for range 5 {
		taken, later := e.ration(all)
		by := map[owner]int{}
		for _, a := range taken {
			by[a.owner]++
			seen[a.Path]++
		}
		if d := cmp.Diff(map[owner]int{"": 3 * ownerMost, "user 1000": ownerMost, "user 1001": 10}, by); d != "" || later != ownerMost+500 {
			t.Errorf("%d later; by owner (-want +got):\n%s", later, d)
		}
	}
	for _, a := range all[3*ownerMost : 5*ownerMost+500] {
		if n := seen[a.Path]; n != 2 {
			t.Fatalf("%s was taken %d times in five sweeps, each a fifth of two rounds", a.Path, n)
		}
	}
}

// TestRationCountsWhatIsQueued: a storm of looks queues no more of one owner's than a
// sweep takes.
func TestRationCountsWhatIsQueued(t *testing.T) {
	var all []found
	for i := range 5 * ownerMost {
		all = append(all, found{Ancestor{Path: fmt.Sprint("/u/", i), Direct: 1}, 0, "user 1000"})
	}
	e := NewEngine(EngineOptions{})
	for range 30 {
		list, later := e.ration(all)
		e.queueSwept(list, t0)
		if len(e.queue.entries) != ownerMost || later != 4*ownerMost || len(list) != ownerMost {
			t.Fatalf("%d queued, %d taken, %d later", len(e.queue.entries), len(list), later)
		}
	}
	for i, en := range slices.Collect(maps.Values(e.queue.entries)) {
		if i < 10 {
			e.queue.remove(en)
		}
	}
	before := e.rationed["user 1000"]
	list, later := e.ration(all)
	if e.queueSwept(list, t0); len(e.queue.entries) != ownerMost || later != 4*ownerMost || e.rationed["user 1000"] == before {
		t.Errorf("%d queued, %d later, after %q: %q", len(e.queue.entries), later, before, e.rationed["user 1000"])
	}
}

// TestCensusesShare: costly censuses one after another leave half to the turns.
func TestCensusesShare(t *testing.T) {
	q, now := newQueue(), t0
	const costly, turn = 45 * time.Millisecond, 5 * time.Millisecond
	used := map[phase]time.Duration{}
	for i := range 10 {
		q.sweep(fmt.Sprint("/", i), now)
	}
	q.add(&entry{path: "census", phase: phaseCensus, due: now, owner: ofCensuses})
	for range 1000 {
		now = now.Add(time.Second)
		en, _ := q.next(now)
		cost := turn
		if en.phase == phaseCensus {
			cost = costly
		}
		used[en.phase] += cost
		q.spend(en, cost)
		en.due = now
		q.update(en)
	}
	if c, w := used[phaseCensus], used[phaseTurn]; c < w/2 || w < c-costly {
		t.Errorf("%v for censuses, %v for turns", c, w)
	}
}

// TestSweepRations: a sweep says what it leaves to the next.
func TestSweepRations(t *testing.T) {
	r := drive(t, newFixture(t))
	var all []found
	for i := range ownerMost + 7 {
		all = append(all, found{Ancestor{Path: fmt.Sprint("/u/", i), Direct: 1}, 0, "user 1000"})
	}
	r.sweepFound(&sweepJob{req: SweepRequest{Under: "/"}, pending: map[string]bool{}}, Census{}, all)
	if got := r.sweeps[0].result.Later; got != 7 || len(r.sweeps[0].pending) != ownerMost || len(r.queue.entries) != ownerMost {
		t.Errorf("%d later, %d pending, %d queued", got, len(r.sweeps[0].pending), len(r.queue.entries))
	}
	for _, en := range r.queue.entries {
		if en.owner != "user 1000" {
			t.Fatalf("%s is %q's", en.path, en.owner)
		}
	}
	r.sweeps = nil
}

func TestCommon(t *testing.T) {
	for _, c := range [][3]string{
		{"", "/a", "/a"}, {"/a", "/a", "/a"}, {"/a/b", "/a/c", "/a"}, {"/a/b", "/a/bc", "/a"}, {"/a", "/b", "/"}, {"/a/b/c", "/a/b", "/a/b"}, {"/", "/a", "/"},
	} {
		if got := common(c[0], c[1]); got != c[2] {
			t.Errorf("%q and %q: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// TestAlive: a thread that gets on is alive, and one that hangs is not.
func TestAlive(t *testing.T) {
	t.Parallel()
	x := wideFixture(t, 3)
	e := x.engine(t, testConfig()).start()
	for range 3 { // it sleeps, and each question wakes it
		waitFor(t, "a sign of life", e.Alive)
	}
	hangs, hang := make(chan struct{}), make(chan struct{})
	e.Ping(func() { close(hangs); <-hang })
	<-hangs
	e.Alive()
	for range 3 {
		if e.Alive() {
			t.Error("it hangs, and is said to be alive")
		}
	}
	if _, err := e.Tree().Census(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	if e.Alive() {
		t.Error("what others read is taken for a sign of life")
	}
	close(hang)
	waitFor(t, "a sign of life", e.Alive)
}

// TestAliveAtWork: one long piece of work has many signs of life.
func TestAliveAtWork(t *testing.T) {
	x := wideFixture(t, 100)
	r := drive(t, x)
	for name, work := range map[string]func() error{
		"census":      func() error { _, err := r.tree.Census(t.Context(), "/"); return err },
		"direct":      func() error { _, err := r.tree.DirectDying("/user"); return err },
		"dead memory": func() error { _, err := r.tree.DeadMemory("/user"); return err },
	} {
		before := r.pulse.Load()
		if err := work(); err != nil {
			t.Fatal(err)
		}
		if n := r.pulse.Load() - before; n < 100 {
			t.Errorf("%s: %d signs of life for 100 cgroups", name, n)
		}
	}
}

// TestSweepAbandoned: whoever goes has what was done so far, and so has everybody at a
// stop. What is reaped beside a sweep is not its.
func TestSweepAbandoned(t *testing.T) {
	r := drive(t, wideFixture(t, 3))
	type end struct {
		SweepResult
		err error
	}
	sweep := func(ctx context.Context) *end {
		var e end
		r.beginSweep(ctx, SweepRequest{Under: "/"}, time.Now(), func(s SweepResult, err error) { e = end{s, err} })
		r.goOnCensus(t.Context(), r.censuses[0], time.Hour)
		return &e
	}
	ctx, cancel := context.WithCancel(t.Context())
	goes, stays := sweep(ctx), sweep(t.Context())
	r.sweepEnded("/elsewhere", Outcome{Freed: 5})
	r.sweepEnded("/user/00001", Outcome{Freed: 1, Bytes: 2, CPU: 3})
	cancel()
	r.abandonSweeps()
	for _, x := range []struct {
		name string
		*end
		want error
	}{{"its caller has gone", goes, context.Canceled}, {"at a stop", stays, errStopped}} {
		if !errors.Is(x.err, x.want) || x.Freed != 1 || x.Bytes != 2 || x.CPU != 3 || len(x.Outcomes) != 1 {
			t.Errorf("%s: %+v", x.name, x.end)
		}
		if x.end == goes {
			if stays.err != nil || len(r.sweeps) != 1 {
				t.Errorf("the other one has ended: %+v", stays)
			}
			r.stopSweeps()
		}
	}
}

// TestSweeping: a look is no sweep, one beside it is.
func TestSweeping(t *testing.T) {
	r := drive(t, wideFixture(t, 3))
	now := time.Now()
	if r.look(now); r.sweeping() || len(r.censuses) != 1 {
		t.Errorf("a look counts as a sweep (%d censuses)", len(r.censuses))
	}
	r.timedSweep(t.Context(), now)
	if !r.sweeping() || len(r.censuses) != 2 {
		t.Errorf("a sweep's census does not count beside a look (%d censuses)", len(r.censuses))
	}
	if r.timedSweep(t.Context(), now); len(r.censuses) != 2 {
		t.Error("a second sweep begins before the first one ends")
	}
}

// TestLookMonitorOnly: where nothing is reaped nothing is looked for, and what is asked for
// later is not widened by what was asked for then.
func TestLookMonitorOnly(t *testing.T) {
	r := drive(t, wideFixture(t, 3))
	r.cfg.Monitor = MonitorAlways
	r.Look("/user")
	for _, fn := range r.takeInbox() {
		fn(time.Now())
	}
	if len(r.censuses) != 0 || r.lookUnder != "" {
		t.Errorf("%d censuses, still to be looked at: %q", len(r.censuses), r.lookUnder)
	}
}

// TestIdentify: what is known of a cgroup is not laid to another one that is made under
// its name.
func TestIdentify(t *testing.T) {
	x := wideFixture(t, 1)
	r := drive(t, x)
	en := r.queue.add(&entry{path: "/user/00000"})
	known := func() bool {
		return en.counted || en.confirmed || en.rest != nil || en.evicted || en.evictLeft != nil || en.deep
	}
	learn := func() {
		en.counted, en.confirmed, en.rest, en.evicted, en.evictLeft, en.deep = true, true, &rest{}, true, &EvictedBelow{}, true
	}
	learn()
	if r.identify(en); !known() {
		t.Error("what was known before it was first looked at is forgotten")
	}
	if r.identify(en); !known() {
		t.Error("what is known of it is forgotten")
	}
	if err := os.Rename(x.path("/user/00000", ""), x.path("/", "old")); err != nil {
		t.Fatal(err)
	}
	x.cgroup("/user/00000", 1, 0)
	if r.identify(en); known() {
		t.Errorf("%+v", en)
	}
}

// TestFinishUntried: what was never tried is not known to be pinned.
func TestFinishUntried(t *testing.T) {
	r := drive(t, wideFixture(t, 1))
	for turns := range 2 {
		en := r.queue.add(&entry{path: "/user/00000"})
		en.out.Verdict, en.out.Turns, en.out.DyingAfter = NearLimit, turns, 1
		if r.finish(en); len(r.pinned) != turns {
			t.Errorf("after %d turns: pinned %+v", turns, r.pinned)
		}
	}
}

// TestTellsPassedOver: what a sweep cannot look into is logged when it is new.
func TestTellsPassedOver(t *testing.T) {
	var log bytes.Buffer
	e := NewEngine(EngineOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for i, c := range []struct {
		p    PassedOver
		told bool
	}{
		{PassedOver{}, false},
		{PassedOver{1, 2, "/a", "no"}, true},
		{PassedOver{2, 3, "/a", "no"}, false},
		{PassedOver{2, 3, "/b", "no"}, false}, // another one of many
		{PassedOver{2, 3, "/b", "never"}, false},
		{PassedOver{2, 3, "/c", "no"}, true},
		{PassedOver{}, false},
		{PassedOver{2, 3, "/c", "no"}, true},
	} {
		log.Reset()
		if e.tellPassedOver(c.p); (log.Len() > 0) != c.told {
			t.Errorf("%d: %+v: %s", i, c.p, &log)
		}
	}
}

// TestPolicyPlansSweep: a new policy plans the next sweep anew, but puts off none.
func TestPolicyPlansSweep(t *testing.T) {
	r := drive(t, wideFixture(t, 1))
	now := time.Now()
	for _, c := range []struct{ planned, every, want time.Duration }{
		{0, time.Hour, time.Hour}, {time.Minute, time.Hour, time.Minute}, {time.Hour, time.Minute, time.Minute}, {time.Hour, 0, 0},
	} {
		if r.nextSweep = (time.Time{}); c.planned > 0 {
			r.nextSweep = now.Add(c.planned)
		}
		cfg := testConfig()
		cfg.SweepEvery = c.every
		r.SetConfig(cfg)
		for _, fn := range r.takeInbox() {
			fn(now)
		}
		if got := r.nextSweep; got.IsZero() != (c.want == 0) || c.want > 0 && !got.Equal(now.Add(c.want)) {
			t.Errorf("%+v: %v", c, got.Sub(now))
		}
	}
}

// TestFewerPinned: what is known to be pinned becomes less with the count, and never more.
func TestFewerPinned(t *testing.T) {
	r := drive(t, wideFixture(t, 1))
	en := &entry{path: "/p", id: 7}
	for _, c := range []struct {
		id     uint64
		direct int64
		want   int64
	}{{7, 3, 3}, {7, 5, 5}, {7, 9, 5}, {7, 0, 0}, {8, 3, 0}} {
		r.pinned = map[string]pinned{"/p": {Pinned: Pinned{Dying: 5}, id: c.id}}
		if r.fewerPinned(en, c.direct); r.pinned["/p"].Dying != c.want {
			t.Errorf("%+v: %+v", c, r.pinned)
		}
	}
}
