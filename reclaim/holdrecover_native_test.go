package reclaim

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// holdCrashEnv makes TestHoldCrashHelper the daemon that will be killed:
// "JOURNAL CGROUP...".
const holdCrashEnv = "SCOPEREAP_TEST_HOLD_CRASH"

// TestHoldCrashHelper is no test: TestHoldRecover starts it.
func TestHoldCrashHelper(t *testing.T) {
	args := strings.Fields(os.Getenv(holdCrashEnv))
	if len(args) == 0 {
		t.Skip("started by TestHoldRecover only")
	}
	h, err := FindHierarchy()
	if err != nil {
		t.Fatal(err)
	}
	f, err := OpenFS(h.Root)
	if err != nil {
		t.Fatal(err)
	}
	hold := NewHold(f, HoldOptions{Max: 9, JournalPath: args[0]})
	for _, c := range args[1:] {
		mustEnter(t, hold, c)
	}
	os.Stdout.WriteString("entered\n")
	select {}
}

func TestHoldRecover(t *testing.T) {
	tr := newV1TestTree(t)
	journal := filepath.Join(t.TempDir(), "run", "holds")
	ended, lives, gone, replaced := tr.mkdir("ended.scope"), tr.mkdir("lives.scope"), tr.mkdir("gone.scope"), tr.mkdir("replaced.scope")

	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHoldCrashHelper$")
	cmd.Env = append(os.Environ(), holdCrashEnv+"="+strings.Join([]string{journal, ended, lives, gone, replaced}, " "))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 8)
	if _, err := out.Read(line); err != nil || string(line) != "entered\n" {
		t.Errorf("the helper says %q, %v", line, err)
	}
	if err := tr.fs.Rmdir(ended); !errors.Is(err, unix.EBUSY) {
		t.Errorf("held by another process: %v, want EBUSY", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	tr.drop(gone)
	tr.drop(replaced)
	tr.mkdir("replaced.scope")
	f, err := os.OpenFile(journal, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("rubbish\n+ 17 /tor"); err != nil {
		t.Fatal(err)
	}
	f.Close()

	h := NewHold(tr.fs, HoldOptions{
		Max: 9, JournalPath: journal, Deadline: time.Minute,
		Live: func(c string) bool { return c == lives || c == tr.base },
	})
	left, err := h.Recover()
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || left[0] != ended {
		t.Errorf("left behind: %q, want %q", left, ended)
	}
	if c := h.Count(); c != (HoldCount{Held: 1, Waiting: 1, Threads: 2}) {
		t.Errorf("recovered: %+v", c)
	}
	if err := tr.fs.Rmdir(lives); !errors.Is(err, unix.EBUSY) {
		t.Errorf("the live one is not held again: %v", err)
	}
	if o := finishHoldWait(t, h, testThread(t), ended); !o.Removed {
		t.Errorf("finish: %+v", o)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := tr.fs.Rmdir(lives); err != nil {
		t.Errorf("the live one is still held after Close: %v", err)
	}
	if !tr.fs.Exists(replaced) {
		t.Error("removed a directory it never held")
	}
}

func TestHoldClose(t *testing.T) {
	tr := newV1TestTree(t)
	journal := filepath.Join(t.TempDir(), "holds")
	h := NewHold(tr.fs, HoldOptions{
		Max: 9, Deadline: time.Hour, JournalPath: journal,
		Live: func(c string) bool { return c == tr.base },
	})
	slice := tr.mkdir("user-2.slice")
	scope := tr.mkdir("user-2.slice/session-5.scope")
	busy := tr.mkdir("session-6.scope")
	below := tr.mkdir("session-6.scope/container")
	for _, c := range []string{scope, busy} {
		mustEnter(t, h, c)
		h.Leave(c)
	}
	tr.run(scope, `exec cat "$1" >/dev/null`, cleanFile(t, 1<<20))
	h.entries[scope].left = time.Now().Add(-holdStatFresh) // its counters are exact
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if tr.fs.Exists(scope) {
		t.Error("a left directory outlived Close")
	}
	// Its parent, deserted since a moment ago, goes too, unless another CPU has not let go of its charges yet.
	want := []string{busy}
	if tr.fs.Exists(slice) {
		want = append(want, slice)
	}
	if !tr.fs.Exists(below) {
		t.Error("removed a directory it never held")
	}
	b, err := os.ReadFile(journal)
	if err != nil || strings.Contains(string(b), scope) {
		t.Errorf("the journal keeps %q, %v", b, err)
	}
	for _, c := range want {
		if !strings.Contains(string(b), c) {
			t.Errorf("the journal keeps %q, without %s", b, c)
		}
	}

	// The next run finds and finishes it.
	if err := tr.fs.Rmdir(below); err != nil {
		t.Fatal(err)
	}
	h = NewHold(tr.fs, HoldOptions{Max: 9, JournalPath: journal})
	left, err := h.Recover()
	slices.Sort(left)
	if slices.Sort(want); err != nil || !slices.Equal(left, want) {
		t.Errorf("left behind: %q, %v, want %q", left, err, want)
	}
	if tr.fs.Exists(slice) {
		time.Sleep(holdStatFresh) // until it is let go of
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(journal); !errors.Is(err, os.ErrNotExist) || tr.fs.Exists(busy) || tr.fs.Exists(slice) {
		t.Errorf("after a clean end: journal %v, directories %v %v", err, tr.fs.Exists(busy), tr.fs.Exists(slice))
	}
}

// TestHoldCloseWaits: what cannot be emptied yet is neither thrown away nor forgotten at a restart, nor is a unit whose
// end nobody has told of.
func TestHoldCloseWaits(t *testing.T) {
	tr := newV1TestTree(t)
	journal := filepath.Join(t.TempDir(), "holds")
	ended, untold := tr.mkdir("session-7.scope"), tr.mkdir("session-8.scope")
	opts := HoldOptions{
		Max: 9, Deadline: time.Hour, JournalPath: journal,
		Live: func(c string) bool { return c == tr.base },
	}
	h := NewHold(tr.fs, opts)
	file := shmemFile(t)
	for _, c := range []string{ended, untold} {
		mustEnter(t, h, c)
		tr.run(c, `exec dd if=/dev/zero of="$1" bs=64k count=4 2>/dev/null`, file+filepath.Base(c))
	}
	h.Leave(ended)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if !tr.fs.Exists(ended) || !tr.fs.Exists(untold) {
		t.Error("a directory went while the kernel's counters disagreed on what is in it")
	}
	opts.Max = 0
	h = NewHold(tr.fs, opts)
	if left, err := h.Recover(); err != nil || len(left) != 2 {
		t.Errorf("the next start finds %q, %v", left, err)
	}
	if err := h.GiveUp(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(journal); !errors.Is(err, os.ErrNotExist) || tr.fs.Exists(ended) || tr.fs.Exists(untold) {
		t.Errorf("after giving up: journal %v, directories %v %v", err, tr.fs.Exists(ended), tr.fs.Exists(untold))
	}
}
