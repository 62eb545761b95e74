package reclaim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (e *engineRun) pinnedNow() (all []string) {
	for _, p := range e.Status().Pinned {
		all = append(all, fmt.Sprintf("%s=%d", p.Ancestor, p.Dying))
	}
	slices.Sort(all)
	return all
}

func (e *engineRun) outcomeOf(ancestor string) Outcome {
	e.t.Helper()
	for {
		if o := e.outcome(); o.Ancestor == ancestor {
			return o
		}
	}
}

func (e *engineRun) sweep(under string) SweepResult {
	e.t.Helper()
	r, err := e.Sweep(e.t.Context(), SweepRequest{Under: under})
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

// pinnedEngine has given up on what is pinned below /user/u0 to u2, one each.
func pinnedEngine(t *testing.T, c Config) (*fakeKernel, *engineRun) {
	k := newFakeKernel(t)
	k.add("/user", 0)
	for i := range 3 {
		k.pin(k.add(fmt.Sprint("/user/u", i), 0), 1)
	}
	c.RetryMax = time.Millisecond
	e := k.engine(t, c).start()
	e.sweep("/")
	if d := cmp.Diff([]string{"/user/u0=1", "/user/u1=1", "/user/u2=1"}, e.pinnedNow()); d != "" {
		t.Fatal(d)
	}
	return k, e
}

// TestPinnedTornDown: what was pinned below cgroups that are gone counts once,
// below the ancestor that has it now.
func TestPinnedTornDown(t *testing.T) {
	t.Parallel()
	k, e := pinnedEngine(t, testConfig())
	for i := range 3 {
		u := fmt.Sprint("/user/u", i)
		k.removeLive(u)
		e.Teardown(u, time.Now())
	}
	// Each counts with its user, which died too.
	waitFor(t, "all of them below /user", func() bool { return slices.Equal(e.pinnedNow(), []string{"/user=6"}) })
}

// TestPinnedGone: of what nobody told is gone, a census forgets the pins.
func TestPinnedGone(t *testing.T) {
	t.Parallel()
	k, e := pinnedEngine(t, testConfig())
	k.removeLive("/user/u0")
	e.sweep("/user")
	if d := cmp.Diff([]string{"/user/u1=1", "/user/u2=1", "/user=2"}, e.pinnedNow()); d != "" {
		t.Error(d)
	}
	// Freed by whoever held it, without a turn of ours.
	k.mu.Lock()
	k.cgroups["/user/u1"].dying, k.cgroups["/user/u1"].pinned = 0, 0
	k.publish()
	k.mu.Unlock()
	e.sweep("/user/u2") // says nothing of the others
	if d := cmp.Diff([]string{"/user/u1=1", "/user/u2=1", "/user=2"}, e.pinnedNow()); d != "" {
		t.Error(d)
	}
	r := e.sweep("/")
	if d := cmp.Diff([]string{"/user/u2=1", "/user=2"}, e.pinnedNow()); d != "" || r.DyingAfter != 3 {
		t.Errorf("%d dying; pinned:\n%s", r.DyingAfter, d)
	}
}

// TestPinnedAncestorVanishes: an entry whose ancestor is gone when its turn comes
// takes the pins there along.
func TestPinnedAncestorVanishes(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.Debounce = time.Second
	k, e := pinnedEngine(t, c)
	e.Teardown("/user/u0/s.scope", time.Now())
	queued := make(chan bool)
	e.Ping(func() { queued <- e.queue.entries["/user/u0"] != nil })
	if !<-queued {
		t.Fatal("not queued for its parent")
	}
	k.removeLive("/user/u0")
	e.outcomeOf("/user")
	if got := e.pinnedNow(); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "/user/u0=") }) {
		t.Errorf("pinned below a cgroup that is gone: %v", got)
	}
}

// TestPinnedOfAnother: what was pinned below a cgroup of the same path hides
// nothing: a session whose memcg is dying is not told freed.
func TestPinnedOfAnother(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/user", 0)
	k.pin(k.add("/user/u1", 0), 50)
	c := testConfig()
	c.RetryMax = time.Millisecond
	e := k.engine(t, c).start()
	e.sweep("/")
	// The user logs out and in again before anything of it is looked at.
	k.removeLive("/user/u1")
	k.add("/user/u1", 0)
	k.add("/user/u1/live", 4096)
	k.pin("/user/u1", 3)
	for i := range 3 {
		e.Teardown(fmt.Sprintf("/user/u1/s%d.scope", i), time.Now())
	}
	o := e.outcomeOf("/user/u1")
	for o.DyingBefore != 3 { // that of the sweep
		o = e.outcomeOf("/user/u1")
	}
	if o.Freed != 0 || o.DyingAfter != 3 || len(o.Latency) != 0 {
		t.Errorf("3 teardowns, all dying: %+v", o)
	}
	if n := e.Status().Totals.Latency.Count; n != 0 {
		t.Errorf("%d are told freed", n)
	}
}

