package reclaim

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probeChildEnv marks a run of the program's own binary as a probe's child.
const probeChildEnv = "SCOPEREAP_PROBE_CHILD"

// probeChildFD is where the child finds the file to charge: the first of
// exec.Cmd's ExtraFiles.
const probeChildFD = 3

// ProbeChild must be called first thing by the main function of a program
// that calls Probe or runs an Engine. It reports whether this process is a
// probe's child or an engine's helper, which has done its work by then: main
// returns.
//
// A page is charged to the memcg of the process that first touches it, and on
// cgroup v2 only whole processes can be in one, so a probe needs a process.
func ProbeChild() bool {
	switch os.Getenv(probeChildEnv) {
	case "":
		return false
	case helperRole:
		runHelper()
		return true
	}
	// The parent closes its end once this process is where it shall be.
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "wait to be moved:", err)
		os.Exit(1)
	}
	if _, err := unix.Write(probeChildFD, []byte{1}); err != nil {
		fmt.Fprintln(os.Stderr, "write a page:", err)
		os.Exit(1)
	}
	return true
}

// probeChildTime bounds the child, which runs for milliseconds.
const probeChildTime = 5 * time.Second

// runProbeChild starts this program's own binary and moves it into cgroup,
// where it touches one page of file.
//
// It is not born there (CLONE_INTO_CGROUP, Linux 5.7): that takes clone3(2),
// which systemd's RestrictNamespaces= forbids, as no seccomp filter can see its
// flags.
func runProbeChild(f *FS, cgroup string, file *os.File) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's binary: %w", err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), probeChildEnv+"=1")
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	held, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("hold a process back: %w", err)
	}
	// The death signal is for the end of the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a process for a cgroup of our own: %w", err)
	}
	kill := time.AfterFunc(probeChildTime, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	if err := f.Write(cgroup, "cgroup.procs", strconv.Itoa(cmd.Process.Pid)); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("move a process into a cgroup of our own: %w", err)
	}
	held.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("charge a page to a cgroup of our own: %w", err)
	}
	return nil
}
