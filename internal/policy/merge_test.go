package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every kind of mistake, with the whole text that an operator gets to read.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		// Names.
		{"misspelt key", "[reap]\ndebonce = \"1s\"\n", `f:2:1: reap.debonce: there is no such key; did you mean debounce?`},
		{"dash for underscore", "[reap]\nnear-limit = \"low\"\n", `f:2:1: reap.near-limit: there is no such key; did you mean near_limit?`},
		{"key of another table", "[sweep]\ndebounce = \"1s\"\n", `f:2:1: sweep.debounce: there is no such key; it belongs below [reap]`},
		{"key of two other tables", "[log]\nenabled = true\n", `f:2:1: log.enabled: there is no such key; it belongs below [reap], [evict] or [hold]`},
		{"key like none", "[kernel]\nfrobnicate = 1\n", `f:2:1: kernel.frobnicate: there is no such key; the keys of [kernel] are memcg_reaper, monitor_only`},
		{"misspelt table", "[budgt]\ncpu = \"1%\"\n", `f:1:1: budgt: there is no such table; did you mean [budget]?`},
		{"unknown table", "\n[frobnicate]\n", `f:2:1: frobnicate: there is no such table; the tables are [reap], [sweep], [evict], [budget], [hold], [kernel], [linger], [linger.auto], [sessions], [metrics], [log]`},
		{"unknown list of tables", "[[reaps]]\n", `f:1:1: reaps: there is no such table; did you mean [reap]?`},
		{"key before its table", "batch = \"1M\"\n[reap]\n", `f:1:1: batch: this key stands outside of its table; move it below [reap]`},
		{"misspelt key outside", "treshold = 5\n", `f:1:1: treshold: there is no such key outside of the tables; did you mean threshold, below [sweep]?`},
		{"nonsense outside", "frobnicate = 5\n", `f:1:1: frobnicate: there is no such key outside of the tables; the tables are [reap], [sweep], [evict], [budget], [hold], [kernel], [linger], [linger.auto], [sessions], [metrics], [log]`},
		{"dotted unknown key", "reap.foo = 1\n", `f:1:1: reap.foo: there is no such key; the keys of [reap] are enabled, debounce, batch, slice, near_limit, ignore, retry_max`},
		{"quoted key with a dot", "\"reap.batch\" = 1\n", `f:1:1: "reap.batch": there is no such key outside of the tables; the tables are [reap], [sweep], [evict], [budget], [hold], [kernel], [linger], [linger.auto], [sessions], [metrics], [log]`},
		{"table in a table", "[reap]\n[reap.extra]\na = 1\n", `f:2:1: reap.extra: there is no such key; the keys of [reap] are enabled, debounce, batch, slice, near_limit, ignore, retry_max`},

		// Tables and values in each other's place.
		{"value for a table", "reap = 5\n", `f:1:1: reap: is the number 5 where a table is wanted; write [reap] on a line of its own and the keys below it: enabled, debounce, batch, slice, near_limit, ignore, retry_max`},
		{"list of tables", "[[log]]\nlevel = \"info\"\n", `f:1:1: log: is a list of tables where one table is wanted; write [log], with single brackets`},
		{"table for a value", "[reap.batch]\nx = 1\n", `f:1:1: reap.batch: is a table where a size is wanted; ` + sizeForm},

		// Types.
		{"bool as string", "[reap]\nenabled = \"yes\"\n", `f:2:11: reap.enabled: is the string "yes" where a boolean is wanted; write true, without quotes`},
		{"bool as number", "[hold]\nenabled = 0\n", `f:2:11: hold.enabled: is the number 0 where a boolean is wanted; write false, without quotes`},
		{"number as string", "[sweep]\nthreshold = \"1000\"\n", `f:2:13: sweep.threshold: is the string "1000" where a whole number is wanted; write 1000, without quotes`},
		{"number as float", "[sweep]\nthreshold = 1e3\n", `f:2:13: sweep.threshold: is the number 1000 where a whole number is wanted; write 1000`},
		{"duration as number", "[sweep]\ninterval = 300\n", `f:2:12: sweep.interval: is the number 300 where a duration is wanted; write it with its unit and in quotes: "300s" if seconds are meant`},
		{"percent as number", "[budget]\ncpu = 5\n", `f:2:7: budget.cpu: is the number 5 where a percentage is wanted; write "5%"`},
		{"percent as fraction", "[budget]\ncpu = 0.05\n", `f:2:7: budget.cpu: is the number 0.05 where a percentage is wanted; ` + percentForm},
		{"enum as boolean", "[log]\nlevel = true\n", `f:2:9: log.level: is the boolean true where one of the words "debug", "info", "warn" or "error" is wanted; write "debug", "info", "warn" or "error"`},
		{"date", "[log]\nlevel = 1979-05-27\n", `f:2:9: log.level: is a date where one of the words "debug", "info", "warn" or "error" is wanted; write "debug", "info", "warn" or "error"`},
		{"list as string", "[reap]\nignore = \"/a\"\n", `f:2:10: reap.ignore: is the string "/a" where a list of patterns is wanted; put it in brackets: ["/a"]`},
		{"list of numbers", "[reap]\nignore = [\n  \"/a\",\n  5,\n]\n", `f:4:3: reap.ignore: is the number 5 where a pattern in quotes is wanted; write "…"`},
		{"list of tables for a list", "[reap]\nignore = [{a = 1}]\n", `f:2:11: reap.ignore: is a table where a pattern in quotes is wanted; write "…"`},
		{"list of tables for a list, in brackets", "[reap]\n[[reap.ignore]]\na = 1\n", `f:2:1: reap.ignore: is a table where a list of patterns is wanted; write ["…", "…"]`},

		// Values.
		{"bad duration", "[reap]\ndebounce = \"250 msec\"\n", `f:2:12: reap.debounce: "250 msec" is not a duration; write "250ms"`},
		{"bad size", "[reap]\nbatch = '1MB'\n", `f:2:9: reap.batch: "1MB" is not a size; write "1MiB" (units are binary: 1 K is 1024 bytes)`},
		{"bad percent", "[budget]\nio_pressure = \"60\"\n", `f:2:15: budget.io_pressure: "60" is not a percentage; write "60%"`},
		{"bad enum", "[log]\nlevel = \"warning\"\n", `f:2:9: log.level: "warning" is not a value of this key; write "debug", "info", "warn" or "error"`},
		{"misspelt enum", "[log]\nlevel = \"Info\"\n", `f:2:9: log.level: "Info" is not a value of this key; did you mean "info"? It can be "debug", "info", "warn" or "error"`},
		{"bad globs, two of three", "[hold]\nunits = [\"a*\", \"b\",\n \"c[\"]\n", "f:2:16: hold.units: no unit with a cgroup is named \"b\"; write the name with its type, such as \"b.service\" or \"b.*\"\n" +
			`f:3:2: hold.units: "c[" has a "[" without its "]"; close it, or write "[[]" for the character`},
		{"unit for a path", "[reap]\nignore = [\"machine.slice\"]\n", `f:2:11: reap.ignore: "machine.slice" is not a cgroup path from the root; write "/machine.slice", or "/**/machine.slice" to find it anywhere`},
		{"path for a unit", "[hold]\nunits = [\"/system.slice/cron.service\"]\n", `f:2:10: hold.units: "/system.slice/cron.service" is a cgroup path where a unit's name is wanted; write the name alone, such as "cron.service"`},
		{"escape in a basic string", "[hold]\nunits = [\"run-\\u0002.mount\"]\n", `f:2:10: hold.units: "run-\x02.mount" holds a control character; if a backslash was meant, use single quotes: in '…' TOML leaves backslashes alone`},

		// Ranges.
		{"duration too short", "[reap]\nslice = \"0\"\n", `f:2:9: reap.slice: "0" is too little; it can be "1ms" to "10s"`},
		{"duration too long", "[sweep]\ninterval = \"8760h\"\n", `f:2:12: sweep.interval: "8760h" is too much; it can be "1s" to "168h"; "0" turns it off`},
		{"duration below its least, though 0 is allowed", "[sweep]\ninterval = \"5ms\"\n", `f:2:12: sweep.interval: "5ms" is too little; it can be "1s" to "168h"; "0" turns it off`},
		{"negative duration", "[reap]\ndebounce = \"-1s\"\n", `f:2:12: reap.debounce: "-1s" is negative; ` + durationForm},
		{"size too large", "[reap]\nbatch = \"2G\"\n", `f:2:9: reap.batch: "2G" is too much; it can be "4KiB" to "1GiB"`},
		{"size below a page", "[reap]\nbatch = 4095\n", `f:2:9: reap.batch: "4095" is too little; it can be "4KiB" to "1GiB"`},
		{"negative size", "[reap]\nbatch = -1\n", `f:2:9: reap.batch: "-1" is negative; ` + sizeForm},
		{"percent too large", "[budget]\ncpu = \"150%\"\n", `f:2:7: budget.cpu: "150%" is too much; it can be "0.1%" to "100%"; to stop reaping set reap.enabled = false`},
		{"percent zero", "[budget]\nmemory_pressure = \"0%\"\n", `f:2:19: budget.memory_pressure: "0%" is too little; it can be "0.01%" to "100%"; "100%" never gives way`},
		{"negative number", "[sweep]\ndrop_caches = -1\n", `f:2:15: sweep.drop_caches: -1 is too little; it can be 0 to 2147483647; 0 is never`},
		{"number zero", "[hold]\nmax = 0\n", `f:2:7: hold.max: 0 is too little; it can be 1 to 5000; to hold nothing set hold.enabled = false`},

		// Contradictions.
		{"burst beyond cpu", "[budget]\ncpu = \"0.5%\"\nburst = \"1s\"\n", `f:3:1: budget.burst: a burst of 1s is more CPU time than 0.5% of a minute, which is 300ms (budget.cpu = "0.5%": f:2); raise budget.cpu, or set budget.burst to "300ms" at most`},
		{"cpu below the default burst", "[budget]\ncpu = \"0.1%\"\n", `f:2:1: budget.cpu: a burst of 250ms is more CPU time than 0.1% of a minute, which is 60ms (budget.burst = "250ms": default); raise budget.cpu, or set budget.burst to "60ms" at most`},
		{"slice beyond burst", "[reap]\nslice = \"1s\"\n", `f:2:1: reap.slice: one write may take 1s but the budget never holds more than 250ms (budget.burst = "250ms": default); set reap.slice to "250ms" at most, or raise budget.burst`},
		{"debounce beyond retry_max", "[reap]\ndebounce = \"30s\"\nretry_max = \"10s\"\n", `f:3:1: reap.retry_max: the first try comes after 30s, later than the longest wait between tries, 10s (reap.debounce = "30s": f:2); set reap.retry_max above reap.debounce`},
		{"drop_caches without a sweep", "[sweep]\ninterval = 0\nthreshold = 0\ndrop_caches = 5\n", `f:4:1: sweep.drop_caches: caches are dropped only after a fruitless sweep, but sweeps are off (sweep.interval = "0": f:2) (sweep.threshold = 0: f:3); set sweep.interval or sweep.threshold, or sweep.drop_caches = 0`},
		{"drop_caches before the sweep", "[sweep]\ndrop_caches = 999\n", `f:2:1: sweep.drop_caches: the last resort (caches dropped at 999 dying) would come before the first (a sweep at 1000) (sweep.threshold = 1000: default); set sweep.drop_caches to 1000 at least, or to 0 for never`},
		{"monitor and enable", "[kernel]\nmemcg_reaper = \"enable\"\nmonitor_only = \"always\"\n", `f:3:1: kernel.monitor_only: to monitor only ("always") and to turn the kernel's reaper on ("enable") cannot both be meant (kernel.memcg_reaper = "enable": f:2); set kernel.memcg_reaper = "report", or kernel.monitor_only = "auto"`},
		{"no contradiction with a key in doubt", "[budget]\ncpu = \"0.1%%\"\nburst = \"1m\"\n", `f:2:7: budget.cpu: "0.1%%" is not a percentage; ` + percentForm},

		// TOML.
		{"unquoted duration", "[reap]\n  debounce = 5m  # x\n", `f:2:15: reap: not TOML: expected a top-level item to end with a newline, comment, or EOF, but got 'm' instead; durations, sizes, percentages and words go in quotes: write debounce = "5m"`},
		{"unquoted word", "[log]\nlevel = info\n", `f:2:12: log: not TOML: expected a top-level item to end with a newline, comment, or EOF, but got 'o' instead; durations, sizes, percentages and words go in quotes: write level = "info"`},
		{"yes", "[reap]\nenabled = yes\n", `f:2:11: reap.enabled: not TOML: expected value but found "yes" instead; durations, sizes, percentages and words go in quotes: write enabled = true`},
		{"no value", "[reap]\nbatch =\n", `f:2:8: reap.batch: not TOML: expected value but found '\n' instead; write key = value, strings in quotes, below the key's [table]`},
		{"open table", "[reap\nbatch = 1\n", `f:1:6: not TOML: expected '.' or ']' to end table name, but got '\n' instead; a table's name stands in brackets on a line of its own: [reap]`},
		{"open list", "[reap]\nignore = [\"/a\",\n", `f:2:16: reap.ignore: not TOML: unexpected EOF; expected value; the file ends too early: close the string, list or table that is still open`},
		{"list without commas", "[reap]\nignore = [\"/a\" \"/b\"]\n", `f:2:16: reap.ignore: not TOML: expected a comma (',') or array terminator (']'), but got '"'; close the list with "]", with a comma between its elements`},
		{"open string", "[log]\nlevel = \"info\n", `f:2:14: log.level: not TOML: strings cannot contain newlines; close the string with the quote it began with`},
		{"systemd comment", "; hello\n", `f:1:1: not TOML: expected '.' or '=', but got ';' instead; comments begin with "#"`},
		{"bad escape", "[hold]\nunits = [\"run-\\q.mount\"]\n", `f:2:11: hold.units: not TOML: invalid escape in string '\q'; use single quotes: in '…' TOML leaves backslashes alone`},
		{"set twice", "[log]\nlevel = \"info\"\nlevel = \"warn\"\n[log]\n", "f:3:1: log.level: is set twice in this file; the first is on line 2: keep one of the two\nf:4:1: log: this table stands twice in this file; the first is on line 1: move its keys under the first one"},
		{"set twice, dotted", "log.level = \"info\"\nlog = 5\n", `f:2:1: log: is set twice in this file; the first is on line 1: keep one of the two`},

		// Encoding.
		{"not UTF-8", "# caf\xe9\n", `f:1:6: the byte 0xe9 is not UTF-8; save the file as UTF-8`},
		{"UTF-16", "\xff\xfe[\x00l\x00", `f:1:1: the file is UTF-16 or binary, not UTF-8; save the file as UTF-8`},
		{"UTF-16 without mark", "[\x00l\x00", `f:1:1: the file is UTF-16 or binary, not UTF-8; save the file as UTF-8`},
		{"control character", "[log]\n# a\x01b\n", `f:2:4: there is the control character 0x01; take it out; an editor may not show it`},
		{"carriage return alone", "[log]\rlevel = 1\n", `f:1:6: there is a carriage return without a line feed; end lines with a line feed; in a string write "\r"`},
		{"columns count characters", "[hold]\nunits = ['ü*', 'b']\n", `f:2:16: hold.units: no unit with a cgroup is named "b"; write the name with its type, such as "b.service" or "b.*"`},
		{"error after a BOM", "\ufeff[log]\nlevel = 1\n", `f:2:9: log.level: is the number 1 where one of the words "debug", "info", "warn" or "error" is wanted; write "debug", "info", "warn" or "error"`},
	} {
		l, err := CheckBytes("f", []byte(c.in))
		if l != nil {
			t.Errorf("%s: gave a policy", c.name)
		}
		if d := cmp.Diff(c.want, errText(err)); d != "" {
			t.Errorf("%s (-want +got):\n%s\ngot: %s", c.name, d, errText(err))
		}
	}
}

