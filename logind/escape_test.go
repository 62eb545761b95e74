package logind

import "testing"

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
