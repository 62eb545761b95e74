package reclaim

import (
	"strings"
	"testing"
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
