package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// deadFixture is a walk of a machine whose logins leak.
func deadFixture() *deadReport {
	const page = 4096
	w := &pagewalk.Walk{PageSize: page, Live: 42}
	reg := uint32(unix.S_IFREG | 0o644)
	w.Files = []pagewalk.File{
		{Major: 254, Inode: 12, Mode: reg, Links: 1, FSType: "ext4"},
		{Minor: 25, Inode: 3, Mode: reg, Links: 1, FSType: "tmpfs", Kind: pagewalk.Shmem},
		{Major: 254, Inode: 254, Mode: unix.S_IFBLK, FSType: "bdev", Kind: pagewalk.Block},
		{Major: 254, Inode: 99, Mode: reg, FSType: "ext4"},
	}
	for i := range 30 {
		m := pagewalk.Memcg{Path: fmt.Sprintf("/user.slice/user-%d.slice/session-%d.scope", 1000+i%3, i),
			Ancestor: fmt.Sprintf("/user.slice/user-%d.slice", 1000+i%3), Charged: 10 * page, File: 8 * page, Other: 2 * page}
		m.Holdings = []pagewalk.Holding{{File: 0, Ranges: []pagewalk.Range{{First: uint64(100 * i), Pages: 8}}}}
		w.Memcgs = append(w.Memcgs, m)
	}
	w.Memcgs = append(w.Memcgs,
		pagewalk.Memcg{Path: "/system.slice/docker-0123456789abcdef.scope", Ancestor: "/system.slice", Charged: 700 * page,
			File: 500 * page, Shmem: 100 * page, Block: 50 * page, Dirty: 20 * page, Mapped: 30 * page, Other: 50 * page, Swap: 5 * page, Partial: true,
			Holdings: []pagewalk.Holding{
				{File: 3, Ranges: []pagewalk.Range{{First: 0, Pages: 450}, {First: 450, Pages: 20, State: pagewalk.Dirty}, {First: 470, Pages: 30, State: pagewalk.Mapped}}},
				{File: 1, Ranges: []pagewalk.Range{{First: 0, Pages: 100}}},
				{File: 2, Ranges: []pagewalk.Range{{First: 7, Pages: 50}}},
			}},
		pagewalk.Memcg{Path: "/system.slice/job@1.service", Ancestor: "/system.slice", Children: 2},
		pagewalk.Memcg{Path: "/system.slice/job@2.service", Ancestor: "/system.slice"},
		pagewalk.Memcg{Path: "/scopereap-walk-12-345/scopereap-walk-12-345", Ancestor: "/", Charged: page}, // the probe's own
		pagewalk.Memcg{Path: "/system.slice/evil\x1b[31m.scope", Ancestor: "/system.slice", Charged: page, File: page,
			Holdings: []pagewalk.Holding{{File: 0, Ranges: []pagewalk.Range{{First: 9000, Pages: 1}}}}},
	)
	w.Inconclusive = []string{"a list of child cgroups could not be followed to its end"}
	r := &deadReport{Path: "/", Method: "list", Unverified: "/var/tmp has no disk below it"}
	r.take(w)
	for i, f := range r.Files {
		switch f.Inode {
		case 12:
			r.Files[i].Path = "/usr/lib/x86_64-linux-gnu/libc.so.6"
		case 3:
			r.Files[i].Path = "/dev/shm/cache"
		case 99:
			r.Files[i].Path = "/var/log/app\n.log (deleted)"
			r.Files[i].MappedBy = []deadMapper{{1, "systemd"}, {20, "a\tb"}, {300, "c"}, {4000, "d"}}
		}
	}
	return r
}

func TestDeadText(t *testing.T) {
	golden(t, "dead", func(p printer) { deadText(p, deadFixture(), 0) })
	golden(t, "dead-limit", func(p printer) { deadText(p, deadFixture(), 1) })
	golden(t, "dead-files", func(p printer) { deadFilesText(p, deadFixture(), 0) })
	goldenOn(t, "dead-tty80", printer{width: 80}, func(p printer) { deadText(p, deadFixture(), 0) })
	none := &deadReport{Path: "/user.slice", Live: 7}
	golden(t, "dead-none", func(p printer) { deadText(p, none, 0); deadFilesText(p, none, 0) })
	golden(t, "dead-json", func(p printer) {
		r := deadFixture()
		r.Memcgs = r.Memcgs[:2]
		if err := p.json(r); err != nil {
			t.Error(err)
		}
	})
	golden(t, "columns-dead", func(p printer) { list(p, deadColumns(), deadFixture().Memcgs[:3]) })
}

// dead on this machine's own kernel: a scope of ours comes out by its name, with
// its file by its path.
func TestDeadNative(t *testing.T) {
	memcgtest.Open(t) // or skip, with why
	tree := memcgtest.New(t)
	dir, err := os.MkdirTemp("/var/tmp", "scopereap-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := memcgtest.File(t, filepath.Join(dir, "held"), 33)
	tree.Die("user-1.slice/session-7.scope", memcgtest.Op{Read: f.Name()})
	shm := filepath.Join("/dev/shm", filepath.Base(dir))
	t.Cleanup(func() { os.Remove(shm) })
	tree.Die("user-1.slice/session-8.scope", memcgtest.Op{Write: shm, Pages: 5})
	for _, args := range [][]string{{"dead", tree.Path, "--json"}, {"dead", tree.Dir, "--json", "--scan"}} {
		var out, errs strings.Builder
		if code := run(args, &out, &errs); code != exitcode.OK {
			t.Fatalf("%v: %d %s", args, code, errs.String())
		}
		var r deadReport
		if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
			t.Fatal(err)
		}
		if len(r.Memcgs) != 2 || r.Unverified != "" {
			t.Errorf("%v: %s", args, out.String())
		}
		for _, want := range []deadFile{{Path: f.Name(), Bytes: 33 * 4096}, {Path: shm, Bytes: 5 * 4096}} {
			if !slices.ContainsFunc(r.Files, func(x deadFile) bool { return x.Path == want.Path && x.Bytes == want.Bytes }) {
				t.Errorf("%v: %s with %d bytes is not in %+v", args, want.Path, want.Bytes, r.Files)
			}
		}
	}
	var out, errs strings.Builder
	if code := run([]string{"dead", tree.Path}, &out, &errs); code != exitcode.OK || !strings.Contains(out.String(), "/session-*.scope") {
		t.Errorf("%d %s %s", code, out.String(), errs.String())
	}
}
