package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/bench/result"
)

// count groups thousands: 400,000.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// size is bytes with three digits; 0 is exactly none.
func size(n int64) string {
	if n < 0 {
		return "-" + size(-n)
	}
	f := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if f < 999.5 || unit == "GiB" {
			if unit == "B" {
				return fmt.Sprintf("%d B", n)
			}
			return digits(f) + " " + unit
		}
		f /= 1024
	}
	return ""
}

// digits rounds to three digits, below 1 to two, from 1,000 on to whole ones.
func digits(f float64) string {
	switch {
	case f == 0:
		return "0"
	case f < 0.995:
		return strconv.FormatFloat(f, 'g', 2, 64)
	case f < 9.995:
		return strconv.FormatFloat(f, 'f', 2, 64)
	case f < 99.95:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return count(int64(f + 0.5))
}

// span is a duration of so many seconds, in the unit that suits it.
func span(seconds float64) string {
	switch {
	case seconds == 0:
		return "0"
	case seconds < 999.5e-6:
		return digits(seconds*1e6) + " µs"
	case seconds < 999.5e-3:
		return digits(seconds*1e3) + " ms"
	}
	return digits(seconds) + " s"
}

func percent(share float64) string { return digits(100*share) + " %" }

// latency is "p50 / p99 / max".
func latency(l result.Latency) string {
	if l.N == 0 {
		return "none"
	}
	return fmt.Sprintf("%s / %s / %s", span(l.P50/1e6), span(l.P99/1e6), span(l.Max/1e6))
}

// why names the reasons, the most frequent first.
func why(m map[string]int64) string {
	reasons := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b))
	})
	for i, r := range reasons {
		reasons[i] = count(m[r]) + " " + r
	}
	return strings.Join(reasons, ", ")
}

// machine says what a run was made on, in a sentence or two.
func machine(r *result.Run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, Linux %s, cgroup %s, %d CPUs", r.OS, r.Kernel, r.Mode, r.CPUs)
	if r.Hardware != "" {
		fmt.Fprintf(&b, " (%s)", r.Hardware)
	}
	fmt.Fprintf(&b, ", %s of memory; %s, commit %s.", size(r.MemBytes), r.Date.UTC().Format(time.DateOnly), r.Commit)
	if r.Emulated {
		b.WriteString(" **The CPUs are emulated**: times compare within this run, and say nothing of real machines.")
	}
	if r.Load != "" {
		fmt.Fprintf(&b, " Beside it: %s.", r.Load)
	}
	return b.String()
}
