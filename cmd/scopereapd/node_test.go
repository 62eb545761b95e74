package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/internal/sdlog"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/reclaim"
)

// madeUp is a node on a made-up machine: cgroup v2 as a tree of ordinary files, directories of the test's own, no bus.
type madeUp struct {
	*node
	t    *testing.T
	tree string
	said *lockedBuffer
	fs   *reclaim.FS
}

func newMadeUp(t *testing.T, policy string) *madeUp {
	t.Helper()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", noBus)
	t.Setenv("NOTIFY_SOCKET", "")
	dir := t.TempDir()
	m := &madeUp{t: t, tree: filepath.Join(dir, "tree"), said: &lockedBuffer{}}
	m.node = &node{level: &slog.LevelVar{}, began: time.Now(), lines: newLines(time.Now()), flags: flags{runDir: filepath.Join(dir, "run"),
		lock: filepath.Join(dir, "run", "lock"), stateDir: filepath.Join(dir, "state"), policyRoot: filepath.Join(dir, "root")}}
	m.log = slog.New(sdlog.NewText(m.said, m.level))
	m.machine = reclaim.Hierarchy{Mode: reclaim.Unified, Root: m.tree}
	m.file("tree/cgroup.stat", "nr_descendants 2\nnr_dying_descendants 5\n")
	m.file("tree/cgroup.subtree_control", "cpu memory pids\n")
	m.file("tree/cgroup.procs", "")
	m.file("root/etc/scopereap/policy.toml", policy)
	m.file("run/", "")
	m.file("state/", "")
	var err error
	if m.fs, err = reclaim.OpenFS(m.tree); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.fs.Close() })
	loaded, err := loadPolicy(m.flags.policyRoot)
	if err != nil {
		t.Fatal(err)
	}
	m.policy.Store(loaded)
	m.build(m.fs, reclaim.Abilities{Reclaim: reclaim.Ability{State: reclaim.Yes}})
	return m
}

