package policy

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	mainFile = "etc/scopereap/policy.toml"
	inLib    = "usr/lib/scopereap/policy.d/"
	inRun    = "run/scopereap/policy.d/"
	inEtc    = "etc/scopereap/policy.d/"
)

// tree makes a root with files; a content that begins with "→" is a link's target.
func tree(t *testing.T, files map[string]string) Dirs {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "→"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return Dirs{Root: root}
}

// relative takes the test's root out of s, so that what is wanted can be written down.
func relative(d Dirs, s string) string { return strings.ReplaceAll(s, d.Root, "") }

func sourceLines(d Dirs, sources []Source) string {
	var b strings.Builder
	for _, s := range sources {
		b.WriteString(string(s.Status) + " " + relative(d, s.Path))
		if s.By != "" {
			b.WriteString(" by " + relative(d, s.By))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestNoFiles(t *testing.T) {
	l, err := Load(Dirs{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), l.Policy); d != "" {
		t.Error(d)
	}
	if len(l.Sources)+len(l.Warnings) != 0 {
		t.Errorf("%v %v", l.Sources, l.Warnings)
	}
	if file, line := l.Origin("reap.batch"); file != DefaultOrigin || line != 0 {
		t.Errorf("origin %s:%d", file, line)
	}
	if file, _ := l.Origin("reap.nonsense"); file != "" {
		t.Errorf("origin of no key: %q", file)
	}
}

func TestPrecedence(t *testing.T) {
	d := tree(t, map[string]string{
		mainFile: "[log]\nlevel = \"debug\"\n[sweep]\nthreshold = 1\ninterval = \"1m\"\n[reap]\nignore = [\"/a\", \"/b\"]\n",
		// The later name wins, wherever it lies.
		inEtc + "10-a.toml": "[sweep]\nthreshold = 10\n[hold]\nmax = 10\n[reap]\nignore = [\"/c\"]\n",
		inRun + "20-b.toml": "[sweep]\n\nthreshold = 20\n[hold]\nmax = 20\n",
		inLib + "30-c.toml": "hold.max = 30\n",
		// Of one name the one in /etc is read, and only that one.
		inLib + "40-d.toml": "budget.cpu = \"1%\"\nhold.max = 40\n",
		inRun + "40-d.toml": "budget.cpu = \"2%\"\nthis is not even TOML\n",
		inEtc + "40-d.toml": "budget.cpu = \"3%\"\n",
		// /run over /usr/lib.
		inLib + "50-e.toml": "hold.deadline = \"5s\"\n",
		inRun + "50-e.toml": "hold.deadline = \"6s\"\n",
		// Masked from /etc and from /run; a mask of nothing is fine.
		inLib + "60-f.toml": "log.level = \"error\"\n",
		inRun + "60-f.toml": "log.level = \"error\"\n",
		inEtc + "60-f.toml": "→/dev/null",
		inLib + "70-g.toml": "log.level = \"error\"\n",
		inRun + "70-g.toml": "→/dev/null",
		inEtc + "80-h.toml": "→/dev/null",
		// A file in /etc is stronger than a mask in /run. A link to a link is a link.
		inRun + "90-i.toml":            "→/dev/null",
		inEtc + "90-i.toml":            "→../elsewhere.toml",
		"etc/scopereap/elsewhere.toml": "kernel.monitor_only = \"never\"\n",
		// An empty file is just empty, and hides the weaker one.
		inLib + "95-j.toml": "log.level = \"error\"\n",
		inEtc + "95-j.toml": "",
		// Not drop-ins.
		inEtc + "99-k.conf":        "garbage",
		inEtc + ".99-l.toml":       "garbage",
		inEtc + ".#99-m.toml":      "→nowhere",
		inEtc + "99-n.toml.backup": "garbage",
	})
	l, err := Load(d)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Log.Level = LogDebug
	want.Sweep.Interval = mustDuration(t, "1m")
	want.Sweep.Threshold = 20
	want.Reap.Ignore = []Glob{mustGlob("/c")}
	want.Hold.Max = 30
	want.Budget.CPU = 3
	want.Hold.Deadline = mustDuration(t, "6s")
	want.Kernel.MonitorOnly = MonitorNever
	if d := cmp.Diff(want, l.Policy); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	const wantSources = `read /etc/scopereap/policy.toml
read /etc/scopereap/policy.d/10-a.toml
read /run/scopereap/policy.d/20-b.toml
read /usr/lib/scopereap/policy.d/30-c.toml
replaced /usr/lib/scopereap/policy.d/40-d.toml by /etc/scopereap/policy.d/40-d.toml
replaced /run/scopereap/policy.d/40-d.toml by /etc/scopereap/policy.d/40-d.toml
read /etc/scopereap/policy.d/40-d.toml
replaced /usr/lib/scopereap/policy.d/50-e.toml by /run/scopereap/policy.d/50-e.toml
read /run/scopereap/policy.d/50-e.toml
masked /usr/lib/scopereap/policy.d/60-f.toml by /etc/scopereap/policy.d/60-f.toml
masked /run/scopereap/policy.d/60-f.toml by /etc/scopereap/policy.d/60-f.toml
mask /etc/scopereap/policy.d/60-f.toml
masked /usr/lib/scopereap/policy.d/70-g.toml by /run/scopereap/policy.d/70-g.toml
mask /run/scopereap/policy.d/70-g.toml
mask /etc/scopereap/policy.d/80-h.toml
replaced /run/scopereap/policy.d/90-i.toml by /etc/scopereap/policy.d/90-i.toml
read /etc/scopereap/policy.d/90-i.toml
replaced /usr/lib/scopereap/policy.d/95-j.toml by /etc/scopereap/policy.d/95-j.toml
read /etc/scopereap/policy.d/95-j.toml
ignored /etc/scopereap/policy.d/.#99-m.toml
ignored /etc/scopereap/policy.d/.99-l.toml
ignored /etc/scopereap/policy.d/99-k.conf
ignored /etc/scopereap/policy.d/99-n.toml.backup
`
	if diff := cmp.Diff(wantSources, sourceLines(d, l.Sources)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(l.Files()) != 8 || len(l.NotRead()) != 8 {
		t.Errorf("%d read, %d not", len(l.Files()), len(l.NotRead()))
	}
	for _, c := range []struct {
		key, file string
		line      int
	}{
		{"log.level", "/etc/scopereap/policy.toml", 2},
		{"sweep.interval", "/etc/scopereap/policy.toml", 5},
		{"sweep.threshold", "/run/scopereap/policy.d/20-b.toml", 3},
		{"reap.ignore", "/etc/scopereap/policy.d/10-a.toml", 6},
		{"hold.max", "/usr/lib/scopereap/policy.d/30-c.toml", 1},
		{"reap.batch", DefaultOrigin, 0},
	} {
		if file, line := l.Origin(c.key); relative(d, file) != c.file || line != c.line {
			t.Errorf("%s comes from %s:%d, want %s:%d", c.key, relative(d, file), line, c.file, c.line)
		}
	}
}

func TestMaskedMainFile(t *testing.T) {
	d := tree(t, map[string]string{mainFile: "→/dev/null"})
	l, err := Load(d)
	if err != nil || sourceLines(d, l.Sources) != "mask /etc/scopereap/policy.toml\n" {
		t.Errorf("%v, %v", l, err)
	}
}

// Errors of all files come together, in the order of reading, and there is no policy.
func TestLoadErrors(t *testing.T) {
	d := tree(t, map[string]string{
		mainFile:                "[reap]\nbatch = \"x\"\n[budget]\ncpu = \"0.5%\"\n",
		inLib + "10-fine.toml":  "log.level = \"debug\"\n",
		inRun + "20-bad.toml":   "[reap]\nbatch = \"1M\"\nslice = 5\n",
		inEtc + "30-worse.toml": "[reap]\nslice = 5ms\n",
		inEtc + "40-link.toml":  "→/nowhere/at/all",
	})
	l, err := Load(d)
	if l != nil {
		t.Error("gave a policy")
	}
	const want = `/etc/scopereap/policy.toml:2:9: reap.batch: "x" is not a size; ` + sizeForm + `
/run/scopereap/policy.d/20-bad.toml:3:9: reap.slice: is the number 5 where a duration is wanted; write it with its unit and in quotes: "5s" if seconds are meant
/etc/scopereap/policy.d/30-worse.toml:2:10: reap: not TOML: expected a top-level item to end with a newline, comment, or EOF, but got 'm' instead; durations, sizes, percentages and words go in quotes: write slice = "5ms"
/etc/scopereap/policy.d/40-link.toml: cannot look at it: no such file or directory; it is a link to /nowhere/at/all, which leads nowhere: mend or remove it`
	if diff := cmp.Diff(want, relative(d, errText(err))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the system's error is lost")
	}
}

// A contradiction across files names both places and blames the one read last.
func TestContradictionAcrossFiles(t *testing.T) {
	d := tree(t, map[string]string{
		mainFile:            "[budget]\ncpu = \"50%\"\nburst = \"20s\"\n",
		inEtc + "10-a.toml": "[budget]\ncpu = \"10%\"\n",
	})
	_, err := Load(d)
	const want = `/etc/scopereap/policy.d/10-a.toml:2:1: budget.cpu: a burst of 20s is more CPU time than 10% of a minute, which is 6s (budget.burst = "20s": /etc/scopereap/policy.toml:3); raise budget.cpu, or set budget.burst to "6s" at most`
	if diff := cmp.Diff(want, relative(d, errText(err))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What one file alone has wrong, the merged policy may settle.
func TestContradictionSettled(t *testing.T) {
	d := tree(t, map[string]string{
		mainFile:            "[budget]\ncpu = \"50%\"\n",
		inEtc + "10-a.toml": "[budget]\nburst = \"20s\"\n",
	})
	if _, err := Load(d); err != nil {
		t.Error(err)
	}
	// Alone it is doubtful as a drop-in and wrong as a main file.
	l, err := Check(filepath.Join(d.Root, inEtc+"10-a.toml"))
	if err != nil || len(l.Warnings) != 1 || l.Warnings[0].Key != "budget.burst" || l.Warnings[0].Line != 2 ||
		!strings.HasPrefix(l.Warnings[0].Hint, "unless another file settles it, raise budget.cpu") {
		t.Errorf("%+v, %v", l, err)
	}
	elsewhere := filepath.Join(t.TempDir(), "policy.toml")
	if err := os.WriteFile(elsewhere, []byte("[budget]\nburst = \"20s\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(elsewhere); err == nil {
		t.Error("accepted as a main file")
	}
	// A drop-in that contradicts itself is wrong in any case.
	both := filepath.Join(d.Root, inEtc+"20-b.toml")
	if err := os.WriteFile(both, []byte("[budget]\ncpu = \"1%\"\nburst = \"20s\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(both); err == nil {
		t.Error("accepted a drop-in that contradicts itself")
	}
}

func TestOddFiles(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"directory", func(p string) error { return os.Mkdir(p, 0o755) },
			"F: is a directory, not a file; put a regular file there, a link to /dev/null to mask it, or take it away"},
		{"named pipe", func(p string) error { return syscall.Mkfifo(p, 0o644) },
			"F: is a named pipe, not a file; put a regular file there, a link to /dev/null to mask it, or take it away"},
		{"device", func(p string) error { return os.Symlink("/dev/zero", p) },
			"F: is a device, not a file; put a regular file there, a link to /dev/null to mask it, or take it away"},
		{"loop", func(p string) error { return os.Symlink(p, p) },
			"F: cannot look at it: too many levels of symbolic links; it is a link that leads back to itself: mend or remove it"},
		{"too large", func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("#\n"), maxFile/2+1), 0o644) },
			"F: the file is larger than 1MiB; a policy has a few kilobytes; see what this file is and move it away"},
	} {
		d := tree(t, map[string]string{inEtc + "x": ""})
		for _, name := range []string{mainFile, inEtc + "10-a.toml"} {
			path := filepath.Join(d.Root, name)
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			_, err := Load(d)
			if diff := cmp.Diff(c.want, strings.ReplaceAll(errText(err), path, "F")); diff != "" {
				t.Errorf("%s as %s (-want +got):\n%s", c.name, name, diff)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	just := bytes.Repeat([]byte("#\n"), maxFile/2)
	d := tree(t, map[string]string{mainFile: string(just)})
	if _, err := Load(d); err != nil {
		t.Errorf("a file of just the limit: %v", err)
	}
}

func TestFileInPlaceOfDirectory(t *testing.T) {
	d := tree(t, map[string]string{"etc/scopereap/policy.d": "x"})
	_, err := Load(d)
	const want = `/etc/scopereap/policy.d: cannot list it: not a directory; something on this path is a file where a directory is wanted: move it away`
	if diff := cmp.Diff(want, relative(d, errText(err))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheckMissing(t *testing.T) {
	_, err := Check(filepath.Join(t.TempDir(), "none.toml"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestDistrust(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	d := tree(t, map[string]string{
		mainFile:               "",
		inEtc + "10-a.toml":    "",
		inEtc + "20-b.toml":    "",
		inEtc + "30-c.toml":    "",
		inLib + "40-d.toml":    "",
		inEtc + "40-d.toml":    "→/dev/null", // the world-writable device is no reason to warn
		inEtc + "50-fine.toml": "",
	})
	at := func(name string) string { return filepath.Join(d.Root, name) }
	for _, err := range []error{
		os.Chown(at(mainFile), 1000, 0),
		os.Chmod(at(inEtc+"10-a.toml"), 0o666),
		os.Chown(at(inEtc+"20-b.toml"), 0, 4), os.Chmod(at(inEtc+"20-b.toml"), 0o664),
		os.Chmod(at(inEtc+"30-c.toml"), 0o664), // group root: no more than root can do
		os.Chmod(at(inLib), 0o777), os.Chmod(at(inLib+"40-d.toml"), 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := Load(d)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range l.Warnings {
		got = append(got, relative(d, w.String()))
	}
	if diff := cmp.Diff([]string{
		"/usr/lib/scopereap/policy.d: anybody may write it (mode 0777); chmod go-w /usr/lib/scopereap/policy.d",
		"/etc/scopereap/policy.toml: belongs to user 1000, not to root; chown root:root /etc/scopereap/policy.toml",
		"/etc/scopereap/policy.d/10-a.toml: anybody may write it (mode 0666); chmod go-w /etc/scopereap/policy.d/10-a.toml",
		"/etc/scopereap/policy.d/20-b.toml: group 4 may write it (mode 0664); chmod g-w /etc/scopereap/policy.d/20-b.toml",
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root reads everything; what the system would say is given by hand.
		e := fileError("/f", "open", &fs.PathError{Op: "open", Path: "/f", Err: syscall.EACCES})
		const want = "/f: cannot open it: permission denied; run this as root, or let this user read the file and its directories"
		if e.Error() != want || !errors.Is(e, fs.ErrPermission) {
			t.Error(e)
		}
		return
	}
	d := tree(t, map[string]string{mainFile: ""})
	if err := os.Chmod(d.Main(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(d); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}
