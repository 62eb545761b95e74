package evict

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// Process is one that maps a file.
type Process struct {
	PID  int
	Name string // its comm
}

// mapped is a file as /proc/PID/maps has it.
type mapped struct {
	major, minor uint32
	inode        uint64
}

// Mappers finds the processes that map files, by index into files: by a look at
// each process's mappings (proc_pid_maps(5)). Below an overlay mappings are of
// the overlay's inodes, and are not found.
func Mappers(files []pagewalk.File) map[int][]Process {
	want := map[mapped]int{}
	for i, f := range files {
		want[mapped{f.Major, f.Minor, f.Inode}] = i
	}
	out := map[int][]Process{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		f, err := os.Open(dir + "/maps")
		if err != nil {
			continue // gone, or a kernel thread
		}
		seen := map[int]bool{}
		s := bufio.NewScanner(f)
		for s.Scan() {
			m, ok := parseMaps(s.Text())
			if i, wanted := want[m]; ok && wanted && !seen[i] {
				seen[i] = true
				pid, _ := strconv.Atoi(filepath.Base(dir))
				comm, _ := os.ReadFile(dir + "/comm")
				out[i] = append(out[i], Process{pid, strings.TrimSpace(string(comm))})
			}
		}
		f.Close()
	}
	return out
}

// parseMaps reads the file of a line of maps; ok is false without one.
func parseMaps(line string) (m mapped, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 {
		return m, false
	}
	if _, err := fmt.Sscanf(f[3], "%x:%x", &m.major, &m.minor); err != nil {
		return m, false
	}
	var err error
	m.inode, err = strconv.ParseUint(f[4], 10, 64)
	return m, err == nil && m.inode != 0
}
