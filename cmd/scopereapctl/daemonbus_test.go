package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/logind/linger"
	"github.com/scopereap/scopereap/reclaim"
)

// busNode is a daemon behind the real service whose answers the tests know.
type busNode struct {
	busapi.Backend // nil: what is not below is not asked for

	mu      sync.Mutex
	changed []string // by SetLinger
	swept   []string
}

func (n *busNode) changes() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.changed)
}

func (n *busNode) sweeps() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.swept)
}

func (*busNode) Snapshot() busapi.Snapshot { return busapi.Snapshot{} }
func (*busNode) LogLevel() string          { return "info" }
func (*busNode) LogTarget() string         { return "console" }

func (*busNode) Status() busapi.Status {
	return control.BusStatus(control.Status{Version: "7.7", PID: 77, Engine: reclaim.Status{
		Abilities: reclaim.Abilities{PSI: reclaim.Ability{State: reclaim.Yes}}, Totals: reclaim.Totals{Freed: 4321}}})
}

func (*busNode) CheckCgroup(path string) (string, error) { return path, nil }

func (*busNode) Ancestors(context.Context, string, int) (busapi.Survey, error) {
	return control.BusSurvey(reclaim.Survey{Dying: 9, Live: 40, Ancestors: []reclaim.Surveyed{{
		Ancestor: reclaim.Ancestor{Path: "/only-the-daemon.slice", Direct: 9, Total: 9}, Verdict: reclaim.MayReap,
		Reclaimable: 4096}}}, 0), nil
}

func (*busNode) Leakers(string) (busapi.Leakers, error) {
	return busapi.Leakers{Since: 1e15, Rows: []busapi.Leaker{{Kind: "user", Name: "alice", Teardowns: 5, Left: 2.5}}}, nil
}

func (*busNode) Linger(_ context.Context, rates bool) ([]busapi.LingerUser, string, error) {
	u := busapi.LingerUser{UID: 1000, User: "alice", Known: true, Lingers: true, SetBy: linger.SetByUs,
		Before: busapi.Unknown}
	if u.After = busapi.Unknown; rates {
		u.After = 3
	}
	return []busapi.LingerUser{u}, "", nil
}

func (*busNode) CronAudit(context.Context) (busapi.CronAudit, error) {
	return busapi.CronAudit{Systemd: 259, Jobs: []busapi.CronJob{{ID: "/only/the-daemon:1", User: "carol", Schedule: "1 2 * * *",
		OpensSession: "yes", Measured: 44, Remedy: "guard"}}, Problems: []busapi.CronProblem{{File: "/x", Line: 3, Text: "odd"}}}, nil
}

func (*busNode) Policy() ([]busapi.PolicyRow, bool) {
	var rows []busapi.PolicyRow
	loaded, _ := policy.CheckBytes("x", []byte("[sweep]\ninterval = \"17m\"\n"))
	for _, r := range loaded.Rows() {
		rows = append(rows, busapi.PolicyRow{Key: r.Key, Value: r.TOML, File: "/in/force.toml", Line: 4})
	}
	return rows, true
}

func (*busNode) PolicySources() ([]busapi.PolicyFile, []busapi.PolicyWarning) {
	return []busapi.PolicyFile{{Path: "/in/force.toml", Status: "read"}}, nil
}

func (n *busNode) Sweep(
	_ context.Context, under string, _ bool, progress func(busapi.SweepProgress),
) (busapi.SweepResult, error) {
	n.mu.Lock()
	n.swept = append(n.swept, under)
	n.mu.Unlock()
	progress(busapi.SweepProgress{Ancestors: 1, Dying: 7, Freed: 3})
	time.Sleep(300 * time.Millisecond) // longer than from one progress signal to the next
	if under == "/fails" {
		return busapi.SweepResult{}, errors.New("it broke")
	}
	return busapi.SweepResult{Before: 7, After: 1, Freed: 6, Bytes: 4096, Ancestors: 1, CPU: time.Millisecond, Live: 5,
		Wall: time.Second, Outcomes: control.BusOutcomes([]reclaim.Outcome{{Ancestor: "/a", Verdict: reclaim.MayReap,
			DyingBefore: 7, DyingAfter: 1, Freed: 6, Pins: []reclaim.Pin{{Reason: reclaim.PinnedShmem, Bytes: 4096}}}})}, nil
}

