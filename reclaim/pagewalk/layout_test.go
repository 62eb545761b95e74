package pagewalk_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

var shrinkBTF = flag.String("btf", "", "FILE: reduce a kernel's BTF to what the layout needs, into testdata/NAME.btf with -record NAME")

// structures, enums and fields are all that LayoutOf looks at.
var (
	structures = []string{"page", "folio", "cgroup_subsys_state", "mem_cgroup", "mem_cgroup_per_node", "cgroup", "kernfs_node",
		"address_space", "inode", "super_block", "file_system_type", "dentry", "xa_node", "task_struct", "css_set", "files_struct",
		"fdtable", "file", "btrfs_inode", "btrfs_root"}
	enums  = []string{"pageflags", "cgroup_subsys_id"}
	fields = strings.Fields(`flags lru mapping index _mapcount memcg_data mem_cgroup compound_head _nr_pages _folio_nr_pages compound_nr
		_large_mapcount _entire_mapcount _total_mapcount compound_mapcount css cgroup ss sibling children serial_nr parent memory memsw
		usage nodeinfo memcg lruvec lists lrugen folios nr_pages lru_zone_size kn subsys name id priv __parent host i_pages xa_head i_mode
		i_sb i_mapping i_ino i_nlink __i_nlink i_rdev i_generation i_data i_private i_dentry s_dev s_magic s_type d_name d_parent d_u
		d_alias slots cgroups files fdt fd f_mapping f_inode vfs_inode root root_key objectid tasks tgid`)
)

// shrink copies a type without what it points to and without other fields.
func shrink(t btf.Type, had map[btf.Type]btf.Type) btf.Type {
	if c := had[t]; c != nil {
		return c
	}
	members := func(in []btf.Member) (out []btf.Member) {
		for _, m := range in {
			keep := m.Name == ""
			for _, f := range fields {
				keep = keep || m.Name == f
			}
			if keep {
				m.Type = shrink(m.Type, had)
				out = append(out, m)
			}
		}
		return out
	}
	switch v := t.(type) {
	case *btf.Pointer:
		return &btf.Pointer{Target: &btf.Void{}}
	case *btf.Struct:
		c := &btf.Struct{Name: v.Name, Size: v.Size}
		had[t] = c
		c.Members = members(v.Members)
		return c
	case *btf.Union:
		c := &btf.Union{Name: v.Name, Size: v.Size}
		had[t] = c
		c.Members = members(v.Members)
		return c
	case *btf.Typedef:
		c := &btf.Typedef{Name: v.Name, Type: shrink(v.Type, had)}
		had[t] = c
		return c
	case *btf.Const:
		return &btf.Const{Type: shrink(v.Type, had)}
	case *btf.Volatile:
		return &btf.Volatile{Type: shrink(v.Type, had)}
	case *btf.Array:
		return &btf.Array{Index: shrink(v.Index, had), Type: shrink(v.Type, had), Nelems: v.Nelems}
	case *btf.Enum, *btf.Int, *btf.Float:
		had[t] = t
		return t
	}
	return &btf.Void{}
}

func TestShrinkBTF(t *testing.T) {
	if *shrinkBTF == "" {
		t.Skip("makes a fixture when given -btf FILE -record NAME")
	}
	b, err := os.ReadFile(*shrinkBTF)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	had := map[btf.Type]btf.Type{}
	var types []btf.Type
	for _, n := range structures {
		var s *btf.Struct
		if spec.TypeByName(n, &s) == nil {
			types = append(types, shrink(s, had))
		}
	}
	for _, n := range enums {
		var e *btf.Enum
		if spec.TypeByName(n, &e) == nil {
			types = append(types, e)
		}
	}
	builder, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := builder.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", *record+".btf"), out, 0o644); err != nil {
		t.Fatal(err)
	}
}

func loadBTF(t *testing.T, name string) *btf.Spec {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".btf"))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// some of what differs between kernels.
type some struct {
	Memcg, Index, Pages  uint32
	Maps                 []uint32
	MapsAll              bool
	Parent, Flags, Usage uint32
	Nodes, GenLists      int
	NodeName, NodeParent uint32
	Generation, Data     uint32
	Dirty, Head          uint8
	Btrfs                uint32
}

