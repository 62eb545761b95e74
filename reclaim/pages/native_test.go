package pages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/reclaim"
)

// What makes this test's binary the process: the socket, and how long it idles.
const (
	asServer = "SCOPEREAP_TEST_PAGES"
	asIdle   = "SCOPEREAP_TEST_PAGES_IDLE"
)

func TestMain(m *testing.M) {
	memcgtest.Main()
	if path := os.Getenv(asServer); path != "" {
		idle, err := time.ParseDuration(os.Getenv(asIdle))
		if err == nil {
			root, _ := memcgtest.Root()
			s := &Server{Root: root, Files: "/var/tmp", Idle: idle, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
			err = s.Run(context.Background(), path)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// unit is what the process runs as where there is systemd.
const unit = "../../packaging/systemd/scopereap-pages.service"

// asUnit has a command run with the capabilities of the unit, and no others.
func asUnit(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	b, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	_, caps, found := strings.Cut(string(b), "\nCapabilityBoundingSet=")
	if !found {
		t.Fatal("the unit has all capabilities")
	}
	caps, _, _ = strings.Cut(caps, "\n")
	return withCaps(t, cmd, strings.Fields(strings.ReplaceAll(strings.ToLower(caps), "cap_", ""))...)
}

func withCaps(t *testing.T, cmd *exec.Cmd, caps ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	set := "-all"
	for _, c := range caps {
		set += ",+" + c
	}
	with := exec.Command("setpriv", "--bounding-set="+set, "--inh-caps=-all", self)
	with.Env, with.Stderr = cmd.Env, cmd.Stderr
	return with
}

func client(t testing.TB, idle time.Duration) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), SocketName)
	c := &Client{Socket: path, Command: func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), asServer+"="+path, asIdle+"="+idle.String())
		cmd.Stderr = os.Stderr
		return cmd
	}}
	t.Cleanup(c.Close)
	return c
}

func lastRead(t *testing.T, name string) syscall.Timespec {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return st.Atim
}

