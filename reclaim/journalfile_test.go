package reclaim

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// smallFS is a directory on a tmpfs of its own with so many pages.
func smallFS(t *testing.T, pages int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a tmpfs")
	}
	dir := t.TempDir()
	opts := fmt.Sprintf("size=%d,mode=755", pages*os.Getpagesize())
	if err := unix.Mount("scopereap-test", dir, "tmpfs", 0, opts); err != nil {
		t.Skip("needs to mount a tmpfs: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all the room there is, and returns what gives it back.
func fill(t *testing.T, dir string) (room func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, os.Getpagesize()))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// A hold that was recorded after the file system had been full is there for the next start.
func TestHoldJournalSurvivesENOSPC(t *testing.T) {
	dir := smallFS(t, 8)
	j := &holdJournal{path: filepath.Join(dir, "holds")}
	if err := j.rewrite(nil); err != nil {
		t.Fatal(err)
	}
	room := fill(t, dir)
	var want []holdRecord
	record := func(n int) holdRecord {
		return holdRecord{ID: uint64(1000000 + n), Cgroup: fmt.Sprintf("/user.slice/user-1000.slice/session-%d.scope", n)}
	}
	for n := 0; ; n++ {
		if err := j.add(record(n)); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			break
		}
		want = append(want, record(n))
	}
	// A crash now must not leave half a record at the end.
	if text, err := os.ReadFile(j.path); err != nil || !bytes.HasSuffix(text, []byte("\n")) {
		t.Errorf("it ends with %q, %v", text[max(0, len(text)-40):], err)
	}
	room()
	held := record(424242)
	if err := j.add(held); err != nil {
		t.Fatal(err)
	}
	got, notes, err := j.load()
	if diff := cmp.Diff(append(want, held), got); diff != "" || err != nil || len(notes) > 0 {
		t.Errorf("%v %q %s", err, notes, diff)
	}
	if err := j.strike(held); err != nil {
		t.Fatal(err)
	}
	if got, notes, err = j.load(); len(got) != len(want) || len(notes) > 0 || err != nil {
		t.Errorf("struck: %d of %d records, %q %v", len(got), len(want), notes, err)
	}
}

// The same of the shield's.
func TestShieldJournalSurvivesENOSPC(t *testing.T) {
	dir := smallFS(t, 8)
	path := filepath.Join(dir, "shields")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.hasRoom(); err != nil {
		t.Errorf("there is room: %v", err)
	}
	room := fill(t, dir)
	if err := j.hasRoom(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("no room: %v", err)
	}
	one := change{id: 7, cgroup: "/a", file: "memory.min", after: 4096}
	var batch []change // two pages
	for range 2 * os.Getpagesize() / len(one.append(nil)) {
		batch = append(batch, one)
	}
	if err := j.record(batch); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("recorded without room: %v", err)
	}
	room()
	if err := j.record([]change{one}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, bad := parseJournal(data)
	if len(got) != 1 || len(bad) > 0 || got[0] != one {
		t.Errorf("%+v %v", got, bad)
	}
}

// With a full file system at the start, what an earlier run held is in hand all the same, and the trouble is reported;
// units that come are not held, which is logged once.
func TestHoldWithFullRun(t *testing.T) {
	tr := newV1TestTree(t)
	dir := smallFS(t, 8)
	path := filepath.Join(dir, "holds")
	old := tr.mkdir("old.scope")
	id, err := tr.fs.ID(old)
	if err != nil {
		t.Fatal(err)
	}
	earlier := &holdJournal{path: path}
	if err := earlier.add(holdRecord{ID: id, Cgroup: old}); err != nil {
		t.Fatal(err)
	}
	fill(t, dir)
	var log bytes.Buffer
	h := NewHold(tr.fs, HoldOptions{Max: 9, JournalPath: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	t.Cleanup(func() { _ = h.Close() }) // it cannot write its journal
	e := NewEngine(EngineOptions{FS: tr.fs, Hold: h, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	e.recoverHeld(e.nextSweep)
	if c := h.Count(); c.Waiting != 1 || c.Threads != 1 {
		t.Errorf("what an earlier run held: %+v", c)
	}
	if n := strings.Count(log.String(), "no space left"); n != 1 {
		t.Errorf("reported %d times:\n%s", n, &log)
	}
	log.Reset()
	for i := range 5 {
		e.holdEnter(tr.mkdir(fmt.Sprintf("new-%d.scope", i)), 0)
	}
	if c := h.Count(); c.Held != 0 {
		t.Errorf("held without a record: %+v", c)
	}
	if n := strings.Count(log.String(), "no space left"); n != 1 {
		t.Errorf("reported %d times:\n%s", n, &log)
	}
}

// A directory above a finished one is not forgotten where the file system is full: it is finished all the same, written
// down once there is room, and the trouble is logged once.
func TestHoldParentWithFullRun(t *testing.T) {
	tr := newV1TestTree(t)
	dir := smallFS(t, 8)
	path := filepath.Join(dir, "holds")
	var log bytes.Buffer
	h := NewHold(tr.fs, HoldOptions{
		Max: 9, Deadline: time.Hour, JournalPath: path, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Live: func(c string) bool { return c == tr.base },
	})
	closeHold(t, h)
	th := testThread(t)
	slice := tr.mkdir("user-3.slice")
	scope := tr.mkdir("user-3.slice/session-9.scope")
	mustEnter(t, h, scope)
	room := fill(t, dir)
	for h.journal.add(holdRecord{ID: 7, Cgroup: "/filler"}) == nil {
	}
	h.Leave(scope)
	if out := finishHoldWait(t, h, th, scope); !out.Removed || len(out.Parents) != 1 || out.Parents[0] != slice {
		t.Fatalf("finish: %+v", out)
	}
	below := tr.mkdir("user-3.slice/session-10.scope") // which keeps it for now
	finish := func() {
		t.Helper()
		if out := finishHold(t, h, th, slice); out.Done || out.Why != HoldChildren {
			t.Errorf("with a child: %+v", out)
		}
	}
	written := func() bool {
		t.Helper()
		recs, _, err := (&holdJournal{path: path}).load()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(recs, func(r holdRecord) bool { return r.Cgroup == slice })
	}
	finish()
	if n := strings.Count(log.String(), "no space left"); n != 1 || written() {
		t.Errorf("reported %d times, written %v:\n%s", n, written(), &log)
	}
	room()
	finish()
	if !written() {
		t.Error("not written down although there is room")
	}
	tr.drop(below)
	if out := finishHoldWait(t, h, th, slice); !out.Removed || written() {
		t.Errorf("finish: %+v, still written %v", out, written())
	}
	if n := strings.Count(log.String(), "cannot be written"); n != 1 {
		t.Errorf("reported %d times:\n%s", n, &log)
	}
}
