package logind

import (
	"encoding/hex"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// parseSession reads the properties of org.freedesktop.login1.Session. The user must be there; what
// else is missing (older logind) or of another type stays zero.
func parseSession(id string, props map[string]dbus.Variant) (*Session, error) {
	s := &Session{
		ID:         id,
		User:       prop[string](props, "Name"),
		Service:    prop[string](props, "Service"),
		Class:      prop[string](props, "Class"),
		Type:       prop[string](props, "Type"),
		Leader:     prop[uint32](props, "Leader"),
		Remote:     prop[bool](props, "Remote"),
		RemoteHost: prop[string](props, "RemoteHost"),
		Scope:      prop[string](props, "Scope"),
	}
	user := prop[[]any](props, "User") // (uo): UID and object path
	uid, ok := uint32(0), false
	if len(user) > 0 {
		uid, ok = user[0].(uint32)
	}
	if !ok {
		return nil, fmt.Errorf("session %s: property User is %v instead of (uo)", id, props["User"].Value())
	}
	s.UID = uid
	if _, told := props["Scope"].Value().(string); !told {
		s.Scope = sessionScope(id)
	}
	return s, nil
}

// prop returns a property of the type wanted, or the zero value.
func prop[T any](props map[string]dbus.Variant, name string) T {
	v, _ := props[name].Value().(T)
	return v
}

// unitState is what the properties of org.freedesktop.systemd1.Unit say.
type unitState struct {
	loaded bool
	listed
	id string // invocation ID in hex, "" if the unit never ran
}

// parseUnit reads the properties of org.freedesktop.systemd1.Unit.
func parseUnit(name string, props map[string]dbus.Variant) (unitState, error) {
	load := prop[string](props, "LoadState")
	if load == "" {
		return unitState{}, fmt.Errorf("unit %s: property LoadState is missing or no string", name)
	}
	return unitState{
		// Asking for a name that is not loaded makes systemd load it, and this is what it then says
		// of a scope that is gone.
		loaded: load != "not-found",
		listed: listed{name, prop[string](props, "ActiveState"), prop[string](props, "SubState")},
		id:     hex.EncodeToString(prop[[]byte](props, "InvocationID")),
	}, nil
}
