package scenario

import (
	"slices"
	"testing"
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
