package cronguard

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Session is what logind tells of a login session.
type Session struct {
	User    string
	UID     uint32
	Service string    // the PAM service that opened it
	Leader  int       // PID of the process that opened it: cron's child, which is the job's parent
	At      time.Time // when, in the machine's time zone
}

// How a session was found to be a job's.
const (
	ByCommand  = "command"  // a shell below the leader runs the job's command
	ByWords    = "words"    // a process below it is the command, which the shell became
	ByRunParts = "runparts" // run-parts below the leader runs the job's directory
	BySchedule = "schedule" // no process tells, but only one job of the user was due
	ByService  = "service"  // only at's jobs come from atd
)

// Match is the job that opened a session, or those that may have.
type Match struct {
	Job      Job
	Evidence string
	// Candidates are those that fit equally well where more than one does; Job is then empty.
	Candidates []Job
}

// Match finds the job that opened a session, from the processes below the session's leader, and
// where these tell nothing (they have ended, or have not begun) from what was due. It is true where
// exactly one job fits. All of a user's at jobs count as one, and such a session always matches.
//
// The command is not there yet when logind tells of the session: cron opens it, then forks and
// execs. A caller should ask at once, and after some 20, 100 and 500 ms while the evidence is
// BySchedule or none.
func (inv *Inventory) Match(s Session, procs []Process) (Match, bool) {
	if s.Service == atService {
		user := inv.userOf(s)
		return Match{Job: Job{
			ID: atID(user), Source: At, User: user, Service: atService, Schedule: Schedule{text: "once", kind: oneTime},
		}, Evidence: ByService}, true
	}
	if !isCron(s.Service) {
		return Match{}, false
	}
	of := inv.of(s)
	procs = slices.Clone(procs)
	slices.SortStableFunc(procs, func(a, b Process) int { return a.Depth - b.Depth })
	// The shallowest process that fits is cron's own child; below it anything may run.
	compared := 0
	for _, p := range procs {
		for _, how := range evidences {
			var fit []*Job
			for _, j := range how.candidates(of, p.Args) {
				if compared++; compared > maxCompared {
					break
				}
				if how.fits(j.Command, p.Args) {
					fit = append(fit, j)
				}
			}
			if len(fit) > 0 {
				if len(fit) > 1 { // of several jobs with one command, those that are due
					if now := due(fit, s.At); len(now) > 0 {
						fit = now
					}
				}
				return unique(fit, how.name)
			}
		}
	}
	fit := of.due(s.At)
	// A busy machine's cron is late.
	if len(fit) == 0 {
		fit = of.due(s.At.Add(-time.Minute))
	}
	fit = slices.DeleteFunc(slices.Clone(fit), func(j *Job) bool { return j.Service == "" })
	return unique(fit, BySchedule)
}

// maxCompared bounds the pairs of job and process that are compared, at some 3 µs each: a user may
// have a thousand jobs that all look alike, and sixty processes like them.
const maxCompared = 10_000

var evidences = []struct {
	name       string
	candidates func(u *userJobs, args []string) []*Job
	fits       func(command string, args []string) bool
}{
	{ByCommand, (*userJobs).ofShell, isShellOf},
	{ByWords, (*userJobs).ofWords, isWordsOf},
	{ByRunParts, (*userJobs).ofRunParts, isRunPartsOf},
}

// maxCandidates are listed where several jobs fit.
const maxCandidates = 100

func unique(fit []*Job, evidence string) (Match, bool) {
	switch len(fit) {
	case 0:
		return Match{}, false
	case 1:
		return Match{Job: *fit[0], Evidence: evidence}, true
	}
	fit = fit[:min(len(fit), maxCandidates)]
	m := Match{Evidence: evidence}
	for _, j := range fit {
		m.Candidates = append(m.Candidates, *j)
	}
	slices.SortFunc(m.Candidates, func(a, b Job) int { return cmp.Compare(a.ID, b.ID) })
	return m, false
}

func due(jobs []*Job, at time.Time) []*Job {
	var out []*Job
	for _, j := range jobs {
		if j.Schedule.Due(at) {
			out = append(out, j)
		}
	}
	return out
}

func (inv *Inventory) userOf(s Session) string {
	if s.User != "" {
		return s.User
	}
	return inv.userName(s.UID)
}

// Runs reports whether sessions of a PAM service run jobs, of cron or of at: those that Match can
// find.
func Runs(service string) bool { return isCron(service) || service == atService }

// isCron reports whether a PAM service is cron's.
func isCron(service string) bool { return service == "cron" || service == "crond" }

// isShellOf reports whether a process is "SHELL -c COMMAND", as cron starts it. The shell is
// whatever SHELL= says.
func isShellOf(command string, args []string) bool {
	return len(args) == 3 && args[1] == "-c" && sameCommand(args[2], command)
}

// sameCommand compares what a process shows with what the table says. A carriage return at a line's
// end is in the former only.
func sameCommand(shown, command string) bool { return trimmed(shown) == trimmed(command) }

func trimmed(command string) string { return strings.TrimRight(command, " \t\r") }

