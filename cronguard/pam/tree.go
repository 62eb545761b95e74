package pam

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// dirs are where libpam looks for a service, in this order (pam_private.h: PAM_CONFIG_DF, PAM_CONFIG_DIST_DF, and
// PAM_CONFIG_DIST2_DF, which is /usr/etc on SUSE and missing elsewhere).
var dirs = [...]string{etcPamDir, "/usr/lib/pam.d", "/usr/etc/pam.d"}

const (
	etcPamDir = "/etc/pam.d"
	confFile  = "/etc/pam.conf"
)

// Bounds for what somebody else wrote. Real PAM files have some hundred bytes and link once or twice.
const (
	maxFile     = 1 << 20 // bytes
	maxSymlinks = 40      // as the kernel's (path_resolution(7))
)

// tree is the PAM configuration below a root directory, some of it replaced in memory. Paths in it are as a process
// sees them whose root directory that is: links lead nowhere out of it.
type tree struct {
	root    string
	overlay map[string][]byte // by resolved path
	parsed  map[string]*file
}

func newTree(root string) *tree {
	if root == "" {
		root = "/"
	}
	return &tree{root: root, overlay: map[string][]byte{}, parsed: map[string]*file{}}
}

// with is the tree with one file replaced. target must not be a link.
func (t *tree) with(target string, data []byte) (*tree, error) {
	real, err := t.resolve(target)
	if err != nil {
		return nil, err
	}
	n := newTree(t.root)
	for p, d := range t.overlay {
		n.overlay[p] = d
	}
	n.overlay[real] = data
	return n, nil
}

// host is a path of the tree as this process opens it.
func (t *tree) host(p string) string { return filepath.Join(t.root, p) }

// resolve follows links within the root. The last part of the path need not exist.
func (t *tree) resolve(p string) (string, error) {
	rest := strings.Split(p, "/")
	cur := "/"
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			cur = path.Dir(cur)
			continue
		}
		next := path.Join(cur, part)
		info, err := os.Lstat(t.host(next))
		if errors.Is(err, fs.ErrNotExist) && len(rest) == 0 {
			return next, nil
		}
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			cur = next
			continue
		}
		if links++; links > maxSymlinks {
			return "", &fs.PathError{Op: "open", Path: p, Err: unix.ELOOP}
		}
		to, err := os.Readlink(t.host(next))
		if err != nil {
			return "", err
		}
		if to == os.DevNull {
			return to, nil // there in every root, mounted or not
		}
		if strings.HasPrefix(to, "/") {
			cur = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return cur, nil
}

// read gives a file's content and where it really lies. It opens nothing but regular files: a FIFO would block, a
// device could do anything. /dev/null is an empty file.
func (t *tree) read(p string) (data []byte, real string, err error) {
	if strings.ContainsRune(p, 0) {
		return nil, "", fs.ErrNotExist
	}
	if real, err = t.resolve(p); err != nil {
		return nil, "", err
	}
	if data, ok := t.overlay[real]; ok {
		return data, real, nil
	}
	if real == os.DevNull {
		return nil, real, nil
	}
	data, err = readRegular(t.host(real))
	return data, real, err
}

var errNotRegular = errors.New("is not a regular file")

// readRegular reads a regular file of at most maxFile bytes that is not a link.
func readRegular(host string) ([]byte, error) {
	// O_NONBLOCK: opening a FIFO returns at once.
	f, err := os.OpenFile(host, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("is larger than %d bytes", maxFile)
	}
	return data, nil
}

// missing reports an error for which libpam looks in the next directory. It runs as root, so a file that this process
// may not read is not missing.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) ||
		errors.Is(err, unix.ENAMETOOLONG)
}

// open finds and parses the file that libpam opens for a name: that of a service or an include. nil: there is none.
func (t *tree) open(name string) (*file, error) {
	candidates := []string{name}
	if !strings.HasPrefix(name, "/") {
		candidates = candidates[:0]
		for _, dir := range dirs {
			candidates = append(candidates, dir+"/"+name)
		}
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
	data, real, err := t.read(p)
	switch {
	case err == nil:
	case missing(err):
		return nil, err
	case errors.Is(err, fs.ErrPermission):
		return nil, &Error{Place: Place{File: p}, Msg: "not allowed to read it", Hint: "run this as root", Err: err}
	default:
		return nil, &Error{Place: Place{File: p}, Msg: plainError(err).Error(), Hint: "see what it is, and mend or remove it", Err: err}
	}
	lines, err := parse(p, data)
	if err != nil {
		return nil, err
	}
	f := &file{path: p, real: real, data: data, lines: lines}
	for i := range f.lines {
		f.entries = append(f.entries, newEntry(f, &f.lines[i], f.lines[i].tokens))
	}
	t.parsed[p] = f
	return f, nil
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
		real, err := t.resolve(dir)
		if err != nil {
			continue
		}
		if info, err := os.Stat(t.host(real)); err == nil && info.IsDir() {
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
		real, err := t.resolve(dir)
		if err != nil {
			continue
		}
		f, err := os.Open(t.host(real))
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
