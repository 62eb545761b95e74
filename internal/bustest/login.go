package bustest

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/login1"
	"github.com/godbus/dbus/v5"
)

// repeats is how many more UnitRemoved of a session scope systemd 252 sends, because logind asks for its properties.
const repeats = 3

// SessionPath is the object path of a session, with the first digit escaped as logind does it.
func SessionPath(id string) dbus.ObjectPath {
	return dbus.ObjectPath(fmt.Sprintf("%s/session/_%02x%s", loginPath, id[0], id[1:]))
}

func userPath(uid uint32) dbus.ObjectPath {
	return dbus.ObjectPath(fmt.Sprintf("%s/user/_%d", loginPath, uid))
}

// loginCall answers logind's calls. The lock is held.
func (m *Machine) loginCall(r request) reply {
	if answer, about := m.usersCall(r); about {
		return answer
	}
	switch r.member {
	case "ListSessions":
		rows := []login1.Session{}
		for _, s := range m.sessions {
			rows = append(rows, login1.Session{ID: s.ID, UID: s.UID, User: s.User, Path: SessionPath(s.ID)})
		}
		return ok(rows)
	case "GetAll":
		for _, s := range m.sessions {
			if SessionPath(s.ID) == r.path {
				return ok(s.props())
			}
		}
		return fail("org.freedesktop.DBus.Error.UnknownObject")
	}
	return fail("org.freedesktop.DBus.Error.UnknownMethod")
}

func (s *Session) props() map[string]dbus.Variant {
	type user struct {
		UID  uint32
		Path dbus.ObjectPath
	}
	return map[string]dbus.Variant{
		"Id": dbus.MakeVariant(s.ID), "Name": dbus.MakeVariant(s.User), "Service": dbus.MakeVariant(s.Service),
		"Class": dbus.MakeVariant(s.Class), "Type": dbus.MakeVariant(s.Type), "State": dbus.MakeVariant("active"),
		"User":   dbus.MakeVariant(user{s.UID, userPath(s.UID)}),
		"Leader": dbus.MakeVariant(s.Leader), "Remote": dbus.MakeVariant(s.Remote),
		"RemoteHost": dbus.MakeVariant(s.RemoteHost), "Scope": dbus.MakeVariant(s.scope()),
	}
}

func (s *Session) scope() string {
	if s.NoScope {
		return ""
	}
	return "session-" + s.ID + ".scope"
}

// UserSlice is the name of a user's slice.
func UserSlice(uid uint32) string { return fmt.Sprintf("user-%d.slice", uid) }

// AddSession logs a user in. At the user's first session the slice, the runtime directory and the user manager are
// started before the scope, with SessionNew somewhere before the end of that.
func (m *Machine) AddSession(s Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	slice := UserSlice(s.UID)
	first := m.units[slice] == nil
	manager := Unit{Name: fmt.Sprintf("user@%d.service", s.UID), Slice: slice}
	runtime := Unit{Name: fmt.Sprintf("user-runtime-dir@%d.service", s.UID), Slice: slice, RemainExited: true}
	if first {
		m.load(manager)
		m.load(runtime)
		m.login("UserNew", s.UID, userPath(s.UID))
		m.startUnit(Unit{Name: slice})
	}
	m.sessions[s.ID] = &s
	if s.NoScope {
		m.login("SessionNew", s.ID, SessionPath(s.ID))
		return
	}
	scope := Unit{Name: s.scope(), Slice: slice}
	m.load(scope)
	m.login("SessionNew", s.ID, SessionPath(s.ID))
	if first {
		m.startUnit(runtime)
		m.startUnit(manager)
	}
	m.startUnit(scope)
}

// RemoveSession logs out: the scope's processes exit, logind looks at it a few times, then says SessionRemoved.
func (m *Machine) RemoveSession(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[id]
	if s == nil {
		return
	}
	if u := m.units[s.scope()]; u != nil {
		m.die(u)
		m.unload(u)
		for range repeats {
			m.sd("UnitNew", u.Name, UnitPath(u.Name))
			m.sd("UnitRemoved", u.Name, UnitPath(u.Name))
		}
	}
	delete(m.sessions, id)
	m.login("SessionRemoved", id, SessionPath(id))
}

// RemoveUser ends what a user's last session leaves, which logind does 10 seconds (UserStopDelaySec=) later.
// UserRemoved comes before the runtime directory and the slice are gone.
func (m *Machine) RemoveUser(uid uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopUnit(fmt.Sprintf("user@%d.service", uid))
	m.login("UserRemoved", uid, userPath(uid))
	m.stopUnit(fmt.Sprintf("user-runtime-dir@%d.service", uid))
	m.stopUnit(UserSlice(uid))
}

// FlashSession is a session that is gone before anybody can ask about it: its signals all come at once.
func (m *Machine) FlashSession(s Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := s.scope()
	m.sd("UnitNew", name, UnitPath(name))
	m.login("SessionNew", s.ID, SessionPath(s.ID))
	m.job(name, "done")
	m.sd("UnitRemoved", name, UnitPath(name))
	m.login("SessionRemoved", s.ID, SessionPath(s.ID))
}

// Live returns the units that have a cgroup, without the slices of the machine itself.
func (m *Machine) Live() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, u := range m.units {
		if u.ControlGroup != "" && !strings.HasPrefix(u.Name, "-") {
			names = append(names, u.Name)
		}
	}
	return names
}
