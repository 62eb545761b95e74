package evict

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// super is a mounted file system: its root open, and how its handles are made.
type super struct {
	dir  *os.File
	form form
	err  error // why not
}

// O_NONBLOCK and O_NOATIME: opening neither waits for a lease's holder nor
// changes a file.
const openFlags = unix.O_RDONLY | unix.O_NOATIME | unix.O_NONBLOCK | unix.O_CLOEXEC

// Open opens a file that a walk found: a regular file by handle, a block device
// by its node. What is not the file that the walk saw, or could block or do
// something when opened, is not.
func (e *Evictor) Open(f pagewalk.File) (*os.File, error) {
	p, err := e.find(f)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	// By way of the descriptor already checked, so it is the same file.
	name := fmt.Sprintf("/proc/self/fd/%d", p.Fd())
	fd, err := unix.Open(name, openFlags, 0)
	if errors.Is(err, unix.EPERM) { // O_NOATIME is the owner's, or CAP_FOWNER's
		fd, err = unix.Open(name, openFlags&^unix.O_NOATIME, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open %v: %w", f, err)
	}
	return os.NewFile(uintptr(fd), p.Name()), nil
}

// Path is a file's path as this process sees it, where the kernel knows one: not
// of a file deleted, nor of one whose directory entry it has forgotten.
func (e *Evictor) Path(f pagewalk.File) (string, error) {
	p, err := e.find(f)
	if err != nil {
		return "", err
	}
	defer p.Close()
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", p.Fd()))
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(path, "/") || path == "/" {
		return "", fmt.Errorf("%v has no path", f)
	}
	return path, nil
}

// find has a descriptor of the file that can do nothing but name it (O_PATH),
// checked to be what the walk saw.
func (e *Evictor) find(f pagewalk.File) (*os.File, error) {
	var p *os.File
	var err error
	switch {
	case f.Kind == pagewalk.Block:
		p, err = blockNode(f)
	case f.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%v is not a regular file", f)
	default:
		p, err = e.byHandle(f)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(p.Fd()), &st); err != nil {
		p.Close()
		return nil, err
	}
	if !same(f, st) {
		p.Close()
		return nil, fmt.Errorf("%v is by now another file", f)
	}
	return p, nil
}

// same reports whether a file's status is that of the file the walk saw. Of
// btrfs st_dev is the subvolume's, which is not the superblock's.
func same(f pagewalk.File, st unix.Stat_t) bool {
	if f.Kind == pagewalk.Block {
		return st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == f.Dev()
	}
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Ino == f.Inode && (st.Dev == f.Dev() || f.Magic == unix.BTRFS_SUPER_MAGIC)
}

var errRemote = errors.New("a network or FUSE file system")

func (e *Evictor) byHandle(f pagewalk.File) (*os.File, error) {
	if remote(f.FSType) && !e.opt.Remote {
		return nil, errRemote
	}
	s := e.supers[f.Dev()]
	if s == nil {
		s = e.open(f)
		e.supers[f.Dev()] = s
	}
	if s.err != nil {
		return nil, s.err
	}
	kind, b, err := s.form.handle(f)
	if err != nil {
		return nil, err
	}
	fd, err := unix.OpenByHandleAt(int(s.dir.Fd()), unix.NewFileHandle(kind, b), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open %v by handle: %w", f, err)
	}
	return os.NewFile(uintptr(fd), f.String()), nil
}

// open finds a file system by its device, in this process's mount namespace or
// another one's.
func (e *Evictor) open(f pagewalk.File) *super {
	var errs []error
	for m := range e.mounts.of(f.Major, f.Minor) {
		dir, err := openMount(m)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		form, err := learn(dir)
		if err != nil {
			dir.Close()
			errs = append(errs, err)
			continue
		}
		return &super{dir: dir, form: form}
	}
	if len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s %d:%d is not mounted in any mount namespace", f.FSType, f.Major, f.Minor))
	}
	return &super{err: errors.Join(errs...)}
}

// openMount opens a mount's root, and makes sure that it is that mount which
// answers to its path: another may lie on top.
func openMount(m mount) (*os.File, error) {
	path := m.root + m.point
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if t := st.Mode & unix.S_IFMT; t != unix.S_IFDIR && t != unix.S_IFREG {
		return nil, fmt.Errorf("%s is neither a directory nor a file", path)
	}
	fd, err := unix.Open(path, openFlags|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if id, err := mountID(f); err != nil || id != m.id {
		f.Close()
		return nil, fmt.Errorf("%s is hidden by another mount (%d, not %d; %w)", path, id, m.id, err)
	}
	return f, nil
}

// mountID is the mount that an open file is of (proc_pid_fdinfo(5)).
func mountID(f *os.File) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("mnt_id:")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(v)))
		}
	}
	return 0, errors.New("fdinfo has no mnt_id")
}

// blockNode opens a block device's node, to name it only. Where udev calls it
// something else than the kernel does there is no node of that name.
func blockNode(f pagewalk.File) (*os.File, error) {
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", f.Major, f.Minor))
	if err != nil {
		return nil, fmt.Errorf("block device %d:%d: %w", f.Major, f.Minor, err)
	}
	// The kernel's '!' in a name stands for a '/' (cciss!c0d0).
	path := filepath.Join("/dev", strings.ReplaceAll(filepath.Base(link), "!", "/"))
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// remote reports whether a file system's files may be on another machine, or
// served by a process: those that no answer may come from.
func remote(fsType string) bool {
	switch fsType {
	case "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "coda", "fuse", "fuseblk", "virtiofs", "lustre", "orangefs",
		"gfs2", "ocfs2", "vboxsf", "beegfs", "gpfs",
		"?": // it could not be read
		return true
	}
	return strings.HasPrefix(fsType, "fuse.")
}
