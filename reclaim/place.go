package reclaim

import (
	"io/fs"
	"path"

	"golang.org/x/sys/unix"
)

// place is a live cgroup whose files can be read.
type place interface {
	path() string
	// read is what FS.Read is.
	read(file string, buf []byte) ([]byte, error)
}

// at is a cgroup of which the path is known.
type at struct {
	fs     *FS
	cgroup string
}

func (a at) path() string { return a.cgroup }

func (a at) read(file string, buf []byte) ([]byte, error) { return a.fs.Read(a.cgroup, file, buf) }

// child is a live cgroup right below one that is being listed, and good until the next is. Its files are opened from
// its parent's open directory: no path is made, nor walked by the kernel, for each.
type child struct {
	fs     *FS
	parent string
	walk   *walk  // that lists it, which knows the parent's path; nil: parent is it
	dir    int    // the parent's
	name   []byte // in the listing's buffer
	rel    []byte // NAME/FILE and a NUL; its space is used again
}

func (c *child) path() string {
	if c.walk != nil {
		return childPath(c.walk.path(), string(c.name))
	}
	return path.Join(c.parent, string(c.name))
}

// id is what FS.ID is.
func (c *child) id() (uint64, error) {
	c.rel = append(append(c.rel[:0], c.name...), 0)
	id, errno := inodeShort(c.dir, c.rel)
	if errno != 0 {
		return 0, c.fs.errorf("stat", c.path(), "", errno)
	}
	return id, nil
}

func (c *child) read(file string, buf []byte) ([]byte, error) {
	c.rel = append(append(append(append(c.rel[:0], c.name...), '/'), file...), 0)
	for {
		// No link is followed, see FS.open.
		fd, errno := openShort(c.dir, c.rel, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW)
		switch errno {
		case 0:
			data, err := readAll(fd, file, buf)
			closeShort(fd)
			if err != nil {
				return nil, c.fs.errorf("read", c.path(), file, err)
			}
			return data, nil
		case unix.EINTR:
			continue
		case unix.ENOENT, unix.ENODEV:
			return nil, errno // gone, which nobody is told: no path is made for it
		}
		return nil, &fs.PathError{Op: "open", Path: path.Join(c.fs.root, c.path(), file), Err: errno}
	}
}

// readAll reads the file of this name to its end, into buf's space when it is large enough. A kernel file makes all that
// it says at the first read.
func readAll(fd int, name string, buf []byte) ([]byte, error) {
	read := unix.Read
	if shortFile(name) {
		read = readShort
	}
	return readAllBy(read, fd, buf)
}

// readAllBy is readAll with the system call to begin with.
func readAllBy(read func(int, []byte) (int, error), fd int, buf []byte) ([]byte, error) {
	if cap(buf) == 0 {
		buf = make([]byte, 0, readBuf)
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			if cap(buf) >= maxRead {
				return nil, unix.EFBIG
			}
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		read = readShort
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
}
