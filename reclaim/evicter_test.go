package reclaim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeEvicter answers as a test says, and keeps what it was asked.
type fakeEvicter struct {
	answer func(context.Context, EvictRequest) (Evicted, error)

	mu    sync.Mutex
	asked []EvictRequest
}

func (f *fakeEvicter) Evict(ctx context.Context, r EvictRequest) (Evicted, error) {
	f.mu.Lock()
	f.asked = append(f.asked, r)
	f.mu.Unlock()
	return f.answer(ctx, r)
}

func (f *fakeEvicter) requests() []EvictRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]EvictRequest{}, f.asked...)
}

// v1Engine is an engine over a v1 tree that holds nothing.
func v1Engine(t *testing.T, c Config, f *fakeEvicter) *engineRun {
	t.Helper()
	if _, err := v1ReadRow(); err != nil {
		t.Skip(err)
	}
	x := newFixture(t)
	for _, name := range []string{"/system.slice", "/user.slice/user-1.slice"} {
		x.cgroup(name, 0, 0)
	}
	e := x.engine(t, c)
	e.opts.Hierarchy.Mode = Legacy
	if f != nil {
		e.opts.Evicter = f
	}
	return e
}

// A process that has kept to its share leaves a debt of its last minute only.
func TestLately(t *testing.T) {
	for _, x := range []struct{ cpu, wall, want time.Duration }{
		{time.Second, 0, time.Second},
		{3 * time.Second, time.Minute, 3 * time.Second},
		{30 * time.Second, 10 * time.Minute, 3 * time.Second},
	} {
		if got := lately(x.cpu, x.wall); got != x.want {
			t.Errorf("%v in %v: %v, want %v", x.cpu, x.wall, got, x.want)
		}
	}
}

// A v1 sweep is an eviction, and its answer is what is counted everywhere.
func TestEvictSweepV1(t *testing.T) {
	t.Parallel()
	f := &fakeEvicter{answer: func(context.Context, EvictRequest) (Evicted, error) {
		return Evicted{Before: 30, After: 2, Freed: 28, Asked: 9 * 4096, Gone: 8 * 4096, CPU: time.Second,
			Left: map[EvictLeft]int64{LeftShmem: 4096, LeftMapped: 8192, LeftKernel: 100}}, nil
	}}
	c := testConfig()
	c.Share, c.IgnoreGlobs = 0.5, []string{"/machine.slice/**"}
	e := v1Engine(t, c, f).start()
	r, err := e.Sweep(t.Context(), SweepRequest{Under: "/user.slice"})
	if err != nil || r.DyingBefore != 30 || r.DyingAfter != 2 || r.Freed != 28 || r.Bytes != 8*4096 || r.CPU != time.Second || len(r.Outcomes) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	o := e.outcome()
	if o.Ancestor != "/user.slice" || o.Verdict != MayReap || o.Freed != 28 || o.Bytes != 8*4096 || len(o.Pins) != 3 || o.Pins[0] != (Pin{PinnedShmem, 4096}) {
		t.Errorf("%+v", o)
	}
	s := e.Status()
	if tot := s.Totals; tot.Freed != 28 || tot.Bytes != 8*4096 || tot.CPU < time.Second || tot.Sweeps != 1 || tot.LastReap.IsZero() || !s.Eviction.OK() {
		t.Errorf("%+v", s)
	}
	if q := f.requests(); len(q) != 1 || q[0].Under != "/user.slice" || q[0].Share != 0.25 || len(q[0].Ignore) != 1 {
		t.Errorf("%+v", q)
	}
	// The CPU time of the other process counts: a second of ten is gone.
	if level := e.budget.Level(time.Now()); level > 9900*time.Millisecond {
		t.Errorf("the budget has %v", level)
	}
	if _, err := e.Sweep(t.Context(), SweepRequest{Under: "/gone.slice"}); err == nil {
		t.Error("a cgroup that is not there can be swept")
	}
}

