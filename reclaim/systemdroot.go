package reclaim

import (
	"bufio"
	"io"
	"os"
)

// SystemdRoot is where systemd's own hierarchy is mounted on v1 and hybrid,
// the one whose directories tell which units live: name=systemd, which hybrid
// keeps as well. "" where there is none.
func SystemdRoot() string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	return parseSystemdRoot(f)
}

func parseSystemdRoot(r io.Reader) string {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		m, ok := parseMount(sc.Text())
		if ok && m.fstype == "cgroup" && m.has("name=systemd") {
			return m.path
		}
	}
	return ""
}
