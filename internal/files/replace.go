package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The temporary file's name. It begins with a dot and ends in none of the suffixes that systemd (.conf) or
// node_exporter (.prom) look for, and is no name of a PAM service. Clean knows it again.
const (
	prefix = ".scopereap-"
	suffix = ".tmp"
)

// Options are what the new file is like beside its content.
type Options struct {
	Mode   os.FileMode       // permission bits, whatever the umask
	Owner  *Owner            // nil: whoever writes it
	Xattrs map[string][]byte // left out where the file system has none
	Sync   Sync
}

// Owner is who owns a file.
type Owner struct{ UID, GID int }

// Sync says what a crash of the machine may leave.
type Sync int

const (
	NoSync   Sync = iota // anything; a crash of the program alone does no harm
	SyncFile             // the old content or the new
	SyncDir              // the new content, once Write has returned
)

// Write replaces the file at path by way of a temporary one beside it, which is made new (O_EXCL), so no link that
// somebody else put there is followed, and with mode 0600 until it is complete. A link at path itself is replaced and
// not followed. After an error nothing has changed; only where the directory cannot be synced the new file is there.
// What a crash leaves is a temporary file that nobody reads, until Clean removes it.
func Write(path string, data []byte, o Options) error {
	if err := write(path, data, o); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if o.Sync == SyncDir {
		return FsyncDir(filepath.Dir(path))
	}
	return nil
}

func write(path string, data []byte, o Options) error {
	f, err := create(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer f.Close() // and with it the lock that create took
	if err = fill(f, data, o); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// create makes a temporary file and locks it, for as long as it is open. Clean leaves it alone meanwhile.
func create(dir string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, prefix+"*"+suffix)
		if err != nil {
			return nil, err
		}
		// Before the lock was taken, Clean may have taken the file for a dead one's.
		var st unix.Stat_t
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			err = unix.Fstat(int(f.Fd()), &st)
		}
		if err == nil && st.Nlink == 1 {
			return f, nil
		}
		f.Close()
		if err != nil && err != unix.EWOULDBLOCK {
			_ = os.Remove(f.Name())
			return nil, err
		}
	}
}

// Clean removes the temporary files that a Write which did not come to its end has left in a directory: regular files
// of our own user with a name that Write gives and no other link, and that nobody is writing. Everything else stays. No
// directory is no work.
func Clean(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	var errs []error
	for _, name := range names {
		if isTemporary(name) {
			errs = append(errs, clean(int(d.Fd()), name))
		}
	}
	return errors.Join(errs...)
}

// isTemporary reports whether os.CreateTemp may have made a name for create: with a decimal number in it.
func isTemporary(name string) bool {
	number, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return false
	}
	if number, ok = strings.CutSuffix(number, suffix); !ok || number == "" {
		return false
	}
	return strings.Trim(number, "0123456789") == ""
}

func clean(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // a link, or gone
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 ||
		int(st.Uid) != os.Geteuid() {
		return nil
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil // it is being written
	}
	// The lock is ours, and so is the file: but renamed meanwhile it is what it was written for.
	var now unix.Stat_t
	if err := unix.Fstatat(dir, name, &now, unix.AT_SYMLINK_NOFOLLOW); err != nil || now.Ino != st.Ino || now.Dev != st.Dev {
		return nil
	}
	if err := unix.Unlinkat(dir, name, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("clean up %s: %w", name, err)
	}
	return nil
}

func fill(f *os.File, data []byte, o Options) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	if o.Owner != nil {
		if err := chown(f, *o.Owner); err != nil {
			return err
		}
	}
	if err := f.Chmod(o.Mode); err != nil { // after chown, which may clear bits
		return err
	}
	for name, value := range o.Xattrs {
		if err := unix.Fsetxattr(int(f.Fd()), name, value, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("give it %s: %w", name, err)
		}
	}
	if o.Sync == NoSync {
		return nil
	}
	return f.Sync()
}

// chown gives the file to its owner, unless it has it already: scopereapd's
// sandbox lets it give nothing away, and root's own files stay root's.
func chown(f *os.File, to Owner) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err == nil && int(st.Uid) == to.UID && int(st.Gid) == to.GID {
		return nil
	}
	return f.Chown(to.UID, to.GID)
}

// FsyncDir makes a rename or removal in a directory last.
func FsyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
