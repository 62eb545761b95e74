package logind

import (
	"fmt"

	"github.com/godbus/dbus/v5"
)

const (
	memberReloading        = "Reloading"
	memberNameOwnerChanged = "NameOwnerChanged"
)

// source is a service whose signals are listened to.
type source struct {
	name  string // well-known name on the bus
	path  dbus.ObjectPath
	iface string
}

// sources are the only places signals are taken from.
func sources() []source {
	return []source{
		{busName, busPath, busName},
		{loginName, loginPath, loginIface},
		{sdName, sdPath, sdIface},
	}
}

// notice is a signal that has been understood.
type notice struct {
	member string
	name   string          // unit, session ID, or bus name
	path   dbus.ObjectPath // SessionNew: the session's
	result string          // JobRemoved
	uid    uint32          // UserNew, UserRemoved
	flag   bool            // Reloading: begins
	owner  string          // NameOwnerChanged: new owner
}

// parseSignal reads a signal. owner tells the unique name that may send signals in a well-known
// name's place: match rules filter broadcasts by sender, but any client may send us a signal
// directly with whatever content it likes.
func parseSignal(s *dbus.Signal, owner func(name string) string) (notice, error) {
	var from source
	for _, c := range sources() {
		if member, ok := cutIface(s.Name, c.iface); ok && s.Path == c.path {
			from = c
			n := notice{member: member}
			if want := owner(from.name); want == "" || s.Sender != want {
				return notice{}, fmt.Errorf("signal %s from %q: %s is %q", s.Name, s.Sender, from.name, want)
			}
			return n.read(s)
		}
	}
	return notice{}, fmt.Errorf("signal %s at %s from %q: nobody asked for it", s.Name, s.Path, s.Sender)
}

func cutIface(name, iface string) (member string, ok bool) {
	if len(name) > len(iface)+1 && name[:len(iface)] == iface && name[len(iface)] == '.' {
		return name[len(iface)+1:], true
	}
	return "", false
}

// read takes the arguments of the signals that matter. Others of the same interfaces (SeatNew, ...)
// are no error.
func (n notice) read(s *dbus.Signal) (notice, error) {
	ok := true
	switch n.member {
	case SignalUnitNew, SignalUnitRemoved:
		n.name, _, ok = two[string, dbus.ObjectPath](s.Body)
	case SignalSessionNew, SignalSessionRemoved:
		n.name, n.path, ok = two[string, dbus.ObjectPath](s.Body)
	case SignalUserNew, SignalUserRemoved:
		n.uid, _, ok = two[uint32, dbus.ObjectPath](s.Body)
	case SignalJobRemoved:
		if ok = len(s.Body) == 4; ok {
			n.name, n.result, ok = two[string, string](s.Body[2:])
		}
	case memberReloading:
		if ok = len(s.Body) == 1; ok {
			n.flag, ok = s.Body[0].(bool)
		}
	case memberNameOwnerChanged:
		if ok = len(s.Body) == 3; ok {
			n.name, _, ok = two[string, string](s.Body[:2])
			if ok {
				n.owner, ok = s.Body[2].(string)
			}
		}
	}
	if !ok {
		return notice{}, fmt.Errorf("signal %s from %q: arguments %v are of unexpected types", s.Name, s.Sender, s.Body)
	}
	return n, nil
}

// two reads exactly two arguments of given types.
func two[A, B any](body []any) (a A, b B, ok bool) {
	if len(body) != 2 {
		return a, b, false
	}
	a, okA := body[0].(A)
	b, okB := body[1].(B)
	return a, b, okA && okB
}
