package reclaim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/deaddisk"
)

// deadDisk is a [deaddisk.Disk] that a test may wait for in vain.
type deadDisk struct {
	*deaddisk.Disk
	t *testing.T
}

func newDeadDisk(t *testing.T) *deadDisk { return &deadDisk{deaddisk.New(t), t} }

// soon runs fn, which must not wait for the disk.
func (d *deadDisk) soon(what string, fn func()) {
	d.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		d.Answers()
		<-done
		d.t.Errorf("%s waited for a dead disk", what)
	}
}

// A directory whose dirty pages are on a disk that does not answer is neither written to nor removed, and holds up
// neither the others nor a stop.
func TestHoldDeadDisk(t *testing.T) {
	tr := newV1TestTree(t)
	disk := newDeadDisk(t)
	path := filepath.Join(t.TempDir(), "holds")
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Hour, JournalPath: path})
	th := testThread(t)
	slow, quick := tr.mkdir("slow.scope"), tr.mkdir("quick.scope")
	mustEnter(t, h, slow)
	mustEnter(t, h, quick)
	disk.Dies()
	tr.run(slow, `exec dd if=/dev/zero of="$1" bs=64k count=32 2>/dev/null`, filepath.Join(disk.Dir, "file"))
	tr.run(quick, `exec cat "$1" >/dev/null`, cleanFile(t, 1<<20))
	h.Leave(slow)
	h.Leave(quick)
	var out HoldOutcome
	disk.soon("Finish", func() { out = finishHold(t, h, th, slow) })
	noThreadWaits(t)
	if out.Done || out.Why != HoldPages || out.dirty() == 0 || out.RetryAfter <= 0 {
		t.Errorf("with dirty pages: %+v", out)
	}
	disk.soon("another unit", func() { out = finishHoldWait(t, h, th, quick) })
	if !out.Removed {
		t.Errorf("another unit: %+v", out)
	}
	disk.soon("Close", func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	noThreadWaits(t)
	if recs, _, err := (&holdJournal{path: path}).load(); err != nil || len(recs) != 1 || recs[0].Cgroup != slow {
		t.Errorf("the next start would find %v, %v", recs, err)
	}
	// The next start finishes it.
	disk.Answers()
	next := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Hour, JournalPath: path})
	closeHold(t, next)
	left, err := next.Recover()
	if err != nil || len(left) != 1 {
		t.Fatalf("%v, %v", left, err)
	}
	syncfs(t, disk.Dir)
	if out := finishHoldWait(t, next, th, slow); !out.Removed || len(out.Pins) > 0 {
		t.Errorf("after the writeback: %+v", out)
	}
}

// noThreadWaits: this process could not end before a thread of it that waits for a disk. Nor could its unit, for another
// process in its cgroup.
func noThreadWaits(t *testing.T) {
	t.Helper()
	stats, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil {
		t.Fatal(err)
	}
	waiting := func() (n int) {
		for _, file := range stats {
			stat, _ := os.ReadFile(file) // it may have ended
			if i := bytes.LastIndexByte(stat, ')'); i > 0 && bytes.HasPrefix(stat[i:], []byte(") D")) {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(2 * time.Second); waiting() > 0; time.Sleep(10 * time.Millisecond) { // for others' short waits
		if time.Now().After(end) {
			t.Errorf("%d threads wait for a disk", waiting())
			return
		}
	}
}

// A process that waits for the dead disk in a kick is in no cgroup but the roots.
func TestV1KickDeadDisk(t *testing.T) {
	tr := newV1TestTree(t)
	disk := newDeadDisk(t)
	th := testThread(t)
	slow, other := tr.mkdir("slow.scope"), tr.mkdir("other.scope")
	disk.Dies()
	tr.run(slow, `exec dd if=/dev/zero of="$1" bs=64k count=32 2>/dev/null`, filepath.Join(disk.Dir, "file"))
	var m v1Emptier
	kick := func(cgroup string) (began bool) {
		t.Helper()
		disk.soon("the caller", func() {
			th.Do(t.Context(), func() {
				var err error
				if began, err = m.kick(tr.fs, cgroup); err != nil {
					t.Error(err)
				}
			})
		})
		return began
	}
	if !kick(slow) || m.since(slow) == 0 {
		t.Fatal("not begun")
	}
	waits := func(pid int) bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // it may have ended
		i := bytes.LastIndexByte(stat, ')')
		return i > 0 && bytes.HasPrefix(stat[i:], []byte(") D"))
	}
	var pid int
	held := 0
	for end := time.Now().Add(20 * time.Second); held < 20 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		m.mu.Lock()
		if m.kicked != nil {
			pid = m.kicked.Pid
		}
		m.mu.Unlock()
		if held++; !waits(pid) { // until it waits, and is killed in vain
			held = 0
			_ = kick(slow)
		}
	}
	if held < 20 {
		t.Skip("this kernel's force_empty waits for no writeback")
	}
	noThreadWaits(t)
	if kick(slow) || kick(other) {
		t.Error("another was begun while one waits for a disk")
	}
	cgroups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(cgroups)) {
		if !strings.HasSuffix(line, ":/\n") {
			t.Errorf("it is in %s", line)
		}
	}
	disk.Answers()
	for end := time.Now().Add(20 * time.Second); m.since(slow) > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	if m.since(slow) > 0 {
		t.Error("it has not ended, although the disk answers")
	}
	m.charge(th)
	if th.aside <= 0 {
		t.Error("its CPU time was charged to nobody")
	}
}

