package reclaim

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDeadMemory(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 2, 0)
	x.file("/p", "memory.stat", "anon 4096\nfile 1000\nshmem 100\nfile_dirty 60\ninactive_file 700\nactive_file 200\nkernel 500\n")
	x.file("/p", "memory.swap.current", "30\n")
	x.cgroup("/p/a", 0, 0)
	x.file("/p/a", "memory.stat", "anon 4096\nfile 300\nshmem 40\nfile_dirty 70\ninactive_file 300\nkernel 100\n")
	x.file("/p/a", "memory.swap.current", "10\n")
	x.cgroup("/p/b", 0, 0) // without swap accounting
	x.file("/p/b", "memory.stat", "anon 4096\nfile 100\nactive_file 200\n")
	x.cgroup("/p/a/inner", 0, 1<<40) // in /p/a's figures already
	if err := os.Mkdir(x.path("/p", "bare"), 0o755); err != nil {
		t.Fatal(err) // without the controller, or vanishing
	}
	got, err := x.tree().DeadMemory("/p")
	if err != nil {
		t.Fatal(err)
	}
	want := DeadMemory{Children: 2, MemoryStat: MemoryStat{
		File: 600, Shmem: 60, InactiveFile: 400, Kernel: 400, Swap: 20, // anon and dirty came out negative
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r := got.Reclaimable(); r != 540 {
		t.Errorf("reclaimable %d", r)
	}
}

// TestDeadMemoryErrors: a living child that cannot be read must not be taken
// for dead memory.
func TestDeadMemoryErrors(t *testing.T) {
	for _, c := range []struct{ name, cgroup, file, content string }{
		{"garbage", "/p", "memory.stat", "file x\n"},
		{"child's garbage", "/p/a", "memory.stat", "file x\n"},
		{"child's file cut off", "/p/a", "memory.stat", "anon 0\nfile 40"},
		{"child's file empty", "/p/a", "memory.stat", ""},
		{"garbage in swap", "/p/a", "memory.swap.current", "x\n"},
		{"swap cut off", "/p/a", "memory.swap.current", "40"},
		{"not a file", "/p/a", "memory.stat", "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newFixture(t)
			x.cgroup("/p", 1, 8192)
			x.cgroup("/p/a", 0, 4096)
			if c.content == "/" {
				x.block(c.cgroup, c.file)
			} else {
				x.file(c.cgroup, c.file, c.content)
			}
			d, err := x.tree().DeadMemory("/p")
			if err == nil || !strings.Contains(err.Error(), x.path(c.cgroup, c.file)) {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(DeadMemory{}, d); diff != "" {
				t.Error(diff)
			}
		})
	}
	x := newFixture(t)
	if _, err := x.tree().DeadMemory("/p"); !gone(err) {
		t.Error(err)
	}
}

func TestReclaimable(t *testing.T) {
	for _, c := range []struct {
		name string
		m    MemoryStat
		want int64
	}{
		{"nothing", MemoryStat{}, 0},
		{"shmem only", MemoryStat{File: 4096, Shmem: 4096}, 0},
		{"locked shmem counts off twice", MemoryStat{File: 4096, Shmem: 4096, Unevictable: 4096}, 0},
		{"on its way to the lists", MemoryStat{File: 8192}, 8192},
		{"on the lists", MemoryStat{File: 8192, Shmem: 4096, InactiveFile: 4096, ActiveFile: 4096}, 8192},
	} {
		if got := (DeadMemory{MemoryStat: c.m}).Reclaimable(); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	for charged, want := range map[int64]int64{12288: 12288, -4096: 0} { // the living have grown meanwhile
		if got := (DeadMemory{MemoryStat: MemoryStat{File: 4096, Charged: charged}, Coarse: true}).Reclaimable(); got != want {
			t.Errorf("coarse, %d charged: %d", charged, got)
		}
	}
}

func TestSurvey(t *testing.T) {
	x := newFixture(t)
	x.file("/", "cgroup.stat", cgroupStatText(15))
	x.cgroup("/clean", 6, 0)
	x.cgroup("/dirty", 5, 8192)
	x.cgroup("/full", 3, 1<<30)
	x.file("/full", "memory.max", fmt.Sprintln(1<<30))
	x.cgroup("/off", 1, 0)
	x.file("/off", "cgroup.subtree_control", "pids\n")
	got, err := x.tree().Survey(t.Context(), "/", 0)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Path        string
		Verdict     Verdict
		Reclaimable int64
		Pins        string
	}
	var rows []row
	for _, a := range got.Ancestors {
		rows = append(rows, row{a.Path, a.Verdict, a.Reclaimable, PinsString(a.Pins)})
	}
	want := []row{
		{"/clean", MayReap, 0, "kernel 8.0 KiB"},
		{"/dirty", MayReap, 8192, ""},
		{"/full", NearLimit, 1 << 30, ""},
	}
	if d := cmp.Diff(want, rows[:3]); d != "" || got.Dying != 15 {
		t.Errorf("%d dying; %s", got.Dying, d)
	}
	if d := cmp.Diff([]row{{"/off", NoController, 0, ""}}, rows[3:]); d != "" {
		t.Error(d)
	}
	if got, err = x.tree().Survey(t.Context(), "/", 2); err != nil || len(got.Ancestors) != 2 {
		t.Errorf("limited: %+v, %v", got, err)
	}
	x.file("/dirty", "memory.stat", "nonsense\n")
	x.remove("/clean")
	got, err = x.tree().Survey(t.Context(), "/", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range got.Ancestors {
		if a.Path == "/dirty" && a.Verdict != Unreadable {
			t.Errorf("%+v", a)
		}
	}
	if s := x.tree().surveyOne(Ancestor{Path: "/clean"}); s.Verdict != Vanished {
		t.Errorf("%+v", s)
	}
	x.file("/", "cgroup.stat", "")
	var pe *ParseError
	if _, err = x.tree().Survey(t.Context(), "/", 0); !errors.As(err, &pe) {
		t.Error(err)
	}
}

func BenchmarkDeadMemory(b *testing.B) {
	x := newFixture(b)
	x.cgroup("/p", 1, 1<<20)
	for i := range 100 {
		x.cgroup(fmt.Sprintf("/p/s%d", i), 0, 4096)
	}
	tree := x.tree()
	b.ReportAllocs()
	for b.Loop() {
		if d, err := tree.DeadMemory("/p"); err != nil || d.Children != 100 {
			b.Fatal(d, err)
		}
	}
}

// TestDeadMemoryAllocates: a live child costs no memory, with swap accounting or without.
func TestDeadMemoryAllocates(t *testing.T) {
	for _, swap := range []bool{false, true} {
		x := newFixture(t)
		x.cgroup("/p", 1, 1<<20)
		allocs := func(live int) float64 {
			for i := range live {
				c := x.cgroup(fmt.Sprintf("/p/s%d", i), 0, 4096)
				if swap {
					x.file(c, "memory.swap.current", "0\n")
				}
			}
			tree := x.tree()
			// The least of some: with the race detector, sync.Pool drops what it is given now and then.
			least := math.Inf(1)
			for range 20 {
				least = min(least, testing.AllocsPerRun(1, func() {
					if d, err := tree.DeadMemory("/p"); err != nil || d.Children != live {
						t.Fatal(d, err)
					}
				}))
			}
			return least
		}
		if few, many := allocs(10), allocs(200); many > few {
			t.Errorf("swap %v: %.0f allocations for 10 live children, %.0f for 200", swap, few, many)
		}
	}
}
