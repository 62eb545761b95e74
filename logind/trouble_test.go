package logind

import (
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/bustest"
)

func TestBusLostInMidFlow(t *testing.T) {
	h := start(t, Options{}, nil)
	for _, id := range []string{"1", "2", "3"} {
		h.m.AddSession(alice(id))
	}
	h.sync()
	h.bus.Stop()
	h.m.Disconnect()
	h.until("loss seen", func() bool { return !h.l.Stats().Connected })
	// What happens while nobody hears: two sessions end, one comes, one comes and goes, cron is
	// restarted.
	h.m.RemoveSession("1")
	h.m.RemoveSession("3")
	h.m.AddSession(alice("4"))
	h.m.AddSession(alice("5"))
	h.m.RemoveSession("5")
	h.m.RestartUnit("cron.service")
	h.m.StartUnit(bustest.Unit{Name: "run-new.scope", Slice: "foo-bar.slice"})
	h.bus.Start()
	h.m.Connect()
	h.sync()
	h.until("lost ones", func() bool { return h.lives("session-1.scope") == "ST" && h.lives("session-3.scope") == "ST" })
	h.until("new ones", func() bool { return h.lives("session-4.scope") == "S" && h.lives("run-new.scope") == "S" })
	h.until("restarted one", func() bool { return h.lives("cron.service") == "STS" })
	h.want(map[string]string{"session-2.scope": "S", "session-5.scope": "", "user-1000.slice": "S"})
	if e := h.events("session-1.scope")[1]; e.Signal != SignalReconcile || e.Session == nil || e.Session.User != "alice" ||
		e.ControlGroup != "/user.slice/user-1000.slice/session-1.scope" {
		t.Errorf("teardown of what ended unseen: %+v", e)
	}
	if e := h.events("run-new.scope")[0]; e.ControlGroup != "/foo.slice/foo-bar.slice/run-new.scope" || e.Derived {
		t.Errorf("start of what came unseen: %+v", e)
	}
	h.m.RemoveSession("2")
	h.m.RemoveSession("4")
	h.m.RemoveUser(1000)
	h.sync()
	h.want(map[string]string{"session-2.scope": "ST", "session-4.scope": "ST", "user-1000.slice": "ST"})
	if s := h.l.Stats(); s.Reconnects == 0 || !s.Connected {
		t.Errorf("stats %+v", s)
	}
	if n := h.log.Count("no connection to the system bus"); n != 1 {
		t.Errorf("the loss was told %d times:\n%s", n, h.log)
	}
	if n := h.log.Count("connected to the system bus again"); n != 1 {
		t.Errorf("the return was told %d times:\n%s", n, h.log)
	}
}

func TestNoBusAtFirst(t *testing.T) {
	bus := bustest.StartBus(t)
	bus.Stop()
	l, stop := run(t, Options{Dial: DialAddress(bus.Address)})
	defer stop()
	bus.Start()
	m := bustest.NewMachine(t, bus)
	wait(t, "subscription", m.Subscribed)
	wait(t, "connected", func() bool { return l.Stats().Connected })
}

func TestLogindRestart(t *testing.T) {
	h := start(t, Options{}, func(m *bustest.Machine) { m.AddSession(alice("1")); m.AddSession(alice("2")) })
	h.m.StopLogind()
	h.m.RemoveSession("1") // PID 1 tells of the scope, nobody of the session
	h.m.AddSession(alice("3"))
	h.sync()
	h.want(map[string]string{"session-1.scope": "ST", "session-2.scope": "S", "session-3.scope": "S"})
	h.m.StartLogind()
	h.until("sessions compared", func() bool {
		s := h.l.Snapshot()
		return len(s) == 2 && s[0].ID == "2" && s[1].ID == "3" && s[1].Service == "sshd"
	})
	h.m.RemoveSession("3")
	h.m.RemoveSession("2")
	h.sync()
	h.want(map[string]string{"session-1.scope": "ST", "session-2.scope": "ST", "session-3.scope": "ST"})
	if e := h.events("session-3.scope")[1]; e.Session == nil || e.Session.Leader != 4242 {
		t.Errorf("a session learned late is missing from its teardown: %+v", e)
	}
}

