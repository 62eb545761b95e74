package reclaim

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func psi(avg10 string) string {
	return "some avg10=" + avg10 + " avg60=0.00 avg300=0.00 total=1\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n"
}

func TestParsePressure(t *testing.T) {
	for data, want := range map[string]float64{
		psi("0.00"): 0, psi("12.34"): 12.34, psi("100.00"): 100,
		"": -1, "\n": -1, "some": -1, "some avg10=12": -1, "full avg10=1.00\n": -1,
		psi("-1.00"): -1, psi("101"): -1, psi("NaN"): -1, psi("+Inf"): -1, psi(""): -1, psi("x"): -1,
		"some avg60=1.00 avg10=2.00\n": -1,
	} {
		got, err := parsePressure([]byte(data))
		var pe *ParseError
		if errors.As(err, &pe) != (want < 0) || got != max(want, 0) {
			t.Errorf("%q: %v, %v", data, got, err)
		}
	}
}

func FuzzPressure(f *testing.F) {
	f.Add([]byte(psi("12.34")))
	f.Add([]byte("some avg10=0x1p4\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := parsePressure(data); !(p >= 0 && p <= 100) || err != nil && p != 0 {
			t.Errorf("%v, %v", p, err)
		}
	})
}

// fakeProc is a /proc with pressure files; "" leaves one out.
func fakeProc(t *testing.T, memory, io string) string {
	t.Helper()
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "pressure"), 0o755); err != nil {
		t.Fatal(err)
	}
	setPressure(t, proc, "memory", memory)
	setPressure(t, proc, "io", io)
	return proc
}

func setPressure(t *testing.T, proc, name, content string) {
	t.Helper()
	file := filepath.Join(proc, "pressure", name)
	err := os.Remove(file)
	if content != "" {
		err = os.WriteFile(file, []byte(content), 0o644)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestPressureAbove(t *testing.T) {
	own := filepath.Join(t.TempDir(), "memory.pressure")
	if err := os.WriteFile(own, []byte(psi("30.00")), 0o644); err != nil {
		t.Fatal(err)
	}
	limits := PressureLimits{Memory: 20, IO: 60}
	for _, c := range []struct {
		name, memory, io, own string
		limits                PressureLimits
		why                   string
		bad                   bool
	}{
		{name: "calm", memory: psi("19.99"), io: psi("59"), limits: limits},
		{name: "at the limit", memory: psi("20.00"), io: psi("60.00"), limits: limits},
		{name: "memory", memory: psi("20.10"), io: psi("0.00"), limits: limits, why: "memory pressure 20.1%"},
		{name: "io", memory: psi("0.00"), io: psi("75.00"), limits: limits, why: "I/O pressure 75.0%"},
		{name: "our own part", memory: psi("49.00"), io: psi("0.00"), own: own, limits: limits},
		{name: "others beside our own part", memory: psi("51.00"), io: psi("0.00"), own: own, limits: limits, why: "memory pressure 21.0%"},
		{name: "more ours than the machine's", memory: psi("1.00"), io: psi("0.00"), own: own, limits: limits},
		{name: "own is unreadable", memory: psi("49.00"), io: psi("0.00"), own: own + "x", limits: limits, why: "memory pressure 49.0%"},
		{name: "never", memory: psi("100.00"), io: psi("100.00"), limits: PressureLimits{100, 100}},
		{name: "garbage", memory: "x\n", io: psi("0.00"), limits: limits, bad: true},
		{name: "no io", memory: psi("0.00"), limits: limits, bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Pressure{Proc: fakeProc(t, c.memory, c.io), Own: c.own}
			over, err := p.Above(c.limits)
			if (err != nil) != c.bad || (over.Why == "") != (c.why == "") || !strings.HasPrefix(over.Why, c.why) ||
				over.IO != strings.HasPrefix(c.why, "I/O") {
				t.Errorf("%+v, %v", over, err)
			}
		})
	}
	if _, err := (Pressure{Proc: fakeProc(t, "", "")}).Above(limits); !errors.Is(err, ErrNoPSI) {
		t.Errorf("psi=0: %v", err)
	}
	if _, err := (Pressure{Proc: filepath.Join(t.TempDir(), "none")}).Above(limits); !errors.Is(err, ErrNoPSI) {
		t.Errorf("no PSI in the kernel: %v", err)
	}
}

// gateRun is a gate over a /proc of files, with a clock of its own.
type gateRun struct {
	pressureGate
	t    *testing.T
	proc string
	said bytes.Buffer
	at   time.Time
	busy float64 // what part of the time sda is
	used time.Duration
	wait int // requests under way
}

func newGateRun(t *testing.T) *gateRun {
	g := &gateRun{t: t, proc: fakeProc(t, psi("0.00"), psi("0.00")), at: t0}
	g.pressureGate = pressureGate{pressure: Pressure{Proc: g.proc}, log: slog.New(slog.NewTextHandler(&g.said, nil)), part: 1}
	return g
}

// step lets time pass and looks at it again.
func (g *gateRun) step(d time.Duration) float64 {
	g.t.Helper()
	g.at = g.at.Add(d)
	g.used += time.Duration(g.busy * float64(d))
	line := fmt.Sprintf("   8  0 sda 9 9 9 9 9 9 9 9 %d %d 9 0 0 0 0\n   8  16 sdb 1 1 1 1 1 1 1 1 0 7 7\n", g.wait, g.used.Milliseconds())
	if err := os.WriteFile(filepath.Join(g.proc, "diskstats"), []byte(line), 0o644); err != nil {
		g.t.Fatal(err)
	}
	return g.look(PressureLimits{Memory: 20, IO: 60}, g.at)
}

func (g *gateRun) lines(want ...string) {
	g.t.Helper()
	var got []string
	for line := range strings.Lines(g.said.String()) {
		_, msg, _ := strings.Cut(line, "msg=")
		got = append(got, msg)
	}
	if len(got) != len(want) {
		g.t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), g.said.String())
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			g.t.Errorf("line %d: %swant %q", i, got[i], want[i])
		}
	}
}

