package reclaim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestNearLimit(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		usage, high, limit int64
		want               bool
	}{
		{1 << 40, Unlimited, Unlimited, false},
		{0, 0, Unlimited, true},
		{0, 64 * mib, Unlimited, false},
		{1, 64 * mib, Unlimited, true}, // less than 64 MiB of room
		{100 * mib, 164 * mib, Unlimited, false},
		{100*mib + 1, 164 * mib, Unlimited, true},
		{100*mib + 1, Unlimited, 164 * mib, true},
		{900 * mib, 1000 * mib, Unlimited, false}, // a tenth of room
		{900*mib + 1, 1000 * mib, Unlimited, true},
		{900 * mib, 2000 * mib, 950 * mib, true}, // the lower one counts
		{200 * mib, 100 * mib, Unlimited, true},  // above high
		{Unlimited, 1, 1, true},
	} {
		if got := nearLimit(c.usage, c.high, c.limit); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestTellable(t *testing.T) {
	x := newFixture(t)
	for cgroup, control := range map[string]string{"/p": "cpu memory pids\n", "/off": "cpu pids\n", "/none": "\n", "/x": ""} {
		x.cgroup(cgroup, 0, 0)
		x.file(cgroup, "cgroup.subtree_control", control)
	}
	x.cgroup("/broken", 0, 0)
	x.block("/broken", "cgroup.subtree_control")
	for cgroup, want := range map[string]Verdict{
		"/": AtRoot, "/p": MayReap, "/off": NoController, "/none": NoController, "/x": NoController,
		"/gone": Vanished, "/p/gone": Vanished, "/broken": Unreadable,
	} {
		if got := x.tree().Tellable(cgroup); got != want {
			t.Errorf("%s: %q", cgroup, got)
		}
	}
}

func TestNearLimitReads(t *testing.T) {
	for _, file := range []string{"memory.current", "memory.high", "memory.max"} {
		for _, bad := range []string{"", "x\n", "-5\n", "10", "max 1\n"} {
			x := newFixture(t)
			x.cgroup("/p", 0, 0)
			x.file("/p", file, bad)
			_, err := x.tree().NearLimit("/p")
			var pe *ParseError
			if !errors.As(err, &pe) || pe.File != file || !strings.Contains(err.Error(), x.path("/p", file)) {
				t.Errorf("%s %q: %v", file, bad, err)
			}
		}
	}
	x := newFixture(t)
	x.cgroup("/p", 0, 1<<30)
	x.file("/p", "memory.high", fmt.Sprintln(1<<30))
	if near, err := x.tree().NearLimit("/p"); !near || err != nil {
		t.Errorf("%v, %v", near, err)
	}
}

// TestVerdictWords: programs compare codes, so these never change; people read
// words.
func TestVerdictWords(t *testing.T) {
	var codes []string
	for _, v := range Verdicts() {
		codes = append(codes, string(v))
		if v.Words() == "" || strings.ContainsRune(v.Words(), '-') {
			t.Errorf("%s reads %q", v, v.Words())
		}
	}
	const want = "reap at-root no-controller near-limit ignored unreadable vanished monitor-only failed"
	if got := strings.Join(codes, " "); got != want {
		t.Errorf("codes %s, want %s", got, want)
	}
	if got := Verdict("of-tomorrow").Words(); got != "of-tomorrow" {
		t.Errorf("an unknown code reads %q", got)
	}
}
