package reclaim

import (
	"cmp"
	"slices"
	"time"
)

// Status is what an engine tells about itself. It reads nothing but memory.
type Status struct {
	Mode      Mode      `json:"mode"`
	Abilities Abilities `json:"abilities"`
	// MonitorOnly is why nothing is reclaimed, or empty.
	MonitorOnly string    `json:"monitor_only,omitempty"`
	Totals      Totals    `json:"totals"`
	Pinned      []Pinned  `json:"pinned"`
	Held        HoldCount `json:"held"` // v1 and hybrid
	// GivingWay is the pressure that reaping has met, or nil: there is none, or
	// nothing to do.
	GivingWay *GivingWay `json:"giving_way,omitempty"`
}

// Status may be called from any goroutine.
func (e *Engine) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{
		Mode:        e.opts.Hierarchy.Mode,
		Abilities:   e.opts.Abilities,
		MonitorOnly: e.monitorOnly(e.cfg),
		Totals:      e.totals,
		Pinned:      make([]Pinned, 0, len(e.pinned)),
	}
	s.GivingWay = e.gate.givingWay(time.Now())
	s.Totals.Latency = e.totals.Latency.summary()
	for _, p := range e.pinned {
		s.Pinned = append(s.Pinned, p.Pinned)
	}
	slices.SortFunc(s.Pinned, func(a, b Pinned) int {
		return cmp.Or(cmp.Compare(b.Dying, a.Dying), cmp.Compare(a.Ancestor, b.Ancestor))
	})
	if e.opts.Hold != nil {
		s.Held = e.opts.Hold.Count()
	}
	return s
}

// Tree is the engine's view of the hierarchy, for reading. What is read by it is
// no progress of the engine's.
func (e *Engine) Tree() *Tree {
	t := *e.tree
	t.pulse = nil
	return &t
}