// TestPressureGate: under pressure reaping has a part of its budget, for a
// bounded time. Each change is said once; pressure is read every two seconds.
func TestPressureGate(t *testing.T) {
	g := newGateRun(t)
	step := func(d time.Duration, want float64) {
		t.Helper()
		if got := g.step(d); got != want {
			t.Errorf("at %v: %v of the budget, want %v", g.at.Sub(t0), got, want)
		}
	}
	step(0, 1)
	setPressure(t, g.proc, "memory", psi("50.00"))
	step(time.Second, 1) // not looked at again yet
	step(time.Second, givenPart)
	step(500*time.Millisecond, givenPart)
	setPressure(t, g.proc, "memory", psi("60.00"))
	step(2*time.Second, givenPart)
	since := t0.Add(2 * time.Second)
	want := GivingWay{Why: "memory pressure 60.0% is above 20%", Since: since, Until: since.Add(givenMost), Part: givenPart}
	if got := g.givingWay(g.at); got == nil || *got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if g.givingWay(g.at.Add(lookGood+1)) != nil {
		t.Error("a look of long ago tells of the present")
	}
	setPressure(t, g.proc, "memory", psi("5.00"))
	step(2*time.Second, 1)
	step(2*time.Second, 1)
	if g.givingWay(g.at) != nil {
		t.Error("gives way to nothing")
	}
	setPressure(t, g.proc, "memory", "")
	step(2*time.Second, 1) // no PSI: goes on, said once
	step(time.Hour, 1)
	g.lines("giving way", "pressure is over", "does not give way")
	if now, times := g.yields.now.Load(), g.yields.times.Load(); now || times != 1 {
		t.Errorf("gives way %v, %d times; want false, once", now, times)
	}
}

// TestPressureLasts: nothing stops reaping for ever, and what ends and comes back
// is given way to again.
func TestPressureLasts(t *testing.T) {
	for _, kind := range []string{"memory", "io"} {
		t.Run(kind, func(t *testing.T) {
			g := newGateRun(t)
			g.busy = 0.97
			g.step(0)
			setPressure(t, g.proc, kind, psi("90.00"))
			gave := time.Duration(0)
			for range 600 {
				if g.step(2*time.Second) < 1 {
					gave += 2 * time.Second
				}
			}
			if gave != givenMost {
				t.Errorf("gave way for %v of 20 minutes", gave)
			}
			if s := g.givingWay(g.at); s == nil || s.Part != 1 || s.Idle || !s.Until.Before(g.at) {
				t.Errorf("%+v", s)
			}
			if g.yields.now.Load() {
				t.Error("counted as giving way with its whole budget")
			}
			setPressure(t, g.proc, kind, psi("0.00"))
			g.step(2 * time.Second)
			setPressure(t, g.proc, kind, psi("90.00"))
			if got := g.step(2 * time.Second); got != givenPart {
				t.Errorf("anew: %v of the budget", got)
			}
			g.lines("giving way", "pressure lasts", "pressure is over", "giving way")
		})
	}
}

