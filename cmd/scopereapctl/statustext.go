package main

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/reclaim"
)

// startDaemon is how to start it.
const startDaemon = "systemctl start scopereapd"

// text writes a report for people. limit is how many ancestors are listed (0:
// all).
func (r statusReport) text(p printer, now time.Time, limit int) {
	r.headline(p, now)
	lines := [][2]string{
		{"Memory", modeWords(r.Mode, r.MountPoint)},
		{"Dying", fmt.Sprintf("%s beside %s live", plural(r.Dying, "memcg"), count(r.Live))},
	}
	if r.Dying > 0 {
		dead := size(r.Reclaimable) + " of page cache to reclaim"
		if len(r.Pins) > 0 {
			dead += "\n" + pinnedBy(r.Pins)
		}
		lines = append(lines, [2]string{"Dead memory", dead})
	}
	if r.PassedOver.Cgroups > 0 {
		lines = append(lines, [2]string{"Passed over", passedOverWords(r.PassedOver)})
	}
	if d := r.Daemon; d != nil {
		lines = append(lines, daemonLines(d, now)...)
		if g := d.Engine.GivingWay; g != nil {
			words := givingWayWords(*g, now)
			if g.Idle {
				words += "\n" + uringWords(r.Uring)
			}
			lines = append(lines, [2]string{"Pressure", words})
		}
	}
	if r.Mode.V2() {
		lines = append(lines, [2]string{"Kernel", abilityWords(r.Abilities)})
	}
	p.lines(lines)
	r.ancestors(p, limit)
}

func (r statusReport) headline(p printer, now time.Time) {
	switch d := r.Daemon; {
	case d == nil && r.DaemonError != "":
		fmt.Fprintf(p.w, "%s scopereapd listens but does not answer: %s\n", p.paint(yellow, "●"), r.DaemonError)
	case d == nil:
		fmt.Fprintf(p.w, "○ scopereapd is not running; start it with: %s\n", startDaemon)
	default:
		state := p.paint(green, "●")
		if d.Engine.MonitorOnly != "" || d.PolicyError != "" || !d.Bus.Connected {
			state = p.paint(yellow, "●")
		}
		fmt.Fprintf(p.w, "%s scopereapd %s, running since %s (pid %d)\n", state, d.Version, ago(d.Since, now), d.PID)
	}
}

// evictionWorks says so.
const evictionWorks = "works: what reclaim cannot reach is freed page by page, and the living keep theirs"

// daemonLines is what the daemon tells about itself.
func daemonLines(d *control.Status, now time.Time) [][2]string {
	t := d.Engine.Totals
	freed := fmt.Sprintf("%s and %s of page cache, with %s of CPU", plural(t.Freed, "memcg"), size(t.Bytes), span(t.CPU))
	if t.Turns > 0 && !t.LastReap.IsZero() {
		freed += "; last reclaim " + ago(t.LastReap, now)
	}
	out := [][2]string{{"Freed", freed}}
	add := func(name, value string) { out = append(out, [2]string{name, value}) }
	if l := t.Latency; l.Count > 0 {
		add("Teardowns", fmt.Sprintf("%s seen; freed after %s (median), %s (99th percentile)", count(t.Events), span(l.P50), span(l.P99)))
	} else if t.Events > 0 {
		add("Teardowns", count(t.Events)+" seen")
	}
	if h := d.Engine.Held; h != (reclaim.HoldCount{}) {
		held := fmt.Sprintf("the memcgs of %s; %d of ended ones are being emptied", plural(int64(h.Held), "live unit"), h.Waiting)
		if h.HeldUp > 0 {
			held += fmt.Sprintf(", %d of them held up by a disk", h.HeldUp)
		}
		add("Held", held)
	}
	switch e := d.Engine.Eviction; {
	case e.OK():
		add("Eviction", evictionWorks)
	case e.Why != "":
		add("Eviction", "does not work: "+e.Why)
	}
	if d.Engine.MonitorOnly != "" {
		add("Monitors only", d.Engine.MonitorOnly)
	}
	if !d.Bus.Connected {
		add("System bus", "not connected: logins and logouts are not seen until it is back; the periodic count goes on")
	}
	switch n := int64(len(d.PolicyFiles)); {
	case d.PolicyError != "":
		add("Policy", "the files on disk have errors and are not in force (see: scopereapctl policy check)")
	case n == 0:
		add("Policy", "built-in defaults")
	default:
		add("Policy", plural(n, "file"))
	}
	return out
}

// ancestors lists the worst of them.
func (r statusReport) ancestors(p printer, limit int) {
	var rows [][]string
	for _, a := range r.Ancestors {
		rows = append(rows, []string{pathWords(a.Path), count(a.Direct), size(a.Reclaimable), r.state(a)})
	}
	header := []string{"ANCESTOR", "DYING", "RECLAIMABLE", "STATE"}
	if !r.Mode.V2() {
		// v1 does not count by cgroup.
		header = []string{"ANCESTOR", "HELD BY THE DEAD", "RECLAIMABLE", "STATE"}
		for _, a := range r.V1Ancestors {
			rows = append(rows, []string{pathWords(a.Path), size(a.Dead.held()), size(a.Reclaimable), r.v1State(a)})
		}
	}
	if len(rows) == 0 {
		return
	}
	omitted := 0
	if limit > 0 && len(rows) > limit {
		rows, omitted = rows[:limit], len(rows)-limit
	}
	fmt.Fprintln(p.w)
	p.columns(header, rows)
	if omitted > 0 {
		fmt.Fprintf(p.w, "… and %s more (--limit 0 lists all)\n", count(int64(omitted)))
	}
}

// state says in words what will become of an ancestor's dying.
func (r statusReport) state(a reclaim.Surveyed) string {
	switch {
	case a.Verdict != reclaim.MayReap:
		return a.Verdict.Words()
	case a.Reclaimable == 0:
		return pinnedBy(a.Pins)
	case r.Daemon == nil:
		return "can be reaped"
	case r.Daemon.Engine.MonitorOnly != "":
		return "only watched"
	}
	return "to be reaped"
}

func (r statusReport) v1State(a v1Ancestor) string {
	switch {
	case a.Reclaimable == 0:
		return pinnedBy(a.Dead.pins())
	case evictionUntried(r.Daemon):
		return "eviction has not been tried"
	case evictionOf(r.Daemon).OK():
		return "to be evicted"
	}
	return "needs memory.force_empty"
}

// ago is a time of day with its distance.
func ago(at, now time.Time) string {
	return at.Format(time.DateTime) + ", " + humanize.RelTime(at, now, "ago", "ahead")
}
