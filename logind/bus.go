package logind

import (
	"context"
	"errors"
	"fmt"
	"time"

	sdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/login1"
	"github.com/godbus/dbus/v5"
)

const (
	busName    = "org.freedesktop.DBus"
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

// bus makes the calls. It has no state but the connection, so its methods run in as many goroutines as wanted.
type bus struct {
	conn    *dbus.Conn
	timeout time.Duration
	count   func(failed bool) // called once a call
}

// call makes one method call with a deadline. Nothing is ever started by it: a machine whose logind is not running
// has its reasons.
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

// answers reports whether a D-Bus error is an answer to what was asked, rather than a failure to answer.
func answers(err error) bool {
	return isError(err, errNoSuchUnit) || isError(err, errSubscribed) || isError(err, errNoSuchSession) ||
		isError(err, errUnknownObject) || isError(err, errNameHasNoOwner)
}

func isError(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == name
}

// store reads a reply. A reply of the wrong type is an error.
func store(c *dbus.Call, into ...any) error {
	if err := c.Store(into...); err != nil {
		return fmt.Errorf("%s on %s: answer of an unexpected type: %w", c.Method, c.Destination, err)
	}
	return nil
}

// owner returns the unique name behind a well-known one, "" if nobody owns it.
func (b *bus) owner(ctx context.Context, name string) (string, error) {
	c, err := b.call(ctx, busName, "/org/freedesktop/DBus", busName+".GetNameOwner", name)
	if isError(err, errNameHasNoOwner) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var owner string
	err = store(c, &owner)
	return owner, err
}

// subscribe asks PID 1 to send signals. It forgets that when it or the bus starts again; asking twice does no harm.
func (b *bus) subscribe(ctx context.Context) error {
	_, err := b.call(ctx, sdName, sdPath, sdIface+".Subscribe")
	if isError(err, errSubscribed) {
		return nil
	}
	return err
}

// listUnits returns what PID 1 has loaded, and the place of the answer among the signals.
func (b *bus) listUnits(ctx context.Context) ([]listed, dbus.Sequence, error) {
	c, err := b.call(ctx, sdName, sdPath, sdIface+".ListUnits")
	if err != nil {
		return nil, 0, err
	}
	var rows []sdbus.UnitStatus
	if err := store(c, &rows); err != nil {
		return nil, 0, err
	}
	list := make([]listed, 0, len(rows))
	for _, r := range rows {
		if hasCgroup(r.Name) {
			list = append(list, listed{name: r.Name, active: r.ActiveState, sub: r.SubState})
		}
	}
	return list, c.ResponseSequence, nil
}

// listSessions returns logind's sessions, and the place of the answer among the signals.
func (b *bus) listSessions(ctx context.Context) ([]login1.Session, dbus.Sequence, error) {
	c, err := b.call(ctx, loginName, loginPath, loginIface+".ListSessions")
	if err != nil {
		return nil, 0, err
	}
	var rows []login1.Session
	if err := store(c, &rows); err != nil {
		return nil, 0, err
	}
	return rows, c.ResponseSequence, nil
}

// session returns a session's properties; gone if logind does not know it.
func (b *bus) session(ctx context.Context, id string, path dbus.ObjectPath) (info *Session, gone bool, err error) {
	c, err := b.call(ctx, loginName, path, propsAll, loginName+".Session")
	if isError(err, errUnknownObject) || isError(err, errNoSuchSession) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	var props map[string]dbus.Variant
	if err := store(c, &props); err != nil {
		return nil, false, err
	}
	info, err = parseSession(id, props)
	return info, false, err
}
