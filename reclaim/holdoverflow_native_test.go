package reclaim

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Where the kernel lost events (IN_Q_OVERFLOW, inotify(7)) everything is looked at again: what was made meanwhile is
// held, in a slice that nobody has told of as well.
func TestHoldWatchOverflow(t *testing.T) {
	tr := newV1TestTree(t)
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Hour, Live: func(c string) bool { return strings.HasPrefix(c, tr.base) }})
	closeHold(t, h)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	w := &holdWatch{hold: h, top: tr.base, fd: fd, paths: map[int32]string{},
		match: func(unit string) bool { return strings.HasSuffix(unit, ".scope") }}
	if err := w.slice(tr.base); err != nil {
		t.Fatal(err)
	}
	lost := []string{tr.mkdir("b-1.scope")} // whose events nobody reads
	tr.mkdir("b.slice")
	lost = append(lost, tr.mkdir("b.slice/b-2.scope"))
	w.event(inotifyEvent{wd: -1, mask: unix.IN_Q_OVERFLOW})
	for _, cgroup := range lost {
		if b, err := tr.fs.Read(cgroup, v1TasksFile, nil); err != nil || len(b) == 0 {
			t.Errorf("%s is not held: %q, %v", cgroup, b, err)
		}
	}
}
