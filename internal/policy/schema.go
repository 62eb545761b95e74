package policy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// field is one key of the policy: how to read it, check its range and show it.
type field struct {
	key string // "reap.batch"
	typ string // in words, for the manual
	// set checks what TOML gave and puts it into p; on a fault p is unchanged.
	set func(p *Policy, v any) []*fault
	// toml is the value as a policy file would have it.
	toml func(p *Policy) string
	// json is the value as encoding/json shall see it: bool, int, string or []string.
	json func(p *Policy) any
}

func (f field) table() string { t, _ := splitKey(f.key); return t }
func (f field) name() string  { _, n := splitKey(f.key); return n }

// splitKey cuts a full key into its table and its name: "linger.auto.max_users" is max_users of [linger.auto].
func splitKey(key string) (table, name string) {
	i := strings.LastIndexByte(key, '.')
	return key[:max(i, 0)], key[i+1:]
}

// Ranges, each with the reason for its ends.
const (
	// A minute's wait for more teardowns: by then the sweep is the better tool.
	maxDebounce = Duration(time.Minute)
	// Above 1 GiB a write is no batch: the kernel would run to the end of its slice each time.
	maxBatch = 1 * GiB
	// Under 1 ms a signal would interrupt most writes before they freed a page.
	minSlice = Duration(time.Millisecond)
	// A write that holds the kernel's reclaim for longer is felt by others.
	maxSlice = Duration(10 * time.Second)
	minRetry = Duration(time.Second)
	maxRetry = Duration(24 * time.Hour)
	// A census walks the whole tree; more than once a second is a busy loop.
	minInterval = Duration(time.Second)
	maxInterval = Duration(7 * 24 * time.Hour)
	// The kernel counts dying cgroups in an int (nr_dying_descendants).
	maxCount = 1<<31 - 1
	// A tenth of a percent is 60 ms of CPU a minute, about one slice.
	minCPU   = Percent(0.1)
	full     = Percent(100)
	minBurst = Duration(time.Millisecond)
	maxBurst = Duration(time.Minute)
	// PSI has two decimals; at 0 the reaper would give way always.
	minPSI = Percent(0.01)
	// A thread a hold; Go's runtime aborts the process at 10,000 threads.
	maxHolds    = 5000
	minDeadline = Duration(time.Second)
	maxDeadline = Duration(time.Hour)
	// logind keeps a user's slice for UserStopDelaySec= (10 s), so it cannot be torn down more often than 360 times.
	maxTeardowns = 300
	// Each lingering user has a manager of its own, 10 MB and more.
	maxLingering = 10_000
	// Teardowns are counted by the hour; forgetting sooner would forget who still churns.
	minForget = Duration(time.Hour)
	maxForget = Duration(30 * 24 * time.Hour)
	// The census behind the metrics is not taken more often than every 15 s.
	minMetrics = Duration(5 * time.Second)
	maxMetrics = Duration(time.Hour)
	// Ten series and more an ancestor, on every machine.
	maxAncestors = 500
)

