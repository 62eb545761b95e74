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
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/reclaim"
)

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
