//go:build !man

package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// gcPercent has the collector run sooner than Go's 100 and its 4 MiB least
// heap: the daemon's live heap is 1 to 2 MiB, and operators count its memory.
const gcPercent = 40

// maxProcs is one: the work is done by the kernel, one write at a time, and
// what waits beside it is small. With a second, idle processor Go's monitor
// polls a thread that is in the kernel every 20 µs to 10 ms (runtime/proc.go,
// retake): 124 ms instead of 81 ms of monitor in a sweep of 100,000 (6.18).
const maxProcs = 1

func main() {
	if reclaim.ProbeChild() || pagewalk.ProbeChild() {
		return
	}
	if isGenerator(os.Args) {
		os.Exit(runGenerator(os.Args[1:]))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(maxProcs)
	}
	// Where transparent huge pages are "always" (Debian), a heap of 2 MiB
	// would take some pages of 2 MiB each. It fails only before Linux 3.15.
	_ = unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0)
	os.Exit(run())
}