// A sweep for which one request has not the time ends with the last one, and has what all
// have done.
func TestEvictSweepInRounds(t *testing.T) {
	t.Parallel()
	answers := []Evicted{
		{Before: 30, After: 20, Freed: 10, Gone: 10 * 4096, CPU: time.Millisecond, More: true},
		{Before: 20, After: 1, Freed: 19, Gone: 20 * 4096, CPU: time.Millisecond, Left: map[EvictLeft]int64{LeftShmem: 4096}},
	}
	f := &fakeEvicter{}
	f.answer = func(context.Context, EvictRequest) (Evicted, error) {
		return answers[min(len(f.requests()), len(answers))-1], nil
	}
	e := v1Engine(t, testConfig(), f).start()
	r := e.sweep("/user.slice")
	if r.DyingBefore != 30 || r.DyingAfter != 1 || r.Freed != 29 || r.Bytes != 30*4096 || r.CPU != 2*time.Millisecond || len(r.Outcomes) != 1 {
		t.Errorf("%+v", r)
	}
	if o := r.Outcomes[0]; o.DyingBefore != 30 || o.Freed != 29 || len(o.Pins) != 1 {
		t.Errorf("%+v", o)
	}
	if tot := e.Status().Totals; tot.Freed != 29 || tot.Bytes != 30*4096 {
		t.Errorf("%+v", tot)
	}
}

// Where there is always more, a sweep ends all the same; one for whom nobody waits has
// nothing done for it.
func TestEvictSweepEnds(t *testing.T) {
	t.Parallel()
	e, now := v1Engine(t, testConfig(), &fakeEvicter{}), time.Now()
	ends := 0
	job := &sweepJob{ctx: t.Context(), req: SweepRequest{Under: "/user.slice"}, began: now, pending: map[string]bool{evictPending: true},
		end: func(r SweepResult, err error) {
			if ends++; err != nil || r.Freed != evictRow || len(r.Outcomes) != 1 || len(r.Outcomes[0].Pins) != 0 {
				t.Errorf("%+v, %v", r, err)
			}
		}}
	gone := &sweepJob{ctx: t.Context(), pending: map[string]bool{evictPending: true}}
	e.sweeps = []*sweepJob{job}
	for n := range evictRow {
		e.evict.jobs = nil
		e.evicted(evictBatch{under: "/user.slice", jobs: []*sweepJob{job, gone}}, Evicted{Before: 9, After: 8, Freed: 1, More: true}, nil, now)
		if last := n == evictRow-1; (ends == 1) != last || (len(e.evict.jobs) == 0) != last {
			t.Fatalf("answer %d: ended %d times, waiting %d", n, ends, len(e.evict.jobs))
		}
	}
}

// Under pressure an eviction has the part of the budget that all reaping has.
func TestEvictGivesWay(t *testing.T) {
	t.Parallel()
	f := &fakeEvicter{answer: func(context.Context, EvictRequest) (Evicted, error) { return Evicted{}, nil }}
	c := testConfig()
	c.Share, c.Pressure = 0.5, PressureLimits{Memory: 20, IO: 60}
	e := v1Engine(t, c, f)
	setPressure(t, e.opts.Pressure.Proc, "memory", psi("90.00"))
	if _, err := e.start().Sweep(t.Context(), SweepRequest{Under: "/user.slice"}); err != nil {
		t.Fatal(err)
	}
	if q := f.requests(); len(q) != 1 || q[0].Share != 0.5*givenPart/2 {
		t.Errorf("%+v", q)
	}
}

