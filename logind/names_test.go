package logind

import (
	"path"
	"strings"
	"testing"
)

func TestSlicePath(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"-.slice", "/"},
		{"user.slice", "/user.slice"},
		{"user-1000.slice", "/user.slice/user-1000.slice"},
		{"a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"},
		{`system-foo\x2dbar.slice`, `/system.slice/system-foo\x2dbar.slice`},
		{"memory.slice", "/_memory.slice"},
		{"memory-low.slice", "/_memory.slice/memory-low.slice"},
		{"cgroup.x.slice", "/_cgroup.x.slice"},
		{"_x.slice", "/__x.slice"},
		{"_x-y.slice", "/__x.slice/__x-y.slice"},
		{".hidden.slice", "/_.hidden.slice"},
	} {
		if got, err := SlicePath(c.name); err != nil || got != c.want {
			t.Errorf("SlicePath(%q) = %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	for _, bad := range []string{
		"", ".slice", "--.slice", "-a.slice", "a-.slice", "a--b.slice", "a.service", "a", "a@b.slice", "a/b.slice",
		"../x.slice", "a b.slice", strings.Repeat("a", 250) + ".slice", "ä.slice",
	} {
		if got, err := SlicePath(bad); err == nil {
			t.Errorf("SlicePath(%q) = %q, want an error", bad, got)
		}
	}
}

func TestUnitCgroup(t *testing.T) {
	for _, c := range []struct{ slice, unit, want string }{
		{"user-1000.slice", "session-3.scope", "/user.slice/user-1000.slice/session-3.scope"},
		{"-.slice", "init.scope", "/init.scope"},
		{"system.slice", "cpu.service", "/system.slice/_cpu.service"},
		{"system.slice", "cpufreq.service", "/system.slice/cpufreq.service"},
		{"io.slice", "_odd.service", "/_io.slice/__odd.service"},
		{"ignored for slices", "user-0.slice", "/user.slice/user-0.slice"},
		{"system-getty.slice", "getty@tty1.service", "/system.slice/system-getty.slice/getty@tty1.service"},
	} {
		if got, err := UnitCgroup(c.slice, c.unit); err != nil || got != c.want {
			t.Errorf("UnitCgroup(%q, %q) = %q, %v; want %q", c.slice, c.unit, got, err, c.want)
		}
	}
	for _, bad := range [][2]string{{"", "a.service"}, {"a.service", "a.service"}, {"a.slice", "../a.service"}, {"a.slice", ""}} {
		if got, err := UnitCgroup(bad[0], bad[1]); err == nil {
			t.Errorf("UnitCgroup(%q, %q) = %q, want an error", bad[0], bad[1], got)
		}
	}
}

func FuzzSlicePath(f *testing.F) {
	for _, s := range []string{"-.slice", "user-1000.slice", "a--b.slice", "memory-x.slice", "_.slice", "../.slice"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, err := SlicePath(name)
		if err != nil {
			return
		}
		if p != path.Clean(p) || p[0] != '/' {
			t.Fatalf("SlicePath(%q) = %q is no clean absolute path", name, p)
		}
		if name == rootSlice {
			return
		}
		if got := Unescape(path.Base(p)); got != name {
			t.Fatalf("SlicePath(%q) = %q ends in %q", name, p, got)
		}
		// Each step is the slice above the next: a parent's path is the path of the parent's name.
		if parent, _ := path.Split(p); parent != "/" {
			parent = strings.TrimSuffix(parent, "/")
			if again, err := SlicePath(Unescape(path.Base(parent))); err != nil || again != parent {
				t.Fatalf("SlicePath(%q) = %q: its parent's path is %q, %v", name, p, again, err)
			}
		}
	})
}

func FuzzUnitCgroup(f *testing.F) {
	f.Add("user-1000.slice", "session-3.scope")
	f.Add("-.slice", "init.scope")
	f.Add("system.slice", "memory.service")
	f.Add("a.slice", "/../b.service")
	f.Fuzz(func(t *testing.T, slice, unit string) {
		p, err := UnitCgroup(slice, unit)
		if err != nil || strings.HasSuffix(unit, sliceSuffix) {
			return
		}
		parent, err := SlicePath(slice)
		if err != nil {
			t.Fatalf("UnitCgroup(%q, %q) = %q, but the slice has no path: %v", slice, unit, p, err)
		}
		if p != path.Clean(p) || path.Dir(p) != parent || Unescape(path.Base(p)) != unit {
			t.Fatalf("UnitCgroup(%q, %q) = %q", slice, unit, p)
		}
	})
}

func TestEscape(t *testing.T) {
	for _, c := range []struct{ unit, want string }{
		{"session-3.scope", "session-3.scope"},
		{"_x.service", "__x.service"},
		{".x.service", "_.x.service"},
		{"cgroup.service", "_cgroup.service"},
		{"cgroups.service", "cgroups.service"},
		{"memory.slice", "_memory.slice"},
		{"memory-x.slice", "memory-x.slice"},
		{"pids.d.scope", "_pids.d.scope"},
		{"hugetlb.service", "hugetlb.service"}, // no controller systemd knows
		{"tasks", "_tasks"},
		{"tasks.service", "tasks.service"},
		{"", "_"},
	} {
		if got := Escape(c.unit); got != c.want {
			t.Errorf("Escape(%q) = %q, want %q", c.unit, got, c.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"a.service", "_a.service", "__", "memory.slice", "cgroup.procs", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, unit string) {
		dir := Escape(unit)
		if Unescape(dir) != unit {
			t.Fatalf("Unescape(Escape(%q)) = %q", unit, Unescape(dir))
		}
		if dir != unit && dir != "_"+unit {
			t.Fatalf("Escape(%q) = %q", unit, dir)
		}
		if dir == unit && needsEscape(dir) {
			t.Fatalf("Escape(%q) = %q still looks like something else", unit, dir)
		}
	})
}

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
