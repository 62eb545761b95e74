package pagewalk_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

func TestProbe(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	files := diskDir(t)
	nothingNamed := watchNames(t, files)
	found, err := k.Probe(t.Context(), pagewalk.ProbeConfig{Cgroups: tree.Dir, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	nothingNamed()
	t.Logf("%+v", found)
	left := 0
	for range 500 { // the kernel frees memcgs some time after their last page
		if left = len(tree.List(k).Memcgs); left == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the probe left %d dying memcgs", left)
}

// watchNames returns what fails if anything in a directory has had a name meanwhile, which a killed process would leave.
func watchNames(t *testing.T, dir string) (check func()) {
	t.Helper()
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600); err != nil {
		return func() { t.Logf("%s has no files without a name: %v", dir, err) }
	} else {
		unix.Close(fd)
	}
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if n, err := unix.Read(fd, make([]byte, 4096)); err != unix.EAGAIN {
			t.Errorf("a file in %s had a name (%d bytes of events, %v)", dir, n, err)
		}
	}
}

// Draining leaves nothing either, whenever it is killed.
func TestDrainNamesNothing(t *testing.T) {
	dir := diskDir(t)
	nothingNamed := watchNames(t, dir)
	if err := pagewalk.DrainBatches(dir); err != nil {
		t.Fatal(err)
	}
	nothingNamed()
}

// A layout by which the living look like the dead is found out before anything dies.
func TestProbeLiving(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	l := *k.Layout
	l.CSSFlags = l.CSSParent // an address, whose low bits say that it is not online
	wrong, err := pagewalk.OpenLayout(&l)
	if err != nil {
		t.Skip(err)
	}
	defer wrong.Close()
	_, err = wrong.Probe(t.Context(), pagewalk.ProbeConfig{Cgroups: tree.Dir, Files: diskDir(t)})
	if pagewalk.ReasonOf(err) != pagewalk.Wrong || !strings.Contains(err.Error(), "lives") {
		t.Errorf("%v", err)
	}
}

// What is dying below a cgroup that has died itself has no living ancestor by that, and
// may be one that is to be left alone.
func TestLeave(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	tree.Mkdir("gone.slice")
	f := memcgtest.File(t, filepath.Join(diskDir(t), "f"), 4)
	tree.Die("gone.slice/a.scope", memcgtest.Op{Read: f.Name(), Ahead: true})
	dir, err := os.Open(filepath.Join(tree.Dir, "gone.slice"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	alive, err := k.Dead(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	n := alive.Len()
	if err := alive.Leave(t.Context(), func(ancestor string, whole bool) bool { return ancestor != tree.Path+"/gone.slice" || !whole }); err != nil || alive.Len() != n {
		t.Errorf("%d of %d, %v", alive.Len(), n, err)
	}
	tree.Rmdir("gone.slice")
	for _, unwanted := range []bool{false, true} {
		d, err := k.Dead(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		had := d.Len()
		err = d.Leave(t.Context(), func(ancestor string, whole bool) bool { return unwanted && ancestor == "" && !whole })
		if err != nil || (d.Len() == 0) != (unwanted || had == 0) || had == 0 && n > 0 {
			t.Errorf("orphans unwanted %v: %d of %d, %v", unwanted, d.Len(), had, err)
		}
	}
}

// diskDir is a temporary directory on a file system with a disk below it.
func diskDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "scopereap-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		t.Skip("needs /var/tmp on a file system of its own: not tmpfs, not overlay")
	}
	return dir
}

// scope is a dying memcg of TestScopes, and the files it read.
type scope struct {
	name  string
	files []*os.File
}

// A hundred scopes, each with files of its own of which it read some pages: all
// names, files and pages come out, by list and by scan.
func TestScopes(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dir := diskDir(t)
	const count = 100
	var scopes []scope
	var todo []memcgtest.Scope
	for i := range count {
		s := scope{name: fmt.Sprintf("user-%d.slice/session-%d.scope", i%10, i)}
		var ops []memcgtest.Op
		for j := range i%4 + 1 {
			pages := 1 + (i*7+j*13)%40
			f := memcgtest.File(t, filepath.Join(dir, fmt.Sprintf("f%d-%d", i, j)), pages)
			s.files = append(s.files, f)
			if j == 3 {
				ops = append(ops, memcgtest.Op{Read: f.Name(), Ahead: true})
			} else {
				ops = append(ops, memcgtest.Op{Read: f.Name(), First: pages / 3, Pages: pages - pages/3})
			}
		}
		todo = append(todo, memcgtest.Scope{Name: s.name, Ops: ops})
		scopes = append(scopes, s)
	}
	tree.DieAll(todo)
	t.Run("list", func(t *testing.T) {
		compareScopes(t, tree, scopes, func() *pagewalk.Walk { return tree.List(k) })
	})
	t.Run("scan", func(t *testing.T) {
		compareScopes(t, tree, scopes, func() *pagewalk.Walk { return scan(t, k, tree) })
	})
}

// scan walks below a tree's cgroup by scan, in slices.
func scan(t *testing.T, k *pagewalk.Kernel, tree *memcgtest.Tree) *pagewalk.Walk {
	t.Helper()
	if err := k.CanScan(); err != nil {
		t.Skip(err)
	}
	dir, err := os.Open(tree.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s, err := k.Scan(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Step(stopped, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled step: %v", err)
	}
	slices := 0
	for done := false; !done; slices++ {
		if done, err = s.Step(t.Context(), 1<<17); err != nil {
			t.Fatal(err)
		}
	}
	if done, total := s.Progress(); done != total || slices < 2 {
		t.Errorf("%d of %d pages in %d slices", done, total, slices)
	}
	w, err := s.Walk(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// mostWalks is how often compareScopes walks: the kernel moves and reclaims pages
// by itself meanwhile (compaction, DAMON), and a walk, which stops nobody, misses
// what moves from where it has not been to where it has. The next one sees it.
const mostWalks = 5

// compareScopes holds walks against mincore(2) before and after each: what was
// cached all the time is held, in one walk or another, and never is a page held
// that was not cached.
func compareScopes(t *testing.T, tree *memcgtest.Tree, scopes []scope, walk func() *pagewalk.Walk) {
	t.Helper()
	var missed []map[uint64]bool
	for n := range mostWalks {
		before := cachedPages(t, scopes)
		w := walk()
		after := cachedPages(t, scopes)
		t.Logf("%d dying, %d live, %d files, %d calls for %d objects, %v", len(w.Memcgs), w.Live, len(w.Files), w.Calls, w.Objects, w.Elapsed)
		if len(w.Inconclusive) > 0 {
			t.Errorf("inconclusive: %q", w.Inconclusive)
		}
		left, at := 0, 0
		for _, s := range scopes {
			path := tree.Path + "/" + s.name
			m := find(w, path)
			if m == nil {
				for i := range s.files {
					if len(after[at+i]) > 0 {
						t.Fatalf("%s is not found", path)
					}
				}
				m = &pagewalk.Memcg{Ancestor: filepath.Dir(path)} // the machine took its last page
			}
			if want := filepath.Dir(path); m.Ancestor != want {
				t.Errorf("%s: below %s, want %s", path, m.Ancestor, want)
			}
			for _, f := range s.files {
				if n == 0 {
					if len(before[at]) == 0 {
						t.Fatalf("%s: nothing of %s was read", s.name, f.Name())
					}
					missed = append(missed, maps.Clone(before[at]))
				}
				for _, page := range held(t, w, m, f) {
					if !before[at][page] && !after[at][page] {
						t.Errorf("%s holds page %d of %s, which is not cached", path, page, f.Name())
					}
					delete(missed[at], page)
				}
				for page := range missed[at] {
					if !after[at][page] {
						delete(missed[at], page)
					}
				}
				left += len(missed[at])
				at++
			}
		}
		if left == 0 {
			return
		}
		t.Logf("walk %d: %d pages that stayed cached were in none so far", n+1, left)
	}
	t.Errorf("no walk of %d saw these pages of the files: %v", mostWalks, missed)
}

// cachedPages lists the cached pages of each file of the scopes.
func cachedPages(t *testing.T, scopes []scope) (out []map[uint64]bool) {
	t.Helper()
	for _, s := range scopes {
		for _, f := range s.files {
			in := map[uint64]bool{}
			for _, page := range memcgtest.Cached(t, f) {
				in[page] = true
			}
			out = append(out, in)
		}
	}
	return out
}

func find(w *pagewalk.Walk, path string) *pagewalk.Memcg {
	for i := range w.Memcgs {
		if w.Memcgs[i].Path == path {
			return &w.Memcgs[i]
		}
	}
	return nil
}

// held lists the pages of a file that a memcg holds.
func held(t *testing.T, w *pagewalk.Walk, m *pagewalk.Memcg, f *os.File) (out []uint64) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for _, h := range m.Holdings {
		if x := w.Files[h.File]; x.Inode != st.Ino || x.Dev() != st.Dev {
			continue
		}
		for _, r := range h.Ranges {
			for i := range r.Pages {
				out = append(out, r.First+i)
			}
		}
	}
	return out
}

// What kind of page it is, and what keeps it, comes out right.
func TestKinds(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dir := diskDir(t)
	page := int64(os.Getpagesize())

	shm := filepath.Join("/dev/shm", filepath.Base(dir))
	t.Cleanup(func() { os.Remove(shm) })
	tree.Die("shmem.scope", memcgtest.Op{Write: shm, Pages: 5})

	clean := memcgtest.File(t, filepath.Join(dir, "clean"), 20)
	tree.Die("clean.scope", memcgtest.Op{Read: clean.Name()})

	mapped := memcgtest.File(t, filepath.Join(dir, "mapped"), 20)
	tree.Die("mapped.scope", memcgtest.Op{Read: mapped.Name()})
	tree.Mkdir("live.scope")
	tree.Start("live.scope", memcgtest.Op{Map: mapped.Name(), First: 4, Pages: 3})

	tree.Die("dirty.scope", memcgtest.Op{Write: filepath.Join(dir, "dirty"), Pages: 7})
	// A parent that holds no page: its dying child holds it.
	below := memcgtest.File(t, filepath.Join(dir, "below"), 2)
	tree.Die("parent.slice/child.scope", memcgtest.Op{Read: below.Name()})
	tree.Rmdir("parent.slice")

	w := tree.List(k)
	get := func(name string) pagewalk.Memcg {
		t.Helper()
		m := find(w, tree.Path+"/"+name)
		if m == nil {
			t.Fatalf("%s is not found", name)
		}
		if m.Charged < m.File+m.Block+m.Shmem+m.Anon {
			t.Errorf("%s holds more than is charged to it: %+v", name, m)
		}
		return *m
	}
	if m := get("shmem.scope"); m.Shmem != 5*page {
		t.Errorf("shmem %d bytes, want %d", m.Shmem, 5*page)
	}
	if m := get("clean.scope"); m.File != 20*page || m.Dirty != 0 || m.Mapped != 0 {
		t.Errorf("clean: %d bytes of files, %d dirty, %d mapped", m.File, m.Dirty, m.Mapped)
	}
	m := get("mapped.scope")
	var maps []uint64
	for _, h := range m.Holdings {
		for _, r := range h.Ranges {
			for i := range r.Pages {
				if r.State&pagewalk.Mapped != 0 {
					maps = append(maps, r.First+i)
				}
			}
		}
	}
	if m.File < 20*page || !slices.Contains(maps, 4) || !slices.Contains(maps, 6) || m.Mapped != int64(len(maps))*page {
		t.Errorf("mapped: %d bytes of files, pages %v mapped, %d bytes", m.File, maps, m.Mapped)
	}
	if m := get("dirty.scope"); m.Dirty+m.Writeback == 0 || m.File < 7*page {
		t.Errorf("dirty: %d bytes of files, %d dirty, %d in writeback", m.File, m.Dirty, m.Writeback)
	}
	parent, child := get("parent.slice"), get("parent.slice/child.scope")
	if parent.Children != 1 || len(parent.Holdings) != 0 || parent.Ancestor != tree.Path {
		t.Errorf("parent: %+v", parent)
	}
	if child.Ancestor != tree.Path {
		t.Errorf("child is below %s, want %s: its parent is dying, too", child.Ancestor, tree.Path)
	}
	if find(w, tree.Path+"/live.scope") != nil {
		t.Error("a live memcg is listed")
	}
	for _, f := range w.Files {
		if f.Inode == 0 || strings.Contains(f.FSType, "?") {
			t.Errorf("a file without: %+v", f)
		}
	}
}

// inode names a file as the kernel's memory has it: device, number, generation.
func inode(t *testing.T, f *os.File) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	gen, ok := pagewalk.Generation(f)
	if !ok {
		t.Fatalf("%s: no generation", f.Name())
	}
	return fmt.Sprint(unix.Major(st.Dev), ":", unix.Minor(st.Dev), " ", st.Ino, ".", gen)
}

// The second reader sees what the first sees.
func TestKcore(t *testing.T) {
	k := memcgtest.Open(t)
	second, err := pagewalk.OpenSecond(k)
	if err != nil {
		if r := pagewalk.ReasonOf(err); r == pagewalk.NoKcore || r == pagewalk.Lockdown || r == pagewalk.NoPrivilege {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	defer second.Close()
	tree := memcgtest.New(t)
	if _, err := second.Probe(t.Context(), pagewalk.ProbeConfig{Cgroups: tree.Dir, Files: diskDir(t)}); err != nil {
		t.Error(err)
	}
	if err := second.CanScan(); err != nil {
		t.Error(err)
	}
	f := memcgtest.File(t, filepath.Join(diskDir(t), "file"), 30)
	tree.Die("dead.scope", memcgtest.Op{Read: f.Name()})
	path := tree.Path + "/dead.scope"
	for what, w := range map[string]*pagewalk.Walk{"bpf": tree.List(k), "kcore": tree.List(second)} {
		if m := find(w, path); m == nil || len(held(t, w, m, f)) != 30 {
			t.Errorf("%s: %+v", what, m)
		}
	}
}

// Without the rights there is no walk, and it is said which are missing.
func TestNoPrivilege(t *testing.T) {
	memcgtest.Open(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), openEnv+"=1")
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	reason, words, _ := strings.Cut(string(out), "\n")
	if pagewalk.Reason(reason) != pagewalk.NoPrivilege || !strings.Contains(words, "CAP_BPF") {
		t.Errorf("as nobody: %q %s", reason, words)
	}
}

// While cgroups come and go and files are deleted, walks go on, by list and by
// scan, and what does not change comes out right each time.
func TestChurn(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dir := diskDir(t)
	f := memcgtest.File(t, filepath.Join(dir, "stays"), 25)
	tree.Die("stays.scope", memcgtest.Op{Read: f.Name()})
	path := tree.Path + "/stays.scope"
	done := make(chan bool)
	walks, missed := 0, 0
	go func() {
		defer close(done)
		for round := range 10 {
			var scopes []memcgtest.Scope
			for i := range 50 {
				scopes = append(scopes, memcgtest.Scope{
					Name: fmt.Sprintf("r%d/d%d", round, i),
					Ops:  []memcgtest.Op{{Write: filepath.Join(dir, fmt.Sprintf("f%d-%d", round, i)), Pages: i%5 + 1}},
				})
			}
			tree.DieAll(scopes)
			tree.Rmdir(fmt.Sprint("r", round))
			for i := range 50 {
				os.Remove(filepath.Join(dir, fmt.Sprintf("f%d-%d", round, i)))
			}
		}
	}()
	defer func() { <-done }()
	for running := true; running; walks++ {
		select {
		case <-done:
			running = false
		default:
		}
		w := tree.List(k)
		if walks%10 == 9 && k.CanScan() == nil {
			w = scan(t, k, tree)
		}
		sane(t, w)
		m := find(w, path)
		if m == nil {
			t.Fatalf("walk %d: %s is lost", walks, path)
		}
		// Less what the machine has reclaimed by itself.
		if got, want := len(held(t, w, m, f)), len(memcgtest.Cached(t, f)); got >= want {
			missed = 0
		} else if missed++; missed == mostWalks {
			t.Fatalf("walk %d is the last of %d in a row with too few: %d of %d pages: %+v", walks, missed, got, want, m)
		}
		for _, m := range w.Memcgs {
			if !strings.HasPrefix(m.Path, tree.Path+"/") {
				t.Errorf("walk %d: %s is not below %s", walks, m.Path, tree.Path)
			}
		}
	}
	t.Logf("%d walks", walks)
}
