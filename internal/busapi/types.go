package busapi

import (
	"context"
	"time"
)

// The structs below go over the bus as they are: their fields' order and types are the interface's.

// Ancestor is a live cgroup with dying memcgs right below it: (sttsta(st)).
type Ancestor struct {
	Path        string
	Direct      uint64 // dying memcgs right below
	Total       uint64 // and below its live children too
	Verdict     string // "reap", or why not
	Reclaimable uint64 // bytes
	Pins        []Pin  // where nothing is reclaimable
}

// Pin is a reason why dying memcgs stay, and the bytes behind it.
type Pin struct {
	Reason string
	Bytes  uint64
}

// Leaker is a row of the ledger: (ssttdttdtt).
type Leaker struct {
	Kind, Name             string
	Sessions, Teardowns    uint64
	Left                   float64
	HourSessions, HourEnds uint64 // in the last hour
	HourLeft               float64
	First, Last            uint64 // seen, µs since 1970
}

// Session is a live login session: (sussssubss).
type Session struct {
	ID         string
	UID        uint32
	User       string
	Service    string
	Class      string
	Type       string
	Leader     uint32
	Remote     bool
	RemoteHost string
	Scope      string
}

// LingerUser is a user who lingers or should: (usbbsstsdd).
type LingerUser struct {
	UID            uint32
	User           string
	Known, Lingers bool
	Rule, SetBy    string
	Since          uint64 // µs since 1970, 0: not known
	Note           string
	Before, After  float64 // teardowns an hour; Unknown: not known, or not to be told
}

// Unknown is the number for what is not known.
const Unknown = -1

// CronJob is a job of cron, anacron or at: (sssussdssddsasss).
type CronJob struct {
	ID, Source, File string
	Line             uint32
	User, Service    string
	RunsPerDay       float64
	OpensSession     string // yes, no or unknown
	Why              string
	Expected         float64 // memcgs a day
	Measured         float64 // likewise, or Unknown
	Remedy           string
	Others           []string
	Guard, GuardWhy  string
}

// PolicyRow is one key of the policy in force: (sssu).
type PolicyRow struct {
	Key, Value string // Value as TOML
	File       string
	Line       uint32
}

// SweepResult is what a sweep did, or in a dry run would have to do.
type SweepResult struct {
	Before, After, Freed int64 // dying memcgs
	Bytes                int64 // given back; in a dry run: reclaimable
	Ancestors            int
	CPU                  time.Duration
}

// SweepProgress is how far a sweep is.
type SweepProgress struct {
	Ancestors, Done int
	Dying, Freed    int64
}

// Snapshot is what the properties show. It must be cheap to make: see Backend.Snapshot.
type Snapshot struct {
	Version, CgroupMode           string
	KernelReparents               bool
	MonitorOnly                   string
	Dying, Live                   uint64
	DeadBytes, Pinned             uint64
	Reaped, ReapedBytes           uint64
	Teardowns, Sweeps             uint64
	CPUTime                       time.Duration
	Since, LastReap, LastSweep    time.Time
	PolicyFiles                   []string
	PolicyError                   string
	BusConnected                  bool
	BusReconnects, Sessions, Held uint64
}

// Backend is the daemon behind the service. Its methods are called from several goroutines.
type Backend interface {
	// Snapshot reads no more than a file or two.
	Snapshot() Snapshot
	// Ancestors takes a census at or below a cgroup and measures at most limit of what it finds.
	Ancestors(ctx context.Context, under string, limit int) ([]Ancestor, error)
	// Leakers are the ledger's rows of a kind, or of all for "".
	Leakers(kind string) ([]Leaker, error)
	Sessions() []Session
	// Linger tells rates only if asked to.
	Linger(ctx context.Context, rates bool) ([]LingerUser, error)
	CronAudit(ctx context.Context) (jobs []CronJob, advice string, err error)
	// Policy tells also if everybody may read the files it comes from.
	Policy() (rows []PolicyRow, public bool)
	// CheckCgroup returns a cgroup's path in its one form, or an Error.
	CheckCgroup(path string) (string, error)
	// Sweep calls progress from a goroutine that must not wait.
	Sweep(ctx context.Context, under string, dry bool, progress func(SweepProgress)) (SweepResult, error)
	// SetLinger returns what was done ("enable", "disable" or "leave") and why.
	SetLinger(ctx context.Context, user string, on, dry bool) (action, why string, err error)
	Reload() error
	// LogLevel is one of syslog's names.
	LogLevel() string
	SetLogLevel(level string) error
	LogTarget() string
}
