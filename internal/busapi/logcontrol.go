package busapi

import (
	"slices"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// syslogIdentifier is what the journal calls us.
const syslogIdentifier = "scopereapd"

// logControl is org.freedesktop.LogControl1 (its own man page in section 5), for systemctl service-log-level
// and service-log-target. As systemd's annotations say, nothing tells of a change.
func logControl() iface {
	return iface{name: LogIface, props: []property{
		{"LogLevel", prop.EmitFalse, func(v *values) any { return v.logLevel }, setLogLevel},
		{"LogTarget", prop.EmitFalse, func(v *values) any { return v.logTarget }, setLogTarget},
		{"SyslogIdentifier", prop.EmitConst, func(*values) any { return syslogIdentifier }, nil},
	}}
}

// levels are syslog's names, least important last.
var levels = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}

// stringFor checks who sets a property to what: only root may, and only a string.
func (c *call) stringFor(v dbus.Variant) (string, error) {
	s, ok := v.Value().(string)
	if !ok {
		return "", Errorf(ErrInvalidArgs, "takes a string, not %q", v.Signature())
	}
	if c.uid != 0 {
		return "", Errorf(ErrNotAuthorized, "only root may change how scopereapd logs")
	}
	return s, nil
}

func setLogLevel(c *call, v dbus.Variant) error {
	level, err := c.stringFor(v)
	if err != nil {
		return err
	}
	if !slices.Contains(levels, level) {
		return Errorf(ErrInvalidArgs, "no log level %q: one of %v", level, levels)
	}
	err = c.s.svc.backend.SetLogLevel(level)
	c.s.svc.values.stale()
	return err
}

// setLogTarget refuses all but what is: who started scopereapd decided that.
func setLogTarget(c *call, v dbus.Variant) error {
	target, err := c.stringFor(v)
	if err != nil {
		return err
	}
	if now := c.s.svc.backend.LogTarget(); target != now && target != "auto" {
		return Errorf(ErrNotSupported, "scopereapd logs to %s; its unit's StandardError= decides that", now)
	}
	return nil
}
