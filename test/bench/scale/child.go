package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/test/bench/result"
)

// childEnv makes this program a child that does one thing in a cgroup: "fill FILE" reads every page of a file and ends,
// "walk FILE" then reads it again and again.
const childEnv = "SCOPEREAP_SCALE_CHILD"

// childMain never returns in a child. The child waits for a line first, so that it is put into its cgroup before.
func childMain() {
	order := os.Getenv(childEnv)
	if order == "" {
		return
	}
	what, file, _ := strings.Cut(order, " ")
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		os.Exit(1)
	}
	err := fill(file)
	if what == "walk" && err == nil {
		err = walk(file, in)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// fill has every page of a file cached, charged to this process's cgroup. It reads page by page: in large folios, which
// some file systems make of long reads, 4 GiB went in 24 ms (6.18, ext4), and no real cache is all of those.
func fill(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil { // no readahead
		return err
	}
	buf := make([]byte, 1)
	for off := int64(0); err == nil; off += int64(os.Getpagesize()) {
		_, err = f.ReadAt(buf, off)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// startChild starts one and puts it into a cgroup before it does anything.
func (b *bench) startChild(cgroup, order string) (*child, error) {
	c := &child{cmd: exec.Command("/proc/self/exe")}
	c.cmd.Env = append(os.Environ(), childEnv+"="+order)
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := b.fs.Write(cgroup, "cgroup.procs", fmt.Sprint(c.cmd.Process.Pid)); err != nil {
		_ = c.cmd.Process.Kill()
		return nil, errors.Join(err, c.cmd.Wait())
	}
	_, err = io.WriteString(c.in, "go\n")
	return c, err
}

type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// Reads of the neighbour: 64 KiB each of a file of 64 MiB, a thousand a second.
const (
	walkFile = 64 << 20
	walkRead = 64 << 10
	walkPace = time.Millisecond
)

// walk reads at a steady pace and tells at every line what it saw since the last. A read's time counts from when it was
// due, so that the wait for a CPU is in it. One that finds itself late by whole reads leaves those out, and has counted.
func walk(file string, in *bufio.Scanner) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	ask := make(chan bool)
	go func() {
		for in.Scan() {
			ask <- true
		}
		close(ask)
	}()
	runtime.LockOSThread()
	// The timer may be late by 50 µs otherwise, prctl(2).
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	nanos := make([]int64, 0, 1<<20)
	buf := make([]byte, walkRead)
	for due, off := now(), int64(0); ; off = (off + walkRead) % walkFile {
		for due += int64(walkPace); due < now(); due += int64(walkPace) {
		}
		sleepUntil(due)
		if _, err := f.ReadAt(buf, off); err != nil {
			return err
		}
		nanos = append(nanos, now()-due)
		select {
		case _, more := <-ask:
			if !more {
				return nil
			}
			if err := out.Encode(result.Summarize(nanos)); err != nil {
				return err
			}
			nanos, due = nanos[:0], now()
		default:
		}
	}
}

// now is CLOCK_MONOTONIC, in ns.
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // every kernel has it
	}
	return ts.Nano()
}

func sleepUntil(due int64) {
	ts := unix.NsecToTimespec(due)
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
	}
}
