package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/callers"
)

// users is a listener each of whose connections is another user's, of so many each.
type users struct {
	net.Listener
	each uint32
	n    atomic.Uint32
}

func (u *users) Accept() (net.Conn, error) {
	conn, err := u.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &callers.Conn{Conn: conn, UID: 1000 + (u.n.Add(1)-1)/u.each}, nil
}

// serveUsers serves verbs to others than root.
func serveUsers(t *testing.T, s *Server, each uint32) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, SocketName)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, &users{Listener: l, each: each}) }()
	t.Cleanup(func() { cancel(); <-served })
	return socket
}

// ask asks and reads nothing.
func ask(t *testing.T, socket, verb string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write([]byte(`{"verb":"` + verb + `"}` + "\n")); err != nil && !errors.Is(err, unix.EPIPE) {
		t.Fatal(err) // who is refused may be hung up on before; the answer is there all the same
	}
	return conn
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Clients that do not read their answers share one, and have no more of them than there may be in flight, however long
// they are: 32 of them with 3 MB each had 1,193 MB.
func TestSlowReaders(t *testing.T) {
	big := strings.Repeat("\x01", 200<<10) // 1.2 MB of JSON
	handler := func(context.Context, json.RawMessage, func(any) bool) (any, error) { return big, nil }
	for name, verb := range map[string]Verb{"shared": {Handler: handler, Shared: true}, "each": {Handler: handler}} {
		t.Run(name, func(t *testing.T) {
			socket := serveUsers(t, &Server{writeTime: time.Hour, Verbs: map[string]Verb{VerbStatus: verb}}, 1)
			before := heap()
			busy := 0
			var slow []net.Conn
			for range maxClients {
				conn := ask(t, socket, VerbStatus)
				first := make([]byte, 10) // it is answered by now
				if _, err := conn.Read(first); err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(string(first), `{"error":`) {
					busy++
				} else {
					slow = append(slow, conn)
				}
			}
			if grown := heap() - before; grown > 2*maxInFlight {
				t.Errorf("%d clients that do not read have %d MB", maxClients, grown>>20)
			}
			if busy == 0 || len(slow) == 0 || len(slow)*6*len(big) > maxInFlight+6*len(big) {
				t.Errorf("%d have answers in flight, %d were refused", len(slow), busy)
			}
			for _, conn := range slow {
				conn.Close()
			}
			// What they had is given back.
			for deadline := time.Now().Add(30 * time.Second); ; {
				conn := ask(t, socket, VerbStatus)
				line, err := bufio.NewReader(conn).ReadBytes('\n')
				if err == nil && bytes.HasPrefix(line, []byte(`{"result":`)) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("nobody is answered afterwards: %.100s, %v", line, err)
				}
			}
		})
	}
}

// One who never reads loses the connection, and with it the place, when the time for it is over.
func TestWriteDeadline(t *testing.T) {
	big := strings.Repeat("x", maxInFlight/maxEach-1000) // all of them may be in flight
	s := &Server{writeTime: 50 * time.Millisecond, Verbs: map[string]Verb{
		VerbStatus: {Handler: answer(big), Shared: true}, "small": {Handler: answer("fine")}}}
	socket := serveUsers(t, s, 1<<20) // all of one user
	for range maxEach {
		conn := ask(t, socket, VerbStatus)
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		var fine string
		err := Call(t.Context(), socket, "small", nil, &fine, nil)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("those who do not read keep their places: %v", err)
		}
	}
}

// One user's connections keep no other user out, and never root.
func TestPlacesOfEach(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	wait := func(ctx context.Context, _ json.RawMessage, _ func(any) bool) (any, error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil, nil
	}
	s := &Server{Verbs: map[string]Verb{"wait": {Handler: wait}, VerbStatus: {Handler: answer("fine")}}}
	socket := serveUsers(t, s, maxEach+2) // so many connections of the first user
	for range maxEach {
		ask(t, socket, "wait")
	}
	for i, want := range []string{"busy", "busy", "fine"} {
		line, _ := bufio.NewReader(ask(t, socket, VerbStatus)).ReadString('\n')
		if !strings.Contains(line, want) {
			t.Errorf("connection %d: %q, want %s", maxEach+i, line, want)
		}
	}
}

