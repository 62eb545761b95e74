package main

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/reclaim"
)

// jobs finds out which cron job opened a session. The session's processes show
// it, but not at once: cron opens the session, then forks and execs. Nor is it
// known at once whose session it is. So each new session is looked at some
// times, until it is clear.
//
// Users decide how many sessions there are and what each one costs, so all of
// it is done by one goroutine within a budget, for which nobody waits.
type jobs struct {
	log       *slog.Logger
	inventory *cronguard.Cache
	session   func(id string) (logind.Session, bool)
	processes func(leader int) ([]cronguard.Process, error)
	match     func(logind.Session, time.Time, []cronguard.Process) (job string, sure bool)

	kick    chan struct{} // there is something to do
	reading chan struct{} // full while processes are read

	mu    sync.Mutex
	found map[string]*found // by session ID
	late  []lateJob
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
	job   string    // "" while nothing is known
	heard time.Time // when the session became known here
	next  time.Time // when it is looked at next; zero: no more
}

// lookAt are the times after a session's start at which it is looked at.
var lookAt = [...]time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}

const (
	// maxFound bounds the sessions that are remembered. Of those beyond only
	// the schedule tells.
	maxFound = 256
	// jobShare of one CPU is what finding jobs may take over any minute, and
	// jobBurst of that at once. A usual look takes 0.2 ms and a session has one
	// or two of them, so a minute is enough for 3,000 sessions. The dearest look
	// takes 30 ms (a user with a thousand jobs all alike). The clock is the
	// wall's: on a busy machine less is done.
	jobShare = 0.02
	jobBurst = 500 * time.Millisecond
	// readTime is how long a session's processes are waited for. It is some ms
	// for as many as are read.
	readTime = 200 * time.Millisecond
)

func newJobs(root string, log *slog.Logger) *jobs {
	j := &jobs{log: log, inventory: cronguard.NewCache(cmp.Or(root, "/")), found: map[string]*found{},
		kick: make(chan struct{}, 1), reading: make(chan struct{}, 1)}
	j.processes = func(leader int) ([]cronguard.Process, error) { return cronguard.Processes("/proc", leader) }
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
	now := time.Now()
	j.found[id] = &found{began: at, heard: now, next: now.Add(lookAt[0])}
	j.wake()
}

// wake has run look for something to do. It never blocks.
func (j *jobs) wake() {
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// run finds jobs until ctx ends.
func (j *jobs) run(ctx context.Context) {
	budget := reclaim.NewBudget(jobShare, jobBurst, time.Now())
	for {
		began := time.Now()
		wait := budget.Wait(0, began)
		if wait == 0 {
			wait = j.turn(began)
			budget.Spend(time.Since(began), time.Now())
		}
		select {
		case <-ctx.Done():
			return
		case <-j.kick:
		case <-time.After(wait):
		}
	}
}

// turn does what is first: one search for a session that has ended, and one
// look at one that lives, so that neither kind waits for all of the other. It
// returns for how long there is nothing more to do.
func (j *jobs) turn(now time.Time) time.Duration {
	j.mu.Lock()
	var late []lateJob
	if len(j.late) > 0 {
		late, j.late = j.late[:1], j.late[1:]
	}
	first, id := (*found)(nil), ""
	for i, f := range j.found {
		if !f.next.IsZero() && (first == nil || f.next.Before(first.next)) {
			first, id = f, i
		}
	}
	j.mu.Unlock()
	for _, l := range late {
		if job, _ := j.match(l.session, l.at, nil); job != "" {
			l.tell(job)
		}
	}
	switch {
	case first != nil && !first.next.After(now):
		j.look(id, first)
		return 0
	case len(late) > 0:
		return 0
	case first != nil:
		return first.next.Sub(now)
	}
	return time.Hour // until there is something
}

// look looks at a session once.
func (j *jobs) look(id string, f *found) {
	s, known := j.session(id)
	known = known && s.Service != "" // ListSessions tells only the user
	job, settled := "", false
	if known && cronguard.Runs(s.Service) {
		procs, err := j.below(int(s.Leader))
		var sure bool
		job, sure = j.match(s, f.began, procs)
		j.log.Debug("cron session", "session", id, "service", s.Service, "job", job, "processes", len(procs), "sure", sure)
		settled = sure || err != nil // or the leader is gone
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if job != "" {
		f.job = job
	}
	f.next = f.after(time.Now())
	none := f.next.IsZero() || known && !cronguard.Runs(s.Service)
	switch {
	case settled:
		f.next = time.Time{}
	case none && f.job == "" && j.found[id] == f:
		delete(j.found, id)
	}
}

// after is when a session is looked at next. Looks for which the budget came
// too late are not made up for.
func (f *found) after(now time.Time) time.Time {
	for _, d := range lookAt {
		if at := f.heard.Add(d); at.After(now) {
			return at
		}
	}
	return time.Time{}
}

// below reads the processes below a session's leader, one session's at a time.
// One that is stuck in the kernel holds the reader as long as it likes. Until
// then there are none for any session, and the schedule has to do.
func (j *jobs) below(leader int) ([]cronguard.Process, error) {
	select {
	case j.reading <- struct{}{}:
	default:
		return nil, nil
	}
	type result struct {
		procs []cronguard.Process
		err   error
	}
	done := make(chan result, 1)
	go func() {
		procs, err := j.processes(leader)
		<-j.reading
		done <- result{procs, err}
	}()
	select {
	case r := <-done:
		return r.procs, r.err
	case <-time.After(readTime):
		return nil, nil
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
		j.wake()
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
