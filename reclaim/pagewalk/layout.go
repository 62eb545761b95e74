package pagewalk

import (
	"errors"
	"fmt"
	"os"
	"reflect"

	"github.com/cilium/ebpf/btf"
)

// Layout is where things lie in the kernel's structures, in bytes from each
// one's begin, as BTF describes them. It is never guessed from a version.
type Layout struct {
	PageSize   int    // bytes of a page of memory
	StructPage uint32 // bytes of a struct page

	// struct page, or folio since 5.16; both begin alike.
	PageFlags, PageLRU, PageMapping, PageIndex, PageMapcount, PageMemcg, PageHead uint32
	// Of the head of a large folio, in its second struct page: the number of
	// pages, and the mapcounts that count as mapped when above −1. None: the
	// tails' own are looked at.
	FolioPages uint32
	FolioMaps  []uint32
	// FolioMapsAll: these count every mapping, so that tails need no look
	// (_large_mapcount, Linux 6.10).
	FolioMapsAll bool
	// Bits of flags.
	Dirty, Writeback, Active, Head uint8

	// mem_cgroup, which begins with its cgroup_subsys_state.
	CSSCgroup, CSSSubsys, CSSSibling, CSSChildren, CSSFlags, CSSSerial, CSSParent uint32
	MemcgUsage, MemcgSwap, MemcgNodes                                             uint32
	// mem_cgroup_per_node.
	NodeMemcg, NodeLists uint32
	Lists                int
	NodeGenLists         uint32 // MGLRU's (Linux 6.1)
	GenLists             int    // 0: not configured
	NodeGenPages         uint32 // pages on each of them
	NodeSizes            uint32 // lru_zone_size[zone][list]
	Zones                int

	// cgroup and kernfs_node.
	CgroupNode, CgroupSubsys                  uint32
	NodeName, NodeParent, NodeID, NodePrivate uint32

	// address_space, inode, super_block, file_system_type.
	MappingHost, MappingPages                                                   uint32
	InodeMode, InodeSB, InodeMapping, InodeNumber, InodeLinks, InodeRdev        uint32
	InodeGeneration, InodeData, InodePrivate, InodeDentries                     uint32
	SuperDev, SuperMagic, SuperType, TypeName                                   uint32
	DentryName, DentryParent, DentryAlias                                       uint32
	XANodeSlots                                                                 uint32
	TaskCgroups, TaskFiles, SetSubsys, FilesTable, TableFiles, FileMap, FileIno uint32
	TaskTasks, TaskID                                                           uint32
	// MemorySubsys is memory's index in arrays of subsystems.
	MemorySubsys int

	// btrfs: the subvolume of an inode. Missing (0) where its types are not
	// known.
	BtrfsInode, BtrfsRoot, BtrfsRootID uint32
}

// unevictable is the last of lists. Since Linux 5.18 it is none, its pages are
// only counted.
const unevictable = 4

