package reclaim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Thread is the one operating-system thread that does all reaping: its reads,
// its shields and its long writes, and the waiting between them. It runs at nice 19
// (but see hurry) and idle I/O priority, so that it takes only what is left over, and
// it has a CPU clock of its own, which the budget is measured with.
//
// It is not slowed by SCHED_IDLE or a CPU quota unless the policy asks: either
// may stop a thread inside the kernel while it holds what others wait for.
type Thread struct {
	work    chan func()
	tid     int
	idle    bool          // under SCHED_IDLE
	slow    bool          // not allowed to hurry
	hurries int           // that are not over yet
	aside   time.Duration // CPU time of what other threads did for this one
	// onWrite is told how long each write took, onHurry that others may wait from now
	// on; nil tells nobody.
	onWrite func(time.Duration)
	onHurry func()
}

// niceLowest is the weakest nice value there is, setpriority(2).
const niceLowest = 19

// ioprioIdle is IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0), ioprio_set(2).
const ioprioIdle = 3 << 13

// ioprioWhoProcess makes ioprio_set(2) address one thread by its id.
const ioprioWhoProcess = 1

// StartThread starts the thread; it ends with ctx. Its error says which
// priority could not be set; the thread works all the same.
func StartThread(ctx context.Context) (*Thread, error) { return startThread(ctx, lowerPriority) }

// startThread starts one whose priority is for the caller to set, by its id.
func startThread(ctx context.Context, priority func(tid int) error) (*Thread, error) {
	t := &Thread{work: make(chan func())}
	ready := make(chan error)
	goOffMain(func() {
		t.tid = unix.Gettid()
		ready <- priority(t.tid)
		t.serve(ctx)
	})
	return t, <-ready
}

// startPlainThread starts a thread of the priority this process has; it ends with
// ctx.
func startPlainThread(ctx context.Context) *Thread {
	t := &Thread{work: make(chan func())}
	ready := make(chan struct{})
	goOffMain(func() {
		t.tid = unix.Gettid()
		close(ready)
		t.serve(ctx)
	})
	<-ready
	return t
}

// serve runs what it is given until ctx ends.
func (t *Thread) serve(ctx context.Context) {
	for {
		select {
		case fn := <-t.work:
			fn()
		case <-ctx.Done():
			return
		}
	}
}

// goOffMain runs fn on a locked thread that ends with it, so that what fn
// changes of its thread (priorities, cgroups) is left on none that the runtime
// goes on using. It is never the main thread, which does not end with a
// goroutine, shows the whole process's nice value, and is mm->owner, whom
// cgroup v1 charges for all of the process. A goroutine begun right from main
// nearly always lands there.
func goOffMain(fn func()) {
	go offMain(fn, make(chan struct{}))
}

func offMain(fn func(), locked chan<- struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		close(locked)
		fn()
		return
	}
	// This goroutine keeps the main thread until another has its own.
	other := make(chan struct{})
	go offMain(fn, other)
	<-other
	close(locked)
	runtime.UnlockOSThread()
}

func lowerPriority(tid int) error {
	var errs []error
	if err := unix.Setpriority(unix.PRIO_PROCESS, tid, niceLowest); err != nil {
		errs = append(errs, fmt.Errorf("set nice %d: %w", niceLowest, err))
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(tid), ioprioIdle); errno != 0 {
		errs = append(errs, fmt.Errorf("set idle I/O priority: %w", errno))
	}
	return errors.Join(errs...)
}

// SetIdle puts the thread under SCHED_IDLE (on) or back under SCHED_OTHER.
func (t *Thread) SetIdle(on bool) error {
	policy := uint32(schedOther)
	if on {
		policy = schedIdle
	}
	if err := t.schedule(policy, niceLowest); err != nil {
		return err
	}
	t.idle = on
	return nil
}

func (t *Thread) schedule(policy uint32, nice int32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Nice: nice}
	if err := unix.SchedSetAttr(t.tid, &attr, 0); err != nil {
		return fmt.Errorf("set scheduler of the reaping thread: %w", err)
	}
	return nil
}

