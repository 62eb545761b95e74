package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/reclaim"
)

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
