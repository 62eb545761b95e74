package logind

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/login1"
	"github.com/godbus/dbus/v5"
)

// world is a machine on a bus that is as slow and as unfair as the bus may be. What each of the two
// senders sends, signals and answers, stays in order; what of whom arrives first is chance, and so
// is when it is handled.
type world struct {
	rng   *rand.Rand
	m     *model
	seq   dbus.Sequence
	units map[string]string // live scope → cgroup
	sess  map[string]uint32 // live session → UID
	begun map[string]bool   // every scope that ever lived

	systemd, logind []letter // sent, not arrived
	inbox           []letter // arrived, not handled
	asks            []*ask   // on their way to a sender
	jumps           bool     // answers may be handled before signals that arrived earlier
	events          map[string]string
}

// letter is a signal or an answer; read is called with its sequence number.
type letter struct {
	answer bool
	seq    dbus.Sequence
	read   func(seq dbus.Sequence)
}

func post(box *[]letter, answer bool, read func(dbus.Sequence)) {
	*box = append(*box, letter{answer: answer, read: read})
}

func (w *world) start(id string, uid uint32) {
	scope := sessionScope(id)
	w.units[scope], w.sess[id], w.begun[scope] = fmt.Sprintf("/user.slice/user-%d.slice/%s", uid, scope), uid, true
	post(&w.systemd, false, func(dbus.Sequence) { w.m.unitNew(scope, time.Time{}) })
	post(&w.logind, false, func(dbus.Sequence) { w.m.sessionNew(id, "/"+dbus.ObjectPath(id), time.Time{}) })
	post(&w.systemd, false, func(seq dbus.Sequence) { w.m.jobRemoved(scope, "done", seq, time.Time{}) })
}

func (w *world) stop(id string) {
	scope := sessionScope(id)
	delete(w.units, scope)
	delete(w.sess, id)
	if w.rng.IntN(2) == 0 {
		post(&w.systemd, false, func(seq dbus.Sequence) { w.m.jobRemoved(scope, "done", seq, time.Time{}) })
	}
	for range w.rng.IntN(3) {
		post(&w.systemd, false, func(seq dbus.Sequence) { w.m.unitRemoved(scope, seq, time.Time{}) })
		post(&w.systemd, false, func(dbus.Sequence) { w.m.unitNew(scope, time.Time{}) })
	}
	post(&w.systemd, false, func(seq dbus.Sequence) { w.m.unitRemoved(scope, seq, time.Time{}) })
	post(&w.logind, false, func(seq dbus.Sequence) { w.m.sessionRemoved(id, seq, time.Time{}) })
}

// reload says of everything that it is removed; what stops before its end is not told apart.
func (w *world) reload(stopped string) {
	post(&w.systemd, false, func(dbus.Sequence) { w.m.reload(true) })
	for _, scope := range sorted(w.units) {
		post(&w.systemd, false, func(seq dbus.Sequence) { w.m.unitRemoved(scope, seq, time.Time{}) })
	}
	if stopped != "" {
		w.stop(stopped)
	}
	post(&w.systemd, false, func(dbus.Sequence) {
		if w.m.reload(false) {
			w.list()
		}
	})
}

// list asks for the units, as after a reload; they are made a list of when systemd gets to it.
func (w *world) list() {
	if w.m.removed == nil {
		w.m.listing()
		w.asks = append(w.asks, nil)
	}
}

// answer gives the truth of this moment and sends it.
func (w *world) answer(a *ask) {
	switch {
	case a == nil:
		var units []listed
		for _, scope := range sorted(w.units) {
			units = append(units, listed{scope, "active", "running"})
		}
		var sessions []login1.Session
		for _, id := range sorted(w.sess) {
			sessions = append(sessions, login1.Session{ID: id, UID: w.sess[id], Path: "/" + dbus.ObjectPath(id)})
		}
		// Both are taken when the later one is here.
		var unitsSeq, sessionsSeq dbus.Sequence
		both := func() {
			if unitsSeq > 0 && sessionsSeq > 0 {
				w.m.sessionsListed(sessions, sessionsSeq, time.Time{})
				w.m.unitsListed(units, unitsSeq, true, time.Time{})
				w.m.listsDone()
			}
		}
		post(&w.systemd, true, func(seq dbus.Sequence) { unitsSeq = seq; both() })
		post(&w.logind, true, func(seq dbus.Sequence) { sessionsSeq = seq; both() })
	case a.session != nil:
		uid, known := w.sess[a.session.id]
		post(&w.logind, true, func(dbus.Sequence) {
			var info *Session
			if known {
				info = &Session{ID: a.session.id, UID: uid, Scope: sessionScope(a.session.id)}
			}
			w.m.sessionAnswered(a.session, info, !known)
		})
	default:
		path, alive := w.units[a.unit.name]
		post(&w.systemd, true, func(seq dbus.Sequence) {
			w.m.answered(a, answer{loaded: alive, alive: alive, path: path, seq: seq})
		})
	}
}

