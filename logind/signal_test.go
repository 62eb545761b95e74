package logind

import (
	"testing"

	"github.com/godbus/dbus/v5"
)

func owners(name string) string {
	return map[string]string{busName: busName, sdName: ":1.0", loginName: ":1.1"}[name]
}

func TestParseSignal(t *testing.T) {
	p := dbus.ObjectPath("/x")
	good := []struct {
		s    dbus.Signal
		want notice
	}{
		{dbus.Signal{Sender: ":1.0", Path: sdPath, Name: sdIface + ".UnitRemoved", Body: []any{"a.scope", p}},
			notice{member: "UnitRemoved", name: "a.scope"}},
		{dbus.Signal{Sender: ":1.0", Path: sdPath, Name: sdIface + ".JobRemoved", Body: []any{uint32(1), p, "a.scope", "done"}},
			notice{member: "JobRemoved", name: "a.scope", result: "done"}},
		{dbus.Signal{Sender: ":1.0", Path: sdPath, Name: sdIface + ".Reloading", Body: []any{true}},
			notice{member: "Reloading", flag: true}},
		{dbus.Signal{Sender: ":1.1", Path: loginPath, Name: loginIface + ".SessionNew", Body: []any{"3", p}},
			notice{member: "SessionNew", name: "3", path: p}},
		{dbus.Signal{Sender: ":1.1", Path: loginPath, Name: loginIface + ".UserRemoved", Body: []any{uint32(7), p}},
			notice{member: "UserRemoved", uid: 7}},
		{dbus.Signal{Sender: ":1.1", Path: loginPath, Name: loginIface + ".SeatNew", Body: []any{"seat0", p}},
			notice{member: "SeatNew"}},
		{dbus.Signal{Sender: busName, Path: "/org/freedesktop/DBus", Name: busName + ".NameOwnerChanged", Body: []any{sdName, ":1.0", ":1.9"}},
			notice{member: "NameOwnerChanged", name: sdName, owner: ":1.9"}},
	}
	for _, c := range good {
		if got, err := parseSignal(&c.s, owners); err != nil || got != c.want {
			t.Errorf("parseSignal(%+v) = %+v, %v; want %+v", c.s, got, err, c.want)
		}
	}
	bad := map[string]dbus.Signal{
		"another sender":          {Sender: ":1.66", Path: sdPath, Name: sdIface + ".UnitRemoved", Body: []any{"a.scope", p}},
		"logind for systemd":      {Sender: ":1.1", Path: sdPath, Name: sdIface + ".UnitRemoved", Body: []any{"a.scope", p}},
		"another path":            {Sender: ":1.0", Path: "/evil", Name: sdIface + ".UnitRemoved", Body: []any{"a.scope", p}},
		"another interface":       {Sender: ":1.0", Path: sdPath, Name: "x.y.UnitRemoved", Body: []any{"a.scope", p}},
		"no member":               {Sender: ":1.0", Path: sdPath, Name: sdIface, Body: []any{"a.scope", p}},
		"too few arguments":       {Sender: ":1.0", Path: sdPath, Name: sdIface + ".UnitRemoved", Body: []any{"a.scope"}},
		"too many arguments":      {Sender: ":1.0", Path: sdPath, Name: sdIface + ".Reloading", Body: []any{true, true}},
		"wrong types":             {Sender: ":1.0", Path: sdPath, Name: sdIface + ".JobRemoved", Body: []any{1, 2, 3, 4}},
		"none at all":             {Sender: ":1.1", Path: loginPath, Name: loginIface + ".SessionRemoved"},
		"a faked change of owner": {Sender: ":1.66", Path: "/org/freedesktop/DBus", Name: busName + ".NameOwnerChanged", Body: []any{sdName, "", ":1.66"}},
	}
	for what, s := range bad {
		if got, err := parseSignal(&s, owners); err == nil {
			t.Errorf("%s: parseSignal = %+v, want an error", what, got)
		}
	}
	// While nobody owns the name, nobody speaks for it, not even a sender without a name.
	s := dbus.Signal{Path: sdPath, Name: sdIface + ".UnitRemoved", Body: []any{"a.scope", p}}
	if _, err := parseSignal(&s, func(string) string { return "" }); err == nil {
		t.Error("a signal without a sender was taken")
	}
}

func FuzzParseSignal(f *testing.F) {
	f.Add(":1.0", sdPath, sdIface+".UnitRemoved", "a.scope", uint32(1), true, uint8(2))
	f.Add(":1.1", loginPath, loginIface+".UserRemoved", "x", uint32(1000), false, uint8(9))
	f.Fuzz(func(t *testing.T, sender, path, name, s string, n uint32, b bool, shape uint8) {
		args := []any{s, n, b, dbus.ObjectPath(s), []string{s}, nil}
		var body []any
		for ; shape > 0; shape /= 6 {
			body = append(body, args[shape%6])
		}
		sig := &dbus.Signal{Sender: sender, Path: dbus.ObjectPath(path), Name: name, Body: body}
		got, err := parseSignal(sig, owners)
		if err == nil && sender != ":1.0" && sender != ":1.1" && sender != busName {
			t.Fatalf("%+v was taken from %q", got, sender)
		}
	})
}
