package reclaim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestUringUsers: a process with an io_uring is named, others are not.
func TestUringUsers(t *testing.T) {
	proc := t.TempDir()
	add := func(pid, comm string, links ...string) {
		t.Helper()
		fds := filepath.Join(proc, pid, "fd")
		if err := os.MkdirAll(fds, 0o755); err != nil {
			t.Fatal(err)
		}
		for i, to := range links {
			if err := os.Symlink(to, filepath.Join(fds, fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "comm"), []byte(comm+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	add("1", "init", "/dev/null", "socket:[7]")
	add("42", "server", "/dev/null", uringLink, uringLink)
	add("43", "none")
	add("44", "evil", "/tmp/"+uringLink)
	add("self", "me", uringLink)
	got, all := UringUsers(t.Context(), proc, 10)
	if !all || !slices.Equal(got, []UringUser{{42, "server"}}) {
		t.Errorf("%+v, all: %v", got, all)
	}
	add("45", "other", uringLink)
	if got, all := UringUsers(t.Context(), proc, 1); all || len(got) != 1 {
		t.Errorf("%+v, all: %v, want one", got, all)
	}
	if got, all := UringUsers(t.Context(), filepath.Join(proc, "none"), 1); all || len(got) > 0 {
		t.Errorf("%+v, all: %v without /proc", got, all)
	}
}

// TestUringUsersHere: the kernel's own words for it are as expected.
func TestUringUsersHere(t *testing.T) {
	var params [120]byte // struct io_uring_params, io_uring_setup(2)
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		t.Skipf("no io_uring here: %v", errno)
	}
	defer unix.Close(int(fd))
	links := 0
	if !hasUring("/proc/self/fd", &links) {
		t.Error("this process has one")
	}
}
