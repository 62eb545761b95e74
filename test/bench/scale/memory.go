package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/scopereap/scopereap/internal/reproduce"
)

// kernelLines of /proc/meminfo are where a memcg's own memory is counted.
var kernelLines = []string{"Slab", "SReclaimable", "SUnreclaim", "Percpu"}

// readMemory is /proc/meminfo in bytes.
func readMemory() (map[string]int64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	m := map[string]int64{}
	for line := range bytes.Lines(data) {
		key, rest, _ := strings.Cut(string(line), ":")
		kib, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB")
		if !ok {
			continue // HugePages_Total and its like are counts
		}
		n, err := strconv.ParseInt(kib, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/meminfo: %q", line)
		}
		m[key] = n << 10
	}
	for _, key := range append([]string{"MemTotal", "MemAvailable"}, kernelLines...) {
		if _, ok := m[key]; !ok {
			return nil, fmt.Errorf("/proc/meminfo has no line %s", key)
		}
	}
	return m, nil
}

// stolenPages is how many pages the machine has reclaimed of itself, whosoever's they were.
func stolenPages() (sum int64) {
	data, _ := os.ReadFile("/proc/vmstat") // it explains, no more
	for line := range strings.Lines(string(data)) {
		var n int64
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "pgsteal_kswapd" || key == "pgsteal_direct" {
			n, _ = strconv.ParseInt(value, 10, 64)
		}
		sum += n
	}
	return sum
}

// processes are the directories in /proc of those with a name.
func processes(match func(comm string) bool) (dirs []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/comm") // the pattern is well-formed
	for _, file := range all {
		comm, err := os.ReadFile(file)
		if err == nil && match(strings.TrimSpace(string(comm))) {
			dirs = append(dirs, filepath.Dir(file))
		}
	}
	return dirs
}

// kworkerCPU is the CPU time of all the kernel's workers that live now, in the ticks of proc_pid_stat(5), whose length
// (USER_HZ) is 10 ms everywhere Linux runs today.
func kworkerCPU() (sum time.Duration) {
	const tick = 10 * time.Millisecond
	for _, dir := range processes(func(comm string) bool { return strings.HasPrefix(comm, "kworker/") }) {
		data, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // ended meanwhile
		}
		// The name is in parentheses and may have spaces; utime and stime are the 12th and 13th after it.
		_, rest, _ := strings.Cut(string(data), ") ")
		if f := strings.Fields(rest); len(f) > 12 {
			user, _ := strconv.ParseInt(f[11], 10, 64)
			system, _ := strconv.ParseInt(f[12], 10, 64)
			sum += time.Duration(user+system) * tick
		}
	}
	return sum
}

// progress logs every some seconds.
func progress(log *slog.Logger, what string) func(reproduce.Progress) {
	said := time.Now()
	return func(p reproduce.Progress) {
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			log.Info(what, "dying", p.Made, "a second", int(p.Rate))
		}
	}
}
