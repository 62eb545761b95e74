package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// nobody is a user id without rights. It needs no entry in /etc/passwd.
const nobody = 65534

// askEnv makes this test's binary a client: SOCKET VERB.
const askEnv = "CONTROL_TEST_ASK"

func TestMain(m *testing.M) {
	if socket, verb, ok := strings.Cut(os.Getenv(askEnv), " "); ok {
		var result string
		if verb == "flood" {
			for range 200 {
				var e *Error
				fine := ""
				if err := Call(context.Background(), socket, VerbStatus, nil, &fine, nil); errors.As(err, &e) {
					fine = e.Code
				} else if err != nil {
					fine = err.Error()
				}
				fmt.Println(fine)
			}
			os.Exit(0)
		}
		err := Call(context.Background(), socket, verb, nil, &result, nil)
		var e *Error
		if errors.As(err, &e) {
			result = e.Code
		} else if err != nil {
			result = err.Error()
		}
		fmt.Print(result)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveVerbs starts a server that ends with the test, and returns its socket.
func serveVerbs(t *testing.T, verbs map[string]Verb) string {
	t.Helper()
	// Not t.TempDir: its name may pass the 108 bytes of a socket's path, and
	// another user cannot get into it.
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, SocketName)
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	s := &Server{Verbs: verbs, Logger: slog.New(slog.DiscardHandler)}
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return socket
}

func answer(v any) Handler {
	return func(context.Context, json.RawMessage, func(any) bool) (any, error) { return v, nil }
}

func fail(err error) Handler {
	return func(context.Context, json.RawMessage, func(any) bool) (any, error) { return nil, err }
}

func TestCall(t *testing.T) {
	socket := serveVerbs(t, map[string]Verb{
		"echo": {Handler: func(_ context.Context, args json.RawMessage, progress func(any) bool) (any, error) {
			for i := range 3 {
				if !progress(i) {
					return nil, errors.New("client gone")
				}
			}
			return args, nil
		}},
		"broken": {Handler: fail(errors.New("it broke"))},
		"busy":   {Handler: fail(fmt.Errorf("wrapped: %w", &Error{CodeBusy, "later"}))},
		"chan":   {Handler: answer(make(chan int))},
	})
	var got SweepArgs
	var seen []string
	err := Call(t.Context(), socket, "echo", SweepArgs{Under: "/a b"}, &got, func(p json.RawMessage) { seen = append(seen, string(p)) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(SweepArgs{Under: "/a b"}, got); diff != "" {
		t.Error("result:\n" + diff)
	}
	if diff := cmp.Diff([]string{"0", "1", "2"}, seen); diff != "" {
		t.Error("progress:\n" + diff)
	}
	for _, tc := range []struct{ verb, code, says string }{
		{"broken", CodeFailed, "it broke"},
		{"busy", CodeBusy, "later"},
		{"chan", CodeFailed, "encode"},
		{"nosuch", CodeBadRequest, "nosuch"},
	} {
		var e *Error
		if err := Call(t.Context(), socket, tc.verb, nil, nil, nil); !errors.As(err, &e) {
			t.Errorf("%s: error %v is no answer", tc.verb, err)
		} else if e.Code != tc.code || !strings.Contains(e.Message, tc.says) {
			t.Errorf("%s: answered %s %q, want %s and %q in it", tc.verb, e.Code, e.Message, tc.code, tc.says)
		}
	}
	// A result of another shape than the client's.
	var wrong int
	if err := Call(t.Context(), socket, "echo", SweepArgs{}, &wrong, nil); err == nil || !strings.Contains(err.Error(), "one version") {
		t.Errorf("a result of another shape: error %v", err)
	}
}

func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "left")
	l, err := net.Listen("unix", left)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close() // as a killed daemon leaves it
	for _, socket := range []string{filepath.Join(dir, "none"), left} {
		if err := Call(t.Context(), socket, VerbStatus, nil, nil, nil); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("%s: error %v, want ErrNoDaemon", socket, err)
		}
	}
	// The next daemon takes it over.
	l, err = Listen(left)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// raw sends bytes as they are and returns all that comes back.
func raw(t *testing.T, socket string, request []byte) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write(request) // may be refused half way: EPIPE
	back, _ := io.ReadAll(conn)
	return string(back)
}