func TestSystemdReexec(t *testing.T) {
	h := start(t, Options{}, func(m *bustest.Machine) { m.AddSession(alice("1")); m.AddSession(alice("2")) })
	h.m.Reexec(func() { h.m.ExitUnit("session-2.scope") })
	h.until("subscribed again", h.m.Subscribed)
	h.sync()
	h.until("gone meanwhile", func() bool { return h.lives("session-2.scope") == "ST" })
	h.want(map[string]string{"session-1.scope": "S", "user-1000.slice": "S", "user@1000.service": "S", "cron.service": "S"})
	h.m.AddSession(alice("3"))
	h.m.RemoveSession("3")
	h.m.RemoveSession("1")
	h.sync()
	h.want(map[string]string{"session-1.scope": "ST"})
	if l := h.lives("session-3.scope"); l != "ST" && l != "T" {
		t.Errorf("session-3.scope after the re-execution: %q", l)
	}
}

func TestSystemdAway(t *testing.T) {
	h := start(t, Options{}, nil)
	h.m.StopSystemd()
	h.until("told", func() bool { return h.log.Count("org.freedesktop.systemd1 is not on the bus") == 1 })
	h.m.AddSession(alice("1"))
	h.until("believed", func() bool { return h.lives("session-1.scope") == "S" })
	if e := h.events("session-1.scope")[0]; !e.Derived || e.ControlGroup != "/user.slice/user-1000.slice/session-1.scope" {
		t.Errorf("believed start: %+v", e)
	}
	h.m.RemoveSession("1")
	h.m.RemoveUser(1000)
	h.until("believed end", func() bool { return h.lives("session-1.scope") == "ST" && h.lives("user-1000.slice") == "ST" })
	h.m.StartSystemd()
	h.sync()
	h.want(map[string]string{"session-1.scope": "ST", "user-1000.slice": "ST", "cron.service": "S"})
}

func TestReload(t *testing.T) {
	reloads := make(chan bool, 10)
	h := start(t, Options{OnReloading: func(begins bool) { reloads <- begins }},
		func(m *bustest.Machine) { m.AddSession(alice("1")); m.AddSession(alice("2")) })
	h.m.Reload(nil)
	h.sync()
	if first, second := <-reloads, <-reloads; !first || second {
		t.Errorf("a reload began: %v, then %v", first, second)
	}
	h.want(map[string]string{"session-1.scope": "S", "session-2.scope": "S", "cron.service": "S"})
	before := h.l.Stats().Calls
	h.m.Reload(func() { h.m.ExitUnit("session-2.scope") })
	h.until("gone in the reload", func() bool { return h.lives("session-2.scope") == "ST" })
	h.sync()
	h.want(map[string]string{"session-1.scope": "S", "cron.service": "S"})
	if n := h.l.Stats().Calls - before; n > 12 {
		t.Errorf("a reload took %d calls; one a unit would be too many", n)
	}
}

func TestSpoofedSignals(t *testing.T) {
	h := start(t, Options{}, func(m *bustest.Machine) { m.AddSession(alice("1")) })
	mallory := h.bus.Connect()
	me := ""
	for _, name := range connections(t, h.bus) {
		if err := bustest.SendTo(mallory, name, sdPath, sdIface, "UnitRemoved", "session-1.scope", unitPath("session-1.scope")); err != nil {
			t.Fatal(err)
		}
		for _, s := range []struct {
			path   string
			member string
			args   []any
		}{
			{loginPath, "SessionRemoved", []any{"1", bustest.SessionPath("1")}},
			{loginPath, "UserRemoved", []any{uint32(1000), bustest.SessionPath("1")}},
			{loginPath, "SessionNew", []any{"66", bustest.SessionPath("66")}},
		} {
			if err := bustest.SendTo(mallory, name, loginPath, loginIface, s.member, s.args...); err != nil {
				t.Fatal(err)
			}
		}
		for _, owner := range []string{mallory.Names()[0], ""} {
			if err := bustest.SendTo(mallory, name, "/org/freedesktop/DBus", busName, "NameOwnerChanged", sdName, "", owner); err != nil {
				t.Fatal(err)
			}
		}
		me = name
	}
	if me == "" {
		t.Fatal("no connection found to send to")
	}
	h.until("signals ignored", func() bool { return h.l.Stats().Ignored >= 6 })
	h.sync()
	h.want(map[string]string{"session-1.scope": "S", "user-1000.slice": "S", "session-66.scope": ""})
}

