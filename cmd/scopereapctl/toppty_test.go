package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/reclaim"
)

// pty is a terminal with top in it.
type pty struct {
	t             *testing.T
	master, slave *os.File
	cmd           *exec.Cmd
	before        unix.Termios
	ended         chan error

	mu   sync.Mutex
	seen bytes.Buffer
}

func startPty(t *testing.T, bin string, args ...string) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	x := &pty{t: t, master: master, slave: slave, ended: make(chan error, 1)}
	x.resize(100, 30)
	x.before = x.mode()
	x.cmd = exec.Command(bin, append([]string{"top", "--run-dir", t.TempDir()}, args...)...)
	x.cmd.Env = []string{asProgram + "=" + defaultRunDir, busVar + "=" + noBus, "TERM=xterm", "PATH=/usr/bin:/bin"}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { x.ended <- x.cmd.Wait() }()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			x.mu.Lock()
			x.seen.Write(buf[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		slave.Close()
		master.Close()
	})
	return x
}

func (x *pty) mode() unix.Termios {
	x.t.Helper()
	m, err := unix.IoctlGetTermios(int(x.slave.Fd()), unix.TCGETS)
	if err != nil {
		x.t.Fatal(err)
	}
	return *m
}

func (x *pty) resize(columns, lines int) {
	x.t.Helper()
	size := &unix.Winsize{Col: uint16(columns), Row: uint16(lines)}
	if err := unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, size); err != nil {
		x.t.Fatal(err)
	}
}

func (x *pty) press(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// shows waits until the terminal has been sent words since the last time.
func (x *pty) shows(words string) string {
	x.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		x.mu.Lock()
		all := x.seen.String()
		if strings.Contains(all, words) {
			x.seen.Reset()
			x.mu.Unlock()
			return all
		}
		x.mu.Unlock()
		if time.Now().After(end) {
			x.t.Fatalf("no %q in %q", words, all)
		}
	}
}

// restored checks that top has ended and left the terminal as it was.
func (x *pty) restored(code int) {
	x.t.Helper()
	x.shows(screenOff)
	select {
	case <-x.ended:
	case <-time.After(20 * time.Second):
		x.t.Fatal("top does not end")
	}
	if got := x.cmd.ProcessState.ExitCode(); got != code {
		x.t.Errorf("it ended with %d, want %d", got, code)
	}
	if after := x.mode(); after != x.before {
		x.t.Errorf("the terminal is not as it was: %+v, was %+v", after, x.before)
	}
}

func TestTopInTerminal(t *testing.T) {
	if _, err := reclaim.FindHierarchy(); err != nil {
		t.Skip(err)
	}
	bin := program(t)
	t.Run("keys", func(t *testing.T) {
		x := startPty(t, bin)
		x.shows("live")
		x.press("s")
		x.shows("sort: reclaimable")
		x.press("?")
		x.shows("Any key goes back")
		x.press("p")
		x.shows("sort: reclaimable")
		x.press("p")
		x.shows("[paused]")
		x.resize(60, 12)
		frame := x.shows("q quit")
		if lines := strings.Count(frame[strings.LastIndex(frame, goHome):], "\r\n"); lines != 11 {
			t.Errorf("%d lines after a resize to 12: %q", lines+1, frame)
		}
		x.press("\x1b[Bq")
		x.restored(exitcode.OK)
	})
	t.Run("interrupt", func(t *testing.T) {
		x := startPty(t, bin)
		x.shows("q quit")
		x.press("\x03")
		x.restored(exitcode.OK)
	})
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			x := startPty(t, bin)
			x.shows("q quit")
			if err := x.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			x.restored(exitcode.OK)
		})
	}
	t.Run("suspend", func(t *testing.T) {
		x := startPty(t, bin)
		x.shows("q quit")
		x.press("\x1a")
		x.shows(screenOff)
		for end := time.Now().Add(10 * time.Second); !x.stopped(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("Ctrl-Z does not stop it")
			}
		}
		if x.mode() != x.before {
			t.Error("the terminal is not the shell's while top is stopped")
		}
		if err := x.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		x.shows(screenOn)
		x.shows("q quit")
		x.press("q")
		x.restored(exitcode.OK)
	})
	t.Run("gone", func(t *testing.T) {
		x := startPty(t, bin)
		x.shows("q quit")
		x.slave.Close()
		x.master.Close()
		select {
		case <-x.ended:
		case <-time.After(20 * time.Second):
			t.Fatal("top outlives its terminal")
		}
	})
}

// stopped reports whether the process is, proc_pid_stat(5).
func (x *pty) stopped() bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", x.cmd.Process.Pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(data), ") ")
	return strings.HasPrefix(state, "T")
}
