package reclaim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeBait is a bait of which each write takes a part.
type fakeBait struct {
	laid   []string
	bytes  int64
	failed error  // of laying
	never  string // nowhere right below it
	lost   error  // of looking: the helper is gone
	kind   baitKind
	charge func() // tells where it lies
}

func (b *fakeBait) lay(parent string, bytes int64, kind baitKind) error {
	b.kind = kind
	if parent == b.never {
		return errNoBait
	}
	if b.failed != nil {
		return b.failed
	}
	b.take()
	b.laid, b.bytes = append(b.laid, parent), bytes
	b.charge()
	return nil
}
func (b *fakeBait) left() (int64, error) { return b.bytes, b.lost }
func (b *fakeBait) take()                { b.bytes = 0; b.charge() }
func (b *fakeBait) nudge() string        { return "" }
func (b *fakeBait) stop()                {}

// onStaleKernel has r work as where the kernel keeps stale protection. The
// kernel takes each request half from the bait and half from the dead of /p,
// which is told at each write what is protected.
func (x *fixture) onStaleKernel(r *reaper, fresh State, during func(asked int64)) *fakeBait {
	r.abil.FreshProtection = Ability{State: fresh}
	r.rough = func() bool { return true } // a refresh is one request
	live, dead := int64(8*testMiB), int64(4*testMiB)
	b := &fakeBait{}
	b.charge = func() { x.file("/p", "memory.current", fmt.Sprintln(live+dead+b.bytes)) }
	r.bait = b
	r.thread.onWrite = func(time.Duration) {
		var asked int64
		fmt.Sscan(x.read("/p", "memory.reclaim"), &asked)
		b.bytes -= min(asked/2, b.bytes)
		dead = max(dead-asked/2, 0)
		b.charge()
		x.file("/p", "memory.stat", memoryStatText(live+dead))
		during(asked)
	}
	return b
}

// turns gives turns until one is not cut short by the shield's life, as on a busy
// machine.
func (x *fixture) turns(r *reaper, ancestor string) (turn Turn, err error) {
	x.t.Helper()
	for turn.End = TurnMore; turn.End == TurnMore && err == nil; {
		turn, err = x.turn(x.t.Context(), r, ancestor, turnDefaults)
	}
	return turn, err
}

// TestTurnStaleKernel: where the kernel keeps stale protection, or where that is
// not known, nobody's memory.min is raised, and no more is asked for than half of
// what the bait has.
func TestTurnStaleKernel(t *testing.T) {
	for _, fresh := range []State{No, Unknown} {
		x, r := reaperFixture(t)
		var b *fakeBait
		writes := 0
		b = x.onStaleKernel(r, fresh, func(asked int64) {
			writes++
			if got := x.read("/p/a", "memory.min"); got != "0" {
				t.Errorf("%s: memory.min of the living is %s", fresh, got)
			}
			if got := x.read("/p/a", "memory.low"); got != covers(8) {
				t.Errorf("%s: memory.low of the living is %s, want %s", fresh, got, covers(8))
			}
			if had := b.bytes + asked/2; asked > had/baitPart {
				t.Errorf("%s: asked for %d of a bait of %d", fresh, asked, had)
			}
		})
		turn, err := x.turns(r, "/p")
		if err != nil || turn.End != TurnClean || turn.Baits == 0 || writes < 2 {
			t.Errorf("%s: %d writes, %+v, %v", fresh, writes, turn, err)
		}
		if b.bytes != 0 || len(b.laid) == 0 || slices.ContainsFunc(b.laid, func(p string) bool { return p != "/p" }) {
			t.Errorf("%s: bait %+v", fresh, b)
		}
		x.asBefore(r)
	}
}

// TestRefresh: the living's memory.low goes a little below their usage for a last
// request, once the kernel takes a bait for dead. Then it is as it was.
func TestRefresh(t *testing.T) {
	const alive = 2*baitPass - testPage // what a pass takes of a bait that it takes for a live cgroup
	for _, c := range []struct {
		name  string
		gives []int64 // what the bait gives of each request
		rough bool
		want  bool // the last is one without cover
		ok    bool
	}{
		{name: "dead at once", gives: []int64{baitPass, baitPass, baitPass}, want: true, ok: true},
		{name: "alive for two passes", gives: []int64{alive, alive - 10*testPage, baitPass, baitPass, baitPass}, want: true, ok: true},
		{name: "with swap", gives: []int64{23 * testPage, 23 * testPage, 23 * testPage}, want: true, ok: true},
		{name: "stocks first", gives: []int64{0, baitPass, baitPass, baitPass}, want: true, ok: true},
		{name: "others give as well", gives: []int64{testPage, testPage, baitPass, baitPass, baitPass}, want: true, ok: true},
		{name: "alive", gives: []int64{63 * testPage, 53 * testPage, 46 * testPage, 39 * testPage, 35 * testPage, 32 * testPage}},
		{name: "nothing at the last", gives: []int64{baitPass, baitPass, 0}, want: true},
		{name: "by other rules", gives: []int64{baitPass}, rough: true, ok: true},
	} {
		x, r := reaperFixture(t)
		asks, uncovered := 0, false
		var b *fakeBait
		b = x.onStaleKernel(r, No, func(asked int64) {
			if asked != baitPass || asks == len(c.gives) {
				t.Errorf("%s: asked for %d, after %d requests", c.name, asked, asks)
				return
			}
			b.bytes += asked/2 - c.gives[asks]
			asks++
			low := x.read("/p/a", "memory.low")
			if uncovered = low == fmt.Sprint(8*testMiB-refreshMargin*testPage); !uncovered && low != covers(8) {
				t.Errorf("%s: memory.low is %s", c.name, low)
			}
		})
		r.rough = func() bool { return c.rough }
		x.file("/p/a", "memory.max", fmt.Sprintln(9*testMiB))
		if done, err := x.refresh(r, "/p"); done != c.ok || (err == nil) != c.ok {
			t.Errorf("%s: %t, %v", c.name, done, err)
		}
		if uncovered != c.want || asks != len(c.gives) || !slices.Equal(b.laid, []string{"/p"}) || b.bytes != 0 {
			t.Errorf("%s: %d requests, at the last without cover: %t, %+v", c.name, asks, uncovered, b)
		}
		x.asBefore(r)
	}
}

