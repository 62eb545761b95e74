package callers

import (
	"errors"
	"net"
	"os"
	"path/filepath"
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
