package reclaim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/containerd/cgroups/v3"
)

// Mode is how a machine has its memory controller mounted.
type Mode string

const (
	// Unified: memory is a controller of cgroup v2.
	Unified Mode = "v2"
	// Hybrid: memory is a v1 hierarchy; systemd tracks units in a v2 tree
	// beside it.
	Hybrid Mode = "hybrid"
	// Legacy: memory and systemd's own hierarchy are both v1.
	Legacy Mode = "v1"
)

// V2 reports whether the memory controller is cgroup v2's.
func (m Mode) V2() bool { return m == Unified }

// ErrNoMemoryController means that this machine mounts no memory controller:
// there are no memcgs to leak, or none that can be seen from here.
var ErrNoMemoryController = errors.New("no memory cgroup hierarchy is mounted (a container without /sys/fs/cgroup, or a kernel booted with cgroup_disable=memory)")

// Hierarchy is where the memory controller is mounted, and how.
type Hierarchy struct {
	Mode Mode
	Root string // mount point
	// RecursiveProt: v2 was mounted with memory_recursiveprot (Linux 5.7;
	// systemd mounts so since 247): a cgroup's unclaimed memory.min
	// protects its descendants too.
	RecursiveProt bool
}

// FindHierarchy finds the mounted memory controller.
func FindHierarchy() (Hierarchy, error) {
	mode := cgroups.Mode()
	if mode == cgroups.Unavailable {
		return Hierarchy{}, ErrNoMemoryController
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Hierarchy{}, fmt.Errorf("find the memory controller: %w", err)
	}
	defer f.Close()
	return parseMountinfo(f, mode == cgroups.Unified)
}

// parseMountinfo finds the memory controller's mount in a
// /proc/self/mountinfo (proc_pid_mountinfo(5)). On a unified machine that is
// the cgroup2 mount; elsewhere the v1 mount with "memory" among its options.
func parseMountinfo(r io.Reader, unified bool) (Hierarchy, error) {
	h := Hierarchy{Mode: Legacy}
	v2mounted := false
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		m, ok := parseMount(sc.Text())
		switch {
		case !ok:
		case m.fstype == "cgroup2":
			v2mounted = true
			if unified && h.Root == "" {
				h = Hierarchy{Mode: Unified, Root: m.path, RecursiveProt: m.has("memory_recursiveprot")}
			}
		case m.fstype == "cgroup" && !unified && h.Root == "" && m.has("memory"):
			h.Root = m.path
		}
	}
	if err := sc.Err(); err != nil {
		return Hierarchy{}, fmt.Errorf("read mountinfo: %w", err)
	}
	if h.Root == "" {
		return Hierarchy{}, ErrNoMemoryController
	}
	if h.Mode == Legacy && v2mounted {
		h.Mode = Hybrid
	}
	return h, nil
}

// mount is one line of mountinfo.
type mount struct {
	path, fstype string
	options      []string // of the file system, not of the mount
}

func (m mount) has(option string) bool { return slices.Contains(m.options, option) }

func parseMount(line string) (mount, bool) {
	pre, post, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(pre), strings.Fields(post)
	if !ok || len(left) < 5 || len(right) < 3 {
		return mount{}, false
	}
	return mount{unescapeMount(left[4]), right[0], strings.Split(right[2], ",")}, true
}

// unescapeMount undoes the octal escapes of mountinfo (space, tab, newline,
// backslash).
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
