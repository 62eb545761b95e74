package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzLoad loads a main file and a drop-in. Whatever they hold: no panic; an error names
// one of the files, and a line and column that are in it; what is accepted is without
// contradictions and survives being shown and read again.
func FuzzLoad(f *testing.F) {
	f.Add(mustRead(f, shipped), uncomment(mustRead(f, shipped)))
	f.Add(allDifferent, "")
	f.Add("[budget]\ncpu = \"50%\"\nburst = \"20s\"\n", "budget.cpu = \"1%\"")
	f.Add("[reap]\nbatch = 1MB\n", "reap = {batch = [{a = 1}], ignore = ['/**', 5]}\nx = 1\n[[log]]\n")
	f.Add("a.b=1\na=2", "\xff\xfe")
	f.Add("[reap\n", "x = \"\"\"\n\n")
	f.Add("hold.units = ['a\\x2d*', \"\"]\r\n", "\"\" = 1\n''.'' = 2")
	f.Add("[linger]\nauto.max_users = 3\nusers = ['@a', 5]\n[linger.auto]\nforget_after = '2h'", "linger = {auto = {max_users = 0}, never = ['x', \"D\\\\a\"]}\n")
	f.Add("[[linger.auto]]\n[linger.auto.x]\n", "[linger.auto]\nteardowns_per_hour = 4\nsessions.memcg = 'per-user'")
	f.Fuzz(func(t *testing.T, main, dropIn string) {
		d := Dirs{Root: t.TempDir()}
		contents := map[string]string{d.Main(): main, filepath.Join(d.DropIns()[2], "10-a.toml"): dropIn}
		for path, s := range contents {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l, err := Load(d)
		if err != nil {
			checkErrors(t, err, contents)
			if l != nil {
				t.Error("an error and a policy")
			}
			return
		}
		if c := contradictions(&l.Policy); len(c) > 0 {
			t.Errorf("accepted a contradiction: %v", c)
		}
		var b strings.Builder
		if err := Show(&b, l.Rows()); err != nil {
			t.Fatal(err)
		}
		again, err := CheckBytes("shown", []byte(b.String()))
		if err != nil {
			t.Fatalf("shown policy is refused: %v\n%s", err, b.String())
		}
		if diff := cmp.Diff(l.Policy, again.Policy); diff != "" {
			t.Errorf("shown policy differs:\n%s", diff)
		}
		for _, r := range l.Rows() {
			if lines := strings.Count(contents[r.File], "\n") + 1; r.File != DefaultOrigin && (r.Line < 1 || r.Line > lines) {
				t.Errorf("%s comes from %s:%d of %d lines", r.Key, r.File, r.Line, lines)
			}
		}
	})
}

func checkErrors(t *testing.T, err error, contents map[string]string) {
	t.Helper()
	var es Errors
	if !errors.As(err, &es) || len(es) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	for _, e := range es {
		s, ok := contents[e.File]
		if !ok {
			t.Errorf("names no file: %v", e)
			continue
		}
		lines := strings.Split(strings.TrimPrefix(s, utf8BOM), "\n")
		if e.Line < 1 || e.Line > len(lines) {
			t.Errorf("line %d of %d: %v", e.Line, len(lines), e)
			continue
		}
		if width := len([]rune(lines[e.Line-1])); e.Column < 1 || e.Column > width+1 {
			t.Errorf("column %d of %d: %v", e.Column, width, e)
		}
		if e.Msg == "" || e.Hint == "" {
			t.Errorf("says nothing, or not what to do: %v", e)
		}
		if strings.Contains(e.Error(), "\n") {
			t.Errorf("breaks the line: %q", e.Error())
		}
		if strings.Count(e.Explain(), "\n") != 4 && e.Source != "" {
			t.Errorf("explains in other than four lines: %q", e.Explain())
		}
	}
}
