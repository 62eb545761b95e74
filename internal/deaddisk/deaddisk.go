// Package deaddisk is a disk for tests that can stop answering.
package deaddisk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is a file system whose disk can stop answering: a loop device over a file of another one, which is frozen.
type Disk struct {
	t     testing.TB
	Dir   string // mounted there
	outer *os.File
}

// New makes one, which is gone at the test's end. It skips the test where it cannot.
func New(t testing.TB) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems")
	}
	base := t.TempDir()
	d := &Disk{t: t, Dir: filepath.Join(base, "inner")}
	outer := filepath.Join(base, "outer")
	mount := func(image, dir string, megabytes int64) {
		t.Helper()
		f, err := os.Create(image)
		if err != nil {
			t.Fatal(err)
		}
		// Written out: a hole's first write would need a journal entry below.
		_, err = f.Write(make([]byte, megabytes<<20))
		if err := errors.Join(err, f.Sync(), f.Close(), os.Mkdir(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"mkfs.ext4", "-q", "-E", "lazy_itable_init=0,nodiscard", "-O", "^has_journal", image},
			{"mount", "-o", "loop", image, dir},
		} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Skipf("needs loop devices and ext4: %v: %v: %s", args, err, out)
			}
		}
		t.Cleanup(func() {
			var err error
			for range 100 { // the kernel may still write to it
				if err = unix.Unmount(dir, 0); err != unix.EBUSY {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			if err != nil {
				t.Errorf("unmount %s: %v", dir, err)
			}
		})
	}
	mount(filepath.Join(base, "outer.img"), outer, 24)
	mount(filepath.Join(outer, "inner.img"), d.Dir, 12)
	var err error
	if d.outer, err = os.Open(outer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Answers()
		d.outer.Close()
	})
	return d
}

// linux/fs.h: FIFREEZE and FITHAW.
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// Dies freezes what the disk's blocks are in.
func (d *Disk) Dies() {
	d.t.Helper()
	if err := unix.IoctlSetInt(int(d.outer.Fd()), fiFreeze, 0); err != nil {
		d.t.Fatal(err)
	}
}

// Answers lets it go on. Doing so twice does no harm.
func (d *Disk) Answers() {
	d.t.Helper()
	if err := unix.IoctlSetInt(int(d.outer.Fd()), fiThaw, 0); err != nil && err != unix.EINVAL {
		d.t.Error(err)
	}
}
