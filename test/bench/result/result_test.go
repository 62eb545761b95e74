package result

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func example() *Run {
	return &Run{
		Machine: "bookworm", Suite: "bench", Kernel: "6.1", OS: "Debian", Mode: "v2", Commit: "abc", Command: "make bench",
		Date: time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC), CPUs: 2, MemBytes: 1 << 30, Emulated: true,
		Contenders: []Contender{
			{Name: "nothing", DyingBefore: 100, DyingLeft: 100, CPUSeconds: 1},
			{Name: "floor", Floor: true, DyingBefore: 100, DyingLeft: 20, CPUSeconds: 0.8},
			{Name: "scopereap", Ours: true, DyingBefore: 100, DyingLeft: 0, CPUSeconds: 1.5,
				LeftWhy: map[string]int64{"shmem": 1}, Timeline: []Point{{Seconds: -1, Dying: 100}}},
		},
	}
}

func TestWriteAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "figures")
	want := example()
	path, err := Write(dir, want)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(path) != "bookworm-bench.json" {
		t.Errorf("written to %s", path)
	}
	got, err := ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]*Run{want}, got); d != "" {
		t.Error(d)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	path, err := Write(dir, example())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	typo := filepath.Join(t.TempDir(), "x.json")
	if err := os.WriteFile(typo, []byte(strings.Replace(string(data), "DyingLeft", "DyingLfet", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(typo); err == nil {
		t.Error("a field that is not known was read")
	}
	if err := os.Rename(path, filepath.Join(dir, "trixie-bench.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDir(dir); err == nil {
		t.Error("a run under another's name was read")
	}
}

func TestCheck(t *testing.T) {
	for name, spoil := range map[string]func(*Run){
		"path as machine":  func(r *Run) { r.Machine = "../x" },
		"no kernel":        func(r *Run) { r.Kernel = "" },
		"no date":          func(r *Run) { r.Date = time.Time{} },
		"nothing measured": func(r *Run) { r.Contenders = nil },
		"nothing to do":    func(r *Run) { r.Contenders[0].DyingBefore = 0 },
		"fewer, not why":   func(r *Run) { r.Scale = &Scale{Asked: 2, Made: 1} },
	} {
		r := example()
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		if spoil(r); r.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSetRatios(t *testing.T) {
	r := example()
	r.SetRatios()
	want := []float64{0, 1, 1.5}
	for i, c := range r.Contenders {
		if math.Abs(c.RatioToFloor-want[i]) > 1e-9 {
			t.Errorf("%s: ratio %v, want %v", c.Name, c.RatioToFloor, want[i])
		}
	}
	r.Contenders = r.Contenders[2:]
	if r.SetRatios(); r.Contenders[0].RatioToFloor != 0 {
		t.Error("a ratio without a floor")
	}
}

func TestSummarize(t *testing.T) {
	var nanos []int64
	for i := int64(100); i > 0; i-- {
		nanos = append(nanos, i*1000)
	}
	if d := cmp.Diff(Latency{N: 100, P50: 50, P99: 99, Max: 100}, Summarize(nanos)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Latency{N: 1, P50: 7, P99: 7, Max: 7}, Summarize([]int64{7000})); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Latency{}, Summarize(nil)); d != "" {
		t.Error(d)
	}
	if nanos[0] != 100_000 {
		t.Error("the caller's slice was sorted")
	}
}

func TestHere(t *testing.T) {
	var r Run
	if err := r.Here(); err != nil {
		t.Fatal(err)
	}
	if r.Kernel == "" || r.OS == "" || r.CPUs < 1 || r.MemBytes < 1<<20 {
		t.Errorf("%+v", r)
	}
}
