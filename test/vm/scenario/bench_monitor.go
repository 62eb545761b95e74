package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// calls counts, over a short block of logins, the D-Bus messages a login that the daemon sends, and those that are sent
// to it by name: calls and their answers. The signals it reads, which are sent to nobody by name, it counts itself.
func (s *stormRun) calls(ctx context.Context) (perLogin float64, err error) {
	if err := s.startQuietDaemon(ctx); err != nil {
		return 0, err
	}
	names, err := s.daemonNames(ctx)
	if err != nil {
		return 0, err
	}
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	seen := make(chan *dbus.Message, 1<<14)
	if err := becomeMonitor(ctx, conn, seen); err != nil {
		return 0, err
	}
	var count atomic.Int64
	go func() {
		for m := range seen {
			from, _ := m.Headers[dbus.FieldSender].Value().(string)
			to, _ := m.Headers[dbus.FieldDestination].Value().(string)
			if names[from] || names[to] {
				count.Add(1)
			}
			closeFDs(m)
		}
	}()
	n := int(stormRate * stormMonitor.Seconds())
	took, _, err := s.logins(ctx, n)
	if err != nil {
		return 0, err
	}
	if _, err := s.settled(ctx); err != nil {
		return 0, err
	}
	return float64(count.Load()) / float64(len(took)), s.StopDaemon(ctx)
}

// becomeMonitor has seen get every message on the bus. The connection gives it the call's own answer too and nothing to
// the caller, so that is waited for here.
func becomeMonitor(ctx context.Context, conn *dbus.Conn, seen chan *dbus.Message) error {
	conn.Eavesdrop(seen)
	call := conn.BusObject().GoWithContext(ctx, "org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, nil, []string{}, uint32(0))
	if call.Err != nil {
		return fmt.Errorf("BecomeMonitor: %w", call.Err)
	}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("BecomeMonitor: %w", ctx.Err())
		case m, ok := <-seen:
			switch {
			case !ok:
				return errors.New("BecomeMonitor: the bus closed the connection")
			case m.Type == dbus.TypeError:
				return fmt.Errorf("BecomeMonitor: %v", m.Body)
			case m.Type == dbus.TypeMethodReply:
				return nil
			}
		}
	}
}

// closeFDs closes what came with a message: a session ends only when the last copy of the fifo that CreateSession
// answers with is closed.
func closeFDs(m *dbus.Message) {
	for _, v := range m.Body {
		if fd, ok := v.(dbus.UnixFD); ok {
			_ = unix.Close(int(fd))
		}
	}
}

// daemonNames are the daemon's connections on the bus, by their unique names.
func (s *stormRun) daemonNames(ctx context.Context) (map[string]bool, error) {
	pid, err := s.DaemonPID(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	if err := s.bus.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.ListNames", 0).Store(&all); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, name := range all {
		var owner uint32
		err := s.bus.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixProcessID", 0, name).Store(&owner)
		if err == nil && int(owner) == pid { // one may have left the bus meanwhile
			out[name] = true
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the daemon, process %d, is not on the bus", pid)
	}
	return out, nil
}
