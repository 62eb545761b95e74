package pagewalk

import (
	"bufio"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Kcore reads kernel memory from /proc/kcore (CONFIG_PROC_KCORE). It takes
// CAP_SYS_RAWIO, and a kernel that is not locked down beyond integrity.
type Kcore struct {
	f    *os.File
	segs []segment // by address
}

// segment is contiguous kernel memory in /proc/kcore.
type segment struct{ at, size, off uint64 }

const kcoreFile = "/proc/kcore"

// OpenKcore opens /proc/kcore.
func OpenKcore() (*Kcore, error) {
	f, err := os.Open(kcoreFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, &OffError{NoKcore, err}
	case errors.Is(err, os.ErrPermission) && lockedDown():
		return nil, &OffError{Lockdown, err}
	case errors.Is(err, os.ErrPermission):
		return nil, &OffError{NoPrivilege, err}
	case err != nil:
		return nil, &OffError{Untried, err}
	}
	segs, err := readSegments(f)
	if err != nil {
		f.Close()
		return nil, &OffError{NoKcore, err}
	}
	return &Kcore{f, segs}, nil
}

// readSegments reads the program headers of a core file.
func readSegments(r io.ReaderAt) (out []segment, err error) {
	e, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_LOAD && p.Filesz > 0 && p.Vaddr+p.Filesz-1 >= p.Vaddr {
			out = append(out, segment{p.Vaddr, p.Filesz, p.Off})
		}
	}
	slices.SortFunc(out, func(a, b segment) int { return cmp.Compare(a.at, b.at) })
	return out, nil
}

// Close closes it.
func (k *Kcore) Close() error { return k.f.Close() }

// ReadKernel implements Reader.
func (k *Kcore) ReadKernel(addr uint64, p []byte) error {
	for len(p) > 0 {
		i, found := slices.BinarySearchFunc(k.segs, addr, func(s segment, a uint64) int { return cmp.Compare(s.at, a) })
		if !found {
			i--
		}
		if i < 0 || addr-k.segs[i].at >= k.segs[i].size {
			return ErrFault
		}
		s := k.segs[i]
		n := min(uint64(len(p)), s.size-(addr-s.at))
		if _, err := k.f.ReadAt(p[:n], int64(s.off+addr-s.at)); err != nil {
			return ErrFault // EIO, EFAULT: a hole
		}
		addr, p = addr+n, p[n:]
	}
	return nil
}

func openKcoreKernel(l *Layout) (*Kernel, error) {
	r, err := OpenKcore()
	if err != nil {
		return nil, err
	}
	k, err := attachKcore(l, r)
	if err != nil {
		r.Close()
		return nil, err
	}
	k.close = r.Close
	return k, nil
}

// attachKcore finds this process among the kernel's tasks, from the first on.
func attachKcore(l *Layout, r *Kcore) (*Kernel, error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, &OffError{NoKcore, err}
	}
	defer f.Close()
	first, err := symbol(f, "init_task")
	if err != nil {
		return nil, &OffError{NoKcore, err}
	}
	m := newMemory(context.Background(), r, 1<<24)
	task := uint64(0)
	head := first + uint64(l.TaskTasks)
	next, err := m.u64(head)
	if err != nil {
		return nil, &OffError{Untried, err}
	}
	size := int(max(l.TaskTasks, l.TaskID)) + 8
	for range maxTasks {
		if next == head {
			break
		}
		b := make([]byte, size)
		if err := m.read(next-uint64(l.TaskTasks), b); err != nil {
			return nil, &OffError{Untried, fmt.Errorf("look for this process: %w", err)}
		}
		if int(u32(b, l.TaskID)) == os.Getpid() {
			task = next - uint64(l.TaskTasks)
			break
		}
		next = u64(b, l.TaskTasks)
	}
	if task == 0 {
		return nil, &OffError{Untried, errors.New("this process is not among the kernel's tasks (another PID namespace?)")}
	}
	return attach(l, r, task)
}

// maxTasks is the highest PID_MAX_LIMIT.
const maxTasks = 4 << 20

// symbol finds the address of a symbol in kallsyms. It has those of data only
// with CONFIG_KALLSYMS_ALL, and addresses only for CAP_SYSLOG.
func symbol(r io.Reader, name string) (uint64, error) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 3 || f[2] != name {
			continue
		}
		if v, err := strconv.ParseUint(f[0], 16, 64); err == nil && v != 0 {
			return v, nil
		}
		return 0, fmt.Errorf("/proc/kallsyms hides the address of %s (it takes CAP_SYSLOG)", name)
	}
	if err := s.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("/proc/kallsyms has no %s", name)
}
