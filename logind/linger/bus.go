package linger

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/logind/users"
)

// connection is a connection to logind that is made when the first call needs it.
type connection struct {
	opts   Options
	client *logind.Client
}

func (b *connection) connect(ctx context.Context) (*logind.Client, error) {
	if b.client == nil {
		c, err := logind.Connect(ctx, b.opts.Dial, b.opts.CallTimeout)
		if err != nil {
			return nil, fmt.Errorf("asking logind: %w (check that dbus.service runs)", err)
		}
		b.client = c
	}
	return b.client, nil
}

func (b *connection) close() {
	if b.client != nil {
		b.client.Close()
		b.client = nil
	}
}

// setLinger turns a user's linger on or off.
func (b *connection) setLinger(ctx context.Context, u users.User, on bool) error {
	c, err := b.connect(ctx)
	if err == nil {
		err = c.SetUserLinger(ctx, u.UID, on)
	}
	return setError(u, err)
}

// Names of what logind answers to SetUserLinger. Which one an unknown user gets depends on its
// version: errno of getpwuid before systemd 253 (often ENOENT), ESRCH since.
var (
	unknownUserErrors = []string{
		"org.freedesktop.login1.NoSuchUser", "System.Error.ENOENT", "System.Error.ESRCH",
		busError + "FileNotFound", busError + "UnixProcessIdUnknown",
	}
	notAllowedErrors = []string{
		busError + "AccessDenied", busError + "InteractiveAuthorizationRequired", "System.Error.EPERM", "System.Error.EACCES",
	}
	noLogindErrors = []string{busError + "NameHasNoOwner", busError + "ServiceUnknown"}
)

const busError = "org.freedesktop.DBus.Error."

// errNoLogind says that nobody is there to ask, so that nobody remembers either.
var errNoLogind = errors.New("systemd-logind does not run; start it: systemctl start systemd-logind")

// setError says what a failed SetUserLinger means.
func setError(u users.User, err error) error {
	switch {
	case err == nil:
		return nil
	case logind.IsError(err, unknownUserErrors...):
		return fmt.Errorf("user %s: logind finds no user with UID %d: %w; it asks the machine's user database (getent passwd %d)",
			u.Name, u.UID, err, u.UID)
	case logind.IsError(err, notAllowedErrors...):
		return fmt.Errorf("user %s: logind does not allow it: %w; it takes root", u.Name, err)
	case logind.IsError(err, noLogindErrors...):
		return fmt.Errorf("user %s: %w", u.Name, errNoLogind)
	}
	return fmt.Errorf("user %s: %w", u.Name, err)
}

// definite reports whether an error is logind's own word, after which it will not do it later all
// the same.
func definite(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name != busError+"NoReply" || errors.Is(err, errNoLogind)
}

// loggedIn returns logind's users: those with a session, and those who linger. Their primary groups
// are asked for only where wanted: it takes a call for each.
func (b *connection) loggedIn(ctx context.Context, groups bool) ([]knownUser, error) {
	c, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := c.Users(ctx)
	if logind.IsError(err, noLogindErrors...) {
		return nil, errNoLogind
	}
	if err != nil {
		return nil, err
	}
	list := make([]knownUser, 0, len(rows))
	for _, r := range rows {
		if users.NameFault(r.Name) != nil || !users.ValidUID(r.UID) {
			continue
		}
		u := knownUser{User: users.User{UID: r.UID, Name: r.Name}, noGID: true}
		if groups {
			if gid, err := c.PrimaryGroup(ctx, r); err == nil {
				u.GID, u.noGID = gid, false
			}
		}
		list = append(list, u)
	}
	return list, nil
}
