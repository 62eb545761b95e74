package reclaim

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPins(t *testing.T) {
	for _, c := range []struct {
		name string
		m    MemoryStat
		want []Pin
		line string
	}{
		{"nothing to see", MemoryStat{}, []Pin{{PinnedUnknown, 0}}, "unknown"},
		{"kernel alone", MemoryStat{Kernel: 8192, Slab: 4096}, []Pin{{PinnedKernel, 8192}}, "kernel 8.0 KiB"},
		{"kernel before 5.18", MemoryStat{Slab: 4096, Sock: 1024, Percpu: 1024}, []Pin{{PinnedKernel, 6144}}, "kernel 6.0 KiB"},
		{
			"tmpfs", MemoryStat{File: 4096, Shmem: 4096, Mapped: 4096, Kernel: 8192},
			[]Pin{{PinnedShmem, 4096}}, "shmem 4.0 KiB",
		},
		{
			"locked tmpfs and a locked file", MemoryStat{File: 8192, Shmem: 4096, Unevictable: 8192},
			[]Pin{{PinnedShmem, 4096}, {PinnedUnevictable, 4096}}, "shmem 4.0 KiB, unevictable 4.0 KiB",
		},
		{
			"all", MemoryStat{File: 1 << 20, Shmem: 4096, Swap: 1, Anon: 2, Dirty: 3, Writeback: 4, Mapped: 4101, InactiveFile: 1 << 19},
			[]Pin{{PinnedShmem, 4096}, {PinnedSwap, 1}, {PinnedAnon, 2}, {PinnedDirty, 7}, {PinnedMapped, 5}},
			"shmem 4.0 KiB, swap 1 B, anon 2 B, dirty 7 B, mapped 5 B",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := DeadMemory{MemoryStat: c.m}.Pins()
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.line, PinsString(got)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestLasting(t *testing.T) {
	for r, want := range map[Reason]bool{
		PinnedShmem: true, PinnedSwap: true, PinnedUnevictable: true, PinnedAnon: true,
		PinnedMapped: false, PinnedDirty: false, PinnedKernel: false, PinnedUnknown: false,
	} {
		if (Pin{Reason: r}).Lasting() != want {
			t.Error(r)
		}
	}
}
