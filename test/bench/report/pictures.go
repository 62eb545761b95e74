package main

import (
	"fmt"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/scopereap/scopereap/test/bench/result"
)

// picturesOf are a run's plots.
func picturesOf(r *result.Run) (all []picture, err error) {
	if slices.ContainsFunc(r.Contenders, func(c result.Contender) bool { return len(c.Timeline) > 0 }) {
		dying, err := overTime(r, "Dying memcgs after each contender began: "+r.Machine, "dying memcgs",
			func(p result.Point) float64 { return float64(p.Dying) })
		if err != nil {
			return nil, err
		}
		cache, err := overTime(r, "The living neighbours' file cache: "+r.Machine, "MiB cached",
			func(p result.Point) float64 { return float64(p.LiveCacheBytes) / (1 << 20) })
		if err != nil {
			return nil, err
		}
		name := r.Machine + "-" + r.Suite
		all = append(all,
			picture{r, name + "-dying", "dying memcgs over time by contender", []*plot.Plot{dying}},
			picture{r, name + "-cache", "the living's cache over time by contender", []*plot.Plot{cache}})
	}
	if s := r.Scale; s != nil && len(s.ShareTimeline) > 0 {
		p, err := sweep(s)
		if err != nil {
			return nil, err
		}
		all = append(all, picture{r, r.Machine + "-" + r.Suite + "-sweep", "a big sweep over time: dying memcgs, and scopereapd's share of a CPU", p})
	}
	return all, nil
}

// shown is how much of a timeline is drawn, in seconds: most contenders are done in a few, and one waits for minutes.
const shown = 30

// overTime has a curve a contender.
func overTime(r *result.Run, title, what string, of func(result.Point) float64) (*plot.Plot, error) {
	p := newPlot(title, "seconds", what)
	mine := ours
	for i, c := range r.Contenders {
		var points plotter.XYs
		for _, t := range c.Timeline {
			if t.Seconds <= shown {
				points = append(points, plotter.XY{X: t.Seconds, Y: of(t)})
			}
		}
		if len(points) == 0 {
			continue
		}
		name := c.Name
		if last := c.Timeline[len(c.Timeline)-1].Seconds; last > shown+1 {
			name += fmt.Sprintf(" (goes on to %.0f s)", last)
		}
		as := other(i)
		if c.Ours {
			as, mine = mine, oursToo
		}
		if err := line(p, name, points, as); err != nil {
			return nil, err
		}
	}
	p.Y.Min = 0
	p.X.Max += (p.X.Max - p.X.Min) * 0.4 // room for the legend
	p.Y.Max *= 1.05
	return p, nil
}

// sweep has the dying above and the CPU share below.
func sweep(s *result.Scale) ([]*plot.Plot, error) {
	dying := newPlot(count(s.Made)+" dying memcgs, swept", "", "dying memcgs")
	var left plotter.XYs
	for _, d := range s.DyingTimeline {
		left = append(left, plotter.XY{X: d.Seconds, Y: float64(d.Dying)})
	}
	if err := line(dying, "dying", left, ours); err != nil {
		return nil, err
	}
	dying.Y.Min = 0

	cpu := newPlot("scopereapd's share of one CPU", "seconds since the sweep began", "%")
	var each plotter.XYs
	for _, x := range s.ShareTimeline {
		each = append(each, plotter.XY{X: x.Seconds, Y: 100 * x.Share})
	}
	if err := line(cpu, "each tenth of a second", each, style{skyBlue, vg.Points(0.75), nil}); err != nil {
		return nil, err
	}
	if err := line(cpu, "the second before", lastSecond(s.ShareTimeline), ours); err != nil {
		return nil, err
	}
	if err := level(cpu, "budget, over a minute", 100*s.Budget, cpu.X.Max); err != nil {
		return nil, err
	}
	cpu.Y.Min = 0
	cpu.Y.Max *= 1.4 // room for the legend
	dying.X.Min, cpu.X.Min = 0, 0
	dying.X.Max = cpu.X.Max
	return []*plot.Plot{dying, cpu}, nil
}

// lastSecond is the mean over the second before each point, or over what there was before it.
func lastSecond(all []result.Share) plotter.XYs {
	var out plotter.XYs
	from := 0
	for to := range all {
		for all[to].Seconds-began(all, from+1) >= 1 {
			from++
		}
		used := 0.0
		for i := from; i <= to; i++ {
			used += all[i].Share * (all[i].Seconds - began(all, i))
		}
		if took := all[to].Seconds - began(all, from); took > 0 {
			out = append(out, plotter.XY{X: all[to].Seconds, Y: 100 * used / took})
		}
	}
	return out
}

// began is when a stretch began: where the one before it ended.
func began(all []result.Share, i int) float64 {
	if i == 0 {
		return 0
	}
	return all[i-1].Seconds
}
