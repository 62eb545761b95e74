package reclaim

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// threadTimer is a POSIX timer that signals the thread which made it.
type threadTimer struct{ id int32 }

// sigevThreadID is SIGEV_THREAD_ID, timer_create(2).
const sigevThreadID = 4

// sigevent is the kernel's struct sigevent: 64 bytes, of which a thread's
// timer uses three fields (include/uapi/asm-generic/siginfo.h). sigev_value
// comes first and is as wide as a pointer.
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32
	tid    int32
	_      [64 - unsafe.Sizeof(uintptr(0)) - 12]byte
}

// newThreadTimer makes a timer for the calling thread, which must be locked.
func newThreadTimer() (threadTimer, error) {
	ev := sigevent{signo: int32(unix.SIGURG), notify: sigevThreadID, tid: int32(unix.Gettid())}
	var t threadTimer
	_, _, errno := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC,
		uintptr(unsafe.Pointer(&ev)), uintptr(unsafe.Pointer(&t.id)))
	if errno != 0 {
		return t, fmt.Errorf("make a timer that bounds writes: %w", errno)
	}
	return t, nil
}

// interruptAgain is how soon a signal follows one that came before the write
// had begun (and so interrupted nothing).
const interruptAgain = 2 * time.Millisecond

// arm makes the timer fire after d, and again until it is closed.
func (t threadTimer) arm(d time.Duration) error {
	spec := unix.ItimerSpec{
		Value:    unix.NsecToTimespec(max(int64(d), 1)),
		Interval: unix.NsecToTimespec(int64(interruptAgain)),
	}
	if _, _, errno := unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("arm the timer that bounds writes: %w", errno)
	}
	return nil
}

func (t threadTimer) close() {
	_, _, _ = unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(t.id), 0, 0)
}
