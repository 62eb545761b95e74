package policy

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Dirs says below which root the policy's directories are. The zero value is the
// running system; tests and image builders set another root.
type Dirs struct {
	Root string
}

// Main is the path of the main file.
func (d Dirs) Main() string { return filepath.Join(d.root(), "etc/scopereap/policy.toml") }

// DropIns are the directories of the drop-ins, weakest first.
func (d Dirs) DropIns() []string {
	return []string{
		filepath.Join(d.root(), "usr/lib/scopereap/policy.d"),
		filepath.Join(d.root(), "run/scopereap/policy.d"),
		filepath.Join(d.root(), "etc/scopereap/policy.d"),
	}
}

func (d Dirs) root() string {
	if d.Root == "" {
		return "/"
	}
	return d.Root
}

// Status is what became of a file that was found.
type Status string

const (
	Read     Status = "read"     // its keys count
	Replaced Status = "replaced" // a file of the same name in a stronger directory is read instead
	Masked   Status = "masked"   // a link to /dev/null in a stronger directory takes it away
	Mask     Status = "mask"     // it is a link to /dev/null
	Ignored  Status = "ignored"  // it lies in policy.d but is hidden or does not end in .toml
)

// Source is one file that was found, whether it was read or not.
type Source struct {
	Path   string `json:"path"`
	Status Status `json:"status"`
	By     string `json:"by,omitempty"` // the file that replaces or masks it
}

// suffix is what a drop-in's name ends in.
const suffix = ".toml"

// find lists all sources in the order of reading. What keeps a directory from being
// listed is an error: its drop-ins may be what keeps the machine safe.
func (d Dirs) find() ([]Source, Errors) {
	var errs Errors
	var out []Source
	if _, err := os.Lstat(d.Main()); err == nil {
		status := Read
		if isNull(d.Main()) {
			status = Mask
		}
		out = append(out, Source{Path: d.Main(), Status: status})
	} else if !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fileError(d.Main(), "look at", err))
	}
	byName := map[string][]string{} // weakest first
	var ignored []Source
	for _, dir := range d.DropIns() {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fileError(dir, "list", err))
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), suffix) {
				ignored = append(ignored, Source{Path: path, Status: Ignored})
				continue
			}
			byName[e.Name()] = append(byName[e.Name()], path)
		}
	}
	for _, name := range sortedNames(byName) {
		out = append(out, rank(byName[name])...)
	}
	slices.SortFunc(ignored, func(a, b Source) int { return cmp.Compare(a.Path, b.Path) })
	return append(out, ignored...), errs
}

func sortedNames(m map[string][]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// rank decides among files of one name, weakest first: the last counts.
func rank(paths []string) []Source {
	winner := paths[len(paths)-1]
	status, loser := Read, Replaced
	if isNull(winner) {
		status, loser = Mask, Masked
	}
	var out []Source
	for _, p := range paths[:len(paths)-1] {
		out = append(out, Source{Path: p, Status: loser, By: winner})
	}
	return append(out, Source{Path: winner, Status: status})
}

// nullDevice is the number of /dev/null: major 1, minor 3, on every Linux
// (Documentation/admin-guide/devices.txt).
const nullDevice = 1<<8 | 3

// isNull tells whether path is, or leads to, the null device. The number is asked, not
// the name: in a chroot the link may lead to a bind mount of it.
func isNull(path string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Rdev == nullDevice
}
