package cronguard

import (
	"math"
	"strings"
	"testing"
	"time"
)

// FuzzTable: no panic, lines that are in the file, rates that can be, and each schedule read again
// is the same.
func FuzzTable(f *testing.F) {
	f.Add("*/5 * * * * root x\nA='b'\n@reboot root y\n", true, true)
	f.Add("0~9 1,2-4/2 * jan-mar 5-7 a\\%b%c\r\nCRON_TZ=UTC\n", false, true)
	f.Add("-@daily x", false, false)
	f.Add("\x00\n\ufeff'\"=", false, false)
	f.Fuzz(func(t *testing.T, text string, system, cronie bool) {
		lines, faults := parseTable(text, tableRules{System: system, Cronie: cronie})
		n := strings.Count(text, "\n") + 1
		for _, l := range lines {
			runs := l.Schedule.RunsPerDay()
			if l.Line < 1 || l.Line > n || math.IsNaN(runs) || runs < 0 || runs > 1440 || (l.User == "") == system {
				t.Errorf("%+v of %d lines, %v a day", l, n, runs)
			}
			again, err := ParseSchedule(l.Schedule.String())
			if err != nil || again.RunsPerDay() != runs {
				t.Errorf("%q read again: %v a day, not %v (%v)", l.Schedule, again.RunsPerDay(), runs, err)
			}
			l.Schedule.Due(time.Unix(0, 0))
		}
		for _, p := range faults {
			if p.Line < 1 || p.Line > n || p.Text == "" || strings.ContainsAny(p.Text, "\n\x00") {
				t.Errorf("%+v of %d lines", p, n)
			}
		}
	})
}

func FuzzEnv(f *testing.F) {
	for _, s := range []string{"A=b", "'A' = \"b\"", "=", "'", "\"\"=''", "A \t="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, value, ok := parseEnv(text)
		if ok && (!strings.Contains(text, name) || !strings.Contains(text, value)) {
			t.Errorf("%q: %q %q", text, name, value)
		}
	})
}

func FuzzAnacrontab(f *testing.F) {
	f.Add("1 5 a b\n@monthly 5 a \\\nb\n\\\n\\")
	f.Add("A=b\n=\n\\\\\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines, faults := parseAnacrontab(text)
		n := strings.Count(text, "\n") + 1
		for _, l := range lines {
			if runs := l.Schedule.RunsPerDay(); l.Line < 1 || l.Line > n || !(runs >= 0 && runs <= 1) || l.Command == "" {
				t.Errorf("%+v of %d lines", l, n)
			}
		}
		for _, p := range faults {
			if p.Line < 1 || p.Line > n {
				t.Errorf("%+v of %d lines", p, n)
			}
		}
	})
}

func FuzzAtName(f *testing.F) {
	f.Add("a0001e01c5f0a3")
	f.Add("=0001e01c5f0a3")
	f.Fuzz(func(t *testing.T, name string) {
		if at, ok := parseAtName(name); ok && (!isLetter(at.Queue) || at.At.Unix() < 0 || at.Job > 0xfffff) {
			t.Errorf("%q: %+v", name, at)
		}
	})
}
