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
