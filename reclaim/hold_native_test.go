package reclaim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// v1TestTree is a cgroup of the test's own in the machine's v1 memory
// hierarchy, removed with all below it at the end.
type v1TestTree struct {
	t    *testing.T
	fs   *FS
	base string
}

func newV1TestTree(t *testing.T) v1TestTree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes memory cgroups of its own")
	}
	h, err := FindHierarchy()
	if errors.Is(err, ErrNoMemoryController) || err == nil && h.Mode.V2() {
		t.Skip("needs the memory controller as cgroup v1")
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := OpenFS(h.Root)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.NewReplacer("/", "-", "#", "-").Replace(t.Name())
	tree := v1TestTree{t, f, fmt.Sprintf("/scopereap-test-%d-%s", os.Getpid(), name)}
	if err := f.Mkdir(tree.base); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var all []string
		w := walk{fs: f, over: &PassedOver{}}
		for more := w.start(tree.base, 0) == nil; more; {
			_ = w.each(nil, func(c *child) { all = append(all, c.path()); w.enter(c.name, 0) })
			more, _ = w.next()
		}
		for i := len(all) - 1; i >= 0; i-- {
			tree.drop(all[i])
		}
		tree.drop(tree.base)
		f.Close()
	})
	return tree
}

func (tr v1TestTree) drop(cgroup string) {
	b, _ := tr.fs.Read(cgroup, v1TasksFile, nil)
	for tid := range strings.FieldsSeq(string(b)) {
		_ = tr.fs.Write("/", v1TasksFile, tid)
	}
	var err error
	for range 100 {
		if err = tr.fs.Rmdir(cgroup); err == nil || gone(err) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	tr.t.Errorf("left behind: %v", err)
}

func (tr v1TestTree) mkdir(name string) string {
	tr.t.Helper()
	cgroup := tr.base + "/" + name
	if err := tr.fs.Mkdir(cgroup); err != nil {
		tr.t.Fatal(err)
	}
	return cgroup
}

// run runs a shell command as a process of the cgroup.
func (tr v1TestTree) run(cgroup, command string, args ...string) {
	tr.t.Helper()
	script := fmt.Sprintf(`echo $$ > %q && %s`, tr.fs.Root()+cgroup+"/tasks", command)
	out, err := exec.Command("sh", append([]string{"-c", script, "sh"}, args...)...).CombinedOutput()
	if err != nil {
		tr.t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// cleanFile makes a file whose pages are on disk and not in the cache.
func cleanFile(t *testing.T, size int) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	return name
}

func testThread(t *testing.T) *Thread {
	t.Helper()
	th, err := StartThread(t.Context())
	if err != nil {
		t.Log(err)
	}
	return th
}

func finishHold(t *testing.T, h *Hold, th *Thread, cgroup string) HoldOutcome {
	t.Helper()
	var out HoldOutcome
	var err error
	th.Do(t.Context(), func() { out, err = h.Finish(context.Background(), th, cgroup, time.Second) })
	if err != nil {
		t.Fatalf("Finish %s: %v", cgroup, err)
	}
	return out
}

// finishHoldWait tries again when the outcome says so: the kernel's counters
// may need two seconds to agree, and file pages their writeback.
func finishHoldWait(t *testing.T, h *Hold, th *Thread, cgroup string) HoldOutcome {
	t.Helper()
	out := finishHold(t, h, th, cgroup)
	for try := 0; !out.Done && try < 5; try++ {
		time.Sleep(out.RetryAfter)
		freed := out.Freed
		out = finishHold(t, h, th, cgroup)
		out.Freed += freed
	}
	return out
}

func mustEnter(t *testing.T, h *Hold, cgroup string) {
	t.Helper()
	if err := h.Enter(cgroup); err != nil {
		t.Fatal(err)
	}
}

func closeHold(t *testing.T, h *Hold) {
	t.Helper()
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestHoldKeepsAndEmpties(t *testing.T) {
	tr := newV1TestTree(t)
	scope := tr.mkdir("session-1.scope")
	h := NewHold(tr.fs, HoldOptions{Max: 2, Deadline: time.Minute})
	closeHold(t, h)

	mustEnter(t, h, scope)
	mustEnter(t, h, scope)
	if c := h.Count(); c != (HoldCount{Held: 1, Threads: 1}) {
		t.Errorf("entered twice: %+v", c)
	}
	const size = 4 << 20
	tr.run(scope, `exec cat "$1" >/dev/null`, cleanFile(t, size))

	if err := tr.fs.Rmdir(scope); !errors.Is(err, unix.EBUSY) {
		t.Fatalf("rmdir of a held directory: %v, want EBUSY", err)
	}
	th := testThread(t)
	if out := finishHold(t, h, th, scope); !out.Done || out.Removed || out.Why != HoldLive {
		t.Fatalf("finished before its unit had ended: %+v", out)
	}
	if !h.Leave(scope) || h.Leave(tr.base+"/other.scope") {
		t.Error("Leave does not tell held from unheld")
	}
	out := finishHoldWait(t, h, th, scope)
	if !out.Done || !out.Removed || out.Freed < size/2 || len(out.Pins) > 0 {
		t.Errorf("finish: %+v", out)
	}
	if tr.fs.Exists(scope) {
		t.Error("the directory is still there")
	}
	if c := h.Count(); c != (HoldCount{}) {
		t.Errorf("after the end: %+v", c)
	}
}

func TestHoldEnterErrors(t *testing.T) {
	tr := newV1TestTree(t)
	h := NewHold(tr.fs, HoldOptions{Max: 1})
	closeHold(t, h)
	if err := h.Enter(tr.base + "/none.scope"); !errors.Is(err, ErrHoldNotThere) {
		t.Errorf("no directory: %v", err)
	}
	mustEnter(t, h, tr.mkdir("a.scope"))
	if err := h.Enter(tr.mkdir("b.scope")); !errors.Is(err, ErrHoldFull) {
		t.Errorf("beyond the maximum: %v", err)
	}
	if err := h.Enter("/"); err == nil {
		t.Error("held the root")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Enter(tr.base + "/b.scope"); !errors.Is(err, ErrHoldClosed) {
		t.Errorf("after Close: %v", err)
	}
	_, err := h.Finish(t.Context(), nil, tr.base+"/b.scope", time.Second)
	if !errors.Is(err, ErrHoldNotHeld) {
		t.Errorf("finish of what was never held: %v", err)
	}
}

// TestHoldSpares: what is in use again is neither emptied nor removed.
func TestHoldSpares(t *testing.T) {
	tr := newV1TestTree(t)
	live := false
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Minute, Live: func(string) bool { return live }})
	closeHold(t, h)
	th := testThread(t)

	scope := tr.mkdir("user@1.service")
	mustEnter(t, h, scope)
	tr.run(scope, `exec cat "$1" >/dev/null`, cleanFile(t, 2<<20))
	h.Leave(scope)
	before, err := v1ReadBytes(tr.fs, scope, v1UsageFile)
	if err != nil {
		t.Fatal(err)
	}

	live = true
	if out := finishHold(t, h, th, scope); out.Done || out.Why != HoldLive || out.RetryAfter == 0 {
		t.Errorf("a unit that systemd has: %+v", out)
	}
	live = false
	// Somebody else's task: a thread of this test that h does not know.
	other := startHoldThread()
	defer other.end()
	if err := tr.fs.Write(scope, v1TasksFile, strconv.Itoa(other.tid)); err != nil {
		t.Fatal(err)
	}
	if out := finishHold(t, h, th, scope); out.Done || out.Why != HoldTasks {
		t.Errorf("somebody else inside: %+v", out)
	}
	if now, err := v1ReadBytes(tr.fs, scope, v1UsageFile); err != nil || now < before/2 {
		t.Errorf("a live directory was emptied: %d -> %d bytes, %v", before, now, err)
	}
	mustEnter(t, h, scope)
	if out := finishHold(t, h, th, scope); !out.Done || out.Why != HoldLive {
		t.Errorf("entered again: %+v", out)
	}
}

// TestHoldReplaced: the same path made anew is not the directory that was held.
func TestHoldReplaced(t *testing.T) {
	tr := newV1TestTree(t)
	h := NewHold(tr.fs, HoldOptions{Max: 9})
	closeHold(t, h)
	scope := tr.mkdir("run-r1.scope")
	mustEnter(t, h, scope)
	tr.drop(scope)
	tr.mkdir("run-r1.scope")
	h.Leave(scope)
	if out := finishHold(t, h, testThread(t), scope); !out.Done || out.Removed {
		t.Errorf("finish: %+v", out)
	}
	if !tr.fs.Exists(scope) {
		t.Error("removed a directory it had never held")
	}
}

// TestHoldDeadlineKeepsTasks: past the deadline, somebody else's tasks keep the
// directory as it is, and it is finished once they are gone.
func TestHoldDeadlineKeepsTasks(t *testing.T) {
	tr := newV1TestTree(t)
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "holds")
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: 0, JournalPath: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	closeHold(t, h)
	th := testThread(t)
	scope := tr.mkdir("run-r2.scope")
	mustEnter(t, h, scope)
	other := startHoldThread()
	defer other.wait()
	if err := tr.fs.Write(scope, v1TasksFile, strconv.Itoa(other.tid)); err != nil {
		t.Fatal(err)
	}
	h.Leave(scope)
	for range 3 {
		if out := finishHold(t, h, th, scope); out.Done || out.Removed || out.Why != HoldTasks || out.RetryAfter <= 0 {
			t.Errorf("finish: %+v", out)
		}
	}
	if !tr.fs.Exists(scope) || h.Count() != (HoldCount{Waiting: 1, Threads: 1}) {
		t.Errorf("exists %v, %+v", tr.fs.Exists(scope), h.Count())
	}
	if n := strings.Count(log.String(), "tasks are left"); n != 1 || !strings.Contains(log.String(), "cgroup="+scope) {
		t.Errorf("reported %d times:\n%s", n, &log)
	}
	if recs, _, err := (&holdJournal{path: path}).load(); err != nil || len(recs) != 1 || recs[0].Cgroup != scope {
		t.Errorf("the next start would find %v, %v", recs, err)
	}
	other.end()
	other.wait()
	if out := finishHoldWait(t, h, th, scope); !out.Done || !out.Removed {
		t.Errorf("after they had gone: %+v", out)
	}
	if tr.fs.Exists(scope) || h.Count() != (HoldCount{}) {
		t.Errorf("exists %v, %+v", tr.fs.Exists(scope), h.Count())
	}
}

// TestHoldParents: a slice that systemd could not remove because of a held
// directory below it goes with its last child, held or not.
func TestHoldParents(t *testing.T) {
	for _, holdSlice := range []bool{true, false} {
		t.Run(fmt.Sprintf("held=%v", holdSlice), func(t *testing.T) {
			tr := newV1TestTree(t)
			live := func(c string) bool { return c == tr.base }
			h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Minute, Live: live})
			closeHold(t, h)
			th := testThread(t)
			slice := tr.mkdir("user-1.slice")
			one, two := tr.mkdir("user-1.slice/session-1.scope"), tr.mkdir("user-1.slice/session-2.scope")
			for _, c := range []string{one, two} {
				mustEnter(t, h, c)
				h.Leave(c)
			}
			if holdSlice {
				mustEnter(t, h, slice)
				h.Leave(slice)
				if out := finishHold(t, h, th, slice); out.Done || out.Why != HoldChildren {
					t.Errorf("a slice with children: %+v", out)
				}
			}
			// A held parent is named by each child, an adopted one by
			// the last.
			first := finishHoldWait(t, h, th, one)
			last := finishHoldWait(t, h, th, two)
			if !first.Removed || !last.Removed || len(last.Parents) != 1 || last.Parents[0] != slice {
				t.Fatalf("children: %+v, then %+v", first, last)
			}
			out := finishHoldWait(t, h, th, slice)
			if !out.Removed || len(out.Parents) > 0 {
				t.Errorf("slice: %+v", out)
			}
			if !tr.fs.Exists(tr.base) {
				t.Error("went above what systemd left")
			}
		})
	}
}

