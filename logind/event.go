package logind

import "time"

// Kind says what happened to a unit's cgroup.
type Kind uint8

const (
	// Started: the unit's cgroup was seen to live. It comes as early as systemd can confirm the
	// directory, so that a v1 hold gets in while it is there. A life too short to be confirmed has
	// no Started.
	Started Kind = iota + 1
	// Teardown: the unit's cgroup is gone or about to go. Exactly one a life.
	Teardown
)

// String returns the kind in lower case, as logs show it.
func (k Kind) String() string {
	switch k {
	case Started:
		return "started"
	case Teardown:
		return "teardown"
	}
	return "unknown"
}

// Names of the signals an Event can carry in Event.Signal.
const (
	SignalSessionNew     = "SessionNew"
	SignalSessionRemoved = "SessionRemoved"
	SignalUserNew        = "UserNew"
	SignalUserRemoved    = "UserRemoved"
	SignalUnitNew        = "UnitNew"
	SignalUnitRemoved    = "UnitRemoved"
	SignalJobRemoved     = "JobRemoved"
	// SignalReconcile: no signal told it, a comparison with ListUnits or ListSessions did: at the
	// start, and after the bus, systemd or logind was away.
	SignalReconcile = "reconcile"
)

// Event is one step in the life of a unit's cgroup. Events of one unit come in the order of its
// lives; two units' events come in the order they were decided, which can differ by the time of a
// call from the order of the signals.
type Event struct {
	Kind Kind
	Unit string // "session-3.scope"
	// ControlGroup is the path below the mount of a cgroup hierarchy,
	// "/user.slice/user-1000.slice/session-3.scope". Empty where a session came and went before its
	// user could be learned: somewhere below /user.slice then.
	ControlGroup string
	// Derived: ControlGroup follows from the unit's name and systemd's defaults; systemd could not
	// be asked in time.
	Derived bool
	// Session is the login session whose scope the unit is; nil for other units, and for a session
	// whose properties were not (or not yet) to be had. Shared between events: do not change it.
	Session *Session
	// UID is the user whose slice the cgroup is in, where HasUID.
	UID    uint32
	HasUID bool
	At     time.Time // when the signal that told it was read
	Signal string    // which signal told it first, one of the Signal constants
}

// Session is what is known of a login session, learned while it lives.
type Session struct {
	ID         string // "3", "c1"
	UID        uint32
	User       string // user name
	Service    string // PAM service: "sshd", "cron"
	Class      string // "user", "greeter", "background", ...
	Type       string // "tty", "x11", "unspecified", ...
	Leader     uint32 // PID of the session's leader
	Remote     bool
	RemoteHost string
	Scope      string // "session-3.scope"; empty for a session without one (class=none, from systemd 258)
}
