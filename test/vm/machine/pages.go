package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// pageFlagNames are the bits of /proc/kpageflags that tell why a page stays (linux/kernel-page-flags.h and, above 31,
// the kernel's own include of it).
var pageFlagNames = map[int]string{
	0: "locked", 2: "referenced", 3: "uptodate", 4: "dirty", 5: "lru", 6: "active", 8: "writeback", 9: "reclaim",
	11: "mmap", 12: "anon", 13: "swapcache", 14: "swapbacked", 15: "compound-head", 16: "compound-tail",
	18: "unevictable", 33: "mlocked", 34: "mapped-to-disk", 35: "private", 37: "owner-private",
}

// Bits of /proc/kpageflags that decide.
const (
	flagUptodate     = 1 << 3
	flagAnon         = 1 << 12
	flagSwapBacked   = 1 << 14
	flagUnevictable  = 1 << 18
	flagMappedToDisk = 1 << 34
	flagPrivate      = 1 << 35
)

// Pages are the pages of the dead below one cgroup, counted one by one.
type Pages struct {
	Shmem       int64 `json:"shmem"`       // tmpfs and shared memory: no reclaim frees them without swap
	Reclaimable int64 `json:"reclaimable"` // file cache, dirty or clean
	// Journal: pages of no file any more (truncated: neither up to date nor mapped to disk) whose buffers ext4's
	// journal still has in a transaction. They go with its checkpoint: after the metadata's writeback
	// (vm.dirty_expire_centisecs, 30 s) and the commit that follows it (5 s), whatever reclaim does.
	Journal int64          `json:"journal"`
	Kinds   map[string]int `json:"kinds"` // by flags, for the log
}

func (p Pages) String() string {
	var out []string
	for k, n := range p.Kinds {
		out = append(out, fmt.Sprintf("%d × %s", n, k))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// CountPages fills in the leaks' pages. /proc/kpagecgroup names the nearest live ancestor of a dead memcg's page, so
// where a cgroup has no pages of its own, those that name it are the dead ones'. That is exact on every kernel, while
// memory.stat before 5.14 may be off by 32 pages a CPU for each cgroup. It reads all of memory's page table: use it
// for a verdict, not in a loop.
func (m *Machine) CountPages(leaks []Leak) error {
	byInode := map[uint64]*Leak{}
	for i := range leaks {
		var st unix.Stat_t
		if err := unix.Stat(m.MemPath(leaks[i].Cgroup), &st); err != nil {
			return fmt.Errorf("stat %s: %w", leaks[i].Cgroup, err)
		}
		leaks[i].Pages = &Pages{Kinds: map[string]int{}}
		byInode[st.Ino] = &leaks[i]
	}
	owners, err := os.Open("/proc/kpagecgroup")
	if err != nil {
		return err
	}
	defer owners.Close()
	flags, err := os.Open("/proc/kpageflags")
	if err != nil {
		return err
	}
	defer flags.Close()
	buf := make([]byte, 1<<20)
	for off := int64(0); ; {
		n, err := owners.ReadAt(buf, off)
		for i := 0; i+8 <= n; i += 8 {
			ino := binary.LittleEndian.Uint64(buf[i:])
			if ino == 0 || byInode[ino] == nil {
				continue
			}
			var f [8]byte
			if _, err := flags.ReadAt(f[:], off+int64(i)); err != nil {
				return fmt.Errorf("kpageflags: %w", err)
			}
			byInode[ino].Pages.add(binary.LittleEndian.Uint64(f[:]))
		}
		off += int64(n)
		if errors.Is(err, io.EOF) || n == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("kpagecgroup: %w", err)
		}
	}
}

func (p *Pages) add(flags uint64) {
	p.Kinds[flagNames(flags)]++
	switch {
	case flags&flagAnon != 0 || flags&flagUnevictable != 0:
	case flags&flagSwapBacked != 0:
		p.Shmem++
	case flags&flagPrivate != 0 && flags&(flagUptodate|flagMappedToDisk) == 0:
		p.Journal++
	default:
		p.Reclaimable++
	}
}

func flagNames(flags uint64) string {
	var out []string
	for bit := range 64 {
		if name := pageFlagNames[bit]; name != "" && flags&(1<<bit) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, "|")
}
