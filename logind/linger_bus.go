package logind

import (
	"context"
	"errors"
	"fmt"

	"github.com/coreos/go-systemd/v22/login1"
	"github.com/godbus/dbus/v5"
)

// lingerBus is a connection that is made when the first call needs it.
type lingerBus struct {
	opts   LingerOptions
	bus    *bus
	cancel context.CancelFunc
}

func (b *lingerBus) connect(ctx context.Context) (*bus, error) {
	if b.bus != nil {
		return b.bus, nil
	}
	conn, cancel, err := dial(ctx, b.opts.Dial, b.opts.CallTimeout)
	if err != nil {
		return nil, fmt.Errorf("asking logind: %w (check that dbus.service runs)", err)
	}
	if f := filterOf(conn); f != nil { // answers only
		f.follow(nil, func(string) bool { return false }, func() {})
	}
	b.bus, b.cancel = &bus{conn: conn, timeout: b.opts.CallTimeout, count: func(bool) {}}, cancel
	return b.bus, nil
}

func (b *lingerBus) close() {
	if b.bus != nil {
		b.cancel()
		b.bus.conn.Close()
		b.bus = nil
	}
}

// setLinger turns a user's linger on or off. As root no polkit is asked, hence interactive=false.
func (b *lingerBus) setLinger(ctx context.Context, u User, on bool) error {
	bus, err := b.connect(ctx)
	if err == nil {
		_, err = bus.call(ctx, loginName, loginPath, loginIface+".SetUserLinger", u.UID, on, false)
	}
	return lingerError(u, err)
}

// Names of what logind answers to SetUserLinger. Which one an unknown user gets depends on its version: errno of
// getpwuid before systemd 253 (often ENOENT), ESRCH since.
var (
	unknownUserErrors = []string{
		loginName + ".NoSuchUser", "System.Error.ENOENT", "System.Error.ESRCH",
		busName + ".Error.FileNotFound", busName + ".Error.UnixProcessIdUnknown",
	}
	notAllowedErrors = []string{
		busName + ".Error.AccessDenied", busName + ".Error.InteractiveAuthorizationRequired", "System.Error.EPERM",
		"System.Error.EACCES",
	}
	noLogindErrors = []string{errNameHasNoOwner, busName + ".Error.ServiceUnknown"}
)

// errNoLogind says that nobody is there to ask, so that nobody remembers either.
var errNoLogind = errors.New("systemd-logind does not run; start it: systemctl start systemd-logind")

// lingerError says what a failed SetUserLinger means.
func lingerError(u User, err error) error {
	switch {
	case err == nil:
		return nil
	case IsError(err, unknownUserErrors...):
		return fmt.Errorf("user %s: logind finds no user with UID %d: %w; it asks the machine's user database (getent passwd %d)",
			u.Name, u.UID, err, u.UID)
	case IsError(err, notAllowedErrors...):
		return fmt.Errorf("user %s: logind does not allow it: %w; it takes root", u.Name, err)
	case IsError(err, noLogindErrors...):
		return fmt.Errorf("user %s: %w", u.Name, errNoLogind)
	}
	return fmt.Errorf("user %s: %w", u.Name, err)
}

// definite reports whether an error is logind's own word, after which it will not do it later all the same.
func definite(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name != busName+".Error.NoReply" || errors.Is(err, errNoLogind)
}

// loggedIn returns logind's users: those with a session, and those who linger. Their primary groups are asked for only
// where wanted: it takes a call for each.
func (b *lingerBus) loggedIn(ctx context.Context, groups bool) ([]knownUser, error) {
	bus, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	rows, _, err := fetch[[]login1.User](ctx, bus, loginName, loginPath, loginIface+".ListUsers")
	if IsError(err, noLogindErrors...) {
		return nil, errNoLogind
	}
	if err != nil {
		return nil, err
	}
	users := make([]knownUser, 0, len(rows))
	for _, r := range rows {
		if nameFault(r.Name) != nil || !validUID(r.UID) {
			continue
		}
		u := knownUser{User: User{UID: r.UID, Name: r.Name}, noGID: true}
		if groups {
			if gid, err := userGID(ctx, bus, r.Path); err == nil {
				u.GID, u.noGID = gid, false
			}
		}
		users = append(users, u)
	}
	return users, nil
}

// userGID asks a User object for its primary group.
func userGID(ctx context.Context, bus *bus, path dbus.ObjectPath) (uint32, error) {
	if !path.IsValid() {
		return 0, fmt.Errorf("object path %q is none", path)
	}
	gid, _, err := fetch[uint32](ctx, bus, loginName, path, propsGet, loginName+".User", "GID")
	return gid, err
}
