package pages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/callers"
	"github.com/scopereap/scopereap/reclaim"
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
	rounds  rounds
	limits  limits
}

const (
	// requestWait is how long a client may take to say what it wants, and to read
	// the answer: it is the daemon, and both are one write.
	requestWait = 10 * time.Second
)

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
		idle := s.Idle
		if s.rounds.forget(); len(s.rounds) > 0 {
			idle = roundMost
		}
		if err := l.SetDeadline(time.Now().Add(idle)); err != nil && ctx.Err() == nil {
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
	s.limits = limits{partMemcgs, freshFor, requestMost}
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
			s.remember(k)
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