func TestAllErrorsTogether(t *testing.T) {
	_, err := CheckBytes("f", []byte("[log]\nlevel = 5\nlvl = 1\n[reap]\nbatch = \"x\"\ndebounce = \"y\"\n[budget]\ncpu = \"1%\"\nburst = \"1m\"\n"))
	var lines []int
	for _, e := range err.(Errors) {
		lines = append(lines, e.Line)
	}
	// The contradiction, which needs the whole policy, comes last.
	if d := cmp.Diff([]int{2, 3, 5, 6, 9}, lines); d != "" {
		t.Errorf("%s\n%v", d, err)
	}
}

// A file of garbage does not flood the journal, nor keep the daemon busy.
func TestManyErrors(t *testing.T) {
	_, err := CheckBytes("f", []byte("[log]\n"+strings.Repeat("x", 50)+" = 1\n"+numbered("k%d = 1\n", maxErrorsInFile)))
	var es Errors
	if !errors.As(err, &es) || len(es) != maxErrorsInFile+1 || es[maxErrorsInFile].Msg != "there are more errors from here on" {
		t.Fatalf("%d errors", len(es))
	}
	text := err.Error()
	if strings.Count(text, "\n") != maxErrorsInText || !strings.HasSuffix(text, "\nand 81 errors more") {
		t.Errorf("%s", text)
	}
}

