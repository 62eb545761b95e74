package reclaim

import (
	"context"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestHoldWatch: a unit is held before anybody tells of it, in a slice that was there as in one that came, and one that
// went without a word is found.
func TestHoldWatch(t *testing.T) {
	tr := newV1TestTree(t)
	var dead atomic.Value // the cgroup of a unit that went
	dead.Store("")
	h := NewHold(tr.fs, HoldOptions{
		Max: 9, Deadline: time.Hour,
		Live: func(c string) bool { return strings.HasPrefix(c, tr.base) && c != dead.Load() },
	})
	closeHold(t, h)
	before := tr.mkdir("a-1.scope")
	w := &holdWatchRun{t: t, h: h, base: tr.base}
	w.start(func(unit string) bool { return strings.HasSuffix(unit, ".scope") })
	held := func(cgroup string) {
		t.Helper()
		waitFor(t, cgroup+" is held", func() bool {
			b, err := tr.fs.Read(cgroup, v1TasksFile, nil)
			return err == nil && len(b) > 0
		})
	}
	held(before)
	held(tr.mkdir("a-2.scope"))
	tr.mkdir("a.slice")
	deep := tr.mkdir("a.slice/a-3.scope")
	held(deep)
	tr.mkdir("a.slice/other.service")
	if err := tr.fs.Rmdir(tr.base + "/a.slice/other.service"); err != nil {
		t.Errorf("held what is not to be held: %v", err)
	}
	if got := h.Ended(); len(got) != 0 {
		t.Errorf("ended: %q", got)
	}
	nobodys := tr.base + "/a-4.scope" // made by somebody else than systemd
	dead.Store(nobodys)
	tr.mkdir("a-4.scope")
	held(tr.mkdir("a-5.scope")) // the watch has come that far
	if b, err := tr.fs.Read(nobodys, v1TasksFile, nil); err != nil || len(b) > 0 {
		t.Errorf("held what systemd does not have: %q, %v", b, err)
	}
	dead.Store(deep)
	if got := h.Ended(); len(got) != 1 || got[0] != deep {
		t.Errorf("ended: %q, want %q", got, deep)
	}
	h.Leave(deep)
	if got := h.Ended(); len(got) != 0 {
		t.Errorf("ended twice: %q", got)
	}
}

// holdWatchRun watches below the test's own cgroup instead of the root.
type holdWatchRun struct {
	t    *testing.T
	h    *Hold
	base string
}

func (w *holdWatchRun) start(match func(unit string) bool) {
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.h.watch(ctx, w.base, match) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
}

// TestHoldWatchEnds: Watch looks at the whole hierarchy, holds nothing that systemd has not, and ends when it is told to.
func TestHoldWatchEnds(t *testing.T) {
	tr := newV1TestTree(t)
	h := NewHold(tr.fs, HoldOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Watch(ctx, func(unit string) bool { return unit == path.Base(tr.base) }); err != nil {
		t.Error(err)
	}
	if c := h.Count(); c != (HoldCount{}) {
		t.Errorf("holds what systemd has not: %+v", c)
	}
}

func FuzzParseInotify(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x01\x00\x40\x00\x00\x00\x00\x10\x00\x00\x00session-1.scope\x00"))
	f.Add([]byte("\xff\xff\xff\xff\x00\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, ev := range parseInotify(b) {
			if strings.Contains(ev.name, "\x00") || len(ev.name) > len(b) {
				t.Errorf("%+v", ev)
			}
		}
	})
}