// LayoutOf finds the layout in a kernel's BTF.
func LayoutOf(spec *btf.Spec) (*Layout, error) {
	f := finder{spec: spec}
	l := &Layout{PageSize: os.Getpagesize()}

	l.StructPage = f.size("page")
	page := func(names ...string) uint32 {
		for _, s := range []string{"folio", "page"} {
			for _, n := range names {
				if o, _, ok := f.try(s, n); ok {
					return o
				}
			}
		}
		f.miss("page", names...)
		return 0
	}
	l.PageFlags, l.PageLRU, l.PageMapping, l.PageIndex = page("flags"), page("lru"), page("mapping"), page("index")
	l.PageMapcount = page("_mapcount")
	l.PageMemcg = page("memcg_data", "mem_cgroup") // until 5.10 the latter
	l.PageHead = f.off("page", "compound_head")
	l.largeFolio(&f)
	for _, b := range []struct {
		to   *uint8
		name string
	}{{&l.Dirty, "PG_dirty"}, {&l.Writeback, "PG_writeback"}, {&l.Active, "PG_active"}, {&l.Head, "PG_head"}} {
		*b.to = uint8(f.enum("pageflags", b.name))
	}

	const css = "cgroup_subsys_state"
	if o := f.off("mem_cgroup", "css"); o != 0 {
		f.errs = append(f.errs, fmt.Errorf("mem_cgroup does not begin with its css but at %d", o))
	}
	l.CSSCgroup, l.CSSSubsys, l.CSSSibling, l.CSSChildren = f.off(css, "cgroup"), f.off(css, "ss"), f.off(css, "sibling"), f.off(css, "children")
	l.CSSFlags, l.CSSSerial, l.CSSParent = f.off(css, "flags"), f.off(css, "serial_nr"), f.off(css, "parent")
	l.MemcgUsage = f.off("mem_cgroup", "memory", "usage")
	l.MemcgSwap, _, _ = f.try("mem_cgroup", "memsw", "usage")
	l.MemcgNodes = f.off("mem_cgroup", "nodeinfo")
	const node = "mem_cgroup_per_node"
	l.NodeMemcg = f.off(node, "memcg")
	l.NodeLists, l.Lists = f.array(node, listHead, "lruvec", "lists")
	for _, n := range []string{"folios", "lists"} { // 6.3 renamed them
		if o, t, ok := f.try(node, "lruvec", "lrugen", n); ok {
			l.NodeGenLists, l.GenLists = o, f.elements(t, listHead)
			l.NodeGenPages = f.off(node, "lruvec", "lrugen", "nr_pages")
			break
		}
	}
	var sizes int
	l.NodeSizes, sizes = f.array(node, 8, "lru_zone_size")
	if l.Lists > 0 {
		l.Zones = sizes / l.Lists
	}

	l.CgroupNode, l.CgroupSubsys = f.off("cgroup", "kn"), f.off("cgroup", "subsys")
	const kn = "kernfs_node"
	l.NodeName, l.NodeID, l.NodePrivate = f.off(kn, "name"), f.off(kn, "id"), f.off(kn, "priv")
	l.NodeParent = f.either(kn, "parent", "__parent") // 6.15 renamed it

	l.MappingHost, l.MappingPages = f.off("address_space", "host"), f.off("address_space", "i_pages", "xa_head")
	const ino = "inode"
	l.InodeMode, l.InodeSB, l.InodeMapping, l.InodeNumber = f.off(ino, "i_mode"), f.off(ino, "i_sb"), f.off(ino, "i_mapping"), f.off(ino, "i_ino")
	l.InodeLinks, l.InodeRdev = f.either(ino, "i_nlink", "__i_nlink"), f.off(ino, "i_rdev")
	l.InodeGeneration, l.InodeData, l.InodePrivate = f.off(ino, "i_generation"), f.off(ino, "i_data"), f.off(ino, "i_private")
	l.InodeDentries = f.off(ino, "i_dentry")
	l.SuperDev, l.SuperMagic, l.SuperType = f.off("super_block", "s_dev"), f.off("super_block", "s_magic"), f.off("super_block", "s_type")
	l.TypeName = f.off("file_system_type", "name")
	l.DentryName, l.DentryParent = f.off("dentry", "d_name", "name"), f.off("dentry", "d_parent")
	l.DentryAlias = f.either("dentry", "d_u", "d_alias") // 6.x may flatten it
	l.XANodeSlots = f.off("xa_node", "slots")

	l.TaskCgroups, l.TaskFiles = f.off("task_struct", "cgroups"), f.off("task_struct", "files")
	l.TaskTasks, l.TaskID = f.off("task_struct", "tasks"), f.off("task_struct", "tgid")
	l.SetSubsys = f.off("css_set", "subsys")
	l.FilesTable, l.TableFiles = f.off("files_struct", "fdt"), f.off("fdtable", "fd")
	l.FileMap, l.FileIno = f.off("file", "f_mapping"), f.off("file", "f_inode")
	l.MemorySubsys = f.enum("cgroup_subsys_id", "memory_cgrp_id")

	l.btrfs(&f)
	if err := errors.Join(f.errs...); err != nil {
		return nil, &OffError{NoLayout, err}
	}
	return l, nil
}

