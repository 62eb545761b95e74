package logind

import (
	"context"
	"log/slog"
	"time"

	"github.com/godbus/dbus/v5"
)

// Options configure a Listener. The zero value listens on the system bus.
type Options struct {
	// Dial makes a private, authenticated connection that has said Hello (default: DialSystem). It
	// must use dbus.NewSequentialSignalHandler: godbus's default handler loses the order of
	// signals. The context lives as long as the connection is wanted; Dial is given up on after
	// CallTimeout. Run closes the connection.
	Dial func(ctx context.Context) (*dbus.Conn, error)
	// Logger takes the messages (default: slog.Default()).
	Logger *slog.Logger
	// Name is taken on the bus, where the bus lets us and it is not "": a bus policy that names it
	// says who may send to us what nobody asked for.
	Name string
	// CallTimeout bounds every call on the bus (default 10 s: a daemon-reload keeps PID 1 silent
	// for seconds on machines with thousands of units).
	CallTimeout time.Duration
	// OnReloading is told when systemd begins to load its units again (daemon-reload,
	// daemon-reexec), and when it is done. Called from the goroutine that reads the bus: it must
	// not block. It may be nil.
	OnReloading func(begins bool)
}

const (
	defaultCallTimeout = 10 * time.Second
	// maxCalls is how many lookups may be under way at once. PID 1 answers one after the other; a
	// few in flight save the round trips, many would only make its queue long.
	maxCalls = 8
)

func (o Options) withDefaults() Options {
	if o.Dial == nil {
		o.Dial = DialSystem
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.OnReloading == nil {
		o.OnReloading = func(bool) {}
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = defaultCallTimeout
	}
	return o
}

// Stats are a Listener's counters since New and its present state.
type Stats struct {
	Connected  bool
	Reconnects uint64 // connections made after the first
	Signals    uint64 // signals read from the bus
	Ignored    uint64 // of those, ones with a wrong sender, path or signature
	Calls      uint64 // method calls made, failed ones included
	Failed     uint64 // of those, ones without a usable answer; that a unit is gone is an answer
	Events     uint64 // events decided
	Units      int    // units remembered, live or loaded
	Live       int    // of those, units whose cgroup lives
	Sessions   int    // sessions known
	Asking     int    // lookups wanted or under way
	Waiting    int    // events the consumer has not taken yet
}
