package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/reclaim"
)

// everyReason is a survey whose ancestors have between them every reason.
func everyReason() reclaim.Survey {
	s := leaky()
	odd := reclaim.DeadMemory{MemoryStat: reclaim.MemoryStat{
		Anon: 8 << 10, File: 9 << 20, Shmem: 64 << 10, Mapped: 1 << 20, Dirty: 2 << 20, Writeback: 4 << 10, Unevictable: 68 << 10,
		Kernel: 1 << 20, Swap: 12 << 10,
	}}
	kernel := reclaim.DeadMemory{MemoryStat: reclaim.MemoryStat{Kernel: 2 << 20}}
	s.Ancestors = append(s.Ancestors,
		surveyed(`/system.slice/system-systemd\x2dcoredump.slice`, 9, reclaim.MayReap, odd),
		surveyed("/user.slice", 3, reclaim.MayReap, kernel),
		surveyed("/secret", 2, reclaim.Unreadable, reclaim.DeadMemory{}),
		surveyed("/gone", 1, reclaim.Vanished, reclaim.DeadMemory{}))
	return s
}

func explanationOf(s reclaim.Survey, d *control.Status, change func(*explaining)) explanation {
	x := explanation{Mode: reclaim.Unified, Path: "/", Ancestors: []explained{}, Shmem: []shmemPlace{}, Daemon: d}
	e := explaining{x: &x, now: fixedNow, cfg: reclaim.DefaultConfig()}
	if change != nil {
		change(&e)
	}
	e.takeV2(s, e.x.Omitted)
	e.doing()
	return x
}

func explanations() map[string]explanation {
	d := daemonStatus(trixie())
	d.Engine.Pinned = []reclaim.Pinned{{Ancestor: "/user.slice/user-1001.slice", Dying: 40, Since: fixedNow.Add(-2 * time.Hour)}}
	monitor := daemonStatus(trixie())
	monitor.Engine.MonitorOnly, monitor.Engine.Totals.LastReap = "reap.enabled = false", time.Time{}
	monitor.Bus.Connected, monitor.PolicyError = false, "x"
	full := explanationOf(everyReason(), d, func(e *explaining) {
		e.pressure, e.x.Omitted = "memory pressure 34.2% is above 20%", 3
		e.cfg.Ignore = func(p string) bool { return p == "/machine.slice" }
	})
	full.Shmem = []shmemPlace{
		{Where: "/dev/shm", Used: 200 << 10, Hidden: 12 << 10, Owners: []shmemOwner{
			{0, "root", 100 << 10, 1}, {33, "", 40 << 10, 2}, {1001, "bob", 36 << 10, 3}, {5, "games", 12 << 10, 4}}},
		{Where: sysvShm, Used: 4 << 10, Owners: []shmemOwner{{1000, "alice", 4 << 10, 1}}},
		{Where: "/odd\x1b[1m", Used: 4 << 10},
	}
	full.Look = full.look()
	v1 := explanation{Mode: reclaim.Hybrid, Path: "/user.slice", Dying: 9, Live: 5, Ancestors: []explained{}, Shmem: []shmemPlace{},
		Daemon: v1Report().Daemon}
	e := explaining{x: &v1, now: fixedNow, cfg: reclaim.DefaultConfig()}
	e.takeV1(v1Report().V1Ancestors, 0)
	e.cfg.V1ForceEmpty = true
	e.takeV1(v1Report().V1Ancestors, 1)
	v1.Shmem = []shmemPlace{{Where: "/dev/shm", Used: 1}}
	v1.Look = v1.look()
	e.doing()
	silent := explanation{Mode: reclaim.Unified, Path: "/", Dying: 1, DaemonError: "no answer within 3s"}
	(&explaining{x: &silent, now: fixedNow}).doing()
	return map[string]explanation{
		"explain-v2":        full,
		"explain-no-daemon": explanationOf(leaky(), nil, func(e *explaining) { e.cfg.SweepEvery = 0; e.cfg.NearLimit = true }),
		"explain-no-sweep":  explanationOf(leaky(), d, func(e *explaining) { e.cfg.SweepEvery = 0 }),
		"explain-monitor":   explanationOf(leaky(), monitor, nil),
		"explain-clean":     {Mode: reclaim.Unified, Path: "/user.slice", Live: 4},
		"explain-v1":        v1,
		"explain-silent":    silent,
	}
}

func TestExplainText(t *testing.T) {
	all := explanations()
	for name, x := range all {
		golden(t, name, x.text)
	}
	goldenOn(t, "explain-tty60", printer{width: 60, colour: true}, all["explain-v2"].text)
	golden(t, "explain-json", func(p printer) {
		if err := p.json(all["explain-v2"]); err != nil {
			t.Fatal(err)
		}
	})
}

// TestExplainWords: every reason and every verdict but one has words of its own.
func TestExplainWords(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range []reclaim.Reason{reclaim.PinnedShmem, reclaim.PinnedSwap, reclaim.PinnedUnevictable, reclaim.PinnedMapped,
		reclaim.PinnedDirty, reclaim.PinnedAnon, reclaim.PinnedKernel, reclaim.PinnedUnknown} {
		b := reasonWords(reclaim.Pin{Reason: r, Bytes: 1})
		if seen[b.Why] || b.Why == "" || b.Frees == "" || b.Reason != string(r) {
			t.Errorf("%s: %+v", r, b)
		}
		seen[b.Why] = true
	}
	for _, v := range reclaim.Verdicts() {
		if b := verdictWords(v, "/a", false); v != reclaim.MayReap && v != reclaim.Failed && b.Frees == "" {
			t.Errorf("%s: nothing is said to help", v)
		}
		if b := verdictWords(v, "/a", true); strings.Contains(b.Frees, "eviction") != (v == reclaim.AtRoot || v == reclaim.NoController) {
			t.Errorf("%s, where scopereapd evicts: %s", v, b.Frees)
		}
	}
}

