package reclaim

import (
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
	// While a goroutine is locked to it, the runtime clones no thread from a
	// thread (it has a template thread for that), so none is born inside the
	// cgroup this one is moved to.
	goOffMain(func() {
		ready <- unix.Gettid()
		<-stop
	})
	return &holdThread{tid: <-ready, stop: stop}
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
