package main

import (
	"strings"
	"testing"
)

// A tmpfs is found by its own line, once for each file system, whatever the other lines hold.
func FuzzMounts(f *testing.F) {
	f.Add("30 25 0:26 / /x rw - tmpfs tmpfs rw\n", "/dev/shm")
	f.Add("22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n", "/a b\\c")
	f.Add("a b c d - tmpfs", "/-")
	f.Add(strings.Repeat("x", 2000), "/tmpfs")
	f.Fuzz(func(t *testing.T, others, point string) {
		m := parseMounts(strings.NewReader(others))
		for _, at := range m.tmpfs {
			if !m.points[at] {
				t.Errorf("%q is a tmpfs and no mount point", at)
			}
		}
		if !strings.HasPrefix(point, "/") || strings.ContainsFunc(point, func(r rune) bool { return r < ' ' || r > '~' }) || len(others) > 1<<16 {
			return
		}
		escaped := strings.NewReplacer(" ", `\040`, `\`, `\134`).Replace(point)
		line := "77 25 0:987654 / " + escaped + " rw shared:9 - tmpfs tmpfs rw\n"
		if others != "" && !strings.HasSuffix(others, "\n") {
			others += "\n"
		}
		if strings.Contains(others, "0:987654") {
			return
		}
		count := func(m mounts) (n int) {
			for _, at := range m.tmpfs {
				if at == point {
					n++
				}
			}
			return n
		}
		before := count(parseMounts(strings.NewReader(others)))
		m = parseMounts(strings.NewReader(others + line + line))
		if n := count(m); n != before+1 || !m.points[point] {
			t.Errorf("%q is there %d times as a tmpfs, and was %d times: %+v", point, n, before, m)
		}
	})
}
