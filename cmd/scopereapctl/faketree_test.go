package main

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/reclaim"
)

// fakeV2 lays out a cgroup v2 hierarchy in a directory: 5 dying memcgs with 1
// MiB of page cache below /user.slice, beside one live child.
func fakeV2(t *testing.T) *machine {
	t.Helper()
	root := t.TempDir()
	write := func(file, content string) {
		t.Helper()
		file = filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stat := func(dying string) string {
		return "nr_descendants 2\nnr_subsys_memory 2\nnr_dying_subsys_memory " + dying + "\nnr_dying_descendants 9\n"
	}
	write("cgroup.stat", stat("5"))
	write("memory.reclaim", "")
	write("user.slice/cgroup.stat", stat("5"))
	write("user.slice/cgroup.subtree_control", "cpu memory pids\n")
	write("user.slice/memory.stat", "file 1052672\ninactive_file 1052672\n")
	for _, at := range []string{"user.slice", "user.slice/user-1000.slice"} {
		write(at+"/memory.current", "2097152\n")
		write(at+"/memory.high", "max\n")
		write(at+"/memory.max", "max\n")
		write(at+"/memory.min", "0\n")
		write(at+"/memory.low", "0\n")
		write(at+"/memory.reclaim", "")
	}
	write("user.slice/user-1000.slice/cgroup.stat", stat("0"))
	write("user.slice/user-1000.slice/cgroup.subtree_control", "memory\n")
	write("user.slice/user-1000.slice/memory.stat", "file 4096\ninactive_file 4096\n")
	fs, err := reclaim.OpenFS(root)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{reclaim.Hierarchy{Mode: reclaim.Unified, Root: root, RecursiveProt: true}, fs}
	t.Cleanup(m.close)
	return m
}

// idle is an app that no daemon and no policy answers.
func idle(t *testing.T) *app {
	return &app{runDir: filepath.Join(t.TempDir(), "run"), policyRoot: t.TempDir()}
}

func TestGatherV2(t *testing.T) {
	m, a := fakeV2(t), idle(t)
	r, err := a.gather(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		Dying, Live, Reclaimable int64
		Reclaim, Subsys          reclaim.State
		Ancestor                 reclaim.Ancestor
		Daemon                   bool
		Sessions                 sessionMemcgs
	}
	got := seen{r.Dying, r.Live, r.Reclaimable, r.Abilities.Reclaim.State, r.Abilities.DyingMemory.State,
		r.Ancestors[0].Ancestor, r.Daemon != nil, m.sessionMemcgs()}
	want := seen{5, 3, 1 << 20, reclaim.Yes, reclaim.Yes,
		reclaim.Ancestor{Path: "/user.slice", Direct: 5, Total: 5}, false, sessionsEach}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSessionMemcgsV2(t *testing.T) {
	m := fakeV2(t)
	set := func(cgroup, words string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(m.Root, cgroup, "cgroup.subtree_control"), []byte(words), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want sessionMemcgs) {
		t.Helper()
		if got := m.sessionMemcgs(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	is(sessionsEach)
	set("user.slice/user-1000.slice", "pids\n")
	is(sessionsUser)
	set("user.slice", "pids\n")
	is(sessionsNone)
	if err := os.RemoveAll(filepath.Join(m.Root, "user.slice/user-1000.slice")); err != nil {
		t.Fatal(err)
	}
	is(sessionsUnknown) // nobody is logged in
	if err := os.RemoveAll(filepath.Join(m.Root, "user.slice")); err != nil {
		t.Fatal(err)
	}
	is(sessionsUnknown)
}

func TestPlanFromTree(t *testing.T) {
	m, a := fakeV2(t), idle(t)
	p, err := a.plan(t.Context(), m, "/user.slice")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Ancestors) != 1 || p.Ancestors[0].Action != actReclaim || p.Ancestors[0].Ask != 1<<20 || p.Method != byReclaim {
		t.Errorf("plan %+v, want 1 MiB asked of /user.slice", p)
	}
}

func engineOn(m *machine, journal string) *reclaim.Engine {
	cfg := reclaim.DefaultConfig()
	cfg.SweepEvery, cfg.SweepThreshold = 0, 0
	abil := trixie()
	return reclaim.NewEngine(reclaim.EngineOptions{
		Hierarchy: m.Hierarchy, FS: m.fs, Abilities: abil, Config: cfg, Journal: journal,
		Pressure: reclaim.Pressure{Proc: "/nowhere"},
	})
}

// A tree in which nothing ever goes keeps a sweep busy; the end of its context
// ends it, and only once the shields are down.
func TestSweepInterrupted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("lowering the thread's I/O priority needs root")
	}
	m := fakeV2(t)
	journal := filepath.Join(t.TempDir(), "shields")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := runSweep(ctx, engineOn(m, journal), reclaim.SweepRequest{Under: "/", Progress: func(p reclaim.SweepProgress) {
		if p.Dying != 5 || p.Ancestors != 1 {
			t.Errorf("progress %+v", p)
		}
		cancel()
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	// Raised and lowered: the journal was written and is empty again.
	if data, err := os.ReadFile(journal); err != nil || len(data) > 0 {
		t.Errorf("the journal after it: %q, %v", data, err)
	}
	reclaimed, err := os.ReadFile(filepath.Join(m.Root, "user.slice/memory.reclaim"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(reclaimed), "swappiness=0") {
		t.Errorf("memory.reclaim was asked %q: the sweep did not get that far", reclaimed)
	}
}

// A sweep of one's own in which nothing moves ends by itself, shields down.
func TestSweepHerePatience(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("lowering the thread's I/O priority needs root")
	}
	m := fakeV2(t)
	journal := filepath.Join(t.TempDir(), "shields")
	r, err := patiently(t.Context(), "/", time.Second, func(reclaim.SweepProgress) {}, func(ctx context.Context, req reclaim.SweepRequest) (reclaim.SweepResult, error) {
		return runSweep(ctx, engineOn(m, journal), req)
	})
	if err != nil || !r.Unfinished || r.DyingBefore != 5 || r.Freed != 0 {
		t.Errorf("%+v, %v; want it unfinished with 5 dying", r, err)
	}
	if data, err := os.ReadFile(journal); err != nil || len(data) > 0 {
		t.Errorf("the journal after it: %q, %v", data, err)
	}
}

// An engine that cannot begin ends the sweep that waits for it.
func TestSweepCannotBegin(t *testing.T) {
	m := fakeV2(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := runSweep(t.Context(), engineOn(m, filepath.Join(file, "shields")), reclaim.SweepRequest{Under: "/"})
	if err == nil || !strings.Contains(err.Error(), "journal") {
		t.Errorf("error %v, want the journal's", err)
	}
}

func TestParseCgroupPath(t *testing.T) {
	for _, tc := range []struct{ arg, root, want, says string }{
		{arg: "/", want: "/"},
		{arg: "/user.slice/", want: "/user.slice"},
		{arg: "/user.slice//a/./b", want: "/user.slice/a/b"},
		{arg: "/sys/fs/cgroup", want: "/"},
		{arg: "/sys/fs/cgroup/user.slice", want: "/user.slice"},
		{arg: "//sys/fs//cgroup/user.slice/", want: "/user.slice"},
		{arg: "/sys/fs/cgroup/memory/a", root: "/sys/fs/cgroup/memory", want: "/a"},
		{arg: "/sys/fs/cgroup/memoryx", root: "/sys/fs/cgroup/memory", says: "not in the memory hierarchy"},
		{arg: "/sys/fs/cgroup", root: "/sys/fs/cgroup/memory", says: "not in the memory hierarchy"},
		{arg: "/sys/fs/cgroups", want: "/sys/fs/cgroups"},
		{arg: "", says: "empty"},
		{arg: "user.slice", says: "does not begin"},
		{arg: "..", says: "does not begin"},
		{arg: "/..", says: "'..'"},
		{arg: "/a/../b", says: "'..'"},
		{arg: "/sys/fs/cgroup/..", says: "'..'"},
		{arg: "/a..b/...", want: "/a..b/..."},
		{arg: "/a\nb", says: "line break"},
	} {
		root := tc.root
		if root == "" {
			root = "/sys/fs/cgroup"
		}
		got, err := parseCgroupPath(tc.arg, root)
		if tc.says != "" {
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%q below %s: %q, %v; want an error with %q", tc.arg, root, got, err, tc.says)
			}
			continue
		}
		if err != nil || got != tc.want {
			t.Errorf("%q below %s: %q, %v; want %q", tc.arg, root, got, err, tc.want)
		}
	}
}

func FuzzParseCgroupPath(f *testing.F) {
	for _, seed := range []string{"/", "/user.slice", "/sys/fs/cgroup/a", "..", "/../..", "//", "/a/..", "/a\x00b", "/sys/fs/cgroup/../x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		got, err := parseCgroupPath(arg, "/sys/fs/cgroup")
		if err != nil {
			return
		}
		clean, err := reclaim.CleanPath(got)
		if err != nil || clean != got {
			t.Errorf("%q became %q, which is no clean cgroup path (%q, %v)", arg, got, clean, err)
		}
	})
}

// completion offers what lives below what was typed, and nothing outside. What would steer the terminal is not offered.
func TestCompleteCgroup(t *testing.T) {
	m := fakeV2(t)
	for _, name := range []string{"init.scope", "odd\nname", "tab\tbed", path.Base(hostile), "c1\u009b2J", "\x1b[2J", "\u202egnp", "bad\xff"} {
		if err := os.Mkdir(filepath.Join(m.Root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for typed, want := range map[string][]string{
		"":                    {"/user.slice\t5 dying", "/init.scope"},
		"/us":                 {"/user.slice\t5 dying"},
		"/user.slice/":        {"/user.slice/user-1000.slice"},
		"/x":                  nil,
		"/../":                nil,
		"relative":            nil,
		m.Root + "/":          {m.Root + "/user.slice\t5 dying", m.Root + "/init.scope"},
		m.Root + "/user.slic": {m.Root + "/user.slice\t5 dying"},
	} {
		if diff := cmp.Diff(want, m.below(typed)); diff != "" {
			t.Errorf("%q:\n%s", typed, diff)
		}
	}
}

// What doctor says of logins is read from the same tree.
func TestExamineSessions(t *testing.T) {
	m, a := fakeV2(t), idle(t)
	for _, dir := range []string{"user.slice/user-1000.slice/session-1.scope", "user.slice/user-1001.slice"} {
		if err := os.MkdirAll(filepath.Join(m.Root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(m.Root, "cgroup.controllers"), []byte("cpu memory\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := facts{}
	a.examineSessions(t.Context(), m, &f)
	users := f.MemcgFree.Users
	if !f.MemcgFree.Supported || len(users) != 2 || users[0].UID != 1000 || !users[0].LoggedIn || users[0].InEffect || users[1].LoggedIn {
		t.Errorf("%+v", f.MemcgFree)
	}
	if f.Limits != nil {
		t.Errorf("limits were asked for: %v", f.Limits)
	}
}
