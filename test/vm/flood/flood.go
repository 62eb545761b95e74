// Package flood is what one unprivileged user can do to the daemon: ask, connect and send as fast as the machine lets
// him, and wait for no answer longer than he must.
package flood

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busframe"
)

// Kind is a way to flood.
type Kind struct {
	Name string
	// Socket is what it is given: a socket's path, or "" for the bus.
	Socket string
	at     func(ctx context.Context, target string, n *atomic.Int64)
	each   int // so many at once
}

// Kinds are all of them. run is the daemon's run directory.
func Kinds(run string) []Kind {
	control, metrics := run+"/control.sock", run+"/metrics.sock"
	const get = "GET /metrics HTTP/1.0\r\n\r\n"
	return []Kind{
		{"control", control, asking(`{"verb":"status"}` + "\n"), 4},
		{"control-connect", control, asking(""), 2},
		{"metrics", metrics, asking(get), 4},
		{"metrics-connect", metrics, asking(""), 2},
		{"reconnect", "", reconnect, 4},
		{"calls", "", calls, 2},
		{"signals", "", signals, 2},
		{"load-unit", "", loadUnit, 4},
	}
}

// Run floods until ctx ends, and returns how much was sent.
func (k Kind) Run(ctx context.Context, target string) int64 {
	var n atomic.Int64
	var all sync.WaitGroup
	for range k.each {
		all.Go(func() {
			for ctx.Err() == nil {
				k.at(ctx, target, &n)
			}
		})
	}
	all.Wait()
	return n.Load()
}

// again is the pause after what failed at once: a queue that is full.
const again = time.Millisecond

// asking connects, asks, and waits for an answer for a moment; with nothing to ask it hangs up.
func asking(request string) func(context.Context, string, *atomic.Int64) {
	return func(_ context.Context, target string, n *atomic.Int64) {
		conn, err := net.Dial("unix", target)
		if err != nil {
			time.Sleep(again)
			return
		}
		defer conn.Close()
		n.Add(1)
		if request == "" {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := io.WriteString(conn, request); err == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
	}
}

// The daemon's names and PID 1's.
const (
	name    = "org.scopereap1"
	path    = "/org/scopereap1"
	busName = "org.freedesktop.DBus"
	busPath = "/org/freedesktop/DBus"
	sdName  = "org.freedesktop.systemd1"
	sdPath  = "/org/freedesktop/systemd1"
	sdIface = sdName + ".Manager"
)

// message is an encoded message without the serial, which the bus wants to be other than 0.
func message(kind dbus.Type, dest string, path dbus.ObjectPath, iface, member string, body ...any) []byte {
	m := &dbus.Message{Type: kind, Flags: dbus.FlagNoReplyExpected, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(dest), dbus.FieldPath: dbus.MakeVariant(path),
		dbus.FieldInterface: dbus.MakeVariant(iface), dbus.FieldMember: dbus.MakeVariant(member),
	}}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		panic(err) // its arguments are all ours
	}
	out := b.Bytes()
	binary.LittleEndian.PutUint32(out[8:], 7)
	return out
}

// greeting is all that a client has to say: nothing makes it wait for the answers.
func greeting() []byte {
	uid := fmt.Appendf(nil, "%x", strconv.Itoa(os.Getuid()))
	hello := message(dbus.TypeMethodCall, busName, busPath, busName, "Hello")
	return append(append(append([]byte("\x00AUTH EXTERNAL "), uid...), "\r\nBEGIN\r\n"...), hello...)
}

func dial(address string) (net.Conn, error) {
	socket, err := busframe.Socket(address)
	if err != nil {
		return nil, err
	}
	return net.Dial("unix", socket)
}

