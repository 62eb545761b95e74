package callers

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newGate(t *testing.T, l Limits) (*Gate, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "callers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	u, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGate(u, NewRates(l), "no\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g, path
}

// Who floods a socket waits in its queue, which is short, and of those no more than so many a second are even looked at.
func TestGateHasAPace(t *testing.T) {
	const any = 1 << 30
	g, path := newGate(t, Limits{Each: any, EachAtOnce: any, All: any, AllAtOnce: any})
	n := 0
	for {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		n++
	}
	if n > acceptQueue+1 {
		t.Errorf("%d wait in the queue, want at most %d", n, acceptQueue+1)
	}
	began := time.Now()
	end := began.Add(time.Second)
	accepted := make(chan int)
	go func() {
		got := 0
		for {
			conn, err := g.Accept()
			if err != nil {
				accepted <- got
				return
			}
			conn.Close()
			got++
		}
	}()
	for time.Now().Before(end) {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
		}
	}
	took := time.Since(began).Seconds()
	g.Close()
	if got, most := <-accepted, int(acceptAtOnce+acceptRate*(took+1)); got < acceptAtOnce || got > most {
		t.Errorf("%d connections were looked at in %.1f s, want %d to %d", got, took, acceptAtOnce, most)
	}
}

// dialAs connects as another user: who connects is the thread's (SO_PEERCRED, unix(7)).
func dialAs(t *testing.T, path string, uid int) net.Conn {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	var conn net.Conn
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
			err = e
			return
		}
		conn, err = net.Dial("unix", path)
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Who has asked too often is told so and hung up on; who may ask comes in with the name that the kernel knows.
func TestGateRefuses(t *testing.T) {
	g, path := newGate(t, Limits{Each: 1e-9, EachAtOnce: 1, All: 1e-9, AllAtOnce: 10})
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	first, again := dialAs(t, path, 65534), dialAs(t, path, 65534)
	other, root := dialAs(t, path, 65533), dialAs(t, path, Root)
	for _, want := range []uint32{65534, 65533, Root} {
		conn, err := g.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.(*Conn).UID; got != want {
			t.Errorf("user %d was let in, want %d", got, want)
		}
		conn.Close()
	}
	for conn, want := range map[net.Conn]string{first: "", again: "no\n", other: "", root: ""} {
		if said, err := io.ReadAll(conn); string(said) != want || err != nil {
			t.Errorf("%q, %v; want %q", said, err, want)
		}
	}
}
