package reclaim

import (
	"fmt"
	"os"
	"strings"
)

// OwnCgroup is the cgroup v2 path of this process.
func OwnCgroup() (string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find this process's cgroup: %w", err)
	}
	return parseOwnCgroup(string(data))
}

// parseOwnCgroup finds the v2 line of a /proc/PID/cgroup: "0::PATH".
func parseOwnCgroup(data string) (string, error) {
	for line := range strings.Lines(data) {
		if p, ok := strings.CutPrefix(line, "0::"); ok {
			return CleanPath(strings.TrimSuffix(p, "\n"))
		}
	}
	return "", fmt.Errorf("%w: /proc/self/cgroup names no cgroup v2", errNotCgroupPath)
}