// TestPressureHovers: neither pressure that comes and goes, nor memory's and I/O's in turns, gets more of ten minutes out
// of any twenty; and what status says of it is so.
func TestPressureHovers(t *testing.T) {
	const high, low = "90.00", "0.00"
	for name, turns := range map[string][]struct{ memory, io string }{
		"at the limit": {{high, low}, {high, low}, {low, low}},
		"pulses":       {{high, low}, {low, low}, {low, low}, {low, low}, {low, low}, {low, low}, {low, low}},
		"in turns":     {{high, low}, {low, high}},
		"both":         {{high, high}, {low, high}, {low, low}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateRun(t)
			g.busy = 0.97
			g.step(0)
			var given []bool // look by look
			last := t0       // when it last ceased to give way
			for i := range int(6 * givenMost / pressureLook) {
				turn := turns[i%len(turns)]
				setPressure(t, g.proc, "memory", psi(turn.memory))
				setPressure(t, g.proc, "io", psi(turn.io))
				part := g.step(pressureLook)
				given = append(given, part < 1)
				s := g.givingWay(g.at)
				switch pressed := turn.memory == high || turn.io == high; {
				case pressed != (s != nil):
					t.Fatalf("pressure %v, status %+v", pressed, s)
				case part < 1:
					last = g.at.Add(pressureLook)
					if s.Part != part || !s.Until.After(g.at) || s.Until.After(g.at.Add(givenMost)) {
						t.Fatalf("at %v it gives way: %+v", g.at, s)
					}
				case pressed && (s.Part != 1 || !s.Until.Equal(last)):
					t.Fatalf("at %v it gives way no longer, since %v: %+v", g.at, last, s)
				}
			}
			most, sum := 0, 0
			window := int(2 * givenMost / pressureLook)
			for i, gives := range given {
				if gives {
					sum++
				}
				if i >= window && given[i-window] {
					sum--
				}
				most = max(most, sum)
			}
			if got := time.Duration(most) * pressureLook; got > givenMost || got < givenMost/4 {
				t.Errorf("gave way for %v of twenty minutes", got)
			}
		})
	}
}

// TestPressureAgain: nobody knows whether pressure lasted while nobody looked.
func TestPressureAgain(t *testing.T) {
	g := newGateRun(t)
	g.step(0)
	setPressure(t, g.proc, "memory", psi("90.00"))
	for range 2 {
		if got := g.step(2 * givenMost); got != givenPart {
			t.Errorf("%v of the budget", got)
		}
	}
	g.lines("giving way")
}

// TestPressureOfIdleDisks: I/O pressure without a busy disk is not believed, as
// soon as that has lasted longer than avg10 remembers.
func TestPressureOfIdleDisks(t *testing.T) {
	g := newGateRun(t)
	g.step(0)
	setPressure(t, g.proc, "io", psi("97.00"))
	gave := time.Duration(0)
	for range 100 {
		if g.step(2*time.Second) < 1 {
			gave += 2 * time.Second
		}
	}
	if gave < idleFor || gave > idleFor+2*pressureLook {
		t.Errorf("gave way for %v to idle disks", gave)
	}
	if s := g.givingWay(g.at); s == nil || !s.Idle || s.Part != 1 || s.Disk != "sda 0%" {
		t.Errorf("%+v", s)
	}
	if got := g.step(30 * time.Second); got != 1 {
		t.Errorf("half a minute later: %v of the budget", got)
	}
	if got := g.step(looksApart + time.Second); got != givenPart {
		t.Errorf("nobody has looked at the disks for long: %v of the budget", got)
	}
	g.busy = 0.6
	if got := g.step(2 * time.Second); got != givenPart {
		t.Errorf("a disk is busy: %v of the budget", got)
	}
	if s := g.givingWay(g.at); s == nil || s.Idle || s.Disk != "sda 60%" {
		t.Errorf("%+v", s)
	}
	g.lines("giving way", "not believed")
	// A disk that answers nothing any more.
	g = newGateRun(t)
	g.wait = 3
	setPressure(t, g.proc, "io", psi("97.00"))
	for range 100 {
		if got := g.step(2 * time.Second); got != givenPart {
			t.Fatalf("a stuck disk: %v of the budget", got)
		}
	}
	// Without the disks' figures it is believed.
	g = newGateRun(t)
	g.pressure.Proc += "/none"
	if u, ok := g.disks.busiest(g.pressure.Proc, t0); ok {
		t.Errorf("%+v", u)
	}
}

