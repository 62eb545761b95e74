package logind

import (
	"testing"

	"github.com/scopereap/scopereap/internal/bustest"
)

func TestServices(t *testing.T) {
	h := start(t, Options{}, nil)
	h.until("cron seen", func() bool { return h.lives("cron.service") == "S" })

	h.m.RestartUnit("cron.service")
	h.sync()
	h.want(map[string]string{"cron.service": "STS"})

	h.m.ReloadUnit("cron.service") // its processes stay
	h.sync()
	h.want(map[string]string{"cron.service": "STS"})

	h.m.StopUnit("cron.service") // stays loaded: no UnitRemoved
	h.sync()
	h.want(map[string]string{"cron.service": "STST"})

	h.m.StopUnit("cron.service") // nothing to stop
	h.sync()
	h.want(map[string]string{"cron.service": "STST"})

	h.m.StartUnit(bustest.Unit{Name: "cron.service"})
	h.sync()
	h.want(map[string]string{"cron.service": "STSTS"})

	h.m.ExitUnit("cron.service") // no signal at all: found at the next start
	h.m.StartUnit(bustest.Unit{Name: "cron.service"})
	h.sync()
	h.want(map[string]string{"cron.service": "STSTSTS"})
}

func TestOneshotOfATimer(t *testing.T) {
	h := start(t, Options{}, nil)
	u := bustest.Unit{Name: "logrotate.service", Slice: "back-ground.slice", Keep: true}
	for i, want := range []string{"T", "TT", "TTT"} {
		h.m.RunOneshot(u)
		h.sync()
		h.want(map[string]string{u.Name: want})
		e := h.events(u.Name)[i]
		if e.ControlGroup != "/back.slice/back-ground.slice/logrotate.service" || e.Derived || e.Signal != SignalJobRemoved {
			t.Errorf("run %d: %+v", i, e)
		}
	}
	h.m.StopUnit(u.Name) // it does not run
	h.sync()
	h.want(map[string]string{u.Name: "TTT"})
}

func TestTransientOneshotThatIsUnloaded(t *testing.T) {
	h := start(t, Options{}, nil)
	h.m.RunOneshot(bustest.Unit{Name: "run-u7.service", Slice: "system.slice"})
	h.sync()
	h.want(map[string]string{"run-u7.service": "T"})
}

func TestExitedOneshotWithExecStop(t *testing.T) {
	h := start(t, Options{}, nil)
	u := bustest.Unit{Name: "setup.service", Slice: "system.slice", Keep: true, RemainExited: true}
	h.m.StartUnit(u)
	h.sync()
	h.want(map[string]string{u.Name: "T"})
	h.m.StopUnit(u.Name) // its ExecStop= had a cgroup again
	h.sync()
	h.want(map[string]string{u.Name: "TT"})
}

func TestPeeking(t *testing.T) {
	h := start(t, Options{}, nil)
	for range 50 {
		h.m.Peek("nosuch.service")
		h.m.Peek("nosuch.scope")
		h.m.Peek("no-such.slice")
		h.m.Peek("home-alice.mount")
	}
	h.sync()
	h.nothingElse()
	if n := h.m.Calls()["(loaded by a Get)"]; n != 0 {
		t.Errorf("%d lookups loaded a unit again: they could go round for ever", n)
	}
}

func TestOtherUnitTypes(t *testing.T) {
	h := start(t, Options{}, nil)
	for _, name := range []string{"home.mount", "dev-sda.device", "ssh.socket", "a.timer", "multi-user.target"} {
		u := bustest.Unit{Name: name, Slice: "system.slice"}
		h.m.StartUnit(u)
		h.m.StopUnit(name)
	}
	h.sync()
	h.nothingElse()
}

func TestScopeInAnySlice(t *testing.T) {
	h := start(t, Options{}, nil)
	h.m.StartUnit(bustest.Unit{Name: "cri-abc.scope", Slice: "kubepods-pod7.slice"})
	h.sync()
	h.m.StopUnit("cri-abc.scope")
	h.sync()
	h.want(map[string]string{"cri-abc.scope": "ST"})
	for _, e := range h.events("cri-abc.scope") {
		if e.ControlGroup != "/kubepods.slice/kubepods-pod7.slice/cri-abc.scope" || e.Derived {
			t.Errorf("%+v", e)
		}
	}
}
