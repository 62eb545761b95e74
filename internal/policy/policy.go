package policy

import (
	"time"

	"github.com/scopereap/scopereap/logind/users"
)

// Policy is everything an operator can set. It holds no pointers but its lists,
// which nobody may change after Load.
type Policy struct {
	Reap     Reap     `toml:"reap" json:"reap"`
	Sweep    Sweep    `toml:"sweep" json:"sweep"`
	Evict    Evict    `toml:"evict" json:"evict"`
	Budget   Budget   `toml:"budget" json:"budget"`
	Hold     Hold     `toml:"hold" json:"hold"`
	Kernel   Kernel   `toml:"kernel" json:"kernel"`
	Linger   Linger   `toml:"linger" json:"linger"`
	Sessions Sessions `toml:"sessions" json:"sessions"`
	Metrics  Metrics  `toml:"metrics" json:"metrics"`
	Log      Log      `toml:"log" json:"log"`
}

// Reap says how dying memcgs are reaped once a teardown has been seen.
type Reap struct {
	// Enabled lets anything be reclaimed at all; off, scopereap only counts.
	Enabled bool `toml:"enabled" json:"enabled"`
	// Debounce is how long to wait after a teardown for more below the same ancestor.
	Debounce Duration `toml:"debounce" json:"debounce"`
	// Batch is how many bytes the kernel is asked for in one write; of more than
	// twice that, half.
	Batch Size `toml:"batch" json:"batch"`
	// Slice is the longest single kernel write before a signal interrupts it.
	Slice Duration `toml:"slice" json:"slice"`
	// NearLimit says what to do with an ancestor close to its own memory limit,
	// where a shield by memory.min could cost an OOM kill.
	NearLimit NearLimit `toml:"near_limit" json:"near_limit"`
	// Ignore lists cgroup paths that are never reaped (path globs).
	Ignore []Glob `toml:"ignore" json:"ignore"`
	// RetryMax is the longest backoff between tries at dirty or mapped pages.
	RetryMax Duration `toml:"retry_max" json:"retry_max"`
}

// Sweep says how often to look for what no event told.
type Sweep struct {
	// Interval is the time between two sweeps; 0 is off.
	Interval Duration `toml:"interval" json:"interval"`
	// Threshold is the dying count that triggers a sweep at once; 0 is off.
	Threshold int `toml:"threshold" json:"threshold"`
	// V1ForceEmpty allows memory.force_empty on live ancestors of cgroup v1,
	// which costs the living their page cache.
	V1ForceEmpty bool `toml:"v1_force_empty" json:"v1_force_empty"`
	// DropCaches is the dying count above which the machine's caches are dropped
	// after a fruitless sweep; 0 is never.
	DropCaches int `toml:"drop_caches" json:"drop_caches"`
}

// Evict says whether dying memcgs that no reclaim reaches are evicted.
type Evict struct {
	Enabled EvictEnabled `toml:"enabled" json:"enabled"`
}

// Budget says what scopereapd may cost the machine.
type Budget struct {
	// CPU is the share of one CPU over any minute.
	CPU Percent `toml:"cpu" json:"cpu"`
	// Burst is the CPU time that may be spent in one go.
	Burst Duration `toml:"burst" json:"burst"`
	// Scheduler is how the reaping thread gives way to others.
	Scheduler Scheduler `toml:"scheduler" json:"scheduler"`
	// MemoryPressure and IOPressure are the machine's PSI "some avg10" above
	// which the reaper gives way; 100% is never.
	MemoryPressure Percent `toml:"memory_pressure" json:"memory_pressure"`
	IOPressure     Percent `toml:"io_pressure" json:"io_pressure"`
}

// Hold says which units' memcgs are kept until they are empty (cgroup v1).
type Hold struct {
	Enabled bool `toml:"enabled" json:"enabled"`
	// Units lists the unit names to hold (unit globs).
	Units []Glob `toml:"units" json:"units"`
	// Max is how many directories are held at a time.
	Max int `toml:"max" json:"max"`
	// Deadline is how long a directory is held after its unit ended.
	Deadline Duration `toml:"deadline" json:"deadline"`
}

// Kernel says what to do where the kernel has an answer of its own.
type Kernel struct {
	// MemcgReaper is what to do with the reaper of Anolis and Alibaba kernels.
	MemcgReaper MemcgReaper `toml:"memcg_reaper" json:"memcg_reaper"`
	// MonitorOnly says when to count and report but never reap.
	MonitorOnly MonitorOnly `toml:"monitor_only" json:"monitor_only"`
}

