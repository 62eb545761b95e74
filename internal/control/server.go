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
	// maxClients bounds what a flood of connections can cost. Root's are
	// counted apart: no other user's flood keeps the administrator out.
	maxClients     = 32
	maxRootClients = 32
	// maxRequest bounds a request line: verbs take a path at most.
	maxRequest = 16 << 10
	// requestTime is how long a client may take to say what it wants.
	requestTime = 5 * time.Second
	// writeTime is how long a client may take to read a line of the answer.
	writeTime = 10 * time.Second
	// acceptAgain is how long to wait where the machine is out of files or
	// memory: that passes, and reaping goes on meanwhile.
	acceptAgain = 100 * time.Millisecond
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
	others, roots := make(chan struct{}, maxClients), make(chan struct{}, maxRootClients)
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if passing(err) {
			s.Logger.Warn("control socket", "err", err)
			time.Sleep(acceptAgain)
			continue
		}
		if err != nil {
			return fmt.Errorf("accept on the control socket: %w", err)
		}
		peer, err := whoCalls(conn)
		if err != nil {
			conn.Close() // gone already
			continue
		}
		places := others
		if peer.uid == 0 {
			places = roots
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
			s.serve(ctx, peer)
		})
	}
}

// passing reports whether an accept may work again soon, accept(2).
func passing(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// serve answers one client and hangs up.
func (s *Server) serve(ctx context.Context, peer client) {
	defer peer.Close()
	// The daemon's end does not wait for a client that has not asked yet.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = peer.SetReadDeadline(time.Now()) })
	defer stop()
	_ = peer.SetReadDeadline(time.Now().Add(requestTime))
	if ctx.Err() != nil {
		return
	}
	sc := bufio.NewScanner(peer)
	sc.Buffer(nil, maxRequest)
	if !sc.Scan() {
		if errors.Is(sc.Err(), bufio.ErrTooLong) {
			refuse(peer, CodeBadRequest, fmt.Sprintf("the request is longer than %d bytes", maxRequest))
		}
		return
	}
	var req request
	if err := json.Unmarshal(sc.Bytes(), &req); err != nil {
		refuse(peer, CodeBadRequest, "not a JSON request: "+err.Error())
		return
	}
	verb, ok := s.Verbs[req.Verb]
	switch {
	case !ok:
		refuse(peer, CodeBadRequest, fmt.Sprintf("no verb %q; is scopereapctl newer than scopereapd?", req.Verb))
		return
	case verb.RootOnly && peer.uid != 0:
		refuse(peer, CodeNotRoot, fmt.Sprintf("%s changes the machine and needs root (try with sudo)", req.Verb))
		return
	}
	// A client that goes away ends its request: nothing else is read from it.
	_ = peer.SetReadDeadline(time.Time{})
	go func() {
		var b [1]byte
		_, _ = peer.Read(b[:])
		cancel()
	}()
	result, err := verb.Handler(ctx, req.Args, func(v any) bool {
		b, err := json.Marshal(v)
		return err == nil && writeLine(peer, response{Progress: b}) == nil
	})
	if err != nil {
		e := &Error{CodeFailed, err.Error()}
		errors.As(err, &e)
		_ = writeLine(peer, response{Error: e})
		return
	}
	b, err := json.Marshal(result)
	if err != nil {
		s.Logger.Error("answer cannot be encoded", "verb", req.Verb, "err", err)
		refuse(peer, CodeFailed, "scopereapd could not encode its answer: "+err.Error())
		return
	}
	_ = writeLine(peer, response{Result: b})
}

func refuse(conn net.Conn, code, message string) {
	_ = writeLine(conn, response{Error: &Error{code, message}})
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
