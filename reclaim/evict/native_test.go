package evict_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/reclaim/evict"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

func diskDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "scopereap-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func evictor(t *testing.T) *evict.Evictor {
	e := evict.New(evict.Options{})
	t.Cleanup(e.Close)
	return e
}

// evictAll evicts what a tree's dying memcgs hold.
func evictAll(t *testing.T, e *evict.Evictor, w *pagewalk.Walk) []evict.Result {
	t.Helper()
	rs, err := e.Walk(t.Context(), w, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// gone waits until none of a tree's memcgs is dying: the kernel frees them some
// time after their last page. It returns what is left with a page: kernel memory
// alone (a file system's slab) may keep one for longer, and is not evicted.
func gone(k *pagewalk.Kernel, tree *memcgtest.Tree) []pagewalk.Memcg {
	var w *pagewalk.Walk
	for range 500 {
		if w = tree.List(k); len(w.Memcgs) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return slices.DeleteFunc(w.Memcgs, func(m pagewalk.Memcg) bool { return len(m.Holdings) == 0 && m.Charged == m.Other })
}

// A hundred dead scopes go, and a live neighbour keeps its cache to the page.
func TestEvict(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dir := diskDir(t)
	live, control := memcgtest.File(t, filepath.Join(dir, "live"), 4096), memcgtest.File(t, filepath.Join(dir, "control"), 4096)
	tree.Mkdir("live.scope")
	tree.Start("live.scope", memcgtest.Op{Read: live.Name(), Ahead: true}, memcgtest.Op{Read: control.Name(), Ahead: true})
	var scopes []memcgtest.Scope
	for i := range 100 {
		f := memcgtest.File(t, filepath.Join(dir, fmt.Sprint("f", i)), i%8+1)
		op := memcgtest.Op{Read: f.Name(), Ahead: i%2 == 0}
		scopes = append(scopes, memcgtest.Scope{Name: fmt.Sprintf("session-%d.scope", i), Ops: []memcgtest.Op{op}})
	}
	tree.DieAll(scopes)
	w := tree.List(k)
	if n := len(w.Memcgs); n > 100 || n < 90 { // the machine may take one's only page
		t.Fatalf("%d of 100 are dying", n)
	}
	kept := memcgtest.Kept(t, live, control)
	begun := time.Now()
	var asked, went uint64
	for _, r := range evictAll(t, evictor(t), w) {
		asked, went = asked+r.Asked, went+r.Gone
		if r.Err != nil || len(r.Left) > 0 {
			t.Logf("%v: left %v %v", r.File, r.Left, r.Err)
		}
	}
	t.Logf("%d pages asked, %d went, %v", asked, went, time.Since(begun))
	kept()
	if left := gone(k, tree); len(left) > 0 {
		t.Errorf("%d are left: %+v", len(left), left)
	}
}

// Of a file that a live memcg paid for one half of, and a dead one for the other,
// exactly the dead one's pages go.
func TestHalfPaid(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	const pages = 64
	f := memcgtest.File(t, filepath.Join(diskDir(t), "half"), pages)
	tree.Mkdir("live.scope")
	var read, keep []memcgtest.Op
	var dead, alive []uint64
	for i := range pages {
		op := memcgtest.Op{Read: f.Name(), First: i, Pages: 1}
		if i%16 < 5 || i%3 == 0 { // alternating, and in runs
			keep, alive = append(keep, op), append(alive, uint64(i))
		} else {
			read, dead = append(read, op), append(dead, uint64(i))
		}
	}
	tree.Start("live.scope", keep...)
	if in := memcgtest.Cached(t, f); !slices.Equal(in, alive) {
		t.Fatalf("the live one read %v, want %v", in, alive)
	}
	tree.Die("dead.scope", read...)
	if in := memcgtest.Cached(t, f); len(in) != pages {
		t.Fatalf("%d of %d pages are cached", len(in), pages)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	var r evict.Result
	for _, x := range evictAll(t, evictor(t), tree.List(k)) {
		if x.File.Inode == st.Ino && x.File.Dev() == st.Dev {
			r = x
		}
	}
	if r.Asked != uint64(len(dead)) || r.Gone != r.Asked || r.Err != nil {
		t.Errorf("%d of %d asked pages went, want %d; left %v, %v", r.Gone, r.Asked, len(dead), r.Left, r.Err)
	}
	if in := memcgtest.Cached(t, f); !slices.Equal(in, alive) {
		t.Errorf("cached are %v, want what the live one pays for: %v", in, alive)
	}
	if left := gone(k, tree); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// Mapped and dirty pages stay, and are said to; the rest of their file goes.
func TestStays(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dir := diskDir(t)
	f := memcgtest.File(t, filepath.Join(dir, "mapped"), 32)
	tree.Die("dead.scope", memcgtest.Op{Read: f.Name()})
	tree.Mkdir("live.scope")
	tree.Start("live.scope", memcgtest.Op{Map: f.Name(), First: 8, Pages: 2})
	shm := filepath.Join("/dev/shm", filepath.Base(dir))
	t.Cleanup(func() { os.Remove(shm) })
	tree.Die("shmem.scope", memcgtest.Op{Write: shm, Pages: 3})
	rs := evictAll(t, evictor(t), tree.List(k))
	for _, r := range rs {
		switch r.File.Kind {
		case pagewalk.Shmem:
			if r.Left[evict.Shmem] != 3 || r.Asked != 0 {
				t.Errorf("shmem: %+v", r)
			}
		case pagewalk.Regular:
			in := memcgtest.Cached(t, f)
			// The kernel maps pages around those touched, too.
			if uint64(len(in)) != r.Left[evict.Mapped] || !slices.Contains(in, 8) || !slices.Contains(in, 9) || r.Gone != 32-r.Left[evict.Mapped] || r.Gone == 0 {
				t.Errorf("mapped: %+v; cached are %v", r, in)
			}
		}
	}
	if len(rs) < 2 {
		t.Errorf("%d files, want 2", len(rs))
	}
}

// loop makes a file system in a file and returns the device of it.
func loop(t *testing.T, dir, fs string, megabytes int64, mkfs ...string) string {
	t.Helper()
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skipf("needs %s: %v", mkfs[0], err)
	}
	if b, err := os.ReadFile("/proc/filesystems"); err == nil && !strings.Contains(string(b), "\t"+fs+"\n") {
		_ = exec.Command("modprobe", fs).Run()
	}
	img := filepath.Join(dir, fs+".img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, megabytes<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], img)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v %s", mkfs, err, out)
	}
	out, err := exec.Command("losetup", "-f", "--show", img).CombinedOutput()
	if err != nil {
		t.Skipf("needs a loop device: %v %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", dev).Run() })
	return dev
}

func mount(t *testing.T, dev, at, fs, options string) {
	t.Helper()
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(dev, at, fs, 0, options); err != nil {
		if errors.Is(err, unix.ENODEV) {
			t.Skipf("needs %s in this kernel: %v", fs, err)
		}
		t.Fatalf("mount %s at %s: %v", dev, at, err)
	}
	t.Cleanup(func() {
		for range 100 {
			if err := unix.Unmount(at, 0); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%s stays mounted", at)
	})
}

var fileSystems = []struct {
	fs        string
	megabytes int64
	mkfs      []string
}{
	{"ext4", 64, []string{"mkfs.ext4", "-q", "-F"}},
	{"xfs", 320, []string{"mkfs.xfs", "-q", "-f"}},
	{"btrfs", 160, []string{"mkfs.btrfs", "-q", "-f"}},
}

// goes has a dead scope read files, and checks that they go, by their path.
func goes(t *testing.T, e *evict.Evictor, names ...string) {
	t.Helper()
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	var ops []memcgtest.Op
	var files []*os.File
	for _, n := range names {
		f, err := os.Open(n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		memcgtest.Forget(t, f)
		files = append(files, f)
		ops = append(ops, memcgtest.Op{Read: n, Ahead: true})
	}
	tree.Die("dead.scope", ops...)
	pages := 0
	for _, f := range files {
		pages += len(memcgtest.Cached(t, f))
	}
	if pages == 0 {
		t.Fatal("nothing was read")
	}
	w := tree.List(k)
	rs := evictAll(t, e, w)
	var went uint64
	for _, r := range rs {
		t.Logf("%v subvolume %d: asked %d, gone %d, left %v %v", r.File, r.File.Subvolume, r.Asked, r.Gone, r.Left, r.Err)
		if r.File.Kind == pagewalk.Regular {
			went += r.Gone
		}
	}
	if int(went) < pages {
		t.Errorf("%d of %d pages went", went, pages)
	}
	for _, f := range files {
		if in := memcgtest.Cached(t, f); len(in) > 0 {
			t.Errorf("%s still has %v", f.Name(), in)
		}
	}
	if left := gone(k, tree); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// Files of each file system go: in its root, deeper, deleted, and below an
// overlay, whose pages belong to the layers.
func TestFileSystems(t *testing.T) {
	for _, x := range fileSystems {
		t.Run(x.fs, func(t *testing.T) {
			dir := diskDir(t)
			dev := loop(t, dir, x.fs, x.megabytes, x.mkfs...)
			at := filepath.Join(dir, "a space\tand a tab")
			mount(t, dev, at, x.fs, "")
			var names []string
			for _, n := range []string{"one", "d/e/two", "d/three"} {
				n = filepath.Join(at, n)
				if err := os.MkdirAll(filepath.Dir(n), 0o755); err != nil {
					t.Fatal(err)
				}
				memcgtest.File(t, n, 50).Close()
				names = append(names, n)
			}
			t.Run("plain", func(t *testing.T) { goes(t, evictor(t), names...) })
			t.Run("path", func(t *testing.T) { paths(t, names[1]) })
			t.Run("deleted", func(t *testing.T) {
				f := memcgtest.File(t, filepath.Join(at, "gone"), 20)
				if err := os.Remove(f.Name()); err != nil {
					t.Fatal(err)
				}
				goes(t, evictor(t), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()))
			})
			if x.fs == "btrfs" {
				t.Run("subvolume", func(t *testing.T) { subvolume(t, at) })
			}
			t.Run("overlay", func(t *testing.T) { overlay(t, at, dir) })
		})
	}
}

func paths(t *testing.T, name string) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	memcgtest.Forget(t, f)
	tree.Die("dead.scope", memcgtest.Op{Read: name})
	e := evictor(t)
	w := tree.List(k)
	var got []string
	for _, x := range w.Files {
		if x.Kind != pagewalk.Regular {
			continue
		}
		p, err := e.Path(x)
		if err != nil {
			t.Error(err)
		}
		got = append(got, p)
	}
	if !slices.Contains(got, name) {
		t.Errorf("the paths are %q, want %q among them", got, name)
	}
	evictAll(t, e, w)
	if left := gone(k, tree); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// Inode numbers of btrfs are unique in a subvolume only, and a snapshot has the
// same numbers and generations as what it was made of.
func subvolume(t *testing.T, at string) {
	var names []string
	for _, args := range [][]string{{"create", at + "/sub"}, {"snapshot", at + "/sub", at + "/snap"}} {
		if args[0] == "snapshot" {
			memcgtest.File(t, at+"/sub/file", 30).Close()
			_ = exec.Command("sync", "-f", at).Run()
		}
		if out, err := exec.Command("btrfs", append([]string{"subvolume"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	names = append(names, at+"/sub/file", at+"/snap/file")
	goes(t, evictor(t), names...)
}

func overlay(t *testing.T, at, dir string) {
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(at, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	memcgtest.File(t, filepath.Join(at, "lower/below"), 30).Close()
	top := filepath.Join(dir, "merged")
	mount(t, "overlay", top, "overlay", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", at))
	memcgtest.File(t, filepath.Join(top, "above"), 20).Close()
	goes(t, evictor(t), filepath.Join(top, "below"), filepath.Join(top, "above"))
}

// A file system that only another mount namespace has.
func TestOtherNamespace(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dir := diskDir(t)
	dev := loop(t, dir, "ext4", 64, "mkfs.ext4", "-q", "-F")
	at := filepath.Join(dir, "at")
	mount(t, dev, at, "ext4", "")
	memcgtest.File(t, filepath.Join(at, "file"), 40).Close()
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Mount(dev, at, "ext4", 0, "") }) // for mount's own
	tree.Mkdir("live.scope")
	stop := tree.Start("live.scope", memcgtest.Op{Mount: "ext4", Read: dev, Map: at})
	// The dead one reads it by way of the living one's namespace.
	var pid string
	b, err := os.ReadFile(filepath.Join(tree.Dir, "live.scope/cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	pid = strings.TrimSpace(string(b))
	name := filepath.Join("/proc", pid, "root", at, "file")
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	tree.Die("dead.scope", memcgtest.Op{Read: name})
	if len(memcgtest.Cached(t, f)) != 40 {
		t.Fatal("it was not read")
	}
	went := uint64(0)
	for _, r := range evictAll(t, evictor(t), tree.List(k)) {
		if r.File.Kind == pagewalk.Regular {
			went += r.Gone
		}
		t.Logf("%v: asked %d, gone %d, left %v %v", r.File, r.Asked, r.Gone, r.Left, r.Err)
	}
	if went != 40 || len(memcgtest.Cached(t, f)) > 0 {
		t.Errorf("%d of 40 pages went", went)
	}
	f.Close()
	stop()
}

// A block device's own pages go by its node.
func TestBlockDevice(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dev := loop(t, diskDir(t), "ext4", 64, "mkfs.ext4", "-q", "-F")
	f, err := os.Open(dev) // or the last one's close drops its pages
	if err != nil {
		t.Skipf("needs to open a loop device: %v", err)
	}
	defer f.Close()
	memcgtest.Forget(t, f)
	// Away from where udev looks for file systems.
	tree.Die("dead.scope", memcgtest.Op{Read: dev, First: 5000, Pages: 50})
	w := tree.List(k)
	if len(w.Memcgs) != 1 {
		t.Fatalf("%+v", w.Memcgs)
	}
	pages := w.Memcgs[0].Block / int64(os.Getpagesize())
	if pages < 45 || pages > 50 { // the machine may have taken one
		t.Fatalf("%d pages: %+v", pages, w.Memcgs)
	}
	for _, r := range evictAll(t, evictor(t), w) {
		if r.File.Kind == pagewalk.Block && (r.Gone != uint64(pages) || r.Err != nil) {
			t.Errorf("%+v", r)
		}
	}
	if left := gone(k, tree); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// What is not the file that the walk saw is not opened, and what is not a regular
// file never.
func TestRefuses(t *testing.T) {
	memcgtest.Open(t)
	dir := diskDir(t)
	f := memcgtest.File(t, filepath.Join(dir, "file"), 2)
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	of := func(name string) pagewalk.File {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			t.Fatal(err)
		}
		return pagewalk.File{Major: unix.Major(st.Dev), Minor: unix.Minor(st.Dev), Inode: st.Ino, Mode: unix.S_IFREG | 0o600,
			Generation: generation(t, name), FSType: "ext4"}
	}
	e := evictor(t)
	good := of(f.Name())
	file, err := e.Open(good)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	for what, x := range map[string]pagewalk.File{
		"a generation that is gone": func() pagewalk.File { x := good; x.Generation += 7; return x }(),
		"a FIFO":                    func() pagewalk.File { x := of(fifo); x.Mode = unix.S_IFIFO; return x }(),
		"a FIFO taken for a file":   of(fifo),
		"a directory":               of(dir),
		"no such file system":       func() pagewalk.File { x := good; x.Major, x.Minor = 4095, 77; return x }(),
		"NFS":                       func() pagewalk.File { x := good; x.FSType = "nfs4"; return x }(),
		"FUSE":                      func() pagewalk.File { x := good; x.FSType = "fuse"; return x }(),
	} {
		if file, err := e.Open(x); err == nil {
			t.Errorf("%s: opened %s", what, file.Name())
			file.Close()
		}
	}
	nfs := good
	nfs.FSType = "nfs4"
	if r := e.Evict(nfs, []pagewalk.Range{{First: 0, Pages: 3}}); r.Left[evict.Remote] != 3 || r.Err != nil {
		t.Errorf("NFS: %+v", r)
	}
}

// generation is an inode's, as its handle has it.
func generation(t *testing.T, name string) uint32 {
	t.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, name, 0)
	if err != nil || h.Type() != 1 {
		t.Skipf("needs a file system with plain handles at /var/tmp: %v", err)
	}
	b := h.Bytes()
	return uint32(b[4]) | uint32(b[5])<<8 | uint32(b[6])<<16 | uint32(b[7])<<24
}

// A large folio goes whole or not at all: a walk's ranges never cut one.
func TestLargeFolio(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	f := memcgtest.File(t, filepath.Join(diskDir(t), "large"), 1024)
	tree.Die("dead.scope", memcgtest.Op{Read: f.Name(), Ahead: true})
	w := tree.List(k)
	if len(w.Memcgs) != 1 {
		t.Fatalf("%+v", w.Memcgs)
	}
	if w.Memcgs[0].Large == 0 {
		t.Skip("needs a kernel and file system with large folios at /var/tmp (ext4: Linux 6.16)")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	e := evictor(t)
	for _, h := range w.ByFile(nil) {
		x := w.Files[h.File]
		if x.Inode != st.Ino || x.Dev() != st.Dev {
			continue
		}
		had := len(memcgtest.Cached(t, f))
		// All but one page: the folio that it is of stays, and is said to.
		last := h.Ranges[len(h.Ranges)-1]
		cut := append(slices.Clone(h.Ranges[:len(h.Ranges)-1]), pagewalk.Range{First: last.First, Pages: last.Pages - 1})
		r := e.Evict(x, cut)
		in := len(memcgtest.Cached(t, f))
		if r.Gone+r.Left[evict.InUse] != r.Asked || uint64(had-in) != r.Gone || in < 1 {
			t.Errorf("%d pages, %d left; %+v", had, in, r)
		}
		t.Logf("all but one of %d pages: %d went, %d stayed", had, r.Gone, in)
		if r := e.Evict(x, h.Ranges); len(memcgtest.Cached(t, f)) > 0 {
			t.Errorf("%+v", r)
		}
	}
}

// A file system that is unmounted between walk and eviction: nothing hangs, and
// it is said that the file cannot be reached.
func TestUnmounted(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dir := diskDir(t)
	dev := loop(t, dir, "ext4", 64, "mkfs.ext4", "-q", "-F")
	at := filepath.Join(dir, "at")
	mount(t, dev, at, "ext4", "")
	name := filepath.Join(at, "file")
	memcgtest.File(t, name, 10).Close()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	memcgtest.Forget(t, f)
	f.Close()
	tree.Die("dead.scope", memcgtest.Op{Read: name})
	w := tree.List(k)
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Mount(dev, at, "ext4", 0, "") }) // for mount's own
	n := 0
	for _, r := range evictAll(t, evictor(t), w) {
		if r.File.Kind == pagewalk.Regular && r.File.Major == 7 {
			if n++; r.Err == nil || r.Left[evict.Unreachable] != 10 || !strings.Contains(r.Err.Error(), "not mounted") {
				t.Errorf("%+v", r)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d files, want 1", n)
	}
}