// TestRefreshUsedUp: of a bait that is used up nothing more is asked for, which would be the living's.
func TestRefreshUsedUp(t *testing.T) {
	x, r := reaperFixture(t)
	b := x.onStaleKernel(r, No, func(int64) { t.Error("a request") })
	b.bytes = baitPart*baitPass - testPage
	r.thread.Do(t.Context(), func() {
		if n, err := r.bite("/p", newShield(r.tree, r.journal, r.thread, "memory.low", r.pagesize)); err == nil {
			t.Errorf("it gave %d", n)
		}
	})
}

// TestRefreshStripped: a pass that is to go behind a shield is not made without it.
func TestRefreshStripped(t *testing.T) {
	x, r := reaperFixture(t)
	b := x.onStaleKernel(r, No, func(int64) { t.Error("a request") })
	b.bytes = 2 * baitPart * baitPass
	s := newShield(r.tree, r.journal, r.thread, "memory.low", r.pagesize)
	r.thread.Do(t.Context(), func() {
		if err := s.raise("/p", time.Now()); err != nil {
			t.Error(err)
		}
		x.file("/p/a", "memory.low", "0\n")
		if n, err := r.bite("/p", s); !errors.Is(err, errShieldGone) {
			t.Errorf("it gave %d, %v", n, err)
		}
		if err := s.lower(); err != nil {
			t.Error(err)
		}
	})
}

func (x *fixture) refresh(r *reaper, ancestor string) (done bool, err error) {
	x.t.Helper()
	r.thread.Do(x.t.Context(), func() { done, err = r.refresh(ancestor) })
	return done, err
}

// TestRefreshNot: nothing is asked for where nobody lives, or no bait can be laid,
// now or ever.
func TestRefreshNot(t *testing.T) {
	x, r := reaperFixture(t)
	x.cgroup("/empty", 0, testMiB)
	x.file("/empty", "cgroup.events", "populated 0\nfrozen 0\n")
	x.cgroup("/leaf", 0, testMiB)
	x.file("/leaf", "cgroup.subtree_control", "\n")
	b := x.onStaleKernel(r, Unknown, func(int64) { t.Error("a request") })
	x.cgroup("/p/a/limited", 0, testMiB)
	x.file("/p/a/limited", "memory.max", fmt.Sprintln(testMiB))
	x.file("/p/a", "cgroup.subtree_control", "memory\n")
	for _, top := range []string{"/empty", "/leaf"} {
		x.cgroup(top+"/in", 0, testMiB)
		x.file(top+"/in", "memory.max", fmt.Sprintln(testMiB))
	}
	for _, top := range []string{"/empty", "/leaf", "/gone"} {
		if done, err := x.refresh(r, top); done || err != nil {
			t.Errorf("%s: %t, %v", top, done, err)
		}
	}
	b.failed = fmt.Errorf("%w: /p", errBaitNear)
	if done, err := x.refresh(r, "/p"); done || err == nil {
		t.Errorf("near its limit: %t, %v", done, err)
	}
	b.failed = fmt.Errorf("%w: /p", errNoBait)
	if done, err := x.refresh(r, "/p"); done || !errors.Is(err, errNoBait) {
		t.Errorf("of a user: %t, %v", done, err)
	}
	b.failed = nil
	x.file("/p/a/limited", "memory.max", "max\n")
	if done, err := x.refresh(r, "/p"); done || err != nil {
		t.Errorf("nobody with a limit: %t, %v", done, err)
	}
	if len(b.laid) > 0 {
		t.Errorf("baits below %v", b.laid)
	}
	x.asBefore(r)
}

