package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Snapshot is what a machine's files are: by path what stat, and for /etc the content, say of each.
type Snapshot map[string]string

// snapshotDirs are what packages, linger and the guard may change.
var snapshotDirs = []string{"/etc", "/usr", "/var/lib", "/var/spool", "/opt", "/srv", "/root"}

// snapshotLeaves are what changes with every use of a machine: the package managers' own memory, time, random numbers.
var snapshotLeaves = []string{
	"/var/lib/dpkg", "/var/lib/apt", "/var/lib/rpm", "/usr/lib/sysimage/rpm", "/var/lib/systemd/timers", "/var/lib/systemd/random-seed",
	"/var/lib/systemd/catalog", "/var/lib/systemd/timesync", "/var/lib/logrotate", "/var/lib/private", "/etc/.pwd.lock",
	"/etc/ld.so.cache", "/var/lib/polkit-1", "/etc/resolv.conf", "/root/.ssh", "/root/.rpmdb", "/var/lib/systemd/rfkill", "/var/spool/cron/crontabs",
	"/var/lib/containers", // podman's services of the boot write there, on a slow host minutes after it
}

// TakeSnapshot walks them.
func TakeSnapshot() (Snapshot, error) {
	s := Snapshot{}
	for _, root := range snapshotDirs {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if slices.Contains(snapshotLeaves, p) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			s[p], err = describe(p)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func describe(p string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return "", &os.PathError{Op: "lstat", Path: p, Err: err}
	}
	what := fmt.Sprintf("mode %o, owner %d:%d", st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		to, err := os.Readlink(p)
		return what + ", link to " + to, err
	case unix.S_IFREG:
		what += fmt.Sprintf(", %d bytes", st.Size)
		if !strings.HasPrefix(p, "/etc/") {
			return what + fmt.Sprintf(", of %d.%09d", st.Mtim.Sec, st.Mtim.Nsec), nil
		}
		b, err := os.ReadFile(p) // a file that was put back to the byte may be a new one
		return what + ": " + string(b), err
	}
	return what, nil
}

// EmptyDir tells of a path whether there is a directory with no file in it, nor below it.
func EmptyDir(p string) bool {
	files := 0
	err := filepath.WalkDir(p, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	})
	return err == nil && files == 0
}

// Changes lists what differs in a later snapshot.
func (s Snapshot) Changes(later Snapshot) []string {
	var out []string
	for p, was := range s {
		switch is, there := later[p]; {
		case !there:
			out = append(out, p+" is gone")
		case is != was:
			out = append(out, p+" has changed")
		}
	}
	for p := range later {
		if _, was := s[p]; !was {
			out = append(out, p+" is new")
		}
	}
	slices.Sort(out)
	return out
}
