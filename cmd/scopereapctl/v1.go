package main

import (
	"cmp"
	"context"
	"path"
	"slices"
	"time"

	"github.com/scopereap/scopereap/reclaim"
)

// v1Dead is reclaim.V1Stat as JSON has it, in bytes.
type v1Dead struct {
	Cache       int64 `json:"cache"` // shmem included
	Shmem       int64 `json:"shmem"`
	RSS         int64 `json:"rss"`
	MappedFile  int64 `json:"mapped_file"`
	Dirty       int64 `json:"dirty"`
	Writeback   int64 `json:"writeback"`
	Swap        int64 `json:"swap"`
	Unevictable int64 `json:"unevictable"`
}

func (d v1Dead) reclaimable() int64 { return reclaim.V1Stat(d).Reclaimable() }

// held is all that the dead keep, in bytes.
func (d v1Dead) held() int64 { return d.Cache + d.RSS + d.Swap }

// pins are what no reclaim frees.
func (d v1Dead) pins() []reclaim.Pin {
	var out []reclaim.Pin
	for _, p := range []reclaim.Pin{
		{Reason: reclaim.PinnedShmem, Bytes: d.Shmem},
		{Reason: reclaim.PinnedSwap, Bytes: d.Swap},
		{Reason: reclaim.PinnedUnevictable, Bytes: d.Unevictable - d.Shmem},
		{Reason: reclaim.PinnedAnon, Bytes: d.RSS},
	} {
		if p.Bytes > 0 {
			out = append(out, p)
		}
	}
	return out
}

// v1Ancestor is a live v1 cgroup and what the dying right below it hold. v1
// does not count them by cgroup.
type v1Ancestor struct {
	Path        string `json:"path"`
	Reclaimable int64  `json:"reclaimable"`
	Dead        v1Dead `json:"dead_memory"`
}

// v1Walk bounds a walk that reads two files a cgroup, each with the cost of a
// memory.stat (some 20 µs).
const v1Walk = 20_000

// v1Deep is the length of a path beyond which the walk goes no deeper: PATH_MAX,
// limits.h.
const v1Deep = 4096

// v1Ancestors measures every live cgroup at or below under, most dead memory
// first. Those without any are left out.
func v1Ancestors(ctx context.Context, fs *reclaim.FS, under string) []v1Ancestor {
	var out []v1Ancestor
	todo := []string{under}
	for n := 0; len(todo) > 0 && n < v1Walk && ctx.Err() == nil; n++ {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		names, err := fs.Children(at)
		if err != nil {
			continue // gone meanwhile
		}
		if len(at) >= v1Deep {
			names = nil // whoever nests that deep can do without figures of it
		}
		for _, name := range names {
			todo = append(todo, path.Join(at, name))
		}
		dead, err := reclaim.V1DeadMemory(fs, at)
		if err != nil {
			continue
		}
		if d := v1Dead(dead.Stat); d.held() > 0 {
			out = append(out, v1Ancestor{at, d.reclaimable(), d})
		}
	}
	slices.SortFunc(out, func(a, b v1Ancestor) int {
		return cmp.Or(cmp.Compare(b.Dead.held(), a.Dead.held()), cmp.Compare(a.Path, b.Path))
	})
	return out
}

// A v1 kernel frees the memcgs behind emptied pages in its own time: 100,000
// took 2-3 s (6.18). So a count right after a force_empty means nothing.
const (
	v1SettleEvery = 200 * time.Millisecond
	v1SettleQuiet = time.Second
	v1SettleMost  = 10 * time.Second
)

// settleV1 waits until no more memcgs go, and takes the count then into a
// sweep's result.
func settleV1(ctx context.Context, fs *reclaim.FS, r *reclaim.SweepResult) {
	began := time.Now()
	for fell := began; time.Since(fell) < v1SettleQuiet && time.Since(began) < v1SettleMost; {
		c, err := reclaim.V1Census(fs)
		if err != nil {
			return
		}
		if c.Dying < r.DyingAfter {
			r.DyingAfter, fell = c.Dying, time.Now()
			r.Freed = max(r.DyingBefore-c.Dying, 0)
		}
		if c.Dying == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(v1SettleEvery):
		}
	}
}