// reconnect is a new connection for each call.
func reconnect(_ context.Context, address string, n *atomic.Int64) {
	conn, err := dial(address)
	if err != nil {
		time.Sleep(again)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	said := append(greeting(), message(dbus.TypeMethodCall, name, path, "org.freedesktop.DBus.Properties", "GetAll", name+".Manager")...)
	// A second Hello is an error. When that comes the bus has passed the call on.
	hello := message(dbus.TypeMethodCall, busName, busPath, busName, "Hello")
	hello[2] = 0 // flags: it wants an answer
	if _, err := conn.Write(append(said, hello...)); err != nil {
		time.Sleep(again)
		return
	}
	n.Add(1)
	var heard []byte
	for b := make([]byte, 4096); !bytes.Contains(heard, []byte("Error.Failed")); {
		got, err := conn.Read(b)
		if err != nil {
			return
		}
		heard = append(heard, b[:got]...)
	}
}

// batch is so many messages in one write.
const batch = 50

// pour writes on one connection what next makes, and reads nothing that comes back but to throw it away.
func pour(ctx context.Context, address string, n *atomic.Int64, next func() []byte) {
	conn, err := dial(address)
	if err != nil {
		time.Sleep(again)
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	if _, err := conn.Write(greeting()); err != nil {
		return
	}
	for ctx.Err() == nil {
		var out []byte
		for range batch {
			out = append(out, next()...)
		}
		if _, err := conn.Write(out); err != nil {
			time.Sleep(again)
			return
		}
		n.Add(batch)
	}
}

// calls are calls of the daemon's own that want no answer.
func calls(ctx context.Context, address string, n *atomic.Int64) {
	one := message(dbus.TypeMethodCall, name, path, "org.freedesktop.DBus.Properties", "GetAll", name+".Manager")
	pour(ctx, address, n, func() []byte { return one })
}

// loadUnit has PID 1 load names that are nothing: it sends two signals for each. It waits for each answer: else PID 1
// would have more of them to read than anybody's login could wait for.
func loadUnit(ctx context.Context, address string, n *atomic.Int64) {
	conn, err := connect(ctx, address)
	if err != nil {
		time.Sleep(again)
		return
	}
	defer conn.Close()
	pid1 := conn.Object(sdName, sdPath)
	for i := n.Add(1); ctx.Err() == nil; i = n.Add(1) {
		unit := fmt.Sprintf("x%d.service", i)
		if err := pid1.CallWithContext(ctx, sdIface+".LoadUnit", 0, unit).Err; err != nil {
			return
		}
	}
}

// connect is godbus's client.
func connect(ctx context.Context, address string) (*dbus.Conn, error) {
	if address != "" {
		return dbus.Connect(address, dbus.WithContext(ctx))
	}
	return dbus.ConnectSystemBus(dbus.WithContext(ctx))
}

// signals go straight to each connection of root's that may be the daemon's, and say what PID 1 might.
func signals(ctx context.Context, address string, n *atomic.Int64) {
	to, err := roots(ctx, address)
	if err != nil || len(to) == 0 {
		time.Sleep(again)
		return
	}
	var all [][]byte
	for _, dest := range to {
		all = append(all, message(dbus.TypeSignal, dest, sdPath, sdIface, "UnitRemoved", "user-1000.slice", dbus.ObjectPath("/x")))
	}
	i := 0
	pour(ctx, address, n, func() []byte {
		i++
		return all[i%len(all)]
	})
}

// roots are the unique names of root's connections that belong to the process that has the daemon's name.
func roots(ctx context.Context, address string) (names []string, err error) {
	conn, err := connect(ctx, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	bus := conn.BusObject()
	pid := func(name string) (pid uint32) {
		_ = bus.CallWithContext(ctx, busName+".GetConnectionUnixProcessID", 0, name).Store(&pid)
		return pid
	}
	daemon := pid(name)
	var all []string
	if err := bus.CallWithContext(ctx, busName+".ListNames", 0).Store(&all); err != nil {
		return nil, err
	}
	for _, n := range all {
		if n[0] == ':' && daemon != 0 && pid(n) == daemon {
			names = append(names, n)
		}
	}
	return names, nil
}