func (n *busNode) SetLinger(_ context.Context, user string, on, dry bool) (busapi.LingerChange, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if user == "ghost" {
		return busapi.LingerChange{}, busapi.Errorf(busapi.ErrNotFound, "no such user: ghost")
	}
	n.changed = append(n.changed, user)
	c := busapi.LingerChange{Action: string(linger.Disable), UID: 4711, User: user, Again: "a*"}
	if on {
		c.Action, c.Again = string(linger.Enable), ""
	}
	return c, nil
}

// onBus makes a bus the system's for this test.
func onBus(t *testing.T) *bustest.Bus {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("becoming somebody else needs root")
	}
	b := bustest.StartBus(t)
	if err := os.Chmod(filepath.Dir(strings.TrimPrefix(b.Address, "unix:path=")), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(busVar, b.Address)
	return b
}

// serveNode has the real service answer for a node until the test ends.
func serveNode(t *testing.T, b *bustest.Bus) *busNode {
	t.Helper()
	n := &busNode{}
	svc := busapi.New(busapi.Options{Backend: n, Address: b.Address})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { svc.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	obj := b.Connect().Object(busapi.Name, busapi.Path)
	const ping = "org.freedesktop.DBus.Peer.Ping"
	for end := time.Now().Add(10 * time.Second); obj.Call(ping, dbus.FlagNoAutoStart).Err != nil; {
		if time.Now().After(end) {
			t.Fatal("the service does not take its name")
		}
		time.Sleep(5 * time.Millisecond)
	}
	return n
}

// result is what a run of scopereapctl gave.
type result struct {
	code      int
	out, errs string
}

func ctl(args ...string) result {
	var out, errs bytes.Buffer
	code := run(args, &out, &errs)
	return result{code, out.String(), errs.String()}
}

// ctlAs runs it as somebody without rights.
func ctlAs(t *testing.T, bin, address string, args ...string) result {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Dir, cmd.Env = "/", []string{asProgram + "=" + defaultRunDir, busVar + "=" + address}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func (r result) want(t *testing.T, what string, code int, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(r.out+r.errs, w) {
			t.Errorf("%s: no %q in\n%s%s", what, w, r.out, r.errs)
		}
	}
	if r.code != code {
		t.Errorf("%s: code %d, want %d:\n%s%s", what, r.code, code, r.out, r.errs)
	}
}

func needMemcg(t *testing.T) {
	t.Helper()
	if _, err := reclaim.FindHierarchy(); err != nil {
		t.Skip(err)
	}
}

func TestVerbsOverBus(t *testing.T) {
	n := serveNode(t, onBus(t))
	ctl("version").want(t, "version", 0, "scopereapd 7.7")
	ctl("leaks").want(t, "leaks", 0, "alice", "2.5")
	ctl("linger", "list").want(t, "linger list", 0, "alice", "scopereap")
	ctl("linger", "add", "bob").want(t, "linger add", 0, "bob (4711): linger turned on")
	ctl("linger", "remove", "bob").want(t, "linger remove", 0, "bob (4711): linger turned off; the policy's rule a* turns")
	ctl("linger", "add", "ghost").want(t, "linger add of nobody", 64, "no such user: ghost")
	ctl("linger", "add", "-n", "carol").want(t, "linger add -n", 0, "carol (4711): would turn linger on")
	if diff := cmp.Diff([]string{"bob", "bob", "carol"}, n.changes()); diff != "" {
		t.Error("changed:\n" + diff)
	}
	ctl("cron", "audit").want(t, "cron audit", 0, "/only/the-daemon:1", "carol", "1 2 * * *", "44", "/x:3: odd")
	show := ctl("policy", "show")
	show.want(t, "policy show", 0, `interval = "17m"`, "/in/force.toml:4", "the policy on disk is another")
	if strings.Contains(show.out, "on disk") {
		t.Error("the note is in the output")
	}
	ctl("policy", "show", "--on-disk").want(t, "policy show --on-disk", 0, `interval = "5m"`)
	var r showReport
	err := json.Unmarshal([]byte(ctl("policy", "show", "--json").out), &r)
	if err != nil || r.Files[0].Path != "/in/force.toml" {
		t.Errorf("%+v, %v", r.Files, err)
	}
	// Who names other files than the daemon's does not mean it.
	ctl("--policy-root", t.TempDir(), "policy", "show").want(t, "policy show elsewhere", 0, `interval = "5m"`)
	if got := ctl("--run-dir", t.TempDir(), "version"); strings.Contains(got.out, "7.7") {
		t.Errorf("another daemon's version: %s", got.out)
	}
}

// The daemon's own survey is shown by status and planned by, where it can be had; here on a machine of either kind.
func TestSurveyOverBus(t *testing.T) {
	serveNode(t, onBus(t))
	a := &app{runDir: defaultRunDir}
	s, err := a.survey(t.Context(), nil, "/", true)
	if err != nil || s.Dying != 9 || len(s.Ancestors) != 1 || s.Ancestors[0].Path != "/only-the-daemon.slice" {
		t.Errorf("%+v, %v", s, err)
	}
	loaded, err := a.inForce(t.Context())
	if err != nil || loaded.Policy.Sweep.Interval.String() != "17m" {
		t.Errorf("the policy in force: %v, %v", loaded, err)
	}
}

func TestStatusOverBus(t *testing.T) {
	needMemcg(t)
	b := onBus(t)
	serveNode(t, b)
	// Nobody in particular sees it too.
	for _, got := range []result{ctl("status", "--json"), ctlAs(t, program(t), b.Address, "status", "--json")} {
		var r statusReport
		if err := json.Unmarshal([]byte(got.out), &r); err != nil || got.code != 0 {
			t.Fatalf("%v: %+v", err, got)
		}
		if r.Daemon == nil || r.Daemon.PID != 77 || r.Daemon.Engine.Totals.Freed != 4321 || !r.Abilities.PSI.OK() {
			t.Errorf("%+v", r.Daemon)
		}
		if r.Mode.V2() && (len(r.Ancestors) != 1 || r.Dying != 9) {
			t.Errorf("ancestors %+v", r.Ancestors)
		}
	}
}

func TestSweepOverBus(t *testing.T) {
	needMemcg(t)
	n := serveNode(t, onBus(t))
	got := ctl("sweep", "--json")
	var r sweepReport
	if err := json.Unmarshal([]byte(got.out), &r); err != nil || got.code != 0 {
		t.Fatalf("%v: %+v", err, got)
	}
	h, err := reclaim.FindHierarchy()
	if err != nil {
		t.Fatal(err)
	}
	if h.Mode.V2() && r.DyingAfter != 1 || r.Freed != 6 || r.Wall != time.Second || r.Outcomes[0].Pins[0].Bytes != 4096 {
		t.Errorf("%+v", r)
	}
	var seen []reclaim.SweepProgress
	var bus busDaemon
	req := reclaim.SweepRequest{Under: "/x", Progress: func(p reclaim.SweepProgress) { seen = append(seen, p) }}
	if _, err := bus.sweep(t.Context(), req, false); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]reclaim.SweepProgress{{Ancestors: 1, Dying: 7, Freed: 3}}, seen); diff != "" {
		t.Error("progress:\n" + diff)
	}
	_, err = bus.sweep(t.Context(), reclaim.SweepRequest{Under: "/fails"}, false)
	if err == nil || err.Error() != "it broke" {
		t.Errorf("a sweep that fails: %v", err)
	}
	if diff := cmp.Diff([]string{"/", "/x", "/fails"}, n.sweeps()); diff != "" {
		t.Error("swept:\n" + diff)
	}
}
