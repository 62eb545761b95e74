package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/reclaim"
)

// cgroupTree is where cgroup file systems are mounted by everyone.
const cgroupTree = "/sys/fs/cgroup"

// parseCgroupPath turns what a user typed into a cgroup path: "/user.slice",
// or the same as a file path below the hierarchy's mount point root. It
// touches no file.
func parseCgroupPath(arg, root string) (string, error) {
	root = path.Clean(root)
	switch {
	case arg == "":
		return "", errors.New("the path is empty; name a cgroup such as /user.slice, or / for all")
	case !strings.HasPrefix(arg, "/"):
		return "", fmt.Errorf("%q does not begin with '/'; name a cgroup as /proc/PID/cgroup does, such as /user.slice, or as a path below %s", arg, root)
	}
	for seg := range strings.SplitSeq(arg, "/") {
		if seg == ".." {
			return "", fmt.Errorf("%q contains '..'; name the cgroup itself", arg)
		}
	}
	clean, err := reclaim.CleanPath(arg)
	if err != nil {
		return "", err
	}
	if rest, below := strings.CutPrefix(clean, root); below && (rest == "" || rest[0] == '/') {
		return path.Clean("/" + rest), nil
	}
	if clean == cgroupTree || strings.HasPrefix(clean, cgroupTree+"/") {
		return "", fmt.Errorf("%s is not in the memory hierarchy, which is mounted at %s", pathWords(clean), root)
	}
	return clean, nil
}

// cgroupArg parses a user's path and checks that such a cgroup lives.
func (m *machine) cgroupArg(arg string) (string, error) {
	p, err := parseCgroupPath(arg, m.Root)
	if err != nil {
		return "", usageError(err)
	}
	_, err = m.fs.Children(p)
	switch {
	case err == nil:
		return p, nil
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return "", usageError(fmt.Errorf("%s is a file, not a cgroup; name its directory", pathWords(p)))
	case errors.Is(err, unix.ENAMETOOLONG):
		return "", usageError(errors.New("the path is longer than any cgroup's can be"))
	case !errors.Is(err, unix.ENOENT):
		return "", denied(err)
	}
	if _, err := os.Lstat(p); err == nil {
		return "", usageError(fmt.Errorf("%s is outside of the memory cgroups, which are below %s", pathWords(p), m.Root))
	}
	return "", usageError(fmt.Errorf("there is no cgroup %s (no directory %s)", pathWords(p), pathWords(filepath.Join(m.Root, p))))
}
