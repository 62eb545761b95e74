package callers

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Where there are more users than rates are kept for, the rest share one, and nobody gets another burst by being forgotten:
// only who has not asked for so long that it makes no difference gives way, and that is looked for once in pruneEvery.
func TestRatesOfMany(t *testing.T) {
	const any = 1 << 30
	now := time.Unix(1000, 0)
	r := NewRates(Limits{Each: 5, EachAtOnce: 10, All: any, AllAtOnce: any})
	had := func(uid uint32) (n int) {
		for r.Allow(uid, now) {
			n++
		}
		return n
	}
	for uid := range uint32(maxUsers) {
		if n := had(1 + uid); n != 10 {
			t.Fatalf("user %d had %d", 1+uid, n)
		}
	}
	for i, want := range []int{10, 0} { // the rest is one
		if n := had(10_000 + uint32(i)); n != want {
			t.Errorf("one of the rest had %d, want %d", n, want)
		}
	}
	now = now.Add(time.Second) // half of a burst
	if n := had(20_000); n != 5 {
		t.Errorf("one of the rest had %d, a second after another of them had 10", n)
	}
	if n := had(1); n != 5 {
		t.Errorf("who had had a burst has %d a second later, want 5", n)
	}
	now = now.Add(pruneEvery - time.Millisecond)
	r.pruned = now.Add(time.Millisecond - pruneEvery)
	if n := had(30_000); n != 4 {
		t.Errorf("one of the rest had %d before anybody is forgotten, want 4", n)
	}
	now = now.Add(10 * time.Second)
	r.pruned = now.Add(-pruneEvery)
	if n := had(40_000); n != 10 || len(r.users) != 1 {
		t.Errorf("later, another has %d, and %d are kept", n, len(r.users))
	}
}

// All have what Most says, to the byte, and who has left leaves nothing behind.
func TestBoundsAreMet(t *testing.T) {
	b := &Bytes{Most: 100}
	if _, ok := b.Take(60); !ok {
		t.Error("60 of 100")
	}
	done, ok := b.Take(40)
	if _, more := b.Take(1); !ok || more {
		t.Errorf("100 of 100: %t, and one more: %t", ok, more)
	}
	done()
	if _, ok := b.Take(40); !ok {
		t.Error("what was given back is not there")
	}
	p := &Places{Each: 1, All: 2, Root: 1}
	for uid := range uint32(1000) { // subordinate IDs
		leave, ok := p.Enter(uid)
		if !ok {
			t.Fatalf("no place for user %d", uid)
		}
		leave()
	}
	if len(p.by) != 0 {
		t.Errorf("%d users are remembered who have nothing", len(p.by))
	}
	for _, uid := range []uint32{Root, 1, 2} { // root's place is not of all's, nor keeps it others out
		if _, ok := p.Enter(uid); !ok {
			t.Errorf("no place for user %d", uid)
		}
	}
}

// Over TCP the kernel does not say who it is, so nobody there is root.
func TestNobodyIsRootOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGate(l, NewRates(Limits{Each: 1e-9, EachAtOnce: 1, All: 1, AllAtOnce: 10}), "no\n")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	first, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	conn, err := g.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if uid := conn.(*Conn).UID; uid == Root || uid == uint32(os.Geteuid()) {
		t.Errorf("who comes over TCP is user %d", uid)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = g.Accept() }()
	second, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	b := make([]byte, 10)
	if n, err := second.Read(b); string(b[:n]) != "no\n" {
		t.Errorf("the second over TCP reads %q, %v", b[:n], err)
	}
	g.Close()
	<-ended
}

// Who it is at root's own socket the kernel says.
func TestUID(t *testing.T) {
	dir, err := os.MkdirTemp("", "callers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	dialAs(t, path, 65534)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if uid, err := UID(conn); uid != 65534 || err != nil {
		t.Errorf("user %d, %v", uid, err)
	}
	conn.Close()
	if _, err := UID(conn); err == nil {
		t.Error("a connection that is closed is root's")
	}
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	if _, err := UID(here); err == nil {
		t.Error("a pipe is root's")
	}
	if _, err := NewGate(pipeListener{}, nil, ""); err == nil {
		t.Error("a gate of no socket")
	}
}

type pipeListener struct{ net.Listener }
