package reclaim

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mpolMoveOwn is MPOL_MF_MOVE, move_pages(2): pages of this process only.
const mpolMoveOwn = 2

// drainLRU makes every CPU put the pages that wait in its batches on the LRU
// lists (lru_add_drain_all), where reclaim can find them: up to 14 pages a CPU
// (15 fill a batch) that look reclaimable and never go. memory.reclaim does
// this itself in its last round; lowering memory.high does not.
//
// move_pages(2) begins with it (mm/migrate.c), whatever comes of the move: it
// is asked to move a page of our own to where it is.
func drainLRU() {
	page := make([]byte, os.Getpagesize())
	page[0] = 1
	addr := unsafe.Pointer(&page[0])
	var node, status int32
	_, _, _ = unix.Syscall6(unix.SYS_MOVE_PAGES, 0, 1, uintptr(unsafe.Pointer(&addr)),
		uintptr(unsafe.Pointer(&node)), uintptr(unsafe.Pointer(&status)), mpolMoveOwn)
	runtime.KeepAlive(page)
}
