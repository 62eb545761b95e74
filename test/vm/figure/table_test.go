package figure

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	results := []Result{
		{Suite: "b", Scenario: "core", Figures: []Figure{
			{Name: "dying left", Value: 2, Bound: "0", Verdict: Fail, Note: "of 50"},
			{Name: "cache lost", Value: 1536 << 10, Unit: "B", Verdict: Reported},
		}},
		{Suite: "a", Scenario: "core", Figures: []Figure{{Name: "dying left", Value: 0, Bound: "0", Verdict: OK}}},
		{Suite: "a", Scenario: "crash", Figures: []Figure{{Name: "restored after", Value: 0.51234, Unit: "s", Verdict: OK}}},
	}
	want := strings.Join([]string{
		"┌──────────┬────────────────┬──────────┬─────────────┬───────┬──────────┐",
		"│ SCENARIO │ FIGURE         │ A        │ B           │ BOUND │ VERDICT  │",
		"├──────────┼────────────────┼──────────┼─────────────┼───────┼──────────┤",
		"│ core     │ dying left     │ 0        │ 2 (of 50) ✗ │ 0     │ FAIL     │",
		"│ core     │ cache lost     │ –        │ 1.5 MiB     │       │ reported │",
		"├──────────┼────────────────┼──────────┼─────────────┼───────┼──────────┤",
		"│ crash    │ restored after │ 0.5123 s │ –           │       │ ok       │",
		"└──────────┴────────────────┴──────────┴─────────────┴───────┴──────────┘",
	}, "\n")
	if d := cmp.Diff(want, Table(results, []string{"a", "b"})); d != "" {
		t.Error(d)
	}
}

func TestLongNote(t *testing.T) {
	f := Figure{Value: 1, Note: strings.Repeat("é", noteLength+1)}
	if got, want := f.cell(), "1 ("+strings.Repeat("é", noteLength-1)+"…)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
