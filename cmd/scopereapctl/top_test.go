package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/reclaim"
)

// sampleOf is a look at a machine some seconds after fixedNow.
func sampleOf(r statusReport, seconds int) topSample {
	return topSample{statusReport: r, at: fixedNow.Add(time.Duration(seconds) * time.Second)}
}

// watched is a model that has seen a leaky machine change.
func watched() *topModel {
	m := newTopModel()
	m.take(sampleOf(reportOf(leaky(), trixie(), nil), 0))
	later := leaky()
	later.Ancestors[1].Direct += 60
	later.Ancestors = append(later.Ancestors, surveyed("/system.slice", 2, reclaim.MayReap, dead(8<<10, 0, 0)))
	later.Dying += 62
	d := daemonStatus(trixie())
	m.take(sampleOf(reportOf(later, trixie(), d), 60))
	after := *d
	after.Engine.Totals.Freed += 500
	after.Engine.Totals.Bytes += 20 << 20
	after.Engine.Totals.Events += 7
	after.Engine.Totals.Sweeps++
	after.Engine.Pinned = []reclaim.Pinned{{Ancestor: "/user.slice/user-1001.slice", Dying: 40,
		Pins: []reclaim.Pin{{Reason: reclaim.PinnedShmem, Bytes: 36 << 10}}}}
	after.Bus.Connected, after.PolicyError = false, "x"
	less := leaky()
	less.Ancestors[0].Direct -= 500
	less.Dying -= 500
	m.take(sampleOf(reportOf(less, trixie(), &after), 90))
	return m
}

func topText(m *topModel, columns, lines int) func(printer) {
	return func(p printer) {
		for _, l := range m.frame(columns, lines) {
			if l.style != "" {
				l.text = p.paint(l.style, l.text)
			}
			fmt.Fprintln(p.w, l.text)
		}
	}
}

func TestTopFrames(t *testing.T) {
	golden(t, "top-120x30", topText(watched(), 120, 30))
	golden(t, "top-60x16", topText(watched(), 60, 16))
	golden(t, "top-once", topText(watched(), 120, 0))
	golden(t, "top-begin", topText(newTopModel(), 80, 10))
	m := watched()
	m.press("?", 9)
	golden(t, "top-help", topText(m, 80, 30))
	m.press("?", 9)
	for range 3 {
		m.press(keyDown, 9)
	}
	m.press("s", 9)
	m.press("p", 9)
	m.sweeping, m.message = "/user.slice", "Sweeping needs root."
	goldenOn(t, "top-pressed", printer{colour: true}, topText(m, 90, 20))
	v1 := newTopModel()
	v1.take(sampleOf(v1Report(), 0))
	golden(t, "top-v1", topText(v1, 100, 14))
}

// No screen is too small, and no line is wider than the screen.
func TestTopFits(t *testing.T) {
	m := watched()
	for columns := range 140 {
		for lines := 1; lines < 50; lines += 3 {
			m.press(keyDown, m.page(lines))
			frame := m.frame(columns, lines)
			if len(frame) != lines {
				t.Fatalf("%dx%d: %d lines", columns, lines, len(frame))
			}
			for _, l := range frame {
				if text.StringWidth(l.text) > max(columns, leastWidth) {
					t.Fatalf("%dx%d: %q is too wide", columns, lines, l.text)
				}
			}
		}
	}
}

func TestTopKeys(t *testing.T) {
	m := watched()
	paths := func() (out []string) {
		for _, r := range m.rows {
			out = append(out, r.path)
		}
		return out
	}
	is := func(what, want string) {
		t.Helper()
		if what != want {
			t.Errorf("%s, want %s", what, want)
		}
	}
	is(m.selected, "/user.slice/user-1000.slice")
	m.press(keyDown, 5)
	is(m.selected, "/user.slice/user-1001.slice")
	m.press("s", 5)
	is(m.sort.String(), "reclaimable")
	is(m.selected, "/user.slice/user-1001.slice") // stays selected when it moves
	m.press("s", 5)
	is(paths()[0], "/")
	m.press(keyEnd, 5)
	is(m.selected, paths()[len(paths())-1])
	m.press(keyPageDown, 5)
	m.press(keyPageUp, 2)
	is(m.selected, paths()[len(paths())-3])
	m.press(keyHome, 5)
	m.press(keyUp, 5)
	is(m.selected, "/")
	// Where the selected one goes, its neighbour is selected.
	m.take(sampleOf(reportOf(reclaim.Survey{Dying: 1, Live: 1, Ancestors: []reclaim.Surveyed{
		surveyed("/b", 1, reclaim.MayReap, dead(0, 0, 0))}}, trixie(), nil), 100))
	is(m.selected, "/b")
	m.take(sampleOf(reportOf(reclaim.Survey{Live: 1}, trixie(), nil), 101))
	for k, want := range map[key]topWant{"q": wantQuit, keyInterrupt: wantQuit, keyRedraw: wantRedraw, keySuspend: wantSuspend,
		"w": wantNothing, "x": wantNothing, keyPageDown: wantNothing} {
		if got := m.press(k, 5); got != want {
			t.Errorf("%s on an empty list: %d, want %d", k, got, want)
		}
	}
	if got := watched().press(keyEnter, 5); got != wantSweep {
		t.Errorf("enter: %d", got)
	}
	m.press("?", 5)
	if got := m.press("w", 5); got != wantNothing || m.help {
		t.Errorf("a key in the help: %d, help %t", got, m.help)
	}
}

