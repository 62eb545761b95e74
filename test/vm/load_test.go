//go:build vm

package vm

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// hostLoad says what else ran on this machine when a VM was to start, for the benchmarks' results.
func hostLoad() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	f := strings.Fields(string(b))
	return fmt.Sprintf("load average of the host %s, %d CPUs", strings.Join(f[:min(3, len(f))], " "), runtime.NumCPU())
}

// treeCommit is that of the tree under test.
func treeCommit(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty").Output()
	if err != nil {
		t.Logf("no commit: %v", err)
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
