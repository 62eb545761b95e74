package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/logind/linger"
	"github.com/scopereap/scopereap/logind/users"
	"github.com/scopereap/scopereap/reclaim"
)

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
		m.triggers.linger = linger.New(linger.Options{State: m.triggers.state, LingerDir: m.file("linger", ""), Logger: m.log,
			Users: users.New(users.Options{Root: m.flags.policyRoot})})
		if c.state {
			m.file("state/"+lingerState, "{")
		}
		if m.reconcileLinger(t.Context(), m.policy.Load().Policy); m.logged("what=linger") != c.want {
			t.Errorf("%s: looked for users %d times", name, 1-c.want)
		}
	}
}

// Sessions' memcgs are looked at before linger, which would keep them; then every ten minutes and when the policy about
// them changes, and not at every login, for which linger is: PID 1 may have to reload. All is over at the end.
func TestWhenTriggersAreLookedAt(t *testing.T) {
	m := newMadeUp(t, "")
	m.file("root/sys/fs/cgroup/cgroup.controllers", "memory\n")
	dir := m.file("root/run/systemd/system/", "")
	dropIn := func() bool {
		_, err := os.Stat(m.triggers.memcgs.Path())
		return err == nil
	}
	leave := func() {
		t.Helper()
		if err := m.triggers.memcgs.Generate(dir); err != nil || !dropIn() {
			t.Fatal(err)
		}
	}
	leave()
	synctest.Test(t, func(t *testing.T) {
		m.triggers.kick = make(chan struct{}, 1) // the bubble's
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); m.removeTriggers(ctx) }()
		after := func(d time.Duration, want bool, when string) {
			t.Helper()
			time.Sleep(d)
			if synctest.Wait(); dropIn() != want {
				t.Errorf("%s the drop-in is there: %t", when, !want)
			}
		}
		again := func() { // as the administrator might
			t.Helper()
			if err := os.Remove(m.file("root/run/scopereap.sessions", "")); err != nil {
				t.Fatal(err)
			}
			leave()
		}
		after(0, false, "at the start")
		again()
		m.triggers.soon()
		after(time.Minute, true, "after a login")
		after(lookTriggers-time.Minute-1, true, "before its time")
		after(1, false, "after ten minutes")
		again()
		m.file("root/etc/scopereap/policy.toml", "[sessions]\non_stop = \"undo\"\n")
		m.reload()
		after(kickDelay-1, true, "right after a reload")
		after(1, false, "after another policy")
		m.triggers.soon()
		synctest.Wait()
		cancel()
		<-ended // at once
	})
}

// Where both fail, what is told first is what was done first; who churns is written down at the end, where a rule asks.
func TestTriggersOrderAndEnd(t *testing.T) {
	m := newMadeUp(t, "[sessions]\nmemcg = \"per-user\"\n[linger.auto]\nteardowns_per_hour = 5\n")
	keeper := func(dir string) *linger.Keeper {
		return linger.New(linger.Options{State: m.triggers.state, LingerDir: dir, Logger: m.log,
			Users: users.New(users.Options{Root: m.flags.policyRoot})})
	}
	m.triggers.linger = keeper(m.file("linger", "")) // no directory
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); m.removeTriggers(ctx) }()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(m.said.String(), "what=linger"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("linger is not looked at")
		}
	}
	cancel()
	<-ended
	said := m.said.String()
	first, second := strings.Index(said, `what="sessions.memcg`), strings.Index(said, "what=linger")
	if first < 0 || second < first || m.logged("which users churn is not written down") != 1 {
		t.Errorf("%s", said)
	}
	m.triggers.linger = keeper(m.file("lingers/", ""))
	for _, auto := range []int{0, 5} {
		m.file("root/etc/scopereap/policy.toml", fmt.Sprintf("[linger.auto]\nteardowns_per_hour = %d\n", auto))
		m.reload()
		m.flushLinger()
		if m.triggers.setBefore() != (auto > 0) {
			t.Errorf("%d teardowns: written down: %t", auto, auto == 0)
		}
	}
}

// The kernel's own reaper is left as it is where there is none, and where the policy does not ask for it.
func TestKernelReaperIsAskedFor(t *testing.T) {
	for policy, state := range map[string]reclaim.State{"[kernel]\nmemcg_reaper = \"enable\"\n": reclaim.No, "": reclaim.Yes} {
		m := newMadeUp(t, policy)
		m.kernelReaper(reclaim.Abilities{Reaper: reclaim.Ability{State: state}})()
		if n := m.logged("level="); n != 0 {
			t.Errorf("%q, and a reaper: %s: %d lines", policy, state, n)
		}
	}
}
