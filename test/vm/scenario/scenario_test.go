package scenario

import (
	"slices"
	"testing"

	"github.com/scopereap/scopereap/test/vm/suite"
)

func TestSelectLeavesOutTheNamed(t *testing.T) {
	names := func(list string) (out []string) {
		all, err := Select(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			out = append(out, s.Name)
		}
		return out
	}
	if got := names(""); slices.Contains(got, "bench") || !slices.Contains(got, "core") {
		t.Errorf("by default: %q", got)
	}
	if got := names("bench, core"); !slices.Contains(got, "bench") || len(got) != 2 {
		t.Errorf("named: %q", got)
	}
	if _, err := Select("bunch"); err == nil {
		t.Error("an unknown one was taken")
	}
}

// A short run leaves out whole columns of a scenario, never the scenario.
func TestShortRunsSomewhere(t *testing.T) {
	for _, s := range All() {
		for _, name := range s.Short {
			su, err := suite.Select(name)
			if err != nil || len(su) != 1 || !s.RunsOn(su[0], true) {
				t.Errorf("%s: a short run names %q, where it does not run (%v)", s.Name, name, err)
			}
		}
	}
	bookworm := suite.Suite{Name: "bookworm"}
	if l := linger(); l.RunsOn(bookworm, true) || !l.RunsOn(bookworm, false) {
		t.Error("linger on bookworm belongs to a whole run only")
	}
}

// The leak is the same one before each contender, and in each run.
func TestLeakSizes(t *testing.T) {
	a, b := leakSizes(500, benchPages), leakSizes(500, benchPages)
	if !slices.Equal(a, b) {
		t.Error("two leaks differ")
	}
	if slices.Min(a) != 1 || slices.Max(a) != benchPages {
		t.Errorf("%d to %d pages, want 1 to %d", slices.Min(a), slices.Max(a), benchPages)
	}
	if got := (leak{Sizes: []int{1, 2, 3}}).pages(); got != 6 {
		t.Errorf("%d pages, want 6", got)
	}
}
