package usermemcg

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/logind"
)

// patience bounds how long a test waits for what must happen; reaching it is a failure, never a
// measurement.
const patience = 60 * time.Second

// freeRoot is a machine's root with files: a directory's name ends in "/", a content "→x" is a link
// to x.
func freeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, is := strings.CutPrefix(content, "→"); err == nil && is {
			err = os.Symlink(target, path)
		} else if err == nil && strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else if err == nil {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// unified are the files of a cgroup v2 machine.
func unified(more map[string]string) map[string]string {
	files := map[string]string{"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"}
	for k, v := range more {
		files[k] = v
	}
	return files
}

// freeing is a DropIn with a bus of its own.
type freeing struct {
	*DropIn
	t    *testing.T
	m    *bustest.Machine
	r    *bustest.Reloader
	seen []bool // at each reload: was the drop-in there
}

func free(t *testing.T, files map[string]string) *freeing {
	t.Helper()
	b := bustest.StartBus(t)
	f := &freeing{t: t, m: bustest.NewMachine(t, b)}
	f.DropIn = New(Options{Root: freeRoot(t, files), Dial: logind.DialAddress(b.Address),
		CallTimeout: patience, ReloadTimeout: patience, Logger: slog.New(slog.DiscardHandler)})
	f.r = f.m.AnswerReload(func() {
		_, err := os.Stat(f.Path())
		f.seen = append(f.seen, err == nil)
	})
	owned(t, b.Connect())
	return f
}

// owned waits until the fake PID 1 has its name.
func owned(t *testing.T, bus *dbus.Conn) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		has := false
		if err := bus.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, "org.freedesktop.systemd1").Store(&has); err != nil {
			t.Fatal(err)
		}
		if has {
			return
		}
		if time.Now().After(end) {
			t.Fatal("no PID 1")
		}
	}
}

func (f *freeing) install(wantChange bool, wantErr string) {
	f.t.Helper()
	changed, err := f.Install(context.Background())
	f.want("Install", changed, err, wantChange, wantErr)
}

func (f *freeing) remove(wantChange bool, wantErr string) {
	f.t.Helper()
	changed, err := f.Remove(context.Background())
	f.want("Remove", changed, err, wantChange, wantErr)
}

func (f *freeing) want(what string, changed bool, err error, wantChange bool, wantErr string) {
	f.t.Helper()
	if changed != wantChange || (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
		f.t.Errorf("%s: changed %t, %v; want %t, %q", what, changed, err, wantChange, wantErr)
	}
}

// reloads checks how often PID 1 was told so far.
func (f *freeing) reloads(want int) {
	f.t.Helper()
	if got := f.m.Calls()["Reload"]; got != want {
		f.t.Errorf("%d reloads, want %d", got, want)
	}
}

