package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/scopereap/scopereap/test/bench/result"
)

func writeScale(w io.Writer, s *result.Scale) {
	t := table{head: []string{count(s.Made) + " dying memcgs", ""}}
	if s.Made < s.Asked {
		t.fact("made", "%s of %s: %s", count(s.Made), count(s.Asked), s.WhyFewer)
	}
	t.fact("making them", "%s, %s a second", span(s.MakingSeconds), count(int64(s.MakingRate)))
	t.fact("what a sweep is here", "%s", s.How)
	t.fact("wall time of the sweep", "%s; until the kernel had let go of the objects %s", span(s.SweepWallSeconds), span(s.SettledSeconds))
	t.fact("left", "**%s**", count(s.DyingLeft))
	t.fact("scopereapd's CPU time", "%s, %s a memcg", span(s.SweepCPUSeconds), span(s.CPUPerReaped))
	t.fact("share of one CPU", "%s on average; %s at most over any second; the policy's budget is %s over any minute, with a burst",
		percent(s.MeanShare), percent(s.MaxShareOverSecond), percent(s.Budget))
	if most := mostAfter(s.ShareTimeline, firstSeconds); most > 0 {
		t.fact(fmt.Sprintf("the most over any second that began after the first %d", firstSeconds), "%s", percent(most))
	}
	t.fact("the kernel's own workers meanwhile, who free what was emptied", "%s of CPU, in no budget", span(s.KworkerCPUSeconds))
	t.fact("memory taken by them", "%s, %s each", size(s.BytesTaken), size(s.BytesTaken/max(s.Made, 1)))
	t.fact("given back", "%s%s", size(s.BytesGivenBack), kernelWords(s.KernelGivenBack))
	neighbour(&t, s.Neighbour)
	t.write(w)
	if s.Big != nil {
		writeBig(w, s.Big)
	}
}

// firstSeconds of a sweep took more than those that followed (6.18, v1).
const firstSeconds = 2

// mostAfter is the largest share over a second that began so many seconds after the sweep did.
func mostAfter(all []result.Share, begin float64) (most float64) {
	for _, p := range lastSecond(all) {
		if p.X >= begin+1 {
			most = max(most, p.Y/100)
		}
	}
	return most
}

func kernelWords(m map[string]int64) string {
	var words []string
	for _, line := range slices.Sorted(maps.Keys(m)) {
		words = append(words, line+" "+size(m[line]))
	}
	if len(words) == 0 {
		return ""
	}
	return ", of it " + strings.Join(words, ", ")
}

func neighbour(t *table, p result.Phases) {
	for _, phase := range []struct {
		name string
		l    result.Latency
	}{{"before", p.Before}, {"meanwhile", p.During}, {"after", p.After}} {
		t.fact("a neighbour's read of 64 KiB, "+phase.name, "%s (%s)", latency(phase.l), count(int64(phase.l.N)))
	}
}

func writeBig(w io.Writer, b *result.Big) {
	t := table{head: []string{fmt.Sprintf("one dying memcg with %s of cache", size(b.Bytes)), ""}}
	if b.WhyFewer != "" {
		t.fact("asked for", "%s: %s", size(b.Asked), b.WhyFewer)
	}
	t.fact("left", "%s", size(b.Left))
	t.fact("wall and CPU time", "%s, %s", span(b.WallSeconds), span(b.CPUSeconds))
	t.fact("writes into the kernel", "%s: %s", count(b.Writes), latency(b.Write))
	t.fact("longest write", "%s", span(b.LongestWrite))
	neighbour(&t, b.Neighbour)
	t.write(w)
}
