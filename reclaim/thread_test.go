package reclaim

import (
	"context"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func ioprio(t *testing.T, tid int) int {
	t.Helper()
	p, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, uintptr(tid), 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	return int(p)
}

// nice undoes getpriority(2)'s raw answer, which is 20 less the nice value.
func nice(t *testing.T, tid int) int {
	t.Helper()
	p, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
	if err != nil {
		t.Fatal(err)
	}
	return 20 - p
}

func TestThreadPriority(t *testing.T) {
	// Not to be compared with the main thread: an earlier test's Thread may
	// have been that one, which outlives its goroutine (parked for ever).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := unix.Gettid()
	before := nice(t, self)
	th := testThread(t)
	if n, p := nice(t, th.tid), ioprio(t, th.tid); n != niceLowest || p != ioprioIdle {
		t.Errorf("nice %d, I/O priority %#x", n, p)
	}
	if n, p := nice(t, self), ioprio(t, self); n != before || p == ioprioIdle {
		t.Errorf("another thread has nice %d, I/O priority %#x", n, p)
	}
	for _, idle := range []bool{true, false, false, true} {
		if err := th.SetIdle(idle); err != nil {
			t.Fatal(err)
		}
		attr, err := unix.SchedGetAttr(th.tid, 0)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]uint32{true: schedIdle, false: schedOther}[idle]; attr.Policy != want {
			t.Errorf("idle %v: policy %d", idle, attr.Policy)
		}
	}
	if n := nice(t, th.tid); n != niceLowest {
		t.Errorf("nice %d after changing the scheduler", n)
	}
}

func TestThreadDo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	th, err := StartThread(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var first, second time.Duration
	th.Do(ctx, func() {
		if tid := unix.Gettid(); tid != th.tid {
			t.Errorf("runs on thread %d, not %d", tid, th.tid)
		}
		first = th.CPU()
		for second = first; second < first+2*time.Millisecond; second = th.CPU() {
		}
	})
	if first <= 0 || second <= first {
		t.Errorf("CPU time %v, then %v", first, second)
	}
	// Time asleep is not CPU time.
	th.Do(ctx, func() {
		first = th.CPU()
		time.Sleep(100 * time.Millisecond)
		second = th.CPU()
	})
	if second-first > 50*time.Millisecond {
		t.Errorf("100 ms asleep cost %v", second-first)
	}
	cancel()
	for range 100 {
		ran := false
		if did := th.Do(ctx, func() { ran = true }); did != ran {
			t.Errorf("says %v, did %v", did, ran)
		}
	}
}

// TestThreadTimer: the signal comes to the thread that made the timer, and
// again as long as the timer lives.
func TestThreadTimer(t *testing.T) {
	th := testThread(t)
	th.Do(t.Context(), func() {
		timer, err := newThreadTimer()
		if err != nil {
			t.Error(err)
			return
		}
		defer timer.close()
		if err := timer.arm(0); err != nil {
			t.Error(err)
		}
		for i := range 3 {
			// poll(2) is never restarted after a signal (signal(7)).
			if n, err := unix.Poll(nil, 30_000); err != unix.EINTR {
				t.Errorf("wait %d ended with %d, %v", i, n, err)
			}
		}
	})
}

// kernelTimers counts this process's POSIX timers.
func kernelTimers(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/timers")
	if err != nil {
		t.Skip("needs CONFIG_CHECKPOINT_RESTORE:", err)
	}
	return strings.Count(string(b), "ID: ")
}

func TestThreadWriteLeavesNoTimer(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 0, 0)
	th := testThread(t)
	before, told := kernelTimers(t), 0
	th.onWrite = func(d time.Duration) {
		if told++; d <= 0 {
			t.Errorf("a write took %v", d)
		}
	}
	th.Do(t.Context(), func() {
		for range 100 {
			if res, err := th.Write(x.fs, "/p", "memory.reclaim", "4096", time.Nanosecond); err != nil || res != WriteFull {
				t.Errorf("%v, %v", res, err)
			}
			if _, err := th.Write(x.fs, "/gone", "memory.reclaim", "4096", time.Minute); !gone(err) {
				t.Error(err)
			}
			if _, err := th.Write(x.fs, "/..", "memory.reclaim", "4096", time.Minute); err == nil {
				t.Error("wrote outside the hierarchy")
			}
		}
	})
	if told != 100 {
		t.Errorf("told of %d writes, want 100: none of those that failed to open", told)
	}
	if after := kernelTimers(t); after != before {
		t.Errorf("%d timers before, %d after", before, after)
	}
	if got := x.read("/p", "memory.reclaim"); got != "4096" {
		t.Errorf("memory.reclaim got %q", got)
	}
}

// TestThreadWriteInterrupted: the kernel ends a long write when its slice is
// over, and what it freed until then stays freed.
func TestThreadWriteInterrupted(t *testing.T) {
	tr := newV1TestTree(t)
	cgroup := tr.mkdir("large")
	file := cleanFile(t, 64*testMiB)
	th := testThread(t)
	for try := range 20 {
		tr.run(cgroup, `exec cat "$1" >/dev/null`, file)
		before, err := v1ReadBytes(tr.fs, cgroup, v1UsageFile)
		if err != nil {
			t.Fatal(err)
		}
		var res WriteResult
		// Where in the write it falls is the machine's affair: 64 MiB of
		// large folios go within a millisecond or two.
		slice := 50 * time.Microsecond << (try % 5)
		th.Do(t.Context(), func() { res, err = th.Write(tr.fs, cgroup, v1ForceEmptyFile, "0", slice) })
		if err != nil {
			t.Fatal(err)
		}
		if res != WriteInterrupted {
			continue // done before the signal came
		}
		left, err := v1ReadBytes(tr.fs, cgroup, v1UsageFile)
		if err != nil || left == 0 || left > before {
			t.Errorf("%d bytes before, %d after, %v", before, left, err)
		}
		th.Do(t.Context(), func() { res, err = th.Write(tr.fs, cgroup, v1ForceEmptyFile, "0", time.Minute) })
		if err != nil || res != WriteFull {
			t.Errorf("with time enough: %v, %v", res, err)
		}
		return
	}
	t.Error("64 MiB were freed 20 times without an interruption")
}
