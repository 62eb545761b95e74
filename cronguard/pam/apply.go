package pam

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/files"
)

// Apply does what is planned, service by service, each file atomically and its backup first. It
// stops at the first error; what was done before that stays. Whether or not there is anything to
// do, it removes what a guard that was killed has left half written.
func (p Plan) Apply() error {
	if err := p.cleanUp(); err != nil {
		return err
	}
	if !p.Changes() {
		return nil
	}
	unlock, err := p.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, item := range p.Items {
		if !item.changes() {
			continue
		}
		if err := p.apply(item); err != nil {
			return fmt.Errorf("%s: %w", item.Service, err)
		}
	}
	return nil
}

// dir is where this process finds /etc/pam.d.
func (p Plan) dir() (string, error) {
	root := newTree(p.root).Root
	dir, err := root.Resolve(etcPamDir)
	return root.Host(dir), err
}

// cleanUp removes the temporary files of guards that were killed: libpam does not read them, but
// they are in its directory.
func (p Plan) cleanUp() error {
	dir, err := p.dir()
	if err != nil {
		return nil // there is none
	}
	return errors.Join(files.Clean(dir), files.Clean(p.stateDir))
}

// lock keeps two guards apart.
func (p Plan) lock() (func(), error) {
	if err := os.MkdirAll(p.stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the guard's state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(p.stateDir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another guard is at work in %s: try again", p.stateDir)
	}
	return func() { f.Close() }, nil
}

func (p Plan) apply(item PlanItem) error {
	if item.Action == ActionForget {
		return forget(p.stateDir, item.Service, "")
	}
	dir, err := p.dir()
	if err != nil {
		return err
	}
	host := filepath.Join(dir, item.Service)
	is, err := unchanged(item, host)
	if err != nil {
		return err
	}
	keep := ""
	if item.record != nil {
		if err := item.record.save(p.stateDir, item.backup); err != nil {
			return err
		}
		keep = item.record.Backup
	}
	switch item.Action {
	case ActionRemove:
		if err := os.Remove(host); err != nil {
			return err
		}
		if err := files.FsyncDir(dir); err != nil {
			return err
		}
	case ActionChange:
		if err := files.Write(host, item.After, is); err != nil {
			return err
		}
	}
	return forget(p.stateDir, item.Service, keep)
}

// unchanged makes sure that a file is still as it was planned for, and says what the new one should
// be like.
func unchanged(item PlanItem, host string) (files.Options, error) {
	info, err := os.Lstat(host)
	if item.Before == nil && errors.Is(err, fs.ErrNotExist) {
		return files.Options{Mode: 0o644, Sync: files.SyncDir}, nil
	}
	if err != nil {
		return files.Options{}, err
	}
	if err := plainOwn(item.File, info); err != nil {
		return files.Options{}, err
	}
	data, err := readRegular(host)
	if err != nil {
		return files.Options{}, err
	}
	if item.Before == nil || !bytes.Equal(data, item.Before) {
		return files.Options{}, fmt.Errorf("%s has changed in the meantime: nothing was done to it; try again", item.File)
	}
	o := files.Options{Mode: info.Mode().Perm(), Xattrs: attrsOf(host), Sync: files.SyncDir}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		o.Owner = &files.Owner{UID: int(st.Uid), GID: int(st.Gid)}
	}
	return o, nil
}

// keptAttrs are the extended attributes that a changed file keeps: its SELinux label and its access
// list.
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