// Teardowns that come while a walk is under way have one of their own together, not
// sooner than evictEvery after it; the engine answers meanwhile.
func TestEvictFolds(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var begun []time.Time
	f := &fakeEvicter{answer: func(ctx context.Context, _ EvictRequest) (Evicted, error) {
		begun = append(begun, time.Now())
		select {
		case <-release:
		case <-ctx.Done():
		}
		return Evicted{Before: 1, Freed: 1}, nil
	}}
	e := v1Engine(t, testConfig(), f).start()
	e.Teardown("/system.slice/a.service", time.Now())
	waitFor(t, "the first walk", func() bool { return len(f.requests()) == 1 })
	for i := range 100 {
		e.Teardown(fmt.Sprintf("/user.slice/user-1.slice/session-%d.scope", i), time.Now())
	}
	e.Teardown("/user.slice/user-2.slice", time.Now()) // its slice has gone, too
	alive := make(chan struct{})
	e.Ping(func() { close(alive) })
	select {
	case <-alive:
	case <-time.After(time.Minute):
		t.Fatal("the reaping thread waits for the other process")
	}
	ended := time.Now()
	close(release)
	waitFor(t, "the second walk", func() bool { return e.Status().Totals.Freed == 2 })
	if q := f.requests(); len(q) != 2 || q[0].Under != "/system.slice" || q[1].Under != "/user.slice" {
		t.Errorf("%+v", q)
	}
	if d := begun[1].Sub(ended); d < evictEvery {
		t.Errorf("the second walk begins %v after the first", d)
	}
}

// What ends on v1 without a word to systemd is seen by the machine's count: a walk for
// each time it has grown, and none for what stays.
func TestEvictUnseen(t *testing.T) {
	e := v1Engine(t, testConfig(), &fakeEvicter{})
	cfg, now := e.config(), time.Now()
	for i, x := range []struct {
		dying int64
		walk  bool
	}{{0, false}, {3, true}, {3, false}, {2, false}, {4, true}} {
		e.evict.due, e.evict.under = time.Time{}, ""
		e.evictUnseen(x.dying, cfg, now)
		if walk := !e.evict.due.IsZero() && e.evict.under == "/"; walk != x.walk {
			t.Errorf("%d: %d dying: a walk is due: %v", i, x.dying, walk)
		}
	}
	cfg.Evict = false
	e.evict.due = time.Time{}
	if e.evictUnseen(100, cfg, now); !e.evict.due.IsZero() {
		t.Error("a walk is due though the policy wants none")
	}
}

// Dirty pages are tried again once they may have been written back.
func TestEvictDirtyAgain(t *testing.T) {
	t.Parallel()
	e := v1Engine(t, testConfig(), &fakeEvicter{})
	now := time.Now()
	for try := range evictDirtyTries + 1 {
		e.evict.under, e.evict.due = "", time.Time{}
		e.evicted(evictBatch{under: "/user.slice"}, Evicted{Before: 1, After: 1, Left: map[EvictLeft]int64{LeftDirty: 4096}}, nil, now)
		want := evictDirtyAgain
		if try == 0 {
			want = evictWritten
		}
		if again := e.evict.due; (try < evictDirtyTries) != again.Equal(now.Add(want)) {
			t.Errorf("try %d: again at %v", try, again)
		}
	}
	e.evictTorn("/user.slice/user-1.slice/session-1.scope", now)
	if e.evict.tries != 0 || e.evict.under != "/user.slice/user-1.slice" || e.evict.due.Sub(now) != evictEvery {
		t.Errorf("%+v", &e.evict)
	}
}

// A walk that waits is not begun once the policy forbids it.
func TestEvictForbidden(t *testing.T) {
	t.Parallel()
	f := &fakeEvicter{answer: func(context.Context, EvictRequest) (Evicted, error) { return Evicted{}, nil }}
	e := v1Engine(t, testConfig(), f)
	now := time.Now()
	e.evictTorn("/user.slice/user-1.slice/session-1.scope", now)
	if e.evict.due.IsZero() {
		t.Fatal("no walk is wanted")
	}
	c := testConfig()
	c.Evict = false
	e.SetConfig(c)
	e.evictNow(t.Context(), e.evict.due)
	if e.evict.busy || len(f.requests()) > 0 || !e.evict.due.IsZero() {
		t.Errorf("%+v", &e.evict)
	}
}

