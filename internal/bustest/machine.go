package bustest

import (
	"crypto/rand"
	"fmt"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

const (
	sdName    = "org.freedesktop.systemd1"
	sdPath    = "/org/freedesktop/systemd1"
	loginName = "org.freedesktop.login1"
	loginPath = "/org/freedesktop/login1"
)

// Machine is a fake systemd and a fake logind on a bus. Methods of a machine that has lost the bus change its state
// without a signal, as things happen while nobody can hear of them.
type Machine struct {
	t   testing.TB
	bus *Bus

	mu          sync.Mutex
	systemd     *service // nil while not on the bus
	logind      *service
	subscribers map[string]bool // unique names that called Subscribe since PID 1 started
	units       map[string]*Unit
	sessions    map[string]*Session
	faults      map[string]Fault
	calls       map[string]int
	jobs        uint32
	users       users
}

// Unit is a unit loaded in the fake PID 1.
type Unit struct {
	Name         string
	Slice        string
	ControlGroup string // empty while it has no cgroup
	Active, Sub  string
	Invocation   []byte
	Keep         bool // stays loaded when it stops, as units with a file and a timer do
	RemainExited bool // RemainAfterExit=yes: active without a cgroup after its commands
}

// Session is a session of the fake logind.
type Session struct {
	ID, User, Service, Class, Type, RemoteHost string
	UID, Leader                                uint32
	Remote                                     bool
	NoScope                                    bool // class=none: no scope unit
}

// NewMachine puts both services on the bus, with the slices and services that always run.
func NewMachine(t testing.TB, b *Bus) *Machine {
	t.Helper()
	m := &Machine{
		t: t, bus: b,
		subscribers: make(map[string]bool), units: make(map[string]*Unit), sessions: make(map[string]*Session),
		faults: make(map[string]Fault), calls: make(map[string]int),
	}
	for _, u := range []Unit{
		{Name: "-.slice"}, {Name: "system.slice"}, {Name: "user.slice"},
		{Name: "cron.service", Slice: "system.slice", Keep: true},
	} {
		m.units[u.Name] = &u
		m.live(&u)
	}
	m.Connect()
	t.Cleanup(m.Disconnect)
	return m
}

// Connect puts both services on the bus, after Bus.Start.
func (m *Machine) Connect() {
	m.t.Helper()
	m.StartSystemd()
	m.StartLogind()
}

// Disconnect takes both off it.
func (m *Machine) Disconnect() {
	m.StopLogind()
	m.StopSystemd()
}

// StartSystemd puts PID 1 on the bus. It knows its units but no subscribers.
func (m *Machine) StartSystemd() { m.startSystemd(m.systemdCall) }

func (m *Machine) startSystemd(handle func(request) reply) {
	m.t.Helper()
	// Made before it has its name: from then on it may be called. Each has a list of its own, so that nobody who called
	// the old one last is on the new one's.
	subscribers := make(map[string]bool)
	m.mu.Lock()
	m.subscribers = subscribers
	m.mu.Unlock()
	m.start(&m.systemd, sdName, func(r request) reply {
		if r.member == "Subscribe" {
			return subscribe(subscribers, r.sender)
		}
		return handle(r)
	})
}

// StopSystemd takes PID 1 off the bus.
func (m *Machine) StopSystemd() { m.stop(&m.systemd) }

// StartLogind puts logind on the bus.
func (m *Machine) StartLogind() { m.start(&m.logind, loginName, m.loginCall) }

// StopLogind takes logind off the bus; sessions stay.
func (m *Machine) StopLogind() { m.stop(&m.logind) }

func (m *Machine) start(s **service, name string, handle func(request) reply) {
	m.t.Helper()
	flags := dbus.NameFlagAllowReplacement | dbus.NameFlagReplaceExisting
	fresh, err := serve(m.bus.Address, name, flags, m, handle)
	if err != nil {
		m.t.Errorf("bustest: %v", err)
		return
	}
	m.mu.Lock()
	old := *s
	*s = fresh
	m.mu.Unlock()
	if old != nil {
		old.close()
	}
}

func (m *Machine) stop(s **service) {
	m.mu.Lock()
	old := *s
	*s = nil
	m.mu.Unlock()
	if old != nil {
		old.close()
	}
}

// Subscribed reports whether a client has called Subscribe since PID 1 was last started.
func (m *Machine) Subscribed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.subscribers) > 0
}

// sd sends a signal of PID 1's manager, if anybody subscribed. The lock is held.
func (m *Machine) sd(member string, args ...any) {
	if m.systemd != nil && len(m.subscribers) > 0 {
		m.emit(m.systemd, sdPath, sdName, member, args)
	}
}

// login sends a signal of logind's manager. The lock is held.
func (m *Machine) login(member string, args ...any) {
	if m.logind != nil {
		m.emit(m.logind, loginPath, loginName, member, args)
	}
}

func (m *Machine) emit(s *service, path dbus.ObjectPath, name, member string, args []any) {
	_ = s.conn.Emit(path, name+".Manager."+member, args...) // a lost bus is a part of the script
}

// EmitSystemd sends any signal in PID 1's name, right or wrong, whoever subscribed.
func (m *Machine) EmitSystemd(member string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.systemd != nil {
		m.emit(m.systemd, sdPath, sdName, member, args)
	}
}

// EmitLogind sends any signal in logind's name, right or wrong.
func (m *Machine) EmitLogind(member string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.login(member, args...)
}

// job sends the JobRemoved of a job that ended. The lock is held.
func (m *Machine) job(unit, result string) {
	m.jobs++
	m.sd("JobRemoved", m.jobs, dbus.ObjectPath(fmt.Sprintf("%s/job/%d", sdPath, m.jobs)), unit, result)
}

// live gives the unit a cgroup and a new invocation. The lock is held.
func (m *Machine) live(u *Unit) {
	u.ControlGroup = cgroup(u)
	u.Active, u.Sub = "active", "running"
	u.Invocation = make([]byte, 16)
	_, _ = rand.Read(u.Invocation) // never fails
}

// die takes the cgroup away. The lock is held.
func (m *Machine) die(u *Unit) { u.ControlGroup, u.Active, u.Sub = "", "inactive", "dead" }
