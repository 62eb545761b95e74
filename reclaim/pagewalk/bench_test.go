package pagewalk_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/memcgtest"
)

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkScan scans all of the machine's memory: CPU time a page, which a busy
// machine does not change as it does the wall time.
func BenchmarkScan(b *testing.B) {
	k := memcgtest.Open(b)
	if err := k.CanScan(); err != nil {
		b.Skip(err)
	}
	var pages uint64
	begun := cpu(b)
	for b.Loop() {
		s, err := k.Scan(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		for done := false; !done; {
			if done, err = s.Step(b.Context(), 1<<18); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := s.Walk(b.Context()); err != nil {
			b.Fatal(err)
		}
		n, _ := s.Progress()
		pages += n
	}
	b.ReportMetric(float64(cpu(b)-begun)/float64(pages), "cpu-ns/page")
	b.ReportMetric(float64(pages)/float64(b.N), "pages")
}

// BenchmarkList walks by list over dying memcgs of a few pages each.
func BenchmarkList(b *testing.B) {
	for _, count := range []int{1, 100, 2000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) { benchList(b, count) })
	}
}

func benchList(b *testing.B, count int) {
	k := memcgtest.Open(b)
	tree := memcgtest.New(b)
	dir, err := os.MkdirTemp("/var/tmp", "scopereap-test-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	var scopes []memcgtest.Scope
	for i := range count {
		scopes = append(scopes, memcgtest.Scope{Name: fmt.Sprint("d", i), Ops: []memcgtest.Op{
			{Write: filepath.Join(dir, fmt.Sprint("f", i)), Pages: i%8 + 1, Ahead: true},
		}})
	}
	tree.DieAll(scopes)
	tree.List(k)
	at, err := os.Open(tree.Dir)
	if err != nil {
		b.Fatal(err)
	}
	defer at.Close()
	var calls, objects, memcgs int
	begun := cpu(b)
	for b.Loop() {
		w, err := k.List(b.Context(), at)
		if err != nil {
			b.Fatal(err)
		}
		calls, objects, memcgs = calls+w.Calls, objects+w.Objects, memcgs+len(w.Memcgs)
	}
	b.ReportMetric(float64(cpu(b)-begun)/float64(memcgs), "cpu-ns/memcg")
	b.ReportMetric(float64(calls)/float64(memcgs), "reads/memcg")
	b.ReportMetric(float64(objects)/float64(memcgs), "objects/memcg")
	b.ReportMetric(float64(memcgs)/float64(b.N), "memcgs")
}