// file writes a file below the test's directory, or makes a directory where the name ends with "/".
func (m *madeUp) file(name, text string) string {
	m.t.Helper()
	path := filepath.Join(filepath.Dir(m.tree), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if strings.HasSuffix(name, "/") {
		if err := os.MkdirAll(path, 0o755); err != nil {
			m.t.Fatal(err)
		}
		return path
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// cgroup makes one with so many dying memcgs right below it, and so much page cache.
func (m *madeUp) cgroup(name string, dying, cache int, controllers string) {
	m.t.Helper()
	for file, text := range map[string]string{
		"cgroup.stat":            fmt.Sprintf("nr_descendants 1\nnr_dying_descendants %d\n", dying),
		"cgroup.subtree_control": controllers + "\n", "cgroup.procs": "",
		"memory.stat": fmt.Sprintf("anon 0\nfile %[1]d\nkernel 0\nshmem 0\nfile_mapped 0\nfile_dirty 0\nfile_writeback 0\n"+
			"inactive_file %[1]d\nactive_file 0\nunevictable 0\nslab 0\n", cache),
		"memory.current": fmt.Sprintln(cache), "memory.min": "0\n", "memory.low": "0\n", "memory.high": "max\n", "memory.max": "max\n",
		"memory.reclaim": "",
	} {
		m.file("tree"+name+"/"+file, text)
	}
}

// logged reports how often words are in the log, and empties it.
func (m *madeUp) logged(words string) int {
	m.said.mu.Lock()
	defer m.said.mu.Unlock()
	n := strings.Count(m.said.b.String(), words)
	m.said.b.Reset()
	return n
}

// The policy is everybody's to read only where every file it comes from is: rules in one may name users.
func TestPolicyIsPublicIfAllFilesAre(t *testing.T) {
	for _, c := range []struct {
		modes [3]os.FileMode
		want  bool
	}{
		{[3]os.FileMode{0o644, 0o644, 0o644}, true},
		{[3]os.FileMode{0o600, 0o644, 0o644}, false},
		{[3]os.FileMode{0o644, 0o640, 0o644}, false},
		{[3]os.FileMode{0o644, 0o644, 0o660}, false},
	} {
		m := newMadeUp(t, "[sweep]\ninterval = \"1h\"\n")
		files := []string{m.file("root/etc/scopereap/policy.toml", "[sweep]\ninterval = \"1h\"\n"),
			m.file("root/etc/scopereap/policy.d/10-a.toml", "[reap]\nbatch = \"2MiB\"\n"),
			m.file("root/etc/scopereap/policy.d/20-b.toml", "[log]\nlevel = \"warn\"\n")}
		for i, f := range files {
			if err := os.Chmod(f, c.modes[i]); err != nil {
				t.Fatal(err)
			}
		}
		m.reload()
		if d := cmp.Diff(files, m.policy.Load().Files()); d != "" {
			t.Fatal(d)
		}
		rows, public := m.api.Policy()
		if public != c.want || len(rows) == 0 {
			t.Errorf("%o: public %t, %d rows", c.modes, public, len(rows))
		}
		if err := os.Remove(files[2]); err != nil {
			t.Fatal(err)
		}
		if _, public := m.api.Policy(); public {
			t.Error("of a file that is gone nobody knows who might read it")
		}
	}
}

// notices is a socket as systemd's, see sd_notify(3).
func notices(t *testing.T) (next func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "n"))
	return func() string {
		t.Helper()
		_ = l.SetReadDeadline(time.Now().Add(30 * time.Second))
		b := make([]byte, 4096)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

// A daemon whose reaping thread does not get on is not called alive, though it is ready and all else of it runs: systemd
// is to restart it.
func TestWatchdogOfStuckThread(t *testing.T) {
	m := newMadeUp(t, "")
	next := notices(t)
	t.Setenv("WATCHDOG_USEC", "15000") // looked at each 5 ms
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.engine.Run(ctx) }()
	<-m.engine.Ready()
	cancel() // the thread ends, which looks like one that hangs
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	m.engine.Alive() // what it did until then
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() { defer close(ended); m.notify(ctx) }()
	said := next()
	for !strings.Contains(said, "READY=1") {
		said = next()
	}
	for range 5 {
		if said = next(); !strings.HasPrefix(said, "STATUS=") || strings.Contains(said, "WATCHDOG") {
			t.Fatalf("it says %q of a thread that is stuck", said)
		}
	}
	cancel()
	<-ended
	for !strings.Contains(said, "STOPPING=1") {
		said = next()
	}
}

// An undo goes on where one part of it fails, and says what did.
func TestUndoGoesOn(t *testing.T) {
	needMachine(t)
	m := newMadeUp(t, "")
	m.file("root/sys/fs/cgroup/cgroup.controllers", "memory\n")
	dropIn := logind.NewMemcgFree(logind.MemcgFreeOptions{Root: m.flags.policyRoot})
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

// The ledger goes to the disk every five minutes and at the end; where it cannot, that is told each time.
func TestKeepsLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), ledger.FileName)
	synctest.Test(t, func(t *testing.T) {
		rows := func() int {
			l, err := ledger.Load(path)
			if err != nil {
				t.Error(err)
			}
			return len(l.Report().Rows)
		}
		failed := 0
		run := func(path string) (a *account, end func()) {
			a = &account{Ledger: ledger.New(), path: path}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); a.keep(ctx, func(error) { failed++ }) }()
			return a, func() { cancel(); <-ended }
		}
		a, end := run(path)
		a.Teardown("/a", false, ledger.Key{Kind: ledger.User, Name: "a"})
		time.Sleep(saveEvery - 1)
		if synctest.Wait(); rows() != 0 {
			t.Error("saved too soon")
		}
		time.Sleep(1)
		if synctest.Wait(); rows() != 1 {
			t.Errorf("%d rows saved", rows())
		}
		a.Teardown("/b", false, ledger.Key{Kind: ledger.User, Name: "b"})
		if end(); rows() != 2 || failed != 0 {
			t.Errorf("%d rows saved at the end, %d failures", rows(), failed)
		}
		for path, want := range map[string]int{"": 0, filepath.Join(path, "x"): 2} {
			failed = 0
			a, end := run(path)
			a.Teardown("/a", false, ledger.Key{Kind: ledger.User, Name: "a"})
			time.Sleep(saveEvery)
			synctest.Wait()
			if end(); failed != want {
				t.Errorf("%q: told %d times, want %d", path, failed, want)
			}
		}
	})
}

