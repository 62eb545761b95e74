package reproduce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/scopereap/scopereap/reclaim"
	"golang.org/x/sys/unix"
)

// CleanResult is what Clean took away.
type CleanResult struct {
	Files       int // page files
	Directories int // live cgroups, our own top one included
	// Dying memcgs before and after. MachineWide: on v1 the kernel counts
	// them for the whole machine only, so others' are among them.
	DyingBefore, DyingAfter int64
	MachineWide             bool
}

// Clean removes all that [Run] made with the same Dir: the page files, and so
// the pages that keep the memcgs, leftover directories and the cgroup of its
// own. It waits until the kernel frees no more of them or ctx ends. What is
// not there is no error.
func Clean(ctx context.Context, opts Options) (CleanResult, error) {
	opts = opts.withDefaults()
	var res CleanResult
	if os.Geteuid() != 0 {
		return res, ErrNotRoot
	}
	h, f, err := openHierarchy()
	if err != nil {
		return res, err
	}
	defer f.Close()
	res.MachineWide = !h.Mode.V2()
	count := func() (int64, error) { return countDying(h, f, opts.cgroup) }

	dir := &pageDir{path: filepath.Join(opts.Dir, pageDirName)}
	switch err := dir.open(); {
	case err == nil:
		defer dir.close()
	case errors.Is(err, fs.ErrNotExist):
		dir = nil
	default:
		return res, err
	}
	res.Directories, err = removeChildren(f, opts.cgroup)
	if err != nil {
		return res, err
	}
	if res.DyingBefore, err = count(); err != nil {
		return res, err
	}
	res.DyingAfter = res.DyingBefore
	if dir != nil {
		if res.Files, err = dir.removeFiles(); err != nil {
			return res, err
		}
	}
	if !f.Exists(opts.cgroup) {
		return res, nil
	}
	reclaimOwn(f, opts.cgroup)
	if res.DyingAfter, err = settle(ctx, count); err != nil {
		return res, err
	}
	if dir == nil && res.DyingAfter > 0 && !res.MachineWide {
		err = fmt.Errorf("no page files below %s: name the directory they were made in with --dir", opts.Dir)
	}
	if rmErr := removeOne(f, opts.cgroup); rmErr != nil {
		return res, errors.Join(err, rmErr)
	}
	res.Directories++
	return res, err
}

// reclaimOwn lets the kernel drain its per-CPU lists of our cgroup's last
// pages: everything below it is ours and dead. It may not work, and need not.
func reclaimOwn(f *reclaim.FS, cgroup string) {
	for file, value := range map[string]string{"memory.force_empty": "0", "memory.reclaim": "1M"} {
		if f.Has(cgroup, file) {
			_ = f.Write(cgroup, file, value)
		}
	}
}

// The kernel frees the objects behind the pages in its own time: 100,000 took
// 2-3 s on 6.18. Nothing for settleQuiet means that it is done.
const (
	settleEvery = 250 * time.Millisecond
	settleQuiet = 3 * time.Second
)

// settle waits until the count is 0 or falls no more.
func settle(ctx context.Context, count func() (int64, error)) (int64, error) {
	least, since := int64(-1), time.Now()
	for {
		n, err := count()
		if err != nil {
			return max(least, 0), err
		}
		if least < 0 || n < least {
			least, since = n, time.Now()
		}
		if n == 0 || time.Since(since) >= settleQuiet {
			return n, nil
		}
		select {
		case <-ctx.Done():
			return n, ctx.Err()
		case <-time.After(settleEvery):
		}
	}
}

// countDying counts the dying below cgroup (v2) or on the machine (v1).
func countDying(h reclaim.Hierarchy, f *reclaim.FS, cgroup string) (int64, error) {
	if !h.Mode.V2() {
		c, err := reclaim.V1Census(f)
		return c.Dying, err
	}
	b, err := f.Read(cgroup, "cgroup.stat", nil)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return parseDying(b), nil
}

// parseDying reads a v2 cgroup.stat. The memory controller's own count is
// there from 6.12, and leaves out cgroups that other controllers keep.
func parseDying(data []byte) int64 {
	var cgroups, memory int64
	hasMemory := false
	for line := range bytes.Lines(data) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || n < 0 {
			continue
		}
		switch string(key) {
		case "nr_dying_descendants":
			cgroups = n
		case "nr_dying_subsys_memory":
			memory, hasMemory = n, true
		}
	}
	if hasMemory {
		return memory
	}
	return cgroups
}
