package busapi

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busframe"
	"github.com/scopereap/scopereap/internal/quiet"
)

const (
	// dialTime bounds connecting and greeting.
	dialTime = 10 * time.Second
	// writeTime bounds a write: the bus reads at once, or it is stuck.
	writeTime = 5 * time.Second
)

// dial makes a private connection on which every call goes to take, and none to godbus. allow is asked
// before a message is even decoded; prepare is given the connection
// before anything can come from it.
func dial(
	ctx context.Context, address string, allow func(sender, msg []byte) bool,
	prepare func(*dbus.Conn), take func(*dbus.Message),
) (*dbus.Conn, error) {
	socket, err := busframe.Socket(address)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	raw, err := quiet.Dial(limited, socket, writeTime)
	if err != nil {
		return nil, err
	}
	conn, err := dbus.NewConn(framed(raw, allow),
		dbus.WithContext(ctx),
		dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()),
		// It runs in godbus's reader, before a goroutine is made for a call.
		dbus.WithIncomingInterceptor(func(m *dbus.Message) {
			if m.Type == dbus.TypeMethodCall {
				call := *m
				m.Type = 0 // godbus passes over what has no type
				take(&call)
			}
		}))
	if err != nil {
		raw.Close()
		return nil, err
	}
	prepare(conn)
	stop := time.AfterFunc(dialTime, func() { raw.Close() }) // neither Auth nor Hello takes a context
	defer stop.Stop()
	if err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err == nil {
		err = conn.Hello()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
