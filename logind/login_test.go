package logind

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scopereap/scopereap/internal/bustest"
)

var ignoreTime = cmpopts.IgnoreFields(Event{}, "At")

func alice(id string) bustest.Session {
	return bustest.Session{ID: id, UID: 1000, User: "alice", Service: "sshd", Class: "user", Type: "tty",
		Leader: 4242, Remote: true, RemoteHost: "192.0.2.7"}
}

func TestLoginAndLogout(t *testing.T) {
	h := start(t, Options{}, nil)
	h.m.AddSession(alice("1"))
	h.sync()
	session := Session{ID: "1", UID: 1000, User: "alice", Service: "sshd", Class: "user", Type: "tty",
		Leader: 4242, Remote: true, RemoteHost: "192.0.2.7", Scope: "session-1.scope"}
	if diff := cmp.Diff([]Session{session}, h.l.Snapshot()); diff != "" {
		t.Errorf("Snapshot (-want +got):\n%s", diff)
	}
	h.m.RemoveSession("1")
	h.sync()
	h.m.RemoveUser(1000)
	h.sync()

	scope := Event{Unit: "session-1.scope", ControlGroup: "/user.slice/user-1000.slice/session-1.scope",
		Session: &session, UID: 1000, HasUID: true}
	started, ended := scope, scope
	started.Kind, started.Signal = Started, SignalJobRemoved
	ended.Kind, ended.Signal = Teardown, SignalUnitRemoved
	got := h.events("session-1.scope")
	if len(got) > 0 && got[0].Session == nil {
		started.Session = nil // logind's answer came after PID 1's
	}
	if diff := cmp.Diff([]Event{started, ended}, got, ignoreTime); diff != "" {
		t.Errorf("the scope's events (-want +got):\n%s", diff)
	}
	for _, e := range h.events("user@1000.service") {
		if e.ControlGroup != "/user.slice/user-1000.slice/user@1000.service" || !e.HasUID || e.UID != 1000 || e.Session != nil {
			t.Errorf("the user manager's event %+v", e)
		}
	}
	h.want(map[string]string{
		"user-1000.slice":   "ST",
		"user@1000.service": "ST",
		// A oneshot that stays active: its cgroup goes when it has started, and again after its
		// ExecStop=.
		"user-runtime-dir@1000.service": "TT",
	})
	h.nothingElse("session-1.scope", "user-1000.slice", "user@1000.service", "user-runtime-dir@1000.service")
	if s := h.l.Stats(); s.Sessions != 0 || len(h.l.Snapshot()) != 0 {
		t.Errorf("sessions are left: %+v, %v", s, h.l.Snapshot())
	}
	if n := h.m.Calls()["(loaded by a Get)"]; n != 0 {
		t.Errorf("%d lookups made systemd load a unit that was gone", n)
	}
}

// What a login costs is written in doc.go; this keeps it true.
func TestCallsPerLogin(t *testing.T) {
	h := start(t, Options{}, nil)
	cost := func(what string, want uint64, do func()) {
		t.Helper()
		h.until("idle", func() bool { return h.l.Stats().Asking == 0 })
		before := h.l.Stats().Calls
		do()
		h.until("idle after "+what, func() bool { return h.l.Stats().Asking == 0 })
		if got := h.l.Stats().Calls - before; got > want {
			t.Errorf("%s took %d calls, want at most %d: %v", what, got, want, h.m.Calls())
		}
	}
	cost("a user's first login", 12, func() {
		h.m.AddSession(alice("1"))
		h.until("session", func() bool { return h.lives("session-1.scope") == "S" })
		h.until("manager", func() bool { return h.lives("user@1000.service") == "S" })
		h.until("runtime dir", func() bool { return h.lives("user-runtime-dir@1000.service") == "T" })
	})
	cost("a second login", 2, func() {
		h.m.AddSession(alice("2"))
		h.until("session", func() bool { return h.lives("session-2.scope") == "S" })
		h.until("properties", func() bool { return len(h.l.Snapshot()) == 2 && h.l.Snapshot()[1].Service == "sshd" })
	})
	cost("its logout", 0, func() {
		h.m.RemoveSession("2")
		h.until("logout", func() bool { return h.lives("session-2.scope") == "ST" })
	})
	h.sync()
	h.want(map[string]string{"session-1.scope": "S", "session-2.scope": "ST"})
}

