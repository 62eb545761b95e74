package logind

import (
	"time"

	"github.com/godbus/dbus/v5"
)

// unitNew: systemd loaded a unit. That alone says nothing (`systemctl status` does it); but a
// service that is about to be started is looked for now, since a oneshot's job ends only after its
// cgroup. Scopes and slices are not: their start job ends at once, and its JobRemoved is the better
// moment.
func (m *model) unitNew(name string, at time.Time) {
	if m.reloading || !isService(name) || !hasCgroup(name) || m.units[name] != nil {
		return
	}
	m.check(m.get(name), trigger{signal: SignalUnitNew, at: at})
}

// unitRemoved: systemd unloaded a unit, so its cgroup is gone. systemd 252 says it several times
// for one session scope (logind asks for the scope's properties, which loads the name again): only
// the first finds a record.
func (m *model) unitRemoved(name string, seq dbus.Sequence, at time.Time) {
	if m.reloading {
		return
	}
	if m.removed != nil {
		m.removed[name] = seq
	}
	u := m.units[name]
	if u == nil {
		return
	}
	if u.alive || u.lived.set() {
		m.end(u, trigger{signal: SignalUnitRemoved, at: at})
	}
	m.forget(u)
}

// jobRemoved: a job of the unit finished: it started, stopped, restarted or ran to its end.
func (m *model) jobRemoved(name, result string, seq dbus.Sequence, at time.Time) {
	if !hasCgroup(name) {
		return
	}
	u := m.units[name]
	if u != nil && seq < u.asOf {
		return // an answer that was given after it has overtaken it
	}
	why := trigger{signal: SignalJobRemoved, at: at, exited: u != nil && u.exited}
	if u == nil || !u.alive {
		if !ran(result) {
			return
		}
		u = m.get(name)
		if !u.lived.set() {
			u.lived = why
		}
	}
	m.check(u, why)
}

// ran reports whether a job with that result may have run anything in the unit's cgroup. The other
// results ("dependency", "skipped", "invalid", "assert", "unsupported", "collected", "once", ...)
// say that it did not.
func ran(result string) bool {
	switch result {
	case "done", "failed", "timeout", "canceled":
		return true
	}
	return false
}

// answer is what the bus said about a unit.
type answer struct {
	err    error  // no answer that can be relied on: the fields below say nothing
	loaded bool   // systemd has the unit in memory
	alive  bool   // its cgroup exists, at path
	path   string // confirmed by systemd; "" if it could not tell
	id     string // invocation ID of the present or last run, services only
	exited bool   // active without a cgroup
	seq    dbus.Sequence
}

// answered takes the answer to an ask about a unit.
func (m *model) answered(a *ask, r answer) {
	u := a.unit
	if u.forgot {
		return
	}
	u.asking = false
	u.asOf = max(u.asOf, r.seq)
	switch {
	case r.err != nil:
		m.unsure = true
		if a.why.final() && (u.alive || u.lived.set()) {
			m.end(u, a.why)
		}
	case r.alive:
		m.seen(u, r, a.why)
	default:
		m.unseen(u, r, a.why)
	}
	again := u.again
	u.again = trigger{}
	if again.set() {
		// The second job can have been the end of the life whose Teardown is just out; only a
		// loaded service can be asked which.
		if !u.alive && !u.lived.set() && again.signal == SignalJobRemoved && r.loaded && isService(u.name) {
			u.lived = again
		}
		m.check(u, again)
	}
	// A record is not dropped here even if the unit is gone: answers can overtake signals, and the
	// record is what tells late ones from news. The UnitRemoved on its way drops it, or the next
	// reconcile.
}

// seen: the cgroup lives. Is it the life we know?
func (m *model) seen(u *unit, r answer, why trigger) {
	if u.alive && (restarted(u.id, r.id) || u.path != r.path) {
		m.end(u, why)
	}
	if !u.alive {
		m.begin(u, r.path, true, r.id, why)
		return
	}
	u.confirmed, u.reloaded, u.lived = true, false, trigger{}
	if r.id != "" {
		u.id = r.id
	}
}

func restarted(before, now string) bool { return before != "" && now != "" && before != now }

// unseen: there is no cgroup. Did one go?
func (m *model) unseen(u *unit, r answer, why trigger) {
	if r.path != "" && !u.alive {
		u.path, u.confirmed = r.path, true
	}
	if !u.alive && u.lived.signal == SignalSessionNew && r.loaded && !why.final() && why.signal != SignalJobRemoved {
		return // the scope waits for its user's manager (for seconds, at a first login): its life is yet to come
	}
	ended := u.alive
	if !ended && u.lived.set() {
		// A unit that is unloaded already cannot be asked whether it ran; the proof we have must
		// do. Otherwise the invocation ID tells a run from a stop of what did not run.
		ended = !isService(u.name) || !r.loaded || u.lived.exited || r.id != "" && r.id != u.lastID
	}
	if ended {
		if u.lived.signal == SignalJobRemoved && !why.final() {
			why = u.lived
		}
		if r.id != "" {
			u.id = r.id
		}
		m.end(u, why)
	} else if why.signal == SignalReconcile {
		// What ended before we looked for the first time is not ours to report.
		u.lastID = r.id
	}
	u.lived = trigger{}
	u.exited = r.exited
}
