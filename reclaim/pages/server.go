package pages

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/callers"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/evict"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// Server walks and evicts, one request at a time. It first makes sure that the walk
// is right; where it is not, or not allowed, each answer says why.
type Server struct {
	Root  string // where the memory hierarchy is mounted
	Files string // a directory on a disk, for files of its own (see pagewalk.ProbeConfig)
	// Proven is a file on a tmpfs that root alone may write, where a start finds what an earlier one has proven. Empty:
	// each start proves it.
	Proven string
	Idle   time.Duration
	Log    *slog.Logger

	kernel  *pagewalk.Kernel
	off     *reclaim.EvictOffError
	charged time.Duration // CPU time that answers have told
}

const (
	// requestWait is how long a client may take to say what it wants, and to read
	// the answer: it is the daemon, and both are one write.
	requestWait = 10 * time.Second
	// busyBurst is spent before a request is slowed down to its share, so that
	// the usual few memcgs need not wait.
	busyBurst = 100 * time.Millisecond
	// freshFor is how old a walk may be when what it found is dropped: somebody
	// alive may read the same file meanwhile, and pay for its pages. It is some
	// 60,000 files (17 µs a file, 6.18).
	freshFor = time.Second
	// requestMost ends a request with what has been done: the policy, the share and
	// the pressure may have changed.
	requestMost = 2 * time.Minute
	// looksMost is how long what the looks cost may take to be paid back.
	looksMost = 10 * time.Second
)

// looks are how long after the eviction it is seen what the kernel has freed: some
// milliseconds for a few memcgs, seconds for 100,000.
var looks = []time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// Serve answers until ctx ends, or for as long as Idle nobody has asked.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	s.open(ctx)
	defer func() {
		if s.kernel != nil {
			s.kernel.Close()
		}
	}()
	for {
		if err := l.SetDeadline(time.Now().Add(s.Idle)); err != nil && ctx.Err() == nil {
			return err
		}
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
		s.serve(ctx, conn)
	}
}

// open probes, unless an earlier start has.
func (s *Server) open(ctx context.Context) {
	if l := s.recall(); l != nil {
		if k, err := pagewalk.OpenLayout(l); err == nil {
			s.kernel, s.off = k, nil
			return
		}
	}
	k, err := pagewalk.Open()
	if err == nil {
		if _, err = k.Probe(ctx, pagewalk.ProbeConfig{Cgroups: s.Root, Files: s.Files}); err == nil {
			s.kernel, s.off = k, nil
			s.remember(k.Layout)
			return
		}
		k.Close()
	}
	reason := pagewalk.ReasonOf(err)
	s.off = &reclaim.EvictOffError{Reason: string(reason), Why: err.Error(), Again: reason == pagewalk.Untried || reason == pagewalk.Wrong}
	s.Log.Warn("nothing can be evicted", "err", err)
}

func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	if uid, err := callers.UID(conn); err != nil || uid != callers.Root {
		return // the socket's mode keeps them off already
	}
	_ = conn.SetDeadline(time.Now().Add(requestWait))
	line, err := readLine(conn, maxRequest)
	if err != nil {
		s.Log.Warn("no request", "err", err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // whoever hangs up wants no answer
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	}()
	a := s.answer(ctx, line)
	b, err := json.Marshal(a)
	if err == nil && len(b) >= maxAnswer {
		err = errTooLong
	}
	if err != nil {
		b, _ = json.Marshal(answer{Error: err.Error(), CPU: a.CPU})
	}
	_ = conn.SetWriteDeadline(time.Now().Add(requestWait))
	if _, err := conn.Write(append(b, '\n')); err != nil && ctx.Err() == nil {
		s.Log.Warn("cannot answer", "err", err)
	}
}

func (s *Server) answer(ctx context.Context, line []byte) (a answer) {
	r, err := parseRequest(line)
	if err != nil {
		return answer{Error: err.Error()}
	}
	if s.off != nil && s.off.Again { // memory pressure may have taken the probe's pages
		s.open(ctx)
	}
	if s.off != nil {
		return answer{Off: s.off}
	}
	p := &pace{share: r.Share, began: time.Now(), cpu: used()}
	if r.Do == doList {
		a.List, err = s.list(ctx, r)
	} else {
		a.Evicted, err = s.evict(ctx, r, p)
	}
	if err != nil {
		a = answer{Error: err.Error()}
	}
	if r.Do == doEvict {
		now := used()
		a.CPU, s.charged = now-s.charged, now
	}
	return a
}

