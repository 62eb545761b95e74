package logind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	sdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/login1"
	"github.com/godbus/dbus/v5"
)

const (
	busName    = "org.freedesktop.DBus"
	busPath    = "/org/freedesktop/DBus"
	propsGet   = "org.freedesktop.DBus.Properties.Get"
	propsAll   = "org.freedesktop.DBus.Properties.GetAll"
	loginName  = "org.freedesktop.login1"
	loginPath  = "/org/freedesktop/login1"
	loginIface = loginName + ".Manager"
	sdName     = "org.freedesktop.systemd1"
	sdPath     = "/org/freedesktop/systemd1"
	sdIface    = sdName + ".Manager"
	sdUnitBase = sdPath + "/unit/"
)

// Names of D-Bus errors that are answers.
const (
	errNoSuchUnit     = sdName + ".NoSuchUnit"
	errSubscribed     = sdName + ".AlreadySubscribed"
	errNoSuchSession  = loginName + ".NoSuchSession"
	errUnknownObject  = busName + ".Error.UnknownObject"
	errNameHasNoOwner = busName + ".Error.NameHasNoOwner"
)

// bus makes the calls. It has no state but the connection, so its methods run in as many goroutines
// as wanted.
type bus struct {
	conn    *dbus.Conn
	timeout time.Duration
	count   func(failed bool) // called once a call
}

// call makes one method call with a deadline. Nothing is ever started by it: a machine whose logind
// is not running has its reasons.
func (b *bus) call(ctx context.Context, dest string, path dbus.ObjectPath, method string, args ...any) (*dbus.Call, error) {
	limited, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	c := b.conn.Object(dest, path).CallWithContext(limited, method, dbus.FlagNoAutoStart, args...)
	var err error
	switch {
	case c.Err == nil:
	case ctx.Err() == nil && errors.Is(c.Err, context.DeadlineExceeded):
		err = fmt.Errorf("%s on %s: no answer within %v", method, dest, b.timeout)
	default:
		err = fmt.Errorf("%s on %s: %w", method, dest, c.Err)
	}
	b.count(err != nil && !answers(err))
	return c, err
}

// answers reports whether a D-Bus error is an answer to what was asked, rather than a failure to
// answer.
func answers(err error) bool {
	return IsError(err, errNoSuchUnit, errSubscribed, errNoSuchSession, errUnknownObject, errNameHasNoOwner)
}

// IsError reports whether an error is a D-Bus error of one of these names.
func IsError(err error, names ...string) bool {
	var e dbus.Error
	return errors.As(err, &e) && slices.Contains(names, e.Name)
}

// fetch makes a call that is answered with one value, and also returns the answer's place among the
// signals. An answer of another type is an error.
func fetch[T any](ctx context.Context, b *bus, dest string, path dbus.ObjectPath, method string, args ...any) (
	value T, at dbus.Sequence, err error,
) {
	c, err := b.call(ctx, dest, path, method, args...)
	if err != nil {
		return value, c.ResponseSequence, err
	}
	if err = c.Store(&value); err != nil {
		err = fmt.Errorf("%s on %s: answer of an unexpected type: %w", c.Method, c.Destination, err)
	}
	return value, c.ResponseSequence, err
}

// properties are those of one interface of an object.
type properties = map[string]dbus.Variant

// owner returns the unique name behind a well-known one, "" if nobody owns it.
func (b *bus) owner(ctx context.Context, name string) (string, error) {
	owner, _, err := fetch[string](ctx, b, busName, busPath, busName+".GetNameOwner", name)
	if IsError(err, errNameHasNoOwner) {
		return "", nil
	}
	return owner, err
}

// subscribe asks PID 1 to send signals. It forgets that when it or the bus starts again; asking
// twice does no harm.
func (b *bus) subscribe(ctx context.Context) error {
	_, err := b.call(ctx, sdName, sdPath, sdIface+".Subscribe")
	if IsError(err, errSubscribed) {
		return nil
	}
	return err
}

// listUnits returns what PID 1 has loaded, and the place of the answer among the signals.
func (b *bus) listUnits(ctx context.Context) ([]listed, dbus.Sequence, error) {
	rows, at, err := fetch[[]sdbus.UnitStatus](ctx, b, sdName, sdPath, sdIface+".ListUnits")
	if err != nil {
		return nil, 0, err
	}
	list := make([]listed, 0, len(rows))
	for _, r := range rows {
		if hasCgroup(r.Name) {
			list = append(list, listed{name: r.Name, active: r.ActiveState, sub: r.SubState})
		}
	}
	return list, at, nil
}

// listSessions returns logind's sessions, and the place of the answer among the signals.
func (b *bus) listSessions(ctx context.Context) ([]login1.Session, dbus.Sequence, error) {
	return fetch[[]login1.Session](ctx, b, loginName, loginPath, loginIface+".ListSessions")
}

// session returns a session's properties; gone if logind does not know it.
func (b *bus) session(ctx context.Context, id string, path dbus.ObjectPath) (info *Session, gone bool, err error) {
	props, _, err := fetch[properties](ctx, b, loginName, path, propsAll, loginName+".Session")
	if IsError(err, errUnknownObject, errNoSuchSession) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	info, err = parseSession(id, props)
	return info, false, err
}