func TestInstallAndRemove(t *testing.T) {
	f := free(t, unified(map[string]string{"run/systemd/system/": ""}))
	f.remove(false, "")
	f.reloads(0)
	f.install(true, "")
	f.install(false, "")
	f.reloads(1)
	st, err := os.Stat(f.Path())
	if err != nil || st.Mode() != 0o644 {
		t.Errorf("%v, %v", st, err)
	}
	text, err := os.ReadFile(f.Path())
	if err != nil || string(text) != dropInText || !strings.HasSuffix(string(text), "\n[Slice]\nDisableControllers=memory\n") {
		t.Errorf("%s, %v", text, err)
	}
	if names := inDir(t, filepath.Dir(f.Path())); len(names) != 1 {
		t.Errorf("beside the drop-in: %v", names)
	}
	f.remove(true, "")
	f.remove(false, "")
	f.reloads(2)
	if _, err := os.Stat(filepath.Dir(f.Path())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	if d := cmp.Diff([]bool{true, false}, f.seen); d != "" {
		t.Errorf("what PID 1 saw: %s", d)
	}
}

func inDir(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// An older version's drop-in is replaced; it is ours to remove as well.
func TestReplacesItsOwn(t *testing.T) {
	old := dropInMark + " 0.0.1\n; hm\n\n[Slice]\n DisableControllers=memory"
	f := free(t, unified(map[string]string{dropInDir + "/" + dropInName: old}))
	f.install(true, "")
	f.reloads(1)
	// PID 1 does not hear of it: the old one comes back, and the next try does it.
	if err := os.WriteFile(f.Path(), []byte(old), 0o644); err != nil {
		t.Fatal(err)
	}
	f.m.Fail("Reload", bustest.Refuse)
	f.install(false, "PID 1 was to read")
	if text, err := os.ReadFile(f.Path()); err != nil || string(text) != old {
		t.Errorf("%s, %v", text, err)
	}
	f.m.Heal()
	f.install(true, "")
}

func TestWhenPID1DoesNotHear(t *testing.T) {
	f := free(t, unified(nil))
	for _, fault := range []bustest.Fault{bustest.Refuse, bustest.Deny} {
		f.m.Fail("Reload", fault)
		f.install(false, "PID 1 was to read")
		if _, err := os.Stat(filepath.Dir(f.Path())); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the drop-in is left: %v", err)
		}
	}
	f.m.Heal()
	f.install(true, "")
	f.m.Fail("Reload", bustest.Refuse)
	f.remove(true, "run: systemctl daemon-reload")
	if _, err := os.Stat(f.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the drop-in is left: %v", err)
	}
	f.remove(false, "run: systemctl daemon-reload")
	f.m.Heal()
	f.remove(true, "")
	f.remove(false, "")
	f.opts.ReloadTimeout = 50 * time.Millisecond
	f.m.Fail("Reload", bustest.Silence)
	f.install(false, "no answer within 50ms")
	f.m.Disconnect()
	f.install(false, "PID 1 was to read")
	f.DropIn.opts.Dial = logind.DialAddress("unix:path=/nonexistent/bus")
	f.install(false, "cannot be reached")
	if _, err := os.Stat(f.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the drop-in is left: %v", err)
	}
}

// A drop-in gone without PID 1's knowledge and wanted again is written and told.
func TestInstallAfterUntoldRemove(t *testing.T) {
	f := free(t, unified(nil))
	f.install(true, "")
	f.m.Fail("Reload", bustest.Refuse)
	f.remove(true, "daemon-reload")
	f.m.Heal()
	f.install(true, "")
	f.remove(true, "")
	f.reloads(4)
}

func TestNotOurs(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"edited": func(p string) error { return os.WriteFile(p, []byte(dropInText+"MemoryMax=1G\n"), 0o644) },
		"else's": func(p string) error { return os.WriteFile(p, []byte("[Slice]\nDisableControllers=memory\n"), 0o644) },
		"binary": func(p string) error { return os.WriteFile(p, []byte("\x00\xff"), 0o644) },
		"huge": func(p string) error {
			return os.WriteFile(p, []byte(dropInMark+strings.Repeat("\n", maxDropIn)), 0o644)
		},
		"link":      func(p string) error { return os.Symlink("/etc/passwd", p) },
		"null":      func(p string) error { return os.Symlink("/dev/null", p) },
		"fifo":      func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"directory": func(p string) error { return os.Mkdir(p, 0o755) },
	} {
		f := New(Options{Root: freeRoot(t, unified(map[string]string{dropInDir + "/": ""})),
			Dial: logind.DialAddress("unix:path=/nonexistent/bus")})
		if err := make(f.Path()); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(f.Path())
		for _, do := range []func(context.Context) (bool, error){f.Install, f.Remove} {
			if changed, err := do(context.Background()); changed || err == nil || strings.Contains(err.Error(), "bus") {
				t.Errorf("%s: changed %t, %v", name, changed, err)
			}
		}
		after, err := os.Lstat(f.Path())
		if err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: touched: %v", name, err)
		}
		if s, err := f.State(context.Background()); err != nil || s.Installed || len(s.Conflicts) != 1 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// Others' drop-ins for users' slices stay, and so does their directory.
func TestLeavesOthers(t *testing.T) {
	f := free(t, unified(map[string]string{dropInDir + "/10-tasks.conf": "[Slice]\nTasksMax=100\n"}))
	f.install(true, "")
	f.remove(true, "")
	if d := cmp.Diff([]string{"10-tasks.conf"}, inDir(t, filepath.Dir(f.Path()))); d != "" {
		t.Error(d)
	}
}

func TestOnV1(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"v1":       {"sys/fs/cgroup/memory/": "", dropInDir + "/" + dropInName: dropInText},
		"hybrid":   {"sys/fs/cgroup/unified/cgroup.controllers": "", dropInDir + "/" + dropInName: dropInText},
		"disabled": {"sys/fs/cgroup/cgroup.controllers": "cpu pids\n", dropInDir + "/" + dropInName: dropInText},
	} {
		f := free(t, files)
		changed, err := f.Install(context.Background())
		if changed || !errors.Is(err, ErrNoUnifiedMemory) {
			t.Errorf("%s: %t, %v", name, changed, err)
		}
		f.reloads(0)
		if s, err := f.State(context.Background()); err != nil || s.Supported || !s.Installed {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		f.remove(true, "") // what is left of a boot with v2 can be undone
	}
}

func TestConflicts(t *testing.T) {
	const reset = "[Slice]\nTasksMax=5\nDisableControllers=\n"
	for _, c := range []struct {
		name   string
		files  map[string]string
		want   []string // "file:line" of the conflicts
		exempt map[uint32]string
	}{
		{"none", nil, nil, nil},
		{"other settings", map[string]string{"etc/systemd/system/user-.slice.d/10-x.conf": "[Slice]\nMemoryMax=1G\nDisableControllers=cpu\n"}, nil, nil},
		{"the same", map[string]string{"etc/systemd/system/user-.slice.d/90-x.conf": "[Slice]\nDisableControllers=\nDisableControllers=cpu memory\n"}, nil, nil},
		{"reset after ours", map[string]string{"etc/systemd/system/user-.slice.d/90-x.conf": reset},
			[]string{"etc/systemd/system/user-.slice.d/90-x.conf:3"}, nil},
		{"reset before ours", map[string]string{"run/systemd/system/user-.slice.d/10-x.conf": reset},
			[]string{"run/systemd/system/user-.slice.d/10-x.conf:3"}, nil},
		{"reset for all slices", map[string]string{"etc/systemd/system/slice.d/x.conf": reset},
			[]string{"etc/systemd/system/slice.d/x.conf:3"}, nil},
		{"set-property", map[string]string{"etc/systemd/system.control/user-1000.slice.d/50-DisableControllers.conf": reset},
			[]string{"etc/systemd/system.control/user-1000.slice.d/50-DisableControllers.conf:3"}, nil},
		{"ours masked", map[string]string{"etc/systemd/system/user-.slice.d/" + dropInName: "→/dev/null"},
			[]string{"etc/systemd/system/user-.slice.d/" + dropInName}, nil},
		{"ours replaced", map[string]string{"etc/systemd/system/user-.slice.d/" + dropInName: "[Slice]\n"},
			[]string{"etc/systemd/system/user-.slice.d/" + dropInName}, nil},
		{"ours replaced by the same", map[string]string{"etc/systemd/system/user-.slice.d/" + dropInName: dropInText}, nil, nil},
		{"our name, but weaker", map[string]string{"etc/systemd/system/slice.d/" + dropInName: "→/dev/null"}, nil, nil},
		{"users exempt", map[string]string{
			"etc/systemd/system/user-1000.slice.d/60-x.conf":         reset,
			"run/systemd/system/user-1001.slice.d/" + dropInName:     "→/dev/null",
			"etc/systemd/system/user-1002.slice.d/60-x.conf":         "[Slice]\nDisableControllers=memory\n",
			"etc/systemd/system/user-1003-more.slice.d/60-x.conf":    reset,
			"etc/systemd/system/user-x.slice.d/60-x.conf":            reset,
			"etc/systemd/system/user-1004.slice.d/60-x.conf.disable": reset,
			"etc/systemd/system/user-1005.slice":                     reset,
		}, nil, map[uint32]string{
			1000: "etc/systemd/system/user-1000.slice.d/60-x.conf", 1001: "run/systemd/system/user-1001.slice.d/" + dropInName}},
		{"a user's would lose", map[string]string{"etc/systemd/system/user-1000.slice.d/10-x.conf": reset},
			[]string{"etc/systemd/system/user-1000.slice.d/10-x.conf:3"}, nil},
		{"unreadable", map[string]string{"etc/systemd/system/user-.slice.d/90-x.conf/": "", "etc/systemd/system/user-.slice.d/91-x.conf": "→/dev/zero",
			"etc/systemd/system/user-.slice.d/92-x.conf": "→nowhere", "etc/systemd/system/slice.d": "a file"}, nil, nil},
	} {
		f := New(Options{Root: freeRoot(t, unified(c.files))})
		rel := func(s string) string { return strings.TrimPrefix(s, f.opts.Root+"/") }
		got := f.others()
		var where []string
		for _, x := range got.conflicts {
			at, _, _ := strings.Cut(rel(x.String()), ": ")
			where = append(where, at)
		}
		exempt := map[uint32]string{}
		for uid, file := range got.exempt {
			exempt[uid] = rel(file)
		}
		if c.exempt == nil {
			c.exempt = map[uint32]string{}
		}
		if d := cmp.Diff(c.want, where) + cmp.Diff(c.exempt, exempt); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
		if len(c.want) > 0 {
			f.opts.Dial = logind.DialAddress("unix:path=/nonexistent/bus")
			var conflict *ConflictError
			if changed, err := f.Install(context.Background()); changed || !errors.As(err, &conflict) || len(conflict.Conflicts) != len(c.want) {
				t.Errorf("%s: Install: %t, %v", c.name, changed, err)
			}
			if s, err := f.State(context.Background()); err != nil || len(s.Conflicts) != len(c.want) {
				t.Errorf("%s: State: %+v, %v", c.name, s, err)
			}
		}
	}
}

func TestParseDisableControllers(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []disableSetting
	}{
		{"", nil},
		{"DisableControllers=memory\n", nil},
		{"[Unit]\nDisableControllers=memory\n[Slice]\n  DisableControllers = cpu  memory \r\n", []disableSetting{{4, "cpu  memory"}}},
		{"[Slice]\n#DisableControllers=\n;DisableControllers=\nDisableControllers=", []disableSetting{{4, ""}}},
		{"[Slice]\nDisableControllers=cpu \\\n# a comment\n memory\nDisableControllers=\\\n\nX=\\", []disableSetting{{2, "cpu  memory"}, {5, ""}}},
		{"[Slice]\nX=\\\nDisableControllers=memory\n[Install]\nDisableControllers=io", nil},
		{"[Slice]\nDisableControllers=memory \\", []disableSetting{{2, "memory"}}},
	} {
		if d := cmp.Diff(c.want, parseDisableControllers(c.in), cmp.AllowUnexported(disableSetting{})); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.in, d)
		}
	}
	start := time.Now()
	parseDisableControllers("[Slice]\nX=" + strings.Repeat("\\\n", maxDropIn/2))
	t.Logf("a megabyte of one line: %v", time.Since(start))
}

