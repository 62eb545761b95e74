package metrics

import (
	"net"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// maxClients bounds the connections of one listener.
	maxClients = 64
	// maxEach bounds those of one user on the Unix socket, so that nobody
	// keeps the others out.
	maxEach = 4
)

// limited is a listener that hangs up on who has too many connections. root is
// bounded apart: nobody's flood keeps the administrator out.
type limited struct {
	net.Listener
	mu     sync.Mutex
	others int
	by     map[string]int
}

func limit(l net.Listener) *limited { return &limited{Listener: l, by: map[string]int{}} }

func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who, each, ok := caller(conn)
		if ok && l.enter(who, each) {
			return &limitedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(who) })}, nil
		}
		conn.Close()
	}
}

// callerRoot and callerTCP stand beside users' IDs.
const (
	callerRoot = "root"
	callerTCP  = "tcp"
)

// caller names who connected and says how many connections that one may have.
// The kernel vouches for users (SO_PEERCRED); who has gone already is not ok.
func caller(conn net.Conn) (who string, each int, ok bool) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return callerTCP, maxClients, true
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return "", 0, false
	}
	var cred *unix.Ucred
	ctl := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if ctl != nil || err != nil {
		return "", 0, false
	}
	if cred.Uid == 0 {
		return callerRoot, maxClients, true
	}
	return "uid " + strconv.FormatUint(uint64(cred.Uid), 10), maxEach, true
}

func (l *limited) enter(who string, each int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[who] >= each || who != callerRoot && l.others >= maxClients {
		return false
	}
	l.by[who]++
	if who != callerRoot {
		l.others++
	}
	return true
}

func (l *limited) leave(who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[who]--; l.by[who] == 0 {
		delete(l.by, who)
	}
	if who != callerRoot {
		l.others--
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