// Where there is no eviction a v1 sweep says why, and nobody is asked again for
// every teardown.
func TestEvictOff(t *testing.T) {
	t.Parallel()
	off := &EvictOffError{Reason: "no-btf", Why: "no BTF here"}
	for name, err := range map[string]error{"off": off, "failed": errors.New("no BTF here"), "policy": nil} {
		t.Run(name, func(t *testing.T) {
			f := &fakeEvicter{answer: func(context.Context, EvictRequest) (Evicted, error) { return Evicted{}, err }}
			c := testConfig()
			c.Evict = err != nil
			e := v1Engine(t, c, f).start()
			for range 2 {
				_, got := e.Sweep(t.Context(), SweepRequest{Under: "/"})
				if !errors.Is(got, ErrV1Sweep) || strings.Contains(got.Error(), "no BTF here") != (err != nil) {
					t.Errorf("%v", got)
				}
			}
			e.Teardown("/system.slice/a.service", time.Now())
			alive := make(chan struct{})
			e.Ping(func() { close(alive) })
			<-alive
			s := e.Status()
			if c.Evict && (len(f.requests()) != 1 || s.Eviction.Why != "no BTF here" || s.Eviction.OK()) {
				t.Errorf("asked %d times, %+v", len(f.requests()), s.Eviction)
			}
			if !c.Evict && (len(f.requests()) != 0 || s.Eviction != (Ability{})) {
				t.Errorf("the policy says no: asked %d times, %+v", len(f.requests()), s.Eviction)
			}
		})
	}
}

// On v2 it is for ancestors that no shield can serve, and goes first where the kernel
// keeps stale protection; the kernel's own count says what went.
func TestEvictV2(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, ancestor string
		err            error
		want           Verdict
	}{
		{"controller off", "/p", nil, MayReap},
		{"root", "/", nil, MayReap},
		{"dirty", "/p", nil, MayReap},
		{"stale", "/p", nil, MayReap},
		{"fails", "/p", errors.New("does not work"), NoController},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newFakeKernel(t)
			k.add("/p", 0)
			k.add("/p/live", 4096)
			if c.ancestor == "/p" {
				k.add("/q", 0)
				k.die("/q", 3, testMiB)
				k.die("/p", 5, 4096)
				k.pin("/p", 1)
				if c.name != "stale" {
					k.file("/p", "cgroup.subtree_control", "\n")
				}
			} else {
				k.add("/", 0)
				k.file("/", "cgroup.subtree_control", "memory\n")
				k.die("/", 5, 4096)
				k.pin("/", 1)
			}
			f, asks := &fakeEvicter{}, 0
			f.answer = func(_ context.Context, r EvictRequest) (Evicted, error) {
				if c.err != nil {
					return Evicted{}, c.err
				}
				if asks++; asks == 1 && c.name == "dirty" {
					left := map[EvictLeft]int64{LeftDirty: 4096}
					return Evicted{Before: 6, After: 6, Left: left, Below: map[string]EvictedBelow{r.Under: {After: 6, Left: left}}}, nil
				}
				k.mu.Lock()
				defer k.mu.Unlock()
				g := k.cgroups[r.Under]
				g.dying, g.dead = g.pinned, 0
				k.publish()
				left := map[EvictLeft]int64{LeftShmem: 8192}
				return Evicted{Before: 6, After: 1, Freed: 5, Gone: 4096, CPU: time.Millisecond, Left: left,
					Below: map[string]EvictedBelow{r.Under: {After: 1, Gone: 4096, Left: left}}}, nil
			}
			e := k.engine(t, testConfig())
			if c.name == "stale" {
				e.opts.Abilities.FreshProtection = Ability{State: No}
			}
			e.opts.Evicter = f
			e.start()
			e.Teardown(strings.TrimSuffix(c.ancestor, "/")+"/s.scope", time.Now())
			o := e.outcome()
			if o.Ancestor != c.ancestor || o.Verdict != c.want {
				t.Errorf("%+v", o)
			}
			tot := e.Status().Totals
			if c.err != nil {
				if o.Freed != 0 || tot.Freed != 0 || len(f.requests()) != 1 {
					t.Errorf("%+v, %+v", o, tot)
				}
				return
			}
			if o.DyingBefore != 6 || o.DyingAfter != 1 || o.Freed != 5 || o.Bytes != 4096 || len(o.Pins) != 1 || o.Pins[0] != (Pin{PinnedShmem, 8192}) {
				t.Errorf("%+v", o)
			}
			if p := e.Status().Pinned; tot.Freed != 5 || tot.Bytes != 4096 || len(p) != 1 || p[0].Dying != 1 {
				t.Errorf("%+v, pinned %+v", tot, p)
			}
			want := 1
			if c.name == "dirty" {
				want = 2
			}
			if q := f.requests(); len(q) != want || q[0].Under != c.ancestor || k.answered() != 0 {
				t.Errorf("asked %+v, wrote %d times", q, k.answered())
			}
		})
	}
}

