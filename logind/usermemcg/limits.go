package usermemcg

import (
	"context"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/scopereap/scopereap/internal/files"
	"github.com/scopereap/scopereap/logind"
)

// Limit is a memory setting that means nothing once there are no memcgs below the user's slice.
type Limit struct {
	UID     uint32 `json:"uid"`
	Unit    string `json:"unit"`    // "user-1000.slice", or a cgroup's path below it
	Setting string `json:"setting"` // "MemoryMax", ...
	Bytes   uint64 `json:"bytes"`
}

const (
	// maxLimitSlices bounds the questions to PID 1, one a slice.
	maxLimitSlices = 1000
	// maxLimitCgroups bounds the cgroups looked at below all slices.
	maxLimitCgroups = 10_000
	// maxLimitDepth bounds how deep: a container's is some five below the slice.
	maxLimitDepth = 16
)

// sliceLimits are the settings of a slice, with what each is where nobody has set it.
var sliceLimits = []struct {
	name  string
	unset uint64
}{
	{"MemoryMin", 0}, {"MemoryLow", 0},
	{"MemoryHigh", math.MaxUint64}, {"MemoryMax", math.MaxUint64}, {"MemorySwapMax", math.MaxUint64},
}

// Limits tells what stands against the drop-in: memory settings of the users' slices that live, as
// PID 1 knows them (one call a slice), and limits of the cgroups below, as the kernel does. It is
// for questions by people; no daemon's loop should ask it.
func (f *DropIn) Limits(ctx context.Context) ([]Limit, error) {
	tree := f.userTree()
	uids, err := sliceUIDs(tree)
	if err != nil || len(uids) == 0 {
		return nil, err
	}
	pid1, err := f.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer pid1.Close()
	var out []Limit
	left := maxLimitCgroups
	for _, uid := range uids[:min(len(uids), maxLimitSlices)] {
		own, err := sliceLimitsOf(ctx, pid1, uid)
		if err != nil {
			return nil, err
		}
		out = append(out, own...)
		out = limitsBelow(out, uid, filepath.Join(tree, logind.UserSlice(uid)), ".", &left)
	}
	return out, nil
}

// sliceLimitsOf asks PID 1 for the settings of a slice that lives.
func sliceLimitsOf(ctx context.Context, pid1 *logind.Client, uid uint32) ([]Limit, error) {
	unit := logind.UserSlice(uid)
	props, err := pid1.SliceProperties(ctx, unit)
	if err != nil {
		return nil, err
	}
	var out []Limit
	for _, l := range sliceLimits {
		v, told := props[l.name].Value().(uint64) // an older systemd does not know all
		if told && v != l.unset {
			out = append(out, Limit{uid, unit, l.name, v})
		}
	}
	return out, nil
}

// limitsBelow adds the limits of the cgroups below dir, whose path from the slice is rel.
// memory.min and memory.low are not looked at: scopereap's own shield raises them for moments.
func limitsBelow(out []Limit, uid uint32, dir, rel string, left *int) []Limit {
	entries, err := os.ReadDir(dir)
	if err != nil || strings.Count(rel, "/") >= maxLimitDepth {
		return out // it has ended
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if *left--; *left < 0 {
			return out
		}
		below, at := filepath.Join(dir, e.Name()), path.Join(rel, e.Name())
		for _, l := range []struct{ file, name string }{{"memory.high", "MemoryHigh"}, {"memory.max", "MemoryMax"}} {
			if n, limited := readLimit(filepath.Join(below, l.file)); limited {
				out = append(out, Limit{uid, at, l.name, n})
			}
		}
		out = limitsBelow(out, uid, below, at, left)
	}
	return out
}

// readLimit reads a memory.max or similar; false where it is "max" or cannot be read.
func readLimit(file string) (bytes uint64, limited bool) {
	text, err := files.ReadBounded(file, maxCgroupFile)
	if err != nil {
		return 0, false
	}
	bytes, err = strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	return bytes, err == nil && bytes != math.MaxUint64
}