// listHead is the size of struct list_head: two pointers.
const listHead = 16

// largeFolio finds what is in the second page of a large one: in struct folio
// since 5.16, in the fields of a tail page before.
func (l *Layout) largeFolio(f *finder) {
	second := func(name string) (uint32, bool) {
		if o, _, ok := f.try("folio", name); ok && o >= l.StructPage {
			return o, true
		}
		if o, _, ok := f.try("page", name); ok {
			return l.StructPage + o, true
		}
		return 0, false
	}
	for _, n := range []string{"_nr_pages", "_folio_nr_pages", "compound_nr"} { // 6.16, 5.19, 5.9
		if o, ok := second(n); ok {
			l.FolioPages = o
			break
		}
	}
	if o, ok := second("_large_mapcount"); ok {
		l.FolioMaps, l.FolioMapsAll = []uint32{o}, true
		return
	}
	for _, n := range []string{"_entire_mapcount", "_total_mapcount", "compound_mapcount"} { // 6.2, 6.1, before
		if o, ok := second(n); ok {
			l.FolioMaps = []uint32{o}
			break
		}
	}
}

// btrfs is optional. Where btrfs is a module, its types are in BTF of its own.
func (l *Layout) btrfs(f *finder) {
	o1, _, ok1 := f.try("btrfs_inode", "vfs_inode")
	o2, _, ok2 := f.try("btrfs_inode", "root")
	o3, _, ok3 := f.try("btrfs_root", "root_key", "objectid")
	if ok1 && ok2 && ok3 {
		l.BtrfsInode, l.BtrfsRoot, l.BtrfsRootID = o1, o2, o3
	}
}

// btrfsLoaded reports whether btrfs is a module, and loaded.
func btrfsLoaded() bool {
	_, err := os.Stat("/sys/kernel/btf/btrfs")
	return err == nil
}

// Complete reports whether no module has been loaded since that would add to it.
func (l *Layout) Complete() bool { return l.BtrfsInode != 0 || !btrfsLoaded() }

// addModule adds what a module's BTF describes.
func (l *Layout) addModule(spec *btf.Spec) { l.btrfs(&finder{spec: spec}) }

// folioBytes are the bytes to read of a folio: its first two struct pages.
func (l *Layout) folioBytes() int { return 2 * int(l.StructPage) }

// cssBytes is what of a mem_cgroup the tree needs.
func (l *Layout) cssBytes() int {
	return int(max(l.CSSCgroup, l.CSSSubsys, l.CSSSibling+8, l.CSSChildren+8, l.CSSFlags, l.CSSSerial, l.CSSParent, l.MemcgUsage, l.MemcgSwap)) + 8
}

// maxOffset is beyond every field of every kernel structure: a task_struct, the largest,
// has some 16 KiB with debugging. Sums of offsets below it do not wrap.
const maxOffset = 64 << 10