func TestBadRequests(t *testing.T) {
	socket := serveVerbs(t, map[string]Verb{VerbStatus: {Handler: answer("fine")}})
	for name, tc := range map[string]struct {
		request string
		says    string
	}{
		"garbage":        {"\x00\xff\xfe not json\n", "not a JSON request"},
		"empty line":     {"\n", "not a JSON request"},
		"wrong type":     {`{"verb": 5}` + "\n", "not a JSON request"},
		"list":           {"[]\n", "not a JSON request"},
		"no verb":        {"{}\n", `no verb \"\"`},
		"null":           {"null\n", `no verb \"\"`},
		"oversized":      {`{"verb":"` + strings.Repeat("a", 1<<20) + "\"}\n", "longer than"},
		"oversized line": {strings.Repeat("x", maxRequest+1), "longer than"},
	} {
		if got := raw(t, socket, []byte(tc.request)); !strings.Contains(got, tc.says) || !strings.Contains(got, CodeBadRequest) {
			t.Errorf("%s: answered %.200q, want %q in it", name, got, tc.says)
		}
	}
	if got := raw(t, socket, []byte(`{"verb":"status"}`+"\n"+strings.Repeat("{}\n", 100))); !strings.Contains(got, `"result":"fine"`) {
		t.Errorf("more lines after a request: answered %q", got)
	}
	// After all of that it still answers.
	var fine string
	if err := Call(t.Context(), socket, VerbStatus, nil, &fine, nil); err != nil || fine != "fine" {
		t.Errorf("afterwards: %q, %v", fine, err)
	}
}