// The process frees what is dying below one cgroup and names what stays. What lives
// there, and what is dying elsewhere, keeps every page.
func TestEvictBelow(t *testing.T) {
	k := memcgtest.Open(t)
	tree, other := memcgtest.New(t), memcgtest.New(t)
	dir := diskDir(t)
	file := func(name string, pages int) *os.File { return memcgtest.File(t, filepath.Join(dir, name), pages) }

	live, elsewhere, mapped, control := file("live", 1024), file("elsewhere", 16), file("mapped", 4), file("control", 1024)
	tree.Mkdir("live.scope")
	tree.Start("live.scope", memcgtest.Op{Read: live.Name(), Ahead: true})
	other.Mkdir("control.scope")
	other.Start("control.scope", memcgtest.Op{Read: control.Name(), Ahead: true})
	other.Die("dead.scope", memcgtest.Op{Read: elsewhere.Name(), Ahead: true})
	// Read by one that dies, then mapped by one that lives.
	tree.Die("mapped.scope", memcgtest.Op{Read: mapped.Name(), Ahead: true})
	tree.Start("live.scope", memcgtest.Op{Map: mapped.Name()})
	var scopes []memcgtest.Scope
	files := []*os.File{mapped}
	for i := range 50 {
		f := file(fmt.Sprint("f", i), i%8+1)
		files = append(files, f)
		// Some are somebody else's, who alone may read them.
		if i%2 == 0 {
			if err := errors.Join(f.Chmod(0o600), f.Chown(12345, 12345)); err != nil {
				t.Fatal(err)
			}
		}
		scopes = append(scopes, memcgtest.Scope{Name: fmt.Sprintf("s%d.scope", i), Ops: []memcgtest.Op{{Read: f.Name(), Ahead: true}}})
	}
	tree.DieAll(scopes)
	kept, keptElsewhere := memcgtest.Kept(t, live, control), memcgtest.Kept(t, elsewhere, control)

	c := client(t, time.Minute)
	start := c.Command
	c.Command = func() *exec.Cmd { return asUnit(t, start()) }
	// The machine may reclaim a memcg's only page by itself at any time.
	l, err := c.List(t.Context(), tree.Path)
	if err != nil {
		t.Fatal(err)
	}
	if l.Dying < inMemory(t, files) || l.Dying > len(files) || l.Dying == 0 || len(l.Memcgs) != l.Dying || l.Memcgs[0].Ancestor != tree.Path || l.Memcgs[0].Evicts+l.Memcgs[0].Holds[reclaim.LeftMapped] == 0 {
		t.Errorf("%d dying, %+v", l.Dying, l.Memcgs)
	}
	st, err := os.Stat(c.Socket)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v", st.Mode(), err)
	}

	// An ancestor that the policy ignores keeps its dead.
	r, err := c.Evict(t.Context(), reclaim.EvictRequest{Under: tree.Path, Share: 1, Ignore: []string{tree.Path}, Look: true})
	if err != nil || r.Before != 0 || r.Asked != 0 || r.Freed != 0 {
		t.Errorf("ignored: %+v, %v", r, err)
	}
	least := inMemory(t, files)
	theirs := filepath.Join(dir, "f0")
	// Read so long ago that reading it would be noted (relatime).
	if err := os.Chtimes(theirs, time.Now().Add(-48*time.Hour), time.Time{}); err != nil {
		t.Fatal(err)
	}
	read := lastRead(t, theirs)
	begun := time.Now()
	r, err = c.Evict(t.Context(), reclaim.EvictRequest{Under: tree.Path, Share: 1, Look: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v in %v", r, time.Since(begun))
	if int(r.Before) > l.Dying || int(r.Before) < least*9/10 || r.Asked == 0 || r.Gone == 0 || r.CPU <= 0 || r.After == 0 || r.Left[reclaim.LeftMapped] != int64(4*os.Getpagesize()) {
		t.Errorf("%+v", r)
	}
	if now := lastRead(t, theirs); now != read {
		t.Errorf("somebody's file was last read at %v, and before the eviction at %v", now, read)
	}
	// The kernel frees them in its own time; the answer may be too soon for some.
	left := tree.List(k).Memcgs
	for try := 0; try < 500 && len(left) > 1; try++ {
		time.Sleep(20 * time.Millisecond)
		left = tree.List(k).Memcgs
	}
	if len(left) != 1 || left[0].Path != tree.Path+"/mapped.scope" {
		t.Errorf("left: %+v", left)
	}
	kept()
	keptElsewhere()

	if _, err := c.Evict(t.Context(), reclaim.EvictRequest{Under: tree.Path + "/gone.slice"}); err == nil {
		t.Error("a cgroup that is not there is no error")
	}
	if _, err := c.Evict(t.Context(), reclaim.EvictRequest{Under: "nonsense"}); err == nil {
		t.Error("nonsense is no error")
	}
}

// What is dirty is begun to be written back, and goes once it is.
func TestEvictWrites(t *testing.T) {
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dir := diskDir(t)
	tree.Die("dirty.scope", memcgtest.Op{Write: filepath.Join(dir, "dirty"), Pages: 8})
	dirty := func() (n int64) {
		for _, m := range tree.List(k).Memcgs {
			n += m.Dirty
		}
		return n
	}
	if dirty() == 0 {
		t.Skip("the machine has written it already")
	}
	c := client(t, time.Minute)
	if _, err := c.Evict(t.Context(), reclaim.EvictRequest{Under: tree.Path, Share: 1, Write: true}); err != nil {
		t.Fatal(err)
	}
	for range 100 { // by itself it takes the kernel half a minute (vm.dirty_expire_centisecs)
		if dirty() == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("nothing has begun to write it back")
}

// inMemory counts the files that have a page in memory.
func inMemory(t *testing.T, files []*os.File) (n int) {
	t.Helper()
	for _, f := range files {
		if len(memcgtest.Cached(t, f)) > 0 {
			n++
		}
	}
	return n
}

// It ends when idle, and is started again when needed.
func TestIdle(t *testing.T) {
	memcgtest.Open(t)
	tree := memcgtest.New(t)
	c := client(t, 50*time.Millisecond)
	for range 2 {
		if l, err := c.List(t.Context(), tree.Path); err != nil || l.Dying != 0 {
			t.Fatalf("%+v, %v", l, err)
		}
		select {
		case <-c.ended:
		case <-time.After(time.Minute):
			t.Fatal("it goes on though nobody asks")
		}
		if st := c.child.ProcessState; !st.Success() {
			t.Errorf("it ended with %v", st)
		}
		if _, err := os.Stat(c.Socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its socket is left: %v", err)
		}
	}
}

// What one start has proven the next takes over, without a probe: unless the program is another, or the file is damaged.
func TestProven(t *testing.T) {
	memcgtest.Open(t)
	tree := memcgtest.New(t)
	file := filepath.Join(t.TempDir(), ProvenName)
	open := func(root string) bool {
		s := &Server{Root: root, Files: "/var/tmp", Proven: file, Log: slog.New(slog.DiscardHandler)}
		s.open(t.Context())
		if s.kernel != nil {
			s.kernel.Close()
		}
		return s.off == nil
	}
	here, _ := memcgtest.Root()
	nowhere := filepath.Join(t.TempDir(), "none")
	if open(nowhere) {
		t.Fatal("a probe in no cgroup shows nothing, and yet it is content")
	}
	if !open(filepath.Join(here, tree.Path)) || !open(nowhere) {
		t.Error("the second start probes again")
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", st, err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*proven){
		"boot":    func(p *proven) { p.Boot = "another" },
		"program": func(p *proven) { p.Program = "another" },
		"layout":  func(p *proven) { p.Layout = nil },
		"offsets": func(p *proven) { p.Layout.StructPage = 1 << 20 },
	} {
		var p proven
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		change(&p)
		changed, err := json.Marshal(p)
		if err == nil {
			err = os.WriteFile(file, changed, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if open(nowhere) {
			t.Errorf("another %s: no probe", name)
		}
	}
	if err := os.WriteFile(file, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if open(nowhere) {
		t.Error("half a file: no probe")
	}
}

// A start removes what one that was killed has left of the file, as its directory outlives the process.
func TestProvenCleans(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".scopereap-17.tmp"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{Proven: filepath.Join(dir, ProvenName), Log: slog.New(slog.DiscardHandler)}
	if s.recall() != nil {
		t.Error("half a file is a layout")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// One request has not the time for all: the next goes on where it ended, so that what is
// oldest and stays does not keep the rest from its turn.
func TestRounds(t *testing.T) {
	k := memcgtest.Open(t)
	tree, other := memcgtest.New(t), memcgtest.New(t)
	dir := diskDir(t)
	tree.Mkdir("live.scope")
	const part, stay, goes = 3, 3, 5
	old := "born-early.scope"
	tree.Mkdir(old)
	for i := range stay + goes {
		f := memcgtest.File(t, filepath.Join(dir, fmt.Sprint("f", i)), 4)
		tree.Die(fmt.Sprintf("s%d.scope", i), memcgtest.Op{Read: f.Name(), Ahead: true})
		if i < stay {
			tree.Start("live.scope", memcgtest.Op{Map: f.Name()})
		}
	}
	if n := len(tree.List(k).Memcgs); n != stay+goes {
		t.Skipf("the machine has taken some by itself: %d left", n)
	}
	s := server(t)
	s.limits = limits{part: part, fresh: time.Minute} // and no time
	size := int64(4 * os.Getpagesize())
	for i, want := range []struct {
		gone int64
		more bool
	}{{0, true}, {part * size, true}, {3 * size, false}} {
		r, err := s.evict(t.Context(), request{Do: doEvict, Below: tree.Path, Look: true}, &pace{began: time.Now(), cpu: used()})
		if err != nil || r.Gone != want.gone || r.More != want.more {
			t.Errorf("request %d: %+v, %v, want %+v", i, r, err, want)
		}
		if i == 0 { // one that is older than all that have had their turn dies meanwhile
			f := memcgtest.File(t, filepath.Join(dir, "old"), 4)
			tree.Start(old, memcgtest.Op{Read: f.Name(), Ahead: true})()
			tree.Rmdir(old)
			// A request for another cgroup has nothing to do with the round.
			r, err := s.evict(t.Context(), request{Do: doEvict, Below: other.Path}, &pace{began: time.Now(), cpu: used()})
			if err != nil || r.Before != 0 || len(s.rounds) != 1 || len(s.rounds[0].walked) != part {
				t.Errorf("elsewhere: %+v, %v; rounds %+v", r, err, s.rounds)
			}
		}
	}
	if len(s.rounds) > 0 {
		t.Errorf("the round has not ended: %+v", s.rounds)
	}
	// All of it is walked, so all is known.
	s.limits.most = time.Minute
	r, err := s.evict(t.Context(), request{Do: doEvict, Below: tree.Path, Look: true}, &pace{began: time.Now(), cpu: used()})
	if err != nil || r.More || r.After != stay || r.Left[reclaim.LeftMapped] != stay*size || r.Below[tree.Path].After != stay {
		t.Errorf("%+v, %v", r, err)
	}
}

// A round takes in those below its cgroup, leaves others alone, and does not last for ever.
func TestRoundsOf(t *testing.T) {
	var r rounds
	r.begin("/a/b").walked[1] = true
	r.begin("/c").walked[2] = true
	a := r.begin("/a")
	if len(r) != 2 || !a.walked[1] || a.walked[2] || !r.begin("/").walked[2] || len(r) != 1 {
		t.Errorf("%+v", r)
	}
	if narrow := r.begin("/a"); len(narrow.walked) > 0 || len(r) != 2 {
		t.Errorf("a round of all of the machine is one of /a: %+v", narrow)
	}
	r[0].began = time.Now().Add(-2 * roundMost)
	if r.end(r[1]); len(r) != 1 {
		t.Errorf("%+v", r)
	}
	if r.forget(); len(r) > 0 {
		t.Errorf("it lasts for ever: %+v", r[0])
	}
	if r.begin("/a"); len(r) != 1 {
		t.Errorf("%+v", r)
	}
	if r.forget(); len(r) > 0 {
		t.Errorf("the process waits for one of which nothing has come: %+v", r[0])
	}
	for i := range 2 * roundsMost {
		r.begin(fmt.Sprint("/", i)).walked[1] = true
	}
	if len(r) != roundsMost || r[0].below != fmt.Sprint("/", roundsMost) {
		t.Errorf("%d rounds", len(r))
	}
}

// diskDir is a temporary directory on a disk.
func diskDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "scopereap-test-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// server is one in this process.
func server(t *testing.T) *Server {
	t.Helper()
	memcgtest.Open(t)
	root, _ := memcgtest.Root()
	s := &Server{Root: root, Files: "/var/tmp", Log: slog.New(slog.DiscardHandler)}
	s.open(t.Context())
	if s.off != nil {
		t.Fatal(s.off)
	}
	t.Cleanup(func() { s.kernel.Close() })
	return s
}

// dieAll has so many memcgs die that hold a page each.
func dieAll(t *testing.T, tree *memcgtest.Tree, n int) {
	t.Helper()
	dir := diskDir(t)
	for i := range n {
		f := memcgtest.File(t, filepath.Join(dir, fmt.Sprint("f", i)), 1)
		tree.Die(fmt.Sprintf("s%d.scope", i), memcgtest.Op{Read: f.Name(), Ahead: true})
	}
}

// What was walked too long ago is not dropped: the living may have it by now.
func TestStaleWalk(t *testing.T) {
	s, tree := server(t), memcgtest.New(t)
	dieAll(t, tree, 3)
	s.limits.fresh, s.limits.most = -1, 0
	r, err := s.evict(t.Context(), request{Do: doEvict, Below: tree.Path}, &pace{began: time.Now(), cpu: used()})
	// Nobody has looked whether they have gone meanwhile, so they have not.
	if err != nil || r.Asked != 0 || r.Before == 0 || r.After != r.Before || r.Freed != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A part is paid for before the next.
func TestPace(t *testing.T) {
	s, tree := server(t), memcgtest.New(t)
	dieAll(t, tree, 3)
	s.limits.part = 1
	const share, debt = 0.5, 200 * time.Millisecond
	r := request{Do: doEvict, Below: tree.Path}
	dead, err := s.dead(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if dead.Len() < 2 {
		t.Skip("the machine has taken them by itself")
	}
	began := time.Now()
	x := &eviction{s: s, r: r, p: &pace{share: share, began: began, cpu: used() - busyBurst - debt}, until: began.Add(time.Minute),
		out: &reclaim.Evicted{}, closed: map[fileID]bool{}, gone: map[string]int64{}}
	err = x.parts(t.Context(), dead)
	if took := time.Since(began); err != nil || took < time.Duration(float64(debt)/share) {
		t.Errorf("a debt of %v at a share of %v is paid after %v, %v", debt, share, took, err)
	}
}

// No answer has CPU time that an earlier one has had.
func TestCharged(t *testing.T) {
	s, tree := server(t), memcgtest.New(t)
	line := []byte(fmt.Sprintf(`{"do":"evict","below":%q}`, tree.Path))
	first, second := s.answer(t.Context(), line), s.answer(t.Context(), line)
	if first.CPU <= 0 || second.CPU <= 0 || first.CPU+second.CPU > used() {
		t.Errorf("%v and %v of %v", first.CPU, second.CPU, used())
	}
}

// Nobody but root is answered, whatever the socket's mode.
func TestOnlyRoot(t *testing.T) {
	tree := memcgtest.New(t)
	c := client(t, time.Minute)
	if _, err := c.List(t.Context(), tree.Path); err != nil {
		t.Skip(err)
	}
	dir := filepath.Dir(c.Socket)
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chmod(c.Socket, 0o666)); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[int]bool{0: true, 65534: false} {
		got := make(chan string, 1)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); e != 0 {
				got <- e.Error()
				return
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			defer unix.Close(fd)
			if err == nil {
				err = unix.Connect(fd, &unix.SockaddrUnix{Name: c.Socket})
			}
			if err == nil {
				_, err = unix.Write(fd, []byte(`{"do":"list","below":"/"}`+"\n"))
			}
			b := make([]byte, 100)
			n := 0
			if err == nil {
				n, err = unix.Read(fd, b)
			}
			if err != nil && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
				got <- err.Error()
				return
			}
			got <- string(b[:max(n, 0)])
		}()
		if answer := <-got; strings.HasPrefix(answer, `{"list":`) != want || !want && answer != "" {
			t.Errorf("user %d is answered %q", uid, answer)
		}
	}
}

var many = flag.Int("many", 0, "make so many dying memcgs of a few pages each, and evict them as the daemon would")

// TestMany measures at scale when asked to.
func TestMany(t *testing.T) {
	if *many == 0 {
		t.Skip("measures when given -many COUNT")
	}
	memcgtest.Open(t)
	tree, other := memcgtest.New(t), memcgtest.New(t)
	dir := diskDir(t)
	const batch, livePages = 1000, 1 << 18 // 1 GiB
	live, control := memcgtest.File(t, filepath.Join(dir, "live"), livePages), memcgtest.File(t, filepath.Join(dir, "control"), livePages/8)
	tree.Mkdir("live.scope")
	tree.Start("live.scope", memcgtest.Op{Read: live.Name(), Ahead: true})
	other.Mkdir("control.scope")
	other.Start("control.scope", memcgtest.Op{Read: control.Name(), Ahead: true})
	for i := 0; i < *many; i += batch {
		var scopes []memcgtest.Scope
		for j := i; j < min(i+batch, *many); j++ {
			scopes = append(scopes, memcgtest.Scope{Name: fmt.Sprint("d", j), Ops: []memcgtest.Op{
				{Write: filepath.Join(dir, fmt.Sprint("f", j)), Pages: j%8 + 1, Ahead: true},
			}})
		}
		tree.DieAll(scopes)
	}
	if out, err := exec.Command("sync", "-f", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	c := client(t, time.Minute)
	if _, err := c.List(t.Context(), "/none"); err == nil { // it starts now
		t.Fatal("/none is a cgroup")
	}
	had, hadControl := len(memcgtest.Cached(t, live)), len(memcgtest.Cached(t, control))
	const share, window = 0.025, 10 // what a daemon gives it of the default budget, and seconds
	done := make(chan struct{})
	var most, sum time.Duration
	var wg sync.WaitGroup
	wg.Go(func() {
		var at []time.Duration
		for {
			at = append(at, cpuOf(t, c.child.Process.Pid))
			sum = at[len(at)-1] - at[0]
			if n := len(at); n > window {
				most = max(most, at[n-1]-at[n-1-window])
			}
			select {
			case <-done:
				return
			case <-time.After(time.Second):
			}
		}
	})
	begun := time.Now()
	for {
		r, err := c.Evict(t.Context(), reclaim.EvictRequest{Under: tree.Path, Share: share, Look: true})
		if err != nil {
			t.Error(err)
			break
		}
		t.Logf("%v: %+v", time.Since(begun).Round(time.Second), r)
		if !r.More {
			break
		}
	}
	close(done)
	wg.Wait()
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.child.Process.Pid))
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	peak, _, _ = strings.Cut(peak, "\n")
	t.Logf("wall %v, CPU %v, %v a memcg, most in %d s: %v, peak %s", time.Since(begun), sum, sum/time.Duration(*many), window, most, strings.TrimSpace(peak))
	t.Logf("live %d -> %d pages, control %d -> %d", had, len(memcgtest.Cached(t, live)), hadControl, len(memcgtest.Cached(t, control)))
}

// cpuOf is the CPU time of a process (proc_pid_stat(5): utime and stime, in ticks of 10 ms).
func cpuOf(t *testing.T, pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	utime, _ := strconv.Atoi(f[11])
	stime, _ := strconv.Atoi(f[12])
	return time.Duration(utime+stime) * 10 * time.Millisecond
}

// What a start costs, with a probe and without one.
func BenchmarkStart(b *testing.B) {
	memcgtest.Open(b)
	root, _ := memcgtest.Root()
	for _, name := range []string{"", filepath.Join(b.TempDir(), ProvenName)} {
		b.Run(map[bool]string{true: "first", false: "proven"}[name == ""], func(b *testing.B) {
			s := &Server{Root: root, Files: "/var/tmp", Proven: name, Log: slog.New(slog.DiscardHandler)}
			start := func() {
				s.open(b.Context())
				if s.off != nil {
					b.Fatal(s.off)
				}
				s.kernel.Close()
			}
			if name != "" {
				start()
			}
			before := used()
			b.ResetTimer()
			for range b.N {
				start()
			}
			b.ReportMetric(float64((used()-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

// What the end of one session with 100 pages costs, in a process that runs already.
func BenchmarkTeardown(b *testing.B) {
	memcgtest.Open(b)
	tree := memcgtest.New(b)
	dir := diskDir(b)
	c := client(b, time.Minute)
	if _, err := c.List(b.Context(), tree.Path); err != nil {
		b.Fatal(err)
	}
	for _, look := range []bool{false, true} {
		b.Run(map[bool]string{false: "v2", true: "v1"}[look], func(b *testing.B) {
			var cpu, wall time.Duration
			var gone int64
			for i := range b.N {
				f := memcgtest.File(b, filepath.Join(dir, fmt.Sprint("f", i)), 100)
				tree.Die(fmt.Sprintf("s%d-%v.scope", i, look), memcgtest.Op{Read: f.Name(), Ahead: true})
				begun := time.Now()
				r, err := c.Evict(b.Context(), reclaim.EvictRequest{Under: tree.Path, Share: 1, Look: look})
				if err != nil {
					b.Fatal(err)
				}
				wall += time.Since(begun)
				cpu += r.CPU
				gone += r.Gone
			}
			b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-us/op")
			b.ReportMetric(float64(wall.Microseconds())/float64(b.N), "answer-us/op")
			b.ReportMetric(float64(gone)/float64(b.N)/float64(os.Getpagesize()), "pages/op")
		})
	}
}

// Without the rights, or anybody to ask, the answer says so.
func TestOff(t *testing.T) {
	memcgtest.Open(t)
	var off *reclaim.EvictOffError
	c := &Client{Socket: filepath.Join(t.TempDir(), "none")}
	if _, err := c.Evict(t.Context(), reclaim.EvictRequest{Under: "/"}); !errors.As(err, &off) || off.Reason != notRunning {
		t.Errorf("nobody there: %v", err)
	}
	c = client(t, time.Minute)
	start := c.Command
	c.Command = func() *exec.Cmd { // as in a container that has only this
		return withCaps(t, start(), "dac_override")
	}
	if _, err := c.Evict(t.Context(), reclaim.EvictRequest{Under: "/"}); !errors.As(err, &off) || off.Reason != "no-privilege" {
		t.Errorf("without capabilities: %v", err)
	}
}

// What comes to the socket and is no request costs nothing but an answer.
func TestHostile(t *testing.T) {
	memcgtest.Open(t)
	tree := memcgtest.New(t)
	c := client(t, time.Minute)
	if _, err := c.List(t.Context(), tree.Path); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{"", "\n", "{}\n", string(make([]byte, maxRequest+5000))} {
		conn, err := net.Dial("unix", c.Socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(in)); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		conn.Close()
	}
	if _, err := c.List(t.Context(), tree.Path); err != nil {
		t.Errorf("after that: %v", err)
	}
}
