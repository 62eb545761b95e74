package reclaim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// ErrV1NoMemoryRow means that /proc/cgroups says nothing of the memory
// controller: the kernel was built without CONFIG_MEMCG_V1 (6.12 on), or the
// controller is off.
var ErrV1NoMemoryRow = errors.New("/proc/cgroups has no line for the memory controller (a kernel without cgroup v1's memory controller, or one booted with cgroup_disable=memory)")

// V1Row is the memory controller's line of /proc/cgroups.
type V1Row struct {
	Hierarchy int64 // 0: not mounted as v1; its cgroups then are v2's
	Cgroups   int64 // cgroups of its hierarchy, dying ones and the root included
	Enabled   bool
}

// v1CgroupsFile names the file in errors.
const v1CgroupsFile = "/proc/cgroups"

// parseV1Row finds the memory controller in /proc/cgroups: "NAME HIERARCHY
// NUM_CGROUPS ENABLED" below a head line (cgroups(7)).
func parseV1Row(data []byte) (V1Row, error) {
	for line := range bytes.Lines(data) {
		line = bytes.TrimRight(line, "\n")
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != "memory" {
			continue
		}
		if len(fields) < 4 {
			return V1Row{}, parseError(v1CgroupsFile, line, "fewer than 4 columns")
		}
		var v [3]int64
		for i := range v {
			n, ok := parseDecimal(fields[i+1])
			if !ok {
				return V1Row{}, parseError(v1CgroupsFile, line, "no decimal number")
			}
			v[i] = n
		}
		return V1Row{Hierarchy: v[0], Cgroups: v[1], Enabled: v[2] != 0}, nil
	}
	return V1Row{}, ErrV1NoMemoryRow
}

// V1Count is a v1 machine's dying memcgs, counted from outside.
type V1Count struct {
	Cgroups     int64 // /proc/cgroups: live and dying, the root included
	Directories int64 // live, the root included
	Dying       int64
	// PassedOver are directories that could not be read. What lies below them
	// is not among Directories, and so counts as dying.
	PassedOver PassedOver
}

// V1Census counts the dying memcgs of the v1 memory hierarchy f: num_cgroups
// in /proc/cgroups less its directories. f must be the hierarchy's mount
// point as a whole machine sees it; inside a container's mount the
// directories outside would be taken for dying.
//
// v1 has no count a cgroup: where they hang is told by [V1DeadMemory]. The
// kernel takes a cgroup off num_cgroups only when its last reference has gone,
// which is some milliseconds after a removal and up to three seconds after
// 100,000 of them, so a small number right after a removal means nothing.
func V1Census(f *FS) (V1Count, error) {
	return v1Census(context.Background(), f, nil)
}

// v1Census is V1Census until ctx ends, counted as progress.
func v1Census(ctx context.Context, f *FS, pulse *atomic.Uint64) (V1Count, error) {
	before, err := v1ReadRow()
	if err != nil {
		return V1Count{}, err
	}
	c := V1Count{Directories: 1}
	w := walk{fs: f, over: &c.PassedOver}
	if err := w.start("/", 0); err != nil {
		return V1Count{}, err
	}
	defer w.close()
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return V1Count{}, err
		}
		if err := w.each(pulse, func(d *child) { c.Directories++; w.enter(d.name, 0) }); err != nil && !gone(err) {
			c.PassedOver.add(w.path(), shortly(err), 0)
		}
		if more, err = w.next(); err != nil {
			return V1Count{}, err
		}
	}
	after, err := v1ReadRow()
	if err != nil {
		return V1Count{}, err
	}
	// A cgroup made or removed during the walk is in one of the two
	// numbers only; the smaller count never invents a dying one.
	c.Cgroups = min(before.Cgroups, after.Cgroups)
	c.Dying = max(0, c.Cgroups-c.Directories)
	return c, nil
}

func v1ReadRow() (V1Row, error) {
	// os is safe for this file: nothing in proc of this kind can be polled.
	b, err := os.ReadFile(v1CgroupsFile)
	if errors.Is(err, os.ErrNotExist) {
		return V1Row{}, ErrV1NoMemoryRow
	}
	if err != nil {
		return V1Row{}, fmt.Errorf("count cgroups: %w", err)
	}
	return parseV1Row(b)
}
