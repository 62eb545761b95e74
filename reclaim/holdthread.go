package reclaim

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// v1TasksFile lists a v1 cgroup's threads, and moves one in by its id.
const v1TasksFile = "tasks"

// unixNotThere is what a directory that was replaced answers.
const unixNotThere = unix.ENOENT

// holdThread is a thread of this process that does nothing: it stands in a
// cgroup so that the directory cannot be removed.
type holdThread struct {
	tid  int
	stop chan struct{}
}

// startHoldThread starts one and waits until it stands still.
func startHoldThread() *holdThread {
	ready, stop := make(chan int), make(chan struct{})
	go parkHoldThread(ready, stop)
	return &holdThread{tid: <-ready, stop: stop}
}

// parkHoldThread never unlocks its thread, so that it ends with the goroutine.
// While it is locked the runtime clones no thread from it (it has a template
// thread for that), so none is born inside the cgroup it is moved to.
//
// The main thread must not be taken: it does not end with its goroutine, and
// it is mm->owner, so moving it would charge the whole daemon's memory to the
// unit. A goroutine begun right from main's nearly always lands on it.
func parkHoldThread(ready chan<- int, stop <-chan struct{}) {
	runtime.LockOSThread()
	if tid := unix.Gettid(); tid != unix.Getpid() {
		ready <- tid
		<-stop
		return
	}
	// Locked here, this goroutine keeps the main thread until the other
	// one has locked another.
	other := make(chan int)
	go parkHoldThread(other, stop)
	ready <- <-other
	runtime.UnlockOSThread()
}

// end lets the thread end, without waiting for it.
func (t *holdThread) end() { close(t.stop) }

// How long the end of a thread is waited for: 2 ms on an idle machine (6.18).
// One that takes longer ends all the same.
const (
	holdEndWait = time.Second
	holdEndPoll = 500 * time.Microsecond
)

// wait waits, after end, until the kernel has the thread no more.
func (t *holdThread) wait() {
	pid := unix.Getpid()
	for until := time.Now().Add(holdEndWait); time.Now().Before(until); time.Sleep(holdEndPoll) {
		if unix.Tgkill(pid, t.tid, 0) == unix.ESRCH {
			return
		}
	}
}
