package control

import (
	"bufio"
	"cmp"
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

	"github.com/scopereap/scopereap/internal/callers"
)

// Handler answers one request. progress may be called any number of times
// before it returns; it reports false once the client has gone.
type Handler func(ctx context.Context, args json.RawMessage, progress func(any) bool) (any, error)

// Verb is a handler and who may call it.
type Verb struct {
	Handler  Handler
	RootOnly bool
	// Shared: the answer is the same whoever asks, and takes no arguments.
	// It is made once for all users but root who ask within sharedFor, and
	// is in memory once however many read it.
	Shared bool
}

// Server listens on the control sockets.
type Server struct {
	Verbs  map[string]Verb
	Logger *slog.Logger

	writeTime              time.Duration // 0: the constant
	shared                 shared
	inFlight, rootInFlight callers.Bytes
}

const (
	// maxClients and maxEach bound the connections of all users but root and
	// of each of them, and maxRootClients root's.
	maxClients     = 32
	maxEach        = 4
	maxRootClients = 32
	// maxInFlight bounds, in bytes, the answers that clients have not read yet;
	// root's are counted apart. A status has some 4 kB, and 500 kB with as much
	// pinned as is listed.
	maxInFlight     = 4 << 20
	maxRootInFlight = 16 << 20
	// sharedFor is how old a shared answer may be.
	sharedFor = time.Second
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
	socketMode     = 0o666
	rootSocketMode = 0o600
)

// limits are how often the socket of all may be asked. scopereapctl top asks once
// a second.
func limits() callers.Limits {
	return callers.Limits{Each: 5, EachAtOnce: 20, All: 50, AllAtOnce: 100}
}

// busy is what those get who ask more often. Nothing is made of their request.
const busy = `{"error":{"code":"` + CodeBusy + `","message":"this was asked too often, or by too many; try again in a second"}}` + "\n"

// Listen makes the socket of all. One that a dead daemon has left is replaced; the
// caller holds the reaper's lock, so no living one is.
func Listen(path string) (net.Listener, error) {
	l, err := listen(path, socketMode)
	if err != nil {
		return nil, err
	}
	return callers.NewGate(l, callers.NewRates(limits()), busy)
}

// ListenRoot makes root's own, likewise.
func ListenRoot(path string) (net.Listener, error) { return listen(path, rootSocketMode) }

func listen(path string, mode os.FileMode) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replace the control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on the control socket: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("say who may use the control socket: %w", err)
	}
	return l, nil
}

// Serve answers clients until ctx ends.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	s.inFlight.Most, s.rootInFlight.Most = maxInFlight, maxRootInFlight
	places := &callers.Places{Each: maxEach, All: maxClients, Root: maxRootClients}
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		all.Go(func() { ended <- s.accept(ctx, l, places) })
	}
	for range listeners {
		if err := <-ended; err != nil {
			return err
		}
	}
	return nil
}

// accept lets clients in at one listener.
func (s *Server) accept(ctx context.Context, l net.Listener, places *callers.Places) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
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
		peer.writeTime = cmp.Or(s.writeTime, writeTime)
		leave, ok := places.Enter(peer.uid)
		if !ok {
			peer.refuse(CodeBusy, "scopereapd has too many clients; try again")
			conn.Close()
			continue
		}
		clients.Go(func() {
			defer leave()
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
			peer.refuse(CodeBadRequest, fmt.Sprintf("the request is longer than %d bytes", maxRequest))
		}
		return
	}
	var req request
	if err := json.Unmarshal(sc.Bytes(), &req); err != nil {
		peer.refuse(CodeBadRequest, "not a JSON request: "+err.Error())
		return
	}
	verb, ok := s.Verbs[req.Verb]
	switch {
	case !ok:
		peer.refuse(CodeBadRequest, fmt.Sprintf("no verb %q; is scopereapctl newer than scopereapd?", req.Verb))
		return
	case verb.RootOnly && peer.uid != 0:
		peer.refuse(CodeNotRoot, fmt.Sprintf("%s changes the machine and needs root (try with sudo)", req.Verb))
		return
	}
	// A client that goes away ends its request: nothing else is read from it.
	_ = peer.SetReadDeadline(time.Time{})
	go func() {
		var b [1]byte
		_, _ = peer.Read(b[:])
		cancel()
	}()
	answer := func() []byte { return s.answer(ctx, req, verb, peer) }
	line, inFlight := []byte(nil), &s.inFlight
	switch {
	case peer.uid == callers.Root:
		line, inFlight = answer(), &s.rootInFlight
	case verb.Shared:
		line = s.shared.get(req.Verb, answer)
	default:
		line = answer()
	}
	done, ok := inFlight.Take(len(line))
	if !ok {
		peer.refuse(CodeBusy, "others have not read their answers yet; try again")
		return
	}
	defer done()
	_ = peer.write(line)
}

// answer is the last line of an answer.
func (s *Server) answer(ctx context.Context, req request, verb Verb, peer client) []byte {
	result, err := verb.Handler(ctx, req.Args, func(v any) bool {
		b, err := json.Marshal(v)
		return err == nil && peer.write(encoded(response{Progress: b})) == nil
	})
	if err != nil {
		e := &Error{CodeFailed, err.Error()}
		errors.As(err, &e)
		return encoded(response{Error: e})
	}
	b, err := json.Marshal(result)
	if err != nil {
		s.Logger.Error("answer cannot be encoded", "verb", req.Verb, "err", err)
		return encoded(response{Error: &Error{CodeFailed, "scopereapd could not encode its answer: " + err.Error()}})
	}
	return encoded(response{Result: b})
}
