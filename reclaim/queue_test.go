package reclaim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const debounce = 250 * time.Millisecond

var t0 = time.Unix(1000, 0)

func after(d time.Duration) time.Time { return t0.Add(d) }

// TestQueueFolds: a stream of teardowns below one ancestor is one entry, and
// does not put off the first one's turn.
func TestQueueFolds(t *testing.T) {
	q := newQueue()
	for i := range 100 {
		now := after(time.Duration(i) * 10 * time.Millisecond)
		q.teardown("/user.slice", now, now, debounce)
	}
	if e, first := q.next(after(debounce - 1)); e != nil || !first.Equal(after(debounce)) {
		t.Errorf("%+v is due at %v", e, first)
	}
	e, _ := q.next(after(debounce))
	if e == nil || len(q.entries) != 1 || len(e.events) != 100 || !e.fresh {
		t.Fatalf("%d entries, %+v", len(q.entries), e)
	}
	for range 2 * maxEvents {
		q.teardown("/user.slice", t0, t0, debounce)
	}
	if len(e.events) != maxEvents {
		t.Errorf("%d times are remembered", len(e.events))
	}
	q.remove(e)
	if e, first := q.next(after(time.Hour)); e != nil || !first.IsZero() {
		t.Errorf("an empty queue gives %+v, %v", e, first)
	}
}

func TestQueueOrder(t *testing.T) {
	q := newQueue()
	q.sweep("/s2", t0)
	q.sweep("/s1", t0)
	q.sweep("/early", after(-time.Second))
	q.teardown("/t1", t0, t0, debounce)
	q.teardown("/t2", t0, t0, 0)
	var got []string
	for e, first := q.next(t0); ; e, first = q.next(t0) {
		if e == nil {
			if !first.Equal(after(debounce)) {
				t.Errorf("the next is due at %v", first)
			}
			break
		}
		got = append(got, e.path)
		q.remove(e)
	}
	if d := cmp.Diff([]string{"/t2", "/early", "/s1", "/s2"}, got); d != "" {
		t.Error(d)
	}
}

// TestQueueTeardownOfKnown: what waits for writeback or settles has something
// new to do; what is due sooner stays so.
// TestQueueLooksFirst: what a sweep's turn did is looked at before the next
// turn, however many ancestors wait for theirs.
func TestQueueLooksFirst(t *testing.T) {
	q, now := newQueue(), time.Now()
	for _, p := range []string{"/a", "/b", "/c"} {
		q.sweep(p, now)
	}
	for _, want := range []string{"/a", "/b", "/c"} {
		en, _ := q.next(now)
		if en == nil || en.path != want || en.phase != phaseTurn {
			t.Fatalf("%+v, want a turn of %s", en, want)
		}
		en.settle(now)
		q.update(en)
		now = now.Add(lookSwept)
		if en, _ = q.next(now); en == nil || en.path != want || en.phase != phaseSettle {
			t.Fatalf("%+v, want the look at %s", en, want)
		}
		q.remove(en)
	}
}

func TestQueueTeardownOfKnown(t *testing.T) {
	for _, c := range []struct {
		name  string
		phase phase
		due   time.Time
		want  time.Time
	}{
		{"due sooner", phaseTurn, after(time.Millisecond), after(time.Millisecond)},
		{"waits for writeback", phaseTurn, after(time.Minute), after(debounce)},
		{"settles", phaseSettle, after(time.Millisecond), after(debounce)},
		{"settles for long", phaseSettle, after(time.Minute), after(debounce)},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := newQueue()
			e := q.sweep("/a", t0)
			e.phase, e.due, e.confirmed, e.tries = c.phase, c.due, true, 9
			if again := q.teardown("/a", t0, t0, debounce); again != e {
				t.Fatal("another entry")
			}
			if e.phase != phaseTurn || !e.due.Equal(c.want) || !e.fresh || e.confirmed || e.tries != 0 {
				t.Errorf("%+v", e)
			}
			// And from here on no teardown puts it off.
			q.teardown("/a", t0, after(debounce/2), debounce)
			if !e.due.Equal(c.want) {
				t.Errorf("put off to %v", e.due)
			}
			if s := q.sweep("/a", after(time.Hour)); s != e || !e.due.Equal(c.want) || !e.fresh {
				t.Errorf("a sweep changed it: %+v", s)
			}
		})
	}
}

