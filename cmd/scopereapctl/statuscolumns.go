package main

import "github.com/scopereap/scopereap/reclaim"

// statusRow is an ancestor of a status report. On v1 only v1 is set, and what
// v1 does not tell is "-".
type statusRow struct {
	report *statusReport
	v2     *reclaim.Surveyed
	v1     *v1Ancestor
}

func (r *statusReport) rows() []statusRow {
	var out []statusRow
	for i := range r.Ancestors {
		out = append(out, statusRow{report: r, v2: &r.Ancestors[i]})
	}
	for i := range r.V1Ancestors {
		out = append(out, statusRow{report: r, v1: &r.V1Ancestors[i]})
	}
	return out
}

// statusColumns are what status -o can list.
func statusColumns() []column[statusRow] {
	on := func(v2 func(statusRow, reclaim.Surveyed) string, v1 func(v1Ancestor) string) func(statusRow) string {
		return func(r statusRow) string {
			switch {
			case r.v2 != nil:
				return v2(r, *r.v2)
			case v1 != nil:
				return v1(*r.v1)
			}
			return "-"
		}
	}
	bytes := func(name, header string, v2 func(reclaim.Surveyed) int64, v1 func(v1Ancestor) int64) column[statusRow] {
		return column[statusRow]{name, header, true, on(
			func(_ statusRow, s reclaim.Surveyed) string {
				if s.Verdict != reclaim.MayReap && s.Verdict != reclaim.NearLimit {
					return "-" // not measured
				}
				return size(v2(s))
			},
			func(a v1Ancestor) string { return size(v1(a)) })}
	}
	return []column[statusRow]{
		{"path", "ANCESTOR", false, on(func(_ statusRow, s reclaim.Surveyed) string { return pathWords(s.Path) },
			func(a v1Ancestor) string { return pathWords(a.Path) })},
		{"dying", "DYING", true, on(func(_ statusRow, s reclaim.Surveyed) string { return count(s.Direct) }, nil)},
		{"total", "TOTAL", true, on(func(_ statusRow, s reclaim.Surveyed) string { return count(s.Total) }, nil)},
		bytes("reclaimable", "RECLAIMABLE", func(s reclaim.Surveyed) int64 { return s.Reclaimable },
			func(a v1Ancestor) int64 { return a.Reclaimable }),
		bytes("held", "HELD", func(s reclaim.Surveyed) int64 { return heldBytes(s.Dead) },
			func(a v1Ancestor) int64 { return a.Dead.held() }),
		bytes("shmem", "SHMEM", func(s reclaim.Surveyed) int64 { return s.Dead.Shmem }, func(a v1Ancestor) int64 { return a.Dead.Shmem }),
		bytes("swap", "SWAP", func(s reclaim.Surveyed) int64 { return s.Dead.Swap }, func(a v1Ancestor) int64 { return a.Dead.Swap }),
		{"verdict", "VERDICT", false, on(func(_ statusRow, s reclaim.Surveyed) string { return string(s.Verdict) }, nil)},
		{"state", "STATE", false, func(r statusRow) string {
			if r.v1 != nil {
				return r.report.v1State(*r.v1)
			}
			return r.report.state(*r.v2)
		}},
	}
}

// heldBytes is all that the dead below an ancestor keep.
func heldBytes(d reclaim.DeadMemory) int64 {
	if d.Coarse {
		return d.Charged + d.Swap
	}
	return d.File + d.Anon + d.Swap + max(d.Kernel, d.Slab+d.Sock+d.Percpu)
}