// schema lists every key in the order of packaging/policy.toml.
func schema() []field {
	page := Size(os.Getpagesize()) // the kernel rounds a smaller request down to nothing
	return []field{
		boolField("reap.enabled", func(p *Policy) *bool { return &p.Reap.Enabled }),
		durationField("reap.debounce", func(p *Policy) *Duration { return &p.Reap.Debounce }, 0, maxDebounce, `"0" acts at once`),
		sizeField("reap.batch", func(p *Policy) *Size { return &p.Reap.Batch }, page, maxBatch),
		durationField("reap.slice", func(p *Policy) *Duration { return &p.Reap.Slice }, minSlice, maxSlice, ""),
		enumField("reap.near_limit", func(p *Policy) *NearLimit { return &p.Reap.NearLimit }, NearLimitSkip, NearLimitLow),
		globsField("reap.ignore", func(p *Policy) *[]Glob { return &p.Reap.Ignore }, pathGlobs),
		durationField("reap.retry_max", func(p *Policy) *Duration { return &p.Reap.RetryMax }, minRetry, maxRetry, ""),
		durationField("sweep.interval", func(p *Policy) *Duration { return &p.Sweep.Interval }, minInterval, maxInterval, `"0" turns it off`),
		intField("sweep.threshold", func(p *Policy) *int { return &p.Sweep.Threshold }, 0, maxCount, "0 turns it off"),
		boolField("sweep.v1_force_empty", func(p *Policy) *bool { return &p.Sweep.V1ForceEmpty }),
		intField("sweep.drop_caches", func(p *Policy) *int { return &p.Sweep.DropCaches }, 0, maxCount, "0 is never"),
		enumField("evict.enabled", func(p *Policy) *EvictEnabled { return &p.Evict.Enabled }, EvictAuto, EvictNo),
		percentField("budget.cpu", func(p *Policy) *Percent { return &p.Budget.CPU }, minCPU, full, "to stop reaping set reap.enabled = false"),
		durationField("budget.burst", func(p *Policy) *Duration { return &p.Budget.Burst }, minBurst, maxBurst, ""),
		enumField("budget.scheduler", func(p *Policy) *Scheduler { return &p.Budget.Scheduler }, SchedulerNice, SchedulerIdle),
		percentField("budget.memory_pressure", func(p *Policy) *Percent { return &p.Budget.MemoryPressure }, minPSI, full, `"100%" never gives way`),
		percentField("budget.io_pressure", func(p *Policy) *Percent { return &p.Budget.IOPressure }, minPSI, full, `"100%" never gives way`),
		boolField("hold.enabled", func(p *Policy) *bool { return &p.Hold.Enabled }),
		globsField("hold.units", func(p *Policy) *[]Glob { return &p.Hold.Units }, unitGlobs),
		intField("hold.max", func(p *Policy) *int { return &p.Hold.Max }, 1, maxHolds, "to hold nothing set hold.enabled = false"),
		durationField("hold.deadline", func(p *Policy) *Duration { return &p.Hold.Deadline }, minDeadline, maxDeadline, ""),
		enumField("kernel.memcg_reaper", func(p *Policy) *MemcgReaper { return &p.Kernel.MemcgReaper }, MemcgReaperReport, MemcgReaperEnable),
		enumField("kernel.monitor_only", func(p *Policy) *MonitorOnly { return &p.Kernel.MonitorOnly }, MonitorAuto, MonitorAlways, MonitorNever),
		usersField("linger.users", func(p *Policy) *userList { return &p.Linger.Users }),
		usersField("linger.never", func(p *Policy) *userList { return &p.Linger.Never }),
		intField("linger.auto.teardowns_per_hour", func(p *Policy) *int { return &p.Linger.Auto.TeardownsPerHour }, 0, maxTeardowns, "0 turns it off"),
		intField("linger.auto.max_users", func(p *Policy) *int { return &p.Linger.Auto.MaxUsers }, 0, maxLingering, ""),
		durationField("linger.auto.forget_after", func(p *Policy) *Duration { return &p.Linger.Auto.ForgetAfter }, minForget, maxForget, ""),
		enumField("sessions.memcg", func(p *Policy) *SessionMemcg { return &p.Sessions.Memcg }, SessionMemcgKeep, SessionMemcgPerUser),
		enumField("sessions.on_stop", func(p *Policy) *OnStop { return &p.Sessions.OnStop }, OnStopKeep, OnStopUndo),
		boolField("metrics.socket", func(p *Policy) *bool { return &p.Metrics.Socket }),
		textField("metrics.listen", func(p *Policy) *string { return &p.Metrics.Listen }, listenForm, checkListen),
		textField("metrics.textfile", func(p *Policy) *string { return &p.Metrics.Textfile }, textfileForm, checkTextfile),
		durationField("metrics.interval", func(p *Policy) *Duration { return &p.Metrics.Interval }, minMetrics, maxMetrics, ""),
		intField("metrics.ancestors", func(p *Policy) *int { return &p.Metrics.Ancestors }, 0, maxAncestors, "0 sums up all of them"),
		enumField("log.level", func(p *Policy) *LogLevel { return &p.Log.Level }, LogDebug, LogInfo, LogWarn, LogError),
	}
}

// tables lists the tables of the schema in its order, those in other tables too.
func tables(fields []field) []string {
	var out []string
	for _, f := range fields {
		if t := f.table(); !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// names lists the keys of one table in the schema's order, without those of the tables in it.
func names(fields []field, table string) []string {
	var out []string
	for _, f := range fields {
		if f.table() == table {
			out = append(out, f.name())
		}
	}
	return out
}

// Keys lists every key a policy can set, in the order of the shipped policy.toml.
func Keys() []string {
	var out []string
	for _, f := range schema() {
		out = append(out, f.key)
	}
	return out
}

// describe names what TOML gave, for "is a number, not a string".
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("the string %s", quote(v))
	case bool:
		return fmt.Sprintf("the boolean %t", v)
	case int64:
		return fmt.Sprintf("the number %d", v)
	case float64:
		return fmt.Sprintf("the number %v", v)
	case []any:
		return "a list"
	case map[string]any, []map[string]any:
		return "a table"
	case time.Time:
		return "a date"
	}
	return fmt.Sprintf("a %T", v)
}
