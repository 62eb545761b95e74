package pam

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The shapes of PAM configuration that distributions install.
func TestSessionStackDistributions(t *testing.T) {
	const auth = "/etc/pam.d/password-auth"
	tests := []struct {
		tree, service string
		runs          Tri
		class         string
		at            Place
	}{
		{"debian12", "cron", No, "", Place{}},
		{"debian12", "atd", No, "", Place{}},
		{"debian12", "sshd", Yes, "", Place{"/etc/pam.d/common-session", 5}},
		// That of other.
		{"debian12", "crond", Yes, "background", Place{"/etc/pam.d/common-session", 5}},
		{"ubuntu", "cron", Yes, "background", Place{"/etc/pam.d/common-session", 6}},
		{"ubuntu", "CRON", Yes, "background", Place{"/etc/pam.d/common-session", 6}},
		{"rhel7", "crond", Yes, "background", Place{auth, 9}},
		{"rhel7", "atd", Yes, "", Place{auth, 9}},
		{"rhel7", "sshd", Yes, "", Place{auth, 9}},
		{"rhel8", "crond", Yes, "background", Place{auth, 9}},
		{"rhel9", "crond", Yes, "background", Place{auth, 10}},
		{"fedora", "crond", Yes, "background", Place{auth, 9}},
		{"fedora", "cron", No, "", Place{}}, // other denies
		{"suse", "crond", Yes, "background", Place{"/etc/pam.d/common-session", 1}},
		{"suse", "atd", Yes, "", Place{"/etc/pam.d/common-session", 1}},
		{"arch", "crond", No, "", Place{}},
		{"arch", "sshd", Yes, "", Place{"/etc/pam.d/system-login", 6}},
		{"arch", "anacron", No, "", Place{}},
	}
	for _, tt := range tests {
		got, err := SessionStack(filepath.Join("testdata", tt.tree), tt.service)
		if err != nil {
			t.Errorf("%s %s: %v", tt.tree, tt.service, err)
		}
		if got.Why == "" {
			t.Errorf("%s %s: no reason", tt.tree, tt.service)
		}
		want := StackVerdict{Service: strings.ToLower(tt.service), File: got.File, Runs: tt.runs, Class: tt.class, At: tt.at, Why: got.Why}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s:\n%s", tt.tree, tt.service, diff)
		}
	}
}

// writeTree makes a root directory. A value "-> X" is a symbolic link to X.
func writeTree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(to, p)
		} else {
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	rule   = "session [success=1 default=ignore] pam_succeed_if.so service in crond quiet use_uid\n"
	system = "-session optional pam_systemd.so\n"
	pwd    = "session required pam_unix.so\n"
)

