package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Handler answers one request. progress may be called any number of times
// before it returns; it reports false once the client has gone.
type Handler func(ctx context.Context, args json.RawMessage, progress func(any) bool) (any, error)

// Verb is a handler and who may call it.
type Verb struct {
	Handler  Handler
	RootOnly bool
}

// Server listens on the control socket.
type Server struct {
	Verbs  map[string]Verb
	Logger *slog.Logger
}

const (
	// maxClients bounds what a flood of connections can cost.
	maxClients = 32
	// maxRequest bounds a request line: verbs take a path at most.
	maxRequest = 16 << 10
	// requestTime is how long a client may take to say what it wants.
	requestTime = 5 * time.Second
	// writeTime is how long a client may take to read a line of the answer.
	writeTime = 10 * time.Second
	// socketMode: everyone may ask; root-only verbs check who asks.
	socketMode = 0o666
)

// Listen makes the socket. One that a dead daemon has left is replaced; the
// caller holds the reaper's lock, so no living one is.
func Listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replace the control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on the control socket: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		l.Close()
		return nil, fmt.Errorf("open the control socket to all users: %w", err)
	}
	return l, nil
}

// Serve answers clients until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	places := make(chan struct{}, maxClients)
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on the control socket: %w", err)
		}
		select {
		case places <- struct{}{}:
		default:
			_ = writeLine(conn, response{Error: &Error{CodeBusy, "scopereapd has too many clients; try again"}})
			conn.Close()
			continue
		}
		clients.Go(func() {
			defer func() { <-places }()
			defer conn.Close()
			s.serve(ctx, conn.(*net.UnixConn))
		})
	}
}

func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	_ = conn.SetReadDeadline(time.Now().Add(requestTime))
	var req request
	sc := bufio.NewScanner(conn)
	sc.Buffer(nil, maxRequest)
	if !sc.Scan() {
		return
	}
	if err := json.Unmarshal(sc.Bytes(), &req); err != nil {
		_ = writeLine(conn, response{Error: &Error{CodeBadRequest, "not a JSON request: " + err.Error()}})
		return
	}
	verb, ok := s.Verbs[req.Verb]
	if !ok {
		_ = writeLine(conn, response{Error: &Error{CodeBadRequest, fmt.Sprintf("no verb %q; is scopereapctl newer than scopereapd?", req.Verb)}})
		return
	}
	if verb.RootOnly {
		if uid, err := peerUID(conn); err != nil || uid != 0 {
			_ = writeLine(conn, response{Error: &Error{CodeNotRoot, fmt.Sprintf("%s changes the machine and needs root; run it with sudo", req.Verb)}})
			return
		}
	}
	// A client that goes away ends its request: nothing else is read from it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_ = conn.SetReadDeadline(time.Time{})
	go func() {
		var b [1]byte
		_, _ = conn.Read(b[:])
		cancel()
	}()
	result, err := verb.Handler(ctx, req.Args, func(v any) bool {
		b, err := json.Marshal(v)
		return err == nil && writeLine(conn, response{Progress: b}) == nil
	})
	if err != nil {
		e := &Error{CodeFailed, err.Error()}
		errors.As(err, &e)
		_ = writeLine(conn, response{Error: e})
		return
	}
	b, err := json.Marshal(result)
	if err != nil {
		s.Logger.Error("answer cannot be encoded", "verb", req.Verb, "err", err)
		return
	}
	_ = writeLine(conn, response{Result: b})
}

func writeLine(conn net.Conn, r response) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, err = conn.Write(append(b, '\n'))
	return err
}

// peerUID is who connected, unix(7).
func peerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return cred.Uid, nil
}
