package reclaim

import "testing"

// What may take long in the kernel must be known to Go's scheduler, or the
// whole daemon waits for it.
func TestShortFiles(t *testing.T) {
	for _, long := range []string{"memory.stat", "cpu.stat", "memory.pressure", "cgroup.procs", "tasks", "memory.reclaim"} {
		if shortFile(long) {
			t.Errorf("reading %s counts as short", long)
		}
	}
	for _, long := range []string{"memory.reclaim", "memory.high", "memory.max", "memory.force_empty", "cgroup.procs", "tasks"} {
		if shortWrite(long) {
			t.Errorf("writing %s counts as short", long)
		}
	}
	if !shortFile("memory.current") || !shortWrite("memory.min") {
		t.Error("what a shield reads and writes counts as long")
	}
}