// Without a state directory the ledger ends with the daemon, which says so; one that cannot be read begins anew; what a
// killed daemon was writing is cleaned up.
func TestOpenLedger(t *testing.T) {
	m := newMadeUp(t, "")
	left := m.file("state/.scopereap-123.tmp", "half")
	if a := m.openLedger(); a.path != filepath.Join(m.flags.stateDir, ledger.FileName) || m.logged("level=") != 0 {
		t.Errorf("%q: %s", a.path, m.said)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
	m.file("state/"+ledger.FileName, "{")
	if a := m.openLedger(); a.Ledger == nil || m.logged("who leaked before is not known") != 1 {
		t.Errorf("a ledger that cannot be read: %s", m.said)
	}
	m.flags.stateDir += "x"
	if a := m.openLedger(); a.path != "" || m.logged("who leaks is forgotten") != 1 {
		t.Errorf("no state directory: %q", a.path)
	}
}

// Users go by the names that sessions and /etc/passwd tell, which is read at most once a minute; beyond so many by UID.
func TestNamesOfUsers(t *testing.T) {
	m := newMadeUp(t, "")
	a := m.account
	if got := a.name(1001); got != "1001" {
		t.Errorf("no passwd: %q", got)
	}
	m.file("root/etc/passwd", "bob:x:1001:1001::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n")
	a.learn(&logind.Session{UID: 1002, User: "carol"})
	a.learn(&logind.Session{UID: 1003})
	if b, c, d := a.name(1001), a.name(1002), a.name(1003); b != "1001" || c != "carol" || d != "1003" {
		t.Errorf("within a minute: %q, %q, %q", b, c, d)
	}
	a.read = time.Now().Add(-readNames - time.Second)
	if got := a.name(1001); got != "bob" {
		t.Errorf("after a minute: %q", got)
	}
	if time.Since(a.read) > readNames {
		t.Error("it is read for every question")
	}
	a.learn(&logind.Session{UID: 1001, User: "robert"})
	for i := range uint32(maxNames) {
		a.learn(&logind.Session{UID: 100_000 + i, User: "x"})
	}
	a.learn(&logind.Session{UID: 1001, User: "rob"})
	if b, last := a.name(1001), a.name(100_000+maxNames-1); b != "rob" || last != fmt.Sprint(100_000+maxNames-1) || len(a.names) != maxNames {
		t.Errorf("%q, %q, %d names", b, last, len(a.names))
	}
	m.file("root/etc/passwd", "dave:x:1004:1004::/:/bin/sh\n")
	a.read = time.Time{}
	if got := a.name(1004); got != "1004" || len(a.names) != maxNames {
		t.Errorf("beyond the bound: %q, %d names", got, len(a.names))
	}
	a.Teardown("/x", false, ledger.Key{Kind: ledger.User, Name: "rob"})
	if n, ok := a.rate(1001); n != 1 || !ok {
		t.Errorf("%v, %t units of bob's were torn down in the last hour", n, ok)
	}
	if _, ok := a.rate(77); ok {
		t.Error("a rate of who was never seen")
	}
}

// What leaves ten dying in an hour is told, once an hour, each for itself.
func TestNewTrigger(t *testing.T) {
	a := &busAPI{told: map[ledger.Key]time.Time{}}
	now := time.Unix(1e9, 0)
	unit, service := ledger.Key{Kind: ledger.Unit, Name: "x"}, ledger.Key{Kind: ledger.Service, Name: "x"}
	for i, c := range []struct {
		after time.Duration
		key   ledger.Key
		want  bool
	}{{0, unit, true}, {0, service, true}, {triggerAgain - 1, unit, false}, {1, unit, true}, {0, service, true}} {
		now = now.Add(c.after)
		if got := a.newTrigger(c.key, now); got != c.want {
			t.Errorf("step %d: %t", i, got)
		}
	}
	for i := range 2 * maxTriggers {
		a.newTrigger(ledger.Key{Kind: ledger.Unit, Name: fmt.Sprint(i)}, now)
	}
	if len(a.told) > maxTriggers {
		t.Errorf("%d are remembered", len(a.told))
	}
}

// What the engine and the ledger say is told on the bus: of what was freed, what is pinned where it may be reaped, and
// what leaves many dying; no user and no cron entry is named to everybody.
func TestSignals(t *testing.T) {
	bus := bustest.StartBus(t)
	m := newMadeUp(t, "")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.api.service.Run(ctx) }()
	defer func() { cancel(); <-done }()
	conn := bus.Connect()
	if err := conn.AddMatchSignal(dbus.WithMatchObjectPath(busapi.Path), dbus.WithMatchInterface(busapi.Iface)); err != nil {
		t.Fatal(err)
	}
	ch := make(chan *dbus.Signal, 100)
	conn.Signal(ch)
	obj := conn.Object(busapi.Name, busapi.Path)
	for end := time.Now().Add(30 * time.Second); obj.Call(busapi.Iface+".GetPolicy", 0).Err != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to the bus")
		}
	}
	pin := []reclaim.Pin{{Reason: reclaim.PinnedShmem, Bytes: 1}}
	for _, o := range []reclaim.Outcome{
		{Ancestor: "/freed", Verdict: reclaim.MayReap, Freed: 1},
		{Ancestor: "/bytes", Verdict: reclaim.MayReap, Bytes: 1},
		{Ancestor: "/pinned", Verdict: reclaim.MayReap, DyingAfter: 1, Pins: pin},
		{Ancestor: "/ignored", Verdict: reclaim.Ignored, DyingAfter: 1, Pins: pin},
		{Ancestor: "/nothing", Verdict: reclaim.MayReap},
	} {
		m.api.outcome(o)
	}
	tear := func(unit, service string, left int64) {
		ev := logind.Event{Kind: logind.Teardown, Unit: unit, ControlGroup: "/" + unit, At: time.Now(), HasUID: true, UID: 1000,
			Session: &logind.Session{ID: "1", UID: 1000, User: "alice", Service: service}}
		m.account.ended(ev)
		m.account.left(reclaim.Left{Cgroups: []string{ev.ControlGroup}, Dying: left})
		m.api.ended(ev)
	}
	tear("few.scope", "login", triggerLeft-1)
	tear("many-1.scope", "", triggerLeft)
	tear("many-2.scope", "sshd", triggerLeft)
	m.api.ended(logind.Event{Unit: "never.scope", At: time.Now()})
	m.api.outcome(reclaim.Outcome{Ancestor: "/last", Freed: 1})
	var got []string
	for {
		select {
		case s := <-ch:
			got = append(got, strings.TrimPrefix(s.Name, busapi.Iface+".")+fmt.Sprint(" ", s.Body[0], " ", s.Body[1]))
		case <-time.After(30 * time.Second):
			t.Fatalf("no more signals after %q", got)
		}
		if strings.Contains(got[len(got)-1], "/last") {
			break
		}
	}
	want := []string{"Reaped /freed 1", "Reaped /bytes 0", "Pinned /pinned 1", "TriggerDetected unit many-*.scope",
		"TriggerDetected service sshd", "Reaped /last 1"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("signals (-want +got):\n%s", d)
	}
}

