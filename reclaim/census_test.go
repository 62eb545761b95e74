package reclaim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCgroupStat(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       cgroupStat
		bad        string
	}{
		{name: "6.1", data: "nr_descendants 7\nnr_dying_descendants 3\n", want: cgroupStat{descendants: 7, dying: 3}},
		{
			name: "6.12", data: "nr_descendants 7\nnr_subsys_memory 5\nnr_dying_descendants 3\nnr_dying_subsys_memory 2\n",
			want: cgroupStat{7, 3, 2, true},
		},
		{name: "empty", bad: "nr_dying_descendants"},
		{name: "cut at a line", data: "nr_descendants 7\n", bad: "nr_dying_descendants"},
		{name: "cut in a number", data: "nr_descendants 7\nnr_dying_descendants 3", bad: `"nr_dying_descendants 3"`},
		{name: "garbage", data: "nr_descendants seven\n", bad: `"nr_descendants seven"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseCgroupStat([]byte(c.data))
			if d := cmp.Diff(c.want, got, cmp.AllowUnexported(cgroupStat{})); d != "" {
				t.Error(d)
			}
			if (err != nil) != (c.bad != "") || err != nil && (!strings.Contains(err.Error(), c.bad) || !strings.Contains(err.Error(), "cgroup.stat")) {
				t.Errorf("error %v, want one about %s", err, c.bad)
			}
		})
	}
}

func FuzzCgroupStat(f *testing.F) {
	f.Add([]byte("nr_descendants 7\nnr_dying_descendants 3\nnr_dying_subsys_memory 2\n"))
	f.Add([]byte("nr_dying_descendants 18446744073709551615\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := parseCgroupStat(data)
		if st.descendants < 0 || st.dying < 0 || st.dyingMemory < 0 || err != nil && st != (cgroupStat{}) {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// censusFixture: 2 hang right below /a, 3 below /a/b, 1 below the root; /c has
// none.
func censusFixture(t testing.TB) *fixture {
	x := newFixture(t)
	x.file("/", "cgroup.stat", cgroupStatText(6))
	x.cgroup("/a", 5, 0)
	x.cgroup("/a/b", 3, 0)
	x.cgroup("/a/live", 0, 0)
	x.cgroup("/c", 0, 0)
	x.cgroup("/c/d", 0, 0)
	return x
}

func TestCensus(t *testing.T) {
	x := censusFixture(t)
	// Nobody may look into a subtree without dying ones.
	x.file("/c/d", "cgroup.stat", "garbage")
	x.block("/a/live", "memory.stat")
	got, err := x.tree().Census(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	if got.Dying != 6 || got.Live != 3 || got.Visited != 5 || got.PassedOver != (PassedOver{}) {
		t.Errorf("%+v", got)
	}
	diffAncestors(t, []string{"/a/b 3 of 3", "/a 2 of 5", "/ 1 of 6"}, got)
	_, list, err := x.tree().censusAtOnce(t.Context(), "/")
	if len(list) != 3 || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
	for _, a := range list {
		if id, err := x.fs.ID(a.Path); err != nil || id != a.id {
			t.Errorf("ID %d of %s, want %d (%v)", a.id, a.Path, id, err)
		}
	}
	for cgroup, want := range map[string]int64{"/": 1, "/a": 2, "/a/b": 3, "/c": 0} {
		if got, err := x.tree().DirectDying(cgroup); err != nil || got != want {
			t.Errorf("direct dying below %s: %d, %v, want %d", cgroup, got, err, want)
		}
	}
}

// diffAncestors compares them with "PATH DIRECT of TOTAL".
func diffAncestors(t *testing.T, want []string, c Census) {
	t.Helper()
	var got []string
	for _, a := range c.Ancestors {
		got = append(got, fmt.Sprintf("%s %d of %d", a.Path, a.Direct, a.Total))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ancestors (-want +got):\n%s", d)
	}
}

func TestCensusOfOne(t *testing.T) {
	x := censusFixture(t)
	got, err := x.tree().Census(t.Context(), "/a/")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Ancestors) != 2 || got.Dying != 5 || got.Visited != 3 {
		t.Errorf("%+v", got)
	}
	// Nothing dying: one read, whatever lies below.
	x.block("/c/d", "cgroup.stat")
	if got, err = x.tree().Census(t.Context(), "/c"); err != nil || got.Visited != 1 || len(got.Ancestors) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCensusBySubsystem(t *testing.T) {
	x := newFixture(t)
	stat := func(cgroup string, all, memory int) {
		x.file(cgroup, "cgroup.stat", fmt.Sprintf("nr_descendants 1\nnr_dying_descendants %d\nnr_dying_subsys_memory %d\n", all, memory))
	}
	x.cgroup("/pids", 9, 0) // held by another controller, and no line for memory
	x.cgroup("/a", 0, 0)
	stat("/", 12, 3)
	stat("/a", 3, 3)
	tree := x.tree()
	tree.Subsys = true
	got, err := tree.Census(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	diffAncestors(t, []string{"/a 3 of 3"}, got)
	if got.Dying != 3 {
		t.Errorf("%d dying", got.Dying)
	}
}

// TestCensusMoments: counts are not read at one moment, so a child may tell of
// more than its parent did.
func TestCensusMoments(t *testing.T) {
	x := censusFixture(t)
	x.file("/a/b", "cgroup.stat", cgroupStatText(50))
	got, err := x.tree().Census(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	diffAncestors(t, []string{"/a/b 50 of 50", "/ 1 of 6"}, got)
	if n, err := x.tree().DirectDying("/a"); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	// Even sums beyond 64 bits do not wrap round.
	for _, c := range []string{"/a", "/a/b", "/a/live"} {
		x.file(c, "cgroup.stat", cgroupStatText(1<<62)+"nr_dying_subsys_memory 9223372036854775807\n")
	}
	tree := x.tree()
	tree.Subsys = true
	x.cgroup("/a/more", 0, 0)
	x.file("/a/more", "cgroup.stat", "nr_dying_descendants 0\nnr_dying_subsys_memory 9223372036854775807\n")
	if n, err := tree.DirectDying("/a"); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// TestCensusPassesOver: what cannot be read ends no census. It is counted, and
// whatever may be its dying is laid to nobody.
func TestCensusPassesOver(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(x *fixture)
		over  PassedOver
		want  []string
	}{
		{"garbage in a child", func(x *fixture) { x.file("/a", "cgroup.stat", "nr_dying_descendants x\n") },
			PassedOver{1, 6, "/a", `parse: cgroup.stat: no decimal number in line "nr_dying_descendants x"`}, nil},
		{"cut off in a grandchild", func(x *fixture) { x.file("/a/b", "cgroup.stat", "nr_descendants 0\nnr_dying_descendants 3") },
			PassedOver{1, 5, "/a/b", `parse: cgroup.stat: the file ends in line "nr_dying_descendants 3"`}, []string{"/ 1 of 6"}},
		{"no file", func(x *fixture) { x.block("/a/b", "cgroup.stat") },
			PassedOver{1, 5, "/a/b", "read: is a directory"}, []string{"/ 1 of 6"}},
		{"two of them", func(x *fixture) { x.block("/a/b", "cgroup.stat"); x.block("/a/live", "cgroup.stat") },
			PassedOver{2, 5, "", "read: is a directory"}, []string{"/ 1 of 6"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := censusFixture(t)
			c.spoil(x)
			got, err := x.tree().Census(t.Context(), "/")
			if err != nil {
				t.Fatal(err)
			}
			if c.over.First == "" {
				c.over.First = got.PassedOver.First // in the directory's own order
			}
			if d := cmp.Diff(c.over, got.PassedOver); d != "" {
				t.Error(d)
			}
			diffAncestors(t, c.want, got)
			if s, err := x.tree().Survey(t.Context(), "/", 0); err != nil || s.PassedOver != got.PassedOver {
				t.Errorf("survey: %+v, %v", s.PassedOver, err)
			}
		})
	}
}

func TestCensusErrors(t *testing.T) {
	y := censusFixture(t)
	y.file("/", "cgroup.stat", "garbage\n")
	got, err := y.tree().Census(t.Context(), "/")
	var pe *ParseError
	if !errors.As(err, &pe) || !strings.Contains(err.Error(), y.path("/", "cgroup.stat")) || len(got.Ancestors) > 0 || got.Dying > 0 {
		t.Errorf("%+v, error %v", got, err)
	}
	x := censusFixture(t)
	x.file("/a/b", "cgroup.stat", "garbage\n")
	if n, err := x.tree().DirectDying("/a"); err == nil || n != 0 {
		t.Errorf("direct dying beside garbage: %d, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.tree().Census(ctx, "/"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, p := range []string{"a", "/../etc", ""} {
		if _, err := x.tree().Census(t.Context(), p); !errors.Is(err, errNotCgroupPath) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// TestCensusVanishing: a cgroup that is listed and has no file any more is
// passed over, and its dying ones are its parent's.
func TestCensusVanishing(t *testing.T) {
	x := censusFixture(t)
	if err := os.Remove(x.path("/a/b", "cgroup.stat")); err != nil {
		t.Fatal(err)
	}
	got, err := x.tree().Census(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	diffAncestors(t, []string{"/a 5 of 5", "/ 1 of 6"}, got)
	if n, err := x.tree().DirectDying("/a"); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	x.remove("/a")
	if _, err := x.tree().Census(t.Context(), "/a"); !gone(err) {
		t.Errorf("the first one is gone: %v", err)
	}
}

// TestCensusWhileRemoving takes what a concurrent removal gives at every step.
func TestCensusWhileRemoving(t *testing.T) {
	x := censusFixture(t)
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			c := x.cgroup(fmt.Sprintf("/a/b/s%d", i%3), 1, 4096)
			x.cgroup(c+"/sub", 0, 4096)
			x.remove(c)
		}
	})
	tree := x.tree()
	for range 300 {
		c, err := tree.Census(t.Context(), "/")
		if err != nil {
			t.Error(err)
		}
		for _, a := range c.Ancestors {
			if a.Direct <= 0 || a.Total < a.Direct {
				t.Errorf("%+v", a)
			}
		}
		if _, err := tree.DeadMemory("/a/b"); err != nil {
			t.Error(err)
		}
		if _, err := tree.Survey(t.Context(), "/", 0); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	churn.Wait()
}

func BenchmarkCensus(b *testing.B) {
	for _, c := range []struct {
		name  string
		leaks int64 // dying below each of 990 cgroups
	}{{"few_leak", 0}, {"each_leaks", 1}} {
		b.Run(c.name, func(b *testing.B) {
			x := newFixture(b)
			x.file("/", "cgroup.stat", cgroupStatText(1000))
			for i := range 10 {
				p := x.cgroup(fmt.Sprintf("/slice%d", i), 100, 0)
				for k := range 99 {
					x.cgroup(fmt.Sprintf("%s/s%d", p, k), c.leaks, 0)
				}
			}
			tree := x.tree()
			b.ReportAllocs()
			for b.Loop() {
				if c, err := tree.Census(b.Context(), "/"); err != nil || c.Visited != 1001 {
					b.Fatalf("%+v %v", c.Visited, err)
				}
			}
		})
	}
}

// TestCensusAllocates: what a cgroup without dying ones costs is two system calls more, and no memory.
func TestCensusAllocates(t *testing.T) {
	x := newFixture(t)
	x.file("/", "cgroup.stat", cgroupStatText(1))
	allocs := func(live int) float64 {
		for i := range live {
			x.cgroup(fmt.Sprintf("/live%d", i), 0, 0)
		}
		tree := x.tree()
		return testing.AllocsPerRun(10, func() {
			if c, err := tree.Census(t.Context(), "/"); err != nil || c.Visited != live+1 {
				t.Fatalf("%+v, %v", c, err)
			}
		})
	}
	if few, many := allocs(10), allocs(200); many > few {
		t.Errorf("%.0f allocations for 10 live cgroups, %.0f for 200", few, many)
	}
}

// TestCensusListsNoEndlessNames: whoever owns a tree fills no memory with its paths,
// and keeps nobody else's from being listed.
func TestCensusListsNoEndlessNames(t *testing.T) {
	w := &censusWalk{names: map[owner]int{}}
	w.over = &w.c.PassedOver
	const many, long = 20_000, 4000
	for _, o := range []owner{"user 1000", ""} {
		for range many {
			w.note(found{Ancestor{Path: "/" + strings.Repeat("x", long-1), Direct: 2}, 0, o})
		}
	}
	w.note(found{Ancestor{Path: "/other", Direct: 1}, 0, "user 1001"})
	listed := namesMost / long
	if got, want := len(w.found), listed+many+1; got != want {
		t.Errorf("%d listed, want %d", got, want)
	}
	if over := w.c.PassedOver; over.Cgroups != int64(many-listed) || over.Dying != 2*over.Cgroups || len(over.First) > 2*firstMost || over.Why == "" {
		t.Errorf("%+v", over)
	}
}
