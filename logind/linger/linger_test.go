package linger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/logind/users"
)

// rig is a Keeper with a fake logind, a user database of files and a fake getent, and a clock.
type rig struct {
	*testing.T
	bus   *bustest.Bus
	m     *bustest.Machine
	dir   string
	state string
	root  string
	log   *bustest.LogBook
	at    atomic.Pointer[time.Time] // the fake logind looks, too
	l     *Keeper
}

// fakeGetent answers from the rig's files: "ldap-*" names and groups from a directory service that
// can be down.
const fakeGetent = `#!/bin/sh
root=%s
[ -e $root/broken ] && exit 1
case $1 in passwd) f=passwd ;; group) f=group ;; esac
line=$( { cat $root/etc/$f; [ -e $root/down ] || cat $root/ldap/$f; } | while IFS=: read -r name x id rest; do
	if [ "$name" = "$2" ] || [ "$id" = "$2" ]; then echo "$name:$x:$id:$rest"; break; fi
done )
[ -n "$line" ] || exit 2
echo "$line"
`

const fakeID = `#!/bin/sh
[ "$2" = carol ] && { echo "1002 3000"; exit; }
echo 100
`

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, bus: bustest.StartBus(t), root: t.TempDir(), log: &bustest.LogBook{}}
	began := time.Now()
	r.at.Store(&began)
	r.m = bustest.NewMachine(t, r.bus)
	r.dir, r.state = filepath.Join(r.root, "linger"), filepath.Join(r.root, "lib", "linger.json")
	for file, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\n" +
			"alice:x:1000:100::/:/bin/sh\nbob:x:1001:100::/:/bin/sh\nsvc-a:x:990:990::/:/sbin/nologin\n",
		"etc/group":   "users:x:100:\nops:x:200:bob,gone\n",
		"ldap/passwd": "carol:*:2002:2002::/:/bin/sh\ndave:*:2003:3000::/:/bin/sh\n",
		"ldap/group":  "staff:*:3000:\n",
	} {
		r.write(filepath.Join(r.root, file), text, 0o644)
	}
	r.write(filepath.Join(r.root, "bin/getent"), fmt.Sprintf(fakeGetent, r.root), 0o755)
	r.write(filepath.Join(r.root, "bin/id"), fakeID, 0o755)
	r.m.Linger(r.dir, r.now,
		bustest.User{UID: 0, Name: "root"}, bustest.User{UID: 1000, GID: 100, Name: "alice"},
		bustest.User{UID: 1001, GID: 100, Name: "bob"}, bustest.User{UID: 990, GID: 990, Name: "svc-a"},
		bustest.User{UID: 2002, GID: 2002, Name: "carol"}, bustest.User{UID: 2003, GID: 3000, Name: "dave"})
	r.renew()
	return r
}

// now and later are the clock.
func (r *rig) now() time.Time { return *r.at.Load() }

func (r *rig) later(d time.Duration) {
	next := r.now().Add(d)
	r.at.Store(&next)
}

// renew is a restart of the program.
func (r *rig) renew() {
	r.l = New(Options{
		Dial: logind.DialAddress(r.bus.Address), State: r.state, LingerDir: r.dir, Now: r.now, CallTimeout: patience,
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
		Users: users.New(users.Options{Root: r.root, Programs: []string{filepath.Join(r.root, "bin")}, Timeout: patience,
			Now: r.now}),
	})
}

func (r *rig) write(path, text string, mode os.FileMode) {
	r.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), mode)
	}
	if err != nil {
		r.Fatal(err)
	}
}

func named(patterns ...string) (list []users.Pattern) {
	for _, s := range patterns {
		p, err := users.ParsePattern(s)
		if err != nil {
			panic(err)
		}
		list = append(list, p)
	}
	return list
}

func rules(patterns ...string) Rules { return Rules{Users: named(patterns...)} }

// reconcile runs and returns the changes as text. Time goes by before, so that what is remembered
// for a short time is asked anew.
func (r *rig) reconcile(rules Rules) string {
	r.Helper()
	r.later(10 * time.Minute)
	c, err := r.l.Reconcile(context.Background(), rules)
	if err != nil {
		r.Errorf("Reconcile: %v\n%s", err, r.log)
	}
	return changes(c)
}

func changes(list []Change) string {
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, "%s %s (%s)\n", c.Action, c.Name, c.Rule)
	}
	return b.String()
}

