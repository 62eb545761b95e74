package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scopereap/scopereap/test/bench/result"
)

// keep leaves the example's plots as PNG there, to be looked at: go test -args -keep /tmp/x
var keep = flag.String("keep", "", "folder for the example's plots as PNG")

// example is one run of every kind, with made-up numbers.
func example(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	about := result.Run{Machine: "bookworm", Kernel: "6.1", OS: "Debian 12", Mode: "v2", Commit: "abc", Command: "make bench",
		Date: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), CPUs: 2, MemBytes: 1 << 30, Emulated: true, Load: "1.0 1.0 1.0"}
	bench := about
	bench.Suite = "bench"
	for i, name := range []string{"nothing", "drop_caches=1", "drop_caches=3", "unshielded write", "Katalyst's rule",
		"memory.high lowered", "bare shielded write", "scopereap"} {
		c := result.Contender{Name: name, DyingBefore: 2200, DyingLeft: int64(7-i) * 300, WallSeconds: 2, CPUSeconds: 0.03,
			LeftWhy: map[string]int64{"shmem": 3, "dirty": 12}, CPUSamples: []float64{1, 2, 3}, Floor: i == 6, Ours: i == 7,
			LiveCacheLost: int64(7-i) << 22}
		for s := -1.0; s < 12; s += 0.1 {
			gone := min(1, max(0, s/float64(i+1)))
			c.Timeline = append(c.Timeline, result.Point{Seconds: s, Dying: 2200 - int64(gone*float64(2200-c.DyingLeft)),
				LiveCacheBytes: 256<<20 - int64(gone*float64(c.LiveCacheLost))})
		}
		bench.Contenders = append(bench.Contenders, c)
	}
	bench.SetRatios()
	growth := about
	growth.Suite = "growth"
	growth.Growth = []result.Growth{{Axis: "live siblings", N: 1000, Reaped: 100, CPUSeconds: 0.1, CPUPerReaped: 0.001}}
	storm := about
	storm.Suite = "storm"
	storm.Storm = &result.Storm{Logins: 1200, How: "CreateSession", LoginWithout: result.Latency{N: 600, P50: 1000, P99: 2000, Max: 3000},
		LoginWith: result.Latency{N: 600, P50: 1100, P99: 2100, Max: 3100}}
	scale := about
	scale.Machine, scale.Suite, scale.Emulated = "native", "scale", false
	scale.Scale = &result.Scale{Asked: 400_000, Made: 380_000, WhyFewer: "no room", Budget: 0.05, MaxShareOverSecond: 0.2,
		Big: &result.Big{Asked: 20 << 30, Bytes: 18 << 30, WhyFewer: "no room either", LongestWrite: 0.05}}
	for i := range 800 {
		at := float64(i) / 10
		scale.Scale.ShareTimeline = append(scale.Scale.ShareTimeline, result.Share{Seconds: at + 0.1, Share: 0.4 * math.Pow(math.Sin(at*2), 8)})
		scale.Scale.DyingTimeline = append(scale.Scale.DyingTimeline, result.Count{Seconds: at, Dying: 380_000 - 475*int64(i)})
	}
	for _, r := range []*result.Run{&bench, &growth, &storm, &scale} {
		if _, err := result.Write(dir, r); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReport(t *testing.T) {
	dir := example(t)
	old := filepath.Join(dir, "gone-bench-dying.svg")
	if err := os.WriteFile(old, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := report(dir, *keep); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a plot of no result is still there: %v", err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## bookworm: bench", "**scopereap**", "12 dirty, 3 shmem", "| 1.00 |", "(median of 3)",
		"CPUs are emulated", "380,000 of 400,000: no room", "18.0 GiB", "20.0 GiB: no room either", "with ÷ without, p50 | 1.10",
		"native-scale-sweep.svg", "bookworm-bench-cache.svg", "20.0 % at most over any second"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	_, native, _ := strings.Cut(string(page), "## native")
	if strings.Contains(native, "emulated") {
		t.Error("a real machine is called emulated")
	}
	checkTables(t, string(page))
	plots, _ := filepath.Glob(filepath.Join(dir, "*.svg"))
	if len(plots) != 3 {
		t.Errorf("plots %q", plots)
	}
	for _, p := range plots {
		checkSVG(t, p)
	}
	if err := report(dir, ""); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(filepath.Join(dir, "README.md")); string(again) != string(page) {
		t.Error("made again, it differs")
	}
}

// checkTables wants every row as wide as its table's head.
func checkTables(t *testing.T, page string) {
	t.Helper()
	columns := 0
	for l := range strings.Lines(page) {
		if !strings.HasPrefix(l, "|") {
			columns = 0
			continue
		}
		n := strings.Count(l, "|")
		if columns == 0 {
			columns = n
		}
		if n != columns {
			t.Errorf("%d columns instead of %d: %s", n-1, columns-1, l)
		}
	}
}

// checkSVG wants XML all through, and a white ground.
func checkSVG(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(string(data))); ; {
		_, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if !strings.Contains(string(data), "fill:#FFFFFF") {
		t.Errorf("%s has no white ground", path)
	}
}

func TestReportWithoutResults(t *testing.T) {
	if err := report(t.TempDir(), ""); err == nil {
		t.Error("no results made a page")
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{count(0), "0"}, {count(999), "999"}, {count(1000), "1,000"}, {count(-1234567), "-1,234,567"},
		{size(0), "0 B"}, {size(1023), "1.00 KiB"}, {size(1048575), "1.00 MiB"}, {size(20 << 30), "20.0 GiB"}, {size(-4096), "-4.00 KiB"},
		{span(0), "0"}, {span(64e-6), "64.0 µs"}, {span(0.0005), "500 µs"}, {span(0.9996), "1.00 s"}, {span(0.25), "250 ms"}, {span(61), "61.0 s"},
		{percent(0.05), "5.00 %"}, {latency(result.Latency{}), "none"},
		{latency(result.Latency{N: 1, P50: 1, P99: 1500, Max: 2e6}), "1.00 µs / 1.50 ms / 2.00 s"},
		{why(map[string]int64{"b": 1, "a": 1, "c": 5}), "5 c, 1 a, 1 b"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

func TestLastSecond(t *testing.T) {
	var all []result.Share
	for i := range 30 { // 100 ms of CPU in the second second's first tenth
		s := result.Share{Seconds: float64(i+1) / 10}
		if i == 10 {
			s.Share = 1
		}
		all = append(all, s)
	}
	got := lastSecond(all)
	if got[9].Y != 0 || math.Abs(got[10].Y-10) > 1 || math.Abs(got[19].Y-10) > 1 || got[22].Y != 0 {
		t.Errorf("%v", got)
	}
}
