package busapi

import (
	"context"
	"sync"

	"github.com/godbus/dbus/v5"
)

// watches knows which senders somebody waits with. Only those are listened for: a bus has many clients that come and
// go, and each NameOwnerChanged would wake us.
type watches struct {
	mu sync.Mutex
	of map[string]*watch
}

type watch struct {
	n     int // who waits
	ready chan struct{}
	gone  chan struct{}
	once  sync.Once
}

func (w *watch) end() { w.once.Do(func() { close(w.gone) }) }

const memberOwner = "NameOwnerChanged"

func ownerRule(name string) []dbus.MatchOption {
	return []dbus.MatchOption{dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName),
		dbus.WithMatchMember(memberOwner), dbus.WithMatchArg(0, name)}
}

// whileThere is a context that ends when a sender leaves the bus. stop must be called.
func (s *session) whileThere(ctx context.Context, name string) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.watches.mu.Lock()
	w := s.watches.of[name]
	fresh := w == nil
	if fresh {
		w = &watch{ready: make(chan struct{}), gone: make(chan struct{})}
		s.watches.of[name] = w
	}
	w.n++
	s.watches.mu.Unlock()
	if fresh {
		go s.beginWatch(name, w)
	}
	go func() {
		select {
		case <-w.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		s.watches.mu.Lock()
		w.n--
		last := w.n == 0
		if last {
			delete(s.watches.of, name)
		}
		s.watches.mu.Unlock()
		if last { // a rule added again meanwhile is another: the bus counts them
			go s.endWatch(name, w)
		}
	}
}

// beginWatch listens first and looks then, so that nobody leaves in between.
func (s *session) beginWatch(name string, w *watch) {
	defer close(w.ready)
	ctx, cancel := context.WithTimeout(s.ctx, callTime)
	defer cancel()
	if err := s.conn.AddMatchSignalContext(ctx, ownerRule(name)...); err != nil {
		return // what waits has a limit anyway
	}
	there := true
	err := s.conn.BusObject().CallWithContext(ctx, busName+".NameHasOwner", 0, name).Store(&there)
	if err == nil && !there {
		w.end()
	}
}

func (s *session) endWatch(name string, w *watch) {
	<-w.ready
	ctx, cancel := context.WithTimeout(s.ctx, callTime)
	defer cancel()
	_ = s.conn.RemoveMatchSignalContext(ctx, ownerRule(name)...)
}

// left takes in a signal of the bus.
func (s *session) left(sig *dbus.Signal) {
	if sig.Sender != busName || sig.Name != busName+"."+memberOwner || len(sig.Body) != 3 || sig.Body[2] != "" {
		return
	}
	name, _ := sig.Body[0].(string)
	s.watches.mu.Lock()
	defer s.watches.mu.Unlock()
	if w := s.watches.of[name]; w != nil {
		w.end()
	}
}