// However long it runs and however many ancestors come by, it stays small.
func TestTopBounded(t *testing.T) {
	m := newTopModel()
	for i := range 2000 {
		s := reclaim.Survey{Dying: 20, Live: 1}
		for j := range 20 {
			s.Ancestors = append(s.Ancestors, surveyed(fmt.Sprintf("/a%d", i*20+j), 1, reclaim.MayReap, dead(0, 0, 0)))
		}
		m.take(sampleOf(reportOf(s, trixie(), nil), i))
	}
	if len(m.by) > mostSeries || len(m.events) > mostEvents || len(m.total.v) > 301 {
		t.Errorf("%d series, %d events, %d totals", len(m.by), len(m.events), len(m.total.v))
	}
	m.take(topSample{err: control.ErrNoDaemon, at: fixedNow})
	if m.message != control.ErrNoDaemon.Error() || len(m.rows) == 0 {
		t.Errorf("after a failed look: %q, %d rows", m.message, len(m.rows))
	}
}

func TestSpark(t *testing.T) {
	var s series
	if got := s.spark(fixedNow, 5); got != "     " {
		t.Errorf("nothing known: %q", got)
	}
	for i := range 5 {
		s.add(fixedNow.Add(time.Duration(i)*time.Minute), int64(i)*10)
	}
	for after, want := range map[time.Duration]string{
		4 * time.Minute: "▁▂▄▆█", 5 * time.Minute: "▂▄▆██", 20 * time.Minute: "▁▁▁▁▁",
	} {
		if got := s.spark(fixedNow.Add(after), 5); got != want {
			t.Errorf("after %s: %q, want %q", after, got, want)
		}
	}
	s.add(fixedNow.Add(time.Hour), 0)
	if len(s.v) != 1 || !s.idle() {
		t.Errorf("after an hour: %v", s.v)
	}
}

func TestTopWait(t *testing.T) {
	for _, tc := range []struct{ cost, took, want time.Duration }{
		{0, 0, time.Second},
		{10 * time.Millisecond, 100 * time.Millisecond, 900 * time.Millisecond},
		{100 * time.Millisecond, 100 * time.Millisecond, 900 * time.Millisecond},
		{500 * time.Millisecond, 2 * time.Second, 3 * time.Second},
		{10 * time.Millisecond, 3 * time.Second, 0},
	} {
		if got := topWait(tc.cost, tc.took); got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}

func TestParseKeys(t *testing.T) {
	for in, want := range map[string][]key{
		"q": {"q"}, "\x1b[A\x1b[B": {keyUp, keyDown}, "\x1bOA": {keyUp}, "\x1b[5~j\x1b[6~": {keyPageUp, "j", keyPageDown},
		"\x1b": nil, "\x1bq": {"q"}, "\x1b[": nil, "\x1b[1;5A": nil, "\x1b[200~q": {"q"}, "\r\n": {keyEnter, keyEnter},
		"\x03\x1a\x0c": {keyInterrupt, keySuspend, keyRedraw}, "é\x00\x7f": nil, "\x1b[H\x1b[F": {keyHome, keyEnd},
	} {
		if diff := cmp.Diff(want, parseKeys([]byte(in))); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("\x1b[1;5A\x1bOq"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(parseKeys(in)) > len(in) {
			t.Error("more keys than bytes")
		}
	})
}

// From the fake tree, as the verb looks at it.
func TestTopLook(t *testing.T) {
	m, a := fakeV2(t), idle(t)
	s := a.topLook(t.Context(), m)
	if s.err != nil || s.Dying != 5 || len(s.Ancestors) != 1 || s.cost < 0 {
		t.Fatalf("%+v", s)
	}
	var b strings.Builder
	if err := a.topOnce(t.Context(), m, printer{w: &b}); err != nil || !strings.Contains(b.String(), "/user.slice") {
		t.Errorf("%v: %s", err, b.String())
	}
	var errs strings.Builder
	if code := run([]string{"top"}, &b, &errs); code != exitcode.Usage || !strings.Contains(errs.String(), "--once") {
		t.Errorf("without a terminal: %d %s", code, errs.String())
	}
}
