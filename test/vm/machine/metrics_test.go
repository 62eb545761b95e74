package machine

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMetrics(t *testing.T) {
	got, err := parseMetrics(strings.NewReader("# HELP a_total Of a.\n# TYPE a_total counter\na_total{k=\"x y\"} 3\na_total{k=\"z\"} 1.5e+01\n\nb 7\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Metrics{`a_total{k="x y"}`: 3, `a_total{k="z"}`: 15, "b": 7}, got); d != "" {
		t.Error(d)
	}
	if a, b := got.Sum("a_total"), got.Sum("b"); a != 18 || b != 7 {
		t.Errorf("sums %v and %v, want 18 and 7", a, b)
	}
	for _, bad := range []string{"a", "a x", " 1"} {
		if got, err := parseMetrics(strings.NewReader(bad)); err == nil {
			t.Errorf("%q gave %v, want an error", bad, got)
		}
	}
}

func TestEntryInt(t *testing.T) {
	e := Entry{"COUNT": "12", "LIST": []any{"1"}}
	if n, err := e.Int("COUNT"); n != 12 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, f := range []string{"LIST", "none"} {
		if n, err := e.Int(f); err == nil {
			t.Errorf("%s: %d, want an error", f, n)
		}
	}
}
