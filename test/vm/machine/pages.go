package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// pageFlagNames are the bits of /proc/kpageflags that tell why a page stays (linux/kernel-page-flags.h and, above 31,
// the kernel's own include of it).
var pageFlagNames = map[int]string{
	0: "locked", 2: "referenced", 3: "uptodate", 4: "dirty", 5: "lru", 6: "active", 8: "writeback", 9: "reclaim",
	11: "mmap", 12: "anon", 13: "swapcache", 14: "swapbacked", 15: "compound-head", 16: "compound-tail",
	18: "unevictable", 33: "mlocked", 34: "mapped-to-disk", 35: "private", 37: "owner-private",
}

// DeadPages describes the pages that are charged below a cgroup but to none of its children: where the cgroup has no
// pages of its own, those of the dead. /proc/kpagecgroup names the nearest live ancestor for them. It is for the log
// of a failed test: which pages keep a memcg from going.
func (m *Machine) DeadPages(cgroup string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(m.MemPath(cgroup), &st); err != nil {
		return "", err
	}
	owners, err := os.Open("/proc/kpagecgroup")
	if err != nil {
		return "", err
	}
	defer owners.Close()
	flags, err := os.Open("/proc/kpageflags")
	if err != nil {
		return "", err
	}
	defer flags.Close()
	counts := map[string]int{}
	buf := make([]byte, 1<<20)
	for off := int64(0); ; {
		n, err := owners.ReadAt(buf, off)
		for i := 0; i+8 <= n; i += 8 {
			if binary.LittleEndian.Uint64(buf[i:]) != st.Ino {
				continue
			}
			var f [8]byte
			if _, err := flags.ReadAt(f[:], off+int64(i)); err != nil {
				return "", err
			}
			counts[flagNames(binary.LittleEndian.Uint64(f[:]))]++
		}
		off += int64(n)
		if errors.Is(err, io.EOF) || n == 0 {
			break
		}
		if err != nil {
			return "", err
		}
	}
	var out []string
	for k, n := range counts {
		out = append(out, fmt.Sprintf("%d × %s", n, k))
	}
	slices.Sort(out)
	return strings.Join(out, "; "), nil
}

func flagNames(flags uint64) string {
	var out []string
	for bit := range 64 {
		if name := pageFlagNames[bit]; name != "" && flags&(1<<bit) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, "|")
}
