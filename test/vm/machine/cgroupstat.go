package machine

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// CPU returns the CPU time that all processes of a cgroup have used since it was made, those that ended among them
// (cpu.stat is there on v2 without the CPU controller too).
func (m *Machine) CPU(cgroup string) (time.Duration, error) {
	n, err := m.Stat(cgroup, "cpu.stat", "usage_usec")
	return time.Duration(n) * time.Microsecond, err
}

// Stat returns one line of a cgroup's file of "key value" lines (v2 only).
func (m *Machine) Stat(cgroup, file, key string) (int64, error) {
	p := filepath.Join(m.MemPath(cgroup), file)
	stat, err := readFlat(p)
	if err != nil {
		return 0, err
	}
	n, ok := stat[key]
	if !ok {
		return 0, fmt.Errorf("%s has no line %q", p, key)
	}
	return n, nil
}

// DaemonCgroup returns the daemon's own cgroup, while it runs.
func (m *Machine) DaemonCgroup(ctx context.Context) (string, error) {
	return m.Property(ctx, Unit, "ControlGroup")
}
