package metrics

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may have, as in the kernel (MAXSYMLINKS, include/linux/namei.h).
const maxLinks = 40

// trustedDir opens a directory by its absolute path, following no symbolic link that anybody but root (or the user this
// runs as) may have made: one in a directory of another user's, or that others may write to, could lead root anywhere.
// The directory itself may be another user's.
func trustedDir(name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	at, err := unix.Open("/", flags, 0)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*os.File, error) {
		unix.Close(at)
		return nil, err
	}
	links := 0
	rest := path.Clean("/" + name)
	for rest = strings.TrimLeft(rest, "/"); rest != ""; rest = strings.TrimLeft(rest, "/") {
		part, after, _ := strings.Cut(rest, "/")
		next, err := unix.Openat(at, part, flags, 0)
		if err == nil {
			unix.Close(at)
			at, rest = next, after
			continue
		}
		to, isLink := readlinkAt(at, part)
		if !isLink {
			return fail(fmt.Errorf("open the directory %s, at %q: %w", name, part, err))
		}
		if links++; links > maxLinks {
			return fail(fmt.Errorf("open the directory %s: %w", name, unix.ELOOP))
		}
		if !rootsOwn(at) {
			return fail(fmt.Errorf("%s: %q is a symbolic link in a directory that others than root may write to, and is not followed "+
				"(name the directory that it leads to)", name, part))
		}
		if strings.HasPrefix(to, "/") {
			root, err := unix.Open("/", flags, 0)
			if err != nil {
				return fail(err)
			}
			unix.Close(at)
			at = root
		}
		rest = to + "/" + after
	}
	return os.NewFile(uintptr(at), name), nil
}

func readlinkAt(dir int, name string) (to string, ok bool) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil || n == len(buf) {
		return "", false
	}
	return string(buf[:n]), true
}

// rootsOwn reports whether nobody but root, or the user this runs as, may make links in a directory.
func rootsOwn(dir int) bool {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return false
	}
	return (st.Uid == 0 || int(st.Uid) == os.Geteuid()) && st.Mode&0o022 == 0
}