// What an answer leaves to do, or what has failed, is asked for again; not what the
// machine does not allow.
func TestEvictAgain(t *testing.T) {
	for _, x := range []struct {
		name string
		r    Evicted
		err  error
		want time.Duration // 0: not again
	}{
		{"all", Evicted{Gone: 4096}, nil, 0},
		{"more", Evicted{Gone: 4096, More: true}, nil, evictEvery},
		{"more, and nothing has gone so far", Evicted{More: true}, nil, evictEvery},
		{"failed", Evicted{CPU: time.Second}, errors.New("no such file or directory"), evictFailedAgain + time.Second},
		{"not allowed", Evicted{}, &EvictOffError{Reason: "no-btf"}, 0},
	} {
		e, now := v1Engine(t, testConfig(), &fakeEvicter{}), time.Now()
		e.evicted(evictBatch{under: "/user.slice"}, x.r, x.err, now)
		if got := e.evict.due; got.IsZero() != (x.want == 0) || x.want > 0 && (!got.Equal(now.Add(x.want)) || e.evict.under != "/user.slice") {
			t.Errorf("%s: %v, in %v", x.name, e.evict.under, got.Sub(now))
		}
	}
	e, now := v1Engine(t, testConfig(), &fakeEvicter{}), time.Now()
	e.evicted(evictBatch{}, Evicted{}, &EvictOffError{Reason: "untried", Again: true}, now)
	if e.evict.ability.State != Unknown || e.evict.off.After(now.Add(evictFailedAgain)) {
		t.Errorf("%+v until %v", e.evict.ability, e.evict.off.Sub(now))
	}
}

// What an answer makes of an ancestor that waits for it (v2).
func TestEvictedV2(t *testing.T) {
	dirty := EvictedBelow{After: 1, Gone: 4096, Left: map[EvictLeft]int64{LeftDirty: 4096}}
	for _, x := range []struct {
		name    string
		r       Evicted
		err     error
		waits   bool // for the next walk by now
		phase   phase
		evicted bool // not once more
		left    bool // what it left is known
	}{
		{"all", Evicted{Gone: 4096, Below: map[string]EvictedBelow{"/p": {After: 1, Gone: 4096}}}, nil, false, phaseSettle, true, true},
		{"dirty", Evicted{Gone: 4096, Below: map[string]EvictedBelow{"/p": dirty}}, nil, false, phaseTurn, true, true},
		{"dirty again", Evicted{Gone: 4096, Below: map[string]EvictedBelow{"/p": dirty}}, nil, false, phaseTurn, false, true},
		{"of others", Evicted{Gone: 4096}, nil, false, phaseSettle, true, false},
		{"more", Evicted{Gone: 4096, More: true, Below: map[string]EvictedBelow{"/p": dirty}}, nil, false, phaseEvict, false, false},
		{"more, and nothing has gone so far", Evicted{More: true}, nil, false, phaseEvict, false, false},
		{"more, and it has had its row", Evicted{More: true, Below: map[string]EvictedBelow{"/p": {Gone: 4096}}}, nil, false, phaseSettle, true, false},
		{"failed", Evicted{}, errors.New("no"), false, phaseTurn, true, false},
		{"of an earlier walk", Evicted{Gone: 4096}, nil, true, phaseEvict, false, false},
	} {
		k := newFakeKernel(t)
		k.add("/p", 0)
		e, now := drive(t, k.fixture), time.Now()
		en := e.queue.add(&entry{path: "/p", phase: phaseEvict, due: now.Add(time.Hour)})
		if x.name == "dirty again" {
			en.tries = 1
		}
		if strings.HasSuffix(x.name, "its row") {
			en.row = evictRow
		}
		if x.waits {
			e.evict.entries = []string{"/p"}
		}
		e.evicted(evictBatch{under: "/p", entries: []string{"/p"}}, x.r, x.err, now)
		if en.phase != x.phase || en.evicted != x.evicted || (en.evictLeft != nil) != x.left {
			t.Errorf("%s: phase %d, evicted %v, left %+v", x.name, en.phase, en.evicted, en.evictLeft)
		}
		if x.name == "more" && (len(e.evict.entries) != 1 || e.evict.due.IsZero() || en.out.Bytes != 4096) {
			t.Errorf("%s: %+v, %+v", x.name, &e.evict, en.out)
		}
	}
}

