package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// uring has a server wait on an io_uring, which kernels from 6.1.39 to 6.14 count as waiting for I/O.
func uring() Scenario {
	return Scenario{
		Name:  "uring",
		About: "an idle io_uring server makes I/O pressure of nearly 100 %: reaping goes on, and doctor names the server",
		Runs: func(s suite.Suite) bool {
			return s.Name == "trixie" || s.Name == "bookworm" || s.Name == "bookworm-v1"
		},
		Short: []string{"trixie"},
		Limit: 10 * time.Minute,
		Guest: runUring,
	}
}

const (
	uringArg      = "uring"
	uringServer   = "vmuring" // its process's name
	uringPressure = 60        // percent: above the policy's limit, and nothing else here comes near it
	uringRises    = 2 * time.Minute
	uringNamed    = 2 * time.Minute
	uringMade     = 200
	uringLeft     = uringMade / 20 // of those, what a sweep may leave: the last ones' charges are in a CPU's stock
)

// Uring is the server, where this program was started as one. It waits for one read from an empty pipe.
func Uring() bool {
	if len(os.Args) != 2 || os.Args[1] != uringArg {
		return false
	}
	fmt.Fprintln(os.Stderr, waitByUring())
	return true
}

// Of linux/io_uring.h; io_uring_setup(2), io_uring_enter(2).
type (
	uringParams struct {
		sqEntries, cqEntries, flags, sqCPU, sqIdle, features, wq uint32
		_                                                        [3]uint32
		sq                                                       struct {
			head, tail, mask, entries, flags, dropped, array, _ uint32
			_                                                   uint64
		}
		_ [40]byte // cq_off
	}
	uringSQE struct {
		opcode, flags uint8
		ioprio        uint16
		fd            int32
		off, addr     uint64
		len           uint32
		_             [36]byte
	}
)

// waitByUring returns only with an error.
func waitByUring() error {
	const (
		read      = 22 // IORING_OP_READ
		getEvents = 1  // IORING_ENTER_GETEVENTS
		offSQEs   = 0x10000000
	)
	var p uringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return fmt.Errorf("io_uring_setup: %w", errno)
	}
	ring, err := unix.Mmap(int(fd), 0, int(p.sq.array+4*p.sqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	entries, err := unix.Mmap(int(fd), offSQEs, int(unsafe.Sizeof(uringSQE{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return err
	}
	buf := new(byte)
	*(*uringSQE)(unsafe.Pointer(&entries[0])) = uringSQE{opcode: read, fd: int32(pipe[0]), addr: uint64(uintptr(unsafe.Pointer(buf))), len: 1, off: ^uint64(0)}
	*(*uint32)(unsafe.Pointer(&ring[p.sq.array])) = 0
	*(*uint32)(unsafe.Pointer(&ring[p.sq.tail])) = 1
	for {
		_, _, errno = unix.Syscall6(unix.SYS_IO_URING_ENTER, fd, 1, 1, getEvents, 0, 0)
		if errno != unix.EINTR {
			return fmt.Errorf("io_uring_enter: %w", errno)
		}
	}
}

func runUring(ctx context.Context, r *Run) error {
	if err := r.Install(ctx); err != nil {
		return err
	}
	if err := r.Policy(ctx, emulatedBudget); err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/var/tmp", "vmuring")
	if err != nil {
		return err
	}
	server, err := copyAgent(dir, uringServer)
	if err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "systemd-run", "--quiet", "--unit="+uringServer, server, uringArg); err != nil {
		return err
	}
	var pressure string
	_, err = machine.Wait(ctx, uringRises, "the kernel to take it for I/O", func() (bool, error) {
		b, err := os.ReadFile("/proc/pressure/io")
		if err != nil {
			return false, err
		}
		pressure, _, _ = strings.Cut(string(b), "\n")
		var avg10 float64
		_, err = fmt.Sscanf(pressure, "some avg10=%f", &avg10)
		return avg10 > uringPressure, err
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, pressure)
	}
	r.Log.Info("pressure", "io", pressure)

	before, err := r.settled(ctx)
	if err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "scopereapctl", "reproduce", "--count", fmt.Sprint(uringMade)); err != nil {
		return err
	}
	began := time.Now()
	out, err := machine.Run(ctx, "scopereapctl", "sweep")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	r.Report("scopereapctl sweep under that pressure", time.Since(began).Seconds(), "s", "")
	after, err := r.settled(ctx)
	if err != nil {
		return err
	}
	r.Require("dying left", float64(after-before), "", fmt.Sprintf("of %d", uringMade), fmt.Sprintf("at most %d", uringLeft), after-before <= uringLeft)

	// Disks must have been idle for a while before pressure is not believed.
	var named []string
	_, err = machine.Wait(ctx, uringNamed, "doctor to name the server", func() (bool, error) {
		out, err := doctorSays(ctx)
		named = nil
		for line := range strings.Lines(out) {
			if strings.Contains(line, uringServer) {
				named = append(named, strings.TrimSpace(line))
			}
		}
		return len(named) > 0, err
	})
	r.Require("sentences of doctor that name the server", float64(len(named)), "", strings.Join(named, " / "), "1", err == nil && len(named) == 1)
	_, err = machine.Run(ctx, "scopereapctl", "reproduce", "--clean")
	return err
}

// doctorSays is what scopereapctl doctor prints, whatever it finds.
func doctorSays(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "scopereapctl", "doctor").Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", err
	}
	return string(out), nil
}
