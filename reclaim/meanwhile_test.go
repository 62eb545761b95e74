package reclaim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSqueezeIsJournaledFirst: while memory.high is lowered, the journal says what was there before, so that a restore
// after a crash in this moment puts it back.
func TestSqueezeIsJournaledFirst(t *testing.T) {
	x, r := reaperFixture(t)
	x.file("/p", "memory.high", "1073741824\n")
	crashed := filepath.Join(t.TempDir(), "shields") // what a crash would leave
	lowered := ""
	r.thread.onWrite = func(time.Duration) {
		lowered = x.read("/p", "memory.high")
		data, err := os.ReadFile(r.journal.path)
		if err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(crashed, data, 0o600); err != nil {
			t.Error(err)
		}
	}
	r.thread.Do(t.Context(), func() {
		if _, err := r.squeeze("/p", testMiB, time.Second); err != nil {
			t.Error(err)
		}
	})
	if want := strconv.FormatInt(11*testMiB, 10); lowered != want {
		t.Fatalf("memory.high was %q, want %s", lowered, want)
	}
	x.file("/p", "memory.high", lowered+"\n")
	res, err := Restore(x.fs, crashed)
	if err != nil || res.Put != 1 {
		t.Errorf("restore: %+v, %v", res, err)
	}
	if got := x.read("/p", "memory.high"); got != "1073741824" {
		t.Errorf("after the restore memory.high is %s", got)
	}
}

// TestSqueezeForeign: a limit that an administrator sets after it was looked at stays.
func TestSqueezeForeign(t *testing.T) {
	x, r := reaperFixture(t)
	x.file("/p", "memory.high", "1073741824\n")
	looked, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(looked)
	if _, err := unix.InotifyAddWatch(looked, x.path("/p", "memory.current"), unix.IN_CLOSE_NOWRITE); err != nil {
		t.Fatal(err)
	}
	r.journal.mu.Lock() // it gets no further meanwhile
	done := make(chan error, 1)
	go r.thread.Do(t.Context(), func() {
		_, err := r.squeeze("/p", testMiB, time.Second)
		done <- err
	})
	if _, err := unix.Read(looked, make([]byte, 4096)); err != nil { // memory.high comes before memory.current
		t.Error(err)
	}
	x.file("/p", "memory.high", "2147483648\n")
	r.journal.mu.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := x.read("/p", "memory.high"); got != "2147483648" {
		t.Errorf("memory.high is %s, not what was set meanwhile", got)
	}
}

// whileEmptied has fn run after the write to memory.force_empty and before anything else. What it returns takes it back.
func whileEmptied(th *Thread, fn func()) (back func()) {
	th.onWrite = func(time.Duration) { fn() }
	return func() { th.onWrite = nil }
}

// TestHoldBackWhileEmptied: a unit that comes back while its directory is emptied keeps it, however it is noticed.
func TestHoldBackWhileEmptied(t *testing.T) {
	for _, noticed := range []string{"entered", "by systemd's directory"} {
		t.Run(noticed, func(t *testing.T) {
			tr := newV1TestTree(t)
			live := false
			h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: 0, Live: func(string) bool { return live }})
			closeHold(t, h)
			th := testThread(t)
			scope := tr.mkdir("user@2.service")
			mustEnter(t, h, scope)
			h.Leave(scope)
			h.entries[scope].left = time.Now().Add(-holdStatFresh)
			back := whileEmptied(th, func() {
				if live = noticed != "entered"; !live {
					mustEnter(t, h, scope)
				}
			})
			out := finishHold(t, h, th, scope)
			back()
			if out.Removed || out.Why != HoldLive || !tr.fs.Exists(scope) {
				t.Errorf("finish: %+v; it exists: %v", out, tr.fs.Exists(scope))
			}
			if err := tr.fs.Rmdir(scope); !errors.Is(err, unix.EBUSY) {
				t.Errorf("it is no longer held: %v", err)
			}
			live = false
		})
	}
}

// TestHoldReplacedWhileEmptied: a directory that was made anew meanwhile is not the one that was held.
func TestHoldReplacedWhileEmptied(t *testing.T) {
	tr := newV1TestTree(t)
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: 0})
	closeHold(t, h)
	th := testThread(t)
	scope := tr.mkdir("run-r3.scope")
	mustEnter(t, h, scope)
	h.Leave(scope)
	h.entries[scope].left = time.Now().Add(-holdStatFresh)
	back := whileEmptied(th, func() {
		tr.drop(scope)
		tr.mkdir("run-r3.scope")
	})
	out := finishHold(t, h, th, scope)
	back()
	if !out.Done || out.Removed || !tr.fs.Exists(scope) {
		t.Errorf("finish: %+v; it exists: %v", out, tr.fs.Exists(scope))
	}
	if c := h.Count(); c != (HoldCount{}) {
		t.Errorf("still in hand: %+v", c)
	}
}

