package logind

import (
	"time"

	"github.com/coreos/go-systemd/v22/login1"
	"github.com/godbus/dbus/v5"
)

// listed is one row of ListUnits, as far as it matters here.
type listed struct {
	name   string
	active string // "active", "activating", "inactive", "failed", ...
	sub    string // "running", "exited", "dead", ...
}

// mayHaveCgroup reports whether a unit in that state may have a cgroup.
func (l listed) mayHaveCgroup() bool {
	switch l.active {
	case "inactive", "failed":
		return false
	}
	return !l.exited()
}

// exited reports whether a oneshot's processes have ended and the unit stays active
// (RemainAfterExit=yes); systemd 252 has removed its cgroup then.
func (l listed) exited() bool { return l.active == "active" && l.sub == "exited" }

// setSystemd records whether PID 1 can be asked. Without it, what logind announced is believed.
func (m *model) setSystemd(ok bool) {
	m.systemd = ok
	if ok {
		return
	}
	for _, s := range m.sessions {
		if u := m.units[sessionScope(s.id)]; u != nil && s.info != nil {
			u.session = s.info
			m.believe(u)
		}
	}
}

// disconnected: the connection is gone, and with it every question under way. What is known stays;
// the reconcile after the next connection asks again.
func (m *model) disconnected() {
	for _, u := range m.units {
		u.asking, u.again, u.asOf = false, trigger{}, 0 // sequences begin anew
	}
	for _, s := range m.sessions {
		s.asking = false
	}
	m.asks, m.removed, m.reloading, m.unsure = nil, nil, false, false
}

// systemdRestarted: another process is PID 1's voice on the bus. A reload it was in is over.
func (m *model) systemdRestarted() { m.reloading = false }

// reload takes a Reloading signal. It reports whether a reload has ended, after which the units
// must be listed again: what was removed meanwhile could not be told from what was only loaded
// again.
func (m *model) reload(begins bool) (ended bool) {
	m.reloading = begins
	if begins {
		return false
	}
	for _, u := range m.units {
		u.reloaded = true
	}
	return true
}

// listing begins a comparison: removals are remembered until listsDone.
func (m *model) listing() { m.removed = make(map[string]dbus.Sequence) }

// listsDone ends it.
func (m *model) listsDone() { m.removed = nil }

// stale reports whether a list of that sequence number was made before the thing was removed.
func (m *model) stale(key string, list dbus.Sequence) bool {
	removed, ok := m.removed[key]
	return ok && removed > list
}

// unitsListed compares what is known with what PID 1 has loaded. The list can be older than a
// signal handled before it, so it only says whom to ask about; the answers decide. deep asks about
// running services too, which may have been restarted unseen.
func (m *model) unitsListed(list []listed, seq dbus.Sequence, deep bool, at time.Time) {
	if m.reloading {
		return // a list made in the middle of a reload; the reload's end makes a new one
	}
	why := trigger{signal: SignalReconcile, at: at}
	loaded := make(map[string]bool, len(list))
	for _, l := range list {
		if !hasCgroup(l.name) || m.stale(l.name, seq) {
			continue
		}
		loaded[l.name] = true
		u, known := m.units[l.name], m.units[l.name] != nil
		switch {
		case !l.mayHaveCgroup():
			if known && (u.alive || u.lived.set()) {
				m.check(u, why)
			} else if isService(l.name) {
				// Known, so that its UnitNew after a reload asks nothing, and its ExecStop= is not
				// missed.
				m.get(l.name).exited = l.exited()
			}
		case known && u.alive:
			if deep && isService(l.name) {
				m.check(u, why)
			}
		default:
			u = m.get(l.name)
			if !u.lived.set() {
				u.lived = why
			}
			m.check(u, why)
		}
	}
	for name, u := range m.units {
		switch {
		case loaded[name]:
		case u.alive || u.lived.set():
			m.check(u, why)
		case !u.asking:
			m.forget(u)
		}
	}
}

// sessionsListed compares what is known with logind's sessions.
func (m *model) sessionsListed(list []login1.Session, seq dbus.Sequence, at time.Time) {
	clear(m.early)
	listed := make(map[string]bool, len(list))
	for _, l := range list {
		scope := sessionScope(l.ID)
		if !hasCgroup(scope) || m.stale(sessionKey(l.ID), seq) {
			continue
		}
		listed[l.ID] = true
		s := m.sessions[l.ID]
		if s == nil {
			s = &session{id: l.ID, path: l.Path}
			m.sessions[l.ID] = s
		}
		if s.info == nil {
			s.info = &Session{ID: l.ID, UID: l.UID, User: l.User, Scope: scope}
		}
		if u := m.units[scope]; u != nil {
			u.session = s.info
		} else if !m.systemd {
			u = m.get(scope)
			u.lived = trigger{signal: SignalReconcile, at: at}
			m.believe(u)
		}
		m.askSession(s)
	}
	for id, s := range m.sessions {
		if listed[id] || s.asking {
			continue
		}
		u := m.units[sessionScope(id)]
		m.forgetSession(s)
		if u != nil {
			m.gone(u, trigger{signal: SignalReconcile, at: at})
		}
	}
}
