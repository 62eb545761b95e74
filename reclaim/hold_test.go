package reclaim

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHoldJudge(t *testing.T) {
	const kmem = 12 << 10
	for _, c := range []struct {
		name  string
		r     holdReading
		since time.Duration
		pins  []Pin
		why   HoldWhy
	}{
		{name: "empty", r: holdReading{usage: kmem, kmem: kmem}},
		{name: "less than the kernel's, which was read later", r: holdReading{stat: V1Stat{Cache: 4096, Shmem: 4096}, usage: kmem - 4096, kmem: kmem}},
		{
			name: "anonymous",
			r:    holdReading{stat: V1Stat{RSS: 4096}, usage: 4096}, since: holdStatFresh,
			pins: []Pin{{PinnedAnon, 4096}},
		},
		{
			name: "emptied, the lines lag",
			r:    holdReading{stat: V1Stat{Cache: 12288, Dirty: 4096}, usage: kmem, kmem: kmem},
		},
		{
			name: "charged, the lines lag",
			r:    holdReading{usage: kmem + 4096, kmem: kmem}, why: HoldFresh,
		},
		{
			name:  "a per-CPU stock, long after the end",
			r:     holdReading{usage: kmem + 49152, kmem: kmem},
			since: holdStatFresh,
		},
		{
			name: "dirty",
			r:    holdReading{stat: V1Stat{Cache: 8192, Dirty: 4096, Writeback: 4096}, usage: 8192},
			pins: []Pin{{PinnedDirty, 8192}}, why: HoldPages,
		},
		{
			name: "mapped, shmem not counted twice",
			r:    holdReading{stat: V1Stat{Cache: 12288, Shmem: 4096, MappedFile: 8192}, usage: 12288},
			pins: []Pin{{PinnedShmem, 4096}, {PinnedMapped, 4096}}, why: HoldPages,
		},
		{
			name: "locked",
			r:    holdReading{stat: V1Stat{Cache: 4096}, usage: 4096},
			pins: []Pin{{PinnedUnknown, 4096}}, why: HoldPages,
		},
		{
			name: "shmem alone may be a lagging line",
			r:    holdReading{stat: V1Stat{Cache: 4096, Shmem: 4096, Dirty: 4096}, usage: 4096},
			pins: []Pin{{PinnedShmem, 4096}}, why: HoldFresh,
		},
		{
			name:  "shmem alone is not waited for long",
			r:     holdReading{stat: V1Stat{Cache: 4096, Shmem: 4096, Dirty: 4096}, usage: 4096},
			since: holdStatFresh,
			pins:  []Pin{{PinnedShmem, 4096}},
		},
		{
			name:  "swap",
			r:     holdReading{stat: V1Stat{Swap: 8192}},
			since: holdStatFresh,
			pins:  []Pin{{PinnedSwap, 8192}},
		},
		{
			name: "no kernel counter, fresh",
			r:    holdReading{usage: 49152}, why: HoldFresh,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			pins, why := holdJudge(c.r, c.since)
			if d := cmp.Diff(c.pins, pins); d != "" || why != c.why {
				t.Errorf("why %q, want %q; pins (-want +got):\n%s", why, c.why, d)
			}
		})
	}
}

func TestHoldRetry(t *testing.T) {
	var got []time.Duration
	for tries := range 9 {
		got = append(got, holdRetry(tries))
	}
	want := []time.Duration{
		time.Second, time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second,
		5 * time.Second, 5 * time.Second, 5 * time.Second, 5 * time.Second,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("backoff (-want +got):\n%s", d)
	}
}

func TestNewHoldBoundsThreads(t *testing.T) {
	if h := NewHold(nil, HoldOptions{Max: 1 << 20}); h.opts.Max != holdThreadsMost {
		t.Errorf("max %d", h.opts.Max)
	}
}

func TestHoldDeepestFirst(t *testing.T) {
	got := []string{"/a", "/a/b/c", "/x/y", "/a/b"}
	holdDeepestFirst(got)
	if d := cmp.Diff([]string{"/a/b/c", "/x/y", "/a/b", "/a"}, got); d != "" {
		t.Error(d)
	}
}
