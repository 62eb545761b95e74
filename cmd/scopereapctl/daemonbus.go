package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/logind"
)

// busDaemon is the daemon as org.scopereap1 on the system bus. It is never started by being asked. The zero value is
// ready to use, by several goroutines.
type busDaemon struct {
	mu     sync.Mutex
	conn   *dbus.Conn
	silent time.Time // when a call went unanswered
}

const (
	// workTime is for calls that read many files or ask a directory: the daemon gives up on them after 20 s.
	workTime = 25 * time.Second
	// passwordTime is for calls for which somebody may have to type a password: the daemon waits for it for 2 min.
	passwordTime = workTime + 2*time.Minute
)

// dialBus connects, and gives up after answerTime. The connection does not end with ctx.
func dialBus(ctx context.Context) (*dbus.Conn, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	timer := time.AfterFunc(answerTime, cancel)
	conn, err := logind.DialSystem(life)
	if !timer.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, err
	}
	context.AfterFunc(conn.Context(), cancel)
	return conn, nil
}

// connect is the connection of all calls but sweeps: there, it is the daemon's sign that somebody waits.
func (b *busDaemon) connect(ctx context.Context) (*dbus.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.silent) < answerTime {
		return nil, silentFor(answerTime) // it was, just now: nobody should wait for each of several questions
	}
	if b.conn != nil && b.conn.Connected() {
		return b.conn, nil
	}
	conn, err := dialBus(ctx)
	if err != nil {
		return nil, control.ErrNoDaemon // no bus to be asked
	}
	b.conn = conn
	return conn, nil
}

// quick asks what the daemon answers from memory.
func (b *busDaemon) quick(ctx context.Context, member string, args []any, out ...any) error {
	conn, err := b.connect(ctx)
	if err != nil {
		return err
	}
	return b.heard(callBus(ctx, conn, answerTime, false, busapi.Iface, member, args, out...))
}

// heard notes that the daemon was silent.
func (b *busDaemon) heard(err error) error {
	if errors.Is(err, errSilent) {
		b.mu.Lock()
		b.silent = time.Now()
		b.mu.Unlock()
	}
	return err
}

// work asks for what may take long, after it is known that the daemon answers at all.
func (b *busDaemon) work(ctx context.Context, interact bool, member string, args []any, out ...any) error {
	conn, err := b.connect(ctx)
	if err != nil {
		return err
	}
	return b.heard(workBus(ctx, conn, interact, member, args, out...))
}

func workBus(ctx context.Context, conn *dbus.Conn, interact bool, member string, args []any, out ...any) error {
	if err := callBus(ctx, conn, answerTime, false, "org.freedesktop.DBus.Peer", "Ping", nil); err != nil {
		return err
	}
	limit := workTime
	if interact = interact && atTerminal(); interact {
		limit = passwordTime
		defer startAgent(ctx)()
	}
	return callBus(ctx, conn, limit, interact, busapi.Iface, member, args, out...)
}

// atTerminal: there is somebody who can type a password, and who may have to.
func atTerminal() bool { return os.Geteuid() != 0 && isTerminal(os.Stdin) && isTerminal(os.Stderr) }

// callBus calls one method. The message is made here because godbus's own calls drop the flag that lets polkit ask
// for a password.
func callBus(ctx context.Context, conn *dbus.Conn, limit time.Duration, interact bool, iface, member string,
	args []any, out ...any) error {
	asked, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	msg := &dbus.Message{Type: dbus.TypeMethodCall, Flags: dbus.FlagNoAutoStart, Body: args,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath(busapi.Path)),
			dbus.FieldDestination: dbus.MakeVariant(busapi.Name),
			dbus.FieldInterface:   dbus.MakeVariant(iface),
			dbus.FieldMember:      dbus.MakeVariant(member),
		}}
	if interact {
		msg.Flags |= dbus.FlagAllowInteractiveAuthorization
	}
	if len(args) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(args...))
	}
	c := <-conn.SendWithContext(asked, msg, make(chan *dbus.Call, 1)).Done
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(c.Err, context.DeadlineExceeded):
		return silentFor(limit)
	case c.Err != nil:
		return busFault(c.Err)
	}
	if err := c.Store(out...); err != nil {
		return control.ErrNoDaemon // another version's answer: it has to be done without it
	}
	return nil
}

// busFault turns an error from the bus into one as from the control socket. What the service did not say itself means
// that it cannot be asked here: it does not run, has just ended, is older, or the bus does not let us.
func busFault(err error) error {
	var e dbus.Error
	if !errors.As(err, &e) {
		return control.ErrNoDaemon
	}
	out := &control.Error{Message: e.Error()}
	switch e.Name {
	case busapi.ErrNotAuthorized:
		out.Code = control.CodeNotRoot
	case busapi.ErrBusy:
		out.Code = control.CodeBusy
	case busapi.ErrInvalidArgs, busapi.ErrNotFound:
		out.Code = control.CodeBadRequest
	case busapi.ErrNotSupported, busapi.ErrInvalidPolicy, busapi.ErrFailed:
		out.Code = control.CodeFailed
	default:
		return control.ErrNoDaemon
	}
	return out
}
