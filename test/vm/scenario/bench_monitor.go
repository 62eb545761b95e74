package scenario

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/godbus/dbus/v5"
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
	conn.Eavesdrop(seen)
	err = conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, []string{}, uint32(0)).Err
	if err != nil {
		return 0, fmt.Errorf("BecomeMonitor: %w", err)
	}
	var count atomic.Int64
	go func() {
		for m := range seen {
			from, _ := m.Headers[dbus.FieldSender].Value().(string)
			to, _ := m.Headers[dbus.FieldDestination].Value().(string)
			if names[from] || names[to] {
				count.Add(1)
			}
		}
	}()
	n := int(stormRate * stormMonitor.Seconds())
	if _, _, err := s.logins(ctx, n); err != nil {
		return 0, err
	}
	if _, err := s.settled(ctx); err != nil {
		return 0, err
	}
	return float64(count.Load()) / float64(n), s.StopDaemon(ctx)
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
