package reclaim

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// PressureLimits are the shares of time ("some avg10" of PSI, in percent)
// above which reaping gives way. 100 never gives way.
type PressureLimits struct {
	Memory float64
	IO     float64
}

// Pressure reads pressure stall information (Documentation/accounting/psi.rst).
type Pressure struct {
	// Proc is where /proc is.
	Proc string
	// Own is the memory.pressure of this process's own cgroup, or "". Our
	// writes to memory.reclaim count as memory stall of our cgroup and so of
	// the machine: that part is not pressure by others.
	Own string
}

// ErrNoPSI means that the kernel gives no pressure figures (psi=0, the
// default of RHEL). Reaping goes on without giving way.
var ErrNoPSI = errors.New("no pressure stall information (boot with psi=1 to let scopereap give way under pressure)")

// parsePressure returns avg10 of the "some" line, in percent.
func parsePressure(data []byte) (float64, error) {
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "some" {
			continue
		}
		v, ok := strings.CutPrefix(f[1], "avg10=")
		if !ok {
			break
		}
		if !strings.HasSuffix(line, "\n") {
			return 0, parseError("pressure", []byte(line), "the file ends")
		}
		p, err := strconv.ParseFloat(v, 64)
		if err != nil || p < 0 || p > 100 || p != p {
			return 0, parseError("pressure", []byte(line), "avg10 is not a percentage")
		}
		return p, nil
	}
	return 0, parseError("pressure", data, "no avg10 in a \"some\" line")
}

func readPressure(path string) (float64, error) {
	fd, errno := openShort(unix.AT_FDCWD, append([]byte(path), 0), unix.O_RDONLY|unix.O_CLOEXEC)
	if errno != 0 {
		return 0, &fs.PathError{Op: "open", Path: path, Err: errno}
	}
	defer closeShort(fd)
	data, err := readAllBy(readShort, fd, make([]byte, 0, pressureBuf))
	if err != nil {
		return 0, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return parsePressure(data)
}

// pressureBuf holds two lines of a pressure file.
const pressureBuf = 256

// Exceeded is the limit that pressure is above.
type Exceeded struct {
	Why string // in words, or "": none
	IO  bool   // it is that of I/O
}

// Above returns which limit is exceeded, memory's first.
//
// I/O pressure lies: from Linux 6.1.39 to 6.14 every io_uring that waits for
// something counts as waiting for I/O, whatever it waits for (liburing#943; the
// wait of io_cqring_wait was made an iowait), so that an idle server alone makes
// it 85 to 99 %. See GivingWay.Idle.
func (p Pressure) Above(l PressureLimits) (Exceeded, error) {
	mem, err := readPressure(p.Proc + "/pressure/memory")
	if err != nil {
		// EOPNOTSUPP is what reading gives with psi=0.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) {
			return Exceeded{}, ErrNoPSI
		}
		return Exceeded{}, err
	}
	if p.Own != "" {
		if own, err := readPressure(p.Own); err == nil {
			mem = max(mem-own, 0)
		}
	}
	if mem > l.Memory {
		return Exceeded{Why: fmt.Sprintf("memory pressure %.1f%% is above %.0f%%", mem, l.Memory)}, nil
	}
	io, err := readPressure(p.Proc + "/pressure/io")
	if err != nil {
		return Exceeded{}, err
	}
	if io > l.IO {
		return Exceeded{fmt.Sprintf("I/O pressure %.1f%% is above %.0f%%", io, l.IO), true}, nil
	}
	return Exceeded{}, nil
}
