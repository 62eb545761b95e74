package reclaim

import (
	"io/fs"
	"path"
	"unsafe"

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
	dir    int    // the parent's
	name   []byte // in the listing's buffer
	rel    []byte // NAME/FILE and a NUL; its space is used again
}

func (c *child) path() string { return path.Join(c.parent, string(c.name)) }

func (c *child) read(file string, buf []byte) ([]byte, error) {
	c.rel = append(append(append(append(c.rel[:0], c.name...), '/'), file...), 0)
	for {
		// unix.Openat would make a copy of the name. No link is followed, see FS.open.
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(c.dir), uintptr(unsafe.Pointer(&c.rel[0])),
			unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0, 0, 0)
		switch errno {
		case 0:
			data, err := readAll(int(fd), buf)
			unix.Close(int(fd))
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

// readAll reads a file to its end, into buf's space when it is large enough.
func readAll(fd int, buf []byte) ([]byte, error) {
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
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
}
