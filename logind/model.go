package logind

import (
	"time"

	"github.com/godbus/dbus/v5"
)

// model decides: it turns what the bus says into events and into questions for the bus. It does no
// I/O, knows no clock and no lock, and is driven by one goroutine (or a test), which takes events
// and asks after every step.
type model struct {
	units    map[string]*unit
	sessions map[string]*session // by ID
	// early holds sessions whose scope ended before their SessionNew arrived: two processes send,
	// and the bus keeps the order of each one's signals only.
	early map[string]bool

	// systemd is false while PID 1 cannot be asked (not on the bus, refuses, does not answer).
	// Sessions are then believed on logind's word alone.
	systemd bool
	// reloading is set between Reloading(true) and Reloading(false). PID 1 frees every unit it has
	// and loads them again, with an UnitRemoved for each: they mean nothing then.
	reloading bool
	// unsure is set when a lookup failed for a reason other than the unit being gone: reconcile
	// later.
	unsure bool

	// removed remembers, while ListUnits or ListSessions is under way, what was removed and when,
	// so that a list made before the removal does not bring it back. nil otherwise.
	removed map[string]dbus.Sequence

	events []Event
	asks   []*ask
}

// unit is what is known of one unit with a cgroup. It is kept as long as systemd has the unit
// loaded.
type unit struct {
	name string
	// path is the cgroup's path; confirmed if systemd told it (its cgroup, or its Slice), else
	// derived from names.
	path      string
	confirmed bool
	// reloaded: unit files were read again since path was confirmed, so that the next life may be
	// in another slice.
	reloaded bool
	session  *Session

	alive bool // the cgroup was seen, its Teardown is not out yet
	// lived, if set, is the proof of a life that no lookup has confirmed: a session was announced,
	// a job was run.
	lived trigger
	// id is the invocation ID of the life under way, lastID of the last one that ended. Services
	// only: they are the ones that begin a new life without being unloaded.
	id, lastID string
	// exited: a oneshot with RemainAfterExit=yes, "active" without a cgroup
	// (user-runtime-dir@.service is one). Its ExecStop= makes the cgroup a second time under the
	// same invocation ID.
	exited bool

	// ended: a Teardown is out since the unit was loaded. A scope lives once in that time.
	ended bool
	// asOf is when, among the signals, the last answer about the unit was given. Older signals tell
	// nothing new.
	asOf dbus.Sequence

	asking bool    // a lookup waits or is under way
	again  trigger // another one is wanted after that
	forgot bool    // no longer in model.units: answers are void
}

// trigger is what made the model look at a unit.
type trigger struct {
	signal string
	at     time.Time
	// exited: the unit was an exited oneshot when it happened.
	exited bool
}

func (t trigger) set() bool { return t.signal != "" }

// final reports whether the trigger itself says that the cgroup goes, so that it is believed when
// PID 1 cannot say.
func (t trigger) final() bool {
	return t.signal == SignalSessionRemoved || t.signal == SignalUserRemoved
}

// session is what is known of one login session.
type session struct {
	id     string
	path   dbus.ObjectPath
	info   *Session // nil until learned; from ListSessions without the properties at first
	whole  bool     // info has all properties
	asking bool
	forgot bool
}

// ask is a question for the bus: about a unit's cgroup, or about a session's properties.
type ask struct {
	unit    *unit
	session *session
	why     trigger
	// guess is where to look for the unit first; exact if its absence there is proof enough that it
	// is gone.
	guess string
	exact bool
}

// forgot: nobody wants to know any more.
func (a *ask) forgot() bool {
	return a.unit != nil && a.unit.forgot || a.session != nil && a.session.forgot
}

// earlyMax bounds model.early while logind is away and no SessionNew comes at all.
const earlyMax = 1024

func newModel() *model {
	return &model{units: make(map[string]*unit), sessions: make(map[string]*session),
		early: make(map[string]bool), systemd: true}
}

// take hands out what has been decided since the last call.
func (m *model) take() (events []Event, asks []*ask) {
	events, asks = m.events, m.asks
	m.events, m.asks = nil, nil
	return events, asks
}

// get returns the unit's record, made if need be.
func (m *model) get(name string) *unit {
	u := m.units[name]
	if u == nil {
		u = &unit{name: name}
		if id, ok := SessionOf(name); ok {
			if s := m.sessions[id]; s != nil {
				u.session = s.info
			}
		}
		m.units[name] = u
	}
	return u
}

func (m *model) forget(u *unit) {
	u.forgot = true
	delete(m.units, u.name)
}

// begin starts a life.
func (m *model) begin(u *unit, path string, confirmed bool, id string, why trigger) {
	u.alive, u.path, u.confirmed, u.id = true, path, confirmed, id
	u.lived, u.exited, u.reloaded = trigger{}, false, false
	m.say(Started, u, why)
}

// end ends a life, confirmed or not.
func (m *model) end(u *unit, why trigger) {
	m.say(Teardown, u, why)
	if id, ok := SessionOf(u.name); ok && m.sessions[id] == nil && !why.final() && why.signal != SignalReconcile {
		if len(m.early) >= earlyMax {
			clear(m.early)
		}
		m.early[id] = true
	}
	if u.id != "" {
		u.lastID = u.id
	}
	u.alive, u.ended, u.id, u.lived = false, true, "", trigger{}
	if u.reloaded {
		u.confirmed, u.reloaded = false, false
	}
}

func (m *model) say(kind Kind, u *unit, why trigger) {
	e := Event{Kind: kind, Unit: u.name, Session: u.session, At: why.at, Signal: why.signal}
	e.ControlGroup, e.Derived = u.where()
	if e.UID, e.HasUID = uidOf(e.ControlGroup); !e.HasUID && u.session != nil {
		e.UID, e.HasUID = u.session.UID, true
	}
	m.events = append(m.events, e)
}

// where returns the unit's path, and whether it is derived.
func (u *unit) where() (path string, derived bool) {
	if u.path != "" {
		return u.path, !u.confirmed
	}
	return derive(u.name, u.session), true
}

// check asks the bus whether the unit's cgroup lives. One question a unit at a time, so that
// answers keep the order of the lives they tell of.
func (m *model) check(u *unit, why trigger) {
	if u.asking {
		if !u.again.final() {
			u.again = why
		}
		return
	}
	u.asking = true
	path, derived := u.where()
	m.asks = append(m.asks, &ask{unit: u, why: why, guess: path, exact: !derived && !u.reloaded})
}
