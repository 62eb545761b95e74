package reclaim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fixture is a cgroup v2 tree of ordinary files.
type fixture struct {
	t    testing.TB
	root string
	fs   *FS
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	x := &fixture{t: t, root: t.TempDir()}
	var err error
	if x.fs, err = OpenFS(x.root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.fs.Close() })
	x.file("/", "cgroup.stat", cgroupStatText(0))
	x.file("/", "cgroup.subtree_control", "cpu memory pids\n")
	return x
}

func (x *fixture) path(cgroup, file string) string { return filepath.Join(x.root, cgroup, file) }

// file makes a file whole at once, as a reader of a kernel file sees it.
func (x *fixture) file(cgroup, name, content string) {
	x.t.Helper()
	tmp := x.path("/", ".new-"+strings.ReplaceAll(cgroup, "/", "-")+name)
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		x.t.Fatal(err)
	}
	if err := os.Rename(tmp, x.path(cgroup, name)); err != nil {
		x.t.Fatal(err)
	}
}

func (x *fixture) read(cgroup, file string) string {
	x.t.Helper()
	b, err := os.ReadFile(x.path(cgroup, file))
	if err != nil {
		x.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// cgroup makes one (and those above it) with dying ones below and a page cache
// of its hierarchy, in bytes.
func (x *fixture) cgroup(cgroup string, dying, cache int64) string {
	x.t.Helper()
	if err := os.MkdirAll(x.path(cgroup, ""), 0o755); err != nil {
		x.t.Fatal(err)
	}
	x.file(cgroup, "cgroup.stat", cgroupStatText(dying))
	x.file(cgroup, "cgroup.subtree_control", "memory pids\n")
	x.file(cgroup, "memory.stat", memoryStatText(cache))
	x.file(cgroup, "memory.current", fmt.Sprintln(cache))
	for file, content := range map[string]string{
		"memory.min": "0\n", "memory.low": "0\n", "memory.high": "max\n", "memory.max": "max\n", "memory.reclaim": "",
	} {
		x.file(cgroup, file, content)
	}
	return cgroup
}

func (x *fixture) remove(cgroup string) {
	x.t.Helper()
	if err := os.RemoveAll(x.path(cgroup, "")); err != nil {
		x.t.Fatal(err)
	}
}

// block puts a directory in a file's place, so that it can neither be read
// nor written, not even by root.
func (x *fixture) block(cgroup, file string) {
	x.t.Helper()
	if err := os.Remove(x.path(cgroup, file)); err != nil {
		x.t.Fatal(err)
	}
	if err := os.Mkdir(x.path(cgroup, file), 0o755); err != nil {
		x.t.Fatal(err)
	}
}

func (x *fixture) unblock(cgroup, file, content string) {
	x.t.Helper()
	if err := os.Remove(x.path(cgroup, file)); err != nil {
		x.t.Fatal(err)
	}
	x.file(cgroup, file, content)
}

func (x *fixture) tree() *Tree { return &Tree{FS: x.fs, RecursiveProt: true} }

// journal opens one outside the tree.
func (x *fixture) journal() *Journal {
	x.t.Helper()
	j, err := OpenJournal(filepath.Join(x.t.TempDir(), "run", "shields"))
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { j.Close() })
	return j
}

func (x *fixture) journaled(j *Journal) []change {
	x.t.Helper()
	data, err := os.ReadFile(j.path)
	if err != nil {
		x.t.Fatal(err)
	}
	changes, bad := parseJournal(data)
	if len(bad) > 0 {
		x.t.Fatal(bad)
	}
	return changes
}

func cgroupStatText(dying int64) string {
	return fmt.Sprintf("nr_descendants 2\nnr_dying_descendants %d\n", dying)
}

func memoryStatText(cache int64) string {
	return fmt.Sprintf("anon 0\nfile %[1]d\nkernel 8192\nshmem 0\nfile_mapped 0\nfile_dirty 0\nfile_writeback 0\ninactive_file %[1]d\nactive_file 0\nunevictable 0\nslab 4096\n", cache)
}
