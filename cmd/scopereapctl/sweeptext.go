package main

import (
	"fmt"

	"github.com/scopereap/scopereap/reclaim"
)

// text writes a plan for people.
func (s sweepPlan) text(p printer) {
	where := "on this machine"
	if s.Under != "/" {
		where = "below " + pathWords(s.Under)
	}
	if !s.Mode.V2() {
		// v1 counts for the whole machine only.
		fmt.Fprintf(p.w, "%s dying on this machine beside %s live. Nothing was changed.\n", plural(s.Dying, "memcg"), count(s.Live))
		s.textV1(p)
		return
	}
	fmt.Fprintf(p.w, "%s dying %s beside %s live. Nothing was changed.\n", plural(s.Dying, "memcg"), where, count(s.Live))
	if s.MonitorOnly != "" {
		fmt.Fprintf(p.w, "Nothing would be reclaimed: %s.\n", s.MonitorOnly)
	}
	if len(s.Ancestors) == 0 {
		return
	}
	fmt.Fprintln(p.w)
	var rows [][]string
	for _, a := range s.Ancestors {
		what := "skip: " + a.Why
		switch a.Action {
		case actReclaim:
			what = "reclaim through " + s.Method
		case actNothing:
			what = "nothing: " + a.Why
		}
		rows = append(rows, []string{pathWords(a.Path), count(a.Direct), size(a.Ask), what})
	}
	p.columns([]string{"ANCESTOR", "DYING", "ASK", "WHAT WOULD BE DONE"}, rows)
}

func (s sweepPlan) textV1(p printer) {
	if len(s.V1Targets) == 0 {
		fmt.Fprintf(p.w, "Nothing would be reclaimed: %s.\n", s.Why)
	} else if s.Method == byEviction {
		fmt.Fprintf(p.w, "Would be evicted: the clean pages of files that are charged to what is dying below %s.\nThe living keep theirs; %s.\n", pathWords(s.Under), s.Why)
	} else {
		fmt.Fprintf(p.w, "%s would be asked of:\n", s.Method)
		for _, t := range s.V1Targets {
			fmt.Fprintf(p.w, "  %s\n", pathWords(t))
		}
		fmt.Fprintf(p.w, "It has a price: %s.\n", s.Why)
	}
	if len(s.V1Ancestors) == 0 {
		return
	}
	fmt.Fprintln(p.w)
	var rows [][]string
	for _, a := range s.V1Ancestors {
		why := ""
		if pins := a.Dead.pins(); len(pins) > 0 {
			why = pinnedBy(pins)
		}
		rows = append(rows, []string{pathWords(a.Path), size(a.Dead.held()), size(a.Reclaimable), why})
	}
	p.columns([]string{"ANCESTOR", "HELD BY THE DEAD", "RECLAIMABLE", "NOT RECLAIMABLE"}, rows)
}

// sweptText writes what a sweep did for people, and what was in its way.
func sweptText(p printer, r sweepReport) {
	sweptWords(p, r)
	if r.PassedOver.Cgroups > 0 {
		fmt.Fprintf(p.w, "Passed over: %s.\n", passedOverWords(r.PassedOver))
	}
	if r.Later > 0 {
		fmt.Fprintf(p.w, "Left to the next sweep: %s, since one user or delegated cgroup has more than a sweep takes.\n", plural(r.Later, "ancestor"))
	}
	if r.GivingWay != nil {
		fmt.Fprintf(p.w, "Pressure: %s.\n", pressureWords(*r.GivingWay, r.uring, r.now))
	}
}

func sweptWords(p printer, r sweepReport) {
	if r.Unfinished {
		rest := "try again later"
		if r.byDaemon {
			rest = "scopereapd goes on with it"
		}
		fmt.Fprintf(p.w, "Freed %s of %s so far. The rest cannot go yet (it waits for writeback, is mapped, or the machine is under pressure): %s.\n",
			count(r.Freed), plural(r.DyingBefore, "dying memcg"), rest)
		return
	}
	if r.DyingBefore == 0 {
		fmt.Fprintf(p.w, "Nothing is dying among %s.\n", plural(r.Live, "memcg"))
		return
	}
	cache := ""
	if r.Bytes > 0 { // v1 does not tell
		cache = " and " + size(r.Bytes) + " of page cache"
	}
	fmt.Fprintf(p.w, "Freed %s of %s%s in %s, with %s of CPU.\n",
		count(r.Freed), plural(r.DyingBefore, "dying memcg"), cache, span(r.Wall), span(r.CPU))
	if r.DyingAfter > 0 {
		fmt.Fprintf(p.w, "%s dying now.\n", plural(r.DyingAfter, "memcg"))
	}
	if len(r.Outcomes) == 0 {
		return
	}
	fmt.Fprintln(p.w)
	var rows [][]string
	for _, o := range r.Outcomes {
		rows = append(rows, []string{pathWords(o.Ancestor), count(o.Freed), count(o.DyingAfter), size(o.Bytes), stays(o)})
	}
	p.columns([]string{"ANCESTOR", "FREED", "LEFT", "BYTES", "WHY THEY STAY"}, rows)
}

// stays says why dying memcgs stay below an ancestor.
func stays(o reclaim.Outcome) string {
	switch {
	case o.Verdict != reclaim.MayReap && o.Verdict != "":
		return o.Words()
	case o.DyingAfter == 0:
		return ""
	}
	return pinnedBy(o.Pins)
}
