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
)

// v1Dir makes a v1 cgroup of ordinary files, in which nothing is and which has charged 8 MiB of page cache.
func (x *fixture) v1Dir(cgroup string, dirty, writeback int64) string {
	x.t.Helper()
	if err := os.MkdirAll(x.path(cgroup, ""), 0o755); err != nil {
		x.t.Fatal(err)
	}
	var stat strings.Builder
	for _, prefix := range []string{"", v1TotalPrefix} {
		fmt.Fprintf(&stat, "%[1]scache %[2]d\n%[1]sdirty %[3]d\n%[1]swriteback %[4]d\n", prefix, 8*testMiB, dirty, writeback)
	}
	x.file(cgroup, v1StatFile, stat.String())
	x.file(cgroup, v1UsageFile, fmt.Sprintln(8*testMiB))
	x.file(cgroup, v1TasksFile, "")
	x.file(cgroup, v1ForceEmptyFile, "")
	return cgroup
}

// TestSweepWaitsForWriteback: a v1 ancestor is not emptied while pages below it are under writeback, nor at once while
// some are dirty; one that always is is given up in the end, and reported.
func TestSweepWaitsForWriteback(t *testing.T) {
	for _, c := range []struct {
		name             string
		dirty, writeback int64
		waits            int // looks before it is written to
		givenUp          bool
	}{
		{"clean", 0, 0, 0, false},
		{"what the living go on writing", 8192, 0, forceLooks, false},
		{"a disk that does not answer", 4096, 8192, 2 * forceLooks, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newFixture(t)
			x.v1Dir("/p", c.dirty, c.writeback)
			var log bytes.Buffer
			var ended []Outcome
			e := NewEngine(EngineOptions{
				Hierarchy: Hierarchy{Mode: Legacy}, FS: x.fs, Config: testConfig(),
				Logger:    slog.New(slog.NewTextHandler(&log, nil)),
				OnOutcome: func(o Outcome) { ended = append(ended, o) },
			})
			e.thread = testThread(t)
			t.Cleanup(e.emptier.end)
			now := time.Now()
			e.queue.forceEmpty("/p", now)
			en, _ := e.queue.next(now)
			waits := 0
			for ; len(ended) == 0 && x.read("/p", v1ForceEmptyFile) == "" && waits < 100; waits++ {
				e.thread.Do(t.Context(), func() { e.forceEmpty(t.Context(), en, testConfig(), time.Second) })
				if x.read("/p", v1ForceEmptyFile) != "" || len(ended) > 0 {
					break
				}
				if wait := time.Until(en.due); wait <= 0 || wait > holdRetryMost {
					t.Fatalf("look %d: the next one is in %v", waits, wait)
				}
			}
			if waits != c.waits {
				t.Errorf("it waited for %d looks, want %d", waits, c.waits)
			}
			if !c.givenUp {
				if got := x.read("/p", v1ForceEmptyFile); got != "0" {
					t.Errorf("force_empty got %q", got)
				}
				return
			}
			if len(ended) != 1 || ended[0].Verdict != Failed || len(ended[0].Pins) != 1 || ended[0].Pins[0] != (Pin{PinnedDirty, 12288}) {
				t.Errorf("%+v", ended)
			}
			if n := strings.Count(log.String(), "not emptied:"); n != 1 || x.read("/p", v1ForceEmptyFile) != "" {
				t.Errorf("force_empty got %q; reported %d times:\n%s", x.read("/p", v1ForceEmptyFile), n, &log)
			}
		})
	}
}

