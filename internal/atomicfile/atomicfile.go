// Package atomicfile replaces files in one step: whoever opens one finds the old content or the new, whole.
package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// pattern of the temporary file's name. It begins with a dot and ends in none of the suffixes that systemd (.conf)
// or node_exporter (.prom) look for, and is no name of a PAM service.
const pattern = ".scopereap-*.tmp"

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
// What a crash leaves is a temporary file that nobody reads.
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
	f, err := os.CreateTemp(filepath.Dir(path), pattern)
	if err != nil {
		return err
	}
	if err = errors.Join(fill(f, data, o), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
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
