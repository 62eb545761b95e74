package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/logind/linger"
)

func lingerers() lingerReport {
	// Shown in the reader's time zone, so that it is the same in each.
	at := func(h, m int) time.Time { return time.Date(2026, 11, 23, h, m, 0, 0, time.Local) }
	n := func(f float64) *float64 { return &f }
	return lingerReport{Users: []linger.User{
		{Name: "stranger", Lingers: true, Since: at(9, 0), SetBy: linger.SetByAdministrator, Note: "there is no such user"},
		{UID: 990, Known: true, Name: "svc-backup", Lingers: true, Rule: "svc-*", Since: at(8, 30), SetBy: linger.SetByUs,
			Before: n(61), After: n(0)},
		{UID: 1000, Known: true, Name: "alice", Lingers: true, Rule: linger.RuleAuto, Since: at(17, 5), SetBy: linger.SetByUs,
			Before: n(12.5)},
		{UID: 1001, Known: true, Name: "bob", Lingers: true, Since: at(7, 0), SetBy: linger.SetByAdministrator},
		{UID: 1002, Known: true, Name: "carol", Rule: "@staff"},
		{UID: 1003, Known: true, Name: "dave", Rule: "1000-1999", Note: "somebody else turned it off"},
		{UID: 1004, Known: true, Name: "odd\x1b[31mname", Lingers: true, Rule: "odd*", Since: at(7, 1), SetBy: linger.SetByUs},
	}}
}

func TestLingerList(t *testing.T) {
	golden(t, "linger", func(p printer) { lingerers().text(p) })
	goldenOn(t, "linger-tty80", printer{width: 80}, func(p printer) { lingerers().text(p) })
	golden(t, "linger-none", func(p printer) { lingerReport{}.text(p) })
}

func TestLingerChanges(t *testing.T) {
	r := lingerChanges{Changes: []lingerChange{
		{Change: linger.Change{UID: 1000, Name: "alice", Action: linger.Enable, Rule: linger.RuleCtl}},
		{Change: linger.Change{UID: 1001, Name: "bob", Action: linger.Disable, Rule: "b*", Again: "b*"}},
		{Change: linger.Change{UID: 1002, Name: "carol", Action: linger.Leave, Why: "linger is not on"}},
		{Change: linger.Change{UID: 1003, Name: "dave", Err: errors.New("x")}, Error: "told elsewhere"},
	}}
	golden(t, "linger-changes", func(p printer) { r.text(p) })
	r.DryRun = true
	golden(t, "linger-changes-dry", func(p printer) { r.text(p) })
	golden(t, "linger-changes-json", func(p printer) {
		if err := p.json(r); err != nil {
			t.Error(err)
		}
	})
}

// The verbs as they are run, with a fake logind and this machine's own user database.
func TestLingerVerbs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	bus := bustest.StartBus(t)
	m := bustest.NewMachine(t, bus)
	dir := t.TempDir()
	m.Linger(filepath.Join(dir, "linger"), nil, bustest.User{Name: "root"}, bustest.User{UID: 1, GID: 1, Name: "daemon"})
	t.Setenv(busVar, bus.Address)
	policyFile := filepath.Join(dir, "root/etc/scopereap/policy.toml")
	if err := os.MkdirAll(filepath.Dir(policyFile), 0o755); err != nil {
		t.Fatal(err)
	}
	policy := func(text string) {
		t.Helper()
		if err := os.WriteFile(policyFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctl := func(code int, want string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		args = append([]string{"--policy-root", filepath.Join(dir, "root"), "linger", args[0], "--state",
			filepath.Join(dir, "lib/linger.json"), "--linger-dir", filepath.Join(dir, "linger")}, args[1:]...)
		got := run(args, &out, &errs)
		if all := out.String() + errs.String(); got != code || !strings.Contains(all, want) {
			t.Errorf("%v: code %d, want %d and %q in:\n%s", args[3:], got, code, want, all)
		}
	}
	lingers := func(names ...string) {
		t.Helper()
		if got := strings.Join(m.Lingering(), " "); got != strings.Join(names, " ") {
			t.Errorf("who lingers: %s, want %s", got, names)
		}
	}
	policy("")
	ctl(0, "Nobody lingers", "list")
	ctl(exitcode.Usage, "at least 1", "add")
	ctl(0, "root (0): would turn linger on", "add", "--dry-run", "root")
	lingers()
	ctl(0, "root (0): linger turned on", "add", "root")
	ctl(0, "by scopereapctl", "add", "0")
	ctl(1, "no such user: nobody-at-all", "add", "nobody-at-all", "daemon")
	lingers("daemon", "root")
	ctl(0, "scopereapctl", "list")
	policy("[linger]\nusers = ['ro*']\n")
	ctl(0, "the policy's rule ro* turns it on again", "remove", "root")
	lingers("daemon")
	ctl(0, "not yet", "list")
	m.SetLinger("root", true)
	ctl(1, "loginctl disable-linger root", "remove", "root")
	policy("[linger]\nuser = 5\n")
	ctl(exitcode.Config, "there is no such key", "list")
	ctl(0, "daemon (1): would turn linger off", "reset", "-n")
	ctl(0, "daemon (1): linger turned off", "remove", "daemon")
	policy("")
	ctl(0, "linger turned on", "add", "daemon")
	ctl(0, "daemon (1): linger turned off", "reset")
	ctl(0, "nothing to do", "reset")
	lingers("root")
	ctl(0, "administrator", "list")

	var out, errs bytes.Buffer
	run([]string{"linger", "list", "--json", "--state", filepath.Join(dir, "lib/linger.json"), "--linger-dir",
		filepath.Join(dir, "linger")}, &out, &errs)
	var r struct{ Users []linger.User }
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || len(r.Users) != 1 || r.Users[0].Name != "root" {
		t.Errorf("%v in %s%s", err, &out, &errs)
	}
}
