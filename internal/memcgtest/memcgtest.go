// Package memcgtest makes memory cgroups of a test's own, on cgroup v1 or v2,
// and runs parts of the test's binary in them.
package memcgtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// Op is something that a process does in a cgroup. The zero Pages is all.
type Op struct {
	// Read, Write, Map: the file's path. Map leaves it mapped, and its pages
	// touched, as long as the process lives.
	Read, Write, Map string
	First, Pages     int
	// Ahead: with the kernel's readahead. Without it pages are read one by one.
	Ahead bool
	// Enter: cgroup.procs of the cgroup to be in from here on.
	Enter string
	// Mount: a file system's type, to mount Read's device at Map in a mount
	// namespace of the process's own.
	Mount string
}

const childEnv = "SCOPEREAP_MEMCGTEST"

// Main is what TestMain must call before anything else. It does not return in a
// process that Run or Start began.
func Main() {
	if pagewalk.ProbeChild() {
		os.Exit(0)
	}
	if os.Getenv(childEnv) == "" {
		return
	}
	if err := child(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child() error {
	in := bufio.NewReader(os.Stdin)
	todo, err := in.ReadBytes('\n') // it is where it shall be by then
	if err != nil {
		return err
	}
	var ops []Op
	if err := json.Unmarshal(todo, &ops); err != nil {
		return err
	}
	runtime.LockOSThread() // a mount namespace is a thread's
	for _, op := range ops {
		if err := op.do(); err != nil {
			return fmt.Errorf("%+v: %w", op, err)
		}
	}
	fmt.Println("done")
	_, err = io.Copy(io.Discard, in) // until Start's stop
	return err
}

func (op Op) do() error {
	size := os.Getpagesize()
	if op.Mount != "" {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		return unix.Mount(op.Read, op.Map, op.Mount, 0, "")
	}
	if op.Enter != "" {
		return os.WriteFile(op.Enter, []byte("0"), 0)
	}
	name := op.Read + op.Write + op.Map
	flags := os.O_RDONLY
	if op.Write != "" {
		flags = os.O_RDWR | os.O_CREATE
	}
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return err
	}
	pages := op.Pages
	if pages == 0 {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		pages = int((st.Size() + int64(size) - 1) / int64(size))
	}
	if op.Map != "" {
		mem, err := unix.Mmap(int(f.Fd()), int64(op.First*size), pages*size, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		sum := byte(0)
		for i := 0; i < len(mem); i += size {
			sum += mem[i]
		}
		runtime.KeepAlive(sum)
		return nil
	}
	defer f.Close()
	if !op.Ahead {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
			return err
		}
	}
	buf := make([]byte, size)
	for i := op.First; i < op.First+pages; i++ {
		if op.Write != "" {
			_, err = f.WriteAt(buf, int64(i*size))
		} else if _, err = f.ReadAt(buf, int64(i*size)); errors.Is(err, io.EOF) {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Tree is a cgroup of the test's own, gone with all below it at its end.
type Tree struct {
	Dir  string // "/sys/fs/cgroup/memory/…"
	Path string // "/…", as the kernel names it
	V1   bool
	tb   testing.TB
}

// New makes one, or skips the test with the reason.
func New(tb testing.TB) *Tree {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: it makes memory cgroups of its own")
	}
	root, v1 := Root()
	if root == "" {
		tb.Skip("needs memory cgroups; none are mounted")
	}
	name := fmt.Sprintf("scopereap-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	t := &Tree{Dir: filepath.Join(root, name), Path: "/" + name, V1: v1, tb: tb}
	if err := os.Mkdir(t.Dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { t.drop(t.Dir) })
	t.children(t.Dir)
	return t
}

// children lets a cgroup have memcgs below it.
func (t *Tree) children(dir string) {
	if t.V1 {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
		t.tb.Skipf("needs the memory controller in %s: %v", dir, err)
	}
}

// drop removes a cgroup with all below it, and moves the processes left in it
// to where the test itself is.
func (t *Tree) drop(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			t.drop(filepath.Join(dir, e.Name()))
		}
	}
	var err error
	for range 100 {
		if err = os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.tb.Errorf("left behind: %v", err)
}

// Mkdir makes a cgroup below the tree's, its parents too.
func (t *Tree) Mkdir(name string) {
	t.tb.Helper()
	dir := t.Dir
	for part := range strings.SplitSeq(name, "/") {
		if dir != t.Dir {
			t.children(dir)
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.tb.Fatal(err)
		}
	}
}

// Rmdir removes one: it is dying then.
func (t *Tree) Rmdir(name string) {
	t.tb.Helper()
	var err error
	for range 100 {
		if err = os.Remove(filepath.Join(t.Dir, name)); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.tb.Fatal(err)
}

// Die makes a cgroup, has a process do something in it and removes it.
func (t *Tree) Die(name string, ops ...Op) {
	t.tb.Helper()
	t.Mkdir(name)
	t.Start(name, ops...)()
	t.Rmdir(name)
}

// Scope is a cgroup and what is done in it.
type Scope struct {
	Name string
	Ops  []Op
}

// DieAll is Die for many cgroups with one process, which goes from one to the
// next.
func (t *Tree) DieAll(scopes []Scope) {
	t.tb.Helper()
	var ops []Op
	for _, s := range scopes {
		t.Mkdir(s.Name)
		ops = append(ops, Op{Enter: filepath.Join(t.Dir, s.Name, "cgroup.procs")})
		ops = append(ops, s.Ops...)
	}
	t.Start(scopes[0].Name, ops...)()
	for _, s := range scopes {
		t.Rmdir(s.Name)
	}
}

// Start has a process do something in a cgroup, and returns once that is done.
// The process goes when stop is called, or at the test's end.
func (t *Tree) Start(name string, ops ...Op) (stop func()) {
	t.tb.Helper()
	todo, err := json.Marshal(ops)
	if err != nil {
		t.tb.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.tb.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"=1", "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.tb.Fatal(err)
	}
	runtime.LockOSThread() // Pdeathsig is for the thread's end
	err = cmd.Start()
	runtime.UnlockOSThread()
	if err != nil {
		t.tb.Fatal(err)
	}
	stop = func() {
		in.Close()
		_ = cmd.Wait()
	}
	procs := filepath.Join(t.Dir, name, "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		stop()
		t.tb.Fatal(err)
	}
	if _, err := in.Write(append(todo, '\n')); err != nil {
		t.tb.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "done\n" {
		stop()
		t.tb.Fatalf("in %s: %v %s", name, err, said.String())
	}
	t.tb.Cleanup(stop)
	return stop
}

// Root is where memory cgroups are mounted, "" where they are not.
func Root() (dir string, v1 bool) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		for i, x := range f {
			switch {
			case x == "-" && f[i+1] == "cgroup" && strings.Contains(","+f[len(f)-1]+",", ",memory,"):
				return f[4], true
			case x == "-" && f[i+1] == "cgroup2":
				c, _ := os.ReadFile(f[4] + "/cgroup.controllers")
				if strings.Contains(" "+strings.TrimSpace(string(c))+" ", " memory ") {
					dir = f[4]
				}
			}
		}
	}
	return dir, false
}

// File makes a file of so many pages, on disk and with none of it in memory, and
// keeps it open.
func File(tb testing.TB, name string, pages int) *os.File {
	tb.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	buf := make([]byte, os.Getpagesize())
	for i := range pages {
		buf[0] = byte(i)
		if _, err := f.Write(buf); err != nil {
			tb.Fatal(err)
		}
	}
	Forget(tb, f)
	return f
}

// Forget gets a file out of memory.
func Forget(tb testing.TB, f *os.File) {
	tb.Helper()
	if err := f.Sync(); err != nil {
		tb.Fatal(err)
	}
	var in []uint64
	for range 50 {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			tb.Fatal(err)
		}
		if in = Cached(tb, f); len(in) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	tb.Fatalf("%s: %d pages stay in memory", f.Name(), len(in))
}

// Cached lists a file's pages that are in memory.
func Cached(tb testing.TB, f *os.File) []uint64 {
	tb.Helper()
	st, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	size := int64(os.Getpagesize())
	in, err := pagewalk.Cached(f, 0, uint64((st.Size()+size-1)/size))
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

// Kept takes note of what a live file has in memory and returns what checks, after
// something was done, that the file has it still. The machine may reclaim by
// itself what nobody reads (DAMON): the control, a file that what is done has
// nothing to do with, shows how much of that there was, and a page in 64 is
// chance.
func Kept(tb testing.TB, live, control *os.File) (check func()) {
	tb.Helper()
	had, hadControl := len(Cached(tb, live)), len(Cached(tb, control))
	return func() {
		tb.Helper()
		lost, others := had-len(Cached(tb, live)), hadControl-len(Cached(tb, control))
		if had == 0 || lost > others+had/64 {
			tb.Errorf("of %d live pages of %s %d are lost, of the control's %d %d", had, live.Name(), lost, hadControl, others)
		}
	}
}

// Open opens the kernel for walking, or skips the test where this machine does
// not allow it. A walk that is wrong is no reason to skip.
func Open(tb testing.TB) *pagewalk.Kernel {
	tb.Helper()
	k, err := pagewalk.Open()
	switch pagewalk.ReasonOf(err) {
	case "":
	case pagewalk.Wrong, pagewalk.NoLayout, pagewalk.Untried:
		tb.Fatal(err)
	default:
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { k.Close() })
	return k
}

// List walks below the tree's cgroup, with the CPUs' batches of pages drained. It
// walks again, some times, where the kernel changed a list meanwhile: compaction
// and DAMON take pages off for a moment.
func (t *Tree) List(k *pagewalk.Kernel) *pagewalk.Walk {
	t.tb.Helper()
	if err := pagewalk.DrainBatches("/var/tmp"); err != nil {
		t.tb.Fatal(err)
	}
	dir, err := os.Open(t.Dir)
	if err != nil {
		t.tb.Fatal(err)
	}
	defer dir.Close()
	for more := 4; ; more-- {
		w, err := k.List(t.tb.Context(), dir)
		if err != nil {
			t.tb.Fatal(err)
		}
		if more == 0 || !slices.ContainsFunc(w.Memcgs, func(m pagewalk.Memcg) bool { return m.Partial }) {
			return w
		}
	}
}