// TestHoldReplacedWhileEntered: a directory that was made anew after its ID was read is not entered.
func TestHoldReplacedWhileEntered(t *testing.T) {
	tr := newV1TestTree(t)
	h := NewHold(tr.fs, HoldOptions{Max: 9})
	closeHold(t, h)
	scope := tr.mkdir("run-r4.scope")
	id, err := tr.fs.ID(scope)
	if err != nil {
		t.Fatal(err)
	}
	e := &heldDir{id: id + 1} // another one was there
	h.mu.Lock()
	err = h.admit(scope, e)
	h.mu.Unlock()
	if !errors.Is(err, ErrHoldNotThere) || e.holder != nil {
		t.Errorf("entered: %v, holder %v", err, e.holder)
	}
	if c := h.Count(); c.Threads != 0 {
		t.Errorf("%d threads for nothing", c.Threads)
	}
	waitFor(t, "the holder is out again", func() bool {
		b, err := tr.fs.Read(scope, v1TasksFile, nil)
		return err == nil && strings.TrimSpace(string(b)) == ""
	})
}

// TestHoldSwappinessComesBack: it is 0 for the length of a force_empty and no longer.
func TestHoldSwappinessComesBack(t *testing.T) {
	tr := newV1TestTree(t)
	h := NewHold(tr.fs, HoldOptions{Max: 9, Deadline: time.Hour})
	th := testThread(t)
	scope := tr.mkdir("session-9.scope")
	mustEnter(t, h, scope)
	if err := tr.fs.Write(scope, v1SwappinessFile, "37"); err != nil {
		t.Skip("this kernel has no swappiness a cgroup: ", err)
	}
	tr.run(scope, `exec dd if=/dev/zero of="$1" bs=64k count=4 2>/dev/null`, shmemFile(t))
	h.Leave(scope)
	during := int64(-1)
	back := whileEmptied(th, func() { during, _ = v1ReadBytes(tr.fs, scope, v1SwappinessFile) })
	for try := 0; try < 10 && during < 0; try++ { // it may wait for fresh counters first
		out := finishHold(t, h, th, scope)
		if out.Done {
			t.Fatalf("finish: %+v", out)
		}
		if during < 0 {
			time.Sleep(out.RetryAfter)
		}
	}
	back()
	if during != 0 {
		t.Errorf("while it was emptied, swappiness was %d", during)
	}
	if after, err := v1ReadBytes(tr.fs, scope, v1SwappinessFile); err != nil || after != 37 {
		t.Errorf("after a try swappiness is %d, %v", after, err)
	}
	h.entries[scope].left = time.Now().Add(-holdStatFresh)
	if _, err := h.emptyOnce(context.Background(), &h.emptier, &Thread{}, scope, h.entries[scope]); err != nil {
		t.Error(err)
	}
	if after, err := v1ReadBytes(tr.fs, scope, v1SwappinessFile); err != nil || after != 37 {
		t.Errorf("at the end swappiness is %d, %v", after, err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// TestFollowsNoLink: a cgroup hierarchy has none, so what a link leads to is neither read nor written.
func TestFollowsNoLink(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 12*testMiB)
	x.cgroup("/p/a", 0, testMiB)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("4096\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(x.path("/p/a", "memory.current")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, x.path("/p/a", "memory.current")); err != nil {
		t.Fatal(err)
	}
	if _, err := x.fs.Read("/p/a", "memory.current", nil); !errors.Is(err, unix.ELOOP) {
		t.Errorf("read: %v", err)
	}
	if err := x.fs.Write("/p/a", "memory.current", "0"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("write: %v", err)
	}
	r := newReaper(x.tree(), testThread(t), x.journal(), canReclaim, slog.New(slog.DiscardHandler))
	if turn, err := x.turn(t.Context(), r, "/p", turnDefaults); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a turn over its parent: %+v, %v", turn, err)
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "4096\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestHoldSwappinessAfterCrash: a run that was killed in the middle of a force_empty has lowered it, and the next start
// puts it back, unless somebody else has set it since.
func TestHoldSwappinessAfterCrash(t *testing.T) {
	for _, c := range []struct{ since, want int64 }{{0, 37}, {5, 5}} {
		t.Run(fmt.Sprint("set since to ", c.since), func(t *testing.T) {
			tr := newV1TestTree(t)
			opts := HoldOptions{Max: 9, Deadline: time.Hour, JournalPath: filepath.Join(t.TempDir(), "holds"), Live: func(string) bool { return true }}
			killed := NewHold(tr.fs, opts)
			scope := tr.mkdir("session-9.scope")
			mustEnter(t, killed, scope)
			if err := tr.fs.Write(scope, v1SwappinessFile, "37"); err != nil {
				t.Skip("this kernel has no swappiness a cgroup: ", err)
			}
			killed.noSwap(scope, killed.entries[scope])
			if now, err := v1ReadBytes(tr.fs, scope, v1SwappinessFile); err != nil || now != 0 {
				t.Fatalf("not lowered: %d, %v", now, err)
			}
			killed.release(killed.entries[scope])
			if err := tr.fs.Write(scope, v1SwappinessFile, strconv.FormatInt(c.since, 10)); err != nil {
				t.Fatal(err)
			}

			next := NewHold(tr.fs, opts)
			if _, err := next.Recover(); err != nil {
				t.Fatal(err)
			}
			if now, err := v1ReadBytes(tr.fs, scope, v1SwappinessFile); err != nil || now != c.want {
				t.Errorf("after the next start it is %d, want %d (%v)", now, c.want, err)
			}
			if records, _, err := next.journal.load(); err != nil || len(records) != 1 || records[0].Swappiness != 0 {
				t.Errorf("the journal has %v, %v", records, err)
			}
			if err := next.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
