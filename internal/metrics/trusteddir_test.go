package metrics

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// No link that another user may have made is followed, wherever it is in the path; root's own are.
func TestTextfileFollowsNoForeignLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives a directory to another user")
	}
	const foreign = 12345
	base := t.TempDir()
	mkdir := func(parts ...string) string {
		t.Helper()
		dir := filepath.Join(append([]string{base}, parts...)...)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	link := func(to string, parts ...string) string {
		t.Helper()
		at := filepath.Join(append([]string{base}, parts...)...)
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	secret, theirs, open := mkdir("secret"), mkdir("theirs"), mkdir("open")
	plain := mkdir("theirs", "plain")
	absolute := link(secret, "theirs", "absolute")
	relative := link("../secret", "theirs", "relative")
	everybodys := link(secret, "open", "link")
	ours := link("theirs/plain", "ours")
	up := link("..", "secret", "up") // root's own
	for _, dir := range []string{theirs, plain} {
		if err := os.Chown(dir, foreign, foreign); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	m := newRig(t)
	const name = "scopereap.prom"
	for _, tt := range []struct {
		dir     string
		refused bool
		lands   string
	}{
		{secret, false, secret},
		{plain, false, plain}, // node_exporter's own directory
		{theirs, false, theirs},
		{ours, false, plain},
		{filepath.Join(up, "theirs"), false, theirs},
		{absolute, true, secret},
		{relative, true, secret},
		{everybodys, true, secret},
		{filepath.Join(ours, "..", "absolute"), false, filepath.Join(base, "absolute")}, // cleaned first: there is none
	} {
		err := m.writeTextOnce(filepath.Join(tt.dir, name))
		lands := filepath.Join(tt.lands, name)
		_, statErr := os.Stat(lands)
		switch {
		case tt.refused && (err == nil || statErr == nil || !strings.Contains(err.Error(), "symbolic link")):
			t.Errorf("%s: %v, and %s: %v", tt.dir, err, lands, statErr)
		case !tt.refused && (err == nil) != (statErr == nil):
			t.Errorf("%s: %v, and %s: %v", tt.dir, err, lands, statErr)
		}
		if err == nil {
			m.removeText(filepath.Join(tt.dir, name))
			if _, err := os.Lstat(lands); !os.IsNotExist(err) {
				t.Errorf("%s was not removed: %v", lands, err)
			}
		}
		// Nor is a file of somebody else's removed through one.
		if tt.refused {
			if err := os.WriteFile(lands, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			m.removeText(filepath.Join(tt.dir, name))
			if err := os.Remove(lands); err != nil {
				t.Errorf("removed through %s: %v", tt.dir, err)
			}
		}
	}

	// A link at the file's own place is replaced.
	target := filepath.Join(secret, "target")
	if err := os.WriteFile(target, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	link(target, "theirs", name)
	if err := m.writeTextOnce(filepath.Join(theirs, name)); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "mine" {
		t.Errorf("%q, %v", got, err)
	}
	if left, err := filepath.Glob(filepath.Join(base, "*", ".scopereap-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	loop := link("loop", "loop")
	if err := m.writeTextOnce(filepath.Join(loop, name)); err == nil {
		t.Error("written to a loop")
	}
}
