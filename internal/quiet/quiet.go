// Package quiet is for sockets that anybody may write to: who does not wait for one is not woken by what comes. Go's own
// poller is told of every message and every connection, whether somebody waits or not (edge-triggered epoll(7)): a
// goroutine that sleeps while a flood goes on wakes the process for each of it all the same.
package quiet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for one descriptor, in an epoll instance of its own that Go's poller watches. EPOLLONESHOT has the kernel
// tell of the descriptor once for each wait.
type poller struct {
	epoll *os.File
	raw   syscall.RawConn
}

const readable = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT

func newPoller(fd int) (*poller, error) {
	e, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err = unix.SetNonblock(e, true); err == nil { // for os: it is to be polled
		err = unix.EpollCtl(e, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT, Fd: int32(fd)})
	}
	if err != nil {
		unix.Close(e)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	p := &poller{epoll: os.NewFile(uintptr(e), "epoll")}
	if p.raw, err = p.epoll.SyscallConn(); err != nil {
		p.epoll.Close()
		return nil, err
	}
	return p, nil
}

// wait returns once something can be read, or with an error once it is closed.
func (p *poller) wait(fd int) error {
	armed := false
	var failed error
	err := p.raw.Read(func(e uintptr) bool {
		if !armed {
			armed = true
			failed = unix.EpollCtl(int(e), unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: readable, Fd: int32(fd)})
			if failed != nil {
				return true
			}
		}
		var event [1]unix.EpollEvent
		n, err := unix.EpollWait(int(e), event[:], 0)
		if err != nil && err != unix.EINTR {
			failed = err
		}
		return n > 0 || failed != nil
	})
	return errors.Join(err, failed)
}

// socket is a descriptor that Go's poller does not know.
type socket struct {
	file *os.File
	raw  syscall.RawConn
	poll *poller
}

// newSocket takes a descriptor over. os gives those that block to no poller.
func newSocket(fd int) (*socket, error) {
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, err
	}
	s := &socket{file: os.NewFile(uintptr(fd), "socket")}
	var err error
	if s.raw, err = s.file.SyscallConn(); err == nil {
		s.poll, err = newPoller(fd)
	}
	if err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

// try does something that must not block, and again whenever there is something to read, until it is not EAGAIN.
func (s *socket) try(do func(fd int) error) error {
	for {
		var err error
		fd := 0
		if closed := s.raw.Control(func(f uintptr) { fd = int(f); err = do(fd) }); closed != nil {
			return net.ErrClosed
		}
		switch err {
		case unix.EAGAIN:
			if err := s.poll.wait(fd); err != nil {
				return net.ErrClosed
			}
		case unix.EINTR:
		default:
			return err
		}
	}
}

// Close ends whoever waits, too.
func (s *socket) Close() error {
	_ = s.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }) // a write under way
	return errors.Join(s.poll.epoll.Close(), s.file.Close())
}

// Conn is a connection.
type Conn struct{ *socket }

// Dial connects to a Unix socket; an address with "@" is an abstract one. Each write may take so long and no longer:
// what is written in part only leaves no connection to go on with.
func Dial(ctx context.Context, address string, write time.Duration) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// It bounds connect(2) too, where the queue is full.
	limit := write
	if end, ok := ctx.Deadline(); ok {
		limit = max(min(limit, time.Until(end)), time.Millisecond)
	}
	timeout := func(d time.Duration) error {
		tv := unix.NsecToTimeval(d.Nanoseconds())
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
	}
	if err = timeout(limit); err == nil {
		for err = unix.EINTR; err == unix.EINTR && ctx.Err() == nil; {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: address})
		}
	}
	if err == nil {
		err = timeout(write)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: address, Net: "unix"}, Err: os.NewSyscallError("connect", err)}
	}
	s, err := newSocket(fd)
	if err != nil {
		return nil, err
	}
	return &Conn{s}, nil
}

// Read reads what has come, and waits where nothing has.
func (c *Conn) Read(b []byte) (n int, err error) {
	err = c.try(func(fd int) error {
		var err error
		n, _, err = unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		return err
	})
	if err == nil && n <= 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return max(n, 0), err
}

// Write writes all of it, or fails and closes.
func (c *Conn) Write(b []byte) (n int, err error) {
	for err == nil && n < len(b) {
		closed := c.raw.Control(func(fd uintptr) {
			var wrote int
			wrote, err = unix.SendmsgN(int(fd), b[n:], nil, nil, unix.MSG_NOSIGNAL)
			n += max(wrote, 0)
		})
		if closed != nil {
			return n, net.ErrClosed
		}
		if err == unix.EINTR {
			err = nil
		}
	}
	if err != nil {
		c.Close()
		err = os.NewSyscallError("sendmsg", err)
	}
	return n, err
}

// Listener accepts connections as bare descriptors: most of a flood's are hung up on, and cost no more than that.
type Listener struct {
	*socket
	addr net.Addr
}

// Listen takes a listener on a Unix or TCP socket over, with so long a queue.
func Listen(l net.Listener, queue int) (*Listener, error) {
	s, ok := l.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a socket")
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dup error
	if err := raw.Control(func(f uintptr) { fd, dup = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dup != nil {
		return nil, os.NewSyscallError("fcntl", dup)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // Close does
	}
	if err := l.Close(); err != nil { // Go's poller forgets it
		unix.Close(fd)
		return nil, err
	}
	q := &Listener{addr: l.Addr()}
	if q.socket, err = newSocket(fd); err != nil {
		return nil, err
	}
	// listen(2) may be called again, for the queue; accept4(2) has no flag that it must not block.
	if err := errors.Join(unix.Listen(fd, queue), unix.SetNonblock(fd, true)); err != nil {
		q.Close()
		return nil, err
	}
	return q, nil
}

// Accept waits for the next connection. Who gets it closes it.
func (l *Listener) Accept() (fd int, err error) {
	err = l.try(func(listening int) error {
		for {
			var err error
			if fd, _, err = unix.Accept4(listening, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); err != unix.ECONNABORTED {
				return err
			}
		}
	})
	if err != nil && !errors.Is(err, net.ErrClosed) {
		err = os.NewSyscallError("accept4", err)
	}
	if err != nil {
		return -1, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: err}
	}
	return fd, nil
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.addr }

// Close removes a Unix socket's file, too.
func (l *Listener) Close() error {
	if u, ok := l.addr.(*net.UnixAddr); ok {
		_ = os.Remove(u.Name)
	}
	return l.socket.Close()
}
