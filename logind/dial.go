package logind

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busframe"
	"github.com/scopereap/scopereap/internal/quiet"
)

// DialSystem makes a private connection to the system bus ($DBUS_SYSTEM_BUS_ADDRESS, or the usual
// places).
func DialSystem(ctx context.Context) (*dbus.Conn, error) {
	return dialAt(ctx, "", "the system bus")
}

// DialAddress returns a Dial function for a bus at an address, such as
// "unix:path=/run/dbus/system_bus_socket".
func DialAddress(address string) func(context.Context) (*dbus.Conn, error) {
	return func(ctx context.Context) (*dbus.Conn, error) {
		return dialAt(ctx, address, "the bus at "+address)
	}
}

// maxMessage is the longest message there may be (D-Bus specification, "Message Format"): a list of
// all units may be long.
const maxMessage = 128 << 20

// mostLate is how late a flood may make a signal: a hold has to be in a scope's directory while
// that lives, which may be a tenth of a second, and asks a question or two first.
const mostLate = 10 * time.Millisecond

// writeTime bounds a write: the bus reads at once, or it is stuck.
const writeTime = 5 * time.Second

func dialAt(ctx context.Context, address, where string) (*dbus.Conn, error) {
	socket, err := busframe.Socket(address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", where, err)
	}
	raw, err := quiet.Dial(ctx, socket, writeTime)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", where, err)
	}
	f := newFilter()
	frames := busframe.New(raw, maxMessage, f.wanted)
	frames.Longest = mostLate
	conn, err := dbus.NewConn(frames, dbus.WithContext(withFilter(ctx, f)),
		// Its queue has no bound and takes signals as fast as they come, so the connection's reader
		// never waits for us; but it moves the whole queue for each signal delivered, so we must
		// not let it grow.
		dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("connecting to %s: %w", where, err)
	}
	return greet(conn, where)
}

// greet authenticates by UID, which needs no user database, and says Hello. Neither takes a context
// in godbus; the connection's own, when it ends, closes the socket under them.
func greet(conn *dbus.Conn, where string) (*dbus.Conn, error) {
	err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	if err == nil {
		err = conn.Hello()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting %s: %w", where, err)
	}
	return conn, nil
}

// dial calls open and gives up on it after the timeout, even if it does not heed its context. The
// connection lives until the context ends or cancel is called.
func dial(ctx context.Context, open func(context.Context) (*dbus.Conn, error), timeout time.Duration) (
	*dbus.Conn, context.CancelFunc, error,
) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		conn *dbus.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := open(ctx)
		done <- result{conn, err}
	}()
	late := time.NewTimer(timeout)
	defer late.Stop()
	err := error(nil)
	select {
	case r := <-done:
		if r.err == nil {
			return r.conn, cancel, nil
		}
		err = r.err
	case <-ctx.Done():
		err = ctx.Err()
		go discard(func() *dbus.Conn { return (<-done).conn })
	case <-late.C:
		err = fmt.Errorf("the bus did not answer within %v", timeout)
		go discard(func() *dbus.Conn { return (<-done).conn })
	}
	cancel()
	return nil, nil, err
}

// discard closes a connection that came too late.
func discard(wait func() *dbus.Conn) {
	if conn := wait(); conn != nil {
		conn.Close()
	}
}
