package pam

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/files"
)

// Dirs are the directories in which libpam looks for a service's file.
func Dirs() []string { return dirs[:] }

// dirs are where libpam looks for a service, in this order (pam_private.h: PAM_CONFIG_DF,
// PAM_CONFIG_DIST_DF, and PAM_CONFIG_DIST2_DF, which is /usr/etc on SUSE and missing elsewhere).
var dirs = [...]string{etcPamDir, "/usr/lib/pam.d", "/usr/etc/pam.d"}

const (
	etcPamDir = "/etc/pam.d"
	confFile  = "/etc/pam.conf"
)

// maxFile bounds what somebody else wrote, in bytes. Real PAM files have some hundred.
const maxFile = 1 << 20

// tree is the PAM configuration below a root directory, some of it replaced in memory. Paths in it
// are as a process sees them whose root directory that is: links lead nowhere out of it.
type tree struct {
	files.Root
	overlay map[string][]byte // by resolved path
	parsed  map[string]*file
}

func newTree(root string) *tree {
	return &tree{Root: files.Root(cmp.Or(root, "/")), overlay: map[string][]byte{}, parsed: map[string]*file{}}
}

// with is the tree with one file replaced. target must not be a link.
func (t *tree) with(target string, data []byte) (*tree, error) {
	real, err := t.Resolve(target)
	if err != nil {
		return nil, err
	}
	n := newTree(string(t.Root))
	maps.Copy(n.overlay, t.overlay)
	n.overlay[real] = data
	return n, nil
}

// read gives a file's content. It opens nothing but regular files: a FIFO would block, a device
// could do anything. /dev/null is an empty file.
func (t *tree) read(p string) ([]byte, error) {
	if strings.ContainsRune(p, 0) {
		return nil, fs.ErrNotExist
	}
	real, err := t.Resolve(p)
	if err != nil {
		return nil, err
	}
	if data, ok := t.overlay[real]; ok {
		return data, nil
	}
	if real == os.DevNull {
		return nil, nil
	}
	return readRegular(t.Host(real))
}

// readRegular reads a regular file of at most maxFile bytes that is not a link.
func readRegular(host string) ([]byte, error) {
	data, _, err := files.ReadRegular(host, maxFile)
	if errors.Is(err, files.ErrTooLarge) {
		err = fmt.Errorf("is larger than %d bytes", maxFile)
	}
	return data, err
}

// missing reports an error for which libpam looks in the next directory. It runs as root, so a file
// that this process may not read is not missing.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) ||
		errors.Is(err, unix.ENAMETOOLONG)
}

// open finds and parses the file that libpam opens for a name: that of a service or an include.
// nil: there is none.
func (t *tree) open(name string) (*file, error) {
	candidates := []string{name}
	if !strings.HasPrefix(name, "/") {
		candidates = []string{dirs[0] + "/" + name, dirs[1] + "/" + name, dirs[2] + "/" + name}
	}
	for _, p := range candidates {
		f, err := t.file(p)
		if err == nil || !missing(err) {
			return f, err
		}
	}
	return nil, nil
}

// file reads and parses one file.
func (t *tree) file(p string) (*file, error) {
	p = path.Clean(p)
	if f := t.parsed[p]; f != nil {
		return f, nil
	}
	data, err := t.read(p)
	switch {
	case err == nil:
	case missing(err):
		return nil, err
	case errors.Is(err, fs.ErrPermission):
		return nil, &Error{Place: Place{File: p}, Msg: "not allowed to read it", Hint: "run this as root", Err: err}
	default:
		return nil, unreadable(p, err, "see what it is, and mend or remove it")
	}
	lines, err := parse(p, data)
	if err != nil {
		return nil, err
	}
	f := &file{path: p, data: data, lines: lines}
	for i := range f.lines {
		f.entries = append(f.entries, newEntry(f, &f.lines[i], f.lines[i].tokens))
	}
	t.parsed[p] = f
	return f, nil
}

// unreadable is what the system said when a file was read.
func unreadable(p string, err error, hint string) error {
	return &Error{Place: Place{File: p}, Msg: plainError(err).Error(), Hint: hint, Err: err}
}

// plainError is a system's error without the path, which the message has already.
func plainError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("cannot %s it: %w", pe.Op, pe.Err)
	}
	return err
}

// usesDirectories reports whether there is a pam.d at all: without one libpam reads pam.conf.
func (t *tree) usesDirectories() bool {
	for _, dir := range dirs {
		real, err := t.Resolve(dir)
		if err != nil {
			continue
		}
		if info, err := os.Stat(t.Host(real)); err == nil && info.IsDir() {
			return true
		}
	}
	return false
}

// maxServices is how many PAM services are looked at. A machine has some thirty.
const maxServices = 1000

// services are the names of all files in the pam.d directories.
func (t *tree) services() ([]string, error) {
	var out []string
	for _, dir := range dirs {
		real, err := t.Resolve(dir)
		if err != nil {
			continue
		}
		f, err := os.Open(t.Host(real))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		names, err := f.Readdirnames(maxServices + 1)
		f.Close()
		if len(names) == 0 {
			continue // empty, or not a directory
		}
		if err != nil {
			return nil, err
		}
		out = append(out, names...)
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) > maxServices {
		return nil, fmt.Errorf("there are more than %d files in %s: the guard does not look at them all", maxServices, etcPamDir)
	}
	return out, nil
}
