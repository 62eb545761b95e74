package reclaim

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDrainStocksComesHome: a thread that has been on every CPU may run where
// it could before.
func TestDrainStocksComesHome(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	drainStocks()
	if err := unix.SchedGetaffinity(0, &after); err != nil {
		t.Fatal(err)
	}
	if before != after {
		t.Errorf("affinity was %v, is %v", before, after)
	}
}

// TestDrainLRU: whatever comes of the move, nothing of ours changes.
func TestDrainLRU(t *testing.T) {
	for range 3 {
		drainLRU()
	}
}
