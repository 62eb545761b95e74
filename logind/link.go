package logind

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/time/rate"
)

// reloadMax is how long a Reloading(true) is believed without its end. A reload takes seconds;
// after this the end must have been lost.
const reloadMax = 90 * time.Second

// calmAfter is how long nothing must fail before the waits between retries start small again.
const calmAfter = backoffCap

// A lookup is one to three calls, some 0.1 ms of ours and more of PID 1's. Of units that come and
// go faster than lookups a second most are gone before they are asked about: what a job ran and was
// unloaded is told without. lookupsAtOnce is for a class that logs in, and what a comparison of
// lists asks for is as many as there are units.
const (
	lookups       = 100
	lookupsAtOnce = 300
)

// errClosed: the connection ended.
var errClosed = errors.New("the bus closed the connection")

// link is one connection's worth of listening. Its fields belong to the goroutine in loop.
type link struct {
	l       *Listener
	bus     *bus
	filter  *filter // nil with an Options.Dial of somebody else's
	signals chan *dbus.Signal
	owners  map[string]string // well-known name → unique name
	lastSeq dbus.Sequence

	pending []*ask
	flying  int
	pace    *rate.Limiter // of lookups that signals ask for
	paced   *time.Timer   // when there may be more of them
	done    chan func()   // what calls bring home, run by loop; never blocks a caller
	wg      sync.WaitGroup

	reconciling bool
	wanted      scope // of the reconcile to make next
	retry       *time.Timer
	retryWait   backoff
	lastFailure time.Time
	reload      *time.Timer
}

// scope says what a reconcile compares.
type scope struct{ units, deep, sessions bool }

func (s scope) any() bool { return s.units || s.sessions }

func (s scope) with(o scope) scope {
	return scope{s.units || o.units, s.deep || o.deep, s.sessions || o.sessions}
}

// serve listens on a connection until it ends. It resets the pause between connections once the bus
// has proved good.
func (l *Listener) serve(ctx context.Context, conn *dbus.Conn, pause *backoff) error {
	ctx, cancel := context.WithCancel(ctx)
	k := &link{
		l: l,
		bus: &bus{conn: conn, timeout: l.opts.CallTimeout, count: func(failed bool) {
			l.calls.Add(1)
			if failed {
				l.failed.Add(1)
			}
		}},
		signals: make(chan *dbus.Signal, 256),
		owners:  map[string]string{busName: busName},
		done:    make(chan func(), maxCalls+1), // lookups and one reconcile
		pace:    rate.NewLimiter(lookups, lookupsAtOnce),
		paced:   stopped(),
		retry:   stopped(),
		reload:  stopped(),
	}
	defer func() {
		cancel()
		k.wg.Wait()
		k.retry.Stop()
		k.reload.Stop()
		k.paced.Stop()
		l.mu.Lock()
		l.model.disconnected()
		l.stats.Connected, l.stats.Asking = false, 0
		l.mu.Unlock()
	}()
	conn.Signal(k.signals)
	if err := k.listen(ctx); err != nil {
		return err
	}
	pause.reset()
	l.count(func(s *Stats) { s.Connected = true })
	l.over("bus", "connected to the system bus again")
	return k.loop(ctx)
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// listen adds the match rules and learns who is who. Rules first, so that no change of owner falls
// between. JobNew, which PID 1 sends for every job, is not listened to.
func (k *link) listen(ctx context.Context) error {
	rules := [][]dbus.MatchOption{}
	for _, name := range []string{loginName, sdName} {
		rules = append(rules, []dbus.MatchOption{
			dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName),
			dbus.WithMatchMember(memberNameOwnerChanged), dbus.WithMatchArg(0, name),
		})
	}
	for _, member := range []string{SignalSessionNew, SignalSessionRemoved, SignalUserNew, SignalUserRemoved} {
		rules = append(rules, []dbus.MatchOption{
			dbus.WithMatchSender(loginName), dbus.WithMatchObjectPath(loginPath),
			dbus.WithMatchInterface(loginIface), dbus.WithMatchMember(member),
		})
	}
	for _, member := range []string{SignalUnitNew, SignalUnitRemoved, SignalJobRemoved, memberReloading} {
		rules = append(rules, []dbus.MatchOption{
			dbus.WithMatchSender(sdName), dbus.WithMatchObjectPath(sdPath),
			dbus.WithMatchInterface(sdIface), dbus.WithMatchMember(member),
		})
	}
	if name := k.l.opts.Name; name != "" {
		if _, err := k.bus.call(ctx, busName, busPath, busName+".RequestName", name, uint32(0)); err != nil {
			k.l.log.Debug("anybody may send us signals, to be thrown away: no name on the bus", "err", err)
		}
	}
	limited, cancel := context.WithTimeout(ctx, k.bus.timeout)
	defer cancel()
	for _, rule := range rules {
		k.l.calls.Add(1)
		if err := k.bus.conn.AddMatchSignalContext(limited, rule...); err != nil {
			k.l.failed.Add(1)
			return fmt.Errorf("asking the bus for signals: %w", err)
		}
	}
	for _, name := range []string{loginName, sdName} {
		owner, err := k.bus.owner(ctx, name)
		if err != nil {
			return err
		}
		k.owners[name] = owner
	}
	if k.filter = filterOf(k.bus.conn); k.filter != nil {
		k.filter.follow(k.owners, k.l.knows, func() { k.l.strangers.Add(1) })
	}
	return nil
}