func pop[T any](list *[]T, i int) T {
	x := (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	return x
}

// arrive moves the first letter of a sender to the inbox.
func (w *world) arrive(box *[]letter) bool {
	if len(*box) == 0 {
		return false
	}
	l := pop(box, 0)
	w.seq++
	l.seq = w.seq
	w.inbox = append(w.inbox, l)
	return true
}

// handle reads the first letter, or, where answers jump, maybe the first answer.
func (w *world) handle() bool {
	if len(w.inbox) == 0 {
		return false
	}
	i := 0
	if w.jumps && w.rng.IntN(2) == 0 {
		i = max(0, slices.IndexFunc(w.inbox, func(l letter) bool { return l.answer }))
	}
	l := pop(&w.inbox, i)
	l.read(l.seq)
	events, asks := w.m.take()
	for _, e := range events {
		w.events[e.Unit] += map[Kind]string{Started: "S", Teardown: "T"}[e.Kind]
	}
	w.asks = append(w.asks, asks...)
	return true
}

// step moves one thing, and reports whether there was any.
func (w *world) step() bool {
	for _, way := range w.rng.Perm(4) {
		moved := false
		switch way {
		case 0:
			moved = w.arrive(&w.systemd)
		case 1:
			moved = w.arrive(&w.logind)
		case 2:
			moved = w.handle()
		case 3:
			if moved = len(w.asks) > 0; moved {
				w.answer(pop(&w.asks, 0))
			}
		}
		if moved {
			return true
		}
	}
	return false
}

// sorted makes a seed mean the same each time.
func sorted[V any](set map[string]V) []string { return slices.Sorted(maps.Keys(set)) }

// play lets sessions come and go at random, then lets everything arrive.
func play(seed uint64, jumps bool) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &world{rng: rng, m: newModel(), jumps: jumps, units: map[string]string{}, sess: map[string]uint32{},
		begun: map[string]bool{}, events: map[string]string{}}
	for id := range 12 {
		w.start(fmt.Sprint(id), uint32(1000+id%3))
		for range rng.IntN(12) {
			w.step()
		}
		live := sorted(w.sess)
		switch n := rng.IntN(16); {
		case n < 8:
			w.stop(live[rng.IntN(len(live))])
		case n == 8:
			w.reload(live[rng.IntN(len(live))])
		case n == 9:
			w.reload("")
		}
		if len(w.sess) == 0 {
			w.start("again"+fmt.Sprint(id), 1000)
		}
	}
	for w.step() {
	}
	w.list()
	for w.step() {
	}
	return w
}

// Whatever arrives when: one Teardown a life, at most one Started and that before it, and in the
// end the model knows exactly what lives.
func TestModelInAnyOrder(t *testing.T) {
	for seed := range uint64(1500) {
		w := play(seed, false)
		for _, scope := range sorted(w.begun) {
			got, lives := w.events[scope], w.units[scope] != ""
			if lives && got != "S" || !lives && got != "T" && got != "ST" {
				t.Fatalf("seed %d: %s: lives %q; it lives on: %v", seed, scope, got, lives)
			}
		}
		if got, want := sorted(w.m.units), sorted(w.units); !slices.Equal(got, want) {
			t.Fatalf("seed %d: units remembered %v, live %v", seed, got, want)
		}
		if got, want := sorted(w.m.sessions), sorted(w.sess); !slices.Equal(got, want) {
			t.Fatalf("seed %d: sessions remembered %v, live %v", seed, got, want)
		}
	}
}

// Answers and signals come to the loop through different goroutines, so now and then an answer can
// overtake. Then a Teardown may come twice, but none is lost.
func TestModelWhenAnswersJump(t *testing.T) {
	for seed := range uint64(1500) {
		w := play(seed, true)
		for _, scope := range sorted(w.begun) {
			got, lives := w.events[scope], w.units[scope] != ""
			if lives && !strings.HasSuffix(got, "S") || !lives && !strings.HasSuffix(got, "T") {
				t.Fatalf("seed %d: %s: lives %q; it lives on: %v", seed, scope, got, lives)
			}
		}
	}
}
