package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestExplain(t *testing.T) {
	_, err := CheckBytes("/etc/scopereap/policy.toml", []byte("[reap]\n\tbatch = \"1MB\"  # a lot\n\n[hold]\nunits = ["+strings.Repeat(`"session-*.scope", `, 10)+`"sshd"]`+"\n"))
	const want = `/etc/scopereap/policy.toml:2:10: reap.batch: "1MB" is not a size
    2 |  batch = "1MB"  # a lot
      |          ^
      → write "1MiB" (units are binary: 1 K is 1024 bytes)

/etc/scopereap/policy.toml:5:200: hold.units: no unit with a cgroup is named "sshd"
    5 | ession-*.scope", "session-*.scope", "sshd"]
      |                                     ^
      → write the name with its type, such as "sshd.service" or "sshd.*"
`
	var es Errors
	if !errors.As(err, &es) {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, es.Explain()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestErrorsUnwrap(t *testing.T) {
	err := error(Errors{{File: "a"}, {File: "b", Msg: "cannot open it", Err: fs.ErrPermission}})
	if !errors.Is(err, fs.ErrPermission) {
		t.Error("the system's error is lost")
	}
	var e *Error
	if !errors.As(err, &e) || e.File != "a" {
		t.Error("the first error is not found")
	}
}

func TestPathThatBreaksTheLine(t *testing.T) {
	if got := (&Error{File: "a\nb.toml", Line: 1, Column: 2, Msg: "x"}).Error(); got != `"a\nb.toml":1:2: x` {
		t.Error(got)
	}
}

func TestNearest(t *testing.T) {
	all := names(schema(), "budget")
	for word, want := range map[string]string{
		"cpu": "cpu", "CPU": "cpu", "cpus": "cpu", "bust": "burst", "memorypressure": "memory_pressure", "pressure": "io_pressure", "memory": "",
		"io-presure": "io_pressure", "shceduler": "scheduler", "x": "", "": "", strings.Repeat("burst", 1000): "",
	} {
		if got := nearest(word, all); got != want {
			t.Errorf("%.20q: %q, want %q", word, got, want)
		}
	}
	if d := editDistance("kitten", "sitting"); d != 3 {
		t.Errorf("kitten, sitting: %d", d)
	}
	if d := editDistance("ab", "ba"); d != 1 {
		t.Errorf("ab, ba: %d", d)
	}
}
