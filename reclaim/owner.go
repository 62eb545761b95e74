package reclaim

import (
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// owner is whoever made the cgroups of a subtree, as far as it can be told from
// outside: sweeps take turns among owners, so that what one of them makes many
// of does not keep the others waiting. "" is the machine itself.
type owner string

// delegated are the attributes by which systemd marks a cgroup that it has
// handed over (Delegate=, systemd.resource-control(5)): of the system's since
// v236, of a user's since v251.
var delegated = []string{"trusted.delegate", "user.delegate"}

// ownerOf is the owner of an open cgroup below one of another owner. The
// topmost delegated cgroup on the way down decides it: whoever was given that
// can make others below, under any user ID of a range (user namespaces).
//
// Where it belongs to a user other than root, that user is the owner, by
// whatever cgroups; else the cgroup itself (a container that root has started).
func ownerOf(fd int, above owner, cgroup func() string) (owner, uint64) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return above, 0
	}
	if above != "" {
		return above, st.Ino
	}
	if st.Uid != 0 {
		return owner("user " + strconv.FormatUint(uint64(st.Uid), 10)), st.Ino
	}
	for _, name := range delegated {
		if n, err := unix.Fgetxattr(fd, name, nil); err == nil && n > 0 {
			return owner(path.Clean(cgroup())), st.Ino
		}
	}
	return above, st.Ino
}
