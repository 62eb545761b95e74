package logind

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func ev(kind Kind, unit string) Event { return Event{Kind: kind, Unit: unit} }

func drainQueue(q *queue) (all []string) {
	for {
		e, ok := q.take()
		if !ok {
			return all
		}
		all = append(all, e.Kind.String()+" "+e.Unit)
	}
}

func TestQueueDropsOnlyAStartThatNobodyCanUse(t *testing.T) {
	q := newQueue()
	for _, e := range []Event{
		ev(Started, "a"), ev(Started, "b"), ev(Teardown, "a"), ev(Started, "a"), ev(Teardown, "c"), ev(Teardown, "a"), ev(Started, "a"),
	} {
		q.put(e)
	}
	if q.len() != 5 {
		t.Errorf("len %d, want 5", q.len())
	}
	want := []string{"started b", "teardown a", "teardown c", "teardown a", "started a"}
	if diff := cmp.Diff(want, drainQueue(q)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	q.put(ev(Teardown, "a")) // its start was taken: nothing is dropped
	if diff := cmp.Diff([]string{"teardown a"}, drainQueue(q)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever is put and taken in whatever turn: every Teardown comes out, in order, and what waits
// stays small.
func TestQueueStaysSmallAndOrdered(t *testing.T) {
	q := newQueue()
	var want, got []string
	takeOne := func() {
		if e, ok := q.take(); ok && e.Kind == Teardown {
			got = append(got, e.Unit)
		}
	}
	for i := range 10_000 {
		unit := fmt.Sprintf("u%d", i)
		q.put(ev(Started, unit))
		if i%3 == 0 {
			takeOne()
		}
		q.put(ev(Teardown, unit))
		want = append(want, unit)
		if i%2 == 0 {
			takeOne()
		}
		if n, live := len(q.events)-q.head, q.len(); n > 2*live+128 {
			t.Fatalf("after %d: %d places for %d events", i, n, live)
		}
	}
	for q.len() > 0 {
		takeOne()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("teardowns (-want +got):\n%s", diff)
	}
	if len(q.started) != 0 {
		t.Errorf("%d starts are remembered for nothing", len(q.started))
	}
}
