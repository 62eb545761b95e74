package policy

import (
	"strings"
	"testing"
	"time"
)

// A file of the largest size, however it is filled, is judged in a part of a second: a reload must not hang the
// daemon. What is no policy by its mere number of keys and values (maxItems) is not even given to the TOML module,
// which took seconds for it. Nothing is asserted of the time; were one of these quadratic again, the test would run
// into go test's own deadline.
func TestHostileFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second or two of CPU")
	}
	for _, c := range []struct{ name, in string }{
		{"unknown keys", "[reap]\n" + numbered("k%d=1\n", 100000)},
		{"unknown keys on one line", "reap={" + numbered("k%d=1,", 90000) + "}"},
		{"keys outside of tables", numbered("k%d=1\n", 100000)},
		{"unknown tables", numbered("[k%d]\n", 100000)},
		{"one key again and again", "[reap]\n" + strings.Repeat("k=1\n", 250000)},
		{"the same on one line", "reap={" + strings.Repeat("k=1,", 250000) + "}"},
		{"lists of tables in each other", strings.Repeat("[[a]]\n[[a.b]]\n", 70000)},
		{"inline tables", "a=[" + strings.Repeat("{b=1},", 170000) + "]"},
		{"long table name", "['" + strings.Repeat("a", maxKeyPart) + "']\n" + numbered("k%d=1\n", 100000)},
		{"dotted keys", numbered("a.a.a.a.a.a.a.a.a.a.a.a.a.a.b%d=1\n", 28000)},
		{"bad globs", "reap.ignore=[" + strings.Repeat(" ", 1000000) + strings.Repeat("5,", 999) + "]"},
		{"empty globs", "reap.ignore=[" + strings.Repeat("'',", 340000) + "]"},
		{"nested lists", "a=" + strings.Repeat("[", maxDepth-1) + strings.Repeat("[],", 340000) + strings.Repeat("]", maxDepth-1)},
		{"one string", "log.level='" + strings.Repeat("ü", 500000) + "'"},
		{"empty lines", strings.Repeat("\n", maxFile-1) + "x"},
		{"comments in a list", "a=[\n" + strings.Repeat("#\n", 500000) + "]"},
		// Just as many items as are read at all, spread over as many bytes.
		{"unknown keys, few", "[reap]\n" + numbered("k%d=1"+strings.Repeat(" ", 180)+"\n", maxItems/2-2)},
		{"unknown tables, few", numbered("[k%d]"+strings.Repeat(" ", 90)+"\n", maxItems-1)},
		{"nested tables, few", numbered("[linger.auto.k%d]\nx={}\n", maxItems/5-1)},
		{"dotted keys, few", numbered("a.a.a.a.a.a.a.a.a.a.a.a.a.a.b%d=1"+strings.Repeat("#", 1500)+"\n", maxItems/16-1)},
		{"lists of tables, few", strings.Repeat("[[a]]\n[[a.b]]"+strings.Repeat(" ", 250)+"\n", maxItems/3-1)},
		{"users, few", "linger.users=[" + strings.Repeat("'@',", maxItems-100) + "]"},
		{"long users", "linger.users=[" + strings.Repeat("'@"+strings.Repeat("*", 1000)+"',", maxList-1) + "]"},
	} {
		start := time.Now()
		_, err := CheckBytes("f", []byte(c.in))
		es, ok := err.(Errors)
		if !ok || len(es) > maxErrorsInFile+1 {
			t.Errorf("%s: %d errors, %v", c.name, len(es), err)
		}
		if n := len(es.Explain()) + len(es.Error()); n > 64<<10 {
			t.Errorf("%s: %d bytes of messages", c.name, n)
		}
		t.Logf("%-30s %8d bytes %v", c.name, len(c.in), time.Since(start).Round(time.Millisecond))
	}
}
