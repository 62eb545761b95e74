package logind

import (
	"context"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/bustest"
)

func TestParseSystemdVersion(t *testing.T) {
	for s, want := range map[string]int{
		"252.39-1~deb12u1": 252, "v258~rc1-3.fc43": 258, "219": 219, "": 0, "devel": 0, "99999999999999999999": 0,
	} {
		if got := parseSystemdVersion(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

// versionIs answers for org.freedesktop.systemd1.
type versionIs struct{ value any }

func (v *versionIs) Get(iface, property string) (dbus.Variant, *dbus.Error) {
	if iface != "org.freedesktop.systemd1.Manager" || property != "Version" {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
	}
	return dbus.MakeVariant(v.value), nil
}

func TestSystemdVersion(t *testing.T) {
	bus := bustest.StartBus(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address)
	ctx := context.Background()
	if v := SystemdVersion(ctx); v != 0 {
		t.Errorf("no systemd: %d", v)
	}
	conn := bus.Connect()
	for _, c := range []struct {
		told any
		want int
	}{{"252.39-1~deb12u1", 252}, {uint32(252), 0}, {"new", 0}} {
		err := conn.Export(&versionIs{c.told}, "/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.RequestName("org.freedesktop.systemd1", dbus.NameFlagDoNotQueue); err != nil {
			t.Fatal(err)
		}
		if v := SystemdVersion(ctx); v != c.want {
			t.Errorf("%v: %d, want %d", c.told, v, c.want)
		}
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if v := SystemdVersion(over); v != 0 {
		t.Errorf("after the end: %d", v)
	}
	bus.Stop()
	if v := SystemdVersion(ctx); v != 0 {
		t.Errorf("no bus: %d", v)
	}
}