// shmemFile names a file in a directory of its own on a tmpfs, which goes with
// the test.
func shmemFile(t *testing.T) string {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Skip("needs a tmpfs at /dev/shm")
	}
	dir, err := os.MkdirTemp("/dev/shm", "scopereap-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "file")
}

func TestHoldShmemStays(t *testing.T) {
	tr := newV1TestTree(t)
	file := shmemFile(t)
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Minute})
	closeHold(t, h)
	scope := tr.mkdir("session-3.scope")
	mustEnter(t, h, scope)
	tr.run(scope, `exec dd if=/dev/zero of="$1" bs=64k count=32 2>/dev/null`, file)
	h.Leave(scope)
	th := testThread(t)
	out := finishHoldWait(t, h, th, scope)
	if !out.Removed || len(out.Pins) == 0 || out.Pins[0].Reason != PinnedShmem || out.Pins[0].Bytes != 2<<20 {
		t.Errorf("finish: %+v", out)
	}
}

// TestHoldDirty: the writeback of dirty pages is begun, and they go once they are written, without a sync.
func TestHoldDirty(t *testing.T) {
	tr := newV1TestTree(t)
	name := filepath.Join(t.TempDir(), "dirty")
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Hour})
	closeHold(t, h)
	scope := tr.mkdir("session-4.scope")
	mustEnter(t, h, scope)
	tr.run(scope, `exec dd if=/dev/zero of="$1" bs=64k count=32 2>/dev/null`, name)
	h.Leave(scope)
	th := testThread(t)
	out := finishHold(t, h, th, scope)
	if !out.Done {
		if out.Why == HoldPages && (len(out.Pins) == 0 || out.RetryAfter == 0) {
			t.Errorf("waits without a reason or a time: %+v", out)
		}
		if err := tr.fs.Rmdir(scope); !errors.Is(err, unix.EBUSY) {
			t.Errorf("not held while it waits: %v", err)
		}
	}
	if !out.Done {
		time.Sleep(out.RetryAfter)
		out = finishHoldWait(t, h, th, scope)
	}
	if !out.Removed || len(out.Pins) > 0 {
		t.Errorf("after the writeback: %+v", out)
	}
}