// syslog's levels and slog's, both ways, and where it logs.
func TestLogLevels(t *testing.T) {
	m := newMadeUp(t, "")
	for set, want := range map[string]string{"debug": "debug", "info": "info", "notice": "info", "warning": "warning", "err": "err",
		"crit": "err", "alert": "err", "emerg": "err"} {
		if err := m.api.SetLogLevel(set); err != nil || m.api.LogLevel() != want {
			t.Errorf("%s: %v, then %s", set, err, m.api.LogLevel())
		}
	}
	for stream, want := range map[string]string{"": "console", "8:9": "journal"} {
		t.Setenv("JOURNAL_STREAM", stream)
		if got := m.api.LogTarget(); got != want {
			t.Errorf("%q: %s", stream, got)
		}
	}
}

// How many are dying and how many live, the root among them; 0 where that cannot be read.
func TestCounts(t *testing.T) {
	m := newMadeUp(t, "")
	if s := m.api.Snapshot(); s.Dying != 5 || s.Live != 3 {
		t.Errorf("%d dying, %d live", s.Dying, s.Live)
	}
	msg := "line 3"
	m.policyErr.Store(&msg)
	if s := m.api.Snapshot(); s.PolicyError != msg || m.report().PolicyError != msg || m.metricsStatus().PolicyError != msg {
		t.Errorf("%q, %q, %q", s.PolicyError, m.report().PolicyError, m.metricsStatus().PolicyError)
	}
	if err := os.Remove(filepath.Join(m.tree, "cgroup.stat")); err != nil {
		t.Fatal(err)
	}
	if dying, live := m.api.counts(); dying != 0 || live != 0 {
		t.Errorf("unreadable: %d dying, %d live", dying, live)
	}
}

