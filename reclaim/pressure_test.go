package reclaim

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
			why, err := p.Above(c.limits)
			if (err != nil) != c.bad || (why == "") != (c.why == "") || !strings.HasPrefix(why, c.why) {
				t.Errorf("%q, %v", why, err)
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

// TestPressureGate: it says each change once, and looks at most every two
// seconds.
func TestPressureGate(t *testing.T) {
	var said bytes.Buffer
	proc := fakeProc(t, psi("0.00"), psi("0.00"))
	g := pressureGate{pressure: Pressure{Proc: proc}, log: slog.New(slog.NewTextHandler(&said, nil))}
	limits := PressureLimits{Memory: 20, IO: 60}
	now := time.Unix(1000, 0)
	step := func(after, want time.Duration, lines int) {
		t.Helper()
		now = now.Add(after)
		if got := g.closed(limits, now); got != want {
			t.Errorf("closed for %v, want %v", got, want)
		}
		if got := strings.Count(said.String(), "\n"); got != lines {
			t.Errorf("%d lines said, want %d:\n%s", got, lines, said.String())
		}
	}
	step(0, 0, 0)
	setPressure(t, proc, "memory", psi("50.00"))
	step(time.Second, 0, 0) // not looked at again yet
	step(time.Second, pressureLook, 1)
	step(500*time.Millisecond, pressureLook-500*time.Millisecond, 1)
	step(2*time.Second, pressureLook, 1) // still shut, said once
	setPressure(t, proc, "memory", psi("5.00"))
	step(2*time.Second, 0, 2)
	step(2*time.Second, 0, 2)
	setPressure(t, proc, "memory", "")
	step(2*time.Second, 0, 3) // no PSI: goes on, said once
	step(2*time.Second, 0, 3)
	step(time.Hour, 0, 3)
	if now, times := g.yields.now.Load(), g.yields.times.Load(); now || times != 1 {
		t.Errorf("gives way %v, %d times; want false, once", now, times)
	}
	for _, want := range []string{"giving way", "pressure is over", "does not give way"} {
		if strings.Count(said.String(), want) != 1 {
			t.Errorf("%q is not said once:\n%s", want, said.String())
		}
	}
}
