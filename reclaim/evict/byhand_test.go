package evict_test

import (
	"context"
	"flag"
	"strings"
	"testing"

	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/reclaim/evict"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

var byHand = flag.String("evict", "", "evict what the dying memcgs whose path begins so hold (as root); \"/\" is all of the machine")

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