// check refuses offsets that no kernel has, such as a hostile image's.
func (l *Layout) check() error {
	const most = 16 << 10
	for f, v := range reflect.ValueOf(*l).Fields() {
		if o, is := v.Interface().(uint32); is && o > maxOffset {
			return fmt.Errorf("%s is at %d, beyond the end of any structure", f.Name, o)
		}
	}
	if l.StructPage < 32 || l.StructPage > 1024 || l.PageSize < 4096 || l.PageSize > 64<<10 {
		return fmt.Errorf("pages of %d bytes, their structures of %d", l.PageSize, l.StructPage)
	}
	if l.cssBytes() > maxNext || l.inodeBytes() > maxNext || l.nodeBytes() > most || l.Lists != unevictable+1 ||
		l.Zones < 1 || l.Zones > 16 || l.GenLists < 0 || l.GenLists > 256 || l.MemorySubsys < 0 || l.MemorySubsys > 64 {
		return errors.New("structures are larger than any kernel's")
	}
	for _, o := range []uint32{l.PageFlags, l.PageLRU, l.PageLRU + 8, l.PageMapping, l.PageIndex, l.PageMapcount, l.PageMemcg, l.PageHead} {
		if uint64(o)+8 > uint64(l.StructPage)+4 {
			return errors.New("a field lies outside of struct page")
		}
	}
	for _, o := range append([]uint32{l.FolioPages}, l.FolioMaps...) {
		if uint64(o)+4 > 2*uint64(l.StructPage) {
			return errors.New("a field lies outside of a folio's first two pages")
		}
	}
	return nil
}

// finder looks fields up and remembers what was missing.
type finder struct {
	spec *btf.Spec
	errs []error
}

func (f *finder) miss(s string, names ...string) {
	f.errs = append(f.errs, fmt.Errorf("struct %s has no %v", s, names))
}

func (f *finder) structure(name string) *btf.Struct {
	var s *btf.Struct
	if err := f.spec.TypeByName(name, &s); err != nil {
		return nil
	}
	return s
}

func (f *finder) size(name string) uint32 {
	if s := f.structure(name); s != nil {
		return s.Size
	}
	f.errs = append(f.errs, fmt.Errorf("there is no struct %s", name))
	return 0
}

// try is the offset and type of a field, given as a path of names. Anonymous
// structures and unions between them are looked through.
func (f *finder) try(s string, path ...string) (uint32, btf.Type, bool) {
	st := f.structure(s)
	if st == nil {
		return 0, nil, false
	}
	var t btf.Type = st
	var at uint32
	for _, name := range path {
		o, member, ok := field(t, name)
		if !ok {
			return 0, nil, false
		}
		at += o
		t = btf.UnderlyingType(member)
	}
	return at, t, true
}

// off is try for what must be there.
func (f *finder) off(s string, path ...string) uint32 {
	o, _, ok := f.try(s, path...)
	if !ok {
		f.miss(s, path...)
	}
	return o
}

// either is the first field there of several names.
func (f *finder) either(s string, names ...string) uint32 {
	for _, n := range names {
		if o, _, ok := f.try(s, n); ok {
			return o
		}
	}
	f.miss(s, names...)
	return 0
}

// array is a field's offset and how many elements of a size it has.
func (f *finder) array(s string, size int, path ...string) (uint32, int) {
	o, t, ok := f.try(s, path...)
	if !ok {
		f.miss(s, path...)
		return 0, 0
	}
	return o, f.elements(t, size)
}

func (f *finder) elements(t btf.Type, size int) int {
	n, err := btf.Sizeof(t)
	if err != nil {
		f.errs = append(f.errs, err)
	}
	return n / size
}

// enum is the value of a name.
func (f *finder) enum(enum, name string) int {
	var e *btf.Enum
	if err := f.spec.TypeByName(enum, &e); err == nil {
		for _, v := range e.Values {
			if v.Name == name {
				return int(v.Value)
			}
		}
	}
	f.errs = append(f.errs, fmt.Errorf("enum %s has no %s", enum, name))
	return 0
}

func field(t btf.Type, name string) (uint32, btf.Type, bool) {
	var members []btf.Member
	switch v := t.(type) {
	case *btf.Struct:
		members = v.Members
	case *btf.Union:
		members = v.Members
	}
	for _, m := range members {
		if m.Name == name {
			return m.Offset.Bytes(), m.Type, true
		}
		if m.Name == "" {
			if o, inner, ok := field(btf.UnderlyingType(m.Type), name); ok {
				return m.Offset.Bytes() + o, inner, true
			}
		}
	}
	return 0, nil, false
}
