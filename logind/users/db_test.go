package users

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// scripted makes a DB whose getent and id are one script, and a file that has a line for each call.
func scripted(t *testing.T, script string, o Options) (db *DB, calls func() int) {
	t.Helper()
	dir := t.TempDir()
	count := filepath.Join(dir, "calls")
	text := fmt.Sprintf("#!/bin/sh\necho \"$*\" >> %s\n%s\n", count, script)
	for _, name := range []string{"getent", "id"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o.Programs = []string{dir}
	return New(o), func() int {
		b, _ := os.ReadFile(count)
		return strings.Count(string(b), "\n")
	}
}

// fileRoot has an etc/passwd and an etc/group.
func fileRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"passwd": "local:x:1000:100:A B,,,:/home/local:/bin/bash\n",
		"group":  "users:x:100:local,other\n",
	} {
		err := os.MkdirAll(filepath.Join(root, "etc"), 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestAsksGetent(t *testing.T) {
	for _, c := range []struct {
		name, script string
		user         User
		want         string // in the error
	}{
		{"found", "echo 'ldap:*:5000:6000:Gecos:/home/ldap:/bin/zsh'",
			User{UID: 5000, GID: 6000, Name: "ldap", Shell: "/bin/zsh"}, ""},
		{"not found", "exit 2", User{}, "no such user: local (asked: getent passwd local)"},
		{"fails, but there is the file", "exit 1", User{UID: 1000, GID: 100, Name: "local", Shell: "/bin/bash"}, ""},
		{"nonsense, but there is the file", "echo hello", User{UID: 1000, GID: 100, Name: "local", Shell: "/bin/bash"}, ""},
		{"hangs, but there is the file", "sleep 100", User{UID: 1000, GID: 100, Name: "local", Shell: "/bin/bash"}, ""},
		{"writes for ever, but there is the file", "yes", User{UID: 1000, GID: 100, Name: "local", Shell: "/bin/bash"}, ""},
		{"a child that stays", "sleep 100 & echo 'ldap:*:5000:6000::/:'", User{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, _ := scripted(t, c.script, Options{Root: fileRoot(t), Timeout: time.Second})
			began := time.Now()
			u, err := db.ByName(context.Background(), "local")
			if c.want == "" && c.user.Name == "" {
				// Either answer will do, as long as there is one.
			} else if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			} else if diff := cmp.Diff(c.user, u); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	ctx := context.Background()
	db, _ := scripted(t, "sleep 100", Options{Root: t.TempDir(), Timeout: 200 * time.Millisecond})
	if _, err := db.ByName(ctx, "alice"); err == nil || errors.Is(err, ErrUnknownUser) ||
		!strings.Contains(err.Error(), "no answer within") {
		t.Errorf("a directory that hangs does not say that there is nobody: %v", err)
	}
	db = New(Options{Root: fileRoot(t), Programs: []string{t.TempDir()}})
	if u, err := db.ByUID(ctx, 1000); err != nil || u.Name != "local" {
		t.Errorf("without getent: %+v, %v", u, err)
	}
	if g, err := db.Group(ctx, "100"); err != nil || len(g.Members) != 2 {
		t.Errorf("without getent: %+v, %v", g, err)
	}
	if _, err := db.ByUID(ctx, 1001); err == nil || !strings.Contains(err.Error(), "no getent found in") {
		t.Errorf("without getent: %v", err)
	}
	for _, name := range []string{"", "-x", "a/b", "a\nb", "a\x00", "a:b"} {
		if _, err := db.ByName(ctx, name); !errors.Is(err, ErrUnknownUser) {
			t.Errorf("user %q: %v", name, err)
		}
		if _, err := db.Group(ctx, name); !errors.Is(err, ErrUnknownGroup) {
			t.Errorf("group %q: %v", name, err)
		}
	}
}

func TestRemembers(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	db, calls := scripted(t, `[ "$2" = no ] && exit 2; echo 'ldap:*:5000:6000::/:/bin/sh'`,
		Options{Now: func() time.Time { return now }})
	ctx := context.Background()
	ask := func(name string, want int) {
		t.Helper()
		_, _ = db.ByName(ctx, name)
		if got := calls(); got != want {
			t.Errorf("%d calls, want %d", got, want)
		}
	}
	ask("ldap", 1)
	ask("no", 2)
	ask("ldap", 2)
	ask("no", 2)
	now = now.Add(time.Minute)
	ask("ldap", 2)
	ask("no", 3)
	now = now.Add(5 * time.Minute)
	ask("ldap", 4)
	now = now.Add(-100 * time.Hour) // the clock was set back
	ask("ldap", 5)
	gaveUp, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := db.ByName(gaveUp, "other"); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if _, err := db.ByName(ctx, "other"); err != nil {
		t.Errorf("that one gave up was remembered: %v", err)
	}
}

// The machine's own getent and id.
func TestReal(t *testing.T) {
	db := New(Options{})
	ctx := context.Background()
	root, err := db.ByName(ctx, "root")
	if err != nil || root.UID != 0 || root.Name != "root" {
		t.Fatalf("root: %+v, %v", root, err)
	}
	if u, err := db.ByUID(ctx, 0); err != nil || u != root {
		t.Errorf("UID 0: %+v, %v", u, err)
	}
	if g, err := db.Group(ctx, "0"); err != nil || g.GID != 0 {
		t.Errorf("group 0: %+v, %v", g, err)
	}
	if gids, err := db.GroupsOf(ctx, "root"); err != nil || len(gids) == 0 || gids[0] != 0 {
		t.Errorf("groups of root: %v, %v", gids, err)
	}
	if _, err := db.ByName(ctx, "scopereap-no-such-user"); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := db.Group(ctx, "scopereap-no-such-group"); !errors.Is(err, ErrUnknownGroup) {
		t.Errorf("no group: %v", err)
	}
	if list, err := db.Local(); err != nil || len(list) == 0 {
		t.Errorf("local users: %v, %v", list, err)
	}
}

func TestTrustedProgram(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "getent")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := trustedProgram([]string{"/nowhere", dir}, "getent"); err != nil || got != p {
		t.Errorf("%s, %v", got, err)
	}
	for name, do := range map[string]func() error{
		"written by others": func() error { return os.Chmod(p, 0o777) },
		"is not a program":  func() error { return os.Chmod(p, 0o644) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		_, err := trustedProgram([]string{dir}, "getent")
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParsePasswd(t *testing.T) {
	users, broken := parsePasswd("root:x:0:0:root:/root:/bin/bash\n# note\n+::::::\n-bad::::::\nshort:x:1\n" +
		"x:x:abc:0:::\ntoor:x:0:0:::/bin/sh\nroot:x:7:7:::\n\nnobody:x:65534:65534:::\r\nnone:x:65535:1:::\nlast:x:5:5:::/s")
	want := []User{{Name: "root", Shell: "/bin/bash"}, {UID: 65534, GID: 65534, Name: "nobody"}, {UID: 5, GID: 5, Name: "last", Shell: "/s"}}
	if diff := cmp.Diff(want, users); diff != "" || broken != 3 {
		t.Errorf("%d broken (-want +got):\n%s", broken, diff)
	}
}

func FuzzUserDatabase(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/bash\nops:x:200:bob,alice\n")
	f.Fuzz(func(t *testing.T, text string) {
		users, _ := parsePasswd(text)
		for _, u := range users {
			if NameFault(u.Name) != nil || !ValidUID(u.UID) {
				t.Errorf("user %+v", u)
			}
		}
		groups, _ := parseGroups(text)
		for _, g := range groups {
			for _, m := range append(g.Members, g.Name) {
				if NameFault(m) != nil {
					t.Errorf("group %+v", g)
				}
			}
		}
		_, _ = parseGIDs(text)
	})
}
