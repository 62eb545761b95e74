package quiet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listener is one in a directory of the test's own.
func listener(t *testing.T, queue int) (*Listener, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "quiet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	q, err := Listen(l, queue)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q, path
}

// pair is a connection and its other end.
func pair(t *testing.T, write time.Duration) (*Conn, net.Conn) {
	t.Helper()
	l, path := listener(t, 1)
	c, err := Dial(t.Context(), path, write)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fd, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	other, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	return c, other
}

// told is whether Go's poller is told of a descriptor now.
func told(t *testing.T, s *socket) bool {
	t.Helper()
	var n int
	var err error
	cerr := s.poll.raw.Control(func(e uintptr) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(e), Events: unix.POLLIN}}, 0)
	})
	if err := errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
	return n > 0
}

func TestNobodyWaits(t *testing.T) {
	c, other := pair(t, time.Minute)
	b := make([]byte, 1000)
	for range 3 {
		for range 5 { // one message is waited for, the others come while nobody does
			if _, err := other.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if told(t, c.socket) {
				t.Error("what comes while nobody waits wakes somebody")
			}
		}
		if n, err := c.Read(b); n != 25 || err != nil {
			t.Errorf("%d bytes, %v; want 25", n, err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := c.Read(b)
			done <- err
		}()
		time.Sleep(time.Millisecond) // with luck it waits by then
		if _, err := other.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	l, path := listener(t, 10)
	for range 5 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if told(t, l.socket) {
			t.Error("a connection wakes somebody while nobody accepts")
		}
	}
	for range 5 {
		fd, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
}

func TestCloseEndsWhoWaits(t *testing.T) {
	c, other := pair(t, time.Minute)
	l, path := listener(t, 10)
	done := make(chan error, 2)
	go func() { _, err := c.Read(make([]byte, 1)); done <- err }()
	go func() { _, err := l.Accept(); done <- err }()
	time.Sleep(10 * time.Millisecond)
	c.Close()
	l.Close()
	for range 2 {
		if err := <-done; !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
			t.Errorf("%v, want that it is closed", err)
		}
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read afterwards: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write afterwards: %v", err)
	}
	if _, err := other.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the other end: %v", err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the listener's socket is there: %v", err)
	}
}

func TestEnd(t *testing.T) {
	c, other := pair(t, time.Minute)
	if _, err := other.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	other.Close()
	b, err := io.ReadAll(c)
	if string(b) != "last words" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// Who does not read in time loses the connection: what was written in part leaves no messages to go on with.
func TestWriteTime(t *testing.T) {
	c, other := pair(t, 20*time.Millisecond)
	if n, err := c.Write(make([]byte, 64<<20)); err == nil {
		t.Fatalf("%d bytes were written that nobody reads", n)
	}
	if _, err := io.Copy(io.Discard, other); err != nil {
		t.Error(err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after that: %v", err)
	}
}

// A listener's queue is as long as it is told and no longer, and a dial that finds it full ends in time.
func TestQueue(t *testing.T) {
	const queue = 5
	_, path := listener(t, queue)
	n := 0
	for ; n < 10*queue; n++ {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if n != queue+1 { // unix(7): more than queue
		t.Errorf("%d can wait, want %d", n, queue+1)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, path, time.Hour); err == nil {
		t.Error("one more could connect")
	}
	if _, err := Dial(t.Context(), path+"x", time.Hour); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("where nothing is: %v", err)
	}
}

// How long a dial may take is not how long a write may.
func TestDialTimeIsNotWriteTime(t *testing.T) {
	_, path := listener(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := Dial(ctx, path, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var tv *unix.Timeval
	cerr := c.raw.Control(func(fd uintptr) { tv, err = unix.GetsockoptTimeval(int(fd), unix.SOL_SOCKET, unix.SO_SNDTIMEO) })
	if err := errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(tv.Nano()); got != time.Hour {
		t.Errorf("a write may take %v, want %v", got, time.Hour)
	}
}
