package main

import (
	"cmp"
	"log/slog"
	"sync"
	"time"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/logind"
)

// jobs finds out which cron job opened a session. The session's processes
// tell, but not at once: cron opens the session, then forks and execs. Nor is
// it known at once whose session it is. So each new session is looked at some
// times, beside everything else, until it is clear.
type jobs struct {
	log       *slog.Logger
	inventory *cronguard.Cache
	session   func(id string) (logind.Session, bool)
	match     func(logind.Session, time.Time, []cronguard.Process) (job string, sure bool)

	mu      sync.Mutex
	found   map[string]*found // by session ID
	late    []lateJob
	working bool // on late
}

// lateJob is a session whose job is looked for after its end.
type lateJob struct {
	session logind.Session
	at      time.Time
	tell    func(job string)
}

// maxLate bounds those that wait. Of sessions beyond it is not known which job opened them.
const maxLate = 256

type found struct {
	began time.Time
	job   string // "" while nothing is known
}

// lookAt are the times after a session's start at which it is looked at.
var lookAt = [...]time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}

// maxFound bounds the sessions that are remembered. Of those beyond only the
// schedule tells.
const maxFound = 256

func newJobs(root string, log *slog.Logger) *jobs {
	j := &jobs{log: log, inventory: cronguard.NewCache(cmp.Or(root, "/")), found: map[string]*found{}}
	j.match = j.matchCrontabs
	return j
}

// began follows a session that may be cron's.
func (j *jobs) began(id string, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.found[id] != nil {
		return
	}
	if len(j.found) >= maxFound {
		j.forgetOldest()
	}
	f := &found{began: at}
	j.found[id] = f
	go j.follow(id, f)
}

func (j *jobs) follow(id string, f *found) {
	began := time.Now()
	for _, after := range lookAt {
		time.Sleep(time.Until(began.Add(after)))
		s, ok := j.session(id)
		if !ok || s.Service == "" { // ListSessions tells only the user
			continue
		}
		if !cronguard.Runs(s.Service) {
			break
		}
		procs, err := cronguard.Processes("/proc", int(s.Leader))
		job, sure := j.match(s, f.began, procs)
		j.mu.Lock()
		if job != "" {
			f.job = job
		}
		j.mu.Unlock()
		j.log.Debug("cron session", "session", id, "service", s.Service, "job", job, "processes", len(procs), "sure", sure)
		if sure || err != nil { // or the leader is gone
			return
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.found[id] == f && f.job == "" {
		delete(j.found, id)
	}
}

func (j *jobs) forgetOldest() {
	oldest := ""
	for id, f := range j.found {
		if oldest == "" || f.began.Before(j.found[oldest].began) {
			oldest = id
		}
	}
	delete(j.found, oldest)
}

// ended returns the ID of the job that opened a session which has ended, where it is known, or "" and since when the
// session was. search finds it out then.
func (j *jobs) ended(s *logind.Session, at time.Time) (job string, began time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.found[s.ID]
	delete(j.found, s.ID)
	if f == nil {
		return "", at
	}
	return f.job, f.began
}

// searchLate has the crontabs searched for the job of a session that has ended, and tells it if it is found. It does not
// wait: whoever asks delivers everybody's teardowns.
func (j *jobs) searchLate(s *logind.Session, began time.Time, tell func(job string)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.late) < maxLate {
		j.late = append(j.late, lateJob{*s, began, tell})
	}
	if !j.working {
		j.working = true
		go j.search()
	}
}

// search looks for the jobs of sessions that have ended, one after the other.
func (j *jobs) search() {
	for {
		j.mu.Lock()
		if len(j.late) == 0 {
			j.late, j.working = nil, false
			j.mu.Unlock()
			return
		}
		next := j.late[0]
		j.late = j.late[1:]
		j.mu.Unlock()
		if job, _ := j.match(next.session, next.at, nil); job != "" {
			next.tell(job)
		}
	}
}

func (j *jobs) matchCrontabs(s logind.Session, at time.Time, procs []cronguard.Process) (job string, sure bool) {
	inv, err := j.inventory.Inventory(time.Now())
	if err != nil {
		j.log.Debug("cron jobs cannot be read", "err", err)
	}
	if inv == nil {
		return "", false
	}
	m, ok := inv.Match(cronguard.Session{User: s.User, UID: s.UID, Service: s.Service, Leader: int(s.Leader), At: at}, procs)
	if !ok {
		return "", false
	}
	return m.Job.ID, m.Evidence != cronguard.BySchedule
}
