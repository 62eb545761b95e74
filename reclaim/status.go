package reclaim

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Status is what an engine tells about itself. It reads nothing but memory.
type Status struct {
	Mode      Mode      `json:"mode"`
	Abilities Abilities `json:"abilities"`
	// MonitorOnly is why nothing is reclaimed, or empty.
	MonitorOnly string `json:"monitor_only,omitempty"`
	Totals      Totals `json:"totals"`
	// Pinned are the ancestors with most pinned below them. There may be PinnedMore.
	Pinned     []Pinned `json:"pinned"`
	PinnedMore int      `json:"pinned_more,omitempty"`
	// PinnedBy adds up all of them, those that are not listed as well.
	PinnedBy []PinnedSum `json:"pinned_by,omitempty"`
	Held     HoldCount   `json:"held"` // v1 and hybrid
	// Eviction says whether what reclaim cannot reach is evicted. Unset where it
	// has not been needed yet.
	Eviction Ability `json:"eviction,omitzero"`
	// GivingWay is the pressure that reaping has met, or nil: there is none, or
	// nothing to do.
	GivingWay *GivingWay `json:"giving_way,omitempty"`
}

// PinnedSum is what one reason pins. Which memcg is pinned by what the kernel does not say: all of an ancestor's count
// for its first, most lasting reason.
type PinnedSum struct {
	Reason Reason `json:"reason"`
	Dying  int64  `json:"dying"`
	Bytes  int64  `json:"bytes"`
}

// Bounds of what a user's cgroups can make the engine keep and answer: anybody who has a delegated tree can have as many
// ancestors as he likes, with paths of 4096 bytes.
const (
	pinnedListed      = 500      // ancestors of a Status
	pinnedListedBytes = 64 << 10 // of their paths
	pinnedKept        = 4096     // ancestors in all
	pinnedKeptBytes   = 1 << 20  // of their paths
	pinnedLook        = 256      // so many more may come before the bytes are added up again
)

// Status may be called from any goroutine.
func (e *Engine) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{
		Mode:        e.opts.Hierarchy.Mode,
		Abilities:   e.opts.Abilities,
		MonitorOnly: e.monitorOnly(e.cfg),
		Totals:      e.totals,
	}
	s.GivingWay = e.gate.givingWay(time.Now())
	s.Eviction = e.evict.ability
	s.Totals.Latency = e.totals.Latency.summary()
	all := e.pinnedByDying()
	s.PinnedBy = sumPinned(all)
	listed, _ := mostPinned(all, pinnedListed, pinnedListedBytes)
	s.Pinned = append([]Pinned{}, listed...) // all is as long as there are
	s.PinnedMore = len(all) - len(listed)
	if e.opts.Hold != nil {
		s.Held = e.opts.Hold.Count()
	}
	return s
}

// pinnedByDying are all ancestors with pinned memcgs, most of them first.
func (e *Engine) pinnedByDying() []Pinned {
	all := make([]Pinned, 0, len(e.pinned))
	for _, p := range e.pinned {
		all = append(all, p.Pinned)
	}
	slices.SortFunc(all, func(a, b Pinned) int {
		return cmp.Or(cmp.Compare(b.Dying, a.Dying), cmp.Compare(a.Ancestor, b.Ancestor))
	})
	return all
}

// mostPinned are the first of a list that there is room for, and how many bytes their paths have.
func mostPinned(list []Pinned, most, mostBytes int) (first []Pinned, bytes int) {
	for i, p := range list {
		if i == most || bytes+len(p.Ancestor) > mostBytes {
			return list[:i], bytes
		}
		bytes += len(p.Ancestor)
	}
	return list, bytes
}

func sumPinned(list []Pinned) []PinnedSum {
	sums := map[Reason]PinnedSum{}
	add := func(r Reason, dying, bytes int64) {
		sums[r] = PinnedSum{r, sums[r].Dying + dying, sums[r].Bytes + bytes}
	}
	for _, p := range list {
		first := PinnedUnknown
		if len(p.Pins) > 0 {
			first = p.Pins[0].Reason
		}
		add(first, p.Dying, 0)
		for _, pin := range p.Pins {
			add(pin.Reason, 0, pin.Bytes)
		}
	}
	return slices.SortedFunc(maps.Values(sums), func(a, b PinnedSum) int { return cmp.Compare(a.Reason, b.Reason) })
}

// roomForPinned makes room for one more ancestor in e.pinned, where it has grown too large: those with least below them
// are forgotten. They are looked at again as if for the first time.
func (e *Engine) roomForPinned() {
	n := len(e.pinned)
	if n < pinnedKept && n%pinnedLook != 0 {
		return
	}
	all := e.pinnedByDying()
	stay, _ := mostPinned(all, pinnedKept-1, pinnedKeptBytes)
	if len(stay) == n {
		return
	}
	stay = stay[:len(stay)-len(stay)/4] // so that the next ones do not make us look again
	for _, p := range all[len(stay):] {
		delete(e.pinned, p.Ancestor)
	}
}

// Tree is the engine's view of the hierarchy, for reading. What is read by it is
// no progress of the engine's.
func (e *Engine) Tree() *Tree {
	t := *e.tree
	t.pulse = nil
	return &t
}