// TestPinnedFewer: no more are pinned than a census finds, whether or not its
// sweep comes to them.
func TestPinnedFewer(t *testing.T) {
	r := drive(t, newFixture(t))
	began := time.Now()
	for p, at := range map[string]time.Time{"/a": began.Add(-1), "/b": began.Add(1), "/c": began.Add(-1), "/d": began.Add(1)} {
		r.pinned[p] = pinned{Pinned{Ancestor: p, Dying: 9}, 7, at}
	}
	r.forgetGone("/", []found{{Ancestor{Path: "/a", Direct: 4}, 7, ""}, {Ancestor{Path: "/b", Direct: 4}, 7, ""}, {Ancestor{Path: "/c", Direct: 9}, 8, ""}}, began)
	if d := cmp.Diff([]string{"/a=4", "/b=9", "/d=9"}, r.pinnedNow()); d != "" {
		t.Error(d)
	}
}

// TestKnownGone: what is remembered of ancestors goes with them.
func TestKnownGone(t *testing.T) {
	t.Parallel()
	x := wideFixture(t, 50)
	e := x.engine(t, testConfig()).start()
	e.sweep("/")
	size := func() (n [3]int) {
		got := make(chan struct{})
		e.Ping(func() { n = [3]int{len(e.known), len(e.queue.entries), len(e.queue.owners)}; close(got) })
		<-got
		return n
	}
	if n := size(); n[0] != 50 || n[1] != 0 {
		t.Fatalf("knows and has queued %v", n)
	}
	for i := range 50 {
		x.remove(fmt.Sprintf("/user/%05d", i))
	}
	x.file("/", "cgroup.stat", cgroupStatText(5))
	x.cgroup("/user", 5, 0) // five are left of them
	x.file("/user", "cgroup.subtree_control", "\n")
	e.sweep("/")
	if n := size(); n[0] != 1 || n[1] != 0 || n[2] > 2 {
		t.Errorf("knows and has queued %v", n)
	}
	x.cgroup("/user", 0, 0)
	x.file("/", "cgroup.stat", cgroupStatText(0))
	done := make(chan struct{})
	e.Ping(func() { e.timedSweep(t.Context(), time.Now()); close(done) }) // one read
	<-done
	if n := size(); n[0] != 0 {
		t.Errorf("nothing is dying, and it knows %v", n)
	}
}

// TestLeftAfterCensus: a census that sees a user's slice gone before its teardown
// is taken in does not have what hung below it told again.
func TestLeftAfterCensus(t *testing.T) {
	k := newFakeKernel(t)
	k.add("/user", 0)
	k.die(k.add("/user/u1", 0), 4, testMiB)
	r := drive(t, k.fixture)
	r.learnKnown(t.Context())
	k.removeLive("/user/u1")
	_, list, err := r.tree.censusAtOnce(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	r.forgetGone("/", list, time.Now())
	en := r.queue.teardown("/user", time.Now(), time.Now(), 0)
	en.tore("/user/u1")
	r.identify(en)
	r.tellLeft(en, 5)
	if l := r.left(); l.Dying != 1 {
		t.Errorf("%+v, want the slice alone", l)
	}
}

// TestBeyond: of what v1's hold could not free, no more is told than is dying.
func TestBeyond(t *testing.T) {
	at := func(name string, n int64, s int) pinned {
		return pinned{Pinned: Pinned{Ancestor: name, Dying: n}, at: after(time.Duration(s) * time.Second)}
	}
	all := []pinned{at("new", 1, 9), at("old", 1, 1), at("mid", 2, 5)}
	for dying, want := range map[int64][]string{4: nil, 9: nil, 3: {"old"}, 2: {"mid", "old"}, 0: {"new", "mid", "old"}} {
		if d := cmp.Diff(want, beyond(slices.Clone(all), dying)); d != "" {
			t.Errorf("%d dying: %s", dying, d)
		}
	}
}

// TestTellableBetweenWrites: a process that comes into a deserted cgroup between
// two writes is the living's, and nothing more is written.
func TestTellableBetweenWrites(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/p", 0)
	k.die("/p", 4, 8*mostAtOnce)
	k.file("/p", "cgroup.subtree_control", "\n")
	k.file("/p", "cgroup.events", "populated 0\nfrozen 0\n")
	e := k.engine(t, testConfig())
	e.opts.OnWrite = func(time.Duration) {
		k.answer()
		k.file("/p", "cgroup.events", "populated 1\nfrozen 0\n")
	}
	e.start().Teardown("/p/s.scope", time.Now())
	if o := e.outcome(); o.Verdict != NoController || k.answered() != 1 {
		t.Errorf("after %d writes: %+v", k.answered(), o)
	}
}

// TestLeftOfAnother: what was dying below an earlier cgroup of the same path is
// not taken off what a teardown leaves.
func TestLeftOfAnother(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/u", 3, 0)
	r := drive(t, x)
	r.known["/u"] = known{dying: 9, id: 1, at: time.Now()}
	en := r.queue.teardown("/u", time.Now(), time.Now(), 0)
	en.tore("/u/s.scope")
	r.identify(en)
	r.tellLeft(en, 3)
	if l := r.left(); l.Dying != 3 {
		t.Errorf("%+v", l)
	}
}

func TestOutcomeWords(t *testing.T) {
	o := Outcome{Verdict: NearLimit}
	if got := o.Words(); got != NearLimit.Words() {
		t.Error(got)
	}
	o.fail(errors.New("no space left"))
	if got := o.Words(); got != "failed: no space left" {
		t.Error(got)
	}
}
