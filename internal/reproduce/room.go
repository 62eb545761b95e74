package reproduce

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// What a dying memcg costs in kernel memory, rounded up, because running out
// is worse than refusing some. Measured on 6.18 with 2 CPUs and one node, over
// 10,000: 12.7 kB of slab, 4.1 kB of per-CPU memory and the page itself, 21 kB
// together; up to 28 kB off MemAvailable for a live one. The per-CPU share is
// what makes it 300 kB on large machines.
const (
	costFixed   = 20 << 10 // struct mem_cgroup, its cgroup and kernfs leftovers
	costPerNode = 4 << 10  // struct mem_cgroup_per_node
	costPerCPU  = 4 << 10  // statistics of a CPU and, on it, of a node
)

// costEach estimates the bytes a dying memcg with its pages takes.
func costEach(cpus, nodes, pages, pageSize int) int64 {
	return costFixed + int64(nodes)*costPerNode + int64(cpus)*int64(nodes)*costPerCPU + int64(pages)*int64(pageSize)
}

// What stays free for everybody else: a tenth of the memory, and not less than
// 256 MiB.
const (
	reserveShare = 10
	reserveLeast = 256 << 20
)

// TooManyError: they would not fit into the memory that is available.
type TooManyError struct {
	Asked, Most int
	Each        int64 // bytes a dying memcg
	Available   int64 // bytes
}

func (e *TooManyError) Error() string {
	if e.Most < 1 {
		return fmt.Sprintf("no memory for even one: %d MiB are available, too few to take any", e.Available>>20)
	}
	return fmt.Sprintf("%d dying memcgs of about %d KiB each do not fit into the %d MiB available with a reserve; use --count %d or less", e.Asked, e.Each>>10, e.Available>>20, e.Most)
}

// fit decides whether count of them fit. Pure.
func fit(count int, each int64, m meminfo) error {
	most := max(0, m.available-m.reserve()) / each
	if int64(count) <= most {
		return nil
	}
	return &TooManyError{Asked: count, Most: int(most), Each: each, Available: m.available}
}

func checkRoom(opts Options) error {
	m, err := readMeminfo()
	if err != nil {
		return err
	}
	return fit(opts.Count, costEach(possible("cpu"), possible("node"), opts.Pages, os.Getpagesize()), m)
}

// errNoRoomLeft ends a run that turned out more costly than estimated.
var errNoRoomLeft = errors.New("stopped: the memory left is needed by others")

// stillRoom looks again during a run.
func stillRoom(made int) error {
	m, err := readMeminfo()
	if err != nil {
		return err
	}
	if m.available < m.reserve() {
		return fmt.Errorf("%w (%d MiB available after %d dying memcgs); free them with --clean", errNoRoomLeft, m.available>>20, made)
	}
	return nil
}

// meminfo is what of /proc/meminfo is needed, in bytes.
type meminfo struct{ total, available int64 }

func (m meminfo) reserve() int64 { return max(m.total/reserveShare, reserveLeast) }

func readMeminfo() (meminfo, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return meminfo{}, fmt.Errorf("how much memory is free: %w", err)
	}
	return parseMeminfo(b)
}

// parseMeminfo reads /proc/meminfo ("KEY:   N kB", proc_meminfo(5)).
// MemAvailable is there since Linux 3.14.
func parseMeminfo(data []byte) (m meminfo, err error) {
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		var to *int64
		switch fields[0] {
		case "MemTotal:":
			to = &m.total
		case "MemAvailable:":
			to = &m.available
		default:
			continue
		}
		kb, err := strconv.ParseUint(fields[1], 10, 50)
		if err != nil {
			return meminfo{}, fmt.Errorf("/proc/meminfo: no number in line %q", strings.TrimSpace(string(line)))
		}
		*to = int64(kb) << 10
	}
	if m.total == 0 || m.available == 0 {
		return meminfo{}, errors.New("/proc/meminfo has no MemTotal or no MemAvailable")
	}
	return m, nil
}

// possible counts the CPUs or nodes the kernel has room for: its per-CPU
// memory is made for all of them. 1 where it does not say.
func possible(kind string) int {
	b, err := os.ReadFile("/sys/devices/system/" + kind + "/possible")
	if err != nil {
		return 1
	}
	return max(1, countList(strings.TrimSpace(string(b))))
}

// countList counts a kernel list such as "0-3,8". 0 if it is none.
func countList(list string) int {
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		lo, err := strconv.ParseUint(from, 10, 24)
		if err != nil {
			return 0
		}
		hi := lo
		if isRange {
			if hi, err = strconv.ParseUint(to, 10, 24); err != nil || hi < lo {
				return 0
			}
		}
		n += int(hi-lo) + 1
	}
	return n
}
