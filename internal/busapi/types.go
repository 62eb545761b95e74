package busapi

import (
	"context"
	"time"
)

// The structs below go over the bus as they are: their fields' order and types are the interface's.

// Survey is what ListAncestors answers: a(sttsta(st)a{sx}), ttt.
type Survey struct {
	Ancestors   []Ancestor
	Dying, Live uint64 // at or below the cgroup asked about
	More        uint64 // ancestors beyond the limit
}

// Ancestor is a live cgroup with dying memcgs right below it: (sttsta(st)a{sx}).
type Ancestor struct {
	Path        string
	Direct      uint64 // dying memcgs right below
	Total       uint64 // and below its live children too
	Verdict     string // "reap", or why not
	Reclaimable uint64 // bytes
	Pins        []Pin  // where nothing is reclaimable
	// Dead is what the dying hold: lines of memory.stat in bytes, and "swap"; see the XML.
	Dead map[string]int64
}

// Pin is a reason why dying memcgs stay, and the bytes behind it.
type Pin struct {
	Reason string
	Bytes  uint64
}

// Leakers is what ListLeakers answers: a(ssttdttdtt), t, (ttd).
type Leakers struct {
	Rows      []Leaker
	Since     uint64 // when counting began, µs since 1970
	Forgotten Forgotten
}

// Forgotten is what rows had counted that gave way to others: (ttd).
type Forgotten struct {
	Sessions, Teardowns uint64
	Left                float64
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

// CronJob is a job of cron, anacron or at: (sssusssdbsssssusddsasss). Its command is left out: it may hold secrets.
type CronJob struct {
	ID, Source, File string
	Line             uint32
	User, Service    string
	Schedule         string // as written
	RunsPerDay       float64
	AtBoot           bool
	NoSession        string // why no session is the job's own, or nothing
	Via              string // ID of the job that runs it
	OpensSession     string // yes, no or unknown
	Class            string // of the session, where pam_systemd's line names one
	AtFile           string // that line
	AtLine           uint32
	Why              string
	Expected         float64 // memcgs a day
	Measured         float64 // likewise, or Unknown
	Remedy           string
	Others           []string
	Guard, GuardWhy  string
}

// CronProblem is what could not be read, or what cron would not take: (sus).
type CronProblem struct {
	File string
	Line uint32 // 0: the whole file
	Text string
}

// CronAudit is what CronAudit answers: its arguments.
type CronAudit struct {
	Jobs     []CronJob
	Advice   string
	Problems []CronProblem
	Systemd  uint32 // its version, or 0
}

// PolicyRow is one key of the policy in force: (sssu).
type PolicyRow struct {
	Key, Value string // Value as TOML
	File       string
	Line       uint32
}

// LingerChange is what AddLinger and RemoveLinger answer: ssusss.
type LingerChange struct {
	Action string // "enable", "disable" or "leave"
	Why    string // a clause, or nothing
	UID    uint32
	User   string
	Rule   string // that wants linger, or had wanted it
	Again  string // the rule that turns it on again
}

// PolicyFile is a file that was found when the policy in force was loaded: (sss).
type PolicyFile struct {
	Path, Status string
	By           string // the file that replaces or masks it
}

// PolicyWarning is a doubt about the policy in force: (susss).
type PolicyWarning struct {
	File           string
	Line           uint32
	Key, Msg, Hint string
}

// SweepResult is what a sweep did, or in a dry run would have to do.
type SweepResult struct {
	Before, After, Freed int64 // dying memcgs
	Bytes                int64 // given back; in a dry run: reclaimable
	Ancestors            int
	CPU                  time.Duration
	// What only the CLI shows.
	Live     int64
	Wall     time.Duration
	Outcomes []Outcome
	// PassedOver is how many cgroups the census could not look into, and so on, see reclaim.PassedOver.
	PassedOver, PassedOverDying    int64
	PassedOverFirst, PassedOverWhy string
	Later                          int64 // ancestors left to the next sweeps
	GivingWay                      GivingWay
}

// Outcome is how a sweep ended for one ancestor: (ssstttta(st)uutt).
type Outcome struct {
	Ancestor, Verdict, Error    string
	Before, After, Freed, Bytes uint64
	Pins                        []Pin
	Turns, Batches              uint32
	CPU, Wall                   uint64 // µs
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
	Ancestors(ctx context.Context, under string, limit int) (Survey, error)
	// Status is made of what is in memory.
	Status() Status
	// Leakers are the ledger's rows of a kind, or of all for "".
	Leakers(kind string) (Leakers, error)
	Sessions() []Session
	// Linger tells rates only if asked to; incomplete is why users may be missing, or empty.
	Linger(ctx context.Context, rates bool) (users []LingerUser, incomplete string, err error)
	CronAudit(ctx context.Context) (CronAudit, error)
	// Policy tells also if everybody may read the files it comes from.
	Policy() (rows []PolicyRow, public bool)
	PolicySources() ([]PolicyFile, []PolicyWarning)
	// CheckCgroup returns a cgroup's path in its one form, or an Error.
	CheckCgroup(path string) (string, error)
	// Sweep calls progress from a goroutine that must not wait.
	Sweep(ctx context.Context, under string, dry bool, progress func(SweepProgress)) (SweepResult, error)
	SetLinger(ctx context.Context, user string, on, dry bool) (LingerChange, error)
	Reload() error
	// LogLevel is one of syslog's names.
	LogLevel() string
	SetLogLevel(level string) error
	LogTarget() string
}
