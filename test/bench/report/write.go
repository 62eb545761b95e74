package main

import (
	"fmt"
	"io"

	"github.com/scopereap/scopereap/test/bench/result"
)

const intro = `# Figures

What scopereap does beside what operators use today, and at the scale of 400,000
dying memcgs. Written by ` + "`test/bench/report`" + ` from the JSON files beside it: change
nothing here by hand. To repeat them:

    make bench                  # the contenders in virtual machines
    sudo make bench-scale       # 400,000 dying memcgs on this very machine

Both replace their results here and write this page again; ` + "`make figures`" + ` does
the latter alone. Every ratio is of one run on one machine. Latencies are p50 /
p99 / max.

`

// write writes the page.
func write(w io.Writer, runs []*result.Run, pictures []picture) {
	fmt.Fprint(w, intro)
	for _, r := range runs {
		fmt.Fprintf(w, "## %s: %s\n\n%s\nRepeat it: `%s`.\n\n", r.Machine, r.Suite, machine(r), r.Command)
		for _, p := range pictures {
			if p.of == r {
				fmt.Fprintf(w, "![%s](%s.svg)\n\n", p.about, p.name)
			}
		}
		writeContenders(w, r.Contenders)
		writeGrowth(w, r.Growth)
		if r.Storm != nil {
			writeStorm(w, r.Storm)
		}
		if r.Scale != nil {
			writeScale(w, r.Scale)
		}
	}
}

func writeContenders(w io.Writer, all []result.Contender) {
	if len(all) == 0 {
		return
	}
	done := table{head: []string{"", "dying before ", "left ", "of those, reclaimable still ", "why left", "live cache lost ",
		"pages read back ", "CPU ", "wall ", "CPU a reaped memcg ", "× the floor ", "the reclaiming thread's alone "}}
	reads := table{head: []string{"neighbours' reads", "before ", "during ", "after "}}
	for _, c := range all {
		name, each, ratio, reaping := c.Name, "", "", ""
		if c.Ours {
			name = "**" + name + "**"
		}
		if c.CPUPerReaped > 0 {
			each = span(c.CPUPerReaped)
		}
		if c.RatioToFloor > 0 {
			ratio = fmt.Sprintf("%.2f", c.RatioToFloor)
		}
		if c.Ours && c.ReapingToFloor > 0 { // the others are one thread
			reaping = fmt.Sprintf("%.2f", c.ReapingToFloor)
		}
		cpu := span(c.CPUSeconds)
		if len(c.CPUSamples) > 1 {
			cpu += fmt.Sprintf(" (median of %d)", len(c.CPUSamples))
		}
		done.row(name, count(c.DyingBefore), count(c.DyingLeft), count(c.LeftUnexcused), why(c.LeftWhy),
			size(c.LiveCacheLost), count(c.LiveRefaulted), cpu, span(c.WallSeconds), each, ratio, reaping)
		reads.row(name, latency(c.Latency.Before), latency(c.Latency.During), latency(c.Latency.After))
	}
	done.without().write(w)
	reads.write(w)
}

func writeGrowth(w io.Writer, all []result.Growth) {
	if len(all) == 0 {
		return
	}
	t := table{head: []string{"grows", "to ", "reaped ", "CPU ", "the reclaiming thread's ", "wall ", "CPU a reaped memcg ", "× a bare shielded write's "}}
	for _, g := range all {
		floor := ""
		if g.FloorCPUSeconds > 0 {
			floor = fmt.Sprintf("%.2f", g.CPUSeconds/g.FloorCPUSeconds)
		}
		t.row(g.Axis, count(g.N), count(g.Reaped), span(g.CPUSeconds), span(g.ReapingCPUSeconds), span(g.WallSeconds), span(g.CPUPerReaped), floor)
	}
	t.without().write(w)
}

func writeStorm(w io.Writer, s *result.Storm) {
	t := table{head: []string{"", ""}}
	t.fact("logins, half of them without scopereapd", "%s in %s: %s a second, of %s asked for", count(int64(s.LoginWithout.N+s.LoginWith.N)), span(s.Seconds), digits(s.Reached), digits(s.Asked))
	t.fact("a login here", "%s", s.How)
	t.fact("dying afterwards, without scopereapd", "%s of %s logins", count(s.LeftWithout), count(int64(s.LoginWithout.N)))
	t.fact("with it", "%s of %s logins", count(s.LeftWith), count(int64(s.LoginWith.N)))
	t.fact("from a teardown to freed", "%s (%s)", latency(s.EventToFreed), count(int64(s.EventToFreed.N)))
	t.fact("one login, without", "%s", latency(s.LoginWithout))
	t.fact("with it", "%s", latency(s.LoginWith))
	if s.LoginWithout.P50 > 0 {
		t.fact("the same, with ÷ without, p50", "%.2f", s.LoginWith.P50/s.LoginWithout.P50)
	}
	t.fact("D-Bus messages a login", "%s", digits(s.BusPerLogin))
	t.fact("reclaiming writes a login", "%s", digits(s.WritesPerLogin))
	t.fact("scopereapd's CPU, all of it", "%s", span(s.CPUSeconds))
	t.write(w)
}
