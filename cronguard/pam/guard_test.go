package pam

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// copyTree makes a root directory like one in testdata.
func copyTree(t testing.TB, name string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	return root
}

// snapshot is all files below root.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(p)
			out[p] = "-> " + to
			return err
		}
		data, err := os.ReadFile(p)
		out[p] = info.Mode().String() + "\n" + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func guard(t testing.TB, root, state string, systemd int, services ...string) Plan {
	t.Helper()
	p, err := PlanGuard(root, state, services, GuardOptions{SystemdVersion: systemd})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(); err != nil {
		t.Fatal(err)
	}
	return p
}

func unguard(t testing.TB, root, state string) Plan {
	t.Helper()
	p, err := PlanUnguard(root, state, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(); err != nil {
		t.Fatal(err)
	}
	return p
}

// planned are the actions of a plan's, by service.
func planned(p Plan) map[string]Action {
	out := map[string]Action{}
	for _, i := range p.Items {
		out[i.Service] = i.Action
	}
	return out
}

// On every distribution: guarded, nobody else touched, a second time nothing to do, and back to the
// byte.
func TestGuardDistributions(t *testing.T) {
	tests := []struct {
		tree    string
		systemd int
		want    map[string]Action
	}{
		{"debian12", 252, map[string]Action{}},
		{"ubuntu", 255, map[string]Action{"cron": ActionChange}},
		{"rhel7", 219, map[string]Action{"crond": ActionChange, "atd": ActionChange}},
		{"rhel8", 0, map[string]Action{"crond": ActionChange, "atd": ActionChange}},
		{"rhel9", 252, map[string]Action{"crond": ActionChange, "atd": ActionChange}},
		{"fedora", 258, map[string]Action{"crond": ActionChange, "atd": ActionChange}},
		{"suse", 254, map[string]Action{"crond": ActionChange, "atd": ActionChange}},
		{"arch", 258, map[string]Action{}},
	}
	for _, tt := range tests {
		t.Run(tt.tree, func(t *testing.T) {
			root, state := copyTree(t, tt.tree), t.TempDir()
			before := snapshot(t, root)
			p := guard(t, root, state, tt.systemd)
			if diff := cmp.Diff(tt.want, planned(p)); diff != "" {
				t.Fatalf("%s\n%+v", diff, p.Items)
			}
			for _, i := range p.Items {
				if v, err := SessionStack(root, i.Service); err != nil || v.Runs != No {
					t.Errorf("after the guard: %+v %v\n%s", v, err, i.Diff)
				}
				if st, err := GuardStatus(root, state, i.Service); err != nil || st.Kind != GuardOn {
					t.Errorf("%+v %v", st, err)
				}
				if want := method(i.Service, tt.systemd); i.Method != want {
					t.Errorf("method %s, want %s", i.Method, want)
				}
			}
			guarded := snapshot(t, root)
			for file, was := range before {
				if base := filepath.Base(file); !strings.Contains(filepath.Dir(file), "/usr/") && (base == "crond" || base == "cron" || base == "atd") {
					continue
				}
				if guarded[file] != was {
					t.Errorf("%s was touched", file)
				}
			}
			for service, a := range planned(guard(t, root, state, tt.systemd)) {
				if a != ActionGuarded {
					t.Errorf("%s a second time: %s", service, a)
				}
			}
			unguard(t, root, state)
			if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
				t.Errorf("not as before:\n%s", diff)
			}
			if left, _ := filepath.Glob(filepath.Join(state, "*.*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// How lines are rewritten.
func TestGuardRewrite(t *testing.T) {
	tests := []struct {
		name, service, file, shared string
		systemd                     int
		want                        string // without the guard's comments
	}{
		{"own line", "crond", "session required a.so\n-session  [success=ok default=ignore]  pam_systemd.so debug # why\n", "", 0,
			"session required a.so\n-session  [success=ok default=ignore]  pam_permit.so # why\n"},
		{"no newline", "crond", "session optional pam_systemd.so", "", 0, "session optional pam_permit.so\n"},
		{"class added", "atd", "session optional pam_systemd.so debug\n", "", 258, "session optional pam_systemd.so debug class=none\n"},
		{"class replaced", "atd", "session optional pam_systemd.so class=user x\n", "", 260, "session optional pam_systemd.so class=none x\n"},
		{"class for Debian's cron", "cron", "session optional pam_systemd.so\n", "", 262,
			"session optional pam_systemd.so class=none\n"},
		{"class overridden by cron's tty", "crond", "session optional pam_systemd.so\n", "", 260, "session optional pam_permit.so\n"},
		{"include", "crond", "auth include s\nsession include s\n", "auth required a.so\n" + system + "session required b.so\n", 0,
			"auth include s\n-session optional pam_permit.so\nsession required b.so\n"},
		{"@include", "crond", "@include s\n", "auth required a.so\n" + system + "account required b.so\n", 0,
			"auth include s\naccount include s\n-session optional pam_permit.so\n"},
		{"jumps keep their length", "crond", "session [success=2 default=ignore] pam_x.so\n" + system + pwd + pwd, "", 0,
			"session [success=2 default=ignore] pam_x.so\n-session optional pam_permit.so\n" + pwd + pwd},
		{"both of two", "crond", system + "session include s\n", system, 0, "-session optional pam_permit.so\n-session optional pam_permit.so\n"},
		{"a substack that may be flat", "crond", "session substack s\n", "session required a.so\n" + system, 0,
			"session required a.so\n-session optional pam_permit.so\n"},
		{"continued", "crond", "session \\\n optional \\\n pam_systemd.so \\\n debug\n", "", 0, "session \\\n optional \\\n pam_permit.so\n"},
	}
	for _, tt := range tests {
		root, state := writeTree(t, map[string]string{"etc/pam.d/" + tt.service: tt.file, "etc/pam.d/s": tt.shared}), t.TempDir()
		p := guard(t, root, state, tt.systemd, tt.service)
		got := ""
		for l := range strings.Lines(string(p.Items[0].After)) {
			if !strings.HasPrefix(l, "#") {
				got += l
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s %s\n%s", tt.name, p.Items[0].Action, p.Items[0].Why, diff)
		}
		back, n, err := revertBlocks("f", p.Items[0].After)
		if err != nil || n == 0 || string(back) != tt.file {
			t.Errorf("%s: blocks taken out: %d %v %q", tt.name, n, err, back)
		}
		unguard(t, root, state)
		if data, _ := os.ReadFile(filepath.Join(root, "etc/pam.d", tt.service)); string(data) != tt.file {
			t.Errorf("%s: not as before: %q", tt.name, data)
		}
	}
}

// What the guard does not do, and says why.
func TestGuardRefuses(t *testing.T) {
	tests := []struct {
		name    string
		files   map[string]string
		service string
		why     string
	}{
		{"another service", map[string]string{"etc/pam.d/sshd": system}, "sshd", "not a cron service"},
		{"a link", map[string]string{"etc/pam.d/crond": "-> ../crond", "etc/crond": system}, "crond", "symbolic link"},
		{"a directory", map[string]string{"etc/pam.d/crond/x": ""}, "crond", "not a regular file"},
		{"a substack with an end", map[string]string{"etc/pam.d/crond": "session substack s\n", "etc/pam.d/s": "session sufficient a.so\n" + system}, "crond", "/etc/pam.d/crond:1: pam_systemd comes through a substack"},
		{"a substack and a jump over one", map[string]string{"etc/pam.d/crond": "session [success=1 default=ignore] a.so\nsession substack s\nsession required b.so\n", "etc/pam.d/s": system}, "crond", "/etc/pam.d/crond:2: pam_systemd comes through a substack"},
		{"a shared own file", map[string]string{"etc/pam.d/crond": system, "etc/pam.d/login": "session include crond\n"}, "crond", "would reach login too"},
		{"a link to it", map[string]string{"etc/pam.d/crond": system, "etc/pam.d/login": "-> crond"}, "crond", "would reach login too"},
		{"session lines of other", map[string]string{"etc/pam.d/crond": "auth required a.so\n", "etc/pam.d/other": system}, "crond", "no session lines"},
		{"not understood", map[string]string{"etc/pam.d/crond": system + "session \\\n#\n"}, "crond", "/etc/pam.d/crond:3"},
		{"an unknown type", map[string]string{"etc/pam.d/crond": "session include s\n", "etc/pam.d/s": "sesion required a.so\n" + system}, "crond", "/etc/pam.d/s:1"},
		{"pam.conf", map[string]string{"etc/pam.conf": "crond session optional pam_systemd.so\n"}, "crond", "/etc/pam.conf"},
		{"edited inside", map[string]string{"etc/pam.d/crond": "# scopereap: begin: x\n# scopereap: end 123\n" + system}, "crond", "edited inside"},
	}
	for _, tt := range tests {
		root := writeTree(t, tt.files)
		before := snapshot(t, root)
		p := guard(t, root, t.TempDir(), 0, tt.service)
		if i := p.Items[0]; i.Action != ActionRefuse || !strings.Contains(i.Why, tt.why) {
			t.Errorf("%s: %s %s", tt.name, i.Action, i.Why)
		}
		if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
			t.Errorf("%s: touched:\n%s", tt.name, diff)
		}
	}
	root := writeTree(t, map[string]string{"etc/pam.d/crond": system})
	if err := os.Chmod(filepath.Join(root, "etc/pam.d/crond"), 0o666); err != nil {
		t.Fatal(err)
	}
	if i := guard(t, root, t.TempDir(), 0, "crond").Items[0]; i.Action != ActionRefuse {
		t.Errorf("written by anybody: %s", i.Action)
	}
}

// A guard through what can happen to its files.
func TestGuardLife(t *testing.T) {
	root, state := copyTree(t, "rhel9"), t.TempDir()
	crond := filepath.Join(root, "etc/pam.d/crond")
	auth := filepath.Join(root, "etc/authselect/password-auth")
	kind := func(want GuardKind) {
		t.Helper()
		if st, err := GuardStatus(root, state, "crond"); err != nil || st.Kind != want || st.Why == "" {
			t.Fatalf("%+v %v, want %s", st, err, want)
		}
	}
	appendTo := func(file, s string) {
		t.Helper()
		data, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, append(data, s...), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	kind(GuardNone)
	guard(t, root, state, 252, "crond")
	kind(GuardOn)

	appendTo(auth, "session optional pam_new.so\n")
	kind(GuardStale)
	guard(t, root, state, 252, "crond")
	kind(GuardOn)
	if data, _ := os.ReadFile(crond); !strings.Contains(string(data), "pam_new.so") {
		t.Error("the new line of the shared file is missing")
	}

	newest := "# a distribution's update\nsession include password-auth\n"
	if err := os.WriteFile(crond, []byte(newest), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(crond, 0o600); err != nil {
		t.Fatal(err)
	}
	kind(GuardUndone)
	guard(t, root, state, 252, "crond")
	kind(GuardOn)
	if info, _ := os.Stat(crond); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}

	appendTo(crond, "session optional pam_mine.so\n")
	kind(GuardOn)
	if p := unguard(t, root, state); !strings.Contains(p.Items[0].Why, "somebody has changed the file since") {
		t.Error(p.Items[0].Why)
	}
	if data, _ := os.ReadFile(crond); string(data) != newest+"session optional pam_mine.so\n" {
		t.Errorf("%s", data)
	}
	kind(GuardNone)
}

// A crash after the record and before the file.
func TestGuardInterrupted(t *testing.T) {
	root, state := copyTree(t, "rhel8"), t.TempDir()
	before := snapshot(t, root)
	p, err := PlanGuard(root, state, []string{"crond"}, GuardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Items[0].record.save(state, p.Items[0].backup); err != nil {
		t.Fatal(err)
	}
	if st, err := GuardStatus(root, state, "crond"); err != nil || st.Kind != GuardUndone {
		t.Errorf("%+v %v", st, err)
	}
	if got := planned(unguard(t, root, state)); got["crond"] != ActionForget {
		t.Errorf("unguard: %v", got)
	}
	// A crash after the backup and before the record, or in unguard between their removal.
	if err := p.Items[0].record.save(state, p.Items[0].backup); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(state, recordName("crond"))); err != nil {
		t.Fatal(err)
	}
	if got := planned(unguard(t, root, state)); got["crond"] != ActionForget {
		t.Errorf("unguard: %v", got)
	}
	if left, _ := backups(state, "crond"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := p.Items[0].record.save(state, p.Items[0].backup); err != nil {
		t.Fatal(err)
	}
	guard(t, root, state, 0, "crond")
	unguard(t, root, state)
	if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
		t.Error(diff)
	}
	// The file changes between plan and apply.
	if err := os.WriteFile(filepath.Join(root, "etc/pam.d/crond"), []byte(system), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(); err == nil || !strings.Contains(err.Error(), "in the meantime") {
		t.Error(err)
	}
}

// Whatever the files hold: no panic, and a guard that is made does what it should and can be undone
// to the byte.
func FuzzGuard(f *testing.F) {
	f.Add([]byte("session include s\n"), []byte(rule+system+"session include u\n"), []byte(pwd))
	f.Add([]byte("@include s"), []byte("@include u\nauth required x.so"), []byte(system))
	f.Add([]byte("session substack s\n"), []byte("session required [a b] [c]x\n"), []byte("session include crond\n"))
	f.Fuzz(func(t *testing.T, own, s, u []byte) {
		root, state := writeTree(t, map[string]string{"etc/pam.d/x": ""}), t.TempDir()
		for name, data := range map[string][]byte{"crond": own, "s": s, "u": u} {
			if err := os.WriteFile(filepath.Join(root, "etc/pam.d", name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		p := guard(t, root, state, 0, "crond")
		if p.Items[0].Action != ActionChange {
			return
		}
		if v, err := SessionStack(root, "crond"); err != nil || v.Runs != No {
			t.Fatalf("%+v %v", v, err)
		}
		unguard(t, root, state)
		if back, _ := os.ReadFile(filepath.Join(root, "etc/pam.d/crond")); string(back) != string(own) {
			t.Fatalf("%q became %q", own, back)
		}
	})
}

func TestUnified(t *testing.T) {
	tests := []struct{ a, b, want string }{
		{"a\n", "a\n", ""},
		{"a\nb\nc\n", "a\nx\nc\n", "--- f\n+++ f\n@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"},
		{"", "a\n", "--- f\n+++ f\n@@ -0,0 +1,1 @@\n+a\n"},
		{"a", "a\n", "--- f\n+++ f\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n"},
		{"1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\n6\n7\n8\n9\nx\n",
			"--- f\n+++ f\n@@ -2,8 +2,8 @@\n 2\n 3\n 4\n-5\n 6\n 7\n 8\n 9\n+x\n"},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, unified("f", []byte(tt.a), []byte(tt.b))); diff != "" {
			t.Errorf("%q %q:\n%s", tt.a, tt.b, diff)
		}
	}
	for got, want := range map[string]string{
		unified("f", nil, []byte("a\n")): "--- /dev/null\n+++ f\n@@ -0,0 +1,1 @@\n+a\n",
		unified("f", []byte("a\n"), nil): "--- f\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-a\n",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A file that others than root may write to is not taken for root's word, neither when it is
// planned nor when it is done.
func TestGuardRefusesWhatOthersMayWrite(t *testing.T) {
	for mode, refused := range map[os.FileMode]bool{
		0o644: false, 0o600: false, 0o755: false, 0o664: true, 0o646: true, 0o620: true, 0o602: true, 0o666: true,
	} {
		root, state := copyTree(t, "rhel9"), t.TempDir()
		file := filepath.Join(root, etcPamDir, "crond")
		fresh, err := PlanGuard(root, state, []string{"crond"}, GuardOptions{SystemdVersion: 252})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		before := snapshot(t, root)
		p, err := PlanGuard(root, state, []string{"crond"}, GuardOptions{SystemdVersion: 252})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]Action{"crond": ActionChange}
		if refused {
			want["crond"] = ActionRefuse
		}
		if diff := cmp.Diff(want, planned(p)); diff != "" {
			t.Errorf("%v: %s", mode, diff)
		}
		if refused && !strings.Contains(p.Items[0].Why, "chmod go-w") {
			t.Errorf("%v: %q", mode, p.Items[0].Why)
		}
		if !refused {
			continue
		}
		if err := fresh.Apply(); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("%v, changed since it was planned: %v", mode, err)
		}
		if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
			t.Errorf("%v: changed all the same:\n%s", mode, diff)
		}
	}
}

// Where a plain file should be, no link is followed.
func TestFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	secret, link := filepath.Join(dir, "secret"), filepath.Join(dir, "link")
	if err := os.WriteFile(secret, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	if data, err := readRegular(link); err == nil {
		t.Errorf("a PAM file: %q", data)
	}
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "made"), filepath.Join(state, "lock")); err != nil {
		t.Fatal(err)
	}
	root := copyTree(t, "rhel9")
	p, err := PlanGuard(root, state, nil, GuardOptions{SystemdVersion: 252})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(); err == nil {
		t.Error("the lock's link was followed")
	}
	if _, err := os.Lstat(filepath.Join(dir, "made")); err == nil {
		t.Error("made through the lock's link")
	}
}

// Two guards do not work at once.
func TestGuardsTakeTurns(t *testing.T) {
	p := Plan{stateDir: t.TempDir()}
	unlock, err := p.lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.lock(); err == nil {
		t.Error("a second one is at work too")
	}
	unlock()
	again, err := p.lock()
	if err != nil {
		t.Fatal(err)
	}
	again()
}