// Under a stream of teardowns, each of which asks for an eviction, what that leaves has
// its turn, too.
func TestEvictRow(t *testing.T) {
	k := newFakeKernel(t)
	k.add("/p", 0)
	c := testConfig()
	e, now := drive(t, k.fixture), time.Now()
	e.opts.Evicter = &fakeEvicter{}
	c.Evict = true
	en := e.queue.teardown("/p", now, now, 0)
	for n := range evictRow + 1 {
		if first := e.awaitEviction(en, c); first != (n < evictRow) {
			t.Fatalf("%d evictions in a row: another %v", n, first)
		}
		b := evictBatch{under: "/p", entries: e.evict.entries}
		e.evict.entries = nil
		e.evicted(b, Evicted{Below: map[string]EvictedBelow{"/p": {After: 1}}}, nil, now)
		en = e.queue.teardown("/p", now, now, 0)
	}
	// Where none is possible any more, nothing is known of what is left.
	en.evictLeft = &EvictedBelow{}
	e.evict.off = now.Add(time.Hour)
	if e.awaitEviction(en, c) || en.evictLeft != nil {
		t.Errorf("%+v", en)
	}
}

// TestEvictEndsWaiting: a turn that waited for a reload before an eviction has not
// waited for the one after it.
func TestEvictEndsWaiting(t *testing.T) {
	e := NewEngine(EngineOptions{Evicter: &fakeEvicter{}, Hierarchy: Hierarchy{Mode: Unified}, Config: testConfig()})
	en := e.queue.add(&entry{path: "/u", due: t0, awaits: t0})
	if !e.awaitEviction(en, e.config()) || !en.awaits.IsZero() {
		t.Errorf("%+v", en)
	}
}