// Linger says which users' slices and managers stay when their last session ends.
type Linger struct {
	// Users lists who lingers.
	Users []users.Pattern `toml:"users" json:"users"`
	// Never lists who is given linger in no case, neither by Users nor by Auto.
	Never []users.Pattern `toml:"never" json:"never"`
	Auto  LingerAuto      `toml:"auto" json:"auto"`
}

// LingerAuto says when a user earns linger by churn.
type LingerAuto struct {
	// TeardownsPerHour is how many teardowns of a user's slice in an hour do not earn it yet; 0 is off.
	TeardownsPerHour int `toml:"teardowns_per_hour" json:"teardowns_per_hour"`
	// MaxUsers is how many users may have earned it at a time.
	MaxUsers int `toml:"max_users" json:"max_users"`
	// ForgetAfter is how long a user keeps it who churns less than half as much.
	ForgetAfter Duration `toml:"forget_after" json:"forget_after"`
}

// Sessions says whether logins have memcgs of their own (cgroup v2).
type Sessions struct {
	// Memcg is which memcgs there are below a user's slice.
	Memcg SessionMemcg `toml:"memcg" json:"memcg"`
	// OnStop is what becomes of that when the daemon stops.
	OnStop OnStop `toml:"on_stop" json:"on_stop"`
}

// Metrics says where Prometheus' metrics can be had.
type Metrics struct {
	// Socket offers them on metrics.sock in the run directory.
	Socket bool `toml:"socket" json:"socket"`
	// Listen is the TCP address to offer them on; "" is none.
	Listen string `toml:"listen" json:"listen"`
	// Textfile is a file for node_exporter's textfile collector; "" is none.
	Textfile string `toml:"textfile" json:"textfile"`
	// Interval is the time between two writes of the text file.
	Interval Duration `toml:"interval" json:"interval"`
	// Ancestors is how many ancestors have metrics of their own; the others are summed up.
	Ancestors int `toml:"ancestors" json:"ancestors"`
}

// Log says how much goes to the journal.
type Log struct {
	Level LogLevel `toml:"level" json:"level"`
}

// Default is the policy without any file. Every call builds its own lists.
func Default() Policy {
	return Policy{
		Reap: Reap{
			Enabled:   true,
			Debounce:  Duration(250 * time.Millisecond),
			Batch:     1 * MiB,
			Slice:     Duration(50 * time.Millisecond),
			NearLimit: NearLimitSkip,
			Ignore:    []Glob{},
			RetryMax:  Duration(10 * time.Minute),
		},
		Sweep: Sweep{
			Interval:  Duration(5 * time.Minute),
			Threshold: 1000,
		},
		Evict: Evict{Enabled: EvictAuto},
		Budget: Budget{
			CPU:            5,
			Burst:          Duration(250 * time.Millisecond),
			Scheduler:      SchedulerNice,
			MemoryPressure: 20,
			IOPressure:     60,
		},
		Hold: Hold{
			Enabled: true,
			Units: []Glob{
				mustGlob("session-*.scope"),
				mustGlob("user@*.service"),
				mustGlob("user-runtime-dir@*.service"),
				mustGlob("user-*.slice"),
				mustGlob("run-*.scope"),
				mustGlob("run-*.service"),
			},
			Max:      1000,
			Deadline: Duration(2 * time.Minute),
		},
		Kernel: Kernel{
			MemcgReaper: MemcgReaperReport,
			MonitorOnly: MonitorAuto,
		},
		Linger: Linger{
			Users: []users.Pattern{},
			Never: []users.Pattern{},
			Auto:  LingerAuto{MaxUsers: 20, ForgetAfter: Duration(24 * time.Hour)},
		},
		Sessions: Sessions{
			Memcg:  SessionMemcgKeep,
			OnStop: OnStopKeep,
		},
		Metrics: Metrics{
			Socket:    true,
			Interval:  Duration(15 * time.Second),
			Ancestors: 20,
		},
		Log: Log{Level: LogInfo},
	}
}

// mustGlob is for the built-in patterns alone; a test loads them all.
func mustGlob(s string) Glob {
	g, err := ParseGlob(s)
	if err != nil {
		panic("policy: built-in glob: " + err.Error())
	}
	return g
}
