package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/reclaim"
)

// polkit answers as told.
type polkit struct {
	allow chan bool // one answer each
	flags chan uint32
}

func startPolkit(t *testing.T, b *bustest.Bus) *polkit {
	t.Helper()
	p := &polkit{make(chan bool, 10), make(chan uint32, 10)}
	conn := b.Connect()
	if err := conn.Export(p, "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.PolicyKit1", 0); err != nil {
		t.Fatal(err)
	}
	return p
}

type polkitAnswer struct {
	Authorized, Challenge bool
	Details               map[string]string
}

type polkitSubject struct {
	Kind    string
	Details map[string]dbus.Variant
}

// CheckAuthorization is polkit's.
func (p *polkit) CheckAuthorization(
	_ polkitSubject, _ string, _ map[string]string, flags uint32, _ string,
) (polkitAnswer, *dbus.Error) {
	p.flags <- flags
	return polkitAnswer{Authorized: <-p.allow, Challenge: true, Details: map[string]string{}}, nil
}

// A user without rights is let or refused by polkit, and a refusal says what to do.
func TestPolkitDecides(t *testing.T) {
	b := onBus(t)
	n := serveNode(t, b)
	bin := program(t)
	as := func(args ...string) result { return ctlAs(t, bin, b.Address, args...) }
	as("linger", "add", "bob").want(t, "no polkit", exitcode.NotRoot, "only root may", "(try: sudo scopereapctl linger add)")
	as("leaks").want(t, "leaks", exitcode.NotRoot, "root's to know", "(try: sudo scopereapctl leaks)")
	if len(n.changes()) > 0 {
		t.Errorf("changed: %v", n.changes())
	}
	p := startPolkit(t, b)
	p.allow <- false
	as("linger", "add", "bob").want(t, "refused", exitcode.NotRoot, "org.scopereap1.manage-linger needs a password")
	p.allow <- true
	as("linger", "add", "bob").want(t, "allowed", exitcode.OK, "bob (4711): linger turned on")
	p.allow <- true
	as("leaks").want(t, "leaks allowed", exitcode.OK, "alice")
	p.allow <- false // it asks for the rates, too
	as("linger", "list").want(t, "linger list", exitcode.OK, "alice")
	// Without a terminal nobody is asked for a password.
	for len(p.flags) > 0 {
		if f := <-p.flags; f != 0 {
			t.Errorf("polkit was asked with flags %d", f)
		}
	}
	if _, err := reclaim.FindHierarchy(); err == nil {
		p.allow <- false
		as("sweep").want(t, "sweep refused", exitcode.NotRoot, "org.scopereap1.sweep needs a password", "sudo scopereapctl sweep")
		p.allow <- true
		as("sweep").want(t, "sweep allowed", exitcode.OK)
		if len(n.sweeps()) != 1 {
			t.Errorf("swept %v", n.sweeps())
		}
	}
}

// A dry run that the daemon would have to authorize is done without it.
func TestDryRunRefused(t *testing.T) {
	b := onBus(t)
	n := serveNode(t, b)
	got := ctlAs(t, program(t), b.Address, "linger", "add", "-n", "root")
	got.want(t, "dry run", exitcode.OK, "root (0): would turn linger on")
	if len(n.changes()) > 0 {
		t.Errorf("changed: %v", n.changes())
	}
}

