package policy

import (
	"slices"
	"time"

	"github.com/scopereap/scopereap/reclaim"
)

// Engine is what the policy means to the reclaim engine.
func (p Policy) Engine() reclaim.Config {
	return reclaim.Config{
		Reap:      p.Reap.Enabled,
		Debounce:  time.Duration(p.Reap.Debounce),
		Batch:     int64(p.Reap.Batch),
		Slice:     time.Duration(p.Reap.Slice),
		RetryMax:  time.Duration(p.Reap.RetryMax),
		NearLimit: p.Reap.NearLimit == NearLimitLow,
		Ignore:    func(cgroup string) bool { return MatchAny(p.Reap.Ignore, cgroup) },
		Monitor:   p.Kernel.MonitorOnly.engine(),

		Evict:       p.Evict.Enabled == EvictAuto,
		IgnoreGlobs: globs(p.Reap.Ignore),

		Share:    float64(p.Budget.CPU) / 100,
		Burst:    time.Duration(p.Budget.Burst),
		Idle:     p.Budget.Scheduler == SchedulerIdle,
		Pressure: reclaim.PressureLimits{Memory: float64(p.Budget.MemoryPressure), IO: float64(p.Budget.IOPressure)},

		SweepEvery:     time.Duration(p.Sweep.Interval),
		SweepThreshold: int64(p.Sweep.Threshold),
		V1ForceEmpty:   p.Sweep.V1ForceEmpty,
		DropCaches:     int64(p.Sweep.DropCaches),
	}
}

func globs(all []Glob) (out []string) {
	for _, g := range all {
		out = append(out, g.String())
	}
	return out
}

func (m MonitorOnly) engine() reclaim.Monitor {
	switch m {
	case MonitorAlways:
		return reclaim.MonitorAlways
	case MonitorNever:
		return reclaim.MonitorNever
	}
	return reclaim.MonitorAuto
}

// MatchAny tells whether any of globs matches name.
func MatchAny(globs []Glob, name string) bool {
	return slices.ContainsFunc(globs, func(g Glob) bool { return g.Match(name) })
}