// TestHoldConcurrently: units come and go from all sides while the thread
// finishes what is left, and Close ends it all in the middle.
func TestHoldConcurrently(t *testing.T) {
	tr := newV1TestTree(t)
	h := NewHold(tr.fs, HoldOptions{
		Max: 8, Deadline: time.Minute, JournalPath: filepath.Join(t.TempDir(), "holds"),
		Live: func(c string) bool { return c == tr.base },
	})
	th := testThread(t)
	left := make(chan string, 64)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 30 {
				scope := fmt.Sprintf("%s/s%d-%d.scope", tr.base, g, i%5)
				if err := tr.fs.Mkdir(scope); err != nil && !errors.Is(err, unix.EEXIST) {
					t.Error(err)
				}
				switch err := h.Enter(scope); {
				case err == nil:
					if h.Leave(scope) {
						left <- scope
					}
				case !errors.Is(err, ErrHoldFull) && !errors.Is(err, ErrHoldNotThere):
					t.Error(err)
				}
			}
		})
	}
	go func() { wg.Wait(); close(left) }()
	for scope := range left {
		th.Do(t.Context(), func() {
			if _, err := h.Finish(context.Background(), th, scope, time.Second); err != nil && !errors.Is(err, ErrHoldNotHeld) {
				t.Error(err)
			}
		})
	}
	waiting := h.Count()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if c := h.Count(); c != (HoldCount{}) {
		t.Errorf("after Close: %+v, before: %+v", c, waiting)
	}
}

