package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/logind"
)

// runJobs runs jobs whose sessions are all cron's, in a bubble of synctest, and ends them with it.
func runJobs(t *testing.T, match func(logind.Session) (job string, sure bool)) *jobs {
	t.Helper()
	j := newJobs(t.TempDir(), slog.New(slog.DiscardHandler))
	j.session = func(id string) (logind.Session, bool) {
		return logind.Session{ID: id, Service: "cron", Leader: 10}, true
	}
	j.processes = func(int) ([]cronguard.Process, error) { return []cronguard.Process{{PID: 11}}, nil }
	j.match = func(s logind.Session, _ time.Time, _ []cronguard.Process) (string, bool) { return match(s) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { j.run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return j
}

// However many sessions begin and end, and however much work each one is, finding their jobs stays within its share of a
// CPU, bounded and one at a time, and who delivers the bus's events never waits.
func TestJobsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const dear = 30 * time.Millisecond
		var looks, now, most atomic.Int32
		j := runJobs(t, func(logind.Session) (string, bool) {
			looks.Add(1)
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(dear)
			now.Add(-1)
			return "", false
		})
		for minute := range 3 {
			before := looks.Load()
			for i := range 1000 {
				id, began := fmt.Sprint(minute, "-", i), time.Now()
				j.began(id, began)
				j.searchLate(&logind.Session{ID: id, Service: "cron"}, began, func(string) {})
				if waited := time.Since(began); waited > 0 {
					t.Fatalf("the bus waited %v", waited)
				}
				time.Sleep(time.Minute / 1000)
			}
			spent := time.Duration(looks.Load()-before) * dear
			// A turn is a look and a search.
			if share := time.Duration(jobShare * float64(time.Minute)); spent > share+2*dear || spent < share/3 {
				t.Errorf("minute %d took %v, and %v is its share", minute, spent, share)
			}
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		if most.Load() != 1 || len(j.found) > maxFound || len(j.late) > maxLate {
			t.Errorf("%d at a time, %d and %d wait", most.Load(), len(j.found), len(j.late))
		}
	})
}

// Sessions are looked at until it is clear which job they are.
func TestJobsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		looks := map[string][]time.Duration{}
		j := runJobs(t, func(s logind.Session) (string, bool) {
			looks[s.ID] = append(looks[s.ID], time.Since(start))
			return map[string]string{"clear": "a", "guess": "b"}[s.ID], s.ID == "clear"
		})
		for _, id := range []string{"clear", "guess", "none"} {
			j.began(id, start)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for id, want := range map[string]struct {
			job   string
			looks []time.Duration
		}{"clear": {"a", lookAt[:1]}, "guess": {"b", lookAt[:]}, "none": {"", lookAt[:]}} {
			job, _ := j.ended(&logind.Session{ID: id}, time.Now())
			if job != want.job || !slices.Equal(looks[id], want.looks) {
				t.Errorf("%s: job %q after looks at %v, want %q after %v", id, job, looks[id], want.job, want.looks)
			}
		}
	})
}

// A process that is stuck in the kernel holds up neither other sessions, which go by the schedule, nor the daemon's end.
func TestJobsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := runJobs(t, func(s logind.Session) (string, bool) { return "job of " + s.ID, false })
		free := make(chan struct{})
		defer close(free)
		var reads atomic.Int32
		j.processes = func(int) ([]cronguard.Process, error) { reads.Add(1); <-free; return nil, nil }
		j.began("a", time.Now())
		time.Sleep(time.Second)
		j.began("b", time.Now())
		time.Sleep(time.Second)
		for _, id := range []string{"a", "b"} {
			if job, _ := j.ended(&logind.Session{ID: id}, time.Now()); job != "job of "+id {
				t.Errorf("%s is %q", id, job)
			}
		}
		if n := reads.Load(); n != 1 {
			t.Errorf("%d readers are stuck", n)
		}
	})
}

// What is no cron session is forgotten at once, and so is what has ended; whose leader is gone is looked at no more; and a
// read that has ended makes room for the next.
func TestJobsForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := map[string]int{}
		j := runJobs(t, func(s logind.Session) (string, bool) { looks[s.ID]++; return "job of " + s.ID, false })
		j.session = func(id string) (logind.Session, bool) {
			service := map[string]string{"login": "sshd", "unasked": ""}
			s, ok := service[id]
			if !ok {
				s = "cron"
			}
			return logind.Session{ID: id, Service: s, Leader: 10}, id != "unknown"
		}
		reads := 0
		j.processes = func(int) ([]cronguard.Process, error) {
			if reads++; reads > 2 {
				return nil, errors.New("gone")
			}
			return nil, nil
		}
		remembered := func(id string) bool { j.mu.Lock(); defer j.mu.Unlock(); return j.found[id] != nil }
		j.began("cron", time.Now())
		synctest.Wait()
		j.began("login", time.Now())
		time.Sleep(time.Millisecond)
		if synctest.Wait(); remembered("login") || !remembered("cron") {
			t.Errorf("remembered: login %t, cron %t", remembered("login"), remembered("cron"))
		}
		j.began("unknown", time.Now())
		j.began("unasked", time.Now())
		time.Sleep(lookAt[2])
		if synctest.Wait(); !remembered("unknown") || !remembered("unasked") {
			t.Error("a session that is not known yet is looked at once only")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if remembered("unknown") || remembered("unasked") || looks["unknown"]+looks["unasked"]+looks["login"] != 0 {
			t.Errorf("looked at %v", looks)
		}
		if looks["cron"] != 3 { // two reads, and the one that says that its leader is gone
			t.Errorf("looked at cron's %d times", looks["cron"])
		}
		if job, _ := j.ended(&logind.Session{ID: "cron"}, time.Now()); job != "job of cron" || remembered("cron") {
			t.Errorf("job %q, and remembered: %t", job, remembered("cron"))
		}
		at := time.Now()
		if job, began := j.ended(&logind.Session{ID: "cron"}, at); job != "" || !began.Equal(at) {
			t.Errorf("job %q since %v of what is not known", job, began)
		}
	})
}

// The oldest gives way.
func TestJobsForgetOldest(t *testing.T) {
	j := newJobs(t.TempDir(), slog.New(slog.DiscardHandler))
	now := time.Now()
	for i := range maxFound {
		j.began(fmt.Sprint(i), now.Add(time.Duration((i+7)%maxFound)*time.Second))
	}
	j.began("new", now)
	if len(j.found) != maxFound || j.found[fmt.Sprint(maxFound-7)] != nil || j.found["new"] == nil {
		t.Errorf("%d are remembered, the oldest: %t", len(j.found), j.found[fmt.Sprint(maxFound-7)] != nil)
	}
}
