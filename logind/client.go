package logind

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/login1"
	"github.com/godbus/dbus/v5"
)

// Client asks logind and PID 1 now and then, for those who do not listen to them.
type Client struct {
	bus
	cancel context.CancelFunc
}

// Connect makes a connection for a few calls, as Options.Dial does it (nil: DialSystem). timeout
// bounds that and each call (0: 10 s).
func Connect(ctx context.Context, open func(context.Context) (*dbus.Conn, error), timeout time.Duration) (*Client, error) {
	o := Options{Dial: open, CallTimeout: timeout}.withDefaults()
	conn, cancel, err := dial(ctx, o.Dial, o.CallTimeout)
	if err != nil {
		return nil, err
	}
	if f := filterOf(conn); f != nil { // answers only
		f.follow(nil, func(string) bool { return false }, func() {})
	}
	return &Client{bus{conn: conn, timeout: o.CallTimeout, count: func(bool) {}}, cancel}, nil
}

// Close ends the connection.
func (c *Client) Close() {
	c.cancel()
	c.conn.Close()
}

// SetUserLinger turns a user's linger on or off. As root no polkit is asked, hence
// interactive=false.
func (c *Client) SetUserLinger(ctx context.Context, uid uint32, on bool) error {
	_, err := c.call(ctx, loginName, loginPath, loginIface+".SetUserLinger", uid, on, false)
	return err
}

// Users returns logind's users: those with a session, and those who linger.
func (c *Client) Users(ctx context.Context) ([]login1.User, error) {
	list, _, err := fetch[[]login1.User](ctx, &c.bus, loginName, loginPath, loginIface+".ListUsers")
	return list, err
}

// PrimaryGroup asks for the GID of one of Users.
func (c *Client) PrimaryGroup(ctx context.Context, u login1.User) (uint32, error) {
	if !u.Path.IsValid() {
		return 0, fmt.Errorf("object path %q is none", u.Path)
	}
	gid, _, err := fetch[uint32](ctx, &c.bus, loginName, u.Path, propsGet, loginName+".User", "GID")
	return gid, err
}

// SliceProperties returns what PID 1 knows of a slice, nil if there is no such slice.
func (c *Client) SliceProperties(ctx context.Context, slice string) (map[string]dbus.Variant, error) {
	props, _, err := fetch[properties](ctx, &c.bus, sdName, unitPath(slice), propsAll, sdName+".Slice")
	if IsError(err, errUnknownObject, errNoSuchUnit) {
		return nil, nil
	}
	return props, err
}

// Reload is a daemon-reload. PID 1 answers after it, having said nothing to anybody in between; it
// gets as long as timeout.
func (c *Client) Reload(ctx context.Context, timeout time.Duration) error {
	slow := c.bus
	slow.timeout = timeout
	_, err := slow.call(ctx, sdName, sdPath, sdIface+".Reload")
	return err
}

// versionPatience is how long systemd may take to say its version: PID 1 is silent while it
// reloads.
const versionPatience = 3 * time.Second

// SystemdVersion asks systemd for its version, such as 252. 0: it did not answer before ctx ended
// or 3 s were over, or said no number.
func SystemdVersion(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, versionPatience)
	defer cancel()
	c, err := Connect(ctx, nil, versionPatience)
	if err != nil {
		return 0
	}
	defer c.Close()
	v, _, err := fetch[dbus.Variant](ctx, &c.bus, sdName, sdPath, propsGet, sdIface, "Version")
	if err != nil {
		return 0
	}
	version, _ := v.Value().(string)
	return parseSystemdVersion(version)
}

// parseSystemdVersion reads a version as systemd gives it: "252.39-1~deb12u1", "v258~rc1-3.fc43".
func parseSystemdVersion(s string) int {
	s = strings.TrimPrefix(s, "v")
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return 0
	}
	return n
}
