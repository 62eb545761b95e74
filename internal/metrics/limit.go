package metrics

import (
	"net"

	"github.com/scopereap/scopereap/internal/callers"
)

const (
	// maxClients bounds the connections of one listener, and root's apart from
	// the others'. A flood of connections can keep scrapes waiting all the same:
	// whose they are is known once they are accepted. metrics.textfile is for that.
	maxClients = 64
	// maxEach bounds those of one user on the Unix socket, so that nobody
	// keeps the others out.
	maxEach = 4
)

// tooOften is what those get who ask more often. Nothing is made of their
// request.
const tooOften = "HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"

// limits are how often metrics may be asked for: Prometheus does it every 15 s
// or more, and several may.
func limits(network string) callers.Limits {
	l := callers.Limits{Each: 2, EachAtOnce: 10, All: 20, AllAtOnce: 40}
	if network != "unix" { // nobody knows who it is
		l.Each, l.EachAtOnce = l.All, l.AllAtOnce
	}
	return l
}

// limited is a listener that hangs up on who has too many connections.
type limited struct {
	net.Listener
	places *callers.Places
}

// limit bounds how often, and how many at a time, clients of a listener come.
func limit(l net.Listener, network string) (*limited, error) {
	each := maxEach
	if network != "unix" {
		each = maxClients
	}
	gate, err := callers.NewGate(l, callers.NewRates(limits(network)), tooOften)
	if err != nil {
		return nil, err
	}
	return &limited{Listener: gate, places: &callers.Places{Each: each, All: maxClients, Root: maxClients}}, nil
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if leave, ok := l.places.Enter(conn.(*callers.Conn).UID); ok {
			return &limitedConn{Conn: conn, leave: leave}, nil
		}
		conn.Close()
	}
}

// limitedConn gives its place back when it is closed.
type limitedConn struct {
	net.Conn
	leave func()
}

func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
