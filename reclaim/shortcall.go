package reclaim

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Short system calls are made without a word to Go's scheduler.
//
// Around any other one the runtime gets ready for it to block: once it has
// lasted 20 µs, the runtime's monitor takes the processor away from the thread
// and is woken again at its end (runtime/proc.go, retake and exitsyscall). A
// turn makes some hundred calls about that long, and the monitor took as much
// CPU time as they did (measured on 6.12, emulated). So this is only for what
// is bound to come back at once: never for what reclaims, flushes counters or
// waits for a lock that others hold for long.

// shortFile tells the files whose reading takes a number out of memory. Not
// memory.stat and cpu.stat, which bring a whole subtree's counters up to date
// first, nor those that list processes.
func shortFile(name string) bool {
	switch name {
	case "memory.current", "memory.min", "memory.low", "memory.high", "memory.max", "memory.swap.current",
		"cgroup.stat", "cgroup.subtree_control", "cgroup.controllers", "cgroup.events":
		return true
	}
	return false
}

// shortWrite tells the files whose writing sets a number in memory.
// memory.high and memory.max reclaim, cgroup.procs waits for locks.
func shortWrite(name string) bool { return name == "memory.min" || name == "memory.low" }

// openShort opens rel, which ends in a NUL, in a directory.
func openShort(dir int, rel []byte, flags int) (int, unix.Errno) {
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&rel[0])), uintptr(flags), 0, 0, 0)
	return int(fd), errno
}

func closeShort(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// inodeShort is the inode number of rel, which ends in a NUL, in a directory;
// no link is followed.
func inodeShort(dir int, rel []byte) (uint64, unix.Errno) {
	var st unix.Statx_t // statx(2) is the same on 32 and on 64 bits
	_, _, errno := unix.RawSyscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&rel[0])),
		unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO, uintptr(unsafe.Pointer(&st)), 0)
	return st.Ino, errno
}

// ioShort is read(2) or write(2). buf must not be empty.
func ioShort(trap uintptr, fd int, buf []byte) (int, error) {
	n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// getdentsShort is getdents64(2).
func getdentsShort(fd int, buf []byte) (int, error) { return ioShort(unix.SYS_GETDENTS64, fd, buf) }

// readShort and writeShort are read(2) and write(2).
func readShort(fd int, buf []byte) (int, error)  { return ioShort(unix.SYS_READ, fd, buf) }
func writeShort(fd int, buf []byte) (int, error) { return ioShort(unix.SYS_WRITE, fd, buf) }

// cpuClock reads one of this process's CPU clocks, in ns; 0 if there is none.
func cpuClock(id int32) int64 {
	var ts unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0
	}
	return ts.Nano()
}