// want compares changes, and who lingers afterwards.
func (r *rig) want(what, got, want string, lingering ...string) {
	r.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		r.Errorf("%s: changes (-want +got):\n%s%s", what, diff, r.log)
	}
	slices.Sort(lingering)
	if diff := cmp.Diff(append([]string{}, lingering...), r.m.Lingering()); diff != "" {
		r.Errorf("%s: who lingers (-want +got):\n%s%s", what, diff, r.log)
	}
}

func TestReconcileFollowsTheRules(t *testing.T) {
	r := newRig(t)
	r.want("no rules", r.reconcile(rules()), "")
	// Not logged in, and that carol is in staff only id -G knows.
	r.want("never by id -G", r.reconcile(Rules{Users: named("carol"), Never: named("@staff")}), "")
	r.want("names", r.reconcile(rules("alice", "carol", "nobody-here")),
		"enable alice (alice)\nenable carol (carol)\n", "alice", "carol")
	r.want("again", r.reconcile(rules("alice", "carol", "nobody-here")), "", "alice", "carol")
	if n := r.log.Count("nobody-here (asked"); n != 1 {
		t.Errorf("a user who is not there was told %d times\n%s", n, r.log)
	}
	r.renew()
	r.want("after a restart", r.reconcile(rules("carol")), "disable alice (alice)\n", "carol")
	r.want("range", r.reconcile(rules("1000-1999")), "enable alice (1000-1999)\nenable bob (1000-1999)\n"+
		"disable carol (carol)\n", "alice", "bob")
	r.want("never", r.reconcile(Rules{Users: named("1000-1999"), Never: named("b*")}),
		"disable bob (1000-1999)\n", "alice")
	r.want("a primary group", r.reconcile(rules("@users")), "enable bob (@users)\n", "alice", "bob")
	r.want("a group's members", r.reconcile(rules("@ops")), "disable alice (@users)\n", "bob")
	// Directory users count for groups and ranges once they are logged in; id -G knows that carol
	// is in staff.
	r.want("LDAP, nobody seen", r.reconcile(rules("@staff")), "disable bob (@ops)\n")
	r.m.AddSession(bustest.Session{ID: "1", UID: 2002, User: "carol"})
	r.m.AddSession(bustest.Session{ID: "2", UID: 2003, User: "dave"})
	r.want("LDAP, logged in", r.reconcile(rules("@staff")), "enable carol (@staff)\nenable dave (@staff)\n", "carol", "dave")
	r.want("never a group", r.reconcile(Rules{Users: named("200*", "dave"), Never: named("@staff")}),
		"disable carol (@staff)\ndisable dave (@staff)\n")
	// One who cannot log in is found by a wildcard only when there is a session.
	r.want("nologin", r.reconcile(rules("svc-*")), "")
	r.m.AddSession(bustest.Session{ID: "3", UID: 990, User: "svc-a"})
	r.want("nologin, cron job", r.reconcile(rules("svc-*")), "enable svc-a (svc-*)\n", "svc-a")
	r.m.RemoveSession("3")
	r.want("and stays", r.reconcile(rules("svc-*")), "", "svc-a")
}

func TestDirectoryDownTakesNothingAway(t *testing.T) {
	r := newRig(t)
	r.m.AddSession(bustest.Session{ID: "1", UID: 2003, User: "dave"})
	r.reconcile(rules("@staff", "carol"))
	r.want("set", r.reconcile(rules("@staff", "carol", "2000-2999")), "", "carol", "dave")
	for _, how := range []string{"down", "broken"} {
		r.write(filepath.Join(r.root, how), "", 0o644)
		r.want(how, r.reconcile(rules("@staff", "carol")), "", "carol", "dave")
		r.m.RemoveSession("1")
		r.want(how+", logged out", r.reconcile(rules("@staff", "2000-2999")), "", "carol", "dave")
		os.Remove(filepath.Join(r.root, how))
	}
	if r.log.Count("staff") == 0 {
		t.Errorf("nothing was told:\n%s", r.log)
	}
	r.write(filepath.Join(r.root, "broken"), "", 0o644)
	r.later(time.Hour)
	_, err := r.l.Reconcile(context.Background(), Rules{Users: named("alice"), Never: named("@staff")})
	if err == nil || !strings.Contains(err.Error(), "@staff") {
		t.Errorf("who never lingers is not known: %v", err)
	}
	r.want("a removed rule", r.reconcile(rules()), "disable carol (@staff)\ndisable dave (@staff)\n")
}