func syncfs(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
}

// Where a write was begun all the same, because memory.stat lagged, nobody waits for it.
func TestV1EmptierDeadDisk(t *testing.T) {
	tr := newV1TestTree(t)
	disk := newDeadDisk(t)
	th := testThread(t)
	slow := tr.mkdir("slow.scope")
	quick := tr.mkdir("quick.scope")
	disk.Dies()
	tr.run(slow, `exec dd if=/dev/zero of="$1" bs=64k count=32 2>/dev/null`, filepath.Join(disk.Dir, "file"))
	tr.run(quick, `exec cat "$1" >/dev/null`, cleanFile(t, 1<<20))

	var m v1Emptier
	empty := func(ctx context.Context, cgroup string, slice time.Duration) (res WriteResult, err error) {
		t.Helper()
		disk.soon("the caller", func() {
			th.Do(t.Context(), func() { res, err = m.forceEmpty(ctx, th, tr.fs, cgroup, slice) })
		})
		return res, err
	}
	held := false
	for try := 0; try < 20 && !held; try++ { // the flusher has to begin first
		_, err := empty(t.Context(), slow, 100*time.Millisecond)
		held = errors.Is(err, ErrV1HeldUp)
		if err != nil && !held {
			t.Fatal(err)
		}
	}
	if !held {
		t.Skip("this kernel's force_empty waits for no writeback")
	}
	if m.since(slow) == 0 || m.since(quick) != 0 {
		t.Errorf("under way: %v, %v", m.since(slow), m.since(quick))
	}
	if _, err := empty(t.Context(), slow, time.Second); !errors.Is(err, ErrV1HeldUp) {
		t.Errorf("a second one at once: %v", err)
	}
	if _, err := empty(t.Context(), quick, time.Second); err != nil {
		t.Errorf("another cgroup: %v", err)
	}
	if n, err := v1ReadBytes(tr.fs, quick, v1UsageFile); err != nil || n >= 1<<20 {
		t.Errorf("another cgroup has %d bytes, %v", n, err)
	}

	// The hold does not remove the directory meanwhile, whatever its deadline: the rmdir would wait as well.
	var log bytes.Buffer
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: 0, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	h.emptier.under = map[string]time.Time{slow: time.Now().Add(-2 * holdStuck)}
	mustEnter(t, h, slow)
	h.Leave(slow)
	for range 2 {
		var out HoldOutcome
		disk.soon("Finish", func() { out = finishHold(t, h, th, slow) })
		if out.Done || out.Why != HoldWriteback || out.RetryAfter <= 0 {
			t.Errorf("finish: %+v", out)
		}
	}
	if n := strings.Count(log.String(), "directories of ended units wait"); n != 1 {
		t.Errorf("reported %d times:\n%s", n, &log)
	}
	disk.soon("Close", func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	if !tr.fs.Exists(slow) {
		t.Error("removed")
	}
	disk.Answers()
	for end := time.Now().Add(20 * time.Second); m.since(slow) > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	if m.since(slow) > 0 {
		t.Error("the write has not ended, although the disk answers")
	}
	m.end()
}
