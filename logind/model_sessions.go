package logind

import (
	"time"

	"github.com/godbus/dbus/v5"
)

// sessionNew: logind announced a session. Its scope has been asked for, and may or may not live
// yet.
func (m *model) sessionNew(id string, path dbus.ObjectPath, at time.Time) {
	scope := sessionScope(id)
	if !hasCgroup(scope) {
		return
	}
	if s := m.sessions[id]; s != nil {
		if s.path == path && !s.whole && s.asking {
			return // found by ListSessions a moment ago
		}
		m.forgetSession(s) // the ID is in use again: its SessionRemoved was lost
	}
	if m.early[id] {
		delete(m.early, id)
	} else {
		u := m.get(scope)
		u.session = nil
		if !u.alive && !u.lived.set() && !u.ended {
			u.lived = trigger{signal: SignalSessionNew, at: at}
		}
	}
	s := &session{id: id, path: path}
	m.sessions[id] = s
	m.askSession(s)
}

func (m *model) askSession(s *session) {
	if !s.asking && !s.whole {
		s.asking = true
		m.asks = append(m.asks, &ask{session: s})
	}
}

// sessionAnswered takes a session's properties. gone: logind does not know the session any more.
func (m *model) sessionAnswered(s *session, info *Session, gone bool) {
	if s.forgot {
		return
	}
	s.asking = false
	if info != nil {
		s.info, s.whole = info, true
	} else if !gone {
		m.unsure = true
	}
	u := m.units[sessionScope(s.id)]
	if u == nil {
		return
	}
	if s.info != nil {
		u.session = s.info
	}
	switch {
	case s.whole && s.info.Scope == "" && !u.alive:
		m.forget(u) // a session without a scope leaves no cgroup
	case !m.systemd:
		m.believe(u)
	}
}

// believe starts the life of a session's scope or a user's slice on logind's word, while PID 1
// cannot confirm it.
func (m *model) believe(u *unit) {
	path, _ := u.where()
	if !u.alive && u.lived.set() && path != "" {
		m.begin(u, path, false, "", u.lived)
	}
}

// sessionRemoved: logind is done with the session. Usually the scope's UnitRemoved came before and
// nothing is left.
func (m *model) sessionRemoved(id string, seq dbus.Sequence, at time.Time) {
	scope := sessionScope(id)
	if m.removed != nil {
		m.removed[sessionKey(id)] = seq
	}
	if s := m.sessions[id]; s != nil {
		m.forgetSession(s)
	}
	if u := m.units[scope]; u != nil {
		m.gone(u, trigger{signal: SignalSessionRemoved, at: at})
	}
}

// userNew: logind knows a user again. systemd says when the slice lives; only without it logind's
// word counts.
func (m *model) userNew(uid uint32, at time.Time) {
	if m.systemd {
		return
	}
	u := m.get(UserSlice(uid))
	if !u.alive {
		u.lived = trigger{signal: SignalUserNew, at: at}
		m.believe(u)
	}
}

// userRemoved: the user's last session has ended and the user manager was stopped.
func (m *model) userRemoved(uid uint32, at time.Time) {
	if u := m.units[UserSlice(uid)]; u != nil {
		m.gone(u, trigger{signal: SignalUserRemoved, at: at})
	}
}

// gone: logind says that the unit is done. PID 1 has the last word where it can be asked, because
// with KillUserProcesses=no a scope can outlive its session.
func (m *model) gone(u *unit, why trigger) {
	if !u.alive && !u.lived.set() {
		return
	}
	if m.systemd {
		m.check(u, why)
		return
	}
	m.end(u, why)
	m.forget(u)
}

func (m *model) forgetSession(s *session) {
	s.forgot = true
	delete(m.sessions, s.id)
}

// sessionKey keeps session IDs and unit names apart in model.removed.
func sessionKey(id string) string { return "session " + id }
