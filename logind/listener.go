package logind

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// Listener turns what logind and systemd say on the bus into one ordered stream of events.
type Listener struct {
	opts   Options
	log    *slog.Logger
	events chan Event
	queue  *queue
	ran    atomic.Bool

	calls, failed atomic.Uint64
	strangers     atomic.Uint64 // messages of others than logind, systemd and the bus

	mu    sync.Mutex // guards what follows; never held while waiting
	model *model
	stats Stats
	said  map[string]bool // troubles told and not over
}

// New makes a Listener. It does nothing before Run.
func New(opts Options) *Listener {
	opts = opts.withDefaults()
	return &Listener{
		opts:   opts,
		log:    opts.Logger,
		events: make(chan Event),
		queue:  newQueue(),
		model:  newModel(),
		said:   make(map[string]bool),
	}
}

// Events returns the stream. It is closed when Run returns; events not taken by then are lost.
func (l *Listener) Events() <-chan Event { return l.events }

// Run listens until the context ends and then returns nil. It outlives every failure of the bus: it
// says so once, goes on trying, and reports what happened meanwhile when it is back. It can be
// called once.
func (l *Listener) Run(ctx context.Context) error {
	if l.ran.Swap(true) {
		return errors.New("logind: Run was called before; make a new Listener")
	}
	var pump sync.WaitGroup
	pump.Go(func() { l.pump(ctx) })
	defer pump.Wait()

	var pause backoff
	for first := true; ctx.Err() == nil; {
		conn, cancel, err := dial(ctx, l.opts.Dial, l.opts.CallTimeout)
		if err == nil {
			if !first {
				l.count(func(s *Stats) { s.Reconnects++ })
			}
			first = false
			err = l.serve(ctx, conn, &pause)
			cancel()
			conn.Close()
		}
		if ctx.Err() != nil {
			break
		}
		l.trouble("bus", "no connection to the system bus: logins and logouts are not seen until it is back, "+
			"the census still is; check that dbus.service runs", err)
		sleep(ctx, pause.wait())
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// pump hands the queue to the consumer.
func (l *Listener) pump(ctx context.Context) {
	defer close(l.events)
	for {
		e, ok := l.queue.take()
		if !ok {
			select {
			case <-l.queue.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case l.events <- e:
		case <-ctx.Done():
			return
		}
	}
}

// Stats returns the counters and the present state.
func (l *Listener) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Calls, s.Failed = l.calls.Load(), l.failed.Load()
	strangers := l.strangers.Load()
	s.Signals, s.Ignored = s.Signals+strangers, s.Ignored+strangers
	s.Units, s.Sessions, s.Waiting = len(l.model.units), len(l.model.sessions), l.queue.len()
	for _, u := range l.model.units {
		if u.alive {
			s.Live++
		}
	}
	return s
}

// Snapshot returns the sessions known at the moment, by ID. One whose user is not learned yet is
// left out; the other properties can still be missing for the time of a call.
func (l *Listener) Snapshot() []Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Session, 0, len(l.model.sessions))
	for _, s := range l.model.sessions {
		if s.info != nil {
			all = append(all, *s.info)
		}
	}
	slices.SortFunc(all, func(a, b Session) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Session returns what is known of a live session, false if nothing is (yet).
func (l *Listener) Session(id string) (Session, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.model.sessions[id]
	if s == nil || s.info == nil {
		return Session{}, false
	}
	return *s.info, true
}

// knows reports whether the removal of a unit says anything: of one that is known, or while lists
// are compared.
func (l *Listener) knows(unit string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.model.removed != nil || l.model.units[unit] != nil
}

func (l *Listener) count(f func(*Stats)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.stats)
}

// trouble tells of a failure the first time; while it lasts, only at debug level.
func (l *Listener) trouble(about, text string, err error) {
	l.mu.Lock()
	level := slog.LevelWarn
	if l.said[about] {
		level = slog.LevelDebug
	}
	l.said[about] = true
	l.mu.Unlock()
	var attrs []any
	if err != nil {
		attrs = []any{"err", err}
	}
	if about == "bus" && level == slog.LevelWarn {
		attrs = append(attrs, message.BusLost.Attr())
	}
	l.log.Log(context.Background(), level, text, attrs...)
}

// over tells that a failure that was told is over.
func (l *Listener) over(about, text string) {
	l.mu.Lock()
	told := l.said[about]
	delete(l.said, about)
	l.mu.Unlock()
	switch {
	case told && about == "bus":
		l.log.Info(text, message.BusBack.Attr())
	case told:
		l.log.Info(text)
	}
}
