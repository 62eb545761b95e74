package policy

import "log/slog"

// NearLimit is what to do with an ancestor close to its own memory limit.
type NearLimit string

const (
	NearLimitSkip NearLimit = "skip" // leave it alone and report it
	NearLimitLow  NearLimit = "low"  // shield with memory.low and one exact request
)

// Scheduler is how the reaping thread gives way to others.
type Scheduler string

const (
	SchedulerNice Scheduler = "nice" // nice 19, idle I/O priority
	SchedulerIdle Scheduler = "idle" // SCHED_IDLE: may be stopped inside the kernel for long
)

// MemcgReaper is what to do with the kernel's own reaper where there is one.
type MemcgReaper string

const (
	MemcgReaperReport MemcgReaper = "report" // say that it exists
	MemcgReaperEnable MemcgReaper = "enable" // turn it on
)

// MonitorOnly says when to count and report but never reap.
type MonitorOnly string

const (
	MonitorAuto   MonitorOnly = "auto"   // only where the kernel re-parents dying memcgs' pages
	MonitorAlways MonitorOnly = "always" // never reap
	MonitorNever  MonitorOnly = "never"  // reap even where the kernel re-parents
)

// LogLevel is the least severe level that is logged.
type LogLevel string

const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

// Slog returns the level for log/slog; anything unknown is info.
func (l LogLevel) Slog() slog.Level {
	switch l {
	case LogDebug:
		return slog.LevelDebug
	case LogWarn:
		return slog.LevelWarn
	case LogError:
		return slog.LevelError
	}
	return slog.LevelInfo
}
