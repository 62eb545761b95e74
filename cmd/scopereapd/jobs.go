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
// tell, but not at once: cron opens the session, then forks and execs. So each
// session of cron's is looked at some times, beside everything else.
type jobs struct {
	log       *slog.Logger
	inventory *cronguard.Cache

	mu    sync.Mutex
	found map[string]*found // by session ID
}

type found struct {
	leader uint32
	began  time.Time
	job    string // "" while nothing is known
	sure   bool   // the processes told, not the schedule alone
}

// lookAt are the times after a session's start at which its processes are
// looked at.
var lookAt = [...]time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}

// maxFound bounds the sessions of cron's that are remembered. Of those beyond
// only the schedule tells.
const maxFound = 256

func newJobs(root string, log *slog.Logger) *jobs {
	return &jobs{log: log, inventory: cronguard.NewCache(cmp.Or(root, "/")), found: map[string]*found{}}
}

func isCronService(service string) bool {
	switch service {
	case "cron", "crond", "atd":
		return true
	}
	return false
}

// began follows a session of cron's.
func (j *jobs) began(s *logind.Session, at time.Time) {
	if !isCronService(s.Service) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.found[s.ID] != nil {
		return
	}
	if len(j.found) >= maxFound {
		j.forgetOldest()
	}
	j.found[s.ID] = &found{leader: s.Leader, began: at}
	go j.follow(*s, at)
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

func (j *jobs) follow(s logind.Session, at time.Time) {
	began := time.Now()
	for _, after := range lookAt {
		time.Sleep(time.Until(began.Add(after)))
		procs, err := cronguard.Processes("/proc", int(s.Leader))
		job, sure := j.match(s, at, procs)
		j.mu.Lock()
		f := j.found[s.ID]
		if f == nil || f.leader != s.Leader { // it has ended meanwhile
			j.mu.Unlock()
			return
		}
		if job != "" {
			f.job, f.sure = job, sure
		}
		j.mu.Unlock()
		if sure || err != nil { // the leader is gone
			return
		}
	}
}

// ended returns the ID of the job that opened a session which has ended, or "".
func (j *jobs) ended(s *logind.Session, at time.Time) string {
	if !isCronService(s.Service) {
		return ""
	}
	j.mu.Lock()
	f := j.found[s.ID]
	delete(j.found, s.ID)
	j.mu.Unlock()
	if f != nil && f.job != "" {
		return f.job
	}
	if f != nil {
		at = f.began
	}
	job, _ := j.match(*s, at, nil)
	return job
}

func (j *jobs) match(s logind.Session, at time.Time, procs []cronguard.Process) (job string, sure bool) {
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