func TestQueueMove(t *testing.T) {
	q := newQueue()
	a := q.teardown("/p/a", t0, t0, debounce)
	q.teardown("/p/a", after(time.Millisecond), after(time.Millisecond), debounce)
	b := q.sweep("/p/b", t0)
	q.move(a, "/p", after(time.Second), debounce)
	q.move(b, "/p", after(time.Second), debounce)
	p := q.entries["/p"]
	if len(q.entries) != 1 || p == nil {
		t.Fatalf("%+v", q.entries)
	}
	if d := cmp.Diff([]time.Time{t0, after(time.Millisecond)}, p.events); d != "" {
		t.Error(d)
	}
	if !p.fresh || !p.due.Equal(after(time.Second+debounce)) {
		t.Errorf("%+v", p)
	}
	q.remove(a) // long replaced: must not take the other's place
	a.path = "/p"
	q.remove(a)
	if q.entries["/p"] != p {
		t.Error("an entry that was moved away removed its successor")
	}
}

func TestQueueHeld(t *testing.T) {
	q := newQueue()
	q.finishHeld("/user.slice/s.scope", t0, t0, debounce)
	q.finishHeld("/user.slice/s.scope", after(time.Second), after(time.Second), 0)
	e, _ := q.next(after(debounce))
	if e == nil || e.phase != phaseHeld || len(e.events) != 1 || len(q.entries) != 1 {
		t.Fatalf("%+v", e)
	}
	q.remove(e)
	if again, _ := q.next(after(time.Hour)); again != nil {
		t.Errorf("what was finished is still there: %+v", again)
	}
}

func TestSaw(t *testing.T) {
	var e entry
	var freed []bool
	for _, n := range []int64{10, 10, 7, 9, 9, 0} {
		freed = append(freed, e.saw(n))
	}
	if d := cmp.Diff([]bool{false, false, true, false, false, true}, freed); d != "" {
		t.Error(d)
	}
	if e.out.DyingBefore != 10 || e.out.DyingAfter != 0 || e.out.Freed != 12 {
		t.Errorf("%+v", e.out)
	}
}

// TestSettleEnds: looks become rarer and end, freed or not. After a sweep's
// turn there are fewer.
func TestSettleEnds(t *testing.T) {
	for first, e := range map[time.Duration]*entry{lookFirst: {fresh: true}, lookSwept: {}} {
		e.settle(t0)
		now := e.due
		if e.phase != phaseSettle || !now.Equal(after(first)) {
			t.Errorf("%+v", e)
		}
		looks := 1
		for ; e.lookAgain(false, now); looks++ {
			if !e.due.After(now) || looks > 50 {
				t.Fatalf("look %d at %v", looks, e.due.Sub(t0))
			}
			now = e.due
		}
		if total := now.Sub(t0); total < lookLast || total > 3*lookLast {
			t.Errorf("%d looks over %v; memory.stat is up to date after 2 s", looks, total)
		}
		e.settle(t0)
		for i := range 5 {
			if !e.lookAgain(true, t0) || !e.due.Equal(after(first)) {
				t.Errorf("look %d while freeing goes on is due at %v", i, e.due.Sub(t0))
			}
		}
	}
}