// Layouts of four kernels, reduced to what the walk needs: Debian 11, 12, 13 and
// one with btrfs built in.
func TestLayout(t *testing.T) {
	for name, want := range map[string]some{
		"5.10": {Memcg: 56, Index: 32, Pages: 64 + 24, Maps: []uint32{64 + 20}, Parent: 192, Flags: 84, Usage: 208, Nodes: 2816,
			NodeName: 16, NodeParent: 8, Generation: 560, Data: 376, Dirty: 3, Head: 16},
		"6.1": {Memcg: 56, Index: 32, Pages: 92, Maps: []uint32{84}, Parent: 192, Flags: 84, Usage: 256, Nodes: 2192, GenLists: 40,
			NodeName: 16, NodeParent: 8, Generation: 592, Data: 376, Dirty: 3, Head: 16},
		"6.12": {Memcg: 56, Index: 32, Pages: 96, Maps: []uint32{80}, MapsAll: true, Parent: 192, Flags: 84, Usage: 256, Nodes: 1712,
			GenLists: 40, NodeName: 16, NodeParent: 8, Generation: 124, Data: 368, Dirty: 4, Head: 6},
		"6.18": {Memcg: 56, Index: 32, Pages: 120, Maps: []uint32{80}, MapsAll: true, Parent: 184, Flags: 76, Usage: 256, Nodes: 2136,
			NodeName: 16, NodeParent: 8, Generation: 124, Data: 376, Dirty: 4, Head: 6, Btrfs: 503},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := pagewalk.LayoutOf(loadBTF(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Check(); err != nil {
				t.Error(err)
			}
			got := some{Memcg: l.PageMemcg, Index: l.PageIndex, Pages: l.FolioPages, Maps: l.FolioMaps, MapsAll: l.FolioMapsAll,
				Parent: l.CSSParent, Flags: l.CSSFlags, Usage: l.MemcgUsage, Nodes: int(l.MemcgNodes), GenLists: l.GenLists,
				NodeName: l.NodeName, NodeParent: l.NodeParent, Generation: l.InodeGeneration, Data: l.InodeData,
				Dirty: l.Dirty, Head: l.Head, Btrfs: l.BtrfsRootID}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if l.MemorySubsys != 4 || l.Lists != 5 || l.Zones != 5 || l.StructPage != 64 {
				t.Errorf("%+v", l)
			}
		})
	}
}

// Without what the walk needs there is no layout, and it is said what is missing.
func TestNoLayout(t *testing.T) {
	builder, err := btf.NewBuilder([]btf.Type{&btf.Struct{Name: "page", Size: 64}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := builder.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	_, err = pagewalk.LayoutOf(spec)
	if pagewalk.ReasonOf(err) != pagewalk.NoLayout || !strings.Contains(err.Error(), "mem_cgroup") {
		t.Errorf("%v", err)
	}
}

func TestReasons(t *testing.T) {
	for _, r := range []pagewalk.Reason{pagewalk.NoBTF, pagewalk.NoLayout, pagewalk.NoBPF, pagewalk.NoKcore, pagewalk.NoPrivilege, pagewalk.Lockdown,
		pagewalk.MemLock, pagewalk.NoMemory, pagewalk.NoBase, pagewalk.Wrong, pagewalk.Untried} {
		err := &pagewalk.OffError{Reason: r, Err: errors.New("x")}
		if r.Words() == string(r) || !strings.Contains(err.Error(), r.Words()) || pagewalk.ReasonOf(err) != r {
			t.Errorf("%s has no words: %v", r, err)
		}
		if err.Conclusive() != (r != pagewalk.Untried) {
			t.Errorf("%s: conclusive %v", r, err.Conclusive())
		}
	}
}

func TestZones(t *testing.T) {
	got, err := pagewalk.Frames(`Node 0, zone      DMA
        spanned  4095
        present  3998
  start_pfn:           1
Node 0, zone   Normal
        spanned  1000
  start_pfn:           8192
Node 1, zone   Normal
        spanned  1000
  start_pfn:           9000
Node 1, zone  Movable
        spanned  0
  start_pfn:           0
Node 1, zone   Device
        spanned  99999999999999999
  start_pfn:           7
`)
	if err != nil || len(got) != 2 || pagewalk.FrameEnds(got) != "[1 4096] [8192 10000]" {
		t.Errorf("%v %v", got, err)
	}
	if _, err := pagewalk.Frames("nothing"); err == nil {
		t.Error("no zones are some")
	}
}

func TestNodes(t *testing.T) {
	for s, want := range map[string]int{"0\n": 1, "0-3\n": 4, "0,2-7": 8, "": 0, "x": 0, "0-4096": 0} {
		if got, err := pagewalk.Nodes(s); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
}
