package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each key takes the ends of its range, and nothing beyond; 0 turns off what can be turned off, and only that.
func TestEndsOfRanges(t *testing.T) {
	for key, c := range map[string]struct{ takes, refuses []string }{
		"reap.debounce":                  {[]string{`"0"`, `"1ms"`, `"60s"`}, []string{`"61s"`, `"-1s"`}},
		"reap.batch":                     {[]string{`"4KiB"`, `"1GiB"`}, []string{`"4095"`, `"1073741825"`, `0`}},
		"reap.slice":                     {[]string{`"1ms"`, `"10s"`}, []string{`"999us"`, `"10001ms"`, `"0"`}},
		"reap.retry_max":                 {[]string{`"1s"`, `"24h"`}, []string{`"999ms"`, `"86401s"`, `"0"`}},
		"sweep.interval":                 {[]string{`"0"`, `"1s"`, `"168h"`}, []string{`"999ms"`, `"604801s"`}},
		"sweep.threshold":                {[]string{`0`, `1`, `2147483647`}, []string{`-1`, `2147483648`}},
		"sweep.drop_caches":              {[]string{`0`, `2147483647`}, []string{`-1`, `2147483648`}},
		"budget.cpu":                     {[]string{`"0.1%"`, `"100%"`}, []string{`"0.09%"`, `"100.1%"`, `"0%"`}},
		"budget.burst":                   {[]string{`"1ms"`, `"60s"`}, []string{`"999us"`, `"60001ms"`, `"0"`}},
		"budget.memory_pressure":         {[]string{`"0.01%"`, `"100%"`}, []string{`"0%"`, `"101%"`}},
		"budget.io_pressure":             {[]string{`"0.01%"`, `"100%"`}, []string{`"0%"`, `"101%"`}},
		"hold.max":                       {[]string{`1`, `5000`}, []string{`0`, `5001`}},
		"hold.deadline":                  {[]string{`"1s"`, `"1h"`}, []string{`"999ms"`, `"3601s"`, `"0"`}},
		"linger.auto.teardowns_per_hour": {[]string{`0`, `1`, `300`}, []string{`-1`, `301`}},
		"linger.auto.max_users":          {[]string{`0`, `10000`}, []string{`-1`, `10001`}},
		"linger.auto.forget_after":       {[]string{`"1h"`, `"720h"`}, []string{`"3599s"`, `"2592001s"`, `"0"`}},
		"metrics.interval":               {[]string{`"5s"`, `"1h"`}, []string{`"4999ms"`, `"3601s"`, `"0"`}},
		"metrics.ancestors":              {[]string{`0`, `500`}, []string{`-1`, `501`}},
	} {
		for _, value := range slices.Concat(c.takes, c.refuses) {
			want := slices.Contains(c.takes, value)
			// What else the value does not go with is another matter.
			var beyond []string
			if _, err := CheckBytes("f", fmt.Appendf(nil, "%s = %s\n", key, value)); err != nil {
				for _, e := range err.(Errors) {
					if strings.Contains(e.Msg, "too little") || strings.Contains(e.Msg, "too much") || strings.Contains(e.Msg, "is not a") || strings.Contains(e.Msg, "negative") {
						beyond = append(beyond, e.Error())
					}
				}
			}
			if (beyond == nil) != want {
				t.Errorf("%s = %s is taken: %t, want %t: %v", key, value, beyond == nil, want, beyond)
			}
		}
	}
}

// Values that just go together do, and those just beyond are named with both keys.
func TestEndsOfContradictions(t *testing.T) {
	for _, c := range []struct {
		fine, wrong string
		keys        [2]string
	}{
		{"budget.cpu = \"1%\"\nbudget.burst = \"600ms\"\n", "budget.cpu = \"1%\"\nbudget.burst = \"601ms\"\n", [2]string{"budget.burst", "budget.cpu"}},
		{"reap.slice = \"100ms\"\nbudget.burst = \"100ms\"\n", "reap.slice = \"101ms\"\nbudget.burst = \"100ms\"\n", [2]string{"reap.slice", "budget.burst"}},
		{"reap.debounce = \"2s\"\nreap.retry_max = \"2s\"\n", "reap.debounce = \"3s\"\nreap.retry_max = \"2s\"\n", [2]string{"reap.debounce", "reap.retry_max"}},
		{"sweep.drop_caches = 9\nsweep.threshold = 9\n", "sweep.drop_caches = 8\nsweep.threshold = 9\n", [2]string{"sweep.drop_caches", "sweep.threshold"}},
		{"sweep.drop_caches = 0\nsweep.threshold = 9\n", "sweep.drop_caches = 9\nsweep.threshold = 0\nsweep.interval = 0\n", [2]string{"sweep.drop_caches", "sweep.interval"}},
		{"sweep.drop_caches = 9\nsweep.threshold = 0\nsweep.interval = \"1h\"\n", "sweep.drop_caches = 1\nsweep.threshold = 2\nsweep.interval = 0\n", [2]string{"sweep.drop_caches", "sweep.threshold"}},
		{"kernel.monitor_only = \"always\"\n", "kernel.monitor_only = \"always\"\nkernel.memcg_reaper = \"enable\"\n", [2]string{"kernel.monitor_only", "kernel.memcg_reaper"}},
		{"kernel.memcg_reaper = \"enable\"\n", "kernel.memcg_reaper = \"enable\"\nkernel.monitor_only = \"always\"\n", [2]string{"kernel.monitor_only", "kernel.memcg_reaper"}},
		{"linger.auto.teardowns_per_hour = 1\nlinger.auto.max_users = 1\n", "linger.auto.teardowns_per_hour = 1\nlinger.auto.max_users = 0\n", [2]string{"linger.auto.max_users", "linger.auto.teardowns_per_hour"}},
		{"linger.auto.max_users = 0\nlinger.auto.teardowns_per_hour = 0\n", "linger.auto.max_users = 0\nlinger.auto.teardowns_per_hour = 1\n", [2]string{"linger.auto.max_users", "linger.auto.teardowns_per_hour"}},
	} {
		if _, err := CheckBytes("f", []byte(c.fine)); err != nil {
			t.Errorf("%q: %v", c.fine, err)
		}
		_, err := CheckBytes("f", []byte(c.wrong))
		if err == nil || !strings.Contains(err.Error(), c.keys[0]) || !strings.Contains(err.Error(), c.keys[1]) {
			t.Errorf("%q: %v", c.wrong, err)
		}
	}
}
