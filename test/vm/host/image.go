// Package host is the outer side of the VM tests: it builds the images and boots them in QEMU.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// diskBytes is the size of the root disk; the file is sparse, and QEMU keeps a run's writes in memory (snapshot=on).
const diskBytes = 3 << 30

// Image is a built image in the cache.
type Image struct {
	Disk, Kernel, Initrd string
}

// CacheDir returns where images and the locks between test processes live.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w; set XDG_CACHE_HOME", err)
	}
	return filepath.Join(base, "scopereap-vm"), nil
}

// BuildImage returns the image of a Debian release, building it if the cache has none of this recipe.
// Two test processes may ask at once: one builds, the other waits for it. what tells the reader what is going on.
func BuildImage(ctx context.Context, release string, what io.Writer) (Image, error) {
	cache, err := CacheDir()
	if err != nil {
		return Image{}, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Image{}, err
	}
	key := recipeKey(release)
	dir := filepath.Join(cache, key)
	unlock, err := lockFile(ctx, filepath.Join(cache, key+".lock"))
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	img := Image{Disk: filepath.Join(dir, "disk.img"), Kernel: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initrd")}
	if _, err := os.Stat(img.Disk); err == nil {
		now := time.Now()
		return img, os.Chtimes(dir, now, now) // in use: see prune
	}
	if err := prune(cache, release, time.Now()); err != nil {
		return Image{}, err
	}

	tmp, err := os.MkdirTemp(cache, ".build-"+release+"-")
	if err != nil {
		return Image{}, err
	}
	fmt.Fprintf(what, "building the %s image (about 80 s, once); log: %s\n", release, filepath.Join(tmp, "build.log"))
	if err := build(ctx, release, tmp); err != nil {
		tail := Tail(filepath.Join(tmp, "build.log"), 30)
		os.RemoveAll(tmp)
		return Image{}, fmt.Errorf("build the %s image: %w\n%s", release, err, tail)
	}
	if err := os.Rename(tmp, dir); err != nil {
		os.RemoveAll(tmp)
		return Image{}, err
	}
	return img, nil
}

// build fills dir with disk.img, vmlinuz, initrd and build.log.
func build(ctx context.Context, release, dir string) error {
	log, err := os.Create(filepath.Join(dir, "build.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	run := func(name string, args ...string) error {
		fmt.Fprintf(log, "+ %s %q\n", name, args)
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}

	hook := func(name, script string) (string, error) {
		p := filepath.Join(dir, name)
		return p, os.WriteFile(p, []byte(script), 0o755)
	}
	initrd, err := hook("initrd.sh", initrdHook)
	if err != nil {
		return err
	}
	setup, err := hook("setup.sh", setupHook)
	if err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	defer os.RemoveAll(root)
	if err := run("mmdebstrap", append(mmdebstrapArgs(release, initrd, setup), root)...); err != nil {
		return err
	}
	for pattern, name := range map[string]string{"vmlinuz-*": "vmlinuz", "initrd.img-*": "initrd"} {
		found, _ := filepath.Glob(filepath.Join(root, "boot", pattern))
		if len(found) != 1 {
			return fmt.Errorf("want one boot/%s in the new root, found %d", pattern, len(found))
		}
		if err := os.Rename(found[0], filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	disk := filepath.Join(dir, "disk.img")
	f, err := os.Create(disk)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskBytes), f.Close()); err != nil {
		return err
	}
	// -d fills the file system from a folder: no loop device, no mount.
	return run("mkfs.ext4", "-q", "-F", "-d", root, disk)
}

// lockFile takes an exclusive lock that ends with this process at the latest.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if err := pause(ctx); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}