// What leads to pam_systemd and what does not, in one service's own file.
func TestSessionStackControl(t *testing.T) {
	tests := []struct {
		name, service, file string
		runs                Tri
	}{
		{"skipped for crond", "crond", rule + system, No},
		{"not for sshd", "sshd", rule + system, Yes},
		{"two services", "crond", strings.Replace(rule, "crond", "sshd:crond", 1) + system, No},
		{"notin", "crond", strings.Replace(rule, " in ", " notin ", 1) + system, Yes},
		{"equal", "crond", strings.Replace(rule, " in ", " = ", 1) + system, No},
		{"glob", "crond", strings.Replace(rule, "in crond", "=~ cr*", 1) + system, No},
		{"not glob", "crond", strings.Replace(rule, "in crond", "!~ cr*", 1) + system, Yes},
		{"a number it is not", "crond", strings.Replace(rule, "in crond", "eq 5", 1) + system, Yes},
		{"of a user", "crond", strings.Replace(rule, "service in crond", "uid < 1000", 1) + system + pwd, Unknown},
		{"of a user and another service", "crond", strings.Replace(rule, "service in crond", "uid < 1000 service = atd", 1) + system, Yes},
		{"ingroup", "crond", strings.Replace(rule, "in crond", "ingroup wheel", 1) + system + pwd, Unknown},
		{"sufficient", "crond", "session sufficient pam_permit.so\n" + system, No},
		{"sufficient after a failure", "crond", "session required pam_deny.so\nsession sufficient pam_permit.so\n" + system, Yes},
		{"sufficient unknown", "crond", "session sufficient pam_x.so\n" + system, Unknown},
		{"requisite unknown", "crond", "session requisite pam_x.so\n" + system, Yes},
		{"requisite deny", "crond", "session requisite pam_deny.so\n" + system, No},
		{"jump in any case", "crond", "session [default=1] pam_x.so\n" + system + "session required pam_unix.so\n", No},
		{"reset", "crond", "session [default=reset] pam_x.so\n" + system, Yes},
		{"jump too far", "crond", "session [default=5] pam_x.so\n" + system + "session required pam_unix.so\n", No},
		{"die", "crond", "session [success=die] pam_permit.so\n" + system, No},
		{"a line without a control fails", "crond", "session\nsession sufficient pam_permit.so\n" + system, Yes},
		{"bad control goes on", "crond", "session [sucess=die] pam_permit.so\n" + system, Yes},
		{"commented out", "crond", "#" + system + pwd, No},
		{"another module", "crond", "session optional pam_systemd_home.so\n", No},
		{"another type", "crond", "auth optional pam_systemd.so\nsession required pam_unix.so\n", No},
		{"upper case and a path", "crond", "SESSION Optional /lib/security/pam_systemd.so\n", Yes},
		{"bracketed arguments", "crond", "session optional pam_x.so [a b\\] c]\nsession optional pam_systemd.so\n", Yes},
		{"continued", "crond", "session \\\n  optional \\\n pam_systemd.so\n", Yes},
		{"no newline", "crond", "session optional pam_systemd.so", Yes},
		{"missing include", "crond", "session include nowhere\n" + system, Yes},
		{"itself", "crond", "session include crond\n" + system, Yes},
		{"class none where it counts", "atd", "session optional pam_systemd.so class=none\n", No},
		{"class none for Debian's cron", "cron", "session optional pam_systemd.so class=none\n", No},
		{"class none where it does not", "crond", "session optional pam_systemd.so class=none\n", Yes},
		{"empty", "crond", "", Unknown},
	}
	for _, tt := range tests {
		root := writeTree(t, map[string]string{"etc/pam.d/" + tt.service: tt.file, "etc/pam.d/other": "session sufficient pam_x.so\n" + system})
		got, err := SessionStack(root, tt.service)
		if err != nil || got.Runs != tt.runs {
			t.Errorf("%s: %v %v, want %v (%s)", tt.name, got.Runs, err, tt.runs, got.Why)
		}
	}
}

func TestSessionStackTrees(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		runs  Tri
		why   string
	}{
		{"a substack ends by itself", map[string]string{
			"etc/pam.d/crond": "session substack sub\n" + system, "etc/pam.d/sub": "session sufficient pam_permit.so\nsession required pam_x.so\n"}, Yes, ""},
		{"an include ends all", map[string]string{
			"etc/pam.d/crond": "session include sub\n" + system, "etc/pam.d/sub": "session sufficient pam_permit.so\n"}, No, "/etc/pam.d/sub:1"},
		{"a jump takes a substack as one", map[string]string{
			"etc/pam.d/crond": "session [default=1] pam_x.so\nsession substack sub\n" + system, "etc/pam.d/sub": "session required pam_a.so\nsession required pam_b.so\n"}, Yes, ""},
		{"an absolute include", map[string]string{
			"etc/pam.d/crond": "session include /opt/pam\n", "opt/pam": system}, Yes, "/opt/pam:1"},
		{"pam.conf alone", map[string]string{"etc/pam.conf": "crond session optional pam_systemd.so\nsshd auth required pam_deny.so\n"}, Yes, "/etc/pam.conf:1"},
		{"pam.conf's other", map[string]string{"etc/pam.conf": "OTHER session optional pam_systemd.so\n"}, Yes, "/etc/pam.conf:1"},
		{"pam.conf beside pam.d", map[string]string{"etc/pam.conf": "crond session optional pam_systemd.so\n",
			"etc/pam.d/other": "session required pam_deny.so\n"}, Unknown, "/etc/pam.conf:1"},
		{"nothing at all", map[string]string{"etc/x": ""}, No, "no PAM file"},
		{"/etc before /usr", map[string]string{"etc/pam.d/crond": "session required pam_unix.so\n", "usr/lib/pam.d/crond": system}, No, ""},
		{"a dangling link is missing", map[string]string{"etc/pam.d/crond": "-> nowhere", "usr/lib/pam.d/crond": system}, Yes, "/usr/lib/pam.d/crond:1"},
		{"a link to /dev/null", map[string]string{"etc/pam.d/crond": "-> /dev/null", "usr/lib/pam.d/crond": system,
			"etc/pam.d/other": "session required pam_deny.so\n"}, No, ""},
		{"no way out of the root", map[string]string{"etc/pam.d/crond": "-> ../../../../../../etc/shared", "etc/shared": system}, Yes, ""},
		{"@include takes a type along", map[string]string{"etc/pam.d/crond": "auth include a\nsession include a\n",
			"etc/pam.d/a": "@include b\n", "etc/pam.d/b": "auth required pam_x.so\n" + system}, Yes, "/etc/pam.d/b:2"},
		{"the reason for unknown", map[string]string{"etc/pam.d/crond": "session sufficient pam_x.so\n" + system}, Unknown, "pam_x.so (/etc/pam.d/crond:1)"},
	}
	for _, tt := range tests {
		got, err := SessionStack(writeTree(t, tt.files), "crond")
		if err != nil || got.Runs != tt.runs || !strings.Contains(got.Why, tt.why) {
			t.Errorf("%s: %v %v, want %v (%s)", tt.name, got.Runs, err, tt.runs, got.Why)
		}
	}
}