func TestAdministratorsLingerStays(t *testing.T) {
	r := newRig(t)
	r.m.SetLinger("alice", true)
	r.want("theirs", r.reconcile(rules("alice", "bob")), "enable bob (bob)\n", "alice", "bob")
	r.later(time.Second)
	r.m.SetLinger("bob", true) // once more, by hand
	r.want("theirs too", r.reconcile(rules("alice", "bob")), "leave bob (bob)\n", "alice", "bob")
	r.want("rules gone", r.reconcile(rules()), "", "alice", "bob")
	for _, name := range []string{"alice", "1001"} {
		_, err := r.l.Remove(context.Background(), rules(), name, false)
		if !errors.Is(err, ErrNotOurs) || !strings.Contains(err.Error(), "loginctl disable-linger") {
			t.Errorf("Remove %s: %v", name, err)
		}
	}
	c, err := r.l.Reset(context.Background(), false)
	if err != nil {
		t.Error(err)
	}
	r.want("reset", changes(c), "", "alice", "bob")
}

// TestAdministratorWasFaster: linger that somebody turns on between the look and the change is
// theirs.
func TestAdministratorWasFaster(t *testing.T) {
	r := newRig(t)
	bus := &connection{opts: r.l.opts}
	defer bus.close()
	o, err := r.l.begin(t.Context(), bus, false)
	if err != nil {
		t.Fatal(err)
	}
	r.m.SetLinger("alice", true)
	steps := []Change{{UID: 1000, Name: "alice", Action: Enable, Rule: "alice"}}
	err = o.do(t.Context(), steps)
	o.end()
	if err != nil {
		t.Error(err)
	}
	r.want("theirs", changes(steps), "leave alice (alice)\n", "alice")
	r.want("rule gone", r.reconcile(rules()), "", "alice")
}

func TestSomebodyElseTurnsItOff(t *testing.T) {
	r := newRig(t)
	all := rules("alice", "b*")
	r.reconcile(all)
	r.m.SetLinger("alice", false)
	r.m.SetLinger("bob", false)
	r.want("noticed", r.reconcile(all), "leave alice (alice)\nleave bob (b*)\n")
	c, err := r.l.Reconcile(context.Background(), all)
	if err != nil {
		t.Error(err)
	}
	r.want("at once", changes(c), "")
	r.want("named by a rule", r.reconcile(all), "enable alice (alice)\n", "alice")
	r.want("not a fight", r.reconcile(all), "", "alice")
	if n := r.log.Count("msg=\"linger: " + whyTaken); n != 2 {
		t.Errorf("told %d times\n%s", n, r.log)
	}
	r.want("rule gone", r.reconcile(rules("alice")), "", "alice")
	r.want("and there again", r.reconcile(all), "enable bob (b*)\n", "alice", "bob")
}

func TestVerbs(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	add := func(user string, dry bool) string {
		t.Helper()
		c, err := r.l.Add(ctx, Rules{Never: named("@staff", "bob")}, user, dry)
		if err != nil {
			return err.Error()
		}
		return changes([]Change{c})
	}
	r.want("dry", add("alice", true), "enable alice (scopereapctl)\n")
	if _, err := os.Stat(r.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run wrote a state file: %v", err)
	}
	r.want("add", add("1000", false), "enable alice (scopereapctl)\n", "alice")
	r.want("twice", add("alice", false), "leave alice (scopereapctl)\n", "alice")
	for user, want := range map[string]string{"dave": "linger.never", "bob": "linger.never", "who": "no such user",
		"a*": "name one user", "@users": "name one user"} {
		if got := add(user, false); !strings.Contains(got, want) {
			t.Errorf("add %s: %s, want %q", user, got, want)
		}
	}
	r.want("no rule needed", r.reconcile(rules("carol")), "enable carol (carol)\n", "alice", "carol")
	c, err := r.l.Remove(ctx, rules("car*", "carol"), "carol", true)
	if err != nil || c.Again != "car*" {
		t.Errorf("dry Remove: %+v, %v", c, err)
	}
	c, err = r.l.Remove(ctx, rules("carol"), "carol", false)
	if err != nil || c.Again != "carol" {
		t.Errorf("Remove: %+v, %v", c, err)
	}
	r.want("removed", changes([]Change{c}), "disable carol (carol)\n", "alice")
	c, err = r.l.Remove(ctx, rules(), "carol", false)
	if err != nil {
		t.Error(err)
	}
	r.want("removed again", changes([]Change{c}), "leave carol ()\n", "alice")
	r.want("the rule again", r.reconcile(rules("carol")), "enable carol (carol)\n", "alice", "carol")
	list, err := r.l.Reset(ctx, true)
	if err != nil {
		t.Error(err)
	}
	r.want("dry reset", changes(list), "disable alice (scopereapctl)\ndisable carol (carol)\n", "alice", "carol")
	list, err = r.l.Reset(ctx, false)
	if err != nil {
		t.Error(err)
	}
	r.want("reset", changes(list), "disable alice (scopereapctl)\ndisable carol (carol)\n")
}