// hurry gives the thread normal priority until calm is called, for what others may
// not be kept waiting behind: a raised memory.min, under which a limit may find
// nothing to reclaim, and a lowered memory.high, which throttles who charges. On a
// busy machine a nice 19 thread may be kept from its CPU for seconds.
//
// It takes RLIMIT_NICE or CAP_SYS_NICE (sched(7)). Without either the thread stays
// as slow as it is.
func (t *Thread) hurry() (calm func()) {
	if t.onHurry != nil {
		t.onHurry()
	}
	if t.hurries == 0 && (t.slow || t.schedule(schedOther, 0) != nil) {
		t.slow = true
		return func() {}
	}
	t.hurries++
	return func() {
		if t.hurries--; t.hurries == 0 {
			_ = t.SetIdle(t.idle)
		}
	}
}

// likeIdle puts the thread under the scheduler that another one is under. What
// the kernel refuses here it has refused there, and been logged.
func (t *Thread) likeIdle(o *Thread) {
	if t.idle != o.idle {
		_ = t.SetIdle(o.idle)
	}
}

// Scheduling policies, sched(7).
const (
	schedOther = 0
	schedIdle  = 5
)

// Do runs fn on the thread and waits for it. It reports false, and runs
// nothing, if ctx ended first.
func (t *Thread) Do(ctx context.Context, fn func()) bool {
	done := make(chan struct{})
	select {
	case t.work <- func() { defer close(done); fn() }:
		<-done
		return true
	case <-ctx.Done():
		return false
	}
}

// CPU is the CPU time the thread has used, user and kernel: its own clock,
// CLOCK_THREAD_CPUTIME_ID, and what others used for it. Call it on the thread.
func (t *Thread) CPU() time.Duration {
	return time.Duration(cpuClock(unix.CLOCK_THREAD_CPUTIME_ID)) + t.aside
}

// processCPU is the CPU time of all threads together.
func processCPU() time.Duration { return time.Duration(cpuClock(unix.CLOCK_PROCESS_CPUTIME_ID)) }

// WriteResult says how a reclaiming write ended.
type WriteResult int

const (
	// WriteFull: the kernel did all it was asked for.
	WriteFull WriteResult = iota
	// WritePartial: EAGAIN, less was reclaimed than asked. That is
	// progress or the end of it, never a failure (memory.reclaim,
	// Documentation/admin-guide/cgroup-v2.rst).
	WritePartial
	// WriteInterrupted: the slice ran out and a signal ended the write;
	// what was reclaimed up to there stays reclaimed.
	WriteInterrupted
)

// Write writes to a file that reclaims (memory.reclaim, memory.high,
// memory.force_empty), and interrupts the kernel when it takes longer than
// slice. Call it on the thread.
//
// The interruption is SIGURG, sent to this thread alone by a timer of the
// kernel's (timer_create(2) with SIGEV_THREAD_ID): the Go runtime handles it
// already (it is what it preempts goroutines with), and memory.reclaim,
// memory.high and memory.force_empty look for a pending signal between two
// rounds (mm/memcontrol.c).
func (t *Thread) Write(f *FS, cgroup, file, value string, slice time.Duration) (WriteResult, error) {
	fd, err := f.open(cgroup, file, unix.O_WRONLY|f.write)
	if err != nil {
		return WriteFull, err
	}
	defer closeShort(fd)
	timer, err := newThreadTimer()
	if err != nil {
		return WriteFull, err
	}
	defer timer.close()
	if err := timer.arm(slice); err != nil {
		return WriteFull, err
	}
	began := time.Now()
	_, err = unix.Write(fd, line(value))
	if t.onWrite != nil {
		t.onWrite(time.Since(began))
	}
	switch err {
	case nil:
		return WriteFull, nil
	case unix.EAGAIN:
		return WritePartial, nil
	case unix.EINTR:
		return WriteInterrupted, nil
	}
	return WriteFull, &fs.PathError{Op: "write " + value + " to", Path: path.Join(f.root, cgroup, file), Err: err}
}