// A user's flood of the socket of all is refused before anything is spent, and root is answered at its own meanwhile.
func TestFloodOfUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	all, root := filepath.Join(dir, SocketName), filepath.Join(dir, RootSocketName)
	l, err := Listen(all)
	if err != nil {
		t.Fatal(err)
	}
	rl, err := ListenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	asked := atomic.Int64{}
	s := &Server{Logger: slog.New(slog.DiscardHandler), Verbs: map[string]Verb{
		VerbStatus: {Handler: func(context.Context, json.RawMessage, func(any) bool) (any, error) { asked.Add(1); return "fine", nil }}}}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l, rl) }()
	t.Cleanup(func() { cancel(); <-served })
	if got := askAs(t, nobody, root, VerbStatus); !strings.Contains(got, unix.EACCES.Error()) {
		t.Errorf("nobody at root's socket: %q", got)
	}
	began := time.Now()
	const many = 200
	got := askAs(t, nobody, all, "flood")
	var answered, refused int
	for word := range strings.FieldsSeq(got) {
		switch word {
		case "fine":
			answered++
		case CodeBusy:
			refused++
		}
	}
	lim := limits()
	most := int(lim.EachAtOnce + lim.Each*(time.Since(began).Seconds()+1))
	if answered == 0 || answered > most || answered+refused != many || asked.Load() > int64(answered) {
		t.Errorf("of %d requests of a user %d were answered, want at most %d; %d refused, the handler was called %d times:\n%s",
			many, answered, most, refused, asked.Load(), got)
	}
	for _, socket := range []string{all, root} {
		for range 50 {
			if got := askAsRoot(t, socket); got != "fine" {
				t.Fatalf("root at %s: %q", filepath.Base(socket), got)
			}
		}
	}
}

func askAsRoot(t *testing.T, socket string) (fine string) {
	t.Helper()
	if err := Call(t.Context(), socket, VerbStatus, nil, &fine, nil); err != nil {
		return err.Error()
	}
	return fine
}

// FuzzRequest: whatever a client says, it gets one line of JSON with a result or an error that has one of the codes.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"verb":"status"}`, `{"verb":"sweep","args":{"under":"/"}}`, `{"verb":"leaks"}`, "", "\n", "null", "{}", "[]", "\x00",
		`{"verb":"` + strings.Repeat("a", maxRequest) + `"}`, `{"verb":5}`, `{"args":`, `{"verb":"status","args":` + strings.Repeat("[", 9000),
	} {
		f.Add([]byte(seed), uint32(0))
		f.Add([]byte(seed), uint32(nobody))
	}
	s := &Server{Logger: slog.New(slog.DiscardHandler), inFlight: callers.Bytes{Most: maxInFlight},
		rootInFlight: callers.Bytes{Most: maxInFlight}, Verbs: map[string]Verb{
			VerbStatus: {Handler: answer("status"), Shared: true}, VerbLeaks: {Handler: answer("leaks"), RootOnly: true},
			VerbSweep: {RootOnly: true, Handler: func(_ context.Context, args json.RawMessage, _ func(any) bool) (any, error) {
				var a SweepArgs
				return a, json.Unmarshal(args, &a)
			}}}}
	f.Fuzz(func(t *testing.T, said []byte, uid uint32) {
		here, there := net.Pipe()
		go func() {
			_, _ = here.Write(append(said, '\n'))
		}()
		served := make(chan struct{})
		go func() {
			s.serve(t.Context(), client{Conn: there, uid: uid, writeTime: time.Minute})
			close(served)
		}()
		line, err := bufio.NewReader(here).ReadBytes('\n')
		here.Close()
		<-served
		var r response
		switch {
		case err != nil:
			t.Errorf("%q got no answer: %v", said, err)
		case json.Unmarshal(line, &r) != nil:
			t.Errorf("%q got %q", said, line)
		case r.Error == nil && (r.Result == nil || uid != 0 && string(r.Result) != `"status"`):
			t.Errorf("user %d said %q and got %q", uid, said, line)
		case r.Error != nil && r.Error.Code != CodeBadRequest && r.Error.Code != CodeNotRoot && r.Error.Code != CodeFailed:
			t.Errorf("%q got the code %q", said, r.Error.Code)
		}
	})
}