// isWordsOf reports whether a process is a simple command itself. Shells do not fork for the last
// command of -c, but become it: "nice -n5 /opt/x y" is "nice -n5 /opt/x y" and then "/opt/x y", for
// a script with its interpreter in front.
func isWordsOf(command string, args []string) bool {
	if len(args) == 0 || strings.ContainsAny(command, "|&;<>()$`\\\"'*?[#~\n") {
		return false
	}
	words := strings.Fields(command)
	for len(words) > 0 && (strings.Contains(words[0], "=") || words[0] == "exec") {
		words = words[1:]
	}
	if len(words) == 0 {
		return false
	}
	if sameWords(words, args) || len(args) > 1 && sameWords(words, args[1:]) {
		return true
	}
	// What a wrapper became: at least the program with its path, at the end of the line.
	n := len(words) - len(args)
	return n > 0 && strings.HasPrefix(words[n], "/") && slices.Equal(words[n:], args)
}

// sameWords compares arguments; the program may be shown with its path or without.
func sameWords(words, args []string) bool {
	return len(words) == len(args) && path.Base(words[0]) == path.Base(args[0]) && slices.Equal(words[1:], args[1:])
}

// isRunPartsOf reports whether a process is run-parts for a directory that the command hands to it.
func isRunPartsOf(command string, args []string) bool {
	if len(args) < 2 || !strings.Contains(command, "run-parts") {
		return false
	}
	i := slices.IndexFunc(args, func(a string) bool { return path.Base(a) == "run-parts" })
	dir := path.Clean(args[len(args)-1])
	return i >= 0 && i < len(args)-1 && i < 3 && path.IsAbs(dir) && dir != "/" && mentions(command, dir)
}

// userJobs are the lines of crontabs that run as one user: only they have sessions from cron. Those
// that may be what a process runs are found by what the process shows.
type userJobs struct {
	all      []*Job
	byShell  map[string][]*Job // by the whole command
	byWord   map[string][]*Job // by the last word, which all ways to run a command end with
	runParts []*Job            // that run directories

	mu  sync.Mutex
	now []dueJobs // for the minutes that were asked about last
}

type dueJobs struct {
	at   time.Time
	jobs []*Job
}

// of finds a session's user's jobs.
func (inv *Inventory) of(s Session) *userJobs {
	inv.indexed.Do(inv.index)
	id := strconv.FormatUint(uint64(s.UID), 10)
	byName, byID := inv.byUser[s.User], inv.byUser[id]
	switch {
	case byName == nil && byID == nil:
		return &userJobs{}
	case byID == nil:
		return byName
	case byName == nil:
		return byID
	}
	// Some lines name the user, others the number.
	return indexed(append(slices.Clone(byName.all), byID.all...))
}

func (inv *Inventory) index() {
	lines := map[string][]*Job{}
	for i := range inv.Jobs {
		if j := &inv.Jobs[i]; j.Source == SystemTable || j.Source == CronD || j.Source == UserTable {
			lines[j.User] = append(lines[j.User], j)
		}
	}
	inv.byUser = make(map[string]*userJobs, len(lines))
	for user, jobs := range lines {
		inv.byUser[user] = indexed(jobs)
	}
}

func indexed(jobs []*Job) *userJobs {
	u := &userJobs{all: jobs, byShell: map[string][]*Job{}, byWord: map[string][]*Job{}}
	for _, j := range jobs {
		command := trimmed(j.Command)
		u.byShell[command] = append(u.byShell[command], j)
		last := lastWord(command)
		u.byWord[last] = append(u.byWord[last], j)
		if strings.Contains(command, runPartsWord) {
			u.runParts = append(u.runParts, j)
		}
	}
	return u
}

const runPartsWord = "run-parts"

// lastWord is a program's name without its path, where it is the only word.
func lastWord(command string) string {
	words := strings.Fields(command)
	if len(words) == 0 {
		return ""
	}
	return path.Base(words[len(words)-1])
}

func (u *userJobs) ofShell(args []string) []*Job {
	if len(args) != 3 || args[1] != "-c" {
		return nil
	}
	return u.byShell[trimmed(args[2])]
}

func (u *userJobs) ofWords(args []string) []*Job {
	if len(args) == 0 {
		return nil
	}
	return u.byWord[path.Base(args[len(args)-1])]
}

func (u *userJobs) ofRunParts(args []string) []*Job {
	if !slices.ContainsFunc(args[:min(len(args), 3)], func(a string) bool { return path.Base(a) == runPartsWord }) {
		return nil
	}
	return u.runParts
}

// due are the jobs due in a minute. A user with a thousand of them and a long RANDOM_DELAY has a
// million minutes looked at for it, so it is remembered: sessions begin with the minute, many at
// once.
func (u *userJobs) due(at time.Time) []*Job {
	at = at.Truncate(time.Minute)
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, d := range u.now {
		if d.at.Equal(at) && d.at.Location() == at.Location() {
			return d.jobs
		}
	}
	d := dueJobs{at, due(u.all, at)}
	if u.now = append(u.now, d); len(u.now) > 2 {
		u.now = u.now[1:]
	}
	return d.jobs
}
