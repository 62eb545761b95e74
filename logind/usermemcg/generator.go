package usermemcg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// At boot logind starts the user managers of lingering users long before a daemon can install a
// drop-in, and a slice whose user manager has memcgs keeps them. So a systemd generator
// (systemd.generator(7)) makes the same drop-in before any unit is loaded. Generators run at every
// reload, too, and what they made before is gone then: from the first Install or Remove on, which
// leave a mark until the next boot, the generator makes nothing and the drop-in in
// /run/systemd/system is all there is.
//
// managedMark is that mark; generatedDropIn is there while the generator's drop-in is in force.
const (
	managedMark     = "run/scopereap.sessions"
	generatedDropIn = "run/systemd/generator/user-.slice.d/" + dropInName
)

// Generate is the generator's work: it writes the drop-in below dir, the first argument that
// systemd gives it. It does nothing once Install or Remove were called since the boot, where
// Install would refuse, and on cgroup v1.
func (f *DropIn) Generate(dir string) error {
	switch err := f.supported(); {
	case errors.Is(err, ErrNoUnifiedMemory):
		return nil
	case err != nil:
		return err
	}
	if f.there(managedMark) || len(f.others().conflicts) > 0 {
		return nil
	}
	return writeDropIn(filepath.Join(dir, "user-.slice.d"), dropInText)
}

// there reports whether there is a file of this name below the root.
func (f *DropIn) there(name string) bool {
	_, err := os.Lstat(filepath.Join(f.opts.Root, name))
	return err == nil
}

// manage ends the generator's say.
func (f *DropIn) manage() error {
	file, err := os.OpenFile(filepath.Join(f.opts.Root, managedMark), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("telling the generator that the daemon is there: %w", err)
	}
	return file.Close()
}
