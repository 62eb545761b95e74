package cronguard

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/scopereap/scopereap/cronguard/pam"
)

// Remedy is what would keep a job from leaving dying memcgs.
type Remedy string

// Remedies, in the order in which to prefer them.
const (
	RemedyNone    Remedy = "-"                // nothing to do
	RemedyGuard   Remedy = "guard"            // scopereapctl cron guard
	RemedyNoClass Remedy = "class=none"       // on the pam_systemd line, from systemd 258
	RemedyLight   Remedy = "background-light" // class=, from systemd 256: no user manager
	RemedyLinger  Remedy = "linger"           // for the user: slice and manager stay
	RemedyDisable Remedy = "disable the job"
)

// AuditService is what is known of the PAM service that opens a job's session.
type AuditService struct {
	Stack pam.StackVerdict
	Guard pam.GuardState
}

// AuditInput is what an audit judges by, beside the jobs.
type AuditInput struct {
	Systemd  int                     // its version; 0: not known
	Services map[string]AuditService // by PAM service; see AuditServices
	Lingers  func(user string) bool  // nil: nobody does
	// Measured is how many memcgs a job leaves a day by the ledger, under Job.ID; nil: there is
	// none.
	Measured func(jobID string) (perDay float64, ok bool)
	// UserStopDelay is logind's UserStopDelaySec=; 0: its default, 10 s.
	UserStopDelay time.Duration
}

// AuditRow is what a job costs and what helps. Several of a user's at jobs are one row.
type AuditRow struct {
	Job
	// Opens: whether a logind session is made for the job; SessionWhy has the pam_systemd line or
	// the reason.
	Opens      pam.Tri   `json:"opens_session"`
	Class      string    `json:"class,omitempty"`
	At         pam.Place `json:"at"` // the pam_systemd line
	SessionWhy string    `json:"session_why"`
	// Expected memcgs a day (cgroup v2); 0 where no session opens, as many as might be where that
	// is not known.
	Expected float64 `json:"expected_per_day"`
	// Measured memcgs a day, null where nothing was.
	Measured *float64      `json:"measured_per_day"`
	Remedy   Remedy        `json:"remedy"`
	Others   []Remedy      `json:"other_remedies"`
	Guard    pam.GuardKind `json:"guard"`
	GuardWhy string        `json:"guard_why,omitempty"`
}

// AuditReport is an audit of a whole machine: what `scopereapctl cron audit --json` writes.
type AuditReport struct {
	Root     string     `json:"root"`
	Systemd  int        `json:"systemd"` // its version; 0: not known
	Jobs     []AuditRow `json:"jobs"`
	Problems []Problem  `json:"problems"`
	Advice   string     `json:"advice"`
}

// AuditMachine audits the system below root, "/" for this one. It finds out in's Services itself.
func AuditMachine(root string, in AuditInput) (AuditReport, error) {
	r := AuditReport{Root: root, Systemd: in.Systemd, Jobs: []AuditRow{}, Problems: []Problem{}}
	inv, err := ReadInventory(root)
	if err != nil {
		return r, err
	}
	services, more := AuditServices(inv, root, filepath.Join(root, pam.DefaultStateDir))
	in.Services = services
	r.Jobs = Audit(inv, in)
	r.Problems = append(append(r.Problems, inv.Problems...), more...)
	r.Advice = Advice(r.Jobs)
	return r, nil
}

// AuditServices asks about every PAM service that the jobs use. What cannot be read becomes a
// Problem, and its verdict is Unknown.
func AuditServices(inv *Inventory, root, stateDir string) (map[string]AuditService, []Problem) {
	out := map[string]AuditService{}
	var problems []Problem
	for _, j := range inv.Jobs {
		if _, done := out[j.Service]; done || j.Service == "" {
			continue
		}
		var s AuditService
		var err error
		if s.Stack, err = pam.SessionStack(root, j.Service); err != nil {
			s.Stack.Runs, s.Stack.Why = pam.Unknown, err.Error()
			problems = append(problems, Problem{File: "/etc/pam.d/" + j.Service, Text: err.Error()})
		}
		if s.Guard, err = pam.GuardStatus(root, stateDir, j.Service); err != nil {
			problems = append(problems, Problem{File: "/etc/pam.d/" + j.Service, Text: err.Error()})
		}
		out[j.Service] = s
	}
	return out, problems
}

// Audit says of each job what it costs and what helps, worst first: by what was measured, else by
// what is expected.
func Audit(inv *Inventory, in AuditInput) []AuditRow {
	rows := []AuditRow{}
	seen := map[string]bool{}
	for _, j := range inv.Jobs {
		if j.Source == At && seen[j.ID] {
			continue
		}
		seen[j.ID] = true
		rows = append(rows, in.judge(j))
	}
	in.expect(rows)
	for i := range rows {
		r := &rows[i]
		if in.Measured != nil {
			if n, ok := in.Measured(r.ID); ok {
				r.Measured = &n
			}
		}
		r.Remedy, r.Others = in.remedies(*r)
	}
	slices.SortStableFunc(rows, func(a, b AuditRow) int {
		return cmp.Or(cmp.Compare(b.weight(), a.weight()), cmp.Compare(a.rank(), b.rank()),
			cmp.Compare(b.RunsPerDay, a.RunsPerDay), cmp.Compare(a.ID, b.ID))
	})
	return rows
}

