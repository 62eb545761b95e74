package bustest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

// users are the fake logind's users and its directory of those who linger.
type users struct {
	dir     string
	known   []User           // the user database it asks
	clock   func() time.Time // sets the times of the files; nil: the file system's
	failing map[uint32]string
	after   map[uint32]string
	asked   func(uid uint32, on bool)
	log     []string
}

// User is a user the fake logind's user database knows.
type User struct {
	UID, GID uint32
	Name     string
}

// Linger gives logind a directory for its linger files and users to find. As the real one does (systemd 215 to 262),
// it sets a file's time anew each time linger is asked for, and takes whom a file is there for to linger.
func (m *Machine) Linger(dir string, clock func() time.Time, known ...User) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users = users{dir: dir, clock: clock, known: known, failing: map[uint32]string{}, after: map[uint32]string{}}
}

// SetKnown changes whom the user database knows.
func (m *Machine) SetKnown(known ...User) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users.known = known
}

// FailLinger makes SetUserLinger answer with an error for a user, before it does anything ("" heals), or after.
func (m *Machine) FailLinger(uid uint32, errName string, after bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if after {
		m.users.after[uid] = errName
	} else {
		m.users.failing[uid] = errName
	}
}

// OnLinger calls fn when SetUserLinger is asked, before anything is done.
func (m *Machine) OnLinger(fn func(uid uint32, on bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users.asked = fn
}

// Lingering lists the files there are.
func (m *Machine) Lingering() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, _ := os.ReadDir(m.users.dir)
	names := []string{}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// LingerCalls lists the calls of SetUserLinger so far, as "1000 true".
func (m *Machine) LingerCalls() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.users.log)
}

// SetLinger is loginctl enable-linger and disable-linger.
func (m *Machine) SetLinger(name string, on bool) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.users.set(name, on); err != nil {
		m.t.Fatalf("bustest: %v", err)
	}
}

func (u *users) set(name string, on bool) error {
	path := filepath.Join(u.dir, name) // tests use names that need no escaping
	if !on {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	if err := os.MkdirAll(u.dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	at := time.Now()
	if u.clock != nil {
		at = u.clock()
	}
	return os.Chtimes(path, at, at)
}

func (u *users) find(uid uint32) (User, bool) {
	i := slices.IndexFunc(u.known, func(k User) bool { return k.UID == uid })
	if i < 0 {
		return User{}, false
	}
	return u.known[i], true
}

// lingers reports whether there is a file.
func (u *users) lingers(name string) bool {
	_, err := os.Lstat(filepath.Join(u.dir, name))
	return err == nil
}

// tracked lists whom logind has an object for: those with a session, and those who linger. The lock is held.
func (m *Machine) tracked() []User {
	var list []User
	add := func(u User) {
		if !slices.ContainsFunc(list, func(k User) bool { return k.UID == u.UID }) {
			list = append(list, u)
		}
	}
	for _, s := range m.sessions {
		if u, ok := m.users.find(s.UID); ok {
			add(u)
		} else {
			add(User{UID: s.UID, GID: s.UID, Name: s.User})
		}
	}
	for _, u := range m.users.known {
		if m.users.lingers(u.Name) {
			add(u)
		}
	}
	return list
}

// usersCall answers logind's calls about users; false where the call is about something else. The lock is held.
func (m *Machine) usersCall(r request) (reply, bool) {
	switch r.member {
	case "SetUserLinger":
		return m.setUserLinger(r), true
	case "ListUsers":
		type row struct {
			UID  uint32
			Name string
			Path dbus.ObjectPath
		}
		rows := []row{}
		for _, u := range m.tracked() {
			rows = append(rows, row{u.UID, u.Name, userPath(u.UID)})
		}
		return ok(rows), true
	case "GetUser":
		for _, u := range m.tracked() {
			if len(r.body) == 1 && r.body[0] == u.UID {
				return ok(userPath(u.UID)), true
			}
		}
		return fail(loginName + ".NoSuchUser"), true
	case "Get", "GetAll":
		for _, u := range m.tracked() {
			if userPath(u.UID) != r.path {
				continue
			}
			props := m.userProps(u)
			if r.member == "GetAll" {
				return ok(props), true
			}
			if v, there := props[r.arg(1)]; there {
				return ok(v), true
			}
			return fail("org.freedesktop.DBus.Error.UnknownProperty"), true
		}
	}
	return reply{}, false
}

func (m *Machine) userProps(u User) map[string]dbus.Variant {
	state := "lingering"
	for _, s := range m.sessions {
		if s.UID == u.UID {
			state = "active"
		}
	}
	return map[string]dbus.Variant{
		"UID": dbus.MakeVariant(u.UID), "GID": dbus.MakeVariant(u.GID), "Name": dbus.MakeVariant(u.Name),
		"Linger": dbus.MakeVariant(m.users.lingers(u.Name)), "State": dbus.MakeVariant(state),
	}
}

func (m *Machine) setUserLinger(r request) reply {
	if len(r.body) != 3 {
		return fail("org.freedesktop.DBus.Error.InvalidArgs")
	}
	uid, okUID := r.body[0].(uint32)
	on, okOn := r.body[1].(bool)
	interactive, okAsk := r.body[2].(bool)
	if !okUID || !okOn || !okAsk || interactive {
		return fail("org.freedesktop.DBus.Error.InvalidArgs")
	}
	m.users.log = append(m.users.log, fmt.Sprint(uid, " ", on))
	if m.users.asked != nil {
		m.users.asked(uid, on)
	}
	if name := m.users.failing[uid]; name != "" {
		return fail(name)
	}
	u, known := m.users.find(uid)
	if !known {
		return fail("System.Error.ESRCH")
	}
	if err := m.users.set(u.Name, on); err != nil {
		return fail("System.Error.EIO")
	}
	if name := m.users.after[uid]; name != "" {
		return fail(name)
	}
	return ok()
}