func TestManyLoginsInterleaved(t *testing.T) {
	h := start(t, Options{}, nil)
	const logins, users = 200, 7
	id := func(i int) string { return fmt.Sprint(i + 1) }
	for i := range logins {
		s := alice(id(i))
		s.UID = uint32(1000 + i%users)
		s.User = fmt.Sprintf("user%d", i%users)
		h.m.AddSession(s)
		if i >= 20 {
			h.m.RemoveSession(id(i - 20))
		}
	}
	h.sync()
	for i := logins - 20; i < logins; i++ {
		h.m.RemoveSession(id(i))
	}
	for u := range users {
		h.m.RemoveUser(uint32(1000 + u))
	}
	h.sync()
	for i := range logins {
		scope := "session-" + id(i) + ".scope"
		events := h.events(scope)
		if len(events) == 0 || events[len(events)-1].Kind != Teardown {
			t.Fatalf("%s: no Teardown: %v", scope, events)
		}
		// One that was too short to be seen has no Started; none has more than one of either.
		if lives := h.lives(scope); lives != "ST" && lives != "T" {
			t.Errorf("%s: lives %q", scope, lives)
		}
		want := fmt.Sprintf("/user.slice/user-%d.slice/%s", 1000+i%users, scope)
		last := events[len(events)-1]
		if last.ControlGroup != want && last.ControlGroup != "" {
			t.Errorf("%s: torn down at %q, want %q", scope, last.ControlGroup, want)
		}
	}
	for u := range users {
		h.want(map[string]string{fmt.Sprintf("user-%d.slice", 1000+u): "ST"})
	}
}

func TestSessionGoneBeforeItCanBeAsked(t *testing.T) {
	h := start(t, Options{}, func(m *bustest.Machine) { m.AddSession(alice("1")) })
	h.m.FlashSession(alice("2"))
	h.sync()
	h.want(map[string]string{"session-1.scope": "S", "session-2.scope": "T"})
	if e := h.events("session-2.scope")[0]; e.ControlGroup != "" || !e.Derived || e.HasUID {
		t.Errorf("nobody can have told whose session it was: %+v", e)
	}
	if n := h.m.Calls()["(loaded by a Get)"]; n > 1 {
		t.Errorf("%d lookups made systemd load a unit that was gone", n)
	}
}

func TestSessionWithoutScope(t *testing.T) {
	h := start(t, Options{}, nil)
	s := alice("7")
	s.NoScope, s.Class = true, "none"
	h.m.AddSession(s)
	h.sync()
	if got := h.l.Snapshot(); len(got) != 1 || got[0].Class != "none" || got[0].Scope != "" {
		t.Errorf("Snapshot: %+v", got)
	}
	h.m.RemoveSession("7")
	h.sync()
	h.want(map[string]string{"session-7.scope": ""})
}

func TestSessionIDUsedAgain(t *testing.T) {
	h := start(t, Options{}, nil)
	for range 3 {
		h.m.AddSession(alice("c1"))
		h.sync()
		h.m.RemoveSession("c1")
		h.sync()
	}
	h.want(map[string]string{"session-c1.scope": "STSTST"})
}

func TestSlowConsumerLosesNothing(t *testing.T) {
	bus := bustest.StartBus(t)
	m := bustest.NewMachine(t, bus)
	l, stop := run(t, Options{Dial: DialAddress(bus.Address)})
	defer stop()
	wait(t, "subscription", m.Subscribed)
	const units = 3000
	for i := range units {
		name := fmt.Sprintf("run-u%d.scope", i)
		m.StartUnit(bustest.Unit{Name: name, Slice: "system.slice"})
		m.StopUnit(name)
	}
	// Nobody has taken anything: it must all be read from the bus nevertheless.
	wait(t, "all read", func() bool { s := l.Stats(); return s.Live <= len(always) && s.Waiting >= units && s.Asking == 0 })
	if s := l.Stats(); !s.Connected || s.Reconnects != 0 {
		t.Fatalf("the bus threw a slow client out: %+v", s)
	}
	ended := map[string]int{}
	for deadline := time.After(patience); len(ended) < units; {
		select {
		case e := <-l.Events():
			if e.Kind == Teardown {
				ended[e.Unit]++
			}
		case <-deadline:
			t.Fatalf("%d of %d teardowns came", len(ended), units)
		}
	}
	for name, n := range ended {
		if n != 1 {
			t.Errorf("%s: %d teardowns", name, n)
		}
	}
}
