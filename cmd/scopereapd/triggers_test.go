package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/scopereap/scopereap/logind"
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
