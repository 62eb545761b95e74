package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/reclaim/pages"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// On cgroup v1 a sweep evicts: the daemon starts the process itself where no unit
// does, and both go together.
func TestSweepEvicts(t *testing.T) {
	needMachine(t)
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	if !tree.V1 {
		t.Skip("needs the memory controller as cgroup v1")
	}
	dir, err := os.MkdirTemp("/var/tmp", "scopereap-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// That no byte is lost is shown where nothing else reclaims (test/vm, evict).
	live, control := memcgtest.File(t, filepath.Join(dir, "live"), 256), memcgtest.File(t, filepath.Join(dir, "control"), 256)
	tree.Mkdir("live.scope")
	tree.Start("live.scope", memcgtest.Op{Read: live.Name(), Ahead: true})
	if _, err := io.Copy(io.Discard, control); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		f := memcgtest.File(t, filepath.Join(dir, fmt.Sprint("f", i)), 4)
		tree.Die(fmt.Sprintf("s%d.scope", i), memcgtest.Op{Read: f.Name(), Ahead: true})
	}
	kept := memcgtest.Kept(t, live, control)

	d := newDaemon(t, noBus)
	// No sweep of its own, which would be of the whole machine, and nothing held of
	// what other tests run on it.
	d.policy("[evict]\nenabled = \"auto\"\n[sweep]\ninterval = \"0\"\nthreshold = 0\n[hold]\nenabled = false\n")
	d.start()
	if err := d.sweepCall(t.Context(), tree.Path); err != nil {
		t.Fatal(err)
	}
	// The machine may have reclaimed a page before, or free a memcg after the answer.
	most := 40 * int64(os.Getpagesize())
	if s := d.status(); !s.Engine.Eviction.OK() || s.Engine.Totals.Freed == 0 || s.Engine.Totals.Freed > 10 || s.Engine.Totals.Bytes == 0 || s.Engine.Totals.Bytes > most {
		t.Errorf("%+v, %+v", s.Engine.Totals, s.Engine.Eviction)
	}
	// Each has run a program, whose pages may be its own to pay for while others map them.
	left := func() []pagewalk.Memcg {
		return slices.DeleteFunc(tree.List(k).Memcgs, func(m pagewalk.Memcg) bool { return m.Mapped > 0 && m.File == m.Mapped })
	}
	for try := 0; try < 500 && len(left()) > 0; try++ {
		time.Sleep(20 * time.Millisecond)
	}
	if left := left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
	kept()
	socket := filepath.Join(d.runDir(), pages.SocketName)
	if _, err := os.Stat(socket); err != nil {
		t.Errorf("the process is not there: %v", err)
	}
	d.signal(syscall.SIGTERM)
	d.ends(0)
	d.leftNothing()
}
