package main

import (
	"slices"
	"time"
)

// sparkSpan is how far back a sparkline looks.
const sparkSpan = 5 * time.Minute

// series is a figure over the last sparkSpan.
type series struct {
	at []time.Time
	v  []int64
}

func (s *series) add(at time.Time, v int64) {
	old := 0
	for old < len(s.at) && at.Sub(s.at[old]) > sparkSpan {
		old++
	}
	s.at = append(slices.Delete(s.at, 0, old), at)
	s.v = append(slices.Delete(s.v, 0, old), v)
}

// idle reports whether there is nothing to be seen any more.
func (s *series) idle() bool {
	return !slices.ContainsFunc(s.v, func(v int64) bool { return v != 0 })
}

// spark draws a series with a character for each part of sparkSpan: the most
// there was in it, or what there was before where nobody looked. The scale is
// the series' own.
func (s *series) spark(now time.Time, cells int) string {
	const bars = "▁▂▃▄▅▆▇█"
	levels := []rune(bars)
	out := make([]rune, cells)
	top, at := int64(0), 0
	for i, v := range s.v {
		if now.Sub(s.at[i]) <= sparkSpan {
			top = max(top, v)
		}
	}
	last := int64(-1) // nothing known
	for c := range out {
		end := now.Add(-sparkSpan * time.Duration(cells-1-c) / time.Duration(cells))
		most := int64(-1)
		for at < len(s.at) && !s.at[at].After(end) {
			most, last = max(most, s.v[at]), s.v[at]
			at++
		}
		if most < 0 {
			most = last
		}
		switch {
		case most < 0:
			out[c] = ' '
		case top == 0:
			out[c] = levels[0]
		default:
			out[c] = levels[int(float64(most)/float64(top)*float64(len(levels)-1))]
		}
	}
	return string(out)
}
