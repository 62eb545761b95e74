package usermemcg

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/bustest"
)

const slice1000 = "sys/fs/cgroup/user.slice/user-1000.slice/"

func TestState(t *testing.T) {
	f := free(t, unified(map[string]string{
		slice1000 + "cgroup.subtree_control":                                "cpu memory pids\n",
		slice1000 + "session-3.scope/":                                      "",
		slice1000 + "user@1000.service/":                                    "",
		"sys/fs/cgroup/user.slice/user-1001.slice/cgroup.subtree_control":   "cpu pids\n",
		"sys/fs/cgroup/user.slice/user-1001.slice/user@1001.service/":       "",
		"sys/fs/cgroup/user.slice/user-1002.slice/cgroup.subtree_control":   "\n",
		"sys/fs/cgroup/user.slice/user-1002.slice/session-c1.scope/":        "",
		"sys/fs/cgroup/user.slice/user-500.slice/cgroup.subtree_control":    "memory\n",
		"sys/fs/cgroup/user.slice/user-7.slice/":                            "",
		"sys/fs/cgroup/user.slice/user-007.slice/":                          "",
		"sys/fs/cgroup/user.slice/user-x.slice/":                            "",
		"sys/fs/cgroup/user.slice/else.service/":                            "",
		"sys/fs/cgroup/user.slice/user-9.slice":                             "a file",
		"run/systemd/users/1000":                                            "# private\nNAME=alice\nSTATE=active\nSESSIONS=3\n",
		"run/systemd/users/1001":                                            "NAME=DOM\\bob\n",
		"run/systemd/users/1002":                                            "NAME=../../etc/passwd\n",
		"run/systemd/users/500":                                             "STATE=closing\n",
		"var/lib/systemd/linger/DOM\\\\bob":                                 "",
		"etc/systemd/system/user-500.slice.d/60-x.conf":                     "[Slice]\nDisableControllers=\n",
		"etc/systemd/system/user-500.slice.d/60-scopereap-memcg.conf.saved": "",
	}))
	f.install(true, "")
	got, err := f.State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := State{Supported: true, Installed: true, Path: f.Path(), Conflicts: []Conflict{}, Users: []SlicedUser{
		{UID: 7},
		{UID: 500, Exempt: filepath.Join(f.opts.Root, "etc/systemd/system/user-500.slice.d/60-x.conf")},
		{UID: 1000, Name: "alice", LoggedIn: true},
		{UID: 1001, Name: `DOM\bob`, Lingers: true, InEffect: true},
		{UID: 1002, LoggedIn: true, InEffect: true},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if p := got.Pending(); len(p) != 2 || p[1].UID != 1000 {
		t.Errorf("pending: %+v", p)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.State(ctx); err == nil {
		t.Error("goes on after its context has ended")
	}
}

// On cgroup v1 the users are those of systemd's own hierarchy.
func TestStateV1(t *testing.T) {
	f := New(Options{Root: freeRoot(t, map[string]string{
		"sys/fs/cgroup/systemd/user.slice/user-1000.slice/session-1.scope/": "",
		"sys/fs/cgroup/memory/user.slice/user-2000.slice/":                  "",
	})})
	got, err := f.State(context.Background())
	if err != nil || got.Supported || len(got.Users) != 1 || !got.Users[0].LoggedIn || got.Users[0].InEffect {
		t.Errorf("%+v, %v", got, err)
	}
}

// Nothing a user can make below /run or in a cgroup that is delegated stops the reading.
func TestHostileState(t *testing.T) {
	f := New(Options{Root: freeRoot(t, unified(map[string]string{
		slice1000 + "x": "", "run/systemd/users/x": "",
		"sys/fs/cgroup/user.slice/user-1001.slice/cgroup.subtree_control": strings.Repeat("cpu ", maxCgroupFile),
		"run/systemd/users/1001": strings.Repeat("\x00", maxUserFile+1),
	}))})
	for _, p := range []string{slice1000 + "cgroup.subtree_control", "run/systemd/users/1000"} {
		if err := syscall.Mkfifo(filepath.Join(f.opts.Root, p), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := f.State(context.Background())
	if d := cmp.Diff([]SlicedUser{{UID: 1000}, {UID: 1001}}, got.Users); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
}

func TestLimits(t *testing.T) {
	f := free(t, unified(map[string]string{
		slice1000 + "session-3.scope/memory.max":                                              "max\n",
		slice1000 + "session-3.scope/memory.high":                                             "max\n",
		slice1000 + "session-3.scope/memory.min":                                              "4096\n",
		slice1000 + "user@1000.service/user.slice/libpod-ab.scope/container/memory.max":       "1073741824\n",
		slice1000 + "user@1000.service/app.slice/x.service/memory.high":                       "4096\n",
		slice1000 + "user@1000.service/app.slice/x.service/memory.max":                        "nonsense\n",
		"sys/fs/cgroup/user.slice/user-1001.slice/cgroup.subtree_control":                     "",
		"sys/fs/cgroup/user.slice/user-1002.slice/" + strings.Repeat("d/", 40) + "memory.max": "1\n",
	}))
	for _, uid := range []uint32{1000, 1001, 1002} {
		f.m.StartUnit(bustest.Unit{Name: bustest.UserSlice(uid)})
	}
	f.r.SetProps("user-1000.slice", map[string]any{"MemoryMax": uint64(math.MaxUint64), "MemoryHigh": uint64(math.MaxUint64),
		"MemoryMin": uint64(0), "MemoryLow": uint64(0), "MemoryAccounting": true})
	f.r.SetProps("user-1001.slice", map[string]any{"MemoryMax": uint64(4 << 30), "MemoryHigh": "babble", "MemoryMin": uint64(1 << 20)})
	got, err := f.Limits(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := []Limit{
		{1000, "user@1000.service/app.slice/x.service", "MemoryHigh", 4096},
		{1000, "user@1000.service/user.slice/libpod-ab.scope/container", "MemoryMax", 1 << 30},
		{1001, "user-1001.slice", "MemoryMin", 1 << 20},
		{1001, "user-1001.slice", "MemoryMax", 4 << 30},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := f.m.Calls()["GetAll"]; n != 3 {
		t.Errorf("%d questions about 3 slices", n)
	}
	f.m.Fail("GetAll", bustest.Refuse)
	if _, err := f.Limits(context.Background()); err == nil {
		t.Error("a refusal is taken for no limits")
	}
	f.m.Heal()
	f.m.Fail("GetAll", bustest.Babble)
	if _, err := f.Limits(context.Background()); err == nil {
		t.Error("nonsense is taken for no limits")
	}
	if err := os.RemoveAll(filepath.Join(f.opts.Root, "sys/fs/cgroup/user.slice")); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Limits(context.Background()); err != nil || got != nil {
		t.Errorf("nobody: %v, %v", got, err)
	}
}

func TestLimitsAreBounded(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "memory.max"), []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	left := 2
	if got := limitsBelow(nil, 1, dir, ".", &left); len(got) != 2 {
		t.Errorf("%v", got)
	}
}
