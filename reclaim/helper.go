package reclaim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
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
	cmd   *exec.Cmd
	in    *os.File
	out   *os.File
	buf   [helperLine]byte
	stays int // elsewhere
}

// helperLine bounds an order and its answer.
const helperLine = 128

// helperAnswers is how long an answer may take. One that is stopped or throttled
// must not keep the reaping thread.
const helperAnswers = 2 * time.Second

// selfExe is this program as it runs, also where an upgrade has put another in
// its place.
const selfExe = "/proc/self/exe"

// errMove: the helper could not be moved.
var errMove = errors.New("move the helper")

// helperRole is the value of probeChildEnv that makes a process a helper.
const helperRole = "helper"

// helperIdle is how long a helper waits for its next order before it ends by
// itself, and helperStays is how often it goes elsewhere before another takes its
// place. It takes some MiB of memory, and some milliseconds of CPU to start; but a
// page that its runtime touched elsewhere keeps a memcg for as long as it lives
// (one or two in 200 stays, though nothing of ours touches any).
const (
	helperIdle  = 3 * time.Second
	helperStays = 16
)

// helperRounds is how many times a helper does at home what it does elsewhere.
const helperRounds = 5

// helperWarm is a pause between two rounds of a helper's first ones, at home:
// longer than the 10 ms after which the Go runtime's monitor sleeps deepest.
const helperWarm = 20 * time.Millisecond

// What a helper is told, a line each. It answers with a line: a number, or an
// error in words.
const (
	helperLay  = "lay"  // "lay N": drop what there is, have N pages charged
	helperAct  = "act"  // move them to the active list
	helperUse  = "use"  // read each once
	helperLeft = "left" // how many of them the kernel has not taken
	helperDrop = "drop" // give them back
)

// startHelper starts one; the calling thread must live as long as it.
func startHelper() (*helper, error) {
	fail := func(err error) (*helper, error) { return nil, fmt.Errorf("start a helper: %w", err) }
	orders, in, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	defer orders.Close()
	out, answers, err := os.Pipe()
	if err != nil {
		in.Close()
		return fail(err)
	}
	defer answers.Close()
	h := &helper{cmd: exec.Command(selfExe), in: in, out: out}
	h.cmd.Stdin, h.cmd.Stdout = orders, answers
	h.cmd.Env = append(os.Environ(), probeChildEnv+"="+helperRole, "GOMAXPROCS=1")
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		in.Close()
		out.Close()
		return fail(err)
	}
	go func() { _ = h.cmd.Wait() }() // it may take its time, nobody waits for it
	for range helperRounds {
		time.Sleep(helperWarm) // the runtime's monitor touches its own when a call has lasted a while
		for _, order := range []string{helperLay + " 1", helperAct, helperUse, helperLeft, helperDrop} {
			if _, err := h.ask(order); err != nil {
				h.close()
				return fail(err)
			}
		}
	}
	return h, nil
}

func (h *helper) pid() string { return strconv.Itoa(h.cmd.Process.Pid) }

// ask gives an order and returns the number that comes back.
func (h *helper) ask(order string) (int64, error) {
	at := time.Now().Add(helperAnswers)
	if err := errors.Join(h.in.SetWriteDeadline(at), h.out.SetReadDeadline(at)); err != nil {
		return 0, fmt.Errorf("helper: %s: %w", order, err)
	}
	if _, err := fmt.Fprintln(h.in, order); err != nil {
		return 0, fmt.Errorf("helper: %s: %w", order, err)
	}
	n, err := h.out.Read(h.buf[:]) // an answer is one write
	if err != nil {
		return 0, fmt.Errorf("helper: %s: %w", order, err)
	}
	answer := strings.TrimSpace(string(h.buf[:n]))
	v, err := strconv.ParseInt(answer, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("helper: %s: %s", order, answer)
	}
	return v, nil
}

