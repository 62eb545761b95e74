package cronguard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/scopereap/scopereap/cronguard/pam"
	"github.com/scopereap/scopereap/internal/files"
)

// Source is the kind of place a job stands in.
type Source string

// Sources.
const (
	SystemTable Source = "crontab"   // /etc/crontab
	CronD       Source = "cron.d"    // /etc/cron.d
	RunParts    Source = "run-parts" // a script in /etc/cron.{hourly,daily,weekly,monthly}
	UserTable   Source = "user"      // a user's own crontab
	Anacron     Source = "anacron"   // /etc/anacrontab
	At          Source = "at"        // at's queue
)

// Job is one thing that cron, anacron or atd runs.
type Job struct {
	// ID names the job for a person and as a key: "/etc/cron.d/php:3", "/etc/cron.daily/logrotate",
	// and for all that a user queued with at "at:alice". It stays the same as long as the line
	// stays where it is.
	ID     string `json:"id"`
	Source Source `json:"source"`
	// File is a path as on the machine, without the root; Line is 0 where the whole file is the
	// job.
	File     string   `json:"file"`
	Line     int      `json:"line,omitempty"`
	Schedule Schedule `json:"schedule"`
	User     string   `json:"user"` // a number where /etc/passwd has no name
	// Command is what the shell gets, empty for at's jobs. It may hold secrets: see the package's
	// comment.
	Command    string  `json:"-"`
	RunsPerDay float64 `json:"runs_per_day"` // 0 at boot and for at's jobs, which run once
	AtBoot     bool    `json:"at_boot,omitempty"`
	// Service is the PAM service that is asked for a session: "cron", "crond" or "atd". It is empty
	// where no session is the job's own, and NoSession says why.
	Service   string `json:"service"`
	NoSession string `json:"no_session,omitempty"`
	// Via is the ID of the job that runs this one inside its own session, if one does.
	Via string `json:"via,omitempty"`
}

func (j Job) String() string { return j.ID + " (" + j.User + ")" }

// Problem is what could not be read, or what cron would not take. Line 0 is the whole file.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	Text string `json:"text"`
	// Denied: this process may not read it; root may.
	Denied bool `json:"denied,omitempty"`
}

func (p Problem) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
	}
	return p.File + ": " + p.Text
}

// Inventory is all jobs of a machine.
type Inventory struct {
	Jobs     []Job
	Problems []Problem
	Cronie   bool   // by cronie's rules, not Debian's
	Service  string // of cron to PAM: "crond" or "cron"

	users  map[string]string // by number
	stamps []stamp           // of all that was looked at

	indexed sync.Once
	byUser  map[string]*userJobs
}

// Bounds of an inventory, which is kept: a machine of thousands of users stays below maxJobs, and
// no person writes maxUserJobs lines, or queues so many with at.
const (
	maxJobs     = 50_000
	maxUserJobs = 1000
)

// ReadInventory finds the jobs of the machine whose root directory is root. What cannot be read or
// understood becomes a Problem. The error is for a root that cannot be read at all.
func ReadInventory(root string) (*Inventory, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("looking for cron jobs below %s: %w", root, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("looking for cron jobs: %s is not a directory; name a root directory", root)
	}
	r := reader{root: files.Root(root), rootUID: ownerOf(info), inv: &Inventory{}, zones: zones{}}
	r.findDaemon()
	r.readUsers()
	r.systemTable("/etc/crontab", SystemTable)
	for _, name := range r.names("/etc/cron.d") {
		if r.tableName(name) {
			r.systemTable(filepath.Join("/etc/cron.d", name), CronD)
		}
	}
	r.userTables()
	r.anacron()
	r.scripts()
	r.atQueues()
	return r.inv, nil
}

// reader gathers an inventory.
type reader struct {
	root files.Root
	// rootUID is who owns the root directory: root, but in a copy of one.
	rootUID uint32
	inv     *Inventory
	zones   zones
}

func (r *reader) problem(file string, line int, text string) {
	if len(r.inv.Problems) < maxJobs {
		r.inv.Problems = append(r.inv.Problems, Problem{File: file, Line: line, Text: text})
	}
}

// failed reports what the system would not do with a file. One that is not there is no problem.
func (r *reader) failed(file string, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	p := Problem{File: file, Text: reason(err)}
	if errors.Is(err, fs.ErrPermission) {
		p.Text, p.Denied = "cannot be read by this user; run this as root", true
	}
	r.inv.Problems = append(r.inv.Problems, p)
}

func (r *reader) add(j Job) {
	switch n := len(r.inv.Jobs); {
	case n < maxJobs:
		r.inv.Jobs = append(r.inv.Jobs, j)
	case n == maxJobs && !slices.ContainsFunc(r.inv.Problems, func(p Problem) bool { return p.Text == tooMany }):
		r.problem(j.File, j.Line, tooMany)
	}
}

