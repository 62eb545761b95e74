package main

import (
	"strings"

	"github.com/scopereap/scopereap/internal/names"
	"github.com/scopereap/scopereap/reclaim"
)

// because is one reason why dying memcgs stay.
type because struct {
	// Reason is a reclaim.Reason, a reclaim.Verdict, or becauseReclaimable.
	Reason string `json:"reason"`
	Bytes  int64  `json:"bytes"` // 0: not measured, or none
	Why    string `json:"why"`
	Frees  string `json:"frees"` // what would end it
}

// becauseReclaimable: nothing keeps them but that nobody has reclaimed them.
const becauseReclaimable = "reclaimable"

// reasonWords says what a pin is and what ends it.
func reasonWords(p reclaim.Pin) because {
	b := because{Reason: string(p.Reason), Bytes: p.Bytes}
	b.Why, b.Frees = pinWords(p.Reason)
	return b
}

// pinWords are the words about a pin. That a page that comes back from swap is
// charged to who reads it: mem_cgroup_swapin_charge_folio takes the reader's
// memcg where the one of old is offline (mm/memcontrol.c).
func pinWords(r reclaim.Reason) (why, frees string) {
	switch r {
	case reclaim.PinnedShmem:
		return "pages of tmpfs files, POSIX or System V shared memory or memfds that still exist, charged to whoever wrote them first",
			"removing the files or segments, or ending the processes that have them open"
	case reclaim.PinnedSwap:
		return "pages out in swap, of tmpfs or of processes that have moved elsewhere",
			"their being read again (they are charged to the reader then), the end of their owner, or swapoff and swapon"
	case reclaim.PinnedUnevictable:
		return "pages that somebody has locked in memory (mlock), or of a ramfs",
			"the end of the processes that locked them"
	case reclaim.PinnedMapped:
		return "file pages that living processes map, such as a library that a session was the first to load",
			"their not being used for a while, or the end or restart of those processes"
	case reclaim.PinnedDirty:
		return "file pages not written to the disk yet; those of a running journal transaction wait for its commit, on ext4 every 5 s",
			"their writeback, within some 35 s by the kernel's defaults"
	case reclaim.PinnedAnon:
		return "memory of processes that moved to another cgroup and left it charged here",
			"the end of those processes"
	case reclaim.PinnedKernel:
		return "kernel objects only (slab, sockets, per-CPU memory); every dying memcg has some, so the kernel may be freeing them now",
			"time, some seconds as a rule; else the end of what uses the inode, socket or other object"
	}
	return "nothing to see: the kernel may be freeing them now, or keeps them for fewer pages than it counts at once",
		"time, some seconds as a rule"
}

// verdictWords says what a verdict other than MayReap means and what ends it, where
// scopereapd evicts and where it does not.
func verdictWords(v reclaim.Verdict, at string, evicts bool) because {
	b := because{Reason: string(v), Why: v.Words()}
	switch v {
	case reclaim.AtRoot:
		b.Frees = "the kernel, when memory gets short on the machine"
	case reclaim.NoController:
		b.Frees = "the end of " + unitWords(at) + ": its dying then hang below its parent, where they may be reachable"
	case reclaim.NearLimit:
		b.Frees = `more room: a higher MemoryHigh= or MemoryMax=; or reap.near_limit = "low" in the policy`
	case reclaim.Ignored:
		b.Frees = "taking it out of reap.ignore"
	case reclaim.Unreadable:
		b.Frees = "running this as root"
	case reclaim.Vanished:
		b.Why = "no longer there"
		b.Frees = "looking again: its dying hang below its parent now"
	case reclaim.MonitorOnly:
		b.Frees = "see what keeps scopereap from reclaiming"
	}
	if evicts && v.Evicts() {
		b.Frees = "eviction, which scopereapd does by itself; or else " + b.Frees
	}
	return b
}

// unitWords is how a cgroup is called in a sentence.
func unitWords(at string) string {
	if unit := names.Unit(at); unit != "" {
		return unit
	}
	return "this cgroup"
}

// shellWord quotes a word for a shell: systemd's escapes have backslashes.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-@:+,="
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	if pathWords(s) != s {
		return pathWords(s) // nothing to be typed anyway
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shellLine is a command of these words.
func shellLine(words ...string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = shellWord(w)
	}
	return strings.Join(out, " ")
}