func FuzzParseDisableControllers(f *testing.F) {
	f.Add(dropInText)
	f.Add("[Slice]\nDisableControllers=cpu \\\n# x\n memory\n[X]\nDisableControllers=\\")
	f.Fuzz(func(t *testing.T, s string) {
		lines := strings.Count(s, "\n") + 1
		for _, d := range parseDisableControllers(s) {
			if d.line < 1 || d.line > lines {
				t.Errorf("line %d of %d", d.line, lines)
			}
		}
		isOurs(s)
	})
}

// From the first Install on the generator, which runs at every reload, has no say; what it made at
// boot goes by Remove.
func TestTakesOverFromGenerator(t *testing.T) {
	f := free(t, unified(map[string]string{generatedDropIn: dropInText}))
	dir := t.TempDir()
	made := func() bool {
		_, err := os.Stat(filepath.Join(dir, "user-.slice.d", dropInName))
		_ = os.RemoveAll(filepath.Join(dir, "user-.slice.d"))
		return err == nil
	}
	if err := f.Generate(dir); err != nil || !made() {
		t.Fatalf("at boot the generator made nothing (%v)", err)
	}
	f.remove(true, "")
	f.reloads(1)
	if err := f.Generate(dir); err != nil || made() {
		t.Errorf("the generator undoes a Remove (%v)", err)
	}
	f.install(true, "")
	if err := f.Generate(dir); err != nil || made() {
		t.Errorf("the generator makes what Install made (%v)", err)
	}
}
