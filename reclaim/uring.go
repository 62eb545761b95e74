package reclaim

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// UringUser is a process that has an io_uring.
type UringUser struct {
	PID  int    `json:"pid"`
	Name string `json:"name"` // its comm, which it chooses itself
}

// uringLink is what a descriptor of an io_uring links to (proc_pid_fd(5):
// anonymous inodes).
const uringLink = "anon_inode:[io_uring]"

// uringLinks bounds how many descriptors UringUsers looks at: each costs a
// readlink(2) of some µs.
const uringLinks = 100_000

// UringUsers finds processes that have an io_uring, most of them at most, by what
// proc (/proc) says of their open files. It needs root and CAP_SYS_PTRACE; what it
// may not read is left out. all is false where it has stopped before the end.
func UringUsers(ctx context.Context, proc string, most int) (users []UringUser, all bool) {
	dir, err := os.Open(proc)
	if err != nil {
		return nil, false
	}
	defer dir.Close()
	links := 0
	for {
		names, err := dir.Readdirnames(procsAtOnce)
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil || pid <= 0 {
				continue
			}
			if len(users) >= most || links >= uringLinks || ctx.Err() != nil {
				return users, false
			}
			if hasUring(filepath.Join(proc, name, "fd"), &links) {
				comm, _ := readProc(filepath.Join(proc, name, "comm"))
				users = append(users, UringUser{pid, strings.TrimSuffix(string(comm), "\n")})
			}
		}
		if err != nil || len(names) == 0 {
			return users, true
		}
	}
}

// procsAtOnce is how many names are read from a directory of /proc at a time.
const procsAtOnce = 256

func hasUring(fds string, links *int) bool {
	dir, err := os.Open(fds)
	if err != nil {
		return false // gone, or not ours to read
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(procsAtOnce)
		for _, name := range names {
			if *links++; *links > uringLinks {
				return false
			}
			if to, err := os.Readlink(filepath.Join(fds, name)); err == nil && to == uringLink {
				return true
			}
		}
		if err != nil || len(names) == 0 {
			return false
		}
	}
}