func (r AuditRow) weight() float64 {
	if r.Measured != nil {
		return *r.Measured
	}
	return r.Expected
}

// rank puts what may open a session before what does not.
func (r AuditRow) rank() int {
	return map[pam.Tri]int{pam.Yes: 0, pam.Unknown: 1, pam.No: 2}[r.Opens]
}

// judge says whether a job opens a session.
func (in AuditInput) judge(j Job) AuditRow {
	r := AuditRow{Job: j, Others: []Remedy{}, Guard: pam.GuardNone}
	if j.Service == "" {
		r.Opens, r.SessionWhy = pam.No, j.NoSession
		return r
	}
	s, ok := in.Services[j.Service]
	if !ok {
		r.SessionWhy = "the PAM service " + j.Service + " was not looked at"
		return r
	}
	r.Opens, r.Class, r.At, r.SessionWhy = s.Stack.Runs, s.Stack.Class, s.Stack.At, s.Stack.Why
	if s.Guard.Kind != "" {
		r.Guard, r.GuardWhy = s.Guard.Kind, s.Guard.Why
	}
	if r.Opens == pam.Yes && r.Class == pam.ClassNone && in.Systemd >= pam.ClassNoneSince {
		r.Opens, r.SessionWhy = pam.No, "pam_systemd makes none for class=none"
	}
	return r
}

// Memcgs that come and go on cgroup v2: each session's scope, and for a user who does not linger
// the slice, the user manager and the runtime directory, with the first and the last of sessions
// that overlap.
const (
	perSession = 1
	perUser    = 3
)

// defaultStopDelay is how long logind keeps a user's slice after the last session
// (UserStopDelaySec=).
const defaultStopDelay = 10 * time.Second

// expect fills in how many memcgs a day each row leaves. Jobs begin at whole minutes, so all of a
// user's that begin in one minute share a slice, and there can be no more lives of it in a day than
// minutes, or than delays.
func (in AuditInput) expect(rows []AuditRow) {
	delay := max(time.Minute, cmp.Or(in.UserStopDelay, defaultStopDelay))
	most := float64(24*time.Hour) / float64(delay)
	runs := map[string]float64{}
	for _, r := range rows {
		if r.Opens != pam.No && !r.noManager() {
			runs[r.User] += r.RunsPerDay
		}
	}
	for i := range rows {
		r := &rows[i]
		if r.Opens == pam.No {
			continue
		}
		r.Expected = r.RunsPerDay * perSession
		if all := runs[r.User]; all > 0 && !r.noManager() && !in.lingers(r.User) {
			r.Expected += perUser * r.RunsPerDay * min(1, most/all)
		}
		r.Expected = math.Round(r.Expected*1e6) / 1e6
	}
}

// noManager reports whether the session's class starts no user manager, so that the slice is all
// there is beside it.
func (r AuditRow) noManager() bool { return r.Class == string(RemedyLight) }

func (in AuditInput) lingers(user string) bool { return in.Lingers != nil && in.Lingers(user) }

// remedies are the best one and others, for this job on this systemd. A class does not help
// cronie's jobs.
func (in AuditInput) remedies(r AuditRow) (Remedy, []Remedy) {
	others := []Remedy{}
	if r.Opens == pam.No {
		return RemedyNone, others
	}
	if !pam.ClassOverridden(r.Service) {
		switch {
		case in.Systemd >= pam.ClassNoneSince:
			others = append(others, RemedyNoClass)
		case in.Systemd >= 256 && !r.noManager():
			others = append(others, RemedyLight)
		}
	}
	if !in.lingers(r.User) && !r.noManager() {
		others = append(others, RemedyLinger)
	}
	others = append(others, RemedyDisable)
	return RemedyGuard, others
}

// Advice is a sentence with the one thing that helps most, empty where nothing needs help.
func Advice(rows []AuditRow) string {
	total := 0.0
	byService := map[string]float64{}
	unknown := ""
	for _, r := range rows {
		total += r.weight()
		switch {
		case r.Opens == pam.Yes && r.Remedy == RemedyGuard:
			byService[r.Service] += r.weight()
		case r.Opens == pam.Unknown && unknown == "":
			unknown = fmt.Sprintf("Whether the jobs of %s open sessions is not known: %s.", r.Service, r.SessionWhy)
		}
	}
	best := ""
	for s, n := range byService {
		if best == "" || n > byService[best] || n == byService[best] && s < best {
			best = s
		}
	}
	if best == "" {
		return unknown
	}
	share := " keeps them from leaving memcgs"
	if total > 0 {
		share = fmt.Sprintf(" takes away %.0f %% of these memcgs", 100*byService[best]/total)
	}
	return fmt.Sprintf("Best: scopereapctl cron guard %s%s; see what it changes with --dry-run.", best, share)
}