// A client that goes away in the middle ends its request.
func TestClientVanishes(t *testing.T) {
	ended := make(chan error, 1)
	began := make(chan struct{})
	socket := serveVerbs(t, map[string]Verb{VerbSweep: {Handler: func(ctx context.Context, _ json.RawMessage, progress func(any) bool) (any, error) {
		close(began)
		<-ctx.Done()
		for progress("to nobody") { // until the kernel says that it is gone
		}
		ended <- ctx.Err()
		return nil, ctx.Err()
	}}})
	ctx, cancel := context.WithCancel(t.Context())
	called := make(chan error, 1)
	go func() { called <- Call(ctx, socket, VerbSweep, nil, nil, nil) }()
	<-began
	cancel()
	if err := <-called; !errors.Is(err, context.Canceled) {
		t.Errorf("Call: %v, want context.Canceled", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context: %v, want context.Canceled", err)
	}
}

// The daemon's end ends requests, and does not wait for those who have not
// asked yet.
func TestServerStops(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(filepath.Join(dir, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	s := &Server{Logger: slog.New(slog.DiscardHandler), Verbs: map[string]Verb{VerbSweep: {
		Handler: func(ctx context.Context, _ json.RawMessage, _ func(any) bool) (any, error) {
			close(began)
			<-ctx.Done()
			return nil, errors.New("stopping")
		}}}}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	silent, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	called := make(chan error, 1)
	go func() { called <- Call(t.Context(), l.Addr().String(), VerbSweep, nil, nil, nil) }()
	<-began
	stopped := time.Now()
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if waited := time.Since(stopped); waited > requestTime/2 {
		t.Errorf("it waited %v for who has not asked", waited)
	}
	if err := <-called; err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("Call: %v, want what the handler said", err)
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("the silent client got an answer")
	}
}

// A flood of one user's clients is bounded, told so, and over when they go.
func TestFlood(t *testing.T) {
	release := make(chan struct{})
	began := make(chan struct{}, maxRootClients)
	socket := serveVerbs(t, map[string]Verb{
		"wait": {Handler: func(ctx context.Context, _ json.RawMessage, _ func(any) bool) (any, error) {
			began <- struct{}{}
			select {
			case <-release:
			case <-ctx.Done():
			}
			return "done", nil
		}},
		VerbStatus: {Handler: answer("fine")},
	})
	results := make(chan error, maxRootClients)
	for range maxRootClients {
		go func() { results <- Call(t.Context(), socket, "wait", nil, nil, nil) }()
	}
	for range maxRootClients {
		<-began
	}
	for range 100 {
		var e *Error
		if err := Call(t.Context(), socket, VerbStatus, nil, nil, nil); !errors.As(err, &e) || e.Code != CodeBusy {
			t.Fatalf("one too many: error %v, want %s", err, CodeBusy)
		}
	}
	// Another user's places are not root's.
	if os.Geteuid() == 0 {
		if got := askAs(t, nobody, socket, VerbStatus); got != "fine" {
			t.Errorf("another user meanwhile: %q, want an answer", got)
		}
	}
	close(release)
	for range maxRootClients {
		if err := <-results; err != nil {
			t.Errorf("a client that had a place: %v", err)
		}
	}
	// Their places are given back a moment after their answers.
	for {
		var e *Error
		err := Call(t.Context(), socket, VerbStatus, nil, nil, nil)
		if err == nil {
			break
		}
		if !errors.As(err, &e) || e.Code != CodeBusy {
			t.Fatalf("after the flood: %v", err)
		}
	}
}

// askAs calls a verb as another user: this binary, started again.
func askAs(t *testing.T, uid uint32, socket, verb string) string {
	t.Helper()
	// The test's own binary lies where only root may go.
	program := filepath.Join(filepath.Dir(socket), "ask")
	if _, err := os.Stat(program); err != nil {
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, self, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program)
	cmd.Dir = "/"
	cmd.Env = []string{askEnv + "=" + socket + " " + verb}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestRootOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	socket := serveVerbs(t, map[string]Verb{
		VerbStatus: {Handler: answer("status")},
		VerbSweep:  {Handler: answer("swept"), RootOnly: true},
	})
	for _, tc := range []struct {
		uid        uint32
		verb, want string
	}{
		{0, VerbStatus, "status"},
		{0, VerbSweep, "swept"},
		{nobody, VerbStatus, "status"},
		{nobody, VerbSweep, CodeNotRoot},
	} {
		if got := askAs(t, tc.uid, socket, tc.verb); got != tc.want {
			t.Errorf("uid %d, %s: %q, want %q", tc.uid, tc.verb, got, tc.want)
		}
	}
}

func TestPassing(t *testing.T) {
	wrapped := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", unix.EMFILE)}
	if !passing(wrapped) {
		t.Error("EMFILE ends the server")
	}
	for _, err := range []error{nil, net.ErrClosed, unix.EINVAL} {
		if passing(err) {
			t.Errorf("%v is tried again for ever", err)
		}
	}
}

// FuzzAnswer feeds a client whatever a daemon might say.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"result":"x"}`, `{"error":{"code":"busy","message":"m"}}`, `{"progress":1}` + "\n" + `{"result":2}`,
		"", "null", "{}", "\x00", `{"result":`, `{"error":{}}`, `{"progress":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Skip(err) // a name too long for a socket
		}
		defer l.Close()
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = bufio.NewReader(conn).ReadBytes('\n')
			_, _ = conn.Write(said)
		}()
		var result any
		err = Call(t.Context(), socket, VerbStatus, nil, &result, nil)
		if err == nil && !bytes.Contains(said, []byte(`{`)) && !bytes.Contains(said, []byte("null")) {
			t.Errorf("%q was taken for a result: %v", said, result)
		}
	})
}
