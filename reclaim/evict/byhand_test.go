package evict_test

import (
	"context"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/reclaim/evict"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

var byHand = flag.String("evict", "", "evict what the dying memcgs whose path begins so hold (as root); \"/\" is all of the machine")

var many = flag.Int("many", 0, "make so many dying memcgs of a few pages each, and measure walk and eviction")

// TestMany measures at scale when asked to.
func TestMany(t *testing.T) {
	if *many == 0 {
		t.Skip("measures when given -many COUNT")
	}
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dir := diskDir(t)
	live, control := memcgtest.File(t, filepath.Join(dir, "live"), 1<<15), memcgtest.File(t, filepath.Join(dir, "control"), 1<<15)
	tree.Mkdir("live.scope")
	tree.Start("live.scope", memcgtest.Op{Read: live.Name(), Ahead: true}, memcgtest.Op{Read: control.Name(), Ahead: true})
	const batch = 1000
	for i := 0; i < *many; i += batch {
		var scopes []memcgtest.Scope
		for j := i; j < min(i+batch, *many); j++ {
			scopes = append(scopes, memcgtest.Scope{Name: fmt.Sprint("d", j), Ops: []memcgtest.Op{
				{Write: filepath.Join(dir, fmt.Sprint("f", j)), Pages: j%8 + 1, Ahead: true},
			}})
		}
		tree.DieAll(scopes)
	}
	if out, err := exec.Command("sync", "-f", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	tree.List(k)
	had, hadControl := len(memcgtest.Cached(t, live)), len(memcgtest.Cached(t, control))
	e := evictor(t)
	for round := 0; round < 5; round++ {
		c0, t0 := used(t), time.Now()
		w := tree.List(k)
		c1, t1 := used(t), time.Now()
		if len(w.Memcgs) == 0 {
			break
		}
		n := time.Duration(len(w.Memcgs))
		wall, cpu := t1.Sub(t0), c1-c0
		t.Logf("list: %d dying, %d files, %d reads of %d objects, wall %v, CPU %v, %v a memcg", len(w.Memcgs), len(w.Files), w.Calls, w.Objects, wall, cpu, cpu/n)
		before := len(memcgtest.Cached(t, live))
		c1, t1 = used(t), time.Now()
		rs := evictAll(t, e, w)
		c2, t2 := used(t), time.Now()
		t.Logf("live cache during the eviction: %d -> %d pages", before, len(memcgtest.Cached(t, live)))
		left := map[evict.Why]uint64{}
		var asked, gone uint64
		for _, r := range rs {
			asked, gone = asked+r.Asked, gone+r.Gone
			for why, n := range r.Left {
				left[why] += n
			}
		}
		t.Logf("evict: %d files, %d of %d pages, left %v, wall %v, CPU %v, %v a file", len(rs), gone, asked, left, t2.Sub(t1), c2-c1, (c2-c1)/time.Duration(max(len(rs), 1)))
		for try := 0; try < 50 && len(tree.List(k).Memcgs) > 0; try++ {
			time.Sleep(200 * time.Millisecond)
		}
	}
	w := tree.List(k)
	sum := map[string]int64{}
	for _, m := range w.Memcgs {
		sum["file"], sum["block"], sum["other"] = sum["file"]+m.File, sum["block"]+m.Block, sum["other"]+m.Other
	}
	t.Logf("left: %d dying, %v", len(w.Memcgs), sum)
	t.Logf("live %d -> %d pages, control %d -> %d", had, len(memcgtest.Cached(t, live)), hadControl, len(memcgtest.Cached(t, control)))
}

// used is the CPU time of this process.
func used(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestByHand is no test but the tool that the lab's virtual machines are measured
// with.
func TestByHand(t *testing.T) {
	if *byHand == "" {
		t.Skip("evicts when given -evict PATH")
	}
	k := memcgtest.Open(t)
	root, _ := memcgtest.Root()
	found, err := k.Probe(t.Context(), pagewalk.ProbeConfig{Cgroups: root, Files: "/var/tmp"})
	t.Logf("probe: %+v %v", found, err)
	if err != nil {
		t.FailNow()
	}
	if err := pagewalk.DrainBatches("/var/tmp"); err != nil {
		t.Error(err)
	}
	w, err := k.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("list: %d dying, %d live, %d files, %d reads of %d objects, %v %q", len(w.Memcgs), w.Live, len(w.Files), w.Calls, w.Objects, w.Elapsed, w.Inconclusive)
	if k.CanScan() == nil {
		s, err := k.Scan(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Step(t.Context(), 1<<40); err != nil {
			t.Fatal(err)
		}
		sw, err := s.Walk(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		same := 0
		by := map[uint64]pagewalk.Memcg{}
		for _, m := range sw.Memcgs {
			by[m.Serial] = m
		}
		for _, m := range w.Memcgs {
			o := by[m.Serial]
			if o.File == m.File && o.Block == m.Block && o.Shmem == m.Shmem && o.Anon == m.Anon {
				same++
			} else {
				t.Logf("scan differs: list %+v, scan %+v", m, o)
			}
		}
		pages, _ := s.Progress()
		t.Logf("scan: %d pages, %v, %d of %d as by list", pages, sw.Elapsed, same, len(w.Memcgs))
	}
	e := evict.New(evict.Options{})
	defer e.Close()
	rs, err := e.Walk(context.Background(), w, func(m pagewalk.Memcg) bool { return strings.HasPrefix(m.Path, *byHand) })
	if err != nil {
		t.Fatal(err)
	}
	left := map[evict.Why]uint64{}
	var asked, gone uint64
	for _, r := range rs {
		asked, gone = asked+r.Asked, gone+r.Gone
		for why, n := range r.Left {
			left[why] += n
		}
		if r.Err != nil {
			t.Logf("%v: %v", r.File, r.Err)
		}
	}
	t.Logf("evicted: %d files, %d pages asked, %d gone, left %v", len(rs), asked, gone, left)
	for _, m := range w.Memcgs {
		t.Logf("%s: %d bytes, file %d block %d shmem %d other %d mapped %d dirty %d", m.Path, m.Charged, m.File, m.Block, m.Shmem, m.Other, m.Mapped, m.Dirty)
	}
}
