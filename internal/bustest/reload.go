package bustest

import "github.com/godbus/dbus/v5"

// Reloader makes the fake PID 1 answer daemon-reload too, and lets units have more properties.
type Reloader struct {
	m     *Machine
	loads func()
	props map[string]map[string]dbus.Variant
}

// AnswerReload has PID 1, which takes its name anew for it, do what a call of Manager.Reload asks: Reloading(true), an
// UnitRemoved and an UnitNew for every unit, Reloading(false), and then the answer, as systemd does. When it reads its
// files it calls onLoad, under the machine's lock. Calls()["Reload"] counts the calls.
func (m *Machine) AnswerReload(onLoad func()) *Reloader {
	m.t.Helper()
	r := &Reloader{m: m, loads: onLoad, props: map[string]map[string]dbus.Variant{}}
	m.startSystemd(r.call)
	return r
}

// SetProps gives a unit properties that GetAll tells, of whatever interface.
func (r *Reloader) SetProps(unit string, props map[string]any) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	all := map[string]dbus.Variant{}
	for k, v := range props {
		all[k] = dbus.MakeVariant(v)
	}
	r.props[unit] = all
}

// call answers PID 1's calls. The lock is held.
func (r *Reloader) call(q request) reply {
	if q.member == "GetAll" {
		for unit, props := range r.props {
			if UnitPath(unit) == q.path && r.m.units[unit] != nil {
				return ok(props)
			}
		}
	}
	if q.member != "Reload" {
		return r.m.systemdCall(q)
	}
	r.m.flood()
	if r.loads != nil {
		r.loads()
	}
	for _, u := range r.m.units {
		r.m.sd("UnitNew", u.Name, UnitPath(u.Name))
	}
	r.m.sd("Reloading", false)
	return ok()
}
