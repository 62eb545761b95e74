package reclaim

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"time"
)

// TestV1DeadMemory: on v1 the dead's pages are told apart from the ancestor's
// own and from its living children's, and force_empty takes all three.
func TestV1DeadMemory(t *testing.T) {
	tr := newV1TestTree(t)
	parent := tr.mkdir("user.slice")
	live, dead := tr.mkdir("user.slice/live.scope"), tr.mkdir("user.slice/dead.scope")
	const mib = 1 << 20
	// No soft limit is a shield: this one is far above what is charged.
	if err := tr.fs.Write(live, "memory.soft_limit_in_bytes", fmt.Sprint(int64(1)<<40)); err != nil {
		t.Fatal(err)
	}
	for c, size := range map[string]int{parent: 2 * mib, live: 4 * mib, dead: 8 * mib} {
		tr.run(c, `exec cat "$1" >/dev/null`, cleanFile(t, size))
	}
	tr.drop(dead)

	// The counters are added up every two seconds.
	var d V1Dead
	near := func(got int64) bool { return got > 7*mib && got < 9*mib }
	for try := 0; try < 8 && !near(d.Stat.Cache); try++ {
		time.Sleep(time.Duration(try) * 200 * time.Millisecond)
		var err error
		if d, err = V1DeadMemory(tr.fs, parent); err != nil {
			t.Fatal(err)
		}
	}
	if !near(d.Stat.Reclaimable()) || d.Children != 1 {
		t.Errorf("dead memory %+v, want about 8 MiB and one living child", d)
	}

	th := testThread(t)
	th.Do(t.Context(), func() {
		if res, err := V1ForceEmpty(th, tr.fs, parent, time.Minute); err != nil || res != WriteFull {
			t.Errorf("force_empty: %v, %v", res, err)
		}
	})
	if got, err := v1ReadBytes(tr.fs, live, v1UsageFile); err != nil || got > mib {
		t.Errorf("a soft limit shielded the living from force_empty (%d bytes left, %v): V1ForceEmpty's comment is wrong", got, err)
	}
}

func TestV1Census(t *testing.T) {
	tr := newV1TestTree(t)
	before, err := V1Census(tr.fs)
	if err != nil {
		t.Fatal(err)
	}
	const n = 20
	for i := range n {
		c := tr.mkdir(fmt.Sprint("s", i))
		tr.run(c, `exec cat "$1" >/dev/null`, cleanFile(t, 4096))
		tr.drop(c)
	}
	after, err := V1Census(tr.fs)
	if err != nil {
		t.Fatal(err)
	}
	// Other tests' cgroups come and go on the machine; n is far above.
	if after.Dying < before.Dying+n/2 {
		t.Errorf("made %d dying ones: before %+v, after %+v", n, before, after)
	}
	if after.Directories < 2 || after.Cgroups < after.Directories {
		t.Errorf("%+v", after)
	}
}

// TestV1SweepMoves: what goes during a v1 sweep is told while it goes on, so that nobody takes a long one for stuck.
func TestV1SweepMoves(t *testing.T) {
	tr := newV1TestTree(t)
	const n = 100
	for i := range n {
		c := tr.mkdir(fmt.Sprint("s", i))
		tr.run(c, `exec cat "$1" >/dev/null`, cleanFile(t, 4096))
		tr.drop(c)
	}
	before, err := V1Census(tr.fs)
	if err != nil {
		t.Fatal(err)
	}
	e := NewEngine(EngineOptions{Hierarchy: Hierarchy{Mode: Legacy}, FS: tr.fs, Config: testConfig()})
	job := &sweepJob{machine: before.Dying + before.Directories}
	th := testThread(t)
	th.Do(t.Context(), func() {
		if _, err := V1ForceEmpty(th, tr.fs, tr.base, time.Minute); err != nil {
			t.Error(err)
		}
	})
	var freed int64
	for try := 0; try < 100 && freed < n/2; try++ { // in the kernel's own time; other tests make some meanwhile
		time.Sleep(100 * time.Millisecond)
		freed = e.freed(job)
	}
	if freed < n/2 {
		t.Errorf("%d of %d were seen to go", freed, n)
	}
}

// BenchmarkV1Census counts this machine's own dying memcgs.
func BenchmarkV1Census(b *testing.B) {
	h, err := FindHierarchy()
	if err != nil || h.Mode.V2() {
		b.Skip("needs the memory controller as cgroup v1")
	}
	f, err := OpenFS(h.Root)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.ReportAllocs()
	var c V1Count
	for b.Loop() {
		if c, err = V1Census(f); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(c.Directories), "cgroups")
}

// TestV1PinsFreed: what was pinned of held directories, which are gone, is never
// told to be more than is dying.
func TestV1PinsFreed(t *testing.T) {
	tr := newV1TestTree(t)
	e := NewEngine(EngineOptions{Hierarchy: Hierarchy{Mode: Legacy}, FS: tr.fs, Config: testConfig()})
	now := time.Now()
	e.pinned["/old.scope"] = pinned{Pinned{Ancestor: "/old.scope", Dying: 1 << 40}, 1, now.Add(-time.Hour)}
	e.pinned["/new.scope"] = pinned{Pinned{Ancestor: "/new.scope", Dying: 0}, 2, now}
	e.forgetFreedV1(now)
	if s := e.Status().Pinned; len(s) != 1 || s[0].Ancestor != "/new.scope" {
		t.Errorf("%+v", s)
	}
	e.pinned["/old.scope"] = pinned{Pinned{Ancestor: "/old.scope", Dying: 1 << 40}, 1, now}
	e.forgetFreedV1(now.Add(v1PinsEvery - 1)) // it reads every directory: not that often
	if len(e.pinned) != 2 {
		t.Errorf("%+v", e.pinned)
	}
}

// TestV1CensusDeep: directories nested deeper than PATH_MAX are counted like any
// others, so that none of them is taken for a dying one.
func TestV1CensusDeep(t *testing.T) {
	tr := newV1TestTree(t)
	const n = 20
	made := func() int64 {
		c, err := V1Census(tr.fs)
		if err != nil || c.PassedOver != (PassedOver{}) {
			t.Fatalf("%+v, %v", c, err)
		}
		return c.Directories
	}
	// Other tests' cgroups come and go on the machine: some try must see none.
	waitFor(t, "a count with just the deep ones", func() bool {
		before := made()
		deep := nest(t, tr.fs, tr.base, strings.Repeat("d", 250), n)
		after := made()
		for deep != tr.base {
			if err := tr.fs.Rmdir(deep); err != nil {
				t.Fatal(err)
			}
			deep = path.Dir(deep)
		}
		return after-before == n
	})
}
