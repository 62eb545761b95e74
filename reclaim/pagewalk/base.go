package pagewalk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// findPages finds the page array without a symbol: a page of a file of our own
// has a page frame number (/proc/self/pagemap) and a structure (the file's
// mapping has its address). Twice, since once may be wrong.
func (k *Kernel) findPages() (uint64, error) {
	var base [2]uint64
	for i := range base {
		var err error
		if base[i], err = k.pagesByOwn(); err != nil {
			return 0, err
		}
	}
	if base[0] != base[1] {
		return 0, fmt.Errorf("two pages of our own say that it begins at %#x and at %#x", base[0], base[1])
	}
	return base[0], nil
}

func (k *Kernel) pagesByOwn() (uint64, error) {
	fd, err := unix.MemfdCreate("scopereap", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("make a file of our own: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close()
	size := k.Layout.PageSize
	if err := f.Truncate(int64(size)); err != nil {
		return 0, err
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(mem)
	mem[0] = 1 // a page that nobody touched has no frame
	pfn, err := frameOf(addressOf(mem), size)
	if err != nil {
		return 0, err
	}
	m := k.memory(context.Background())
	mapping, err := k.openFile(m, f, k.Layout.FileMap)
	if err != nil {
		return 0, err
	}
	page, err := k.firstPage(m, mapping)
	if err != nil {
		return 0, err
	}
	// The structure must lie at that frame's place in an array that begins at
	// the begin of a page.
	base := page - pfn*uint64(k.Layout.StructPage)
	if !isKernel(base) || base%uint64(size) != 0 {
		return 0, fmt.Errorf("page %#x at %#x does not belong to an array of pages", pfn, page)
	}
	return base, nil
}

// firstPage is the address of the structure of a file's page 0: its mapping's
// tree is that page alone, or a few levels of nodes (lib/xarray.c).
func (k *Kernel) firstPage(m *memory, mapping uint64) (uint64, error) {
	const (
		internal = 2 // the tag of a pointer to a node
		levels   = 11
	)
	at := mapping + uint64(k.Layout.MappingPages)
	for range levels {
		p, err := m.u64(at)
		switch {
		case err != nil:
			return 0, err
		case p&mappingFlags == internal:
			at = p - internal + uint64(k.Layout.XANodeSlots)
		case p == 0 || p&mappingFlags != 0:
			return 0, fmt.Errorf("a page of our own is not in its file's tree (%#x)", p)
		default:
			return p, nil
		}
	}
	return 0, errors.New("a file's tree is deeper than any")
}

// Fields of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const (
	framePresent = 1 << 63
	frameMask    = 1<<55 - 1
)

// frameOf is the page frame number at an address of this process. It takes
// CAP_SYS_ADMIN (Linux 4.2); without it is 0 there.
func frameOf(addr uintptr, pageSize int) (uint64, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var b [8]byte
	if _, err := f.ReadAt(b[:], int64(addr)/int64(pageSize)*8); err != nil {
		return 0, err
	}
	v := binary.LittleEndian.Uint64(b[:])
	if v&framePresent == 0 || v&frameMask == 0 {
		return 0, errors.New("/proc/self/pagemap hides page frame numbers (it takes CAP_SYS_ADMIN)")
	}
	return v & frameMask, nil
}