// TestRefreshLater: what is not the moment for a refresh, or would throttle this process,
// puts it off.
func TestRefreshLater(t *testing.T) {
	for _, c := range []struct {
		name  string
		set   func(x *fixture, r *reaper)
		done  bool
		again bool
	}{
		{name: "a moment like any other", done: true, set: func(*fixture, *reaper) {}},
		{name: "systemd reloads", again: true, set: func(_ *fixture, r *reaper) { r.reloading = func() bool { return true } }},
		{name: "the living reclaim", again: true, set: func(x *fixture, r *reaper) {
			r.abil.Reclaim = Ability{State: No}
			r.sleep = func(time.Duration) { x.file("/p", "memory.stat", memoryStatText(12*testMiB)+"pgscan 1\n") }
		}},
		{name: "the living grow", again: true, set: func(x *fixture, r *reaper) {
			r.abil.Reclaim = Ability{State: No}
			r.sleep = func(time.Duration) { x.file("/p", "memory.current", fmt.Sprintln(12*testMiB+growthMost+1)) }
		}},
		{name: "too little to squeeze our own", set: func(x *fixture, r *reaper) {
			r.abil.Reclaim, r.own = Ability{State: No}, "/p/a"
			x.file("/p", "memory.current", fmt.Sprintln(ownPart*baitPass-testPage))
		}},
	} {
		x, r := reaperFixture(t)
		r.sleep = func(time.Duration) {}
		b := x.onStaleKernel(r, No, func(int64) {})
		x.file("/p/a", "memory.max", fmt.Sprintln(9*testMiB))
		c.set(x, r)
		done, err := x.refresh(r, "/p")
		if done != c.done || (err != nil) != c.again || (len(b.laid) > 0) != c.done {
			t.Errorf("%s: %t, %v, baits below %v", c.name, done, err, b.laid)
		}
		x.asBefore(r)
	}
	// Just enough is enough.
	x, r := reaperFixture(t)
	r.own = "/p/a"
	x.file("/p", "memory.current", fmt.Sprintln(ownPart*baitPass))
	if few, err := r.fewOfOurs("/p"); few || err != nil {
		t.Errorf("%d bytes are few: %v", ownPart*baitPass, err)
	}
}

// TestRefreshFromAbove: where no bait can be laid below a user's cgroup, a pass from above
// does it.
func TestRefreshFromAbove(t *testing.T) {
	x, r := reaperFixture(t)
	x.cgroup("/p/a/in", 0, testMiB)
	x.file("/p/a/in", "memory.max", fmt.Sprintln(2*testMiB))
	b := x.onStaleKernel(r, No, func(int64) {})
	b.never = "/p/a"
	if done, err := x.refresh(r, "/p/a"); !done || err != nil || !slices.Equal(b.laid, []string{"/p"}) {
		t.Errorf("%t, %v, baits below %v", done, err, b.laid)
	}
	x.asBefore(r)
}

// TestEngineRefreshes: a turn behind memory.low is followed by one refresh, which is
// tried again where it fails, and done at a stop.
func TestEngineRefreshes(t *testing.T) {
	x, r := reaperFixture(t)
	var b *fakeBait
	b = x.onStaleKernel(r, No, func(asked int64) { b.bytes -= asked - asked/2 })
	r.rough = func() bool { return false }
	x.file("/p/a", "memory.high", fmt.Sprintln(9*testMiB))
	e := x.engine(t, testConfig())
	e.reap, e.thread = r, r.thread
	isStale := func() bool { _, ok := r.stale["/p"]; return ok }
	if turn, err := x.turns(r, "/p"); err != nil || turn.End != TurnClean || !isStale() {
		t.Fatalf("%+v, %v, %v", turn, err, r.stale)
	}
	e.refreshSoon("/p")
	e.refreshSoon("/p")
	owe := func() {}
	run := func() {
		t.Helper()
		var fns []func(time.Time)
		waitFor(t, "a refresh", func() bool { fns = e.takeInbox(); return len(fns) > 0 })
		if len(fns) != 1 {
			t.Errorf("%d refreshes", len(fns))
		}
		r.thread.Do(t.Context(), func() { owe(); fns[0](time.Now()) })
	}
	// In debt it looks no more than once a second: each look costs, too.
	owe = func() { e.budget.Spend(e.budget.Level(time.Now())+time.Millisecond, time.Now()) }
	run()
	owe = func() {}
	time.Sleep(refreshAfter / 4)
	if fns := e.takeInbox(); len(fns) > 0 || !isStale() {
		t.Errorf("%d looks while the budget is in debt", len(fns))
	}
	b.failed = fmt.Errorf("%w: /p", errBaitNear)
	if run(); !isStale() || !e.refreshes["/p"] {
		t.Error("one that failed is not tried again")
	}
	b.failed = nil
	if run(); isStale() || e.refreshes["/p"] {
		t.Error("one that is done is tried again")
	}
	r.stale["/p"] = true
	r.thread.Do(t.Context(), e.refreshAll)
	if len(r.stale) > 0 {
		t.Errorf("a stop leaves %v", r.stale)
	}
	// What dies right after it is counted, and so reaped; of a bait of its own a known count is less.
	en := e.queue.teardown("/p", time.Now(), time.Now(), 0)
	if got := en.less(1, time.Now()); got != 1 {
		t.Errorf("1 dying is taken for %d", got)
	}
	en.saw(1)
	e.queue.refreshed("/p", time.Now())
	if got := en.less(2, time.Now()); got != 1 {
		t.Errorf("1 dying and a bait are taken for %d", got)
	}
	if got := en.less(5, time.Now()); got != 4 {
		t.Errorf("4 dying and a bait are taken for %d", got)
	}
	x.asBefore(r)
}