// connections lists the unique names on the bus, the listener's among them.
func connections(t *testing.T, b *bustest.Bus) []string {
	t.Helper()
	var names, unique []string
	if err := b.Connect().BusObject().Call(busName+".ListNames", 0).Store(&names); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if n[0] == ':' {
			unique = append(unique, n)
		}
	}
	return unique
}

func TestWrongSignatures(t *testing.T) {
	h := start(t, Options{}, func(m *bustest.Machine) { m.AddSession(alice("1")) })
	h.m.EmitSystemd("UnitRemoved", "session-1.scope")
	h.m.EmitSystemd("UnitRemoved", uint32(1), "session-1.scope")
	h.m.EmitSystemd("UnitRemoved")
	h.m.EmitSystemd("JobRemoved", uint32(1), "x", []string{"session-1.scope"}, "done")
	h.m.EmitSystemd("Reloading", "yes")
	h.m.EmitSystemd("UnitNew", "../../etc/passwd.service", unitPath("x"))
	h.m.EmitLogind("SessionRemoved", []byte("1"), true)
	h.m.EmitLogind("UserRemoved", "1000", "x")
	h.m.EmitLogind("SessionNew", "../..", bustest.SessionPath("1"))
	h.sync()
	h.want(map[string]string{"session-1.scope": "S", "user-1000.slice": "S"})
	if s := h.l.Stats(); s.Ignored < 7 {
		t.Errorf("stats %+v", s)
	}
}

func TestMethodsThatFail(t *testing.T) {
	for _, f := range []struct {
		name  string
		fault bustest.Fault
	}{{"refuse", bustest.Refuse}, {"deny", bustest.Deny}, {"babble", bustest.Babble}, {"silence", bustest.Silence}} {
		t.Run(f.name, func(t *testing.T) {
			h := start(t, Options{CallTimeout: 200 * time.Millisecond}, func(m *bustest.Machine) { m.AddSession(alice("1")) })
			h.until("session learned", func() bool { return h.lives("session-1.scope") == "S" })
			h.m.Fail("*", f.fault)
			h.m.AddSession(alice("2"))
			h.m.RemoveSession("1")
			h.m.AddSession(alice("3"))
			h.m.RemoveSession("3")
			h.until("teardown without asking", func() bool { return h.lives("session-1.scope") == "ST" })
			h.until("and of one that never could be asked about", func() bool { return h.lives("session-3.scope") == "T" })
			h.until("told", func() bool { return h.log.Count("WARN") > 0 })
			h.m.Heal()
			h.until("found when it answers again", func() bool { return h.lives("session-2.scope") == "S" })
			h.until("its properties too", func() bool { s := h.l.Snapshot(); return len(s) == 1 && s[0].Service == "sshd" })
			h.sync()
			h.want(map[string]string{"session-1.scope": "ST", "session-2.scope": "S", "session-3.scope": "T"})
			if n := h.log.Count("WARN"); n > 4 {
				t.Errorf("told %d times:\n%s", n, h.log)
			}
		})
	}
}

// A machine whose bus policy or systemd lacks GetUnitByControlGroup works all the same, with more
// calls.
func TestWithoutGetUnitByControlGroup(t *testing.T) {
	h := start(t, Options{}, func(m *bustest.Machine) { m.Fail("GetUnitByControlGroup", bustest.Deny) })
	h.m.AddSession(alice("1"))
	h.sync()
	h.until("seen", func() bool { return h.lives("session-1.scope") == "S" && h.lives("user@1000.service") == "S" })
	h.m.RemoveSession("1")
	h.sync()
	h.want(map[string]string{"session-1.scope": "ST"})
}
