package evict

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// mount is a line of mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	id           int
	major, minor uint32
	whole        bool   // its root is the file system's own
	point        string // below root
	fsType       string
	root         string // of the process's file system: "" or /proc/PID/root
}

// mountTable knows mounts of all mount namespaces. Others' are read when first
// asked for, since that takes a look at every process.
type mountTable struct {
	own, others []mount
	had, hadAll bool
}

// of yields the mounts of a device, best first.
func (t *mountTable) of(major, minor uint32) iter.Seq[mount] {
	return func(yield func(mount) bool) {
		if !t.had {
			t.own, t.had = readMounts("/proc/self", ""), true
		}
		for _, m := range pick(t.own, major, minor) {
			if !yield(m) {
				return
			}
		}
		if !t.hadAll {
			t.others, t.hadAll = otherMounts(), true
		}
		for _, m := range pick(t.others, major, minor) {
			if !yield(m) {
				return
			}
		}
	}
}

// pick chooses a device's mounts: whole file systems first. One that is mounted
// below a remote file system is left out, since walking there may wait for it.
func pick(all []mount, major, minor uint32) (out []mount) {
	for _, m := range all {
		if m.major == major && m.minor == minor && !slices.ContainsFunc(all, func(above mount) bool {
			return above.root == m.root && remote(above.fsType) && strings.HasPrefix(m.point, strings.TrimSuffix(above.point, "/")+"/")
		}) {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b mount) int {
		switch {
		case a.whole == b.whole:
			return 0
		case a.whole:
			return -1
		}
		return 1
	})
	return out
}

func readMounts(proc, root string) []mount {
	b, err := os.ReadFile(proc + "/mountinfo")
	if err != nil {
		return nil // the process is gone
	}
	return parseMounts(string(b), root)
}

// parseMounts reads mountinfo. Lines that are none are left out.
func parseMounts(s, root string) (out []mount) {
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+2 {
			continue
		}
		m := mount{whole: f[3] == "/", point: unescape(f[4]), fsType: f[dash+1], root: root}
		var err error
		if m.id, err = strconv.Atoi(f[0]); err != nil {
			continue
		}
		if _, err := fmt.Sscanf(f[2], "%d:%d", &m.major, &m.minor); err != nil {
			continue
		}
		out = append(out, m)
	}
	return out
}

// unescape turns mountinfo's octal (\040) back.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if s[0] == '\\' && len(s) >= 4 {
			if v, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}

// otherMounts reads the mounts of each other mount namespace, by one of its
// processes.
func otherMounts() (out []mount) {
	seen := map[string]bool{}
	if ns, err := os.Readlink("/proc/self/ns/mnt"); err == nil {
		seen[ns] = true
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		ns, err := os.Readlink(dir + "/ns/mnt")
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		out = append(out, readMounts(dir, dir+"/root")...)
	}
	return out
}

// Mounted is where this process's mount namespace has a file's whole file system,
// or "".
func (e *Evictor) Mounted(f pagewalk.File) string {
	for m := range e.mounts.of(f.Major, f.Minor) {
		if m.whole && m.root == "" {
			return m.point
		}
		break // the best comes first
	}
	return ""
}
