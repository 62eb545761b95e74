package machine

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CacheMap looks which pages of a file are in the page cache, whoever they are charged to. Beside memory.stat it is a
// second witness that the living lost nothing: it counts pages, not charges.
type CacheMap struct {
	mem []byte // mapped, and never touched
	vec []byte
}

// OpenCacheMap maps a file.
func OpenCacheMap(path string) (*CacheMap, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap %s: %w", path, err)
	}
	return &CacheMap{mem: mem, vec: make([]byte, pages(len(mem)))}, nil
}

// Close ends the mapping.
func (c *CacheMap) Close() error { return unix.Munmap(c.mem) }

// Size is the file's, in bytes.
func (c *CacheMap) Size() int64 { return int64(len(c.mem)) }

// Missing returns how many pages of a part of the file are not cached; off is a multiple of the page size.
func (c *CacheMap) Missing(off, length int64) (int64, error) {
	part := c.mem[off:min(off+length, c.Size())]
	// x/sys has no mincore.
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&part[0])), uintptr(len(part)), uintptr(unsafe.Pointer(&c.vec[0])))
	if errno != 0 {
		return 0, fmt.Errorf("mincore: %w", errno)
	}
	missing := int64(pages(len(part)))
	for _, v := range c.vec[:missing] {
		missing -= int64(v & 1)
	}
	return missing, nil
}

// Resident returns how many bytes of a file are in the page cache.
func Resident(path string) (int64, error) {
	c, err := OpenCacheMap(path)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	missing, err := c.Missing(0, c.Size())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return (int64(len(c.vec)) - missing) * pageSize, nil
}

func pages(bytes int) int { return (bytes + pageSize - 1) / pageSize }
