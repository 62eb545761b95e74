package control

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// client is a connection and who is at its other end.
type client struct {
	*net.UnixConn
	uid uint32
}

// whoCalls asks the kernel who connected (SO_PEERCRED, unix(7)).
func whoCalls(conn net.Conn) (client, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return client{}, errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return client{}, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return client{}, err
	}
	if cerr != nil {
		return client{}, cerr
	}
	return client{u, cred.Uid}, nil
}
