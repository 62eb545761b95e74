package busapi

import (
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// Names on the bus.
const (
	Name  = "org.scopereap1"
	Path  = "/org/scopereap1"
	Iface = "org.scopereap1.Manager"
	// ListenerName is of the connection that only listens: packaging/dbus/org.scopereap1.conf keeps others from
	// sending to it.
	ListenerName = "org.scopereap1.Listener"

	LogPath  = "/org/freedesktop/LogControl1"
	LogIface = "org.freedesktop.LogControl1"

	busName       = "org.freedesktop.DBus"
	busPath       = "/org/freedesktop/DBus"
	ifacePeer     = "org.freedesktop.DBus.Peer"
	ifaceProps    = "org.freedesktop.DBus.Properties"
	ifaceIntro    = "org.freedesktop.DBus.Introspectable"
	signalChanged = ifaceProps + ".PropertiesChanged"
)

// Errors a caller can get, beside the standard ones of org.freedesktop.DBus.Error for what does not exist.
const (
	ErrInvalidArgs   = "org.scopereap1.Error.InvalidArgs"   // wrong types, or a value that means nothing
	ErrNotFound      = "org.scopereap1.Error.NotFound"      // no such cgroup or user
	ErrNotAuthorized = "org.scopereap1.Error.NotAuthorized" // the message says what would help
	ErrBusy          = "org.scopereap1.Error.Busy"          // too much under way; try again
	ErrNotSupported  = "org.scopereap1.Error.NotSupported"  // not on this machine
	ErrInvalidPolicy = "org.scopereap1.Error.InvalidPolicy" // Reload: the running policy stays in force
	ErrFailed        = "org.scopereap1.Error.Failed"
)

// Errors of the D-Bus specification.
const (
	errUnknownMethod    = "org.freedesktop.DBus.Error.UnknownMethod"
	errUnknownInterface = "org.freedesktop.DBus.Error.UnknownInterface"
	errUnknownObject    = "org.freedesktop.DBus.Error.UnknownObject"
	errUnknownProperty  = "org.freedesktop.DBus.Error.UnknownProperty"
	errReadOnly         = "org.freedesktop.DBus.Error.PropertyReadOnly"
)

// Error is an error with its name on the bus.
type Error struct {
	Name    string
	Message string
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(name, format string, args ...any) *Error {
	return &Error{name, fmt.Sprintf(format, args...)}
}

// asError gives every error a name.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var d dbus.Error // LingerAdd asks logind over the bus
	if errors.As(err, &d) {
		return &Error{ErrFailed, err.Error() + " (" + d.Name + ")"}
	}
	return &Error{ErrFailed, err.Error()}
}