// From the fake tree, as the verb does it.
func TestExplainTree(t *testing.T) {
	m, a := fakeV2(t), idle(t)
	x, err := a.explain(t.Context(), m, "/user.slice", 0, fixedNow)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "explain-tree", x.text)
	for _, under := range []string{"/", "/user.slice/user-1000.slice"} {
		if x, err = a.explain(t.Context(), m, under, 1, fixedNow); err != nil || x.Path != under {
			t.Errorf("%s: %+v, %v", under, x, err)
		}
	}
	err = m.insteadOf("/user.slice/session-1.scope/x", os.ErrNotExist)
	if exitCode(err) != exitcode.Usage || !strings.Contains(err.Error(), "try: scopereapctl explain /user.slice)") {
		t.Errorf("of a cgroup that is gone: %v", err)
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"/user.slice": "/user.slice", `/a\x2db.slice`: `'/a\x2db.slice'`, "": "''", "it's": `'it'\''s'`, "a b": "'a b'", "a\x1b": `"a\x1b"`,
	} {
		if got := shellWord(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestUserOf(t *testing.T) {
	for at, want := range map[string]int{
		"/user.slice/user-1000.slice": 1000, "/user.slice/user-7.slice/session-1.scope": 7, "/user.slice": -1, "/": -1,
		"/user-x.slice": -1, "/user-5": -1, "/5.slice": -1, "/user-99999999999.slice": -1,
	} {
		if uid, ok := userOf(at); ok != (want >= 0) || ok && int(uid) != want {
			t.Errorf("%s: %d, %t", at, uid, ok)
		}
	}
}

func TestParseMounts(t *testing.T) {
	got := parseMounts(strings.NewReader(`22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /dev/shm rw,nosuid - tmpfs tmpfs rw
24 22 0:21 /x /mnt/again rw - tmpfs tmpfs rw
25 22 0:33 / /a\040b\134 rw master:1 - tmpfs tmpfs rw
26 22 0:34
27 22 0:35 / /x rw -
`))
	want := mounts{tmpfs: []string{"/dev/shm", `/a b\`}, points: map[string]bool{"/": true, "/dev/shm": true, "/mnt/again": true, `/a b\`: true}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mounts{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseSysvShm(t *testing.T) {
	got := parseSysvShm(strings.NewReader(
		`       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap
         0          3  1600                524288  1186  1186      2  1000  1000  1000  1000 1700000000 1700000000 1700000000                  8192                  4096
         0          4  1600                524288  1186  1186      2     0     0     0     0 1700000000 1700000000 1700000000                 65536                     0
         0          5  1600                524288  1186  1186      2     0     0     0     0 1700000000 1700000000 1700000000                     0                     0
       bad
`))
	want := shmemPlace{Where: sysvShm, Used: 77824, Owners: []shmemOwner{{0, "", 65536, 1}, {1000, "", 12288, 1}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// On a real tmpfs: a file counts for its owner, one that was removed but is
// open is hidden.
func TestLookAtTmpfs(t *testing.T) {
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Skip("no tmpfs at /dev/shm")
	}
	f, err := os.CreateTemp("/dev/shm", "scopereapctl-test-")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	mine := func() int64 {
		i := slices.IndexFunc(shmemPlaces("/proc"), func(p shmemPlace) bool { return p.Where == "/dev/shm" })
		if i < 0 {
			t.Fatal("/dev/shm is not found")
		}
		return shmemPlaces("/proc")[i].Used
	}
	if mine() < 1<<20 {
		t.Error("a file of 1 MiB is not seen")
	}
	left := mostFiles
	with := lookAtTmpfs("/dev/shm", nil, &left)
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	without := lookAtTmpfs("/dev/shm", nil, &left)
	if without.Hidden < with.Hidden+1<<20 || left == mostFiles {
		t.Errorf("with it %+v, removed but open %+v", with, without)
	}
	if got := lookAtTmpfs("/dev/shm", map[string]bool{"/dev/shm": true}, new(int)); !got.Partial {
		t.Errorf("with no file left to look at: %+v", got)
	}
	if got := lookAtTmpfs(filepath.Join(t.TempDir(), "none"), nil, &left); got.Used != 0 {
		t.Errorf("no tmpfs, and yet %+v", got)
	}
}

// FuzzParseSysvShm: no owner has less than something, and together they have what is used.
func FuzzParseSysvShm(f *testing.F) {
	const head = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n"
	f.Add(head + "         0          5  1600               4096  1000  1000      2  1000  1000  1000  1000 1 1 1 4096 0\n")
	f.Add(head + "0 5 1600 1 1 1 2 4294967296 1 1 1 1 1 1 4096 4611686018427387903\n0 5 1600 1 1 1 2 0 1 1 1 1 1 1 4611686018427387903 4611686018427387903\n")
	f.Add("uid rss swap\n1 2 3\n1 4611686018427387903 1\n1 4611686018427387903 1\n1 4611686018427387903 1\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		p := parseSysvShm(strings.NewReader(text))
		sum := int64(0)
		for _, o := range p.Owners {
			if sum += o.Bytes; o.Bytes <= 0 || o.Files <= 0 {
				t.Errorf("%q: owner %+v", text, o)
			}
		}
		if sum != p.Used || p.Used < 0 {
			t.Errorf("%q: %d used, of owners %d", text, p.Used, sum)
		}
	})
}