// What cannot be read is an error that says where, and never an answer.
func TestSessionStackErrors(t *testing.T) {
	wide := ""
	for range 64 {
		wide += "session include crond\n"
	}
	tests := []struct{ name, file, err string }{
		{"NUL", "session optional pam_systemd.so\nses\x00sion\n", "/etc/pam.d/crond:2: there is a NUL byte"},
		{"ends going on", "session optional \\\n", "/etc/pam.d/crond:1: the file ends"},
		{"comment after going on", "session optional \\\n# x\npam_systemd.so\n", "/etc/pam.d/crond:2: a line that goes on"},
		{"link to itself", "-> crond2", "/etc/pam.d"},
		{"a directory", "-> ../pam.d", "not a regular file"},
		{"includes without end", wide, "take the loop out"},
		{"huge", strings.Repeat("#", maxFile+1), "larger than"},
	}
	for _, tt := range tests {
		root := writeTree(t, map[string]string{"etc/pam.d/crond": tt.file})
		if tt.name == "link to itself" {
			if err := os.Mkdir(filepath.Join(root, "etc/pam.d/crond2"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		got, err := SessionStack(root, "crond")
		if err == nil || got.Runs != Unknown || !strings.Contains(err.Error(), tt.err) || got.Why != err.Error() {
			t.Errorf("%s: %v %v", tt.name, got, err)
		}
	}
}

func FuzzParsePam(f *testing.F) {
	f.Add([]byte("session [success=1 default=ignore] pam_x.so [a \\] b]\\\n c # d\n"))
	f.Add([]byte("\\\n\\\n[\n]"))
	f.Add([]byte("-session\toptional pam_systemd.so\\"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := parse("f", data)
		if err != nil {
			return
		}
		last := 0
		for i := range lines {
			l := &lines[i]
			if l.start < last || l.end > len(data) || l.start >= l.end || len(l.tokens) == 0 {
				t.Fatalf("line %+v after byte %d of %d", l, last, len(data))
			}
			last = l.end
			at := l.start
			for _, tok := range l.tokens {
				if tok.start < at || tok.end <= tok.start || tok.end > l.end {
					t.Fatalf("token %+v", tok)
				}
				at = tok.end
			}
			newEntry(&file{path: "f", data: data}, l, l.tokens)
		}
	})
}

// BenchmarkParsePam reads one file of a PAM stack.
func BenchmarkParsePam(b *testing.B) {
	const text = "# cron's\n@include common-auth\nsession required pam_env.so readenv=1\n" +
		"session [success=1 default=ignore] pam_succeed_if.so quiet service = cron\nsession optional pam_systemd.so\n"
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if lines, err := parse("cron", []byte(text)); err != nil || len(lines) == 0 {
			b.Fatal(lines, err)
		}
	}
}
