package reclaim

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProbeChild: the child touches the page, and only once it has been moved.
func TestProbeChild(t *testing.T) {
	x := newFixture(t)
	if err := os.Mkdir(x.path("/", "probe"), 0o755); err != nil {
		t.Fatal(err)
	}
	x.file("/probe", "cgroup.procs", "")
	page := memfd(t)
	if err := runProbeChild(x.fs, "/probe", page); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(x.path("/probe", "cgroup.procs"))
	if pid, perr := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || perr != nil || pid <= 1 || pid == os.Getpid() {
		t.Errorf("moved into the cgroup: %q, %v", b, err)
	}
	if st, err := page.Stat(); err != nil || st.Size() != 1 {
		t.Errorf("the page: %v, %v", st, err)
	}

	page = memfd(t)
	if err := runProbeChild(x.fs, "/nowhere", page); err == nil || !strings.Contains(err.Error(), filepath.Join("nowhere", "cgroup.procs")) {
		t.Errorf("no such cgroup: %v", err)
	}
	if st, err := page.Stat(); err != nil || st.Size() != 0 {
		t.Errorf("a child that was not moved touched the page: %v, %v", st, err)
	}
}

func memfd(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("probe", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "probe")
	t.Cleanup(func() { f.Close() })
	return f
}