func TestRetryEnds(t *testing.T) {
	waits := func(dirty bool, longest time.Duration) (all []time.Duration) {
		var e entry
		for e.retry(t0, dirty, longest) {
			if e.phase != phaseTurn || len(all) > 100 {
				t.Fatalf("%+v after %d tries", e, len(all))
			}
			all = append(all, e.due.Sub(t0))
		}
		return all
	}
	const ms = time.Millisecond
	if d := cmp.Diff([]time.Duration{500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms}, waits(false, 10*time.Second)); d != "" {
		t.Error(d)
	}
	if got := waits(false, 0); got != nil {
		t.Errorf("no backoff allowed: %v", got)
	}
	dirty := waits(true, 10*time.Minute)
	var within time.Duration
	for i, w := range dirty {
		if w > 10*time.Minute {
			t.Errorf("try %d waits %v", i, w)
		}
		if i < retryDirtyTries {
			if w > retryDirtyMost {
				t.Errorf("dirty, try %d waits %v", i, w)
			}
			within += w
		}
	}
	if within < 35*time.Second {
		t.Errorf("dirty pages are tried often for %v only", within)
	}
	if got := waits(false, 24*time.Hour); len(got) != 18 {
		t.Errorf("%d tries within a day", len(got))
	}
}

func TestResolve(t *testing.T) {
	at := func(n int) (all []time.Time) {
		for i := range n {
			all = append(all, after(time.Duration(i)*time.Second))
		}
		return all
	}
	for _, c := range []struct {
		name            string
		counted         bool
		dying, baseline int64
		events, freed   int
	}{
		{"nothing counted", false, 0, 0, 3, 0},
		{"all gone", true, 0, 0, 3, 3},
		{"down to what was pinned", true, 5, 5, 3, 3},
		{"fewer than were pinned", true, 4, 5, 3, 3},
		{"one stays", true, 6, 5, 3, 2},
		{"more than events", true, 100, 5, 3, 0},
		{"no events", true, 0, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := entry{counted: c.counted, dying: c.dying, events: at(c.events)}
			freed := e.resolve(c.baseline)
			if len(freed) != c.freed || len(e.events) != c.events-c.freed {
				t.Fatalf("freed %v, waiting %v", freed, e.events)
			}
			if c.freed > 0 && !freed[0].Equal(t0) {
				t.Errorf("the oldest goes last: %v", freed)
			}
		})
	}
}

func TestLatency(t *testing.T) {
	var l Latency
	if s := l.summary(); s.Count != 0 || s.P50 != 0 || s.P99 != 0 {
		t.Errorf("%+v", s)
	}
	l.add(7)
	if s := l.summary(); s.P50 != 7 || s.P99 != 7 {
		t.Errorf("%+v", s)
	}
	for i := range 3 * latencyKept { // the last ones count
		l.add(time.Duration(i%latencyKept + 1))
	}
	s := l.summary()
	if s.Count != 3*latencyKept+1 || s.P50 != latencyKept/2 || s.P99 != 1014 || len(l.last) != latencyKept {
		t.Errorf("%+v, %d kept", s, len(l.last))
	}
}

func BenchmarkQueue(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n, " ancestors"), func(b *testing.B) {
			paths := make([]string, n)
			for i := range paths {
				paths[i] = fmt.Sprint("/user.slice/user-", i, ".slice")
			}
			q := newQueue()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now := after(time.Duration(i) * time.Millisecond)
				q.teardown(paths[i%n], now, now, debounce)
				if e, _ := q.next(now); e != nil {
					q.remove(e)
				}
			}
		})
	}
}

