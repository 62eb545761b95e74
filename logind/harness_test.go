package logind

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/bustest"
)

// patience bounds how long a test waits for what must happen; reaching it is a failure, never a
// measurement.
const patience = 60 * time.Second

// harness is a listener on a bus of its own, with a consumer that remembers everything.
type harness struct {
	*testing.T
	bus *bustest.Bus
	m   *bustest.Machine
	l   *Listener
	log *bustest.LogBook

	mu   sync.Mutex
	got  []Event
	mark int
}

// start runs a listener on a fresh fake machine, after prepare, and waits until it has compared
// what there is.
func start(t *testing.T, opts Options, prepare func(*bustest.Machine)) *harness {
	t.Helper()
	h := launch(t, opts, prepare)
	h.sync()
	return h
}

// launch does not wait.
func launch(t *testing.T, opts Options, prepare func(*bustest.Machine)) *harness {
	t.Helper()
	h := &harness{T: t, bus: bustest.StartBus(t), log: &bustest.LogBook{}}
	return h.launch(opts, prepare)
}

// launch runs a listener on a bus.
func (h *harness) launch(opts Options, prepare func(*bustest.Machine)) *harness {
	t := h.T
	t.Helper()
	h.m = bustest.NewMachine(t, h.bus)
	if prepare != nil {
		prepare(h.m)
	}
	opts.Dial = DialAddress(h.bus.Address)
	opts.Logger = slog.New(slog.NewTextHandler(h.log, nil))
	h.l = New(opts)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	wg.Go(func() {
		for e := range h.l.Events() {
			h.mu.Lock()
			h.got = append(h.got, e)
			h.mu.Unlock()
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return h
}

// until waits for a condition.
func (h *harness) until(what string, cond func() bool) {
	h.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			h.Fatalf("%s: did not happen\nstats %+v\nevents:\n%s\nlog:\n%s", what, h.l.Stats(), h.table(), h.log)
		}
	}
}

// sync waits until everything that was signalled so far is handled: a unit of its own comes and
// goes, twice, with all lookups done in between.
func (h *harness) sync() {
	h.Helper()
	h.until("subscription", h.m.Subscribed)
	for range 2 {
		h.mark++
		name := fmt.Sprintf("run-mark%d.scope", h.mark)
		h.m.StartUnit(bustest.Unit{Name: name, Slice: "system.slice"})
		h.until(name+" started or known", func() bool { return h.lives(name) != "" })
		h.m.StopUnit(name)
		h.until(name+" gone", func() bool { return strings.HasSuffix(h.lives(name), "T") })
		h.until("lookups done", func() bool { return h.l.Stats().Asking == 0 })
	}
}

// events returns what came for a unit, in order.
func (h *harness) events(unit string) []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	var of []Event
	for _, e := range h.got {
		if e.Unit == unit {
			of = append(of, e)
		}
	}
	return of
}

// lives writes a unit's events as letters: "STST" is two lives.
func (h *harness) lives(unit string) string {
	s := ""
	for _, e := range h.events(unit) {
		s += map[Kind]string{Started: "S", Teardown: "T"}[e.Kind]
	}
	return s
}

// want compares the lives of units.
func (h *harness) want(lives map[string]string) {
	h.Helper()
	for unit, want := range lives {
		if got := h.lives(unit); got != want {
			h.Errorf("%s: lives %q, want %q\nevents:\n%s\nlog:\n%s", unit, got, want, h.table(), h.log)
		}
	}
}

// nothingElse checks that no unit but these (and the marks of sync) had an event.
func (h *harness) nothingElse(but ...string) {
	h.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.got {
		if !slices.Contains(but, e.Unit) && !strings.HasPrefix(e.Unit, "run-mark") && !slices.Contains(always, e.Unit) {
			h.Errorf("unexpected event %+v", e)
		}
	}
}

// always are the units every fake machine has.
var always = []string{"system.slice", "user.slice", "cron.service"}

func (h *harness) table() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, e := range h.got {
		fmt.Fprintf(&b, "  %-8s %-32s %s (%s)\n", e.Kind, e.Unit, e.ControlGroup, e.Signal)
	}
	return b.String()
}
