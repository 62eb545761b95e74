//go:build vm

package vm

import (
	"fmt"
	"os"
	"runtime"
	"strings"
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