func TestHoldThreadIsNeverMain(t *testing.T) {
	var threads []*holdThread
	for range 50 {
		th := startHoldThread()
		if th.tid == os.Getpid() {
			t.Error("a holder took the main thread")
		}
		threads = append(threads, th)
	}
	for _, th := range threads {
		th.end()
		th.wait()
		if err := unix.Tgkill(os.Getpid(), th.tid, 0); err != unix.ESRCH {
			t.Errorf("thread %d did not end: %v", th.tid, err)
		}
	}
}

// TestEngineHolds: a unit's directory is held while it lives, and emptied and removed once
// it has ended, with what only it has kept above; one that nobody held is not.
func TestEngineHolds(t *testing.T) {
	tr := newV1TestTree(t)
	slice := tr.mkdir("user-1.slice")
	scope, other := tr.mkdir("user-1.slice/session-1.scope"), tr.mkdir("other.scope")
	var ended sync.Map
	live := func(c string) bool { _, is := ended.Load(c); return !is }
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Minute, Live: live})
	closeHold(t, h)
	h.vmstat = "" // this machine's disks are busy
	outcomes, lefts := make(chan Outcome, 10), make(chan Left, 10)
	r := &engineRun{t: t, outcomes: outcomes, lefts: lefts, journal: filepath.Join(t.TempDir(), "shields")}
	r.Engine = NewEngine(EngineOptions{
		Hierarchy: Hierarchy{Mode: Legacy}, FS: tr.fs, Config: testConfig(), Journal: r.journal, Hold: h,
		OnOutcome: func(o Outcome) { outcomes <- o }, OnLeft: func(l Left) { lefts <- l },
	})
	r.start()
	r.Started(tr.base + "/none.scope") // has no memory accounting
	r.Started(scope)
	waitFor(t, "the hold", func() bool { return h.Count().Held == 1 })
	if s := r.Status(); s.Held != (HoldCount{Held: 1, Threads: 1}) {
		t.Errorf("%+v", s.Held)
	}
	// systemd tells of a unit before it makes its directory.
	r.holdEnter(tr.base+"/late.scope", 0)
	late := tr.mkdir("late.scope")
	waitFor(t, "the one that came late", func() bool { return h.Count().Held == 2 })
	ended.Store(late, true)
	if !h.Leave(late) || !finishHoldWait(t, h, testThread(t), late).Removed {
		t.Error("the one that came late stays")
	}
	r.Teardown(other, time.Now())
	for _, c := range []string{slice, scope} {
		ended.Store(c, true)
	}
	r.Teardown(scope, time.Now())
	for _, want := range []string{scope, slice} {
		o := r.outcome()
		if o.Ancestor != want || o.Verdict != MayReap || o.DyingBefore != 1 || o.Freed != 1 || o.DyingAfter != 0 || len(o.Pins) > 0 || o.Turns == 0 {
			t.Errorf("%+v", o)
		}
		if l := r.left(); l.Ancestor != path.Dir(want) || len(l.Cgroups) != 1 || l.Cgroups[0] != want || l.Dying != 0 {
			t.Errorf("%+v", l)
		}
		if tr.fs.Exists(want) {
			t.Errorf("%s stays", want)
		}
	}
	if !tr.fs.Exists(other) || h.Count() != (HoldCount{}) {
		t.Errorf("%s is gone, or something is held: %+v", other, h.Count())
	}
}

