package reclaim

import "time"

// Config is what a policy decides. The zero value is not useful: see
// DefaultConfig.
type Config struct {
	Reap      bool          // off: count, never reclaim
	Debounce  time.Duration // from a teardown to its reclaim
	Batch     int64         // bytes a write asks for
	Slice     time.Duration // longest single write
	RetryMax  time.Duration // longest wait before dirty or mapped pages are tried again
	NearLimit bool          // reclaim near a memory limit too, behind memory.low
	Ignore    func(cgroup string) bool
	Monitor   Monitor

	Evict       bool     // what reclaim cannot reach, where there is an Evicter
	IgnoreGlobs []string // what Ignore says, for the Evicter

	Share    float64       // of one CPU, over any minute
	Burst    time.Duration // CPU time
	Idle     bool          // SCHED_IDLE
	Pressure PressureLimits

	SweepEvery     time.Duration // 0: never
	SweepThreshold int64         // dying memcgs that start a sweep; 0: never
	V1ForceEmpty   bool          // let a sweep force_empty live ancestors on v1
	DropCaches     int64         // dying memcgs above which a fruitless sweep drops caches; 0: never
}

// Monitor says when to count only.
type Monitor int

const (
	MonitorAuto   Monitor = iota // where the kernel re-parents by itself
	MonitorAlways                // count only
	MonitorNever                 // reclaim even where the kernel re-parents
)

// DefaultConfig is the built-in policy.
func DefaultConfig() Config {
	return Config{
		Reap:           true,
		Debounce:       250 * time.Millisecond,
		Batch:          1 << 20,
		Slice:          50 * time.Millisecond,
		RetryMax:       10 * time.Minute,
		Ignore:         func(string) bool { return false },
		Share:          0.05,
		Burst:          250 * time.Millisecond,
		Pressure:       PressureLimits{Memory: 20, IO: 60},
		SweepEvery:     5 * time.Minute,
		SweepThreshold: 1000,
		Evict:          true,
	}
}