// TestEvictSweepForces: what an eviction has left, or could not be evicted at all, is
// force_emptied where the policy lets it, for as long as somebody waits.
func TestEvictSweepForces(t *testing.T) {
	for _, x := range []struct {
		name    string
		r       Evicted
		err     error
		forbids bool // the policy
		nobody  bool // waits
		forces  bool
		end     error
		ends    bool
	}{
		{name: "left", r: Evicted{Before: 2, After: 1, Freed: 1}, forces: true},
		{name: "failed", err: errors.New("no"), forces: true},
		{name: "none left", r: Evicted{Before: 2, Freed: 2}, ends: true},
		{name: "left, and the policy forbids it", r: Evicted{Before: 2, After: 1, Freed: 1}, forbids: true, ends: true},
		{name: "failed, and the policy forbids it", err: errors.New("no"), forbids: true, ends: true, end: ErrV1Sweep},
		{name: "failed, and nobody waits", err: errors.New("no"), nobody: true},
	} {
		c := testConfig()
		c.V1ForceEmpty = !x.forbids
		e, now := v1Engine(t, c, &fakeEvicter{}), time.Now()
		ends := 0
		job := &sweepJob{ctx: t.Context(), req: SweepRequest{Under: "/user.slice"}, began: now, total: 1, pending: map[string]bool{evictPending: true},
			end: func(_ SweepResult, err error) {
				if ends++; !errors.Is(err, x.end) {
					t.Errorf("%s: %v", x.name, err)
				}
			}}
		if !x.nobody {
			e.sweeps = []*sweepJob{job}
		}
		e.evicted(evictBatch{under: "/user.slice", jobs: []*sweepJob{job}}, x.r, x.err, now)
		en := e.queue.entries["/user.slice"]
		if forces := en != nil && en.phase == phaseForce && job.pending["/user.slice"] && !job.pending[evictPending]; forces != x.forces || (ends == 1) != x.ends {
			t.Errorf("%s: %+v, pending %v, ended %d times", x.name, en, job.pending, ends)
		}
		if left := len(e.sweeps); left != map[bool]int{true: 1}[x.forces] {
			t.Errorf("%s: %d sweeps are under way", x.name, left)
		}
	}
}

// TestForceSweptRoot: the root has no force_empty, so all at the top are emptied.
func TestForceSweptRoot(t *testing.T) {
	e := v1Engine(t, testConfig(), nil)
	job := &sweepJob{req: SweepRequest{Under: "/"}, pending: map[string]bool{}}
	e.forceSwept(job, time.Now())
	for _, top := range []string{"/system.slice", "/user.slice"} {
		if en := e.queue.entries[top]; en == nil || en.phase != phaseForce || !job.pending[top] {
			t.Errorf("%s: %+v", top, en)
		}
	}
	if job.total != 2 || len(e.queue.entries) != 2 {
		t.Errorf("%d of %d, %v", job.total, len(e.queue.entries), job.pending)
	}
}

// TestEvictNow: a walk waits for the budget, which is asked again soon; each serves the
// sweeps of one cgroup, and the rest has the next one.
func TestEvictNow(t *testing.T) {
	f := &fakeEvicter{answer: func(context.Context, EvictRequest) (Evicted, error) { return Evicted{}, nil }}
	e, now := v1Engine(t, testConfig(), f), time.Now()
	e.evict.due, e.evict.under, e.evict.took = now, "/", time.Second
	e.budget.Spend(time.Hour, now)
	e.evictNow(t.Context(), now)
	if e.evict.busy || !e.evict.due.Equal(now.Add(evictLookAgain)) {
		t.Errorf("without a budget: %+v", &e.evict)
	}
	e = v1Engine(t, testConfig(), f)
	var jobs []*sweepJob
	for _, under := range []string{"/system.slice", "/user.slice", "/system.slice"} {
		jobs = append(jobs, &sweepJob{req: SweepRequest{Under: under}})
	}
	e.evict.due, e.evict.under, e.evict.jobs = now, "/user.slice", slices.Clone(jobs)
	e.evictNow(t.Context(), now)
	if !e.evict.busy || len(e.evict.jobs) != 1 || e.evict.jobs[0] != jobs[1] || e.evict.under != "/user.slice" || !e.evict.due.Equal(now.Add(evictEvery)) {
		t.Errorf("%+v", &e.evict)
	}
	waitFor(t, "the request", func() bool { return len(f.requests()) == 1 })
	if q := f.requests()[0]; q.Under != "/system.slice" || !q.Look || !q.Write {
		t.Errorf("%+v", q)
	}
	if share, _ := e.given(e.config()); share != 0.5 || e.budget.share != share {
		t.Errorf("reaping beside it has a share of %v, its budget %v", share, e.budget.share)
	}
	// While it is under way the next one, which is due, neither begins nor wakes anybody.
	var fns []func(time.Time)
	waitFor(t, "the answer", func() bool { fns = e.takeInbox(); return len(fns) > 0 })
	e.thread, e.nextCount, e.evict.due = testThread(t), now.Add(time.Hour), now
	var wait time.Duration
	e.thread.Do(t.Context(), func() { wait = e.round(t.Context()) })
	if wait <= 0 {
		t.Errorf("it waits for %v while a walk is under way", wait)
	}
	// But whoever waits for a sweep hears of it.
	told := 0
	e.sweeps = []*sweepJob{{req: SweepRequest{Progress: func(SweepProgress) { told++ }}}}
	e.thread.Do(t.Context(), func() { wait = e.round(t.Context()) })
	if wait <= 0 || wait > evictProgress || told != 1 || len(f.requests()) != 1 {
		t.Errorf("told %d times, again in %v; %d requests", told, wait, len(f.requests()))
	}
	e.sweeps = nil
	if fns[0](now); e.evict.busy || e.budget.share != 1 {
		t.Errorf("after the answer the budget is %v", e.budget.share)
	}
}

