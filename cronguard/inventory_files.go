package cronguard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Bounds of what is read.
const (
	maxTable = 1 << 20 // bytes of a crontab
	maxNames = 20_000  // names of a directory
	maxLinks = 16      // links on the way to a file
)

// errKind is for what is there and is no regular file.
var errKind = errors.New("is not a regular file; move it away")

// errSize is for what is too large.
var errSize = fmt.Errorf("is larger than %d bytes, which no crontab is; move it away", maxTable)

// reason is an error in words, without the path, which the Problem has.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Sprintf("cannot %s it: %v; see what it is", pe.Op, pe.Err)
	}
	return err.Error()
}

// real follows the links of a path, all below the root: a link to /x is to x below the root.
func (r *reader) real(path string) (string, error) {
	todo := strings.Split(filepath.Clean("/"+path), "/")
	at := "/"
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		to, err := os.Readlink(filepath.Join(r.root, next))
		if err != nil {
			at = next // no link; if it is nothing at all, opening it says so
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "follow", Path: path, Err: syscall.ELOOP}
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		todo = append(strings.Split(to, "/"), todo...)
	}
	return filepath.Join(r.root, at), nil
}

func (r *reader) lstat(path string) (fs.FileInfo, error) {
	real, err := r.real(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	return os.Lstat(filepath.Join(real, filepath.Base(path)))
}

// regular reports whether a path is a regular file and no link.
func (r *reader) regular(path string) bool {
	info, err := r.lstat(path)
	return err == nil && info.Mode().IsRegular()
}

func (r *reader) exists(path string) bool {
	real, err := r.real(path)
	if err != nil {
		return false
	}
	r.stamp(real)
	_, err = os.Lstat(real)
	return err == nil
}

// read returns a regular file's text.
func (r *reader) read(path string) (string, fs.FileInfo, error) {
	real, err := r.real(path)
	if err != nil {
		return "", nil, err
	}
	r.stamp(real)
	info, err := os.Lstat(real)
	if err != nil {
		return "", nil, err
	}
	if !info.Mode().IsRegular() {
		return "", nil, errKind
	}
	return readTable(real)
}

// readTable reads a table by its real path. Should it have become a FIFO or a link since it was looked at, opening it
// neither waits nor follows.
func readTable(real string) (string, fs.FileInfo, error) {
	f, err := os.OpenFile(real, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW|syscall.O_NOCTTY, 0)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", nil, err
	}
	if !info.Mode().IsRegular() {
		return "", nil, errKind
	}
	data, err := io.ReadAll(io.LimitReader(f, maxTable+1))
	if err != nil {
		return "", nil, err
	}
	if len(data) > maxTable {
		return "", nil, errSize
	}
	return string(data), info, nil
}

// names lists a directory, in order. One that is not there has none.
func (r *reader) names(dir string) []string {
	real, err := r.real(dir)
	if err != nil {
		r.failed(dir, err)
		return nil
	}
	r.stamp(real)
	info, err := os.Lstat(real)
	if err != nil || !info.IsDir() {
		if err != nil {
			r.failed(dir, err)
		}
		return nil
	}
	d, err := os.Open(real)
	if err != nil {
		r.failed(dir, err)
		return nil
	}
	defer d.Close()
	names, err := d.Readdirnames(maxNames)
	if err != nil && err != io.EOF {
		r.failed(dir, err)
	}
	if len(names) == maxNames {
		r.problem(dir, 0, fmt.Sprintf("has %d files or more; only so many are read", maxNames))
	}
	slices.Sort(names)
	return names
}

// readUsers reads who has which number from /etc/passwd. Users of LDAP and SSSD are not there.
func (r *reader) readUsers() {
	r.inv.users = map[string]string{}
	text, _, err := r.read("/etc/passwd")
	if err != nil {
		return
	}
	for line := range bytes.Lines([]byte(text)) {
		if f := bytes.SplitN(line, []byte(":"), 4); len(f) == 4 {
			if id := string(f[2]); r.inv.users[id] == "" {
				r.inv.users[id] = string(f[0])
			}
		}
	}
}

// userName is the name of a user, or its number.
func (inv *Inventory) userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if name := inv.users[id]; name != "" {
		return name
	}
	return id
}

// ownerOf is a file's owner.
func ownerOf(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}
