package result

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Here fills in what this machine says of itself: Hardware, Kernel, OS, CPUs and MemBytes.
func (r *Run) Here() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	r.Kernel = unix.ByteSliceToString(u.Release[:])
	r.CPUs = runtime.NumCPU()
	mem, err := field("/proc/meminfo", "MemTotal:")
	if err != nil {
		return err
	}
	kib, err := strconv.ParseInt(strings.TrimSuffix(mem, " kB"), 10, 64)
	if err != nil {
		return fmt.Errorf("/proc/meminfo: MemTotal: %w", err)
	}
	r.MemBytes = kib << 10
	if r.OS, err = field("/etc/os-release", "PRETTY_NAME="); err != nil {
		return err
	}
	r.OS = strings.Trim(r.OS, `"`)
	if model, err := field("/proc/cpuinfo", "model name"); err == nil { // arm64 has no such line
		r.Hardware = strings.TrimSpace(strings.TrimPrefix(model, ":"))
	}
	return nil
}

// field is what follows a line's beginning.
func field(path, prefix string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), prefix); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("%s has no line %q", path, prefix)
}
