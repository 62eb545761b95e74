package pagewalk

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Walk is what a walk found.
type Walk struct {
	// Memcgs are the dying ones, also those that hold no page.
	Memcgs []Memcg
	// Files are those that Memcgs' holdings are of.
	Files []File
	// Live is how many live memcgs were passed.
	Live int
	// PageSize is in bytes; ranges count pages of it.
	PageSize int
	// Inconclusive says what could not be followed; empty where all could.
	Inconclusive []string
	// Calls is how many reads of kernel memory it took (system calls), Objects
	// what they read.
	Calls, Objects int
	Elapsed        time.Duration
}

// Memcg is a dying memcg. Sizes are in bytes, and of this memcg alone.
type Memcg struct {
	// Serial is the kernel's number of the css, never used twice in one boot.
	Serial uint64
	// Path is what it was called, from the hierarchy's root ("/user.slice/…"). Empty
	// where a walk was asked for no names.
	Path string
	// Ancestor is the path of the nearest live cgroup above it. Named says that it
	// is whole: each name could be read, and there are not too many.
	Ancestor string
	Named    bool
	// Charged is all that is charged to it.
	Charged int64
	// File is page cache of files, Block of block devices (file system
	// metadata), Shmem of tmpfs and shared memory. Other is what is charged
	// and not on any list: kernel memory, mostly, and Unevictable.
	File, Block, Shmem, Hugetlb, Anon, Other int64
	// Unevictable is locked memory (mlock) or ramfs.
	Unevictable int64
	// Of File, Block, Shmem and Hugetlb. Large is in folios of several pages.
	Dirty, Writeback, Mapped, Active, Large int64
	// Swap is what of it is in swap: it pins the memcg and is no memory.
	Swap int64
	// Children is how many dying memcgs are right below it, which hold it.
	Children int
	// Partial: its lists changed while they were read.
	Partial bool
	// Holdings are its pages by file.
	Holdings []Holding

	addr uint64
}

// Holding is what a memcg holds of one file.
type Holding struct {
	File   int // index into Walk.Files
	Ranges []Range
}

// Range is contiguous pages of a file, in the same state, all of them charged
// to the memcg. Folios are never cut.
type Range struct {
	First, Pages uint64
	State        State
}

// Pages counts a holding's.
func (h Holding) Pages() (n uint64) {
	for _, r := range h.Ranges {
		n += r.Pages
	}
	return n
}

// State of a page, as far as it decides whether it can be evicted.
type State uint8

const (
	// Dirty: to be written back first.
	Dirty State = 1 << iota
	// Writeback: being written back.
	Writeback
	// Mapped by a process.
	Mapped
	// active: on the active list; large: of a folio of several pages. These
	// decide nothing and are only summed up.
	active
	large
)

const summed = active | large

// Kind is what a file is, as far as it decides what can be done with its pages.
type Kind uint8

const (
	// Regular is a file that a file system keeps on disk.
	Regular Kind = iota
	// Block is a block device.
	Block
	// Shmem is tmpfs, memfd and shared memory.
	Shmem
	// Hugetlb is hugetlbfs.
	Hugetlb
	// Unknown: what is behind it could not be read.
	Unknown
)

func (k Kind) String() string {
	return [...]string{"file", "block device", "shmem", "hugetlb", "unknown"}[k]
}

// File is a file as the kernel knows it in memory.
type File struct {
	// Major and Minor are of its file system (st_dev; of btrfs that of
	// mountinfo), or the block device's own.
	Major, Minor uint32
	Inode        uint64
	Generation   uint32
	Mode         uint32 // st_mode
	Links        uint32 // 0: deleted
	FSType       string // "ext4"
	Magic        uint64 // statfs(2)
	Kind         Kind
	// Subvolume of btrfs; 0: not known, or another file system.
	Subvolume uint64
	mapping   uint64
	addr      uint64 // of its inode
}

func (f File) String() string {
	return fmt.Sprintf("%s %d:%d inode %d", f.FSType, f.Major, f.Minor, f.Inode)
}

// Dev is f's device as stat(2) has it.
func (f File) Dev() uint64 { return unix.Mkdev(f.Major, f.Minor) }

// Metadata reports whether a file is the file system's own: memory of its metadata,
// which has no path, and which nobody can open.
func (f File) Metadata() bool {
	if f.Kind != Regular {
		return false
	}
	switch f.Magic {
	case unix.EXT4_SUPER_MAGIC: // 1 is the cache of free blocks (fs/ext4/mballoc.c), 2 the root, 11 the first file
		return f.Inode < 11 && f.Inode != 2
	case unix.BTRFS_SUPER_MAGIC: // 1 is all trees (fs/btrfs/disk-io.c), 256 the first file
		return f.Inode < 256
	case unix.F2FS_SUPER_MAGIC: // 1 and 2 are node and meta pages, 3 the root (include/linux/f2fs_fs.h)
		return f.Inode < 3
	}
	return false
}

// ByAncestor splits a walk by its memcgs' ancestors.
func (w *Walk) ByAncestor() map[string]*Walk {
	out := map[string]*Walk{}
	for _, m := range w.Memcgs {
		p := out[m.Ancestor]
		if p == nil {
			p = &Walk{Files: w.Files, PageSize: w.PageSize}
			out[m.Ancestor] = p
		}
		p.Memcgs = append(p.Memcgs, m)
	}
	return out
}

// ByFile gathers what all of some memcgs hold, by file: ranges are merged where
// they meet, and only those of a same state.
func (w *Walk) ByFile(of func(Memcg) bool) []Holding {
	at := map[int]int{} // a walk of some memcgs may have few of its files
	var out []Holding
	for _, m := range w.Memcgs {
		if of != nil && !of(m) {
			continue
		}
		for _, h := range m.Holdings {
			if at[h.File] == 0 {
				out = append(out, Holding{File: h.File})
				at[h.File] = len(out)
			}
			o := &out[at[h.File]-1]
			o.Ranges = append(o.Ranges, h.Ranges...)
		}
	}
	for i := range out {
		out[i].Ranges = merge(out[i].Ranges)
	}
	return out
}

// merge sorts ranges and joins those that meet in the same state. Where two
// overlap, which no two readings of one moment do, the second's overlap goes.
func merge(rs []Range) []Range {
	slices.SortFunc(rs, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	out := rs[:0]
	for _, r := range rs {
		if n := len(out); n > 0 {
			last := &out[n-1]
			end := last.First + last.Pages
			if r.First < end {
				over := min(end-r.First, r.Pages)
				r.First, r.Pages = r.First+over, r.Pages-over
			}
			if r.Pages == 0 {
				continue
			}
			if r.First == end && r.State == last.State {
				last.Pages += r.Pages
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// Limits bound a walk, whatever the kernel's memory seems to hold.
type Limits struct {
	Memcgs int // seen, dead or alive
	Pages  int // pieces of files noted
	Reads  int // system calls
	Depth  int // of cgroups
}

// DefaultLimits are beyond what machines have: 400,000 dying memcgs were counted
// on one (background/), and noting a million pieces takes 32 MB.
func DefaultLimits() Limits {
	return Limits{Memcgs: 4 << 20, Pages: 8 << 20, Reads: 16 << 20, Depth: 1024}
}
