package machine

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// parseFlat reads the "key value" lines of memory.stat, cgroup.stat and their like.
func parseFlat(s string) (map[string]int64, error) {
	out := map[string]int64{}
	for line := range strings.Lines(s) {
		key, val, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, err := strconv.ParseInt(val, 10, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("bad line %q, want \"key number\"", line)
		}
		out[key] = n
	}
	return out, nil
}

// dyingOf returns the count of dying descendants out of a parsed cgroup.stat: of the memory controller where the
// kernel tells it apart (6.12), else of all controllers.
func dyingOf(stat map[string]int64) int64 {
	if n, ok := stat["nr_dying_subsys_memory"]; ok {
		return n
	}
	return stat["nr_dying_descendants"]
}

// parseMemoryCgroups returns the number of memory cgroups, living and dying, from /proc/cgroups.
func parseMemoryCgroups(s string) (int64, error) {
	for line := range strings.Lines(s) {
		if f := strings.Fields(line); len(f) >= 4 && f[0] == "memory" {
			return strconv.ParseInt(f[2], 10, 64)
		}
	}
	return 0, fmt.Errorf("no memory line in /proc/cgroups")
}

// parseProcCgroup returns the paths of /proc/PID/cgroup by controller; "" is v2's.
func parseProcCgroup(s string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(s) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			out[c] = f[2]
		}
	}
	return out
}

// parseStatTicks returns the CPU ticks (user and system) of a /proc/PID/stat line.
// The command's name may hold blanks and brackets, so count from its last bracket.
func parseStatTicks(s string) (int64, error) {
	i := strings.LastIndexByte(s, ')')
	f := strings.Fields(s[i+1:])
	const utime, stime = 11, 12 // proc(5)'s 14 and 15, less pid, comm and the one-based count
	if i < 0 || len(f) <= stime {
		return 0, fmt.Errorf("bad stat line %q", s)
	}
	u, err := strconv.ParseInt(f[utime], 10, 64)
	if err != nil {
		return 0, err
	}
	k, err := strconv.ParseInt(f[stime], 10, 64)
	return u + k, err
}

// parseStatus returns the fields of /proc/PID/status that begin with a number: kB for sizes, counts for the rest.
func parseStatus(s string) map[string]int64 {
	out := map[string]int64{}
	for line := range strings.Lines(s) {
		key, val, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		if f := strings.Fields(val); len(f) > 0 {
			if n, err := strconv.ParseInt(f[0], 10, 64); err == nil {
				out[key] = n
			}
		}
	}
	return out
}

// less returns a minus the sum of bs, line by line.
func less(a map[string]int64, bs ...map[string]int64) map[string]int64 {
	out := maps.Clone(a)
	for _, b := range bs {
		for k := range out {
			out[k] -= b[k]
		}
	}
	return out
}

// v1Total returns the hierarchical lines of a v1 memory.stat, under v2's names.
func v1Total(stat map[string]int64) map[string]int64 { return v1Pick(stat, "total_") }

// v1Own returns the lines of a v1 memory.stat that are about the cgroup's own pages, under v2's names.
func v1Own(stat map[string]int64) map[string]int64 { return v1Pick(stat, "") }

func v1Pick(stat map[string]int64, prefix string) map[string]int64 {
	return map[string]int64{
		"file": stat[prefix+"cache"], "shmem": stat[prefix+"shmem"], "anon": stat[prefix+"rss"],
		"unevictable": stat[prefix+"unevictable"], "swap": stat[prefix+"swap"],
		"file_dirty": stat[prefix+"dirty"], "file_mapped": stat[prefix+"mapped_file"], "file_writeback": stat[prefix+"writeback"],
	}
}
