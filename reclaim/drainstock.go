package reclaim

import (
	"os"

	"golang.org/x/sys/unix"
)

// drainStocks makes every CPU let go of the memcg whose charges it keeps in
// stock. A CPU charges in lots (64 pages) and keeps what is over, with a
// reference to the memcg, until it charges another one (refill_stock and
// refill_obj_stock, mm/memcontrol.c): an idle CPU can so keep two emptied
// memcgs dying for as long as it is idle. So this thread goes from CPU to CPU
// and charges a page and a kernel object of its own on each.
//
// It goes only where this process may run anyway, so not to isolated CPUs, and
// takes some 10 µs of each. Call it on the reaping thread.
func drainStocks() {
	var home unix.CPUSet
	if unix.SchedGetaffinity(0, &home) != nil {
		return
	}
	defer func() { _ = unix.SchedSetaffinity(0, &home) }()
	left := home.Count()
	for cpu := 0; left > 0; cpu++ {
		if !home.IsSet(cpu) {
			continue
		}
		left--
		var one unix.CPUSet
		one.Set(cpu)
		if unix.SchedSetaffinity(0, &one) == nil {
			chargeHere()
		}
	}
}

// chargeHere charges a page and a kernel object to this process's memcg, and
// gives both back.
func chargeHere() {
	if page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err == nil {
		page[0] = 1
		_ = unix.Munmap(page)
	}
	var pipe [2]int
	if unix.Pipe2(pipe[:], unix.O_CLOEXEC) == nil { // GFP_KERNEL_ACCOUNT
		_ = unix.Close(pipe[0])
		_ = unix.Close(pipe[1])
	}
}
