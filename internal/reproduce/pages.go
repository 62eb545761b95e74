package reproduce

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// pageDirName is the directory of the page files, below Options.Dir. It
// belongs to root alone, so that nobody can put a link in the place of a file
// in a world-writable /var/tmp.
const pageDirName = "scopereap-reproduce"

// pageDir is the opened and locked directory of the page files.
type pageDir struct {
	path string
	fd   int
}

// ErrBusy: two runs would remove each other's cgroups.
var ErrBusy = errors.New("another reproduce is at work: wait for it, or stop it")

// openPageDir makes the directory if needed, and locks it.
func openPageDir(parent string) (*pageDir, error) {
	d := &pageDir{path: filepath.Join(parent, pageDirName)}
	if err := os.Mkdir(d.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w (--dir names another directory)", err)
	}
	return d, d.open()
}

func (d *pageDir) open() error {
	fd, err := unix.Open(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	if err := checkPageDir(fd, d.path); err != nil {
		unix.Close(fd)
		return err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		if err == unix.EWOULDBLOCK {
			return ErrBusy
		}
		return &os.PathError{Op: "lock", Path: d.path, Err: err}
	}
	d.fd = fd
	return nil
}

func (d *pageDir) close() { unix.Close(d.fd) }

// checkPageDir refuses a directory that somebody else prepared, and a file
// system whose pages reclaim could not free again or does not charge.
func checkPageDir(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s belongs to uid %d with mode %o, so it is not ours: remove it, or name another directory with --dir", path, st.Uid, st.Mode&0o7777)
	}
	var sf unix.Statfs_t
	if err := unix.Fstatfs(fd, &sf); err != nil {
		return &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	if why := unfit(uint32(sf.Type)); why != "" {
		return fmt.Errorf("%s is on %s; name a directory on a disk's file system (ext4, xfs, btrfs) with --dir", path, why)
	}
	return nil
}

// zfsMagic is ZFS_SUPER_MAGIC, which x/sys does not have.
const zfsMagic = 0x2fc12fc1

// unfit says why a file system will not do; "" if it will.
func unfit(magic uint32) string {
	switch magic {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "tmpfs, whose pages no reclaim can free"
	case unix.HUGETLBFS_MAGIC:
		return "hugetlbfs, whose pages are not charged"
	case zfsMagic:
		return "ZFS, which keeps files in a cache of its own and not in the page cache"
	case unix.V9FS_MAGIC:
		return "9p, which keeps no page cache by default"
	}
	return ""
}

// pageFilePrefix begins the name of every page file.
const pageFilePrefix = "pages-"

// newFile makes a sparse file of so many bytes.
func (d *pageDir) newFile(size int64) (string, error) {
	name := filepath.Join(d.path, pageFilePrefix+strconv.FormatInt(time.Now().UnixNano(), 36))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", err
	}
	err = f.Truncate(size)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(name)
		return "", err
	}
	return name, nil
}

// removeFiles takes all page files out of the page cache and off the disk, and
// removes the directory.
func (d *pageDir) removeFiles() (n int, err error) {
	names, err := filepath.Glob(filepath.Join(d.path, pageFilePrefix+"*"))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if dropErr := dropFile(name); dropErr != nil {
			err = errors.Join(err, dropErr)
			continue
		}
		n++
	}
	if err == nil {
		err = os.Remove(d.path)
	}
	return n, err
}

func dropFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// Some pages wait in per-CPU lists, which hold a reference that would
	// outlive the file: DONTNEED drains those lists where it meets such.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return &os.PathError{Op: "fadvise", Path: name, Err: err}
	}
	// Truncated first: the pages go even if somebody has the file open.
	if err := f.Truncate(0); err != nil {
		return err
	}
	return os.Remove(name)
}
