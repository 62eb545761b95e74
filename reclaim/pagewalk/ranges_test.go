package pagewalk

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// What several memcgs hold of a file is asked to go as few ranges, and no page twice.
func TestByFile(t *testing.T) {
	w := &Walk{PageSize: 4096, Files: make([]File, 3), Memcgs: []Memcg{
		{Path: "/a/1", Ancestor: "/a", Holdings: []Holding{{File: 1, Ranges: []Range{{First: 10, Pages: 5}, {First: 0, Pages: 4}}}}},
		{Path: "/b/1", Ancestor: "/b", Holdings: []Holding{
			{File: 1, Ranges: []Range{{First: 15, Pages: 1}, {First: 4, Pages: 2, State: Dirty}, {First: 11, Pages: 2}}},
			{File: 2, Ranges: []Range{{First: 7, Pages: 1}}},
		}},
		{Path: "/b/2", Ancestor: "/b", Holdings: []Holding{{File: 1, Ranges: []Range{{First: 5, Pages: 3}, {First: 14, Pages: 4}}}}},
	}}
	two := Holding{File: 2, Ranges: []Range{{First: 7, Pages: 1}}}
	for name, c := range map[string]struct {
		of   func(Memcg) bool
		want []Holding
	}{
		"all": {nil, []Holding{{File: 1, Ranges: []Range{
			{First: 0, Pages: 4}, {First: 4, Pages: 2, State: Dirty}, {First: 6, Pages: 2}, {First: 10, Pages: 8},
		}}, two}},
		"of one": {func(m Memcg) bool { return m.Path == "/b/1" }, []Holding{{File: 1, Ranges: []Range{
			{First: 4, Pages: 2, State: Dirty}, {First: 11, Pages: 2}, {First: 15, Pages: 1},
		}}, two}},
		"of none": {func(Memcg) bool { return false }, nil},
	} {
		if d := cmp.Diff(c.want, w.ByFile(c.of)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	by := w.ByAncestor()
	if len(by) != 2 || len(by["/a"].Memcgs) != 1 || len(by["/b"].Memcgs) != 2 || len(by["/b"].Files) != 3 || by["/b"].PageSize != 4096 {
		t.Errorf("%+v", by)
	}
}

// A file system's own inodes are nobody's files; its root and the first file are.
func TestMetadata(t *testing.T) {
	for _, c := range []struct {
		magic uint64
		own   []uint64
		files []uint64
	}{
		{unix.EXT4_SUPER_MAGIC, []uint64{1, 3, 10}, []uint64{2, 11, 12}},
		{unix.BTRFS_SUPER_MAGIC, []uint64{1, 255}, []uint64{256, 257}},
		{unix.F2FS_SUPER_MAGIC, []uint64{1, 2}, []uint64{3, 4}},
		{unix.XFS_SUPER_MAGIC, nil, []uint64{1, 2}},
	} {
		for _, inode := range slices.Concat(c.own, c.files) {
			f := File{Magic: c.magic, Inode: inode}
			if got, want := f.Metadata(), slices.Contains(c.own, inode); got != want {
				t.Errorf("inode %d of %#x: %v", inode, c.magic, got)
			}
			if f.Kind = Block; f.Metadata() {
				t.Errorf("a block device is taken for metadata of %#x", c.magic)
			}
		}
	}
}

// /proc/kcore has some addresses, in segments; a read may go from one to the next that
// follows at once, and no further.
func TestKcoreSegments(t *testing.T) {
	name := filepath.Join(t.TempDir(), "kcore")
	if err := os.WriteFile(name, []byte("....efghabcdxy"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	k := &Kcore{f: f, segs: []segment{{100, 4, 8}, {104, 4, 4}, {200, 2, 12}, {300, 8, 12}}}
	defer k.Close()
	for _, c := range []struct {
		at   uint64
		size int
		want string // "": a fault
	}{
		{100, 4, "abcd"}, {101, 2, "bc"}, {102, 4, "cdef"}, {104, 4, "efgh"}, {100, 8, "abcdefgh"}, {200, 2, "xy"},
		{99, 1, ""}, {107, 2, ""}, {108, 1, ""}, {199, 2, ""}, {201, 2, ""}, {300, 4, ""}, // the last is cut off
	} {
		b := make([]byte, c.size)
		if err := k.ReadKernel(c.at, b); (err != nil) != (c.want == "") || err == nil && string(b) != c.want {
			t.Errorf("%d bytes at %d: %q, %v", c.size, c.at, b, err)
		}
	}
}

// An address that kallsyms hides is none.
func TestSymbol(t *testing.T) {
	const text = "ffff0001 D init_task_other\nnothing\n\nffff0002 D init_task\nffff0003 D init_task\n"
	if v, err := symbol(strings.NewReader(text), "init_task"); v != 0xffff0002 || err != nil {
		t.Errorf("%#x, %v", v, err)
	}
	for what, s := range map[string]string{
		"hides":  "0000000000000000 D init_task\n",
		"has no": "ffff0001 D init_tasks\n",
	} {
		if v, err := symbol(strings.NewReader(s), "init_task"); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: %#x, %v", s, v, err)
		}
	}
}
