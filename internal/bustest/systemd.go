package bustest

import (
	"path"
	"strings"

	sdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

const noSuchUnit = sdName + ".NoSuchUnit"

// UnitPath is the object path of a unit.
func UnitPath(name string) dbus.ObjectPath {
	return dbus.ObjectPath(sdPath + "/unit/" + sdbus.PathBusEscape(name))
}

// cgroup is the path of a unit in its slice, for the plain names that tests use.
func cgroup(u *Unit) string {
	name := u.Slice
	if strings.HasSuffix(u.Name, ".slice") {
		name = u.Name
	}
	p := "/"
	if stem, isSlice := strings.CutSuffix(name, ".slice"); isSlice && stem != "-" {
		for i, c := range stem + "-" {
			if c == '-' {
				p = path.Join(p, stem[:i]+".slice")
			}
		}
	}
	if name != u.Name {
		p = path.Join(p, u.Name)
	}
	return p
}

// subscribe answers PID 1's Subscribe().
func subscribe(subscribers map[string]bool, sender string) reply {
	if subscribers[sender] {
		return fail(sdName + ".AlreadySubscribed")
	}
	subscribers[sender] = true
	return ok()
}

// systemdCall answers PID 1's calls. The lock is held.
func (m *Machine) systemdCall(r request) reply {
	switch r.member {
	case "ListUnits":
		rows := []sdbus.UnitStatus{}
		for _, u := range m.units {
			rows = append(rows, sdbus.UnitStatus{Name: u.Name, LoadState: "loaded", ActiveState: u.Active,
				SubState: u.Sub, Path: UnitPath(u.Name), JobPath: "/"})
		}
		return ok(rows)
	case "GetUnit":
		if u := m.units[r.arg(0)]; u != nil {
			return ok(UnitPath(u.Name))
		}
		return fail(noSuchUnit)
	case "GetUnitByControlGroup":
		for at := r.arg(0); at != ""; at = at[:strings.LastIndexByte(at, '/')] {
			for _, u := range m.units {
				if u.ControlGroup == at {
					return ok(UnitPath(u.Name))
				}
			}
		}
		return ok(UnitPath("-.slice"))
	case "Get", "GetAll":
		return m.unitProps(r)
	}
	return fail("org.freedesktop.DBus.Error.UnknownMethod")
}

// unitProps answers Get and GetAll on a unit. One that is not loaded is loaded for it, and unloaded again.
func (m *Machine) unitProps(r request) reply {
	var u *Unit
	for _, c := range m.units {
		if UnitPath(c.Name) == r.path {
			u = c
		}
	}
	load := "loaded"
	if u == nil {
		load = "not-found"
		u = &Unit{Active: "inactive", Sub: "dead"}
		defer func() {
			m.calls["(loaded by a Get)"]++
			name := unescape(strings.TrimPrefix(string(r.path), sdPath+"/unit/"))
			m.sd("UnitNew", name, r.path)
			m.sd("UnitRemoved", name, r.path)
		}()
	}
	id := u.Invocation
	if id == nil {
		id = []byte{}
	}
	props := map[string]dbus.Variant{
		"LoadState": dbus.MakeVariant(load), "ActiveState": dbus.MakeVariant(u.Active),
		"SubState": dbus.MakeVariant(u.Sub), "InvocationID": dbus.MakeVariant(id),
	}
	if r.arg(0) != sdName+".Unit" {
		props = map[string]dbus.Variant{
			"ControlGroup": dbus.MakeVariant(u.ControlGroup), "Slice": dbus.MakeVariant(u.Slice),
		}
	}
	if r.member == "GetAll" {
		return ok(props)
	}
	v, known := props[r.arg(1)]
	if !known {
		return fail("org.freedesktop.DBus.Error.UnknownProperty")
	}
	return ok(v)
}

// unescape is the inverse of sdbus.PathBusEscape.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '_' && i+2 < len(s) {
			hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
			out.WriteByte(byte(hi<<4 | lo))
			i += 2
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

const hexDigits = "0123456789abcdef"

// load makes a unit known. The lock is held.
func (m *Machine) load(u Unit) *Unit {
	if known := m.units[u.Name]; known != nil {
		return known
	}
	u.Active, u.Sub = "inactive", "dead"
	m.units[u.Name] = &u
	m.sd("UnitNew", u.Name, UnitPath(u.Name))
	return &u
}

// unload forgets a unit that has stopped, unless it is kept. The lock is held.
func (m *Machine) unload(u *Unit) {
	if u.Keep {
		return
	}
	delete(m.units, u.Name)
	m.sd("UnitRemoved", u.Name, UnitPath(u.Name))
}

// StartUnit loads the unit if need be and runs its start job. With RemainExited it is a oneshot whose commands have
// ended when its job does.
func (m *Machine) StartUnit(u Unit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.startUnit(u)
}

func (m *Machine) startUnit(u Unit) {
	known := m.load(u)
	m.live(known)
	if u.RemainExited {
		known.ControlGroup, known.Sub = "", "exited"
	}
	m.job(u.Name, "done")
}

// StopUnit runs a stop job; the unit is unloaded unless Keep.
func (m *Machine) StopUnit(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopUnit(name)
}

func (m *Machine) stopUnit(name string) {
	u := m.units[name]
	if u == nil {
		return
	}
	m.die(u)
	m.job(name, "done")
	m.unload(u)
}

// ExitUnit ends a unit whose processes exit by themselves: no job, and it is unloaded unless Keep.
func (m *Machine) ExitUnit(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u := m.units[name]; u != nil {
		m.die(u)
		m.unload(u)
	}
}

// RunOneshot runs a Type=oneshot service: its job ends after its cgroup.
func (m *Machine) RunOneshot(u Unit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.load(u)
	m.live(known)
	m.die(known)
	m.job(u.Name, "done")
	m.unload(known)
}

// RestartUnit stops and starts a unit in one job.
func (m *Machine) RestartUnit(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u := m.units[name]; u != nil {
		m.live(u)
		m.job(name, "done")
	}
}

// ReloadUnit runs a job that leaves the unit's processes alone.
func (m *Machine) ReloadUnit(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.job(name, "done")
}

// Peek loads a unit and unloads it again, as `systemctl status` does.
func (m *Machine) Peek(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.units[name] == nil {
		m.sd("UnitNew", name, UnitPath(name))
		m.sd("UnitRemoved", name, UnitPath(name))
	}
}

// Reload does a daemon-reload: an UnitRemoved and an UnitNew for every unit. What meanwhile does happens between.
func (m *Machine) Reload(meanwhile func()) {
	m.mu.Lock()
	m.flood()
	m.mu.Unlock()
	if meanwhile != nil {
		meanwhile()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range m.units {
		m.sd("UnitNew", u.Name, UnitPath(u.Name))
	}
	m.sd("Reloading", false)
}

// flood begins a reload. The lock is held.
func (m *Machine) flood() {
	m.sd("Reloading", true)
	for _, u := range m.units {
		m.sd("UnitRemoved", u.Name, UnitPath(u.Name))
	}
}

// Reexec re-executes PID 1: a reload whose end another process announces, after taking over the name.
func (m *Machine) Reexec(meanwhile func()) {
	m.t.Helper()
	m.mu.Lock()
	m.flood()
	m.mu.Unlock()
	if meanwhile != nil {
		meanwhile()
	}
	m.StartSystemd()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sd("Reloading", false)
}