// TestEngineRefreshOrder: a turn that waits comes before a refresh. What a turn's baits add
// to the count is known, and a stop ends what is stale.
func TestEngineRefreshOrder(t *testing.T) {
	x, r := reaperFixture(t)
	x.file("/", "cgroup.subtree_control", "memory\n")
	b := x.onStaleKernel(r, No, func(int64) {})
	x.file("/p/a", "memory.max", fmt.Sprintln(9*testMiB))
	e := x.engine(t, testConfig())
	e.reap, e.thread = r, r.thread
	r.stale["/p"] = true
	due := func() {
		var fns []func(time.Time)
		e.refreshLater("/p", 0, 0)
		waitFor(t, "it to be due", func() bool { fns = e.takeInbox(); return len(fns) > 0 })
		r.thread.Do(t.Context(), func() { fns[0](time.Now()) })
	}
	en := e.queue.teardown("/p", time.Now(), time.Now(), time.Hour)
	if due(); len(b.laid) > 0 || !r.stale["/p"] || !e.refreshes["/p"] {
		t.Error("a refresh before a turn that waits")
	}
	en.saw(3)
	if due(); len(b.laid) != 1 || r.shielded("/p") || e.refreshes["/p"] {
		t.Errorf("no refresh: baits below %v", b.laid)
	}
	en.baits, en.baited = 0, time.Time{}
	r.thread.Do(t.Context(), func() {
		for ended := false; !ended; ended = en.due.After(time.Now()) { // not cut short by the shield's life
			e.turn(t.Context(), en, e.config(), time.Minute)
		}
	})
	if en.phase != phaseSettle || en.baits == 0 || en.less(3+int64(en.baits), en.baited) != 3 {
		t.Errorf("%+v", en)
	}
	x.file("/p", "memory.stat", memoryStatText(12*testMiB))
	b.laid, r.stale["/p"] = nil, true
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	r.thread.Do(t.Context(), func() { e.loop(stopped) })
	if len(r.stale) > 0 || len(b.laid) != 1 {
		t.Errorf("a stop leaves %v, baits below %v", r.stale, b.laid)
	}
	x.asBefore(r)
}