// walk lists what is dying below a request's cgroup.
func (s *Server) walk(ctx context.Context, r request) (*pagewalk.Walk, error) {
	dir, err := os.OpenFile(filepath.Join(s.Root, r.Below), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	w, err := s.kernel.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	w.Memcgs = slices.DeleteFunc(w.Memcgs, func(m pagewalk.Memcg) bool {
		// What cannot be named in full may be one that is ignored.
		return len(r.ignore) > 0 && (!m.Named || policy.MatchAny(r.ignore, m.Ancestor))
	})
	return w, nil
}

// drain gets pages onto their lists. Where that fails some are only counted.
func (s *Server) drain() {
	if err := pagewalk.DrainBatches(s.Files); err != nil {
		s.Log.Debug("some pages are on no list yet", "err", err)
	}
}

func (s *Server) list(ctx context.Context, r request) (*List, error) {
	s.drain()
	w, err := s.walk(ctx, r)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(w.Memcgs, func(a, b pagewalk.Memcg) int { return cmp.Compare(b.Charged, a.Charged) })
	l := &List{Dying: len(w.Memcgs), Live: w.Live, Memcgs: []Memcg{}, Doubts: w.Inconclusive}
	for _, m := range w.Memcgs[:min(len(w.Memcgs), maxListed)] {
		x := Memcg{Path: m.Path, Ancestor: m.Ancestor, Charged: m.Charged, Holds: map[reclaim.EvictLeft]int64{}}
		holds(w, m, nil, x.Holds)
		x.Evicts = x.Holds[reclaim.LeftInUse]
		delete(x.Holds, reclaim.LeftInUse)
		l.Memcgs = append(l.Memcgs, x)
	}
	return l, nil
}

// fileID is a file's between two walks.
type fileID struct {
	dev, inode uint64
	generation uint32
}

func idOf(f pagewalk.File) fileID { return fileID{f.Dev(), f.Inode, f.Generation} }

// evict evicts what is dying, and looks what the kernel frees then. It pays for a
// walk before the next one, never between a walk and what is dropped by it.
func (s *Server) evict(ctx context.Context, r request, p *pace) (*reclaim.Evicted, error) {
	end := time.Now().Add(requestMost)
	out := &reclaim.Evicted{Before: -1, Left: map[reclaim.EvictLeft]int64{}}
	closed := map[fileID]bool{}
	var before []uint64
	var clean map[string]int64 // what the first walk found to evict, by ancestor
	var last *pagewalk.Walk
	for all := false; !all; {
		s.drain()
		var err error
		if last, err = s.walk(ctx, r); err != nil {
			return nil, err
		}
		if out.Before < 0 {
			out.Before = int64(len(last.Memcgs))
			for _, m := range last.Memcgs {
				before = append(before, m.Serial)
			}
			slices.Sort(before)
			clean = map[string]int64{}
			for a, b := range s.below(r, last, nil) {
				clean[a] = b.Left[reclaim.LeftInUse]
			}
		}
		if all = s.drop(ctx, last, r.Write, out, closed); all {
			break
		}
		wait := p.debt()
		if time.Now().Add(wait).After(end) {
			out.More = true
			break
		}
		if err := p.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
	for i, wait := range looks {
		if out.Gone == 0 || len(last.Memcgs) == 0 || i > 0 && (!r.Look || p.debt() > looksMost) {
			break
		}
		if !r.Look { // what stays is known at once
			wait = 0
		}
		if err := p.sleep(ctx, wait); err != nil {
			return nil, err
		}
		had := len(last.Memcgs)
		var err error
		if last, err = s.walk(ctx, r); err != nil {
			return nil, err
		}
		if i > 0 && len(last.Memcgs) >= had {
			break
		}
	}
	out.After, out.Freed = int64(len(last.Memcgs)), out.Before
	for _, m := range last.Memcgs {
		if _, was := slices.BinarySearch(before, m.Serial); was {
			out.Freed--
		}
		holds(last, m, closed, out.Left)
	}
	out.Below = s.below(r, last, closed)
	for a, was := range clean { // of which what could not be opened was as well
		b := out.Below[a]
		b.Gone = max(was-b.Left[reclaim.LeftInUse]-b.Left[reclaim.LeftUnreachable], 0)
		out.Below[a] = b
	}
	if len(last.Inconclusive) > 0 { // it may have missed some that are still there
		out.Freed = 0
	}
	return out, ctx.Err()
}

// drop evicts what a walk has just found, and reports whether that is all of it.
// The files that could not be opened are added to closed.
func (s *Server) drop(ctx context.Context, w *pagewalk.Walk, write bool, out *reclaim.Evicted, closed map[fileID]bool) (all bool) {
	began := time.Now()
	e := evict.New(evict.Options{Write: write})
	defer e.Close() // it keeps file systems busy
	page := int64(w.PageSize)
	for _, h := range w.ByFile(nil) {
		if ctx.Err() != nil || time.Since(began) > freshFor {
			return false
		}
		r := e.Evict(w.Files[h.File], h.Ranges)
		out.Asked += int64(r.Asked) * page
		out.Gone += int64(r.Gone) * page
		if r.Left[evict.Unreachable]+r.Left[evict.Remote] > 0 {
			closed[idOf(r.File)] = true
			s.Log.Debug("not evicted", "file", r.File, "err", r.Err)
		}
	}
	return true
}

// belowMost bounds the paths of an answer's ancestors, in bytes. JSON may write six for
// one.
const belowMost = maxAnswer / 16

// below adds up what those right below each live ancestor hold, where that is asked
// for. Somebody's tree with very long names must not cost others their answer.
func (s *Server) below(r request, w *pagewalk.Walk, closed map[fileID]bool) map[string]reclaim.EvictedBelow {
	sum := map[string]reclaim.EvictedBelow{}
	if r.Look {
		return sum
	}
	bytes := 0
	for _, m := range w.Memcgs {
		b, ok := sum[m.Ancestor]
		if !ok {
			if bytes += len(m.Ancestor); len(sum) == reclaim.EvictedMost || bytes > belowMost {
				continue
			}
			b.Left = map[reclaim.EvictLeft]int64{}
		}
		b.After++
		holds(w, m, closed, b.Left)
		sum[m.Ancestor] = b
	}
	return sum
}

// holds adds up what a memcg holds by why it stays.
func holds(w *pagewalk.Walk, m pagewalk.Memcg, closed map[fileID]bool, sum map[reclaim.EvictLeft]int64) {
	add := func(why reclaim.EvictLeft, bytes int64) {
		if bytes > 0 {
			sum[why] += bytes
		}
	}
	add(reclaim.LeftAnon, m.Anon)
	add(reclaim.LeftSwap, m.Swap)
	add(reclaim.LeftUnevictable, m.Unevictable)
	add(reclaim.LeftKernel, m.Other-m.Unevictable)
	for _, h := range m.Holdings {
		f := w.Files[h.File]
		for _, x := range h.Ranges {
			add(why(f, x.State, closed), int64(x.Pages)*int64(w.PageSize))
		}
	}
}

// why is why pages of a file stay.
func why(f pagewalk.File, s pagewalk.State, closed map[fileID]bool) reclaim.EvictLeft {
	switch evict.Stays(f, s) {
	case evict.Shmem, evict.Hugetlb:
		return reclaim.LeftShmem
	case evict.Dirty:
		return reclaim.LeftDirty
	case evict.Writeback:
		return reclaim.LeftWriteback
	case evict.Mapped:
		return reclaim.LeftMapped
	}
	switch {
	case f.Kind == pagewalk.Block:
		return reclaim.LeftBlock
	case closed[idOf(f)]:
		return reclaim.LeftUnreachable
	}
	return reclaim.LeftInUse
}

// pace keeps a request to its share of one CPU.
type pace struct {
	share float64 // 0: all
	began time.Time
	cpu   time.Duration // of the process then
}

// debt is how long to wait until what was used is within the share.
func (p *pace) debt() time.Duration {
	if p.share <= 0 {
		return 0
	}
	over := used() - p.cpu - busyBurst - time.Duration(p.share*float64(time.Since(p.began)))
	return max(time.Duration(float64(over)/p.share), 0)
}

// sleep waits so long, unless ctx ends.
func (p *pace) sleep(ctx context.Context, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// used is the CPU time of this process and of the probe's child.
func used() (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// Run is all of the process: it listens where systemd does (sd_listen_fds(3)), or
// at path where nobody has, and serves.
func (s *Server) Run(ctx context.Context, path string) error {
	giveWay()
	l, err := activated()
	if l == nil && err == nil {
		if l, err = listen(path); err == nil {
			defer os.Remove(path)
		}
	}
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer l.Close()
	return s.Serve(ctx, l)
}

// listenFD is the first that systemd passes.
const listenFD = 3

func activated() (*net.UnixListener, error) {
	if os.Getenv("LISTEN_FDS") != "1" || os.Getenv("LISTEN_PID") != fmt.Sprint(os.Getpid()) {
		return nil, nil
	}
	f := os.NewFile(listenFD, "LISTEN_FD")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, errors.New("not a Unix socket")
	}
	return u, nil
}

// listen makes the socket, root's alone from its first moment on.
func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

// Idle I/O priority (include/uapi/linux/ioprio.h), and the least of CPU's.
const (
	ioprioWhoProcess = 1
	ioprioIdle       = 3 << 13
	leastNice        = 19
)

// giveWay has all threads give way to others, and those that they start: where
// the unit has not said so already. It cannot fail for a process's own threads.
func giveWay() {
	all, _ := os.ReadDir("/proc/self/task")
	for _, t := range all {
		var tid int
		if _, err := fmt.Fscan(bytes.NewBufferString(t.Name()), &tid); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, leastNice)
			_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(tid), ioprioIdle)
		}
	}
}
