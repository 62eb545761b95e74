package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/callers"
)

// handed is a listener that hands out what is put into it: connections and errors.
type handed struct {
	what   chan any
	closed chan struct{}
	once   sync.Once
}

func newHanded() *handed { return &handed{what: make(chan any, 100), closed: make(chan struct{})} }

func (h *handed) Accept() (net.Conn, error) {
	select {
	case w := <-h.what:
		if err, bad := w.(error); bad {
			return nil, err
		}
		return w.(net.Conn), nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error   { h.once.Do(func() { close(h.closed) }); return nil }
func (h *handed) Addr() net.Addr { return &net.UnixAddr{} }

// from is a client of a user.
func (h *handed) from(t *testing.T, uid uint32) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close() })
	h.what <- &callers.Conn{Conn: there, UID: uid}
	return here
}

// says asks for a verb and returns the beginning of the answer.
func says(t *testing.T, conn net.Conn, verb string) string {
	t.Helper()
	if _, err := conn.Write([]byte(`{"verb":"` + verb + `"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 20)
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func serveHanded(t *testing.T, s *Server, l net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// What root does not read keeps nobody else's answer back, nor what others do not read root's, and each has a bound.
func TestInFlightOfRoot(t *testing.T) {
	const fine, busy = `{"result":"`, `{"error":`
	for name, c := range map[string]struct{ others, root int }{"nothing": {}, "others": {maxInFlight, 0}, "root": {0, maxRootInFlight}} {
		l := newHanded()
		s := &Server{Logger: slog.New(slog.DiscardHandler), Verbs: map[string]Verb{VerbStatus: {Handler: answer(strings.Repeat("x", 20))}}}
		s.inFlight.Take(c.others)
		s.rootInFlight.Take(c.root)
		serveHanded(t, s, l)
		for uid, full := range map[uint32]bool{1000: c.others > 0, callers.Root: c.root > 0} {
			want := fine
			if full {
				want = busy
			}
			if got := says(t, l.from(t, uid), VerbStatus); !strings.HasPrefix(got, want) {
				t.Errorf("%s has not read all it was sent, user %d: %s, want %s", name, uid, got, want)
			}
		}
	}
}

// Root's answer is of the moment; all others share one.
func TestSharedButForRoot(t *testing.T) {
	made := atomic.Int64{}
	l := newHanded()
	serveHanded(t, &Server{Logger: slog.New(slog.DiscardHandler), Verbs: map[string]Verb{
		VerbStatus: {Shared: true, Handler: func(context.Context, json.RawMessage, func(any) bool) (any, error) {
			made.Add(1)
			return strings.Repeat("x", 20), nil
		}}}}, l)
	for _, step := range []struct {
		uid  uint32
		made int64
	}{{1000, 1}, {1001, 1}, {0, 2}, {0, 3}, {1000, 3}} {
		if says(t, l.from(t, step.uid), VerbStatus); made.Load() != step.made {
			t.Errorf("user %d: made %d times, want %d", step.uid, made.Load(), step.made)
		}
	}
}

// Where the machine is out of files for a moment it goes on afterwards; where the socket is broken for good the daemon
// ends, with all its listeners.
func TestAcceptFails(t *testing.T) {
	l := newHanded()
	l.what <- os.NewSyscallError("accept4", unix.EMFILE)
	serveHanded(t, &Server{Logger: slog.New(slog.DiscardHandler), Verbs: map[string]Verb{VerbStatus: {Handler: answer(strings.Repeat("x", 20))}}}, l)
	if got := says(t, l.from(t, 1000), VerbStatus); !strings.HasPrefix(got, `{"result":"`) {
		t.Errorf("after EMFILE: %s", got)
	}
	broken, other := newHanded(), newHanded()
	broken.what <- os.NewSyscallError("accept4", unix.EINVAL)
	err := (&Server{Logger: slog.New(slog.DiscardHandler)}).Serve(t.Context(), broken, other)
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("Serve: %v", err)
	}
	select {
	case <-other.closed:
	default:
		t.Error("the other one still listens")
	}
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED} { // accept(2)
		if !passing(os.NewSyscallError("accept4", e)) {
			t.Errorf("%v ends the daemon", e)
		}
	}
}

// Everybody may ask at the one socket, root alone at the other, whatever the umask; what cannot be had is said.
func TestSocketModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	for name, c := range map[string]struct {
		listen func(string) (net.Listener, error)
		mode   os.FileMode
	}{"all": {Listen, 0o666}, "root": {ListenRoot, 0o600}} {
		for _, umask := range []int{0, 0o777} {
			syscall.Umask(umask)
			path := filepath.Join(dir, name)
			l, err := c.listen(path)
			if err != nil {
				t.Fatal(err)
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != c.mode {
				t.Errorf("%s: %v, %v", name, st.Mode(), err)
			}
			l.Close()
		}
		syscall.Umask(0)
		full := filepath.Join(dir, "full", name, "x")
		if err := os.MkdirAll(full, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{filepath.Dir(full), filepath.Join(dir, "none", name)} {
			if l, err := c.listen(path); err == nil {
				t.Errorf("%s listens at %s", name, path)
				l.Close()
			}
		}
	}
}

// timed is a client that asks at once and then says nothing; it notes until when it may be silent.
type timed struct {
	net.Conn
	mu    sync.Mutex
	until []time.Time
}

func (c *timed) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = append(c.until, at)
	return nil
}

// Who has asked may wait for the answer as long as it takes: a sweep takes minutes.
func TestAnswerHasTime(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	c := &timed{Conn: there}
	s := &Server{Logger: slog.New(slog.DiscardHandler), Verbs: map[string]Verb{VerbSweep: {
		Handler: func(context.Context, json.RawMessage, func(any) bool) (any, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.until[len(c.until)-1].IsZero(), nil
		}}}}
	s.inFlight.Most = maxInFlight
	go s.serve(t.Context(), client{Conn: c, uid: 1000, writeTime: time.Minute})
	if _, err := here.Write([]byte(`{"verb":"sweep"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(here).ReadString('\n'); line != `{"result":true}`+"\n" {
		t.Errorf("there is no limit: %s, %v", line, err)
	}
}

// What a daemon says that the client cannot use is an error that says so, and an answer that never comes ends with the
// caller's patience.
func TestCallFails(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		asked      any
		read       int // bytes of the request, 0 for all
		said, want string
	}{
		{nil, 0, "", "hung up without an answer"},
		{nil, 0, "{\"progress\":1}\n", "hung up without an answer"},
		{nil, 0, "garbage\n", "no JSON"},
		{nil, 1, "", unix.ECONNRESET.Error()},
		{make(chan int), 1, "", "unsupported type"},
	} {
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if c.read > 0 {
				_, _ = io.ReadFull(conn, make([]byte, c.read))
			} else {
				_, _ = bufio.NewReader(conn).ReadString('\n')
			}
			_, _ = io.WriteString(conn, c.said)
			conn.Close()
		}()
		if err := Call(t.Context(), l.Addr().String(), VerbStatus, c.asked, nil, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("said %q: %v, want %q", c.said, err, c.want)
		}
		l.Close()
	}
	// An answer may be long: a status where much is pinned.
	long := strings.Repeat("x", 2*bufio.MaxScanTokenSize)
	var got string
	if err := Call(t.Context(), serveVerbs(t, map[string]Verb{VerbStatus: {Handler: answer(long)}}), VerbStatus, nil, &got, nil); got != long || err != nil {
		t.Errorf("%d bytes of a long answer, %v", len(got), err)
	}
	if err := Call(t.Context(), dir, VerbStatus, nil, nil, nil); err == nil {
		t.Error("a directory answers")
	}
	// A full queue is waited for (connect(2): EAGAIN), but no longer than the caller wants.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	full := filepath.Join(dir, "full")
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: full}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := net.Dial("unix", full)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*connectAgain)
	defer cancel()
	var e *Error
	if err := Call(ctx, full, VerbStatus, nil, nil, nil); !errors.As(err, &e) || e.Code != CodeBusy {
		t.Errorf("a full queue: %v", err)
	}
	called := make(chan error, 1)
	go func() { called <- Call(t.Context(), full, VerbStatus, nil, nil, nil) }()
	time.Sleep(2 * connectAgain)                  // with luck it has found the queue full by then
	for answered := 0; answered < 2; answered++ { // the first, and then the one that has waited
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = unix.Write(conn, []byte(`{"result":null}`+"\n"))
		defer unix.Close(conn)
	}
	if err := <-called; err != nil {
		t.Errorf("who has waited: %v", err)
	}
}