// A dry sweep counts what may be reaped and no more, and a survey with a limit says how many it leaves out.
func TestDrySweepAndSurvey(t *testing.T) {
	m := newMadeUp(t, "[reap]\nignore = [\"/c.slice\"]\n")
	m.cgroup("/a.slice", 3, 1<<20, "memory")
	m.cgroup("/b.slice", 1, 1<<21, "pids") // no controller: not to be reaped
	m.file("tree/cgroup.stat", "nr_descendants 2\nnr_dying_descendants 4\n")
	r, err := m.api.Sweep(t.Context(), "/", true, nil)
	if err != nil || r.Ancestors != 2 || r.Before != 4 || r.After != 4 || r.Bytes != 1<<20 {
		t.Errorf("%+v, %v", r, err)
	}
	for limit, more := range map[int]uint64{1: 1, 2: 0, 10: 0} {
		s, err := m.api.Ancestors(t.Context(), "/", limit)
		if err != nil || len(s.Ancestors) != min(limit, 2) || s.More != more {
			t.Errorf("at most %d: %d, and %d more, %v", limit, len(s.Ancestors), s.More, err)
		}
	}
	for path, want := range map[string]string{"/a.slice": "", "/a.slice/": "", "/none": busapi.ErrNotFound, "a": busapi.ErrInvalidArgs, "/../x": busapi.ErrInvalidArgs} {
		clean, err := m.api.CheckCgroup(path)
		var e *busapi.Error
		if errors.As(err, &e) != (want != "") || e != nil && e.Name != want || want == "" && clean != "/a.slice" {
			t.Errorf("%s: %q, %v", path, clean, err)
		}
	}
	m.machine.Mode = reclaim.Legacy
	if _, err := m.api.Sweep(t.Context(), "/", true, nil); !errors.Is(err, errNoAncestors) {
		t.Errorf("a dry sweep on v1: %v", err)
	}
	if _, err := m.api.Ancestors(t.Context(), "/", 1); !errors.Is(err, errNoAncestors) {
		t.Errorf("a survey on v1: %v", err)
	}
	if ownPressure(m.machine) != "" {
		t.Error("v1 has no pressure of one cgroup")
	}
}

// Metrics are offered where the policy says.
func TestMetricsConfig(t *testing.T) {
	for policy, socket := range map[string]bool{"": true, "[metrics]\nsocket = false\n": false} {
		m := newMadeUp(t, policy)
		c := m.metricsConfig()
		if (c.Socket != "") != socket || socket && c.Socket != filepath.Join(m.flags.runDir, metricsSocket) || c.Listen != "" || c.Textfile != "" {
			t.Errorf("%q: %+v", policy, c)
		}
	}
	m := newMadeUp(t, "[metrics]\nlisten = \"127.0.0.1:1\"\ntextfile = \"/x/a.prom\"\ninterval = \"7s\"\nancestors = 3\n")
	if c := m.metricsConfig(); c.Listen != "127.0.0.1:1" || c.Textfile != "/x/a.prom" || c.Interval != 7*time.Second || c.Ancestors != 3 {
		t.Errorf("%+v", c)
	}
}

