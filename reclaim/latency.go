package reclaim

import (
	"slices"
	"time"
)

// Latency keeps the last latencies and gives their quantiles.
type Latency struct {
	Count int64         `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	last  []time.Duration
	next  int
}

// latencyKept is how many of the last latencies the quantiles are of.
const latencyKept = 1024

func (l *Latency) add(d time.Duration) {
	l.Count++
	if len(l.last) < latencyKept {
		l.last = append(l.last, d)
		return
	}
	l.last[l.next] = d
	l.next = (l.next + 1) % latencyKept
}

// summary is a copy with its quantiles filled in.
func (l Latency) summary() Latency {
	s := slices.Sorted(slices.Values(l.last))
	if len(s) > 0 {
		l.P50, l.P99 = quantile(s, 50), quantile(s, 99)
	}
	l.last = nil
	return l
}

// quantile is the nearest-rank percentile of sorted values.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}
