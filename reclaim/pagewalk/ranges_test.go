package pagewalk

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
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

// What is taken for a page of a memcg, and whether it is mapped: what is mapped stays, and
// what is kernel memory is no page of a file.
func TestFolio(t *testing.T) {
	const none = 1<<32 - 1 // a count of -1
	const head = 1 << 6
	base := Layout{
		StructPage: 64, PageFlags: 0, PageHead: 8, PageMapping: 24, PageIndex: 32, PageMapcount: 48, PageMemcg: 56,
		FolioPages: 64 + 32, FolioMaps: []uint32{64 + 40, 64 + 44}, FolioMapsAll: true,
		Dirty: 4, Writeback: 15, Active: 5, Head: 6,
	}
	const memcg, mapping = 0xffff_8880_0000_1000, 0xffff_8880_0000_2000
	for _, c := range []struct {
		name    string
		layout  func(*Layout)
		flags   uint64
		head    uint64
		memcg   uint64
		count   uint32 // of mappings
		pages   uint32
		large   [2]uint32
		cut     bool
		ok      bool
		charged uint64
		state   State
		mapped  mapped
	}{
		{name: "a page", count: none, ok: true, charged: memcg},
		{name: "mapped once", count: 0, ok: true, charged: memcg, state: Mapped, mapped: isMapped},
		{name: "dirty", flags: 1 << 4, count: none, ok: true, charged: memcg, state: Dirty},
		{name: "under writeback, active", flags: 1<<15 | 1<<5, count: none, ok: true, charged: memcg, state: Writeback | active},
		{name: "a tail", head: 1, count: none},
		{name: "kernel memory", memcg: 2, count: none, ok: true},
		{name: "an objects' vector", memcg: 1, count: none, ok: true},
		{name: "large", flags: head, pages: 4, large: [2]uint32{none, none}, ok: true, charged: memcg, state: large},
		{name: "large, mapped whole", flags: head, pages: 4, large: [2]uint32{0, none}, ok: true, charged: memcg, state: large | Mapped, mapped: isMapped},
		{name: "large, mapped in part", flags: head, pages: 4, large: [2]uint32{none, 7}, ok: true, charged: memcg, state: large | Mapped, mapped: isMapped},
		{name: "large, its tails have counts", layout: func(l *Layout) { l.FolioMapsAll = false }, flags: head, pages: 4,
			large: [2]uint32{none, none}, ok: true, charged: memcg, state: large, mapped: lookAtTails},
		{name: "large, its tails have counts, mapped whole", layout: func(l *Layout) { l.FolioMapsAll = false }, flags: head, pages: 4,
			large: [2]uint32{0, none}, ok: true, charged: memcg, state: large | Mapped, mapped: isMapped},
		{name: "as large as can be", flags: head, pages: maxFolioPages, large: [2]uint32{none, none}, ok: true, charged: memcg, state: large},
		{name: "larger", flags: head, pages: 2 * maxFolioPages, large: [2]uint32{none, none}},
		{name: "of two", flags: head, pages: 2, large: [2]uint32{none, none}, ok: true, charged: memcg, state: large},
		{name: "of one", flags: head, pages: 1, large: [2]uint32{none, none}},
		{name: "of three", flags: head, pages: 3, large: [2]uint32{none, none}},
		{name: "cut off", flags: head, pages: 4, large: [2]uint32{none, none}, cut: true},
		{name: "a kernel that has none", layout: func(l *Layout) { l.FolioPages = 0 }, flags: head, pages: 4, large: [2]uint32{none, none}},
	} {
		l := base
		if c.layout != nil {
			c.layout(&l)
		}
		b := make([]byte, 128)
		for at, v := range map[int]uint64{0: c.flags, 8: c.head, 24: mapping, 32: 77, 56: memcg | c.memcg} {
			binary.LittleEndian.PutUint64(b[at:], v)
		}
		for at, v := range map[int]uint32{48: c.count, 96: c.pages, 104: c.large[0], 108: c.large[1]} {
			binary.LittleEndian.PutUint32(b[at:], v)
		}
		if c.cut {
			b = b[:64]
		}
		f, ok := l.folio(b)
		if ok != c.ok {
			t.Errorf("%s: taken for a folio: %t", c.name, ok)
		}
		if ok && (f.charged() != c.charged || f.state != c.state || f.mapped != c.mapped || f.pages != max(c.pages, 1) || f.mapping != mapping || f.index != 77) {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

// What is no address of a kernel's object is never followed.
func TestIsKernel(t *testing.T) {
	for addr, want := range map[uint64]bool{
		0: false, 0x7fff_ffff_f000: false, 0xdead_0000_0000_0100: false, 0xff00_0000_0000_0000: true, 0xfeff_ffff_ffff_fff8: false,
		0xffff_8880_0000_1000: true, 0xffff_8880_0000_1001: false, 0xffff_8880_0000_1004: false,
	} {
		if got := isKernel(addr); got != want {
			t.Errorf("%#x: %t", addr, got)
		}
	}
}

// A memcg is dying once its directory is removed, or before it is there for good; the
// flag of the removal alone is enough.
func TestDyingFlags(t *testing.T) {
	for flags, want := range map[uint32][2]bool{
		cssOnline: {false, false}, cssOnline | cssDying: {true, false}, cssDying: {true, false}, 0: {true, false},
		cssDying | cssReleased: {true, true}, cssOnline | cssReleased: {false, true}, 1<<0 | cssOnline: {false, false},
	} {
		if c := (css{flags: flags}); c.dying() != want[0] || c.released() != want[1] {
			t.Errorf("%#x: dying %t, released %t", flags, c.dying(), c.released())
		}
	}
}

// Offsets that no kernel has are refused before anything is read by them.
func TestLayoutBounds(t *testing.T) {
	fits := func() *Layout {
		return &Layout{StructPage: 64, PageSize: 4096, Lists: unevictable + 1, Zones: 4, GenLists: 8, FolioMaps: []uint32{100}}
	}
	if err := fits().check(); err != nil {
		t.Fatal(err)
	}
	const wraps = 1<<32 - 4
	for name, c := range map[string]struct{ ok, bad func(*Layout) }{
		"small structures": {func(l *Layout) { l.StructPage, l.FolioMaps = 32, nil }, func(l *Layout) { l.StructPage, l.FolioMaps = 31, nil }},
		"large structures": {func(l *Layout) { l.StructPage = 1024 }, func(l *Layout) { l.StructPage = 1025 }},
		"small pages":      {func(l *Layout) { l.PageSize = 4096 }, func(l *Layout) { l.PageSize = 2048 }},
		"large pages":      {func(l *Layout) { l.PageSize = 64 << 10 }, func(l *Layout) { l.PageSize = 128 << 10 }},
		"lists":            {func(*Layout) {}, func(l *Layout) { l.Lists++ }},
		"no zone":          {func(l *Layout) { l.Zones = 1 }, func(l *Layout) { l.Zones = 0 }},
		"zones":            {func(l *Layout) { l.Zones = 16 }, func(l *Layout) { l.Zones = 17 }},
		"less than none":   {func(l *Layout) { l.GenLists = 0 }, func(l *Layout) { l.GenLists = -1 }},
		"generations":      {func(l *Layout) { l.GenLists = 256 }, func(l *Layout) { l.GenLists = 257 }},
		"subsystem":        {func(l *Layout) { l.MemorySubsys = 64 }, func(l *Layout) { l.MemorySubsys = 65 }},
		"no subsystem":     {func(l *Layout) { l.MemorySubsys = 0 }, func(l *Layout) { l.MemorySubsys = -1 }},
		"css":              {func(l *Layout) { l.CSSSerial = maxNext - 8 }, func(l *Layout) { l.CSSSerial = maxNext - 7 }},
		"inode":            {func(l *Layout) { l.InodeNumber = maxNext - 16 }, func(l *Layout) { l.InodeNumber = maxNext }},
		"index":            {func(l *Layout) { l.PageIndex = 60 }, func(l *Layout) { l.PageIndex = 61 }},
		"list":             {func(l *Layout) { l.PageLRU = 52 }, func(l *Layout) { l.PageLRU = 53 }},
		"index that wraps": {func(*Layout) {}, func(l *Layout) { l.PageIndex = wraps }},
		"list that wraps":  {func(*Layout) {}, func(l *Layout) { l.PageLRU = wraps }},
		"count":            {func(l *Layout) { l.FolioMaps = []uint32{0, 124} }, func(l *Layout) { l.FolioMaps = []uint32{0, 125} }},
		"count that wraps": {func(*Layout) {}, func(l *Layout) { l.FolioMaps = []uint32{0, wraps} }},
		"pages of a folio": {func(l *Layout) { l.FolioPages = 124 }, func(l *Layout) { l.FolioPages = 125 }},
	} {
		l := fits()
		if c.ok(l); l.check() != nil {
			t.Errorf("%s: what fits is refused: %v", name, l.check())
		}
		l = fits()
		if c.bad(l); l.check() == nil {
			t.Errorf("%s: what does not fit is taken", name)
		}
	}
	for f := range reflect.ValueOf(fits()).Elem().Fields() {
		l := fits()
		if v := reflect.ValueOf(l).Elem().FieldByIndex(f.Index); v.Kind() == reflect.Uint32 {
			if v.SetUint(wraps); l.check() == nil {
				t.Errorf("%s: an offset that wraps is taken", f.Name)
			}
		}
	}
}