// charge has bytes of clean pages charged to a live cgroup, and returns when the
// helper is back home, or stays in there with a deep bait.
func (h *helper) charge(f *FS, cgroup, home string, bytes int64, kind baitKind) error {
	h.stays++
	if err := f.Write(cgroup, "cgroup.procs", h.pid()); err != nil {
		return fmt.Errorf("%w: %w", errMove, err)
	}
	_, err := h.ask(fmt.Sprint(helperLay, " ", min(bytes, baitMost)/int64(os.Getpagesize())))
	switch {
	case err != nil:
	case kind == baitActive:
		_, err = h.ask(helperAct)
	case kind == baitDeep:
		if _, err = h.ask(helperUse); err == nil {
			return nil
		}
	}
	return errors.Join(err, f.Write(home, "cgroup.procs", h.pid()))
}

// left is how many bytes of what was charged the kernel has not taken.
func (h *helper) left() (int64, error) {
	n, err := h.ask(helperLeft)
	return n * int64(os.Getpagesize()), err
}

// close ends the helper, which gives its pages back.
func (h *helper) close() {
	_ = h.cmd.Process.Kill()
	h.in.Close()
	h.out.Close()
}

// runHelper is the helper's own side: it obeys until there are no more orders.
//
// A page that the Go runtime touches for the first time while the helper is
// elsewhere is charged there and keeps that memcg for as long as the helper
// lives (9 pages a bait, measured with an ordinary loop over bufio and fmt). So
// nothing here allocates, and startHelper has everything done at home first.
func runHelper() {
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	// A stop or Ctrl-C is for the daemon, which ends this with its pipe.
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	// Should somebody be killed for memory while we are there, then this.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	stayOnThisCPU()
	p, err := newCleanPages()
	if err != nil {
		fmt.Println(err)
		return
	}
	var order, answer [helperLine]byte
	idle := [1]unix.PollFd{{Fd: int32(os.Stdin.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(idle[:], int(helperIdle/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return
		}
		// An order is one write of less than a page, so it comes whole.
		if n, err = unix.Read(int(idle[0].Fd), order[:]); n <= 0 || err != nil {
			return
		}
		count, err := p.obey(order[:n])
		out := strconv.AppendInt(answer[:0], int64(count), 10)
		if err != nil {
			out = append(answer[:0], err.Error()...)
		}
		if _, err := unix.Write(unix.Stdout, append(out, '\n')); err != nil {
			return
		}
	}
}

// stayOnThisCPU keeps a thread where it is: what it touches waits in the batches
// of one CPU only, and one CPU only keeps its charges in stock.
func stayOnThisCPU() {
	var cpu uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); errno == 0 {
		var one unix.CPUSet
		one.Set(int(cpu))
		_ = unix.SchedSetaffinity(0, &one)
	}
}

// cleanPages is memory that the kernel may take at any time.
type cleanPages struct {
	size    int     // of a page
	at      uintptr // where it is mapped when it is
	mem     []byte  // what of it is laid
	scratch []byte  // a page that is never laid
	memory  int     // /proc/self/mem
	pagemap int     // /proc/self/pagemap
	entries []byte  // as read there
}

// pageTable is the memory that one page table maps on amd64 and on arm64 with
// 4 KiB pages, in bytes; with larger pages it is more than a bait.
const pageTable = 2 << 20

var errOrder = errors.New("no such order")

// newCleanPages reserves the addresses: whole page tables of their own, which
// are charged and given back with what is mapped there.
func newCleanPages() (*cleanPages, error) {
	size := os.Getpagesize()
	p := &cleanPages{size: size, entries: make([]byte, baitMost/size*pagemapEntry)}
	at, err := unix.MmapPtr(-1, 0, nil, baitMost+pageTable, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("reserve addresses: %w", err)
	}
	p.at = (uintptr(at) + pageTable - 1) / pageTable * pageTable
	if p.scratch, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("map a page: %w", err)
	}
	if p.memory, err = unix.Open("/proc/self/mem", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open /proc/self/mem: %w", err)
	}
	if p.pagemap, err = unix.Open("/proc/self/pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open /proc/self/pagemap: %w", err)
	}
	return p, nil
}