func TestParseDiskstats(t *testing.T) {
	got, err := parseDiskstats([]byte(" 7 0 loop0 1371 10 26265 1175 1001 293 155012 1695 0 2540 4041 0 0 0 0 445 1170\n" +
		"\n 8 1 sda1 1 2 3 4 5 6 7 8 2 4294967290 11\n"))
	if d := cmp.Diff(map[string]diskStat{"loop0": {0, 2540}, "sda1": {2, 4294967290}}, got, cmp.AllowUnexported(diskStat{})); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for _, bad := range []string{"8 0 sda\n", "8 0 sda 1 2 3 4 5 6 7 8 x 10 11\n", "8 0 sda 1 2 3 4 5 6 7 8 9 -1 11\n", "8 0 sda 1 2 3 4 5 6 7 8 9 10"} {
		var pe *ParseError
		if got, err := parseDiskstats([]byte(bad)); !errors.As(err, &pe) || got != nil {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
	// Busy counters wrap round, disks come and go.
	u := mostUsed(map[string]diskStat{"a": {0, 4294967290}, "b": {1, 0}, "gone": {0, 0}}, map[string]diskStat{"a": {0, 494}, "b": {0, 100}, "new": {9, 999}}, time.Second)
	if u.name != "a" || u.part < 0.49 || u.part > 0.51 || u.stuck || !u.busy() {
		t.Errorf("%+v", u)
	}
	if u := mostUsed(nil, nil, time.Second); u.busy() || u.String() != "none" {
		t.Errorf("no disks: %+v", u)
	}
	if u := mostUsed(map[string]diskStat{"a": {1, 0}, "b": {0, 0}}, map[string]diskStat{"a": {1, 0}, "b": {0, 9}}, time.Second); !u.stuck {
		t.Errorf("a stuck one beside one that works: %+v", u)
	}
}

func FuzzDiskstats(f *testing.F) {
	f.Add([]byte(" 8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n"), []byte(" 8 0 sda 1 2 3 4 5 6 7 8 9 4294967295 11\n"))
	f.Add([]byte("\x00"), []byte("8 0  1 2 3 4 5 6 7 8 9 10 11\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		was, err := parseDiskstats(a)
		if err != nil && was != nil {
			t.Error(was, err)
		}
		now, _ := parseDiskstats(b)
		if u := mostUsed(was, now, time.Second); !(u.part >= 0 && u.part <= 1) {
			t.Errorf("%+v", u)
		}
	})
}

// TestPressureNow: what a look outside of an engine says.
func TestPressureNow(t *testing.T) {
	proc := fakeProc(t, psi("0.00"), psi("0.00"))
	p, l := Pressure{Proc: proc}, PressureLimits{Memory: 20, IO: 60}
	if g := p.Now(t.Context(), l); g != nil {
		t.Errorf("%+v", g)
	}
	setPressure(t, proc, "io", psi("97.00"))
	if g := p.Now(t.Context(), l); g == nil || g.Idle || g.Part != givenPart {
		t.Errorf("without figures of the disks: %+v", g)
	}
	stats := filepath.Join(proc, "diskstats")
	if err := os.WriteFile(stats, []byte("8 0 sda 1 2 3 4 5 6 7 8 0 10 11\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if g := p.Now(t.Context(), l); g == nil || !g.Idle || g.Part != 1 || g.Disk != "sda 0%" {
		t.Errorf("idle disks: %+v", g)
	}
	if err := os.WriteFile(stats, []byte("8 0 sda 1 2 3 4 5 6 7 8 3 10 11\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if g := p.Now(t.Context(), l); g == nil || g.Idle || g.Part != givenPart {
		t.Errorf("a stuck disk: %+v", g)
	}
	setPressure(t, proc, "memory", psi("30.00"))
	if g := p.Now(t.Context(), l); g == nil || g.Disk != "" || !strings.HasPrefix(g.Why, "memory") {
		t.Errorf("%+v", g)
	}
}

// TestEngineUnderPressure: with lasting pressure a teardown is reaped all the
// same, within a part of the budget, and Status says so.
func TestEngineUnderPressure(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/u", 0)
	k.die("/u", 3, 8192)
	c := testConfig()
	c.Pressure = PressureLimits{Memory: 20, IO: 60}
	e := k.engine(t, c)
	setPressure(t, e.gate.pressure.Proc, "memory", psi("99.00"))
	e.start().Teardown("/u/s.scope", time.Now())
	if o := e.outcome(); o.Freed != 3 {
		t.Errorf("%+v", o)
	}
	s := e.Status()
	if g := s.GivingWay; g == nil || g.Part != givenPart || !strings.HasPrefix(g.Why, "memory pressure 99.0%") {
		t.Errorf("%+v", g)
	}
	share := make(chan float64)
	e.Ping(func() { share <- e.budget.share })
	if got := <-share; got != c.Share*givenPart {
		t.Errorf("the budget's share is %v", got)
	}
	c.Share = 0.5
	e.SetConfig(c) // which does not end it
	e.Ping(func() { share <- e.budget.share })
	if got := <-share; got != c.Share*givenPart {
		t.Errorf("by a new policy it is %v", got)
	}
}
