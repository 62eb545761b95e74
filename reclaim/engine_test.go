package reclaim

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEngineTeardown(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/u", 0)
	k.add("/u/live", 64*testMiB)
	k.die("/u", 5, 16*testMiB)
	e := k.engine(t, testConfig()).start()
	seen := time.Now()
	for _, name := range []string{"/u/s1.scope", "/u/s2.scope", "/u/s3.scope", "/u/s4.scope", "/u/s5.scope/sub/"} {
		e.Teardown(name, seen)
	}
	o := e.outcome()
	if o.Ancestor != "/u" || o.Verdict != MayReap || o.DyingBefore != 5 || o.DyingAfter != 0 || o.Freed != 5 ||
		o.Bytes != 16*testMiB || len(o.Latency) != 5 || o.Turns < 1 || o.Batches < 1 || o.CPU <= 0 || len(o.Pins) != 0 {
		t.Errorf("%+v", o)
	}
	for _, l := range o.Latency {
		if l <= 0 {
			t.Errorf("freed %v after its teardown", l)
		}
	}
	if got := k.read("/u/live", "memory.min"); got != "0" {
		t.Errorf("the shield stayed up: %s", got)
	}
	waitFor(t, "totals", func() bool { return e.Status().Totals.Freed == 5 })
	s := e.Status()
	if tot := s.Totals; tot.Events != 5 || tot.Bytes != o.Bytes || tot.Latency.Count != 5 || tot.Turns != int64(o.Turns) ||
		tot.CPU <= 0 || tot.LastReap.Before(seen) || len(s.Pinned) != 0 || s.MonitorOnly != "" {
		t.Errorf("%+v", s)
	}
}

// TestEngineReloading: while systemd sets its units' protection anew nothing is
// reclaimed, and when it is done everything is.
// TestReloadingEnds: one whose end is not told is waited for as long as one may take, and after
// its end a little.
func TestReloadingEnds(t *testing.T) {
	e := NewEngine(EngineOptions{})
	now := time.Now()
	if d := e.reloading(now); d > 0 {
		t.Errorf("without any: %v", d)
	}
	e.Reloading(true)
	if d := e.reloading(now); d < reloadMost {
		t.Errorf("begun: %v", d)
	}
	e.Reloading(false)
	if d := e.reloading(time.Now()); d > reloadRest {
		t.Errorf("ended: %v", d)
	}
}

// TestReloadsInARow: a turn waits for reloads that follow one another, but not for ever.
func TestReloadsInARow(t *testing.T) {
	e, en, now := NewEngine(EngineOptions{}), &entry{}, time.Now()
	e.reloads.Store(int64(time.Hour)) // whenever it is looked
	for _, c := range []struct {
		after time.Duration
		waits bool
	}{{0, true}, {reloadMost - time.Second, true}, {reloadMost, false}} {
		if waits := e.awaitReload(en, now.Add(c.after)); waits != c.waits {
			t.Errorf("after %v it waits: %v", c.after, waits)
		}
	}
}

func TestEngineReloading(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/u", 0)
	k.add("/u/live", 64*testMiB)
	k.die("/u", 5, 16*testMiB)
	e := k.engine(t, testConfig()).start()
	e.started()
	e.Reloading(true)
	e.Teardown("/u/s1.scope", time.Now())
	time.Sleep(300 * time.Millisecond) // many times the debounce
	if n, turns := k.answered(), e.Status().Totals.Turns; n > 0 || turns > 0 {
		t.Errorf("%d writes, %d turns during a reload", n, turns)
	}
	e.Reloading(false)
	done := time.Now()
	if o := e.outcome(); o.Freed != 5 {
		t.Errorf("%+v", o)
	}
	if d := time.Since(done); d < reloadRest {
		t.Errorf("reclaimed %v after the end of a reload, which has still to write then", d)
	}
	e.stop()
}