func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		name, in string
		change   func(*Policy)
	}{
		{"nothing", "", func(*Policy) {}},
		{"a BOM", "\ufeff[log]\nlevel = \"warn\"\n", func(p *Policy) { p.Log.Level = LogWarn }},
		{"CRLF", "[log]\r\nlevel = \"warn\"\r\n", func(p *Policy) { p.Log.Level = LogWarn }},
		{"empty tables", "[log]\n[reap]\n", func(*Policy) {}},
		{"dotted", "log.level = \"warn\"\n", func(p *Policy) { p.Log.Level = LogWarn }},
		{"inline", "log = {level = \"warn\"}\n", func(p *Policy) { p.Log.Level = LogWarn }},
		{"quoted", "['log']\n\"le\\u0076el\" = '''warn'''\n", func(p *Policy) { p.Log.Level = LogWarn }},
		{"zero as a number", "sweep.interval = 0\nreap.debounce = 0\n", func(p *Policy) { p.Sweep.Interval, p.Reap.Debounce = 0, 0 }},
		{"bytes as a number", "reap.batch = 8192\n", func(p *Policy) { p.Reap.Batch = 8192 }},
		{"ends of ranges", "budget.cpu = \"100%\"\nbudget.burst = \"60s\"\nreap.slice = \"10s\"\nhold.max = 5000\n", func(p *Policy) {
			p.Budget.CPU, p.Budget.Burst, p.Reap.Slice, p.Hold.Max = 100, maxBurst, maxSlice, maxHolds
		}},
		{"burst all of a minute's", "budget.cpu = \"0.7%\"\nbudget.burst = \"420ms\"\n", func(p *Policy) {
			p.Budget.CPU, p.Budget.Burst = 0.7, mustDuration(t, "420ms")
		}},
		{"empty list", "reap.ignore = []\n", func(*Policy) {}},
	} {
		l, err := CheckBytes("f", []byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		want := Default()
		c.change(&want)
		if d := cmp.Diff(want, l.Policy); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func mustDuration(t *testing.T, s string) Duration {
	t.Helper()
	d, err := ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"hold.units = []\n", `f:1:1: hold.units: the hold is on but its list of units is empty: nothing is held; name units, or set hold.enabled = false`},
		{"hold.units = []\nhold.enabled = false\n", ""},
		{"reap.enabled = false\nhold.enabled = false\nsweep.interval = 0\nsweep.threshold = 0\n",
			`f:4:1: sweep.threshold: reap, hold and sweep are all off: scopereapd only counts; turn one of them on, unless that is meant`},
		{"linger.users = ['a', 'b', '@c']\nlinger.never = ['@c', 'a*', 'b']\n",
			`f:2:1: linger.never: "b" is in linger.users and in linger.never: never wins; take it out of one of the two
f:2:1: linger.never: "@c" is in linger.users and in linger.never: never wins; take it out of one of the two`},
		{"sessions.memcg = 'per-user'\n", `f:1:1: sessions.memcg: "per-user" has its price: systemd ignores MemoryMax= and the like on user-UID.slice, and below it nothing has a memory limit of its own any more: no user service, no rootless container, and systemd-oomd does not see user units; nor is there anything left to reap; if this machine needs any of that, set sessions.memcg = "keep"`},
	} {
		l, err := CheckBytes("f", []byte(c.in))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range l.Warnings {
			got = append(got, w.String())
		}
		if d := cmp.Diff(c.want, strings.Join(got, "\n")); d != "" {
			t.Errorf("%q:\n%s", c.in, d)
		}
	}
}
