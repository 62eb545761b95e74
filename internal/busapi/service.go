package busapi

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/time/rate"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// Options make a Service.
type Options struct {
	Backend Backend
	Logger  *slog.Logger
	// Address of the bus; default $DBUS_SYSTEM_BUS_ADDRESS, or the system bus.
	Address string
}

// Service is org.scopereap1 on a bus.
type Service struct {
	backend  Backend
	log      *slog.Logger
	address  string
	values   *cache
	rootGate *gate
	userGate *gate
	sweepID  atomic.Uint64
	signals  chan signal
	dropped  atomic.Uint64
	online   atomic.Bool
}

// signal waits to be sent.
type signal struct {
	member string
	args   []any
}

const (
	// maxSignals wait to be sent, and signalRate a second are: a storm of teardowns would be one on the bus too.
	// What does not fit is dropped and counted; ReapedMemcgs and its like have it all.
	maxSignals = 256
	signalRate = 50
	// signalBurst is what one teardown, or a sweep's end, tells: each wait of its own would wake the daemon once more.
	signalBurst = 5
	// sweepRoom of maxSignals is for those about sweeps, for which somebody waits.
	sweepRoom = 64
)

// New makes a service. Nothing happens before Run.
func New(o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		backend: o.Backend, log: o.Logger, address: o.Address,
		rootGate: newGate(true), userGate: newGate(false),
		signals: make(chan signal, maxSignals),
	}
	s.values = newCache(func() *values {
		return &values{Snapshot: cleaned(s.backend.Snapshot()), logLevel: s.backend.LogLevel(),
			logTarget: s.backend.LogTarget(), dropped: s.dropped.Load()}
	})
	return s
}

// Poke has PropertiesChanged sent soon, if a property has changed. It never blocks.
func (s *Service) Poke() { s.values.poke() }

// Reaped tells that memcgs below an ancestor were freed. Neither it nor the others block.
func (s *Service) Reaped(ancestor string, memcgs, bytes, left int64) {
	s.news("Reaped", clean(ancestor), count(memcgs), count(bytes), count(left))
	s.Poke()
}

// Pinned tells that memcgs below an ancestor cannot be freed, and why.
func (s *Service) Pinned(ancestor string, memcgs int64, pins []Pin) {
	s.news("Pinned", clean(ancestor), count(memcgs), some(pins))
	s.Poke()
}

// Trigger tells what leaves memcgs dying again and again.
func (s *Service) Trigger(kind, name string, left float64) {
	s.news("TriggerDetected", kind, clean(name), left)
}

// news is tell, of what leaves room for what matters more.
func (s *Service) news(member string, args ...any) {
	if len(s.signals) >= maxSignals-sweepRoom {
		s.dropped.Add(1)
		return
	}
	s.tell(member, args...)
}

// tell queues a signal, if there is a bus and room for it.
func (s *Service) tell(member string, args ...any) {
	if !s.online.Load() {
		return
	}
	select {
	case s.signals <- signal{member, args}:
	default:
		s.dropped.Add(1)
	}
}

// Waits between connections. Nobody waits for them but clients.
const (
	backoffFirst = 200 * time.Millisecond
	backoffMax   = time.Minute
)

// Run serves until ctx ends. It outlives every failure of the bus: it says so once and tries again.
func (s *Service) Run(ctx context.Context) {
	wait, said := backoffFirst, ""
	for ctx.Err() == nil {
		err := s.connect(ctx, func() {
			wait = backoffFirst
			if said != "" {
				s.log.Info("D-Bus API is there again", "name", Name, message.APIBack.Attr())
			}
			said = ""
		})
		if ctx.Err() != nil {
			return
		}
		if why := err.Error(); said == "" {
			said = why
			s.log.Warn("no D-Bus API until this is over; everything else goes on", "name", Name, "err", err,
				message.APILost.Attr())
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, backoffMax)
	}
}

// session is one connection's worth of serving.
type session struct {
	svc       *Service
	ctx       context.Context
	conn      *dbus.Conn
	places    *places
	watches   watches
	questions atomic.Uint64
	calls     sync.WaitGroup
	sweeps    sync.WaitGroup
}

// newSession makes a connection, which ends with ctx.
func (s *Service) newSession(ctx context.Context) (*session, error) {
	se := &session{svc: s, ctx: ctx, places: newPlaces(), watches: watches{of: map[string]*watch{}}}
	if _, err := dial(ctx, s.address, se.places.mayCall, func(c *dbus.Conn) { se.conn = c }, se.take); err != nil {
		return nil, err
	}
	for range lookers {
		se.calls.Go(se.lookUp)
	}
	return se, nil
}

// connect serves on one connection until it ends, and returns why. up is called once the name is ours.
func (s *Service) connect(ctx context.Context, up func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	se, err := s.newSession(ctx)
	if err != nil {
		return fmt.Errorf("connect to the system bus: %w", err)
	}
	conn := se.conn
	defer func() {
		s.online.Store(false)
		cancel()
		conn.Close()
		se.calls.Wait()
		se.sweeps.Wait()
	}()
	owners := make(chan *dbus.Signal, 64)
	conn.Signal(owners)
	if err := se.ownName(ctx); err != nil {
		return err
	}
	s.online.Store(true)
	up()
	var parts sync.WaitGroup
	parts.Go(func() { se.announce(ctx) })
	parts.Go(func() { se.emit(ctx) })
	defer parts.Wait()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case sig, ok := <-owners:
			if !ok {
				return fmt.Errorf("the bus closed the connection")
			}
			se.left(sig)
		}
	}
}

// ownName takes the name, from nobody.
func (s *session) ownName(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var r dbus.RequestNameReply
	err := s.conn.BusObject().CallWithContext(ctx, busName+".RequestName", 0, Name, dbus.NameFlagDoNotQueue).Store(&r)
	switch {
	case err != nil: // AccessDenied without our bus policy
		return fmt.Errorf("take the name %s: %w", Name, err)
	case r != dbus.RequestNameReplyPrimaryOwner:
		return fmt.Errorf("another process has the name %s", Name)
	}
	return nil
}

// emit sends signals, no more than signalRate a second, of which signalBurst may come at once.
func (s *session) emit(ctx context.Context) {
	limit := rate.NewLimiter(signalRate, signalBurst)
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-s.svc.signals:
			if limit.Wait(ctx) != nil {
				return // the connection has ended
			}
			_ = s.conn.Emit(Path, Iface+"."+sig.member, sig.args...)
		}
	}
}