// loop reads signals and what the calls bring until the connection ends. It waits for nothing else.
func (k *link) loop(ctx context.Context) error {
	k.reconcile(ctx, scope{units: true, deep: true, sessions: true})
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s, ok := <-k.signals:
			if !ok {
				return errClosed
			}
			k.signal(ctx, s)
		case step := <-k.done:
			// Signals that came before the answer were read before it; take them first, as far as
			// they are here.
			if !k.drain(ctx) {
				return errClosed
			}
			step()
		case <-k.retry.C:
			k.reconcile(ctx, scope{units: true, deep: true, sessions: true})
		case <-k.reload.C:
			k.reloaded(ctx, false)
		case <-k.paced.C: // settle sends more
		}
		k.settle(ctx)
	}
}

// drain handles the signals that wait already; false if the connection ended.
func (k *link) drain(ctx context.Context) bool {
	for {
		select {
		case s, ok := <-k.signals:
			if !ok {
				return false
			}
			k.signal(ctx, s)
		default:
			return true
		}
	}
}

// with runs a step of the model.
func (k *link) with(step func(*model)) {
	k.l.mu.Lock()
	defer k.l.mu.Unlock()
	step(k.l.model)
	events, asks := k.l.model.take()
	for _, e := range events {
		k.l.queue.put(e)
	}
	k.l.stats.Events += uint64(len(events))
	k.pending = append(k.pending, asks...)
}

// settle sends the questions there is room for, and sees to it that failed ones are made good.
func (k *link) settle(ctx context.Context) {
	for k.flying < maxCalls && len(k.pending) > 0 {
		a := k.pending[0]
		if !k.mayAsk(a) {
			k.paced.Reset(time.Second / lookups)
			break
		}
		k.pending = k.pending[1:]
		k.send(ctx, a)
	}
	if len(k.pending) == 0 {
		k.pending = nil
	}
	unsure := false
	k.with(func(m *model) {
		unsure, m.unsure = m.unsure, false
		k.l.stats.Asking = k.flying + len(k.pending)
	})
	if unsure {
		k.retryLater()
	}
}

// mayAsk: what a comparison of lists asks for does not wait, and what nobody wants to know any more
// costs nothing.
func (k *link) mayAsk(a *ask) bool {
	return a.forgot() || a.why.signal == SignalReconcile || k.pace.Allow()
}

// retryLater plans a reconcile, later each time something fails again.
func (k *link) retryLater() {
	now := time.Now()
	if now.Sub(k.lastFailure) > calmAfter+k.bus.timeout {
		k.retryWait.reset()
	}
	k.lastFailure = now
	k.retry.Reset(k.retryWait.wait())
}

// send asks the bus in a goroutine of its own.
func (k *link) send(ctx context.Context, a *ask) {
	switch {
	case a.unit != nil && !a.unit.forgot:
		k.fly(func() func() {
			r := k.bus.find(ctx, a)
			return func() {
				k.judge("systemd", a.unit.name, r.err)
				k.with(func(m *model) { m.answered(a, r) })
			}
		})
	case a.session != nil && !a.session.forgot:
		s := a.session
		k.fly(func() func() {
			info, gone, err := k.bus.session(ctx, s.id, s.path)
			return func() {
				k.judge("logind", "session "+s.id, err)
				k.with(func(m *model) { m.sessionAnswered(s, info, gone) })
			}
		})
	}
}

// fly runs a call and brings what is to be done with its answer to loop.
func (k *link) fly(call func() func()) {
	k.flying++
	k.wg.Go(func() {
		step := call()
		k.done <- func() { k.flying--; step() }
	})
}

func (k *link) judge(whom, what string, err error) {
	if err == nil {
		return
	}
	k.l.trouble(whom+" lookup", whom+" could not be asked about a unit or session; paths are derived from names "+
		"until it can, and everything is compared again", fmt.Errorf("%s: %w", what, err))
}