// leftFixture is a Hold with a directory of ordinary files whose unit has ended so long ago.
func leftFixture(t *testing.T, x *fixture, h *Hold, cgroup string, ago time.Duration) {
	t.Helper()
	id, err := x.fs.ID(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	h.entries[cgroup] = &heldDir{id: id, left: time.Now().Add(-ago)}
}

// TestHoldWaitsForCounters: what a unit wrote last does not show for some seconds. While the disks are busy it is
// waited for, or force_empty might meet it.
func TestHoldWaitsForCounters(t *testing.T) {
	for _, c := range []struct {
		name      string
		writeback int
		ago       time.Duration
		empties   bool
	}{
		{"idle disks", 0, 0, true},
		{"busy disks", 12, 0, false},
		{"busy disks, exact counters", 12, holdStatFresh, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newFixture(t)
			x.v1Dir("/a.scope", 0, 0)
			h := NewHold(x.fs, HoldOptions{Deadline: time.Hour})
			t.Cleanup(h.emptier.end)
			h.vmstat = filepath.Join(t.TempDir(), "vmstat")
			if err := os.WriteFile(h.vmstat, fmt.Appendf(nil, "nr_dirty 7\nnr_writeback %d\nnr_writeback_temp 5\n", c.writeback), 0o600); err != nil {
				t.Fatal(err)
			}
			leftFixture(t, x, h, "/a.scope", c.ago)
			out := finishHold(t, h, testThread(t), "/a.scope")
			if emptied := x.read("/a.scope", v1ForceEmptyFile) == "0"; emptied != c.empties || out.Done {
				t.Errorf("emptied: %v, %+v", emptied, out)
			}
			if !c.empties && (out.Why != HoldFresh || out.RetryAfter <= 0) {
				t.Errorf("it waits as %+v", out)
			}
			x.file("/a.scope", v1ForceEmptyFile, "")
			why, err := h.emptyOnce(context.Background(), &h.emptier, &Thread{}, "/a.scope", &heldDir{left: time.Now().Add(-c.ago)})
			if emptied := x.read("/a.scope", v1ForceEmptyFile) == "0"; emptied != c.empties || err != nil || why == holdEmpty {
				t.Errorf("at the end: emptied %v, %q, %v", emptied, why, err)
			}
		})
	}
}

// TestHoldTasksUnreadable: where nobody can say who is inside, somebody may be.
func TestHoldTasksUnreadable(t *testing.T) {
	x := newFixture(t)
	x.v1Dir("/a.scope", 0, 0)
	h := NewHold(x.fs, HoldOptions{Deadline: time.Hour})
	t.Cleanup(h.emptier.end)
	leftFixture(t, x, h, "/a.scope", time.Minute)
	x.block("/a.scope", v1TasksFile)
	out := finishHold(t, h, testThread(t), "/a.scope")
	if got := x.read("/a.scope", v1ForceEmptyFile); out.Done || out.Why != HoldTasks || got != "" {
		t.Errorf("%+v; force_empty got %q", out, got)
	}
}

