package cronguard

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// userJobs are the lines of crontabs that run as one user: only they have sessions from cron. Those that may be what a
// process runs are found by what the process shows.
type userJobs struct {
	all      []*Job
	byShell  map[string][]*Job // by the whole command
	byWord   map[string][]*Job // by the last word, which every way to run a simple command ends with
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
	if u := inv.byUser[s.User]; u != nil && inv.byUser[id] == nil {
		return u
	} else if byID := inv.byUser[id]; u == nil && byID != nil {
		return byID
	} else if u == nil {
		return &userJobs{}
	} else { // some lines name the user, others the number
		return indexed(append(slices.Clone(u.all), inv.byUser[id].all...))
	}
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

// due are the jobs due in a minute. A user with a thousand of them and a long RANDOM_DELAY has a million minutes looked
// at for it, so it is remembered: sessions begin with the minute, many at once.
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
