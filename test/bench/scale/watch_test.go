package main

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/test/bench/result"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestMaxShare(t *testing.T) {
	// Ten samples a second for 5 s; 300 ms of CPU between 2.0 s and 2.4 s, else none.
	var s []sample
	for i := range 51 {
		used := min(max(i-20, 0), 4)
		s = append(s, sample{at: time.Duration(i) * 100 * time.Millisecond, cpu: time.Duration(used) * 75 * time.Millisecond})
	}
	if got := maxShare(s, time.Second); !near(got, 0.3) {
		t.Errorf("over a second: %v, want 0.3", got)
	}
	if got := maxShare(s, 100*time.Millisecond); !near(got, 0.75) {
		t.Errorf("over 100 ms: %v, want 0.75", got)
	}
	if got := maxShare(s, time.Minute); !near(got, 0.06) {
		t.Errorf("over all that there is: %v, want 0.06", got)
	}
	// A gap: a stretch that is longer than a second is taken for what it is.
	if got := maxShare([]sample{{at: 0}, {at: 4 * time.Second, cpu: time.Second}}, time.Second); !near(got, 0.25) {
		t.Errorf("over a gap: %v, want 0.25", got)
	}
	if got := maxShare(s[:1], time.Second); got != 0 {
		t.Errorf("of one sample: %v", got)
	}
}

func TestWatchInto(t *testing.T) {
	w := &watch{samples: []sample{
		{0, time.Second, 103}, // the daemon had used CPU before
		{time.Second, time.Second + 200*time.Millisecond, 53},
		{2 * time.Second, time.Second + 300*time.Millisecond, 5},
		{3 * time.Second, time.Second + 300*time.Millisecond, 5},
	}}
	s := &result.Scale{SweepWallSeconds: 1.5}
	if err := w.into(s, 3); err != nil {
		t.Fatal(err)
	}
	if s.DyingLeft != 2 || s.SettledSeconds != 2 || !near(s.SweepCPUSeconds, 0.3) || !near(s.MeanShare, 0.15) ||
		!near(s.MaxShareOverSecond, 0.2) {
		t.Errorf("%+v", s)
	}
	want := []result.Count{{Seconds: 0, Dying: 100}, {Seconds: 1, Dying: 50}, {Seconds: 2, Dying: 2}, {Seconds: 3, Dying: 2}}
	if d := cmp.Diff(want, s.DyingTimeline); d != "" {
		t.Error(d)
	}
	if len(s.ShareTimeline) != 3 || !near(s.ShareTimeline[0].Share, 0.2) {
		t.Errorf("%+v", s.ShareTimeline)
	}
	if err := (&watch{samples: w.samples[:1]}).into(s, 0); err == nil {
		t.Error("one sample was enough")
	}
}