func (p *cleanPages) obey(order []byte) (int, error) {
	verb, arg, _ := bytes.Cut(bytes.TrimSuffix(order, []byte("\n")), []byte(" "))
	switch string(verb) {
	case helperLay:
		n := 0
		for _, c := range arg {
			if n = n*10 + int(c-'0'); c < '0' || c > '9' || n > baitMost/p.size {
				return 0, errOrder
			}
		}
		return n, p.lay(n)
	case helperAct:
		return 0, p.activate()
	case helperUse:
		return p.use(), nil
	case helperLeft:
		return p.left()
	case helperDrop:
		return 0, p.drop()
	}
	return 0, errOrder
}

// remap puts fresh memory in the place of what is mapped there.
func (p *cleanPages) remap(prot int) error {
	p.mem = nil
	// vet knows only of Go's own memory; this is the kernel's.
	_, _, errno := unix.Syscall6(unix.SYS_MMAP, p.at, baitMost, uintptr(prot),
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED, ^uintptr(0), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (p *cleanPages) lay(n int) error {
	if err := p.remap(unix.PROT_READ | unix.PROT_WRITE); err != nil {
		return err
	}
	p.mem = unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), p.at)), n*p.size)
	// A huge page would go whole or not at all. EINVAL: the kernel has none.
	_ = unix.Madvise(p.mem, unix.MADV_NOHUGEPAGE)
	for i := 0; i < len(p.mem); i += p.size {
		p.mem[i] = 1
	}
	// Only pages on the LRU lists can become clean ones (lru_lazyfree_fn,
	// mm/swap.c), and only those there can be taken. The call begins by putting
	// there what waits in this CPU's batches.
	if err := unix.Madvise(p.mem, unix.MADV_FREE); err != nil {
		return err
	}
	return p.drain()
}

// drain puts on the LRU lists what waits in this CPU's batches: MADV_FREE begins
// with it (madvise_free_single_vma, mm/madvise.c), whatever it is for.
func (p *cleanPages) drain() error { return unix.Madvise(p.scratch, unix.MADV_FREE) }

// activate moves what is laid to the active list: reading it by way of
// /proc/self/mem marks each page accessed (FOLL_TOUCH, mm/gup.c), and one that is
// so for the second time becomes active (mark_page_accessed, mm/swap.c).
func (p *cleanPages) activate() error {
	for range 2 {
		for i := 0; i < len(p.mem); i += p.size {
			if _, err := unix.Pread(p.memory, p.entries[:1], int64(p.at)+int64(i)); err != nil {
				return err
			}
		}
	}
	return p.drain()
}

// use reads each page, which the page table then says (the accessed bit); their sum is
// for nobody, but makes the compiler do it.
func (p *cleanPages) use() (sum int) {
	for i := 0; i < len(p.mem); i += p.size {
		sum += int(p.mem[i])
	}
	return sum
}

// drop gives the memory back, and the page tables with it.
func (p *cleanPages) drop() error { return p.remap(unix.PROT_NONE) }

// pagePresent is the bit of a /proc/PID/pagemap entry that says the page is in
// memory, proc_pid_pagemap(5). mincore(2) would say the same, but systemd's
// @system-service lacks it.
const pagePresent = 1 << 63

// pagemapEntry is the size of one, in bytes.
const pagemapEntry = 8

func (p *cleanPages) left() (int, error) {
	entries := p.entries[:len(p.mem)/p.size*pagemapEntry]
	if len(entries) == 0 {
		return 0, nil
	}
	if n, err := unix.Pread(p.pagemap, entries, int64(p.at)/int64(p.size)*pagemapEntry); err != nil || n < len(entries) {
		return 0, errors.Join(err, unix.EIO)
	}
	n := 0
	for b := entries; len(b) > 0; b = b[pagemapEntry:] {
		if binary.NativeEndian.Uint64(b)&pagePresent != 0 {
			n++
		}
	}
	return n, nil
}
