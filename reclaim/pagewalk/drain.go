package pagewalk

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// DrainBatches has the kernel move what waits in each CPU's batches onto the LRU
// lists: up to 31 folios a CPU (PAGEVEC_SIZE), which are charged and on no list.
// A dead session's last pages wait there until others fill the batch.
//
// It asks for it by POSIX_FADV_DONTNEED on a page of our own that cannot go, as
// it is mapped: the kernel then takes it for one that waits in a batch, and
// drains them all before it tries again (mm/fadvise.c). dir is where to make the
// file, on a file system with a disk below it.
func DrainBatches(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		return fmt.Errorf("%s has no disk below it, so nothing can be asked of its pages", dir)
	}
	f, err := nameless(dir)
	if err != nil {
		return fmt.Errorf("drain the CPUs' batches of pages: %w", err)
	}
	defer f.Close()
	size := os.Getpagesize()
	if err := f.Truncate(int64(size)); err != nil { // a hole: nothing is written
		return err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	if mem[0] != 0 { // reading it maps it
		return fmt.Errorf("%s: a hole is not zero", f.Name())
	}
	return unix.Fadvise(int(f.Fd()), 0, int64(size), unix.FADV_DONTNEED)
}

// nameless makes a file without a name, of which a killed process leaves nothing. Where
// the file system has no such files (overlayfs before Linux 6.3), it has one for a moment.
func nameless(dir string) (*os.File, error) {
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		return os.NewFile(uintptr(fd), dir+"/(no name)"), nil
	}
	f, err := os.CreateTemp(dir, ".scopereap-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