func TestResetWithoutLogind(t *testing.T) {
	r := newRig(t)
	r.m.SetLinger("bob", true)
	r.reconcile(rules("alice", "carol"))
	r.m.StopLogind()
	if _, err := r.l.Remove(context.Background(), rules(), "alice", false); err == nil ||
		!strings.Contains(err.Error(), "systemctl start systemd-logind") {
		t.Errorf("Remove: %v", err)
	}
	r.want("nothing done", "", "", "alice", "bob", "carol")
	r.bus.Stop()
	c, err := r.l.Reset(context.Background(), false)
	if err != nil {
		t.Error(err)
	}
	r.want("reset", changes(c), "disable alice (alice)\ndisable carol (carol)\n", "bob")
}

func TestUserGoneOrRenamed(t *testing.T) {
	r := newRig(t)
	r.reconcile(rules("alice", "bob"))
	text, err := os.ReadFile(filepath.Join(r.root, "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	gone := bytes.Replace(text, []byte("alice:x:1000:100::/:/bin/sh\n"), nil, 1)
	gone = bytes.Replace(gone, []byte("bob:"), []byte("bobby:"), 1)
	r.write(filepath.Join(r.root, "etc/passwd"), string(gone), 0o644)
	r.m.SetKnown(bustest.User{UID: 1001, GID: 100, Name: "bobby"})
	r.want("renamed", r.reconcile(rules("alice", "1001")), "disable bob (bob)\n", "alice")
	r.want("then the new name", r.reconcile(rules("alice", "1001")), "enable bobby (1001)\n", "alice", "bobby")
	r.want("gone", r.reconcile(rules()), "disable alice (alice)\ndisable bobby (1001)\n")
}

func TestLogindRefuses(t *testing.T) {
	for _, c := range []struct {
		name, errName string
		after         bool
		want          string
		lingers       []string
	}{
		{"no such user", "System.Error.ESRCH", false, "no user with UID 1000", nil},
		{"no such user, old", "org.freedesktop.DBus.Error.FileNotFound", false, "no user with UID 1000", nil},
		{"not root", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", false, "takes root", nil},
		{"failed after all", "org.freedesktop.DBus.Error.Failed", true, "Failed", []string{"alice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.m.FailLinger(1000, c.errName, c.after)
			got, err := r.l.Reconcile(context.Background(), rules("alice", "bob"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			r.want("the other", changes(got), "enable alice (alice)\nenable bob (bob)\n", append(c.lingers, "bob")...)
			r.m.FailLinger(1000, "", c.after)
			r.reconcile(rules("alice", "bob"))
			r.want("healed", "", "", "alice", "bob")
			r.want("undone", r.reconcile(rules()), "disable alice (alice)\ndisable bob (bob)\n")
		})
	}
}

func TestLogindSilent(t *testing.T) {
	r := newRig(t)
	r.m.Fail("SetUserLinger", bustest.Silence)
	r.l.opts.CallTimeout = 2 * time.Second
	_, err := r.l.Reconcile(context.Background(), rules("alice"))
	if err == nil || !strings.Contains(err.Error(), "no answer within") {
		t.Errorf("error %v", err)
	}
	// It was done, but too late to be answered.
	r.m.SetLinger("alice", true)
	r.m.Heal()
	r.want("found out", r.reconcile(rules("alice")), "", "alice")
	r.want("ours", r.reconcile(rules()), "disable alice (alice)\n")
	r.m.Fail("*", bustest.Babble)
	if _, err := r.l.Reconcile(context.Background(), rules("a*")); err == nil {
		t.Error("nonsense from ListUsers was believed")
	}
}