// TestEvictVanished: where the cgroup has ended meanwhile, what waited is served from
// what is above it.
func TestEvictVanished(t *testing.T) {
	e, now := v1Engine(t, testConfig(), nil), time.Now()
	f := &fakeEvicter{answer: func(context.Context, EvictRequest) (Evicted, error) {
		err := e.opts.FS.Rmdir("/user.slice/new.slice")
		return Evicted{CPU: time.Second}, errors.Join(errors.New("no such file or directory"), err)
	}}
	e.opts.Evicter = f
	if err := e.opts.FS.Mkdir("/user.slice/new.slice"); err != nil {
		t.Fatal(err)
	}
	e.evict.due, e.evict.under, e.evict.entries = now, "/user.slice/new.slice", []string{"/user.slice/new.slice"}
	e.evictNow(t.Context(), now)
	var fns []func(time.Time)
	waitFor(t, "the answer", func() bool { fns = e.takeInbox(); return len(fns) > 0 })
	fns[0](now)
	if v := &e.evict; v.busy || v.under != "/user.slice" || len(v.entries) != 1 || !v.due.Equal(now.Add(evictEvery)) || v.took != time.Second || !v.off.IsZero() {
		t.Errorf("%+v", v)
	}
	if cpu := e.Status().Totals.CPU; cpu != time.Second {
		t.Errorf("its CPU time is not in the total: %v", cpu)
	}
}

// TestEvictNotInstead: what is near its limit, or ignored, does not wait for an eviction.
func TestEvictNotInstead(t *testing.T) {
	e := NewEngine(EngineOptions{Evicter: &fakeEvicter{}, Hierarchy: Hierarchy{Mode: Unified}, Config: testConfig()})
	for v, want := range map[Verdict]bool{AtRoot: true, NoController: true, NearLimit: false, Ignored: false, MonitorOnly: false, Vanished: false} {
		e.evict.entries = nil
		if got := e.evictInstead(&entry{path: "/p"}, v, e.config()); got != want || len(e.evict.entries) == 1 != want {
			t.Errorf("%s: %v, %v", v, got, e.evict.entries)
		}
	}
}

func TestEvictPins(t *testing.T) {
	for _, x := range []struct {
		after int64
		left  map[EvictLeft]int64
		want  []Pin
	}{
		{0, map[EvictLeft]int64{LeftShmem: 1}, nil},
		{1, map[EvictLeft]int64{LeftUnreachable: 4096}, []Pin{{Reason: PinnedUnknown}}},
		{1, map[EvictLeft]int64{LeftDirty: 1, LeftWriteback: 2, LeftSwap: 4, LeftAnon: 8}, []Pin{{PinnedSwap, 4}, {PinnedAnon, 8}, {PinnedDirty, 3}}},
	} {
		if got := evictPins(x.after, x.left); !slices.Equal(got, x.want) {
			t.Errorf("%d, %v: %v", x.after, x.left, got)
		}
	}
}