// stand takes the daemon's name without being it. Calls go to take; godbus answers those that it is not asked to keep.
func stand(t *testing.T, b *bustest.Bus, take func(*dbus.Message) (keep bool)) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(b.Address, dbus.WithIncomingInterceptor(func(m *dbus.Message) {
		if m.Type == dbus.TypeMethodCall && take(m) {
			m.Type = 0 // godbus passes over what has no type
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.RequestName(busapi.Name, 0); err != nil {
		t.Fatal(err)
	}
	return conn
}

// A daemon that hangs costs 3 s, not more for several questions, and is told of.
func TestSilentOnBus(t *testing.T) {
	stand(t, onBus(t), func(*dbus.Message) bool { return true })
	began := time.Now()
	a := &app{runDir: defaultRunDir}
	var r statusReport
	a.askDaemon(t.Context(), &r)
	if r.Daemon != nil || r.DaemonError != "no answer within 3s" {
		t.Errorf("%+v, %q", r.Daemon, r.DaemonError)
	}
	if _, err := a.inForce(t.Context()); err != nil {
		t.Errorf("the policy on disk: %v", err)
	}
	if took := time.Since(began); took > answerTime+2*time.Second {
		t.Errorf("took %s", took)
	}
	ctl("linger", "add", "root").want(t, "linger add", exitcode.Failed, "scopereapd: no answer within 3s (see: systemctl")
}

// An older daemon, without the methods or with other answers, is not asked; nor is anything asked that could start one.
func TestOldOnBus(t *testing.T) {
	asked := make(chan dbus.Flags, 100)
	conn := stand(t, onBus(t), func(m *dbus.Message) bool { asked <- m.Flags; return false })
	if err := conn.Export(oldNode{}, busapi.Path, busapi.Iface); err != nil {
		t.Fatal(err)
	}
	var bus busDaemon
	for name, question := range map[string]func() error{
		"status":    func() error { _, err := bus.status(t.Context()); return err },
		"survey":    func() error { _, err := bus.survey(t.Context(), "/"); return err },
		"policy":    func() error { _, err := bus.policy(t.Context()); return err },
		"leaks":     func() error { _, err := bus.leaks(t.Context(), true); return err },
		"lingerers": func() error { _, err := bus.lingerers(t.Context()); return err },
		"setLinger": func() error { _, err := bus.setLinger(t.Context(), "x", true, false); return err },
		"sweep": func() error {
			_, err := bus.sweep(t.Context(), reclaim.SweepRequest{Under: "/"}, true)
			return err
		},
	} {
		if err := question(); !errors.Is(err, control.ErrNoDaemon) {
			t.Errorf("%s: %v, want ErrNoDaemon", name, err)
		}
	}
	if len(asked) < 7 {
		t.Errorf("%d calls", len(asked))
	}
	for len(asked) > 0 {
		if f := <-asked; f&dbus.FlagNoAutoStart == 0 || f&dbus.FlagAllowInteractiveAuthorization != 0 {
			t.Errorf("asked with flags %d", f)
		}
	}
	// Where somebody can type a password, polkit may ask for it.
	c, err := bus.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = callBus(t.Context(), c, answerTime, true, busapi.Iface, "Reload", nil)
	if f := <-asked; f&dbus.FlagAllowInteractiveAuthorization == 0 {
		t.Errorf("flags %v, want that of interactive authorization", f)
	}
}

// oldNode answers as the first version did.
type oldNode struct{}

// ListAncestors had no dead memory and no counts.
func (oldNode) ListAncestors(string, uint32) ([]struct{ Path string }, *dbus.Error) {
	return []struct{ Path string }{{"/a"}}, nil
}

// ListLeakers answered with the rows alone.
func (oldNode) ListLeakers(string) ([]busapi.Leaker, *dbus.Error) { return nil, nil }

// Without the daemon, and without a bus, the verbs do what they did before there was one.
func TestNobodyOnBus(t *testing.T) {
	b := onBus(t)
	bin := program(t)
	for _, where := range []string{"no daemon", "no bus"} {
		if where == "no bus" {
			b.Stop()
		}
		a := &app{runDir: defaultRunDir}
		if _, err := a.daemonStatus(t.Context()); !errors.Is(err, control.ErrNoDaemon) {
			t.Errorf("%s: %v", where, err)
		}
		ctl("policy", "show").want(t, where, exitcode.OK, `interval = "5m"`)
		ctlAs(t, bin, b.Address, "linger", "add", "root").want(t, where, exitcode.NotRoot, "needs root; --dry-run does not")
		if _, err := reclaim.FindHierarchy(); err == nil {
			ctl("status").want(t, where, exitcode.OK, "scopereapd is not running")
			ctlAs(t, bin, b.Address, "sweep").want(t, where, exitcode.NotRoot,
				"needs root; --dry-run does not (try: sudo scopereapctl sweep)")
		}
	}
	// The bus comes back, and is used again by who has asked before.
	a := &app{runDir: defaultRunDir}
	if _, err := a.daemonStatus(t.Context()); !errors.Is(err, control.ErrNoDaemon) {
		t.Error(err)
	}
	b.Start()
	serveNode(t, b)
	if s, err := a.daemonStatus(t.Context()); err != nil || s.Version != "7.7" {
		t.Errorf("%v, %v", s, err)
	}
	b.Stop()
	if _, err := a.daemonStatus(t.Context()); !errors.Is(err, control.ErrNoDaemon) {
		t.Errorf("the bus is gone again: %v", err)
	}
}

// The daemon ends in the middle of a sweep: nobody waits for ever, and somebody else's signals mean nothing.
func TestDaemonEndsInSweep(t *testing.T) {
	b := onBus(t)
	swept := make(chan string, 1)
	conn := stand(t, b, func(m *dbus.Message) bool {
		if member, _ := m.Headers[dbus.FieldMember].Value().(string); member == "Sweep" {
			sender, _ := m.Headers[dbus.FieldSender].Value().(string)
			swept <- sender
		}
		return false
	})
	if err := conn.Export(endlessNode{}, busapi.Path, busapi.Iface); err != nil {
		t.Fatal(err)
	}
	go func() {
		to := <-swept
		_ = bustest.SendTo(b.Connect(), to, busapi.Path, busapi.Iface, "SweepFinished",
			uint64(1), "forged", map[string]dbus.Variant{})
		time.Sleep(100 * time.Millisecond)
		conn.Close()
	}()
	var bus busDaemon
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := bus.sweep(ctx, reclaim.SweepRequest{Under: "/"}, false)
	if err == nil || !strings.Contains(err.Error(), "scopereapd ended during the sweep") {
		t.Errorf("%v", err)
	}
}

type endlessNode struct{}

// Sweep never finishes.
func (endlessNode) Sweep(string, bool) (uint64, *dbus.Error) { return 1, nil }

// The ways to ask: root's own socket first, the bus only where the system's daemon is meant.
func TestWaysToAsk(t *testing.T) {
	for _, tc := range []struct {
		a    *app
		want int
	}{
		{&app{runDir: defaultRunDir}, 2},
		{&app{runDir: "/elsewhere"}, 1},
		{&app{runDir: defaultRunDir, policyRoot: "/elsewhere"}, 1},
	} {
		ways := tc.a.daemons()
		if root, ok := ways[0].(socketDaemon); os.Geteuid() == 0 {
			if !ok || string(root) != filepath.Join(tc.a.runDir, control.RootSocketName) {
				t.Errorf("%q, %q: root does not ask at its own socket first: %v", tc.a.runDir, tc.a.policyRoot, ways)
			}
			ways = ways[1:]
		}
		if last, ok := ways[len(ways)-1].(socketDaemon); len(ways) != tc.want || !ok ||
			string(last) != filepath.Join(tc.a.runDir, control.SocketName) {
			t.Errorf("%q, %q: %v", tc.a.runDir, tc.a.policyRoot, ways)
		}
	}
}
