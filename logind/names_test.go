package logind

import (
	"path"
	"strings"
	"testing"
)

func TestDerive(t *testing.T) {
	s := &Session{ID: "3", UID: 1000}
	for _, c := range []struct {
		unit    string
		session *Session
		want    string
	}{
		{"session-3.scope", s, "/user.slice/user-1000.slice/session-3.scope"},
		{"session-3.scope", nil, ""},
		{"session-4.scope", s, ""},
		{"user@1000.service", nil, "/user.slice/user-1000.slice/user@1000.service"},
		{"user-runtime-dir@1000.service", nil, "/user.slice/user-1000.slice/user-runtime-dir@1000.service"},
		{"user@alice.service", nil, "/system.slice/system-user.slice/user@alice.service"},
		{"getty@tty1.service", nil, "/system.slice/system-getty.slice/getty@tty1.service"},
		{"serial-getty@ttyS0.service", nil, `/system.slice/system-serial\x2dgetty.slice/serial-getty@ttyS0.service`},
		{"user-1000.slice", nil, "/user.slice/user-1000.slice"},
		{"machine-x.scope", nil, "/machine.slice/machine-x.scope"},
		{"init.scope", nil, "/init.scope"},
		{"cron.service", nil, "/system.slice/cron.service"},
	} {
		if got := derive(c.unit, c.session); got != c.want {
			t.Errorf("derive(%q) = %q, want %q", c.unit, got, c.want)
		}
	}
}

func TestUIDOf(t *testing.T) {
	for _, c := range []struct {
		cgroup string
		uid    uint32
		ok     bool
	}{
		{"/user.slice/user-1000.slice/session-3.scope", 1000, true},
		{"/user.slice/user-0.slice", 0, true},
		{"/user.slice/user-4294967295.slice", 4294967295, true},
		{"/user.slice/user-4294967296.slice", 0, false},
		{"/user.slice/user-alice.slice", 0, false},
		{"/user.slice", 0, false},
		{"/system.slice/cron.service", 0, false},
		{"", 0, false},
	} {
		if uid, ok := uidOf(c.cgroup); uid != c.uid || ok != c.ok {
			t.Errorf("uidOf(%q) = %d, %v; want %d, %v", c.cgroup, uid, ok, c.uid, c.ok)
		}
	}
}

func TestSessionOf(t *testing.T) {
	for unit, want := range map[string]string{
		"session-3.scope": "3", "session-c1.scope": "c1", "session-.scope": "", "session-3.service": "", "run-3.scope": "",
	} {
		if id, ok := SessionOf(unit); ok && id != want || ok != (want != "") {
			t.Errorf("SessionOf(%q) = %q, %v; want %q", unit, id, ok, want)
		}
	}
}

func TestUserOf(t *testing.T) {
	for _, unit := range []string{
		"user.slice", "user-.slice", "user-1000-x.slice", "user-alice.slice", "user-+5.slice", "user-1000.scope",
		"user@1000.service", "system.slice",
	} {
		if uid, ok := UserOf(unit); ok {
			t.Errorf("UserOf(%q) = %d", unit, uid)
		}
	}
	if uid, ok := UserOf("user-1000.slice"); uid != 1000 || !ok {
		t.Errorf("%d, %v", uid, ok)
	}
}

// A name is a unit's or it has no cgroup, whoever sends it.
func TestHasCgroup(t *testing.T) {
	for name, want := range map[string]bool{
		"session-1.scope": true, "user@1000.service": true, "user-1000.slice": true, "-.slice": false, "dbus.socket": false,
		"a/../b.service": false, "/a.service": false, "a b.scope": false, "": false, strings.Repeat("a", 300) + ".service": false,
	} {
		if got := hasCgroup(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func FuzzDerive(f *testing.F) {
	for _, s := range []string{"session-3.scope", "user@1000.service", "a@b@c.service", `x\x2dy@.service`, "-.slice"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !hasCgroup(name) {
			return
		}
		id, _ := SessionOf(name)
		p := derive(name, &Session{ID: id, UID: 7})
		if p == "" {
			return
		}
		if p != path.Clean(p) || p[0] != '/' || Unescape(path.Base(p)) != name {
			t.Fatalf("derive(%q) = %q", name, p)
		}
	})
}
