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

// EvictEnabled says when to evict.
type EvictEnabled string

const (
	EvictAuto EvictEnabled = "auto" // wherever the kernel's memory can be read
	EvictNo   EvictEnabled = "no"
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

// SessionMemcg says which memcgs there are below a user's slice.
type SessionMemcg string

const (
	SessionMemcgKeep    SessionMemcg = "keep"     // as systemd has it: one for each session and service
	SessionMemcgPerUser SessionMemcg = "per-user" // none: DisableControllers=memory on user-.slice
)

// OnStop is what a stopping daemon does with what it has set up on the machine.
type OnStop string

const (
	OnStopKeep OnStop = "keep" // leave it in force
	OnStopUndo OnStop = "undo" // take it away
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
