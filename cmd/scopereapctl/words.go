package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/scopereap/scopereap/internal/names"
	"github.com/scopereap/scopereap/reclaim"
)

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

func count(n int64) string { return humanize.Comma(n) }

// plural is "1 memcg" or "2 memcgs".
func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + one + "s"
}

// span rounds a duration to what a reader wants.
func span(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(time.Millisecond / 10).String()
	}
	return d.Round(time.Microsecond).String()
}

// sumPins adds up pins by reason, most bytes first. A reason without bytes
// counts only where there is no other.
func sumPins(lists ...[]reclaim.Pin) []reclaim.Pin {
	bytes := map[reclaim.Reason]int64{}
	for _, pins := range lists {
		for _, p := range pins {
			bytes[p.Reason] += p.Bytes
		}
	}
	if len(bytes) > 1 {
		delete(bytes, reclaim.PinnedUnknown)
	}
	out := make([]reclaim.Pin, 0, len(bytes))
	for r, b := range bytes {
		out = append(out, reclaim.Pin{Reason: r, Bytes: b})
	}
	slices.SortFunc(out, func(a, b reclaim.Pin) int {
		if a.Bytes != b.Bytes {
			return int(b.Bytes - a.Bytes)
		}
		return strings.Compare(string(a.Reason), string(b.Reason))
	})
	return out
}

// pinnedBy is why memcgs stay, in words.
func pinnedBy(pins []reclaim.Pin) string {
	if len(pins) == 0 || len(pins) == 1 && pins[0].Reason == reclaim.PinnedUnknown {
		return "no visible reason; the kernel may be freeing them now"
	}
	return "pinned by " + reclaim.PinsString(pins)
}

// modeWords says how memory is mounted.
func modeWords(m reclaim.Mode, at string) string {
	switch m {
	case reclaim.Unified:
		return "cgroup v2 at " + at
	case reclaim.Hybrid:
		return "cgroup v1 at " + at + " (hybrid: units are tracked in a v2 tree beside it)"
	}
	return "cgroup v1 at " + at
}

// abilityWords lists what the kernel has, what it lacks, and what is not
// known.
func abilityWords(a reclaim.Abilities) string {
	by := map[reclaim.State][]string{}
	for _, x := range []struct {
		name string
		a    reclaim.Ability
	}{
		{"memory.reclaim", a.Reclaim},
		{"swappiness=", a.Swappiness},
		{"nr_dying_subsys_memory", a.DyingMemory},
		{"memory_recursiveprot", a.RecursiveProt},
		{"re-parenting", a.Reparents},
		{"memcg_reaper", a.Reaper},
		{"exact memory.stat", a.ExactStat},
		{"fresh protection", a.FreshProtection},
		{"PSI", a.PSI},
	} {
		by[x.a.State] = append(by[x.a.State], x.name)
	}
	var parts []string
	for _, s := range []struct {
		state reclaim.State
		word  string
	}{{reclaim.Yes, "has"}, {reclaim.No, "has not"}, {reclaim.Unknown, "not probed"}} {
		if names := by[s.state]; len(names) > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", s.word, strings.Join(names, ", ")))
		}
	}
	return strings.Join(parts, "\n")
}

// pathWords is a cgroup path, or another name, for a terminal.
func pathWords(p string) string { return names.Shown(p) }