// TestUncoverOthers: a value that somebody else has set stays, and none goes below
// what it was.
func TestUncoverOthers(t *testing.T) {
	x, r := reaperFixture(t)
	x.file("/p/a", "memory.low", fmt.Sprintln(6*testMiB))
	s := newShield(r.tree, r.journal, r.thread, "memory.low", testPage)
	if err := s.raise("/p", time.Now()); err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{"/p/a": true}
	if err := s.uncover(map[string]bool{}, 4*testMiB, testMiB); err != nil || x.read("/p/a", "memory.low") != covers(8) {
		t.Errorf("one without a limit is uncovered: %v", err)
	}
	if err := s.uncover(all, 4*testMiB, testMiB); err != nil {
		t.Fatal(err)
	}
	if got := x.read("/p/a", "memory.low"); got != fmt.Sprint(6*testMiB) {
		t.Errorf("memory.low is %s, below what it was", got)
	}
	x.file("/p/a", "memory.low", fmt.Sprintln(7*testMiB))
	if err := s.uncover(all, 8*testMiB, testMiB); err != nil {
		t.Fatal(err)
	}
	if got := x.read("/p/a", "memory.low"); got != fmt.Sprint(7*testMiB) {
		t.Errorf("memory.low is %s, which nobody has set", got)
	}
	x.cgroup("/p/b", 0, 8*testMiB)
	if err := s.raise("/p", time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, growth := range []int64{0, -1} { // as if it had grown by a byte since
		if err := s.uncover(map[string]bool{"/p/b": true}, 4*testMiB, growth); (err != nil) != (growth < 0) {
			t.Errorf("growth of more than %d: %v", growth, err)
		}
		x.file("/p/b", "memory.low", covers(8)+"\n")
	}
	x.remove("/p/b")
	if err := s.uncover(map[string]bool{"/p/b": true}, 4*testMiB, 0); err != nil {
		t.Errorf("one that has vanished: %v", err)
	}
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	if got := x.read("/p/a", "memory.low"); got != fmt.Sprint(7*testMiB) {
		t.Errorf("memory.low is %s after all", got)
	}
}

// TestTurnStaleNobody: where nobody lives, nobody needs a shield, nor a bait.
func TestTurnStaleNobody(t *testing.T) {
	x, r := reaperFixture(t)
	x.remove("/p/a")
	b := x.onStaleKernel(r, No, func(int64) {})
	if turn, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil || turn.Baits != 0 || len(b.laid) != 0 || turn.Batches == 0 {
		t.Errorf("%+v, %v, %+v", turn, err, b)
	}
}

// TestTurnBaitFails: no bait, no write. It is tried again later; near a limit of
// what is above, that is the verdict.
func TestTurnBaitFails(t *testing.T) {
	x, r := reaperFixture(t)
	b := x.onStaleKernel(r, No, func(int64) { t.Error("a write without a bait") })
	b.failed = errors.New("no space left on device")
	if turn, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil || turn.End != TurnStuck {
		t.Errorf("%+v, %v", turn, err)
	}
	b.failed = fmt.Errorf("%w: /", errBaitNear)
	if turn, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil || turn.End != TurnSkipped || turn.Verdict != NearLimit {
		t.Errorf("%+v, %v", turn, err)
	}
	b.failed, b.lost = nil, errors.New("the helper is gone")
	if turn, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil || turn.End != TurnStuck || turn.Baits != baitTries {
		t.Errorf("%+v, %v", turn, err)
	}
	x.asBefore(r)
}

// TestTurnNotClean: for what is dirty or mapped no bait is laid, and nothing is
// asked for. It is tried again later.
func TestTurnNotClean(t *testing.T) {
	x, r := reaperFixture(t)
	b := x.onStaleKernel(r, No, func(int64) { t.Error("a write for nothing") })
	r.abil.ExactStat = Ability{State: Yes}
	dirty := strings.Replace(memoryStatText(12*testMiB), "file_dirty 0", fmt.Sprint("file_dirty ", testMiB), 1)
	x.file("/p", "memory.stat", strings.Replace(dirty, "file_mapped 0", fmt.Sprint("file_mapped ", 3*testMiB), 1))
	if turn, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil || turn.End != TurnStuck || turn.Baits != 0 || len(b.laid) != 0 {
		t.Errorf("%+v, %v", turn, err)
	}
	x.asBefore(r)
}

// TestTurnSqueezeBusy: beside living ones that reclaim at limits of their own
// nothing is squeezed behind memory.low.
func TestTurnSqueezeBusy(t *testing.T) {
	x, r := reaperFixture(t)
	b := x.onStaleKernel(r, No, func(int64) { t.Error("a squeeze") })
	r.abil.Reclaim = Ability{State: No}
	scans := 0
	b.charge = func() {}            // memory.current is the fixture's
	r.sleep = func(time.Duration) { // what somebody does meanwhile
		scans++
		x.file("/p", "memory.stat", memoryStatText(12*testMiB)+fmt.Sprintln("pgscan", scans))
	}
	turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
	if err != nil || turn.End != TurnStuck || turn.Batches != 0 {
		t.Errorf("%+v, %v", turn, err)
	}
	x.asBefore(r)
}

// TestBaitSize: a bait is as large as what is to be asked for needs, within bounds.
func TestBaitSize(t *testing.T) {
	x, r := reaperFixture(t)
	b := x.onStaleKernel(r, No, func(int64) {})
	for left, want := range map[int64]int64{1: baitLeast, testMiB: testMiB * baitPart, 1 << 40: baitMost} {
		b.bytes = 0
		if err := r.laid(&cover{low: true, children: 1}, "/p", left); err != nil || b.bytes != want {
			t.Errorf("for %d: %d, want %d (%v)", left, b.bytes, want, err)
		}
	}
	for name, c := range map[string]cover{"memory.min": {children: 1}, "nobody lives": {low: true}, "none can be laid": {low: true, children: 1, none: true}} {
		b.bytes = 0
		if err := r.laid(&c, "/p", testMiB); err != nil || b.bytes != 0 {
			t.Errorf("%s: %d (%v)", name, b.bytes, err)
		}
	}
}

// TestTurnActive: where a write takes nothing of the dead, the next bait is an
// active one, and a page is asked for at a time.
func TestTurnActive(t *testing.T) {
	x, r := reaperFixture(t)
	var b *fakeBait
	asked := map[bool][]int64{}
	dead := int64(4 * testMiB)
	b = x.onStaleKernel(r, No, func(int64) {})
	b.charge = func() { x.file("/p", "memory.current", fmt.Sprintln(8*testMiB+dead+b.bytes)) }
	r.thread.onWrite = func(time.Duration) {
		var n int64
		fmt.Sscan(x.read("/p", "memory.reclaim"), &n)
		asked[b.kind == baitActive] = append(asked[b.kind == baitActive], n)
		b.bytes -= baitPass
		if b.kind == baitActive {
			dead -= testMiB
			x.file("/p", "memory.stat", memoryStatText(8*testMiB+dead))
		}
		b.charge()
	}
	if turn, err := x.turns(r, "/p"); err != nil || turn.End != TurnClean {
		t.Errorf("%+v, %v", turn, err)
	}
	if len(asked[false]) == 0 || len(asked[true]) < 4 || slices.Max(asked[true]) != testPage {
		t.Errorf("asked for %v beside an inactive bait, %v beside an active one", asked[false], asked[true])
	}
	x.asBefore(r)
}

// TestInodes: where only inodes keep what is dying, each pass is to come to the last
// priority, so each has a deep bait of its own, and no more is asked for than it takes.
func TestInodes(t *testing.T) {
	x, r := reaperFixture(t)
	squeezed := 0
	b := x.onStaleKernel(r, No, func(int64) {})
	r.abil.Reclaim = Ability{State: No}
	r.rough = func() bool { return false }
	r.thread.onWrite = func(time.Duration) {
		squeezed++
		if squeezed == 1 {
			return // all of it was in the CPUs' stock
		}
		var usage, high int64
		fmt.Sscan(x.read("/p", "memory.current"), &usage)
		fmt.Sscan(x.read("/p", "memory.high"), &high)
		if b.kind != baitDeep || b.bytes != baitMost || usage-high != baitPass || x.read("/p/a", "memory.low") != covers(8) {
			t.Errorf("asked for %d of %+v, the living are covered by %s", usage-high, b, x.read("/p/a", "memory.low"))
		}
		b.bytes -= baitPass
		b.charge()
	}
	turn, err := r.inodes(t.Context(), "/p")
	if err != nil || turn.Batches != deepPasses || turn.Baits != deepPasses+1 || squeezed != deepPasses+1 || b.bytes != 0 {
		t.Errorf("%d squeezes, %+v, %v, bait %+v", squeezed, turn, err, b)
	}
	x.asBefore(r)
	b.failed = fmt.Errorf("%w: no", errNoBait)
	if turn, err := r.inodes(t.Context(), "/p"); err != nil || turn.Batches != 0 || turn.End != TurnStuck || !turn.never {
		t.Errorf("%+v, %v", turn, err)
	}
	x.asBefore(r)
	b.failed, b.laid = nil, nil
	x.file("/p/a", "memory.max", fmt.Sprintln(9*testMiB))
	if turn, err := r.inodes(t.Context(), "/p"); err != nil || len(b.laid) > 0 || !turn.never {
		t.Errorf("beside one with a limit: %+v, %v, laid %v", turn, err, b.laid)
	}
	x.file("/p/a", "memory.max", "max\n")
	b.failed = errBaitNear
	if turn, err := r.inodes(t.Context(), "/p"); err != nil || turn.End != TurnSkipped || turn.Verdict != NearLimit || turn.never {
		t.Errorf("near a limit: %+v, %v", turn, err)
	}
	b.failed, squeezed = nil, 0
	stop, cancel := context.WithCancel(t.Context())
	cancel()
	if turn, err := r.inodes(stop, "/p"); err != nil || len(b.laid) > 0 || turn.never {
		t.Errorf("at a stop: %+v, %v, laid %v", turn, err, b.laid)
	}
	r.sleep = func(time.Duration) { x.file("/p", "memory.current", fmt.Sprintln(12*testMiB+growthMost+1)) }
	if turn, err := r.inodes(t.Context(), "/p"); err != nil || len(b.laid) > 0 || turn.never {
		t.Errorf("beside who grows: %+v, %v, laid %v", turn, err, b.laid)
	}
	r.sleep = func(time.Duration) {}
	x.file("/p", "cgroup.subtree_control", "\n")
	if turn, err := r.inodes(t.Context(), "/p"); err != nil || turn.End != TurnSkipped || turn.Verdict != NoController || len(b.laid) > 0 || squeezed > 0 {
		t.Errorf("without the controller: %+v, %v, laid %v, %d squeezes", turn, err, b.laid, squeezed)
	}
}

// TestTurnNewborn: a session that comes while a turn begins has a shield and a
// bait before the first write.
func TestTurnNewborn(t *testing.T) {
	x, r := reaperFixture(t)
	b := x.onStaleKernel(r, No, func(int64) {
		if x.read("/p/a", "memory.low") == "0" {
			t.Error("a write with a living child that no shield covers")
		}
	})
	dead, err := r.tree.DeadMemory("/p")
	if err != nil {
		t.Fatal(err)
	}
	dead.Children = 0 // as measured a moment ago
	o := turnDefaults
	o.rest = &rest{dead: dead, left: testMiB, at: time.Now()}
	if turn, err := x.turn(t.Context(), r, "/p", o); err != nil || turn.Baits == 0 || len(b.laid) == 0 {
		t.Errorf("%+v, %v", turn, err)
	}
	x.asBefore(r)
}

// TestTurnBaitless: where no bait can be laid, half of what looks clean is asked
// for, measured anew each time, down to where that is too little to be certain.
func TestTurnBaitless(t *testing.T) {
	x, r := reaperFixture(t)
	var asks []int64
	b := x.onStaleKernel(r, No, func(asked int64) { asks = append(asks, asked) })
	b.failed = fmt.Errorf("%w: permission denied", errNoBait)
	r.abil.ExactStat = Ability{State: Yes}
	turn, err := x.turns(r, "/p")
	if err != nil || turn.End != TurnStuck || turn.Baits != 0 {
		t.Errorf("%+v, %v", turn, err)
	}
	left := int64(4 * testMiB)
	for _, asked := range asks {
		if asked != left/2/testPage*testPage {
			t.Errorf("asked for %v", asks)
			break
		}
		left -= asked / 2
	}
	if len(asks) < 3 || left/2 >= baitLeast {
		t.Errorf("asked for %v, which leaves %d", asks, left)
	}
	// A memory.stat that is not known to be exact says nothing for certain.
	asks = nil
	r.abil.ExactStat = Ability{State: Unknown}
	x.file("/p", "memory.stat", memoryStatText(12*testMiB))
	if turn, err := x.turns(r, "/p"); err != nil || turn.End != TurnStuck || len(asks) != 0 {
		t.Errorf("%+v, %v, asked for %v", turn, err, asks)
	}
	x.asBefore(r)
}

// TestTurnStaleNearLimit: near its limit no bait is charged to an ancestor, and
// only half of what is clean is asked for, where the policy lets it.
func TestTurnStaleNearLimit(t *testing.T) {
	x, r := reaperFixture(t)
	x.file("/p", "memory.max", fmt.Sprintln(13*testMiB))
	b := x.onStaleKernel(r, No, func(asked int64) {
		if asked != 2*testMiB {
			t.Errorf("asked for %d", asked)
		}
	})
	o := turnDefaults
	o.nearOK = true
	if turn, err := x.turn(t.Context(), r, "/p", o); err != nil || turn.Batches != 0 || turn.Verdict != NearLimit {
		t.Errorf("nothing is certain: %+v, %v", turn, err)
	}
	r.abil.ExactStat = Ability{State: Yes}
	if turn, err := x.turn(t.Context(), r, "/p", o); err != nil || turn.Batches != 1 || len(b.laid) != 0 {
		t.Errorf("%+v, %v", turn, err)
	}
	// Nothing is asked for only to wake the flusher, whatever the kernel.
	o.wake = true
	x.file("/p", "memory.stat", strings.Replace(memoryStatText(12*testMiB), "file_dirty 0", fmt.Sprint("file_dirty ", 4*testMiB), 1))
	for _, fresh := range []State{Yes, No} {
		r.abil.FreshProtection = Ability{State: fresh}
		if turn, err := x.turn(t.Context(), r, "/p", o); err != nil || turn.Batches != 0 || turn.End != TurnStuck {
			t.Errorf("all is dirty: %+v, %v", turn, err)
		}
	}
	x.asBefore(r)
}

// TestTurnNoRecursiveProt: nested values are raised, so memory.min is out of the
// question on any kernel.
func TestTurnNoRecursiveProt(t *testing.T) {
	x, r := reaperFixture(t)
	r.tree.RecursiveProt = false
	x.cgroup("/p/a/inner", 0, testMiB)
	x.file("/p/a", "memory.max", fmt.Sprintln(9*testMiB))
	x.onStaleKernel(r, Yes, func(int64) {
		for _, c := range []string{"/p/a", "/p/a/inner"} {
			if x.read(c, "memory.min") != "0" || x.read(c, "memory.low") == "0" {
				t.Errorf("%s: min %s, low %s", c, x.read(c, "memory.min"), x.read(c, "memory.low"))
			}
		}
	})
	if turn, err := x.turns(r, "/p"); err != nil || turn.End != TurnClean {
		t.Errorf("%+v, %v", turn, err)
	}
	x.asBefore(r)
}

// TestEngineHeals: every cgroup at the top is healed in turn, but for those the
// policy ignores, also where nothing may be reaped.
func TestEngineHeals(t *testing.T) {
	x, r := reaperFixture(t)
	for _, top := range []string{"/p", "/q", "/r"} {
		x.cgroup(top, 0, testMiB)
		x.file(top, "cgroup.events", "populated 1\nfrozen 0\n")
	}
	b := x.onStaleKernel(r, No, func(int64) {})
	c := testConfig()
	c.Reap = false
	c.Ignore = func(cgroup string) bool { return cgroup == "/q" }
	e := x.engine(t, c)
	e.opts.Abilities.FreshProtection = Ability{State: No}
	e.reap, e.thread = r, r.thread
	e.heal()
	for fns := e.takeInbox(); len(fns) > 0; fns = e.takeInbox() {
		r.thread.Do(t.Context(), func() { fns[0](time.Now()) })
	}
	slices.Sort(b.laid)
	if !slices.Equal(b.laid, []string{"/p", "/r"}) {
		t.Errorf("baits below %v", b.laid)
	}
	// What fails is tried again by itself.
	b.failed, b.laid = errBaitNear, nil
	e.heal()
	for fns := e.takeInbox(); len(fns) > 0; fns = e.takeInbox() {
		r.thread.Do(t.Context(), func() { fns[0](time.Now()) })
	}
	if !e.refreshes["/p"] || !e.refreshes["/r"] || e.refreshes["/q"] || len(r.stale) != 2 {
		t.Errorf("to be tried again: %v, stale %v", e.refreshes, r.stale)
	}
	for what, set := range map[string]func(){
		"a kernel that forgets protection": func() { e.opts.Abilities.FreshProtection = Ability{State: Yes} },
		"a policy that only monitors":      func() { e.cfg.Monitor = MonitorAlways },
		"cgroup v1":                        func() { e.opts.Hierarchy.Mode = Legacy },
	} {
		abil, cfg, mode := e.opts.Abilities, e.cfg, e.opts.Hierarchy.Mode
		set()
		e.heal()
		if n := len(e.takeInbox()); n != 0 {
			t.Errorf("%s is healed", what)
		}
		e.opts.Abilities, e.cfg, e.opts.Hierarchy.Mode = abil, cfg, mode
	}
}

// TestBaitJournal: what a crash leaves of a bait is removed, and nothing else is.
func TestBaitJournal(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 0, 0)
	dir := "/p/" + baitName + "1"
	for _, d := range []string{dir, "/p/other"} {
		if err := os.Mkdir(x.path(d, ""), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	j := x.journal()
	for _, c := range []string{dir, "/p/other", "/p/" + baitName + "gone"} {
		if err := j.record([]change{{cgroup: c, file: baitEntry}}); err != nil {
			t.Fatal(err)
		}
	}
	res, err := Restore(x.fs, j.path)
	if err != nil || len(res.Bad) > 0 || res.Put != 1 || res.Gone != 1 || res.Foreign != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	if x.fs.Exists(dir) || !x.fs.Exists("/p/other") {
		t.Error("removed the wrong one")
	}
}

// TestHelper: its pages are charged to where it is sent, the kernel takes them
// when it reclaims there, and none is left charged when they are dropped.
func TestHelper(t *testing.T) {
	tr := newV1TestTree(t)
	home, away := tr.mkdir("home"), tr.mkdir("away")
	h, err := startHelper()
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	const bytes = 4 << 20
	if err := h.charge(tr.fs, away, home, bytes, baitInactive); err != nil {
		t.Fatal(err)
	}
	is := func(when string, least, most int64) {
		t.Helper()
		left, err := h.left()
		if err != nil || left < least || left > most {
			t.Errorf("%s: %d bytes left, want %d to %d (%v)", when, left, least, most, err)
		}
	}
	usage, err := v1ReadBytes(tr.fs, away, v1UsageFile)
	if err != nil || usage < bytes {
		t.Errorf("%d of %d bytes are charged (%v)", usage, bytes, err)
	}
	is("at first", bytes, bytes)
	th := testThread(t)
	th.Do(t.Context(), func() {
		if _, err := V1ForceEmpty(th, tr.fs, away, time.Minute); err != nil {
			t.Error(err)
		}
	})
	is("after reclaim", 0, bytes/64)
	if err := h.charge(tr.fs, away, home, bytes, baitInactive); err != nil {
		t.Fatal(err)
	}
	is("laid again", bytes, bytes)
	if err := h.charge(tr.fs, away, home, bytes, baitActive); err != nil {
		t.Fatal(err)
	}
	is("on the active list", bytes, bytes)
	waitFor(t, "the pages to be active", func() bool { // the counters are added up every two seconds
		return v1StatLine(t, tr, away, "active_file") >= bytes-testMiB/16 && v1StatLine(t, tr, away, "inactive_file") <= testMiB/16
	})
	if _, err := h.ask(helperDrop); err != nil {
		t.Fatal(err)
	}
	is("dropped", 0, 0)
	// A page of the helper's own that stayed there would keep a bait's memcg.
	for range 20 {
		if err := h.charge(tr.fs, away, home, bytes, baitInactive); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.ask(helperDrop); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "nothing charged to where the helper was 22 times", func() bool {
		th.Do(t.Context(), func() { // brings home what CPUs have in stock
			if _, err := V1ForceEmpty(th, tr.fs, away, time.Minute); err != nil {
				t.Error(err)
			}
		})
		usage, err = v1ReadBytes(tr.fs, away, v1UsageFile)
		return err == nil && usage < 5*testPage
	})
	if _, err := h.ask("dance"); err == nil || !strings.Contains(err.Error(), "dance") {
		t.Errorf("an order that there is not: %v", err)
	}
	if err := h.charge(tr.fs, "/nowhere", home, bytes, baitInactive); err == nil {
		t.Error("charged to nowhere")
	}
}

func v1StatLine(t *testing.T, tr v1TestTree, cgroup, key string) (value int64) {
	t.Helper()
	data, err := tr.fs.Read(cgroup, "memory.stat", nil)
	if err == nil {
		err = eachKeyed("memory.stat", data, func(k []byte, v int64) {
			if string(k) == key {
				value = v
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestBaitFixture: a bait that cannot be laid leaves no cgroup behind and names
// what failed; none is laid where somebody else rules, or where it may harm.
func TestBaitFixture(t *testing.T) {
	x := newFixture(t)
	events := func(cgroup, frozen string) {
		x.file(cgroup, "cgroup.events", "populated 1\nfrozen "+frozen+"\n")
	}
	for _, c := range []string{"/p", "/p/q", "/near", "/near/q", "/cold", "/user", "/user/q"} {
		x.cgroup(c, 0, 0)
		events(c, "0")
	}
	x.file("/near", "memory.max", fmt.Sprintln(2*testMiB))
	events("/cold", "1")
	if err := os.Chown(x.path("/user", ""), 1000, 1000); err != nil {
		t.Fatal(err)
	}
	b := &bait{fs: x.fs, journal: x.journal(), home: "/"}
	t.Cleanup(b.stop)
	for cgroup, want := range map[string]error{
		"/near/q": errBaitNear, "/cold": errBaitNear, "/user/q": errNoBait,
		"/p/q": errNoBait, // a cgroup without cgroup.procs
	} {
		err := b.lay(cgroup, baitLeast, baitInactive)
		if left, _ := b.left(); !errors.Is(err, want) || !strings.Contains(err.Error(), cgroup) || left != 0 {
			t.Errorf("%s: %v, %d left", cgroup, err, left)
		}
		if found, _ := filepath.Glob(x.path(cgroup, baitName+"*")); len(found) > 0 {
			t.Errorf("left behind: %v", found)
		}
	}
	if err := b.lay("/gone", baitLeast, baitActive); !gone(err) {
		t.Errorf("an ancestor that has vanished: %v", err)
	}
	b.take()
}

// TestHelperEnds: a helper that was killed, or that stands still, is an error
// soon, and nobody waits for it.
func TestHelperEnds(t *testing.T) {
	for name, sig := range map[string]unix.Signal{"killed": unix.SIGKILL, "stopped": unix.SIGSTOP} {
		h, err := startHelper()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if _, err := h.left(); err == nil {
			t.Errorf("%s: no error", name)
		}
		h.close()
	}
	h, err := startHelper()
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		if err := h.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.left(); err != nil {
		t.Errorf("what ends the daemon has ended its helper: %v", err)
	}
}

// TestQuiet: bait and shield stay after a squeeze until nobody reclaims any more, and
// are not waited for without one.
func TestQuiet(t *testing.T) {
	x, r := reaperFixture(t)
	sleeps, scans := 0, 0
	r.sleep = func(time.Duration) {
		if sleeps++; sleeps < 3 { // somebody still does
			scans++
			x.file("/p", "memory.stat", memoryStatText(12*testMiB)+fmt.Sprintln("pgscan", scans))
		}
	}
	if r.quiet(); sleeps > 0 {
		t.Error("waits though nothing was squeezed")
	}
	r.abil = Abilities{}
	r.thread.Do(t.Context(), func() {
		if _, err := r.squeeze("/p", testMiB, time.Second); err != nil {
			t.Error(err)
		}
	})
	if r.quiet(); sleeps != 3 {
		t.Errorf("%d looks, want three", sleeps)
	}
	if r.quiet(); sleeps != 3 {
		t.Error("waits for one squeeze twice")
	}
}
