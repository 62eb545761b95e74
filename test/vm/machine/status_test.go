package machine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeStatus(t *testing.T) {
	in := `{"mode":"v2","dying":3,"daemon":{"version":"dev","engine":{"monitor_only":"the kernel re-parents",
		"abilities":{"reparents":{"state":"yes"}},
		"totals":{"freed":7,"sweeps":2,"cpu_ns":5000000,"teardown_to_freed":{"count":4,"p50_ns":1000,"p99_ns":2000}},
		"held":{"held":1,"waiting":2,"threads":1}},"bus":{"Connected":true,"Reconnects":3}}}`
	want := Status{Freed: 7, Sweeps: 2, CPU: 5 * time.Millisecond, Events: 4, P50: 1000, P99: 2000,
		MonitorOnly: "the kernel re-parents", Reparents: "yes", Held: 3, Connected: true, Reconnects: 3}
	got, err := decodeStatus([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "{}", `{"daemon":null}`, "[]"} {
		if got, err := decodeStatus([]byte(bad)); err == nil {
			t.Errorf("decodeStatus(%q) = %+v, want an error", bad, got)
		}
	}
}
