package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/logind/usermemcg"
	"github.com/scopereap/scopereap/reclaim"
)

// An undo goes on where one part of it fails, and says what did.
func TestUndoGoesOn(t *testing.T) {
	needMachine(t)
	m := newMadeUp(t, "")
	m.file("root/sys/fs/cgroup/cgroup.controllers", "memory\n")
	dropIn := usermemcg.New(usermemcg.Options{Root: m.flags.policyRoot})
	if err := dropIn.Generate(m.file("root/run/systemd/system/", "")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dropIn.Path()); err != nil {
		t.Fatal(err)
	}
	m.file("state/"+lingerState+"/", "") // cannot be read as a file
	m.file("run/"+holdName+"/", "")
	err := undo(t.Context(), m.flags)
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"linger: ", "sessions without memcgs: ", "held directories: "} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing of %q: %v", part, err)
		}
	}
	if _, err := os.Stat(dropIn.Path()); !os.IsNotExist(err) {
		t.Errorf("the drop-in stays: %v", err)
	}
}

// What goes with the daemon by the policy goes, and nothing else.
func TestUndoMemcgsAtStop(t *testing.T) {
	for onStop, stays := range map[string]bool{"keep": true, "undo": false} {
		m := newMadeUp(t, "[sessions]\nmemcg = \"per-user\"\non_stop = \""+onStop+"\"\n")
		m.file("root/sys/fs/cgroup/cgroup.controllers", "memory\n")
		if err := m.triggers.memcgs.Generate(m.file("root/run/systemd/system/", "")); err != nil {
			t.Fatal(err)
		}
		m.undoMemcgs()
		if _, err := os.Stat(m.triggers.memcgs.Path()); (err == nil) != stays {
			t.Errorf("%s: %v", onStop, err)
		}
		if n := m.logged("undo sessions.memcg"); (n == 0) != stays { // PID 1 cannot be told
			t.Errorf("%s: told %d times", onStop, n)
		}
	}
}

// A clean stop has left nothing, and then a restore looks at nothing and takes no lock.
func TestRestoreAfterCleanStop(t *testing.T) {
	dir := t.TempDir()
	f := flags{runDir: filepath.Join(dir, "run"), lock: filepath.Join(dir, "none", "lock")}
	if err := restore(f); err != nil {
		t.Error(err)
	}
	if err := giveUpHeld(f); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	for _, c := range []struct {
		r    reclaim.Restored
		want string
	}{
		{reclaim.Restored{}, ""},
		{reclaim.Restored{Put: 1}, "put back 1 "},
		{reclaim.Restored{Gone: 2}, "2 cgroups are gone"},
		{reclaim.Restored{Foreign: 3}, "3 were changed by others"},
	} {
		var b lockedBuffer
		tellRestored(slog.New(slog.NewTextHandler(&b, nil)), c.r)
		if got := restoredLine(c.r); !strings.Contains(got, c.want) || (got == "") != (c.want == "") || (b.String() == "") != (c.want == "") {
			t.Errorf("%+v: %q, and logs %q", c.r, got, &b)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), exitcode.Failed},
		{fmt.Errorf("x: %w", reclaim.ErrNoMemoryController), exitcode.Unavailable},
		{fmt.Errorf("x: %w", reclaim.ErrLocked), exitcode.Busy},
		{fmt.Errorf("x: %w", &exitError{exitcode.Config, reclaim.ErrLocked}), exitcode.Config},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
	if !errors.Is(&exitError{1, reclaim.ErrLocked}, reclaim.ErrLocked) {
		t.Error("what it carries cannot be told")
	}
	for _, flag := range [][]string{{"--restore", "--undo"}, {"--undo", "--pages"}, {"--restore", "--pages"}} {
		cmd := newCommand()
		cmd.SetArgs(flag)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "none of the others can be") {
			t.Errorf("%v: %v", flag, err)
		}
	}
}

// A stop waits for what is written to disks, but not for ever, and names what it did not wait for.
func TestSavers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := savers{}
		stuck := make(chan struct{})
		defer close(stuck)
		saved := false
		s.start("z", func() { <-stuck })
		s.start("done", func() {})
		s.start("busy", func() { time.Sleep(time.Second); saved = true })
		s.start("a", func() { <-stuck })
		began := time.Now()
		late := s.wait(lastSave)
		if d := cmp.Diff([]string{"a", "z"}, late); d != "" || !saved || time.Since(began) != lastSave {
			t.Errorf("%s after %v", d, time.Since(began))
		}
		s = savers{}
		s.start("busy", func() { time.Sleep(time.Second) })
		began = time.Now()
		if late := s.wait(lastSave); late != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", late, time.Since(began))
		}
	})
}
