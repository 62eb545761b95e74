package reclaim

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A mountinfo line is found by its own fields, whatever the others hold: a mount point may be named anything.
func FuzzSystemdRoot(f *testing.F) {
	f.Add("/sys/fs/cgroup/systemd", "rw,xattr,name=systemd", "30 25 0:26 / /x rw - ext4 /dev/sda1 rw")
	f.Add("/a b", "name=systemd", "")
	f.Add("/-", "name=systemdx,memory", "- cgroup - name=systemd")
	f.Add("\\040", "rw", "1 2 3 4 5 6 - cgroup cgroup rw,name=systemd")
	f.Fuzz(func(t *testing.T, point, options, other string) {
		_ = parseSystemdRoot(strings.NewReader(other))
		if strings.ContainsAny(point, "\n\r") || !strings.HasPrefix(point, "/") || strings.ContainsAny(options, " \n\r\t\v\f\u0085\u00a0") || options == "" {
			return
		}
		for _, r := range point + options {
			if r > '~' { // what counts as a blank in the fields of another alphabet is not the kernel's question
				return
			}
		}
		escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`, "\v", "", "\f", "").Replace(point)
		if strings.ContainsAny(point, "\v\f") {
			return
		}
		line := "30 25 0:26 / " + escaped + " rw,nosuid shared:9 - cgroup cgroup " + options + "\n"
		want := ""
		for _, o := range strings.Split(options, ",") {
			if o == "name=systemd" {
				want = point
			}
		}
		if got := parseSystemdRoot(strings.NewReader(line)); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	})
}

func TestParseRootProcs(t *testing.T) {
	got := parseRootProcs(strings.NewReader(`24 23 0:22 / /sys rw - sysfs sysfs rw
30 25 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
31 25 0:27 / /sys/fs/cgroup/a\040b rw shared:9 - cgroup cgroup rw,memory
rubbish
`))
	want := []string{"/sys/fs/cgroup/unified/cgroup.procs", "/sys/fs/cgroup/a b/cgroup.procs"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
