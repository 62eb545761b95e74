package pagewalk

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Reason is why there is no page walk. It is a code that stays the same between
// versions; Words says it to people.
type Reason string

const (
	// NoBTF: the kernel does not describe its structures (CONFIG_DEBUG_INFO_BTF).
	NoBTF Reason = "no-btf"
	// NoLayout: it does, but not one that the walk needs.
	NoLayout Reason = "no-layout"
	// NoBPF: the kernel has no BPF, or not what the walk runs (Linux 5.10).
	NoBPF Reason = "no-bpf"
	// NoKcore: no /proc/kcore (CONFIG_PROC_KCORE), or none that the walk can find
	// its way in.
	NoKcore Reason = "no-kcore"
	// NoPrivilege: CAP_BPF and CAP_PERFMON are missing, or a seccomp filter
	// forbids bpf(2).
	NoPrivilege Reason = "no-privilege"
	// Lockdown: kernel lockdown, confidentiality.
	Lockdown Reason = "lockdown"
	// MemLock: before 5.11 BPF maps need RLIMIT_MEMLOCK, and it cannot be raised.
	MemLock Reason = "memlock"
	// NoMemory: no memory cgroups.
	NoMemory Reason = "no-memory-cgroups"
	// NoBase: the page array was not found. Walks by list work without.
	NoBase Reason = "no-page-array"
	// Wrong: a memcg and files of our own did not come out as they are.
	Wrong Reason = "wrong"
	// Untried: the probe itself failed; nothing is known. Try again later.
	Untried Reason = "untried"
)

// Words is a reason for people, with what to do where something can be done.
func (r Reason) Words() string {
	switch r {
	case NoBTF:
		return "this kernel does not describe its structures (no /sys/kernel/btf/vmlinux; CONFIG_DEBUG_INFO_BTF)"
	case NoLayout:
		return "this kernel's structures are not what the page walk knows"
	case NoBPF:
		return "this kernel does not have what the page walk reads with (BPF of Linux 5.10 or later)"
	case NoKcore:
		return "no /proc/kcore to read instead (CONFIG_PROC_KCORE and CONFIG_KALLSYMS_ALL)"
	case NoPrivilege:
		return "not allowed to use BPF: it takes root with CAP_BPF and CAP_PERFMON, and no seccomp filter against bpf(2)"
	case Lockdown:
		return "kernel lockdown (confidentiality) forbids reading kernel memory"
	case MemLock:
		return "RLIMIT_MEMLOCK is too low for BPF on this kernel and cannot be raised (LimitMEMLOCK=infinity)"
	case NoMemory:
		return "there are no memory cgroups"
	case NoBase:
		return "the page array was not found; it takes CAP_SYS_ADMIN to read page frame numbers from /proc/self/pagemap"
	case Wrong:
		return "a memcg and files of our own did not come out right"
	case Untried:
		return "could not be tried"
	}
	return string(r)
}

// OffError says why there is no page walk.
type OffError struct {
	Reason Reason
	Err    error // may be nil
}

func (e *OffError) Error() string {
	if e.Err == nil {
		return "no page walk: " + e.Reason.Words()
	}
	return fmt.Sprintf("no page walk: %s: %v", e.Reason.Words(), e.Err)
}

func (e *OffError) Unwrap() error { return e.Err }

// Conclusive reports whether it will still be so at the next try. Where it is
// not, the ability is unknown rather than missing.
func (e *OffError) Conclusive() bool { return e.Reason != Untried }

// ReasonOf is the reason in err, or "" without one.
func ReasonOf(err error) Reason {
	var off *OffError
	if errors.As(err, &off) {
		return off.Reason
	}
	return ""
}

// bpfOff says why bpf(2) failed.
func bpfOff(what string, err error) error {
	if errors.Is(err, unix.EPERM) {
		err = unix.EPERM // the library adds a guess at memlock
	}
	err = fmt.Errorf("%s: %w", what, err)
	switch {
	case lockedDown(): // EPERM, or a program that may not call what reads: EINVAL
		return &OffError{Lockdown, err}
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, enotsupp):
		return &OffError{NoBPF, err}
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return &OffError{NoPrivilege, err}
	}
	return &OffError{Untried, err}
}

// readOff says why a loaded program could not read what must be readable.
func readOff(err error) error {
	if lockedDown() {
		return &OffError{Lockdown, err}
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, enotsupp) || errors.Is(err, unix.ENOSYS) {
		return &OffError{NoBPF, err} // no BPF_PROG_TEST_RUN for raw tracepoints
	}
	if errors.Is(err, unix.EPERM) {
		return &OffError{NoPrivilege, err}
	}
	return &OffError{Untried, err}
}

// lockdownFile has the levels, the one in force in brackets (security/lockdown).
const lockdownFile = "/sys/kernel/security/lockdown"

func lockedDown() bool {
	b, err := os.ReadFile(lockdownFile)
	return err == nil && strings.Contains(string(b), "[confidentiality]")
}

// mayBPF reports whether this process has the capabilities for bpf(2).
func mayBPF() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return false
	}
	has := func(c int) bool { return caps[c/32].Effective>>(c%32)&1 != 0 }
	return has(unix.CAP_SYS_ADMIN) || has(unix.CAP_BPF) && has(unix.CAP_PERFMON)
}

// enotsupp is the kernel's own ENOTSUPP, which is not meant to get out, and does
// from BPF_PROG_TEST_RUN (include/linux/errno.h).
const enotsupp = unix.Errno(524)
