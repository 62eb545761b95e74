package reclaim

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// helper is a process of our own that goes into a cgroup, has clean pages
// charged to it there, and comes back: on cgroup v2 a page is charged to the
// memcg of the process that touches it first, and only whole processes can be
// in one. It is this program's own binary, see [ProbeChild].
//
// Its pages are anonymous memory under MADV_FREE (madvise(2)): the kernel keeps
// them on the lists of page cache and may drop each at any time without swap or
// disk, so they are clean pages that no file system has to be there for.
type helper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// helperRole is the value of probeChildEnv that makes a process a helper.
const helperRole = "helper"

// helperIdle is how long a helper waits for its next order before it ends by
// itself. It takes some MiB of memory, and some milliseconds of CPU to start.
const helperIdle = 30 * time.Second

// What a helper is told, a line each. It answers with a line: a number, or an
// error in words.
const (
	helperLay  = "lay"  // "lay N": drop what there is, have N pages charged
	helperLeft = "left" // how many of them the kernel has not taken
	helperDrop = "drop" // give them back
)

// startHelper starts one; the calling thread must live as long as it.
func startHelper() (*helper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's binary: %w", err)
	}
	h := &helper{cmd: exec.Command(self)}
	// One thread that nothing disturbs: what the Go runtime touches while the
	// helper is elsewhere stays charged there.
	h.cmd.Env = append(os.Environ(), probeChildEnv+"="+helperRole, "GOMAXPROCS=1", "GOGC=off")
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start a helper: %w", err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a helper: %w", err)
	}
	h.out = bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a helper: %w", err)
	}
	return h, nil
}

func (h *helper) pid() string { return strconv.Itoa(h.cmd.Process.Pid) }

// ask gives an order and returns the number that comes back.
func (h *helper) ask(order string) (int64, error) {
	kill := time.AfterFunc(probeChildTime, func() { _ = h.cmd.Process.Kill() })
	defer kill.Stop()
	if _, err := fmt.Fprintln(h.in, order); err != nil {
		return 0, fmt.Errorf("helper: %s: %w", order, err)
	}
	line, err := h.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("helper: %s: %w", order, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("helper: %s: %s", order, strings.TrimSpace(line))
	}
	return n, nil
}

// charge has bytes of clean pages charged to a live cgroup, and returns when
// the helper is back home.
func (h *helper) charge(f *FS, cgroup, home string, bytes int64) error {
	if err := f.Write(cgroup, "cgroup.procs", h.pid()); err != nil {
		return err
	}
	_, err := h.ask(fmt.Sprint(helperLay, " ", bytes/int64(os.Getpagesize())))
	return errors.Join(err, f.Write(home, "cgroup.procs", h.pid()))
}

// left is how many bytes of what was charged the kernel has not taken.
func (h *helper) left() (int64, error) {
	n, err := h.ask(helperLeft)
	return n * int64(os.Getpagesize()), err
}

// close ends the helper, which gives its pages back.
func (h *helper) close() {
	h.in.Close()
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// runHelper is the helper's own side: it obeys until there are no more orders.
func runHelper() {
	orders := make(chan string)
	go func() {
		defer close(orders)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			orders <- in.Text()
		}
	}()
	var pages cleanPages
	_ = pages.lay(1) // what the first time touches besides is touched at home
	idle := time.NewTimer(helperIdle)
	for {
		select {
		case order, ok := <-orders:
			if !ok {
				return
			}
			n, err := pages.obey(order)
			if err != nil {
				fmt.Println(err)
			} else {
				fmt.Println(n)
			}
			idle.Reset(helperIdle)
		case <-idle.C:
			return
		}
	}
}

// cleanPages is memory that the kernel may take at any time.
type cleanPages struct{ mem []byte }

func (p *cleanPages) obey(order string) (int, error) {
	verb, arg, _ := strings.Cut(order, " ")
	switch verb {
	case helperLay:
		n, err := strconv.Atoi(arg)
		if err != nil {
			return 0, err
		}
		return n, p.lay(n)
	case helperLeft:
		return p.left()
	case helperDrop:
		return 0, p.drop()
	}
	return 0, fmt.Errorf("no order %q", order)
}

func (p *cleanPages) lay(n int) error {
	if err := p.drop(); err != nil {
		return err
	}
	size := os.Getpagesize()
	mem, err := unix.Mmap(-1, 0, n*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map %d pages: %w", n, err)
	}
	p.mem = mem
	// A huge page would go whole or not at all. EINVAL: the kernel has none.
	_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE)
	for i := 0; i < len(mem); i += size {
		mem[i] = 1
	}
	// Only pages on the LRU lists can become clean ones (lru_lazyfree_fn,
	// mm/swap.c), and only those there can be taken.
	drainLRU()
	if err := unix.Madvise(mem, unix.MADV_FREE); err != nil {
		return fmt.Errorf("make %d pages clean: %w", n, err)
	}
	drainLRU()
	return nil
}

// pagePresent is the bit of a /proc/PID/pagemap entry that says the page is in
// memory, proc_pid_pagemap(5). mincore(2) would say the same, but systemd's
// @system-service lacks it.
const pagePresent = 1 << 63

// pagemapEntry is the size of one, in bytes.
const pagemapEntry = 8

func (p *cleanPages) left() (int, error) {
	if p.mem == nil {
		return 0, nil
	}
	size := uintptr(os.Getpagesize())
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	entries := make([]byte, uintptr(len(p.mem))/size*pagemapEntry)
	first := uintptr(unsafe.Pointer(&p.mem[0])) / size
	if _, err := f.ReadAt(entries, int64(first*pagemapEntry)); err != nil {
		return 0, err
	}
	n := 0
	for b := entries; len(b) > 0; b = b[pagemapEntry:] {
		if binary.NativeEndian.Uint64(b)&pagePresent != 0 {
			n++
		}
	}
	return n, nil
}

func (p *cleanPages) drop() error {
	if p.mem == nil {
		return nil
	}
	err := unix.Munmap(p.mem)
	p.mem = nil
	return err
}