var tooMany = fmt.Sprintf("there are more than %d jobs; those from here on are left out", maxJobs)

// findDaemon tells which cron this machine has, by PAM's files and the daemon's.
func (r *reader) findDaemon() {
	in := func(name string, dirs ...string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return r.exists(filepath.Join(dir, name)) })
	}
	dirs := pam.Dirs()
	r.inv.Service = "cron"
	if d, c := in("crond", dirs...), in("cron", dirs...); d && !c || d == c && in("crond", "/usr/sbin", "/usr/bin", "/sbin") {
		r.inv.Service = "crond"
	}
	// SUSE's cronie keeps the daemon's old name but asks PAM for "crond".
	r.inv.Cronie = r.inv.Service == "crond"
}

// tableName reports whether cron reads a file of this name in /etc/cron.d, and in a spool.
func (r *reader) tableName(name string) bool {
	if !r.inv.Cronie {
		return runPartsName(name)
	}
	return !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "#") && !strings.HasSuffix(name, "~") &&
		!hasAnySuffix(name, ".rpmsave", ".rpmorig", ".rpmnew")
}

func (r *reader) systemTable(file string, source Source) {
	text, info, err := r.read(file)
	if err != nil {
		r.failed(file, err)
		return
	}
	if uid := ownerOf(info); uid != r.rootUID {
		r.problem(file, 0, fmt.Sprintf("cron refuses it, because it belongs to UID %d and not to root: "+
			"its jobs do not run and are not listed; chown root %s", uid, file))
		return
	}
	if mode := info.Mode(); mode.Perm()&0o022 != 0 {
		r.problem(file, 0, fmt.Sprintf("cron refuses it, because others than root may write it (mode %04o): "+
			"its jobs do not run and are not listed; chmod go-w %s", mode.Perm(), file))
		return
	}
	lines, faults := parseTable(text, tableRules{System: true, Cronie: r.inv.Cronie, Zones: r.zones})
	r.faults(file, faults)
	for _, l := range lines {
		j := r.job(file, l, source)
		j.User = l.User
		if r.inv.Cronie && l.User == "root" && !r.oldCronie() {
			j.Service, j.NoSession = "", cronieRoot
		}
		r.add(j)
	}
}

// cronieRoot is why cronie from 1.5.0 on asks PAM nothing (its security.c).
const cronieRoot = "cronie opens no session for root's jobs in system tables"

// oldCronie reports whether cronie is older than 1.5.0: its directory below /usr/share/doc had its
// version in its name on Red Hat 7, the last that had one.
func (r *reader) oldCronie() bool {
	return slices.ContainsFunc([]string{"7", "8", "9", "10", "11", "12"}, func(n string) bool {
		return r.exists("/usr/share/doc/cronie-1.4." + n)
	})
}

func (r *reader) job(file string, l tableLine, source Source) Job {
	return Job{
		ID: fmt.Sprintf("%s:%d", file, l.Line), Source: source, File: file, Line: l.Line,
		Schedule: l.Schedule, Command: l.Command, RunsPerDay: l.Schedule.RunsPerDay(),
		AtBoot: l.Schedule.kind == atBoot, Service: r.inv.Service,
	}
}

func (r *reader) faults(file string, faults []fault) {
	for _, f := range faults {
		r.problem(file, f.Line, f.Text)
	}
}

// spools are where users' crontabs lie: on Debian, SUSE, and with cronie elsewhere.
var spools = []string{"/var/spool/cron/crontabs", "/var/spool/cron/tabs", "/var/spool/cron"}

// userTables reads the users' own crontabs. A file's name is its user's. Links are not followed: no
// cron makes any, and who can write a spool could lead root anywhere.
func (r *reader) userTables() {
	for _, dir := range spools {
		for _, user := range r.names(dir) {
			file := filepath.Join(dir, user)
			// crontab(1) writes to tmp.XXXX first.
			if _, ok := r.regular(file); !ok || strings.HasPrefix(user, ".") || strings.HasPrefix(user, "tmp.") ||
				strings.HasSuffix(user, "~") {
				continue
			}
			text, _, err := r.read(file)
			if err != nil {
				r.failed(file, err)
				continue
			}
			lines, faults := parseTable(text, tableRules{Cronie: r.inv.Cronie, Most: maxUserJobs, Zones: r.zones})
			r.faults(file, faults)
			for _, l := range lines {
				j := r.job(file, l, UserTable)
				j.User = user
				r.add(j)
			}
		}
	}
}

// hasAnySuffix reports whether s ends in one of the suffixes.
func hasAnySuffix(s string, suffixes ...string) bool {
	return slices.ContainsFunc(suffixes, func(x string) bool { return strings.HasSuffix(s, x) })
}
