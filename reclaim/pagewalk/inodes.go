package pagewalk

import (
	"golang.org/x/sys/unix"
)

// inodes turns mappings into files.
type inodes struct {
	k      *Kernel
	m      *memory
	files  []File
	byMap  map[uint64]int // mapping to index, −1: could not be read
	supers map[uint64]*super
}

// super is a mounted file system.
type super struct {
	dev    uint32
	magic  uint64
	typ    uint64
	fsType string
}

// inodeBytes is what of an inode the walk needs, and of the mapping within it.
func (l *Layout) inodeBytes() int {
	return int(max(l.InodeMode, l.InodeSB, l.InodeMapping, l.InodeNumber, l.InodeLinks, l.InodeRdev, l.InodeGeneration,
		l.InodeDentries, l.InodeData+l.MappingHost)) + 8
}

// minorBits of the kernel's dev_t (include/linux/kdev_t.h).
const minorBits = 20

// read finds the files of mappings. Nearly all mappings are their inode's own
// (i_data), so the inode around each is read first, and believed where its
// i_data.host points back to itself.
func (x *inodes) read(mappings []uint64) error {
	l := x.k.Layout
	var others []uint64
	guess := make([]uint64, len(mappings))
	for i, a := range mappings {
		guess[i] = a - uint64(l.InodeData)
	}
	err := x.m.gather(guess, l.inodeBytes(), func(i int, b []byte) {
		if b != nil && u64(b, l.InodeData+l.MappingHost) == guess[i] {
			x.add(mappings[i], guess[i], b)
			return
		}
		others = append(others, mappings[i])
	})
	if err != nil {
		return err
	}
	// The rest belongs to somebody else's inode, whose i_mapping it is.
	hosts := make([]uint64, len(others))
	at := make([]uint64, len(others))
	for i, a := range others {
		at[i] = a + uint64(l.MappingHost)
	}
	if err := x.m.gather(at, 8, func(i int, b []byte) {
		if b != nil {
			hosts[i] = u64(b, 0)
		}
	}); err != nil {
		return err
	}
	err = x.m.gather(hosts, l.inodeBytes(), func(i int, b []byte) {
		if b != nil && isKernel(hosts[i]) && u64(b, l.InodeMapping) == others[i] {
			x.add(others[i], hosts[i], b)
			return
		}
		x.byMap[others[i]] = -1
	})
	if err != nil {
		return err
	}
	return x.finish()
}

// add takes an inode.
func (x *inodes) add(mapping, addr uint64, b []byte) {
	f, sb := x.k.Layout.inode(b)
	f.mapping, f.addr = mapping, addr
	if x.supers[sb] == nil {
		x.supers[sb] = &super{}
	}
	f.Magic = sb // until finish
	x.byMap[mapping] = len(x.files)
	x.files = append(x.files, f)
}

// inode decodes one; its file system's address comes with it.
func (l *Layout) inode(b []byte) (f File, super uint64) {
	rdev := u32(b, l.InodeRdev)
	return File{
		Inode: u64(b, l.InodeNumber), Generation: u32(b, l.InodeGeneration), Mode: uint32(u16(b, l.InodeMode)),
		Links: u32(b, l.InodeLinks), Major: rdev >> minorBits, Minor: rdev & (1<<minorBits - 1),
	}, u64(b, l.InodeSB)
}

// finish reads the file systems and completes the files.
func (x *inodes) finish() error {
	l := x.k.Layout
	var at []uint64
	for a, s := range x.supers {
		if s.fsType == "" {
			at = append(at, a)
		}
	}
	first := min(l.SuperDev, l.SuperMagic, l.SuperType)
	size := int(max(l.SuperDev, l.SuperMagic, l.SuperType)-first) + 8
	addrs := make([]uint64, len(at))
	for i, a := range at {
		addrs[i] = a + uint64(first)
	}
	err := x.m.gather(addrs, size, func(i int, b []byte) {
		s := x.supers[at[i]]
		s.fsType = unreadable
		if b != nil {
			s.dev, s.magic, s.typ = u32(b, l.SuperDev-first), u64(b, l.SuperMagic-first), u64(b, l.SuperType-first)
		}
	})
	if err != nil {
		return err
	}
	for _, a := range at { // a handful
		s := x.supers[a]
		name, err := x.m.deref(s.typ, l.TypeName)
		if err != nil {
			continue
		}
		var b [16]byte
		if x.m.read(name, b[:]) == nil {
			if t, whole := cstring(b[:]); whole {
				s.fsType = t
			}
		}
	}
	var ofBtrfs []int
	for i := range x.files {
		f := &x.files[i]
		s := x.supers[f.Magic]
		if s == nil {
			continue // had before
		}
		f.complete(*s)
		if f.Magic == unix.BTRFS_SUPER_MAGIC && l.BtrfsRootID != 0 {
			ofBtrfs = append(ofBtrfs, i)
		}
	}
	return x.subvolumes(ofBtrfs)
}

// complete adds what the file system says.
func (f *File) complete(s super) {
	f.Magic, f.FSType = s.magic, s.fsType
	switch {
	case f.Mode&unix.S_IFMT == unix.S_IFBLK:
		f.Kind = Block // Major and Minor are the device's
		return
	case s.magic == unix.TMPFS_MAGIC:
		f.Kind = Shmem
	case s.magic == unix.HUGETLBFS_MAGIC:
		f.Kind = Hugetlb
	case s.magic == 0:
		f.Kind = Unknown
	}
	f.Major, f.Minor = s.dev>>minorBits, s.dev&(1<<minorBits-1)
}

// subvolumes reads which subvolume a btrfs inode is of: its number is unique in
// there only.
func (x *inodes) subvolumes(of []int) error {
	l := x.k.Layout
	at := make([]uint64, len(of))
	for i, f := range of {
		at[i] = x.files[f].addr - uint64(l.BtrfsInode) + uint64(l.BtrfsRoot)
	}
	roots := make([]uint64, len(of))
	err := x.m.gather(at, 8, func(i int, b []byte) {
		if b != nil {
			roots[i] = u64(b, 0) + uint64(l.BtrfsRootID)
		}
	})
	if err != nil {
		return err
	}
	return x.m.gather(roots, 8, func(i int, b []byte) {
		if b != nil {
			x.files[of[i]].Subvolume = u64(b, 0)
		}
	})
}

// confirm reads the inodes again and reports which are no longer the same.
func (x *inodes) confirm() (changed map[int]bool, err error) {
	l := x.k.Layout
	at := make([]uint64, len(x.files))
	for i, f := range x.files {
		at[i] = f.addr
	}
	changed = map[int]bool{}
	err = x.m.gather(at, l.inodeBytes(), func(i int, b []byte) {
		if b == nil {
			changed[i] = true
			return
		}
		now, sb := l.inode(b)
		f := x.files[i]
		s := x.supers[sb]
		if s == nil {
			changed[i] = true
			return
		}
		now.complete(*s)
		if now.Inode != f.Inode || now.Generation != f.Generation || now.Mode&unix.S_IFMT != f.Mode&unix.S_IFMT ||
			now.Major != f.Major || now.Minor != f.Minor || u64(b, l.InodeMapping) != f.mapping {
			changed[i] = true
		}
	})
	return changed, err
}