// A good policy is in force at once, log level and all, and told key by key; a bad one changes nothing, until a good one
// is there.
func TestReloadInForce(t *testing.T) {
	m := newMadeUp(t, "")
	m.file("root/etc/scopereap/policy.toml", "[reap]\nenabled = false\nbach = 1\n")
	if err := m.api.Reload(); err == nil || m.policyErr.Load() == nil || m.engine.Status().MonitorOnly != "" || m.logged("policy not reloaded") != 1 {
		t.Errorf("a bad policy: %v", err)
	}
	m.file("root/etc/scopereap/policy.toml", "[reap]\nenabled = false\n[log]\nlevel = \"debug\"\n")
	if err := m.api.Reload(); err != nil || m.policyErr.Load() != nil || m.engine.Status().MonitorOnly == "" || m.level.Level() != slog.LevelDebug {
		t.Errorf("a good policy: %v, %+v", err, m.engine.Status())
	}
	if len(m.triggers.kick) != 1 {
		t.Error("the machine is not compared with it")
	}
	said := m.said.String()
	for _, words := range []string{"key=reap.enabled from=true to=false", "monitor only", "policy reloaded"} {
		if strings.Count(said, words) != 1 {
			t.Errorf("%q: %s", words, said)
		}
	}
	m.logged("")
	if line := m.statusLine(); !strings.HasPrefix(line, "Monitoring only (") {
		t.Errorf("status %q", line)
	}
	if m.reload(); m.logged("monitor only") != 0 { // nothing has changed
		t.Error("what was told is told again")
	}
}

// A failure is told the first time, and that it is over.
func TestTriggersTellOnce(t *testing.T) {
	m := newMadeUp(t, "")
	bad := errors.New("no bus")
	for i, c := range []struct {
		err  error
		want string
	}{{nil, ""}, {bad, "not done"}, {bad, ""}, {context.Canceled, ""}, {nil, "done after all"}, {nil, ""}, {bad, "not done"}} {
		m.triggers.once(m.node, "linger", c.err)
		said := m.said.String()
		if (said == "") != (c.want == "") || !strings.Contains(said, c.want) {
			t.Errorf("step %d: %q, want %q", i, said, c.want)
		}
		m.logged("")
	}
	m.triggers.once(m.node, "another", bad)
	if m.logged("what=another") != 1 {
		t.Error("one failure hides another")
	}
}

// A user's slice that comes has the rules looked at; others' units, and what has no user, do not.
func TestTriggersKick(t *testing.T) {
	m := newMadeUp(t, "")
	tr := m.triggers
	for i, c := range []struct {
		started bool
		ev      logind.Event
		want    int
	}{
		{true, logind.Event{Unit: "user-1000.slice"}, 1},
		{true, logind.Event{Unit: "session-1.scope"}, 0},
		{true, logind.Event{Unit: "cron.service"}, 0},
		{false, logind.Event{Unit: "user-1000.slice"}, 0},
		{false, logind.Event{Unit: "user-1000.slice", HasUID: true, UID: 1000, At: time.Now()}, 0}, // no rule about churn
		{false, logind.Event{Unit: "session-1.scope", HasUID: true, UID: 1000, At: time.Now()}, 0},
	} {
		if c.started {
			tr.started(c.ev)
			tr.started(c.ev) // does not block
		} else {
			tr.ended(c.ev)
		}
		if len(tr.kick) != c.want {
			t.Errorf("step %d: %d", i, len(tr.kick))
		}
		if len(tr.kick) > 0 {
			<-tr.kick
		}
	}
}

// Where neither the policy nor an earlier one has anybody linger nobody is looked for.
func TestNoLingerIsNoWork(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		state  bool
		want   int
	}{
		"nothing": {"", false, 0}, "an earlier policy": {"", true, 1}, "users": {"[linger]\nusers = [\"alice\"]\n", false, 1},
		"auto": {"[linger.auto]\nteardowns_per_hour = 5\n", false, 1},
	} {
		m := newMadeUp(t, c.policy)
		// Whoever looks cannot: its directory is a file.
		m.triggers.linger = logind.NewLinger(logind.LingerOptions{State: m.triggers.state, LingerDir: m.file("linger", ""), Logger: m.log,
			Users: logind.NewUserDB(logind.UserDBOptions{Root: m.flags.policyRoot})})
		if c.state {
			m.file("state/"+lingerState, "{")
		}
		if m.reconcileLinger(t.Context(), m.policy.Load().Policy); m.logged("what=linger") != c.want {
			t.Errorf("%s: looked for users %d times", name, 1-c.want)
		}
	}
}

