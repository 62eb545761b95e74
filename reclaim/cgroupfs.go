package reclaim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FS is one mounted cgroup hierarchy, and the only place in this package that
// opens its files. Every path handed to it is a cgroup path: absolute within
// the hierarchy, as /proc/PID/cgroup writes it ("/" is the root,
// "/user.slice/user-1000.slice" a slice).
//
// It never goes through os.File: kernfs files are pollable, so the Go runtime
// would take EAGAIN from memory.reclaim for "wait until writable" and park the
// goroutine for ever.
type FS struct {
	root string
	fd   int
	// write is added to the flags of files opened for writing.
	write int
}

// OpenFS opens the hierarchy mounted (or, in tests, laid out) at root.
func OpenFS(root string) (*FS, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open cgroup hierarchy", Path: root, Err: err}
	}
	f := &FS{root: root, fd: fd}
	// A kernel file takes each write as its whole new value. An ordinary
	// file has to be told so, or it keeps the end of a longer old one.
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC && st.Type != unix.CGROUP_SUPER_MAGIC {
		f.write = unix.O_TRUNC
	}
	return f, nil
}

// Close gives the hierarchy's file descriptor back.
func (f *FS) Close() error { return unix.Close(f.fd) }

// Root is the directory the hierarchy is mounted at.
func (f *FS) Root() string { return f.root }

// errNotCgroupPath is behind every refusal of CleanPath.
var errNotCgroupPath = errors.New("not a cgroup path")

// CleanPath checks a path that came from outside (a user, the bus, a file) and
// returns it in the one form this package uses. It must be absolute within the
// hierarchy. ".." is refused instead of resolved: who writes it means
// something else than what a resolved path would reach.
func CleanPath(p string) (string, error) {
	switch {
	case !strings.HasPrefix(p, "/"):
		return "", fmt.Errorf("%w: %q does not begin with '/' (write it as /proc/PID/cgroup does, such as /user.slice)", errNotCgroupPath, p)
	case strings.ContainsAny(p, "\x00\n"):
		return "", fmt.Errorf("%w: %q contains a line break or a NUL", errNotCgroupPath, p)
	}
	for seg := range strings.SplitSeq(p, "/") {
		if seg == ".." {
			return "", fmt.Errorf("%w: %q contains '..'", errNotCgroupPath, p)
		}
	}
	return path.Clean(p), nil
}

// join names a cgroup's file, relative to the hierarchy's root.
func join(cgroup, file string) (string, error) {
	clean, err := CleanPath(cgroup)
	if err != nil {
		return "", err
	}
	rel := strings.TrimPrefix(clean, "/")
	if rel == "" {
		if file == "" {
			return ".", nil
		}
		return file, nil
	}
	if file == "" {
		return rel, nil
	}
	return rel + "/" + file, nil
}

// open opens a cgroup's file (or the cgroup's directory where file is empty).
// No symbolic link is followed: a cgroup hierarchy has none, so one would mean
// that this is not a cgroup hierarchy.
func (f *FS) open(cgroup, file string, flags int) (int, error) {
	rel, err := join(cgroup, file)
	if err != nil {
		return -1, err
	}
	dir, last, err := f.near(rel)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path.Join(f.root, rel), Err: err}
	}
	defer f.leave(dir)
	name := append(append(make([]byte, 0, len(last)+1), last...), 0)
	for {
		fd, errno := openShort(dir, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW)
		switch errno {
		case 0:
			return fd, nil
		case unix.EINTR:
			continue
		}
		return -1, &fs.PathError{Op: "open", Path: path.Join(f.root, rel), Err: errno}
	}
}