func TestEngineSweep(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/a", testMiB)
	k.add("/a/b", testMiB)
	k.add("/c", 0)
	k.add("/c/live", testMiB)
	k.die("/a", 2, 8192)
	k.die("/a/b", 3, 2*testMiB)
	k.die("/c", 4, 4096)
	e := k.engine(t, testConfig()).start()
	var last SweepProgress
	var told atomic.Int64
	r, err := e.Sweep(t.Context(), SweepRequest{Under: "/a/", Progress: func(p SweepProgress) { last = p; told.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	if r.Under != "/a" || r.DyingBefore != 5 || r.DyingAfter != 0 || r.Freed != 5 || r.Bytes != 2*testMiB+8192 || len(r.Outcomes) != 2 || r.Wall <= 0 {
		t.Errorf("%+v", r)
	}
	e.Ping(func() {}) // the last progress is told after the end
	waitFor(t, "progress", func() bool { return told.Load() >= 2 })
	e.stop()
	if last.Ancestors != 2 || last.Dying != 5 || last.Freed < 2 { // the end itself is told by the result
		t.Errorf("%+v", last)
	}
	if got := k.read("/c", "memory.reclaim"); got != "" || k.read("/c", "cgroup.stat") != strings.TrimSpace(cgroupStatText(4)) {
		t.Errorf("what was not to be swept got %q", got)
	}
	if got := e.Status().Totals; got.Sweeps != 1 || got.LastSweep.IsZero() || got.Freed != 5 {
		t.Errorf("%+v", got)
	}
}

// TestEngineNothingDying: a sweep of a machine without dying memcgs reads one
// file.
func TestEngineNothingDying(t *testing.T) {
	t.Parallel()
	x := newFixture(t)
	x.cgroup("/a", 0, 0)
	x.file("/a", "cgroup.stat", "garbage\n")
	e := x.engine(t, testConfig()).start()
	r, err := e.Sweep(t.Context(), SweepRequest{Under: "/"})
	if err != nil || len(r.Outcomes) != 0 || r.DyingBefore != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for under, want := range map[string]string{"/a": "cgroup.stat", "a": "not a cgroup path", "/a/..": "not a cgroup path", "/gone": "gone"} {
		if _, err := e.Sweep(t.Context(), SweepRequest{Under: under}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", under, err)
		}
	}
}

// TestEngineLeavesAlone: monitor only, ignored, at the root and near a limit
// nothing is written, and nothing is said to have been freed.
func TestEngineLeavesAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*Config, *fakeKernel)
		at     string
		want   Verdict
	}{
		{"off", func(c *Config, _ *fakeKernel) { c.Reap = false }, "/p/s.scope", MonitorOnly},
		{"monitor only", func(c *Config, _ *fakeKernel) { c.Monitor = MonitorAlways }, "/p/s.scope", MonitorOnly},
		{"ignored", func(c *Config, _ *fakeKernel) { c.Ignore = func(s string) bool { return s == "/p" } }, "/p/s.scope", Ignored},
		{"root", func(_ *Config, k *fakeKernel) { k.file("/", "cgroup.stat", cgroupStatText(9)) }, "/s.scope", AtRoot},
		{"near its limit", func(_ *Config, k *fakeKernel) { k.file("/p", "memory.max", "8192\n") }, "/p/s.scope", NearLimit},
		{"controller off", func(_ *Config, k *fakeKernel) { k.file("/p", "cgroup.subtree_control", "\n") }, "/p/s.scope", NoController},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newFakeKernel(t)
			k.add("/p", 0)
			k.add("/p/live", 4096)
			k.die("/p", 2, 4096)
			cfg := testConfig()
			c.change(&cfg, k)
			e := k.engine(t, cfg).start()
			e.Teardown(c.at, time.Now())
			o := e.outcome()
			if o.Verdict != c.want || o.Freed != 0 || o.Turns != 0 || o.Batches != 0 || len(o.Latency) != 0 || len(o.Pins) != 0 {
				t.Errorf("%+v", o)
			}
			if got := k.read("/p", "memory.reclaim"); got != "" || k.answered() != 0 {
				t.Errorf("wrote %q", got)
			}
			if got := e.Status(); len(got.Pinned) != 0 || (got.MonitorOnly != "") != (c.want == MonitorOnly) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestEngineAncestorRemoved(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/user", 0)
	k.add("/user/u1", 0)
	k.add("/user/u2", testMiB)
	k.die("/user/u1", 1, 4096)
	cfg := testConfig()
	cfg.Debounce = time.Second
	e := k.engine(t, cfg).start()
	e.Teardown("/user/u1/s.scope", time.Now())
	queued := make(chan bool)
	e.Ping(func() { queued <- e.queue.entries["/user/u1"] != nil })
	if !<-queued {
		t.Error("not queued for its parent")
	}
	k.removeLive("/user/u1")
	o := e.outcome()
	if o.Ancestor != "/user" || o.Freed != 2 || o.DyingAfter != 0 || len(o.Latency) != 1 {
		t.Errorf("%+v", o)
	}
	// A sweep follows an ancestor that vanishes too.
	k.add("/user/u3", 4096)
	k.die("/user/u3", 1, 4096)
	k.pin("/user/u3", 1) // what keeps it in the sweep until it vanishes
	before := k.answered()
	done := make(chan SweepResult)
	go func() {
		r, err := e.Sweep(t.Context(), SweepRequest{Under: "/"})
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	waitFor(t, "a first turn", func() bool { return k.answered() > before })
	k.removeLive("/user/u3")
	if r := <-done; r.DyingAfter != 1 || len(r.Outcomes) != 1 || r.Outcomes[0].Ancestor != "/user" {
		t.Errorf("%+v", r)
	}
}

// TestEngineRemovedAfterFreeing: what was freed below an ancestor is told even if that vanishes before its entry ends,
// so that outcomes add up to the totals.
func TestEngineRemovedAfterFreeing(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/user", 0)
	k.add("/user/u1", 0)
	k.pin("/user/u1", 1)
	k.die("/user/u1", 2, 8192)
	e := k.engine(t, testConfig()).start()
	e.Teardown("/user/u1/s.scope", time.Now())
	waitFor(t, "two freed", func() bool { return e.Status().Totals.Freed == 2 })
	k.removeLive("/user/u1")
	o := e.outcome()
	if o.Ancestor != "/user/u1" || o.Verdict != Vanished || o.Freed != 2 || o.DyingAfter != 0 {
		t.Errorf("%+v", o)
	}
}

// TestEnginePathsFromOutside: whatever a caller hands over, the engine goes
// round.
func TestEnginePathsFromOutside(t *testing.T) {
	t.Parallel()
	x := newFixture(t)
	e := x.engine(t, testConfig()).start()
	for _, p := range []string{"", ".", "a", "..", "/", "/../../etc/x", "/a\nb", "//", strings.Repeat("/x", 5000)} {
		e.Teardown(p, time.Now())
	}
	round := make(chan struct{})
	e.Ping(func() { close(round) })
	select {
	case <-round:
	case <-time.After(time.Minute):
		t.Fatal("the engine hangs")
	}
	if o := e.outcome(); o.Ancestor != "/" || o.DyingAfter != 0 {
		t.Errorf("%+v", o)
	}
}

func TestEngineSetConfig(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/p", 0)
	k.die("/p", 2, 8192)
	off := testConfig()
	off.Reap = false
	e := k.engine(t, off).start()
	if r, err := e.Sweep(t.Context(), SweepRequest{Under: "/"}); err != nil || r.DyingAfter != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	on := testConfig()
	on.SweepEvery, on.Idle = 20*time.Millisecond, true
	e.SetConfig(on)
	// Not by the engine's count: what dies and goes between two of its looks is not in it.
	none := func() bool { n, err := e.tree.Dying("/p"); return err == nil && n == 0 }
	waitFor(t, "a sweep by the new policy", none)
	k.die("/p", 3, 8192)
	waitFor(t, "another one", none)
	e.SetConfig(off) // and no more
	swept := make(chan bool)
	e.Ping(func() { swept <- e.nextSweep.IsZero() })
	if !<-swept {
		t.Error("a sweep is planned although the policy wants none")
	}
}

// TestEngineStops: the shield is down and the journal empty, whenever the end
// comes.
func TestEngineStops(t *testing.T) {
	t.Parallel()
	x := newFixture(t) // no kernel behind it: the dead stay for ever
	x.cgroup("/p", 1, 1<<40)
	x.cgroup("/p/a", 0, 4096)
	cfg := testConfig()
	cfg.Batch = 4096
	e := x.engine(t, cfg).start()
	e.Teardown("/p/s.scope", time.Now())
	waitFor(t, "a shield", func() bool { return x.read("/p/a", "memory.min") != "0" })
	e.stop()
	if got := x.read("/p/a", "memory.min"); got != "0" {
		t.Errorf("the shield outlived the engine: %s", got)
	}
	// Nobody answers a sweep any more: its caller is told so.
	if _, err := e.Sweep(t.Context(), SweepRequest{Under: "/"}); !errors.Is(err, errStopped) {
		t.Errorf("a sweep after the end: %v", err)
	}
}

// TestEngineManyTeardowns: many logouts a second cost few reclaims.
func TestEngineManyTeardowns(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/u", 0)
	k.add("/u/live", testMiB)
	cfg := testConfig()
	cfg.Debounce = 100 * time.Millisecond
	e := k.engine(t, cfg).start()
	const n = 500
	// At once, so that the turns do not depend on how busy the machine is.
	k.die("/u", n, n*4096)
	for range n {
		e.Teardown("/u/s.scope", time.Now())
	}
	waitFor(t, "all told freed", func() bool { return e.Status().Totals.Latency.Count == n })
	// What dies between two looks hides as many that went: never too many.
	if got := e.Status().Totals; got.Events != n || got.Turns > n/5 || got.Freed > n || got.Freed == 0 {
		t.Errorf("%+v", got)
	}
}

// TestEnginePinned: what nothing frees is reported with its reason, and does
// not cost another round each time.
func TestEnginePinned(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/u", 0)
	k.pin("/u", 2)
	k.die("/u", 3, 8192)
	e := k.engine(t, testConfig()).start()
	e.Teardown("/u/s.scope", time.Now())
	o := e.outcome()
	if o.DyingBefore != 5 || o.DyingAfter != 2 || o.Freed != 3 || len(o.Latency) != 0 || PinsString(o.Pins) != "kernel 8.0 KiB" {
		t.Errorf("%+v", o)
	}
	if d := cmp.Diff([]int64{2}, func() (n []int64) {
		for _, p := range e.Status().Pinned {
			n = append(n, p.Dying)
		}
		return n
	}()); d != "" {
		t.Error(d)
	}
	asked := k.answered()
	if r, err := e.Sweep(t.Context(), SweepRequest{Under: "/"}); err != nil || r.DyingAfter != 2 || k.answered() != asked || r.Outcomes[0].Turns != 1 {
		t.Errorf("again: %+v, %v, %d writes", r, err, k.answered()-asked)
	}
	// A teardown beside them is told freed, although two stay.
	<-e.outcomes
	k.die("/u", 1, 4096)
	e.Teardown("/u/s.scope", time.Now())
	if o := e.outcome(); o.Freed != 1 || len(o.Latency) != 1 {
		t.Errorf("beside the pinned: %+v", o)
	}
}

func TestEngineBrokenFiles(t *testing.T) {
	t.Parallel()
	x := newFixture(t)
	x.file("/", "cgroup.stat", cgroupStatText(4))
	for _, c := range []string{"/stat", "/memory"} {
		x.cgroup(c, 2, 8192)
	}
	x.file("/memory", "memory.stat", "file many\n")
	e := x.engine(t, testConfig()).start()
	e.Teardown("/memory/s.scope", time.Now())
	if o := e.outcome(); !strings.Contains(o.Error, "memory.stat: no decimal number in line \"file many\"") || o.Freed != 0 {
		t.Errorf("%+v", o)
	}
	x.file("/stat", "cgroup.stat", "nr_dying")
	e.Teardown("/stat/s.scope", time.Now())
	if o := e.outcome(); !strings.Contains(o.Error, "cgroup.stat: the file ends in line \"nr_dying\"") || len(o.Latency) != 0 {
		t.Errorf("%+v", o)
	}
	var verdicts []Verdict
	for _, p := range e.Status().Pinned {
		verdicts = append(verdicts, Verdict(p.Ancestor))
	}
	if slices.Contains(verdicts, "/memory") {
		t.Errorf("broken is not pinned: %v", verdicts)
	}
}

func TestEngineV1Sweep(t *testing.T) {
	x := newFixture(t)
	e := NewEngine(EngineOptions{Hierarchy: Hierarchy{Mode: Legacy}, FS: x.fs, Config: testConfig()})
	e.beginSweep(t.Context(), SweepRequest{Under: "/"}, time.Now(), func(_ SweepResult, err error) {
		if !errors.Is(err, ErrV1Sweep) {
			t.Error(err)
		}
	})
}

// TestEngineThreshold: a sweep begins when the dying count has grown by the
// threshold since the last one, and not again for those that it left.
// TestLastResort: the machine's caches are dropped once an hour at most, and only where
// a sweep has left more than the policy allows.
func TestLastResort(t *testing.T) {
	cfg := testConfig()
	cfg.DropCaches = 100
	e := NewEngine(EngineOptions{Config: cfg})
	e.drop = filepath.Join(t.TempDir(), "drop_caches")
	for _, c := range []struct {
		name        string
		left, freed int64
		later       time.Duration
		off, drops  bool
	}{
		{name: "as many as are allowed", left: 100},
		{name: "the sweep freed more", left: 101, freed: 51},
		{name: "not in the policy", left: 101, off: true},
		{name: "more", left: 101, freed: 50, drops: true},
		{name: "at once", left: 101},
		{name: "less than an hour later", left: 101, later: dropEvery - time.Minute},
		{name: "an hour later", left: 101, later: dropEvery, drops: true},
	} {
		if err := os.WriteFile(e.drop, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		e.cfg.DropCaches = cfg.DropCaches
		if c.off {
			e.cfg.DropCaches = 0
		}
		if c.later > 0 {
			e.dropped = time.Now().Add(-c.later)
		}
		e.lastResort(SweepResult{DyingAfter: c.left, Freed: c.freed})
		want := ""
		if c.drops {
			want = "3"
		}
		if got, err := os.ReadFile(e.drop); err != nil || string(got) != want {
			t.Errorf("%s: wrote %q, want %q (%v)", c.name, got, want, err)
		}
	}
}

func TestEngineThreshold(t *testing.T) {
	t.Parallel()
	x := newFixture(t)
	cfg := testConfig()
	cfg.SweepThreshold = 10
	r := x.engine(t, cfg)
	if err := r.Engine.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dying int64
		sweep bool
	}{{0, false}, {9, false}, {10, true}, {19, false}, {20, true}, {3, false}, {12, false}, {13, true}} {
		x.file("/", "cgroup.stat", cgroupStatText(c.dying))
		r.sweeps, r.censuses = nil, nil // the last one is over
		r.countNow(t.Context(), time.Now())
		if began := r.sweeping(); began != c.sweep {
			t.Errorf("%d dying: a sweep began: %v", c.dying, began)
		}
	}
	x.file("/", "cgroup.stat", "garbage\n")
	r.sweeps, r.censuses = nil, nil
	r.countNow(t.Context(), time.Now())
	r.timedSweep(t.Context(), time.Now())
	if r.sweeping() {
		t.Error("garbage began a sweep")
	}
}