// What systemd says of units goes to who is to know: the ledger, the engine; the root cgroup's end is nothing.
func TestTake(t *testing.T) {
	m := newMadeUp(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.engine.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	<-m.engine.Ready()
	for _, ev := range []logind.Event{
		{Kind: logind.Teardown, Unit: "-.slice", ControlGroup: "/"},
		{Kind: logind.Teardown, Unit: "session-9.scope"},
		{Kind: logind.Started, Unit: "user-1000.slice", ControlGroup: "/user.slice/user-1000.slice"},
		{Kind: logind.Started, Unit: "session-7.scope", ControlGroup: "/user.slice/user-1000.slice/session-7.scope", At: time.Now()},
		{Kind: logind.Teardown, Unit: "session-3.scope", ControlGroup: "/user.slice/user-1000.slice/session-3.scope", At: time.Now()},
	} {
		m.take(ev)
	}
	var rows []string
	for _, r := range m.account.Report().Rows {
		rows = append(rows, fmt.Sprint(r.Name, " ", r.Total.Teardowns, " ", r.Total.Sessions))
	}
	if d := cmp.Diff([]string{"session-*.scope 1 1"}, rows); d != "" {
		t.Errorf("ledger (-want +got):\n%s", d)
	}
	if len(m.triggers.kick) != 1 {
		t.Error("a new user is not looked at")
	}
	m.account.jobs.mu.Lock()
	if m.account.jobs.found["7"] == nil {
		t.Error("a new session's job is not looked for")
	}
	m.account.jobs.mu.Unlock()
	for end := time.Now().Add(30 * time.Second); m.engine.Status().Totals.Events != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d teardowns reached the engine, want 1", m.engine.Status().Totals.Events)
		}
	}
}

// What is held is what the policy in force names.
func TestHolds(t *testing.T) {
	for policy, want := range map[string]bool{"[hold]\nenabled = false\n": false, "[hold]\nunits = [\"session-*.scope\"]\n": true,
		"[hold]\nunits = [\"x.service\"]\n": false} {
		if got := newMadeUp(t, policy).holds("session-3.scope"); got != want {
			t.Errorf("%q: %t", policy, got)
		}
	}
}

// At its start it says what this machine has, and what that means.
func TestIntroduces(t *testing.T) {
	m := newMadeUp(t, "")
	yes := reclaim.Ability{State: reclaim.Yes}
	for name, c := range map[string]struct {
		mode reclaim.Mode
		a    reclaim.Abilities
		want []string
	}{
		"new v2": {reclaim.Unified, reclaim.Abilities{Reclaim: yes, FreshProtection: yes}, []string{"memory.reclaim=yes"}},
		"old v2": {reclaim.Unified, reclaim.Abilities{}, []string{"memory.reclaim=", "squeezing memory.high", "never memory.min"}},
		"v1":     {reclaim.Legacy, reclaim.Abilities{}, []string{"hold=false"}},
	} {
		m.machine.Mode = c.mode
		m.introduce(c.a)
		said := m.said.String()
		for _, words := range []string{"memory.reclaim=", "squeezing memory.high", "never memory.min", "hold=false"} {
			want := slices.ContainsFunc(c.want, func(w string) bool { return strings.HasPrefix(w, words) })
			if strings.Contains(said, words) != want {
				t.Errorf("%s says %q: %t\n%s", name, words, !want, said)
			}
		}
		if strings.Contains(said, "monitor only") {
			t.Errorf("%s reaps: %s", name, said)
		}
		m.logged("")
	}
}

// A sweep of what is no cgroup path, or with arguments that are none, is the caller's mistake.
func TestSweepOfNonsense(t *testing.T) {
	m := newMadeUp(t, "")
	for _, args := range []string{`{"under":5}`, `[]`, `{"under":"x"}`, `{"under":"/../etc"}`} {
		_, err := m.node.sweep(t.Context(), json.RawMessage(args), func(any) bool { return true })
		var e *control.Error
		if !errors.As(err, &e) || e.Code != control.CodeBadRequest {
			t.Errorf("%s: %v", args, err)
		}
	}
}
