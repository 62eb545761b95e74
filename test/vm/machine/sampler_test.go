package machine

import (
	"testing"
	"time"
)

func TestReached(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	samples := []Sample{{at(-1), 9}, {at(0), 4}, {at(1), 2}, {at(2), 3}, {at(3), 2}, {at(4), 2}}
	for _, tt := range []struct {
		n    int64
		want time.Duration
	}{{2, 3 * time.Second}, {3, time.Second}, {4, 0}, {9, 0}, {1, 4 * time.Second}} {
		if got := Reached(samples, start, tt.n); got != tt.want {
			t.Errorf("Reached(%d) = %s, want %s", tt.n, got, tt.want)
		}
	}
	if got := Peak(samples); got != 9 {
		t.Errorf("Peak = %d, want 9", got)
	}
}