// TestQueueOwners: whoever has many ancestors keeps nobody else waiting, and who
// comes back has not saved up turns meanwhile.
func TestQueueOwners(t *testing.T) {
	q, now := newQueue(), t0
	add := func(o owner, n int) {
		for i := range n {
			q.sweep(fmt.Sprintf("/%s/%03d", o, i), now).owner = o
		}
	}
	turns := func(n int, cost map[owner]time.Duration) string {
		var got []string
		for range n {
			en, _ := q.next(now)
			got = append(got, string(en.owner))
			q.remove(en)
			q.spend(en, max(cost[en.owner], time.Millisecond))
		}
		return strings.Join(got, "")
	}
	add("a", 200)
	if got := turns(5, nil); got != "aaaaa" {
		t.Error(got)
	}
	add("b", 3)
	add("c", 1)
	if got := turns(8, nil); strings.Count(got, "b") != 3 || strings.Count(got, "c") != 1 {
		t.Errorf("%s: three of b and one of c beside 200 of a are not done within 8 turns", got)
	}
	for _, d := range []time.Duration{time.Hour, time.Millisecond} { // it counts by the next turn
		q.spend(&entry{owner: "a"}, d)
	}
	add("b", 10)
	if got := turns(6, nil); strings.Count(got, "b") > 4 {
		t.Errorf("%s: b has saved up turns", got)
	}
	for len(q.owners["b"].all) > 0 {
		q.remove(q.owners["b"].all[0])
	}
	// By the time they take, not by their number.
	add("d", 50)
	if got := turns(44, map[owner]time.Duration{"a": 10 * time.Millisecond}); strings.Count(got, "d") < 39 {
		t.Errorf("%s: turns of a take ten times as long", got)
	}
	// Nor what a sweep's turn did is looked at later than its like.
	en, _ := q.next(now)
	en.settle(now.Add(-time.Hour))
	q.update(en)
	if next, _ := q.next(now); next != en {
		t.Errorf("%s before the look at %s", next.path, en.path)
	}
	q.remove(en)
	for len(q.entries) > 0 {
		turns(1, nil)
	}
	add("e", 1)
	add("a", 10)
	turns(11, nil)
	q.forgetOwners()
	if len(q.owners) > 1 || len(q.turns) > 0 {
		t.Errorf("%d owners are remembered, %d have turns", len(q.owners), len(q.turns))
	}
}

// TestQueueLikeAList: the heaps give the order that going through all entries
// gives.
func TestQueueLikeAList(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 7))
		q, now := newQueue(), t0
		slow := func() (best *entry, first, firstFresh time.Time) {
			sooner := func(due, than time.Time) bool { return than.IsZero() || due.Before(than) }
			class := func(e *entry) int {
				switch {
				case e.fresh:
					return 0
				case e.phase == phaseSettle:
					return 1
				}
				return 2
			}
			for _, e := range q.entries {
				if e.due.After(now) {
					if sooner(e.due, first) {
						first = e.due
					}
					if e.fresh && sooner(e.due, firstFresh) {
						firstFresh = e.due
					}
				} else if best == nil || class(e) < class(best) || class(e) == class(best) && e.before(best) {
					best = e
				}
			}
			return best, first, firstFresh
		}
		for step := range 400 {
			p := fmt.Sprint("/", r.IntN(30))
			switch r.IntN(5) {
			case 0:
				q.teardown(p, now, now, time.Duration(r.IntN(300))*time.Millisecond)
			case 1, 2:
				q.sweep(p, now)
			case 3:
				now = now.Add(time.Duration(r.IntN(200)) * time.Millisecond)
			}
			want, first, firstFresh := slow()
			if want != nil {
				first = firstFresh
			}
			got, at := q.next(now)
			if got != want || !at.Equal(first) {
				t.Fatalf("seed %d, step %d: %+v at %v, want %+v at %v", seed, step, got, at, want, first)
			}
			if got == nil {
				continue
			}
			switch r.IntN(4) {
			case 0:
				q.remove(got)
			case 1:
				got.settle(now)
				got.fresh = r.IntN(2) == 0
				q.update(got)
			case 2:
				got.due = now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
				q.update(got)
			}
			q.spend(got, time.Millisecond)
		}
	}
}

// BenchmarkPlan is how many turns a sweep's planning alone allows.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{2_000, 20_000} {
		b.Run(fmt.Sprint(n, " ancestors"), func(b *testing.B) {
			q, now := newQueue(), t0
			for i := range n {
				q.sweep(fmt.Sprint("/user.slice/user-", i, ".slice"), now)
			}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Microsecond)
				en, _ := q.next(now)
				q.turnDue(now)
				en.due = now
				q.spend(en, time.Millisecond)
				q.update(en)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "turns/s")
		})
	}
}
