package reclaim

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
)

// Reason is why reclaim cannot free a dying memcg.
type Reason string

const (
	PinnedShmem       Reason = "shmem"       // tmpfs, memfd or shared memory that still exists
	PinnedSwap        Reason = "swap"        // pages out in swap
	PinnedUnevictable Reason = "unevictable" // mlocked, or ramfs
	PinnedMapped      Reason = "mapped"      // file pages that a living process maps
	PinnedDirty       Reason = "dirty"       // waits for writeback
	PinnedAnon        Reason = "anon"        // moved to another cgroup, its pages left behind
	PinnedKernel      Reason = "kernel"      // slab, sockets, per-CPU memory
	PinnedUnknown     Reason = "unknown"     // nothing to see; the kernel may be freeing it now
)

// Pin is one reason and the dead bytes behind it (0 for PinnedUnknown).
type Pin struct {
	Reason Reason `json:"reason"`
	Bytes  int64  `json:"bytes"`
}

// Lasting reports whether only its owner can end it: trying again does not
// help.
func (p Pin) Lasting() bool {
	switch p.Reason {
	case PinnedShmem, PinnedSwap, PinnedUnevictable, PinnedAnon:
		return true
	}
	return false
}

// Pins names what keeps an ancestor's dying memcgs, most lasting first. Bytes
// cannot be told apart by memcg: the kernel gives sums only. kernel is named
// only where nothing else is: every dying memcg has some.
func (d DeadMemory) Pins() []Pin {
	var pins []Pin
	add := func(r Reason, bytes int64) {
		if bytes > 0 {
			pins = append(pins, Pin{r, bytes})
		}
	}
	add(PinnedShmem, d.Shmem)
	add(PinnedSwap, d.Swap)
	// Locked shmem is on the unevictable list too: name it once.
	add(PinnedUnevictable, d.Unevictable-d.Shmem)
	add(PinnedAnon, d.Anon)
	if d.Reclaimable() > 0 {
		add(PinnedDirty, plus(d.Dirty, d.Writeback))
		add(PinnedMapped, d.Mapped-d.Shmem)
	}
	if len(pins) == 0 {
		add(PinnedKernel, max(d.Kernel, plus(plus(d.Slab, d.Sock), d.Percpu)))
	}
	if len(pins) == 0 {
		pins = append(pins, Pin{Reason: PinnedUnknown})
	}
	return pins
}

// PinsString is a list of pins in one line.
func PinsString(pins []Pin) string {
	var parts []string
	for _, p := range pins {
		if p.Bytes == 0 {
			parts = append(parts, string(p.Reason))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %s", p.Reason, humanize.IBytes(uint64(p.Bytes))))
	}
	return strings.Join(parts, ", ")
}
