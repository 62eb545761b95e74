package logind

import (
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// steps drives a model by hand.
type steps struct {
	*testing.T
	*model
	now time.Time
}

func newSteps(t *testing.T) *steps { return &steps{T: t, model: newModel()} }

// want compares what was decided since the last call, and returns the questions asked, of units
// only.
func (s *steps) want(events ...string) []*ask {
	s.Helper()
	var got []string
	decided, asks := s.take()
	for _, e := range decided {
		got = append(got, e.Kind.String()+" "+e.Unit+" "+e.Signal)
	}
	if diff := cmp.Diff(events, got); diff != "" {
		s.Errorf("events (-want +got):\n%s", diff)
	}
	var of []*ask
	for _, a := range asks {
		if a.unit != nil {
			of = append(of, a)
		}
	}
	return of
}

// one is want for a step that must ask exactly one question.
func (s *steps) one(events ...string) *ask {
	s.Helper()
	asks := s.want(events...)
	if len(asks) != 1 {
		s.Fatalf("%d questions, want one", len(asks))
	}
	return asks[0]
}

const scope9 = "session-9.scope"

func TestModelWaitsForTheScopeOfAFirstLogin(t *testing.T) {
	s := newSteps(t)
	s.sessionNew("9", "/9", s.now)
	s.want()
	// A reconcile in the seconds in which the scope waits for the user's manager.
	s.listing()
	s.unitsListed([]listed{{scope9, "inactive", "dead"}}, 5, true, s.now)
	s.listsDone()
	s.answered(s.one(), answer{loaded: true})
	s.want()
	s.jobRemoved(scope9, "done", 9, s.now)
	s.sessionAnswered(s.sessions["9"], &Session{ID: "9", UID: 7, Scope: scope9}, false)
	s.answered(s.one(), answer{loaded: true, alive: true, path: "/user.slice/user-7.slice/" + scope9})
	s.want("started " + scope9 + " JobRemoved")
}

func TestModelPassesOverLateSignals(t *testing.T) {
	s := newSteps(t)
	s.jobRemoved(scope9, "done", 1, s.now)
	s.answered(s.one(), answer{loaded: true, alive: true, path: "/x/" + scope9, seq: 2})
	s.want("started " + scope9 + " JobRemoved")
	s.unitsListed(nil, 5, true, s.now) // not listed any more
	s.answered(s.one(), answer{seq: 10})
	s.want("teardown " + scope9 + " reconcile")
	s.jobRemoved(scope9, "done", 7, s.now) // the stop job, sent before the answer
	s.sessionNew("9", "/9", s.now)         // logind was slower still
	s.sessionRemoved("9", 11, s.now)
	s.unitRemoved(scope9, 8, s.now)
	if asks := s.want(); len(asks) != 0 || len(s.units) != 0 {
		t.Errorf("%d questions, units %v", len(asks), s.units)
	}
}

func TestModelDistrustsAnOldList(t *testing.T) {
	s := newSteps(t)
	s.jobRemoved("a.scope", "done", 1, s.now)
	s.answered(s.one(), answer{loaded: true, alive: true, path: "/system.slice/a.scope", seq: 2})
	s.want("started a.scope JobRemoved")
	s.listing()
	s.unitRemoved("a.scope", 9, s.now)
	s.want("teardown a.scope UnitRemoved")
	s.unitsListed([]listed{{"a.scope", "active", "running"}}, 8, true, s.now) // made before the removal
	s.listsDone()
	if asks := s.want(); len(asks) != 0 {
		t.Errorf("asked about what is gone")
	}
	s.listing()
	s.unitRemoved("a.scope", 20, s.now)
	s.unitsListed([]listed{{"a.scope", "active", "running"}}, 21, true, s.now) // made after: it lives again
	s.listsDone()
	s.answered(s.one(), answer{loaded: true, alive: true, path: "/system.slice/a.scope", seq: 22})
	s.want("started a.scope reconcile")
}

func TestModelOneshotRunsWhileItIsLookedFor(t *testing.T) {
	s := newSteps(t)
	s.unitNew("a.service", s.now)
	early := s.one()
	s.jobRemoved("a.service", "done", 3, s.now)
	s.answered(early, answer{loaded: true, path: "/b.slice/a.service", seq: 2}) // it had not begun
	s.answered(s.one(), answer{loaded: true, id: "01", seq: 4})
	s.want("teardown a.service JobRemoved")
	s.jobRemoved("a.service", "done", 5, s.now) // a stop of what does not run
	s.answered(s.one(), answer{loaded: true, id: "01", seq: 6})
	s.want()
}

func TestModelReloadRemovesNothing(t *testing.T) {
	s := newSteps(t)
	s.jobRemoved("a.scope", "done", 1, s.now)
	s.answered(s.one(), answer{loaded: true, alive: true, path: "/system.slice/a.scope"})
	s.want("started a.scope JobRemoved")
	s.reload(true)
	s.unitRemoved("a.scope", 2, s.now)
	s.unitNew("a.scope", s.now)
	s.unitNew("b.service", s.now)
	if asks := s.want(); len(asks) != 0 || !s.units["a.scope"].alive {
		t.Errorf("a reload asked %d questions; a.scope %+v", len(asks), s.units["a.scope"])
	}
	if !s.reload(false) {
		t.Error("the end of a reload asks for no list")
	}
	s.unitsListed([]listed{{"a.scope", "active", "running"}}, 3, false, s.now)
	if asks := s.want(); len(asks) != 0 {
		t.Error("asked about what lives on")
	}
	// Unit files were read again: the path is no proof of absence any more.
	s.jobRemoved("a.scope", "done", 4, s.now)
	if a := s.one(); a.exact {
		t.Error("the slice may have changed")
	}
}

func TestModelJobsThatDidNothing(t *testing.T) {
	s := newSteps(t)
	for _, result := range []string{"skipped", "dependency", "invalid", "assert", "unsupported", "collected", "once", ""} {
		s.jobRemoved("a.scope", result, 1, s.now)
	}
	if asks := s.want(); len(asks) != 0 || len(s.units) != 0 {
		t.Errorf("%d questions, units %v", len(asks), s.units)
	}
}

func TestModelMovedUnit(t *testing.T) {
	s := newSteps(t)
	s.jobRemoved("a.service", "done", 1, s.now)
	s.answered(s.one(), answer{loaded: true, alive: true, path: "/system.slice/a.service", id: "01"})
	s.want("started a.service JobRemoved")
	s.reload(true)
	s.reload(false)
	s.jobRemoved("a.service", "done", 2, s.now)
	s.answered(s.one(), answer{loaded: true, alive: true, path: "/b.slice/a.service", id: "02"})
	s.want("teardown a.service JobRemoved", "started a.service JobRemoved")
	if u := s.units["a.service"]; u.path != "/b.slice/a.service" || u.id != "02" || u.lastID != "01" {
		t.Errorf("%+v", u)
	}
}

// A scope can outlive its session (KillUserProcesses=no): PID 1 has the last word, if it has one.
func TestModelSessionRemoved(t *testing.T) {
	for _, c := range []struct {
		what   string
		answer answer
		want   []string
	}{
		{"lives on", answer{loaded: true, alive: true, path: "/x/" + scope9}, nil},
		{"gone", answer{}, []string{"teardown " + scope9 + " SessionRemoved"}},
		{"no answer", answer{err: errClosed}, []string{"teardown " + scope9 + " SessionRemoved"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newSteps(t)
			s.sessionNew("9", "/9", s.now)
			s.sessionAnswered(s.sessions["9"], &Session{ID: "9", UID: 7, Scope: scope9}, false)
			s.jobRemoved(scope9, "done", 1, s.now)
			s.answered(s.one(), answer{loaded: true, alive: true, path: "/x/" + scope9})
			s.want("started " + scope9 + " JobRemoved")
			s.sessionRemoved("9", dbus.Sequence(2), s.now)
			s.answered(s.one(), c.answer)
			s.want(c.want...)
		})
	}
}

// logind can take seconds to answer when many log in at once; a hold must get into the scope
// before.
func TestModelDoesNotWaitForLogind(t *testing.T) {
	s := newSteps(t)
	s.sessionNew("9", "/9", s.now)
	s.jobRemoved(scope9, "done", 1, s.now)
	a := s.one()
	if a.guess != "" || a.exact {
		t.Errorf("asked %+v", a)
	}
	s.answered(a, answer{loaded: true, alive: true, path: "/user.slice/user-7.slice/" + scope9})
	s.want("started " + scope9 + " JobRemoved")
	s.sessionAnswered(s.sessions["9"], &Session{ID: "9", UID: 7, Scope: scope9}, false)
	s.unitRemoved(scope9, 2, s.now)
	decided, _ := s.take()
	if len(decided) != 1 || decided[0].Session == nil || decided[0].UID != 7 {
		t.Errorf("teardown %+v", decided)
	}
}

// logind's word that a session is over must not be lost behind another question whose answer fails.
func TestModelKeepsTheFinalWord(t *testing.T) {
	s := newSteps(t)
	s.jobRemoved(scope9, "done", 1, s.now)
	s.answered(s.one(), answer{loaded: true, alive: true, path: "/x/" + scope9})
	s.want("started " + scope9 + " JobRemoved")
	s.jobRemoved(scope9, "done", 2, s.now)
	first := s.one()
	s.sessionRemoved("9", 3, s.now)
	s.jobRemoved(scope9, "done", 4, s.now)
	s.answered(first, answer{err: errClosed})
	s.answered(s.one(), answer{err: errClosed})
	s.want("teardown " + scope9 + " SessionRemoved")
}

// While lists are made every removal counts, or what they still have would be taken for alive.
func TestKnowsWhileListing(t *testing.T) {
	l := New(Options{})
	l.model.listing()
	if !l.knows("session-1.scope") {
		t.Error("what is removed meanwhile is passed over")
	}
	l.model.listsDone()
	if l.knows("session-1.scope") {
		t.Error("what nobody has heard of is known")
	}
}

// TestModelReloadEndsWithItsBus: nobody says that a reload is over if the bus was lost in the middle of it.
func TestModelReloadEndsWithItsBus(t *testing.T) {
	s := newSteps(t)
	s.jobRemoved("a.scope", "done", 1, s.now)
	s.answered(s.one(), answer{loaded: true, alive: true, path: "/system.slice/a.scope"})
	s.want("started a.scope JobRemoved")
	s.reload(true)
	s.disconnected()
	s.unitRemoved("a.scope", 2, s.now)
	s.want("teardown a.scope UnitRemoved")
}
