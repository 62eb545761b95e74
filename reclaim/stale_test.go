package reclaim

import (
	"log/slog"
	"testing"
	"time"
)

// /top/p has 4 MiB of dead memory beside a live child of 8 MiB; /top/q is alive.
func staleFixture(t *testing.T) (*fixture, *reaper) {
	t.Helper()
	x := newFixture(t)
	x.cgroup("/top", 3, 32*testMiB)
	x.cgroup("/top/p", 3, 12*testMiB)
	x.cgroup("/top/p/a", 0, 8*testMiB)
	x.cgroup("/top/q", 0, 2*testMiB)
	return x, newReaper(x.tree(), testThread(t), x.journal(), canReclaim, slog.New(slog.DiscardHandler))
}

func TestExactShield(t *testing.T) {
	x, r := staleFixture(t)
	s := newShield(r.tree, r.journal, "memory.min", testPage)
	s.exact = map[string]int64{"/top/p": 10 * testMiB}
	if err := s.raise("/top", time.Now()); err != nil {
		t.Fatal(err)
	}
	for cgroup, want := range map[string]string{"/top/p": "10485760", "/top/q": "71303168", "/top": "0"} {
		if got := x.read(cgroup, "memory.min"); got != want {
			t.Errorf("memory.min of %s is %s, want %s", cgroup, got, want)
		}
	}
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	for _, cgroup := range []string{"/top/p", "/top/q"} {
		if got := x.read(cgroup, "memory.min"); got != "0" {
			t.Errorf("memory.min of %s is %s afterwards", cgroup, got)
		}
	}
}

func TestUnstale(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*fixture)
		want    string // what the parent is asked for
	}{
		{"dead memory", func(*fixture) {}, "1048576 swappiness=0"},
		{"nothing dead", func(x *fixture) { x.file("/top/p", "memory.current", "8388608\n") }, ""},
		{"no shield is ever raised below the parent", func(x *fixture) { x.file("/top", "cgroup.subtree_control", "pids\n") }, ""},
		{"the parent is near its limit", func(x *fixture) { x.file("/top", "memory.max", "33554432\n") }, ""},
		{"it has vanished", func(x *fixture) { x.remove("/top/p/a"); x.remove("/top/p") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, r := staleFixture(t)
			c.prepare(x)
			r.thread.Do(t.Context(), func() {
				if err := r.unstale("/top/p", testMiB, time.Second); err != nil {
					t.Error(err)
				}
			})
			if got := x.read("/top", "memory.reclaim"); got != c.want {
				t.Errorf("memory.reclaim of the parent got %q, want %q", got, c.want)
			}
			if got := x.read("/top/q", "memory.min"); got != "0" {
				t.Errorf("memory.min of a sibling is %s afterwards", got)
			}
			if got := x.journaled(r.journal); len(got) > 0 {
				t.Errorf("the journal still says %+v", got)
			}
		})
	}
}