// near takes what is too long for one call (see pathMax) in steps: it opens the
// directories on the way, and returns the last of them with what is left of the
// name. leave gives it back.
func (f *FS) near(rel string) (dir int, last string, err error) {
	dir = f.fd
	for len(rel) >= pathMax {
		cut := strings.LastIndexByte(rel[:pathMax], '/')
		if cut <= 0 {
			f.leave(dir)
			return -1, "", unix.ENAMETOOLONG
		}
		next, err := unix.Openat(dir, rel[:cut], unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		f.leave(dir)
		if err != nil {
			return -1, "", err
		}
		dir, rel = next, rel[cut+1:]
	}
	return dir, rel, nil
}

func (f *FS) leave(dir int) {
	if dir != f.fd {
		closeShort(dir)
	}
}

// readBuf is how much a first read asks for. The largest file read here is
// memory.stat, below 4 KiB on every kernel up to 7.2.
const readBuf = 8 << 10

// maxRead bounds a file that should not be large: a kernel file beyond it is
// not what its name says.
const maxRead = 4 << 20

// Read returns a cgroup's file, using buf's space when it is large enough.
func (f *FS) Read(cgroup, file string, buf []byte) ([]byte, error) {
	fd, err := f.open(cgroup, file, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer closeShort(fd)
	data, err := readAll(fd, file, buf)
	if err != nil {
		return nil, f.errorf("read", cgroup, file, err)
	}
	return data, nil
}

// Write hands value to a cgroup's file in one write(2), which is the unit the
// kernel parses. EINTR and EAGAIN are the kernel's answers, not retried here:
// see Thread.Write for what they mean.
func (f *FS) Write(cgroup, file, value string) error {
	fd, err := f.open(cgroup, file, unix.O_WRONLY|f.write)
	if err != nil {
		return err
	}
	return f.writeFD(fd, cgroup, file, value)
}

// WriteTo is Write for the cgroup of this ID only: ENOENT where another has
// taken its path.
func (f *FS) WriteTo(id uint64, cgroup, file, value string) error {
	dir, err := f.open(cgroup, "", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer closeShort(dir)
	if now, errno := inodeShort(dir, []byte(".\x00")); errno != 0 || now != id {
		return f.errorf("write "+value+" to", cgroup, file, unix.ENOENT)
	}
	fd, errno := openShort(dir, append([]byte(file), 0), unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|f.write)
	if errno != 0 {
		return f.errorf("open", cgroup, file, errno)
	}
	return f.writeFD(fd, cgroup, file, value)
}

// writeFD writes value to a file that it closes.
func (f *FS) writeFD(fd int, cgroup, file, value string) error {
	defer closeShort(fd)
	write := unix.Write
	if shortWrite(file) {
		write = writeShort
	}
	if _, err := write(fd, line(value)); err != nil {
		return f.errorf("write "+value+" to", cgroup, file, err)
	}
	return nil
}

// line is value as echo(1) would write it: kernel files are lines, and what is
// read back of one that does not end counts as cut off.
func line(value string) []byte { return append([]byte(value), '\n') }

// Has reports whether a cgroup has this file.
func (f *FS) Has(cgroup, file string) bool {
	rel, err := join(cgroup, file)
	if err != nil {
		return false
	}
	dir, last, err := f.near(rel)
	if err != nil {
		return false
	}
	defer f.leave(dir)
	var st unix.Stat_t
	return unix.Fstatat(dir, last, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// ID is the cgroup's inode number, which kernfs does not give again while the
// machine runs (64 bits, a generation on 32): it tells a cgroup from a later
// one of the same path. On v2 it is what name_to_handle_at(2) calls the cgroup
// id.
func (f *FS) ID(cgroup string) (uint64, error) {
	rel, err := join(cgroup, "")
	if err != nil {
		return 0, err
	}
	dir, last, err := f.near(rel)
	if err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path.Join(f.root, rel), Err: err}
	}
	defer f.leave(dir)
	id, errno := inodeShort(dir, append([]byte(last), 0))
	if errno != 0 {
		return 0, &fs.PathError{Op: "stat", Path: path.Join(f.root, rel), Err: errno}
	}
	return id, nil
}

// Owner is the user ID that owns the cgroup's directory.
func (f *FS) Owner(cgroup string) (uint32, error) {
	rel, err := join(cgroup, "")
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(f.fd, rel, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, f.errorf("stat", cgroup, "", err)
	}
	return st.Uid, nil
}

// Exists reports whether the cgroup's directory is there.
func (f *FS) Exists(cgroup string) bool {
	_, err := f.ID(cgroup)
	return err == nil
}

// NearestLive is the closest cgroup at or above p whose directory exists: the
// root for what is not a cgroup path.
func (f *FS) NearestLive(p string) string {
	p, err := CleanPath(p)
	if err != nil {
		return "/"
	}
	for p != "/" && !f.Exists(p) {
		p = path.Dir(p)
	}
	return p
}

// Mkdir makes a cgroup. Only probes and `reproduce` do, each below a name of
// its own.
func (f *FS) Mkdir(cgroup string) error {
	rel, err := join(cgroup, "")
	if err != nil {
		return err
	}
	dir, last, err := f.near(rel)
	if err == nil {
		defer f.leave(dir)
		err = unix.Mkdirat(dir, last, 0o755)
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: path.Join(f.root, rel), Err: err}
	}
	return nil
}

// Rmdir removes a cgroup's directory.
func (f *FS) Rmdir(cgroup string) error {
	rel, err := join(cgroup, "")
	if err != nil {
		return err
	}
	dir, last, err := f.near(rel)
	if err == nil {
		defer f.leave(dir)
		err = unix.Unlinkat(dir, last, unix.AT_REMOVEDIR)
	}
	if err != nil {
		return &fs.PathError{Op: "rmdir", Path: path.Join(f.root, rel), Err: err}
	}
	return nil
}

// Children lists the live cgroups right below one.
func (f *FS) Children(cgroup string) ([]string, error) {
	var names []string
	err := f.eachChild(cgroup, func(name string) { names = append(names, name) })
	return names, err
}

// direntBuf holds some hundred directory entries a getdents64(2).
const direntBuf = 16 << 10

// eachChild calls fn with the name of every directory in a cgroup.
func (f *FS) eachChild(cgroup string, fn func(name string)) error {
	return f.each(cgroup, func(c *child) { fn(string(c.name)) })
}

// each is listing.each in space that is used again.
func (f *FS) each(cgroup string, fn func(*child)) error {
	return f.eachPulsing(cgroup, nil, fn)
}

func (f *FS) eachPulsing(cgroup string, pulse *atomic.Uint64, fn func(*child)) error {
	l := listings.Get().(*listing)
	defer listings.Put(l)
	l.pulse = pulse
	return l.each(f, cgroup, fn)
}

// listings saves the collector some MB in a sweep of many turns.
var listings = sync.Pool{New: func() any { return new(listing) }}

// listing is the space that listing cgroups takes; it can be used again.
type listing struct {
	buf   [direntBuf]byte
	child child
	pulse *atomic.Uint64 // counts the directories listed; may be nil
}

// each calls fn with every directory in a cgroup. It reads the entries' own
// types, so it costs no stat a child.
func (l *listing) each(f *FS, cgroup string, fn func(*child)) error {
	fd, err := f.open(cgroup, "", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer closeShort(fd)
	c := &l.child
	c.fs, c.parent, c.walk, c.dir = f, cgroup, nil, fd
	if err := l.read(fn); err != nil {
		return f.errorf("list", cgroup, "", err)
	}
	return nil
}

// read calls fn with every directory in the open one that child.dir is.
func (l *listing) read(fn func(*child)) error {
	c := &l.child
	for {
		n, err := getdentsShort(c.dir, l.buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n <= 0 {
			return nil
		}
		for b := l.buf[:n]; len(b) > direntName; {
			reclen := int(binary.NativeEndian.Uint16(b[direntReclen:]))
			if reclen <= direntName || reclen > len(b) {
				return unix.EBADMSG
			}
			if typ := b[direntType]; typ == unix.DT_DIR {
				c.name = b[direntName:reclen]
				if end := bytes.IndexByte(c.name, 0); end >= 0 {
					c.name = c.name[:end]
				}
				if string(c.name) != "." && string(c.name) != ".." {
					if l.pulse != nil {
						l.pulse.Add(1)
					}
					fn(c)
				}
			}
			b = b[reclen:]
		}
	}
}

// Where struct linux_dirent64 (getdents64(2)) keeps its fields.
const (
	direntReclen = int(unsafe.Offsetof(unix.Dirent{}.Reclen))
	direntType   = int(unsafe.Offsetof(unix.Dirent{}.Type))
	direntName   = int(unsafe.Offsetof(unix.Dirent{}.Name))
)

func (f *FS) errorf(op, cgroup, file string, err error) error {
	return &fs.PathError{Op: op, Path: path.Join(f.root, cgroup, file), Err: err}
}

// gone reports whether err means that the cgroup has been removed: the
// directory (ENOENT) or, for a file that was open or a directory being
// listed, its node (ENODEV from kernfs_get_active failing).
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}