// TestHoldSomebodyComesIn: what is not empty any more when it is to be removed is held
// again, and tried again.
func TestHoldSomebodyComesIn(t *testing.T) {
	tr := newV1TestTree(t)
	asked, scope := 0, tr.mkdir("session-1.scope")
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Minute, Live: func(c string) bool {
		if asked++; c == scope && asked == 2 { // the last look before it is removed
			if err := tr.fs.Mkdir(scope + "/in"); err != nil {
				t.Error(err)
			}
		}
		return false
	}})
	closeHold(t, h)
	mustEnter(t, h, scope)
	h.Leave(scope)
	h.entries[scope].left = time.Now().Add(-holdStatFresh)
	out := finishHold(t, h, testThread(t), scope)
	if out.Done || out.Removed || out.Why != HoldTasks || out.RetryAfter <= 0 {
		t.Errorf("%+v", out)
	}
	if c := h.Count(); c.Waiting != 1 || c.Threads != 1 {
		t.Errorf("%+v", c)
	}
}

// TestHoldParentInUse: what is above a finished directory is left alone while its unit
// lives, held or not, or while tasks are in it.
func TestHoldParentInUse(t *testing.T) {
	for _, c := range []string{"held", "live", "tasks"} {
		t.Run(c, func(t *testing.T) {
			tr := newV1TestTree(t)
			slice := tr.mkdir("user-1.slice")
			scope := tr.mkdir("user-1.slice/session-1.scope")
			h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Minute, Live: func(p string) bool { return c == "live" && p == slice }})
			closeHold(t, h)
			switch c {
			case "held":
				mustEnter(t, h, slice)
			case "tasks":
				cmd := exec.Command("sleep", "600")
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
				if err := tr.fs.Write(slice, "cgroup.procs", strconv.Itoa(cmd.Process.Pid)); err != nil {
					t.Fatal(err)
				}
			}
			mustEnter(t, h, scope)
			h.Leave(scope)
			h.entries[scope].left = time.Now().Add(-holdStatFresh)
			if out := finishHold(t, h, testThread(t), scope); !out.Removed || len(out.Parents) > 0 || !tr.fs.Exists(slice) {
				t.Errorf("%+v", out)
			}
		})
	}
}
