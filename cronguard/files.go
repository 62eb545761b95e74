package cronguard

import (
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

	"github.com/scopereap/scopereap/internal/files"
)

// Bounds of what is read.
const (
	maxTable = 1 << 20 // bytes of a crontab
	maxNames = 20_000  // names of a directory
)

// reason is an error in words, without the path, which the Problem has.
func reason(err error) string {
	var pe *fs.PathError
	switch {
	case errors.As(err, &pe):
		return fmt.Sprintf("cannot %s it: %v; see what it is", pe.Op, pe.Err)
	case errors.Is(err, files.ErrNotRegular):
		return err.Error() + "; move it away"
	case errors.Is(err, files.ErrTooLarge):
		return fmt.Sprintf("is larger than %d bytes, which no crontab is; move it away", maxTable)
	}
	return err.Error()
}

// real is a path with its links followed, as this process opens it.
func (r *reader) real(path string) (string, error) {
	real, err := r.root.Resolve(path)
	return r.root.Host(real), err
}

// regular reports whether a path is a regular file and no link.
func (r *reader) regular(path string) (fs.FileInfo, bool) {
	real, err := r.real(filepath.Dir(path))
	if err != nil {
		return nil, false
	}
	info, err := os.Lstat(filepath.Join(real, filepath.Base(path)))
	return info, err == nil && info.Mode().IsRegular()
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
	data, info, err := files.ReadRegular(real, maxTable)
	return string(data), info, err
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
	if err == nil && !info.IsDir() {
		return nil
	}
	var d *os.File
	if err == nil {
		d, err = os.Open(real)
	}
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
	for line := range strings.Lines(text) {
		if f := strings.SplitN(line, ":", 4); len(f) == 4 && r.inv.users[f[2]] == "" {
			r.inv.users[strings.Clone(f[2])] = strings.Clone(f[0]) // and not the whole file
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
