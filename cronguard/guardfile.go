package cronguard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// newFile is what a file that is written gets beside its content.
type newFile struct {
	mode     os.FileMode
	uid, gid int               // -1: whoever writes it
	attrs    map[string][]byte // extended attributes
}

// keptAttrs are the extended attributes that a changed file keeps: its SELinux label and its access list.
var keptAttrs = [...]string{"security.selinux", "system.posix_acl_access"}

// attrsOf reads the attributes to keep. What cannot be read is not there.
func attrsOf(host string) map[string][]byte {
	out := map[string][]byte{}
	for _, name := range keptAttrs {
		buf := make([]byte, 64<<10) // XATTR_SIZE_MAX
		if n, err := unix.Lgetxattr(host, name, buf); err == nil {
			out[name] = buf[:n]
		}
	}
	return out
}

// writeAtomic replaces a file: whoever opens it finds the old or the new content, whole, even after a crash. The
// temporary file's name begins with a dot and is no name of a PAM service.
func writeAtomic(host string, data []byte, n newFile) (err error) {
	dir := filepath.Dir(host)
	f, err := os.CreateTemp(dir, ".scopereap-*.tmp") // mode 0600, O_EXCL
	if err != nil {
		return fmt.Errorf("write %s: %w", host, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", host, err)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if n.uid >= 0 || n.gid >= 0 {
		if err = f.Chown(n.uid, n.gid); err != nil {
			return err
		}
	}
	if err = f.Chmod(n.mode); err != nil {
		return err
	}
	for name, value := range n.attrs {
		if err = unix.Fsetxattr(int(f.Fd()), name, value, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("give it %s: %w", name, err)
		}
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), host); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename or removal in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