// TestHoldReportsDisk: dirty pages that no flusher has taken for long are reported once, and that it is over as well.
func TestHoldReportsDisk(t *testing.T) {
	x := newFixture(t)
	var log bytes.Buffer
	h := NewHold(x.fs, HoldOptions{Deadline: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	t.Cleanup(h.emptier.end)
	th := testThread(t)
	for _, c := range []string{"/a.scope", "/b.scope"} {
		x.v1Dir(c, 4096, 4096)
		leftFixture(t, x, h, c, holdWritebackLong-time.Second)
		finishHold(t, h, th, c)
	}
	if log.Len() > 0 {
		t.Errorf("reported while the flusher has time:\n%s", &log)
	}
	for range 2 {
		for _, c := range []string{"/a.scope", "/b.scope"} {
			h.entries[c].left = time.Now().Add(-holdWritebackLong - time.Second)
			if out := finishHold(t, h, th, c); out.Done || out.Why != HoldPages || out.dirty() != 8192 {
				t.Errorf("%+v", out)
			}
		}
	}
	if n := strings.Count(log.String(), "wait for a disk; look"); n != 1 || !strings.Contains(log.String(), "bytes=8192") {
		t.Errorf("reported %d times:\n%s", n, &log)
	}
	if c := h.Count(); c.HeldUp != 2 {
		t.Errorf("counted: %+v", c)
	}
	log.Reset()
	h.forget("/a.scope")
	if c := h.Count(); log.Len() > 0 || c.HeldUp != 1 {
		t.Errorf("one still waits: %+v\n%s", c, &log)
	}
	x.v1Dir("/b.scope", 0, 0) // its disk answers, and what is left is not dirty
	finishHold(t, h, th, "/b.scope")
	if c := h.Count(); c.HeldUp != 0 {
		t.Errorf("counted: %+v", c)
	}
	if n := strings.Count(log.String(), "no directory waits"); n != 1 {
		t.Errorf("its end was reported %d times:\n%s", n, &log)
	}
}

// TestV1EmptierBounds: its writes are charged to whom they were made for, and no more are begun than may be held up.
func TestV1EmptierBounds(t *testing.T) {
	x := newFixture(t)
	x.v1Dir("/a", 0, 0)
	var m v1Emptier
	th := testThread(t)
	empty := func() (err error) {
		th.Do(t.Context(), func() { _, err = m.forceEmpty(t.Context(), th, x.fs, "/a", time.Second) })
		return err
	}
	for range 3 {
		had := th.aside
		if err := empty(); err != nil || th.aside <= had || m.cpu != 0 {
			t.Errorf("%v; charged %v, then %v, and %v to nobody", err, had, th.aside, m.cpu)
		}
	}
	helper := m.spare
	if helper == nil {
		t.Fatal("its thread is not kept for the next write")
	}
	m.mu.Lock()
	for i := range v1UnderMost {
		m.under[fmt.Sprint("/held-up-", i)] = time.Now()
	}
	m.mu.Unlock()
	if err := empty(); !errors.Is(err, ErrV1HeldUp) {
		t.Errorf("beyond %d: %v", v1UnderMost, err)
	}
	m.mu.Lock()
	clear(m.under)
	m.mu.Unlock()
	if err := empty(); err != nil || m.spare != helper {
		t.Errorf("once they have ended: %v, and another thread: %v", err, m.spare != helper)
	}
	m.end()
	if err := empty(); !errors.Is(err, ErrV1HeldUp) {
		t.Errorf("after the end: %v", err)
	}
}

// TestEngineReportsFullRun: without room for the journal nothing can be reclaimed, which is said at the start.
func TestEngineReportsFullRun(t *testing.T) {
	x := newFixture(t)
	for _, full := range []bool{false, true} {
		dir := smallFS(t, 4)
		if full {
			// The journal itself is there already: a full tmpfs has no room for a name either.
			if err := os.WriteFile(filepath.Join(dir, "shields"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			fill(t, dir)
		}
		var log bytes.Buffer
		e := NewEngine(EngineOptions{
			Hierarchy: Hierarchy{Mode: Unified}, FS: x.fs, Config: testConfig(), Journal: filepath.Join(dir, "shields"),
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err := e.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := 0
		if full {
			want = 1
		}
		if n := strings.Count(log.String(), "make room in its file system"); n != want {
			t.Errorf("full %v: reported %d times:\n%s", full, n, &log)
		}
		if err := e.reap.journal.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestHoldKickBacksOff: where dirty pages stay, their writeback is not begun again and again without a pause.
func TestHoldKickBacksOff(t *testing.T) {
	x := newFixture(t)
	x.v1Dir("/a.scope", 4096, 0)
	h := NewHold(x.fs, HoldOptions{Deadline: time.Hour})
	t.Cleanup(h.emptier.end)
	th := testThread(t)
	leftFixture(t, x, h, "/a.scope", time.Second)
	want := []time.Duration{holdRetryKicked, 2 * holdRetryFirst, 4 * holdRetryFirst, holdRetryMost, holdRetryMost}
	for i, want := range want {
		out := finishHold(t, h, th, "/a.scope")
		if out.Done || out.Why != HoldPages || out.RetryAfter != want {
			t.Errorf("try %d: %+v, want a pause of %v", i, out, want)
		}
		waitFor(t, "the kick's end", func() bool { return h.emptier.since("/a.scope") == 0 })
		if got := x.read("/a.scope", v1ForceEmptyFile); got != "0" {
			t.Errorf("try %d: force_empty got %q", i, got)
		}
		x.file("/a.scope", v1ForceEmptyFile, "")
	}
	// Not while the flusher is at it.
	x.v1Dir("/a.scope", 4096, 4096)
	if out := finishHold(t, h, th, "/a.scope"); out.Why != HoldPages || h.emptier.since("/a.scope") > 0 {
		t.Errorf("under writeback: %+v", out)
	}
}

// TestHoldCloseWritesNotWhileDirty: at the end, what waits for a disk is left to the next start.
func TestHoldCloseWritesNotWhileDirty(t *testing.T) {
	x := newFixture(t)
	x.v1Dir("/a.scope", 4096, 0)
	h := NewHold(x.fs, HoldOptions{})
	t.Cleanup(h.emptier.end)
	why, err := h.emptyOnce(context.Background(), &h.emptier, &Thread{}, "/a.scope", &heldDir{left: time.Now().Add(-holdStatFresh)})
	if got := x.read("/a.scope", v1ForceEmptyFile); why != HoldPages || err != nil || got != "" {
		t.Errorf("%q, %v; force_empty got %q", why, err, got)
	}
}

// TestHoldAtItsDeadline: no try is put off beyond the deadline. Then what has children
// waits for them, and what lives again is held.
func TestHoldAtItsDeadline(t *testing.T) {
	x := newFixture(t)
	x.v1Dir("/a.slice/b.scope", 0, 0)
	x.v1Dir("/a.slice", 0, 0)
	live := map[string]bool{}
	h := NewHold(x.fs, HoldOptions{Deadline: time.Minute, Live: func(c string) bool { return live[c] }})
	t.Cleanup(h.emptier.end)
	th := testThread(t)
	leftFixture(t, x, h, "/a.slice", time.Minute-holdRetryFirst/2)
	if out := finishHold(t, h, th, "/a.slice"); out.Done || out.Why != HoldChildren || out.RetryAfter > holdRetryFirst/2 || out.RetryAfter <= 0 {
		t.Errorf("before it: %+v", out)
	}
	leftFixture(t, x, h, "/a.slice", 2*time.Minute)
	if out := finishHold(t, h, th, "/a.slice"); out.Done || out.Why != HoldChildren || out.RetryAfter != holdRetryFirst {
		t.Errorf("after it, with a child: %+v", out)
	}
	live["/a.slice"] = true
	if out := finishHold(t, h, th, "/a.slice"); !out.Done || out.Removed || out.Why != HoldLive {
		t.Errorf("after it, alive: %+v", out)
	}
	if c := h.Count(); c.Held != 1 || c.Waiting != 0 {
		t.Errorf("%+v", c)
	}
}

// TestHoldReentered: of a directory that was made again under the same name the new one is
// held, with one thread, and the old one is not in the journal any more.
func TestHoldReentered(t *testing.T) {
	x := newFixture(t)
	journal := filepath.Join(t.TempDir(), "holds")
	h := NewHold(x.fs, HoldOptions{Max: 2, JournalPath: journal})
	t.Cleanup(h.emptier.end)
	x.file("/", v1TasksFile, "")
	x.v1Dir("/a.scope", 0, 0)
	mustEnter(t, h, "/a.scope")
	if err := os.Rename(x.path("/a.scope", ""), x.path("/", "old")); err != nil {
		t.Fatal(err)
	}
	x.v1Dir("/a.scope", 0, 0)
	mustEnter(t, h, "/a.scope")
	id, err := x.fs.ID("/a.scope")
	if err != nil {
		t.Fatal(err)
	}
	if c := h.Count(); c != (HoldCount{Held: 1, Threads: 1}) || h.entries["/a.scope"].id != id {
		t.Errorf("%+v", c)
	}
	if in, _, err := h.journal.load(); err != nil || len(in) != 1 || in[0].ID != id {
		t.Errorf("the journal has %+v, %v", in, err)
	}
	h.mu.Lock()
	h.forget("/a.scope")
	h.mu.Unlock()
}

// TestHoldBehindAWrite: what a force_empty under way keeps is not touched, and looked at
// again the rarer the longer that takes.
func TestHoldBehindAWrite(t *testing.T) {
	x := newFixture(t)
	x.v1Dir("/a.scope", 0, 0)
	h := NewHold(x.fs, HoldOptions{Deadline: time.Second})
	t.Cleanup(h.emptier.end)
	th := testThread(t)
	leftFixture(t, x, h, "/a.scope", time.Hour) // whatever the deadline
	for _, c := range []struct {
		under, want time.Duration
		heldUp      int
	}{{-time.Minute, holdRetryKicked, 0}, {holdRetryFirst, holdRetryFirst, 0}, {holdStuck, holdRetryMost, 1}} {
		h.emptier.under = map[string]time.Time{"/a.scope": time.Now().Add(-c.under)}
		out := finishHold(t, h, th, "/a.scope")
		if out.Done || out.Why != HoldWriteback || out.RetryAfter != c.want || x.read("/a.scope", v1ForceEmptyFile) != "" || h.Count().HeldUp != c.heldUp {
			t.Errorf("under way for %v: %+v, %+v", c.under, out, h.Count())
		}
	}
}
